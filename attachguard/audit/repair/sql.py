# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The last rung: what Cinder's API cannot mend, mended in its database.

The only module that talks to a database, through SQLAlchemy: it finds out
what a :class:`~attachguard.audit.repair.sql_change.Change` has to do, and does
it, or undoes it, in one transaction.

It needs the extra ``sql``, and a driver for the database.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import datetime
import os
import types
from typing import Any
import urllib.parse

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from attachguard.audit.repair import sql_change


class DatabaseError(Exception):
    """The database cannot be used; says what to do, never the password."""


class Stale(sql_change.Refused):
    """Something is not as it was seen; says what. Nothing was changed."""


class Database:
    """Cinder's database; a context manager.

    Each call is a transaction of its own.

    :param url: as in ``[database] connection`` of cinder.conf
    :raises DatabaseError: it is none that can be used, its driver is missing
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        name = self._url.get_backend_name()
        #: ``mysql``, ``postgresql`` or ``sqlite``
        self.dialect = 'mysql' if name == 'mariadb' else name
        if self.dialect not in sql_change.DIALECTS:
            raise DatabaseError(
                f'{name} is no database that attachguard can change: it must '
                f'be {", ".join(sql_change.DIALECTS.values())}'
            )
        if (
            self.dialect == 'sqlite'
            and 'uri' not in self._url.query
            and not os.path.isfile(self._url.database or '')
        ):
            # SQLite itself would make one.
            raise self._error('there is no such file')
        try:
            self._engine = sa.create_engine(
                self._url,
                future=True,
                # There may be a long wait between two changes.
                pool_pre_ping=True,
                # The statements have no parameters, and a % is a %.
                execution_options={'no_parameters': True},
            )
        except ImportError as exc:
            raise DatabaseError(
                f'the driver of {self._url.drivername} is not installed '
                f'({self._scrub(exc)}): install it beside attachguard, or '
                'name another in the URL, as in mysql+pymysql:// '
                '(PyMySQL) or postgresql+psycopg2:// (psycopg2)'
            ) from None
        except Exception as exc:
            raise self._error(exc) from None

    def __enter__(self) -> Database:
        """Look whether it is there, and Cinder's.

        :raises DatabaseError: it is not
        """
        try:
            self._check()
        except DatabaseError:
            self._engine.dispose()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Close every connection."""
        self._engine.dispose()

    def plan(
        self, volume_id: str, attachment_ids: Collection[str] = ()
    ) -> sql_change.Change:
        """Find out what it takes to remove attachments of a volume.

        Status and attach_status become what the attachments that stay say;
        without any to remove, this is all that happens.

        :param volume_id: of a volume that is there, or deleted, or gone
        :param attachment_ids: of attachments to remove
        :raises Refused: one of them is not an attachment of the volume, or is
            deleted; Cinder is at work on the volume; there is nothing to do
        :raises DatabaseError: it cannot be read
        """
        with self._transaction(write=False) as connection:
            volumes = self._read(connection, 'volumes', id=volume_id)
            live = self._read(
                connection,
                'volume_attachment',
                volume_id=volume_id,
                deleted=sa.false(),
            )
            metadata = self._read(
                connection,
                'volume_admin_metadata',
                volume_id=volume_id,
                key='attached_mode',
                deleted=sa.false(),
            )
            found = {row['id'] for row in live}
            for attachment_id in attachment_ids:
                if attachment_id not in found:
                    others = self._read(
                        connection, 'volume_attachment', id=attachment_id
                    )
                    raise sql_change.Refused(
                        _why_not(attachment_id, volume_id, others)
                    )
        return sql_change.plan(
            self.dialect,
            volume_id,
            volumes[0] if volumes else None,
            live,
            metadata,
            attachment_ids,
        )

    def execute(self, change: sql_change.Change) -> None:
        """Do it, all or nothing.

        :param change: from :meth:`plan`
        :raises Stale: something is not as it was seen; nothing was changed
        :raises Refused: it was planned for another kind of database
        :raises DatabaseError: the database does not do it; nothing was
            changed, unless it says that this is not known
        """
        self._run(change, change.statements)

    def undo(self, change: sql_change.Change) -> None:
        """Undo it, all or nothing.

        :param change: one that was executed
        :raises Stale: something is not as it was left; nothing was changed
        :raises Refused: it was planned for another kind of database
        :raises DatabaseError: as for :meth:`execute`
        """
        self._run(change, change.inverse)

    def _check(self) -> None:
        with self._transaction(write=False) as connection:
            inspector = sa.inspect(connection)
            for table, columns in sql_change.COLUMNS.items():
                if not inspector.has_table(table):
                    raise self._error(
                        f'there is no table {table}: is this the database of '
                        'Cinder, and may the account see it?'
                    )
                missing = set(columns).difference(
                    column['name'] for column in inspector.get_columns(table)
                )
                if missing:
                    raise self._error(
                        f'the table {table} lacks {", ".join(sorted(missing))}'
                        ': is this the database of Cinder?'
                    )

    def _run(
        self,
        change: sql_change.Change,
        statements: Iterable[sql_change.Statement],
    ) -> None:
        if change.dialect != self.dialect:
            raise sql_change.Refused(
                f'the change is for {sql_change.DIALECTS[change.dialect]}, '
                f'and this is {sql_change.DIALECTS[self.dialect]}'
            )
        with self._transaction(write=True) as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement.sql)
                rows = (
                    len(result.fetchall())
                    if result.returns_rows
                    else result.rowcount
                )
                if rows != statement.rows:
                    raise Stale(
                        f'volume {change.volume_id}: not as it was any more: '
                        f'{statement.what}: {rows} rows instead of '
                        f'{statement.rows}. Nothing was changed; look again'
                    )

    def _read(
        self, connection: sa.engine.Connection, table: str, **where: Any
    ) -> list[dict[str, sql_change.Value]]:
        """Read rows as the driver has them, but for the times."""
        query = sa.select(*map(sa.column, sql_change.COLUMNS[table]))
        query = query.select_from(sa.table(table)).order_by(sa.column('id'))
        for name, value in where.items():
            query = query.where(sa.column(name) == value)
        return [
            {
                name: value.isoformat(sep=' ')
                if isinstance(value, datetime.datetime)
                else value
                for name, value in row._mapping.items()
            }
            for row in connection.execute(query)
        ]

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[sa.engine.Connection]:
        try:
            connection = self._engine.connect()
        except Exception as exc:
            # Drivers raise what they like for an argument or a server that
            # they do not understand.
            raise self._error(
                exc, 'It must let this account in from here'
            ) from None
        with connection:
            try:
                if self.dialect == 'sqlite':
                    # Python's driver begins late, and not for reading.
                    connection.exec_driver_sql(
                        'BEGIN IMMEDIATE' if write else 'BEGIN'
                    )
                elif not write:
                    connection.execution_options(
                        isolation_level='REPEATABLE READ'
                    )
                yield connection
            except sa_exc.SQLAlchemyError as exc:
                needs = 'SELECT and UPDATE' if write else 'SELECT'
                raise self._error(
                    exc,
                    f'Nothing was changed. The account needs {needs} on '
                    + ', '.join(sql_change.COLUMNS),
                ) from None
            if not write:
                return
            try:
                connection.commit()
            except sa_exc.SQLAlchemyError as exc:
                raise self._error(
                    exc,
                    'It failed while committing: whether the change is there '
                    'is not known. Look again',
                ) from None

    def _error(self, said: Exception | str, hint: str = '') -> DatabaseError:
        # The URL's query can have secrets of its own.
        where = self._url.set(query={}).render_as_string(hide_password=True)
        text = f'{where}: {self._scrub(said)}'
        return DatabaseError(f'{text}. {hint}' if hint else text)

    def _scrub(self, said: Exception | str) -> str:
        """What an exception says, without the statement and the secrets."""
        text = str(getattr(said, 'orig', None) or said)
        secrets = [self._url.password or '']
        for name, value in self._url.query.items():
            if 'pass' in name:
                secrets += [value] if isinstance(value, str) else value
        for secret in filter(None, secrets):
            for form in (secret, urllib.parse.quote_plus(secret)):
                text = text.replace(form, '***')
        return ' '.join(text.split())


def _parse(text: str) -> sa.engine.URL:
    try:
        url = sa.engine.make_url(text)
        # An @ in the password ends it, and the rest is the host's.
        broken = '@' in (url.host or '')
        url.get_dialect()
    except sa_exc.NoSuchModuleError:
        raise DatabaseError(
            f'{url.drivername} is no kind of database that SQLAlchemy knows'
        ) from None
    except Exception:
        # Whatever it is, it may tell the password.
        broken = True
    if broken:
        raise DatabaseError(
            'the URL of the database cannot be read: it must be like '
            'mysql+pymysql://user:password@host/cinder, with what is not a '
            'letter or a digit in the password written as %40 and so on'
        )
    return url


def _why_not(
    attachment_id: str, volume_id: str, rows: list[dict[str, sql_change.Value]]
) -> str:
    if not rows:
        return f'there is no attachment {attachment_id} in the database'
    if rows[0]['volume_id'] != volume_id:
        return f'attachment {attachment_id} is not of volume {volume_id}'
    return f'attachment {attachment_id} is deleted already'
