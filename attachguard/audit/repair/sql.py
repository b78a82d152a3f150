# SPDX-License-Identifier: Apache-2.0

"""Cinder's database, for repairs that its API cannot make.

The only module that connects to a database, through SQLAlchemy.  It plans a
:class:`~attachguard.audit.repair.sql_change.Change`, and executes or undoes
it in one transaction.

It needs the extra ``sql``, and a driver for the database.
"""

from __future__ import annotations

from collections.abc import Collection
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
    """The database cannot be used. The text says what to do.

    It never contains the password.
    """


class Stale(sql_change.Refused):
    """The database has changed since the change was planned.

    The text says what has changed. Nothing was executed.
    """


class Database:
    """Cinder's database; a context manager.

    Each method runs one transaction.

    :param url: as in ``[database] connection`` of cinder.conf
    :raises DatabaseError: the URL cannot be used, or its driver is missing
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        name = self._url.get_backend_name()
        #: ``mysql``, ``postgresql`` or ``sqlite``
        self.dialect = 'mysql' if name == 'mariadb' else name
        if self.dialect not in sql_change.DIALECTS:
            raise DatabaseError(
                f'attachguard cannot change a database of kind {name}: it '
                f'must be {", ".join(sql_change.DIALECTS.values())}'
            )
        if (
            self.dialect == 'sqlite'
            and 'uri' not in self._url.query
            and not os.path.isfile(self._url.database or '')
        ):
            # SQLite itself would create it.
            raise self._error('no such file')
        try:
            self._engine = sa.create_engine(
                self._url,
                future=True,
                # Between two changes, a connection can be idle for long.
                pool_pre_ping=True,
                # The statements have no parameters: a % is a literal.
                execution_options={'no_parameters': True},
            )
        except ImportError as exc:
            raise DatabaseError(
                f'the driver of {self._url.drivername} is not installed '
                f'({self._scrub(exc)}): install it, or name another driver in '
                'the URL, as in mysql+pymysql:// (PyMySQL) or '
                'postgresql+psycopg2:// (psycopg2)'
            ) from None
        except Exception as exc:
            raise self._error(exc) from None

    def __enter__(self) -> Database:
        """Check that it can be read, and is Cinder's.

        :raises DatabaseError: it cannot be read, or is another service's
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
        """Plan to remove attachments of a volume.

        Status and attach_status become what the remaining attachments give;
        without any to remove, nothing else changes.

        :param volume_id: a volume, also one that is deleted or has no row
        :param attachment_ids: the attachments to remove
        :raises Refused: one of them is not an attachment of the volume, or is
            deleted; Cinder is busy with the volume; there is nothing to do
        :raises DatabaseError: the database cannot be read
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
        """Execute a change, all or nothing.

        :param change: from :meth:`plan`
        :raises Stale: the rows have changed since; nothing was executed
        :raises Refused: it was planned for another kind of database
        :raises DatabaseError: the database cannot execute it; nothing was
            changed, unless the text says that this is unknown
        """
        if change.dialect != self.dialect:
            raise sql_change.Refused(
                f'the change is for {sql_change.DIALECTS[change.dialect]}, '
                f'and this is {sql_change.DIALECTS[self.dialect]}'
            )
        with self._transaction(write=True) as connection:
            for statement in change.statements:
                result = connection.exec_driver_sql(statement.sql)
                rows = (
                    len(result.fetchall())
                    if result.returns_rows
                    else result.rowcount
                )
                if rows != statement.rows:
                    raise Stale(
                        f'volume {change.volume_id} has changed since it was '
                        f'read: {statement.what}: {rows} rows instead of '
                        f'{statement.rows}. Nothing was changed. Run the '
                        'audit again'
                    )

    def undo(self, change: sql_change.Change) -> None:
        """Undo a change, all or nothing.

        :param change: one that was executed; raises as :meth:`execute`
        """
        self.execute(change.inverse)

    def _check(self) -> None:
        with self._transaction(write=False) as connection:
            inspector = sa.inspect(connection)
            for table, columns in sql_change.COLUMNS.items():
                if not inspector.has_table(table):
                    raise self._error(
                        f'there is no table {table}: name the database of '
                        'Cinder, and an account that may read it'
                    )
                missing = set(columns).difference(
                    column['name'] for column in inspector.get_columns(table)
                )
                if missing:
                    raise self._error(
                        f'the table {table} lacks {", ".join(sorted(missing))}'
                        ': name the database of Cinder'
                    )

    def _read(
        self, connection: sa.engine.Connection, table: str, **where: Any
    ) -> list[dict[str, sql_change.Value]]:
        """Read rows as the driver returns them, but times as text."""
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
            # Drivers raise exceptions of any class here.
            raise self._error(
                exc, 'Check the account, and that it may connect from here'
            ) from None
        with connection:
            try:
                if self.dialect == 'sqlite':
                    # Python's driver begins a transaction only to write.
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
                    'The commit failed, and whether the change was made is '
                    'unknown. Run the audit again',
                ) from None

    def _error(
        self, problem: Exception | str, hint: str = ''
    ) -> DatabaseError:
        # The URL's query can contain secrets.
        where = self._url.set(query={}).render_as_string(hide_password=True)
        text = f'{where}: {self._scrub(problem)}'
        return DatabaseError(f'{text}. {hint}' if hint else text)

    def _scrub(self, problem: Exception | str) -> str:
        """Return a text without the statement and the secrets."""
        text = str(getattr(problem, 'orig', None) or problem)
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
        # An unescaped @ ends the password: its rest is read as the host.
        broken = '@' in (url.host or '')
        url.get_dialect()
    except sa_exc.NoSuchModuleError:
        raise DatabaseError(
            f'SQLAlchemy has no kind of database {url.drivername}'
        ) from None
    except Exception:
        # Its text may contain the password.
        broken = True
    if broken:
        raise DatabaseError(
            'the URL of the database cannot be parsed: write it like '
            'mysql+pymysql://user:password@host/cinder, and other characters '
            'than letters and digits in the password like %40'
        )
    return url


def _why_not(
    attachment_id: str, volume_id: str, rows: list[dict[str, sql_change.Value]]
) -> str:
    if not rows:
        return f'there is no attachment {attachment_id} in the database'
    if rows[0]['volume_id'] != volume_id:
        return f'attachment {attachment_id} is not of volume {volume_id}'
    return f'attachment {attachment_id} is already deleted'
