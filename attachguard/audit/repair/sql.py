# SPDX-License-Identifier: Apache-2.0

"""Cinder's database, for repairs that its API cannot make.

It plans a :class:`~attachguard.audit.repair.sql_change.Change`, and executes
or undoes it in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import datetime
import types
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from attachguard.audit import engine
from attachguard.audit.repair import sql_change


class Stale(sql_change.Refused):
    """The database has changed since the change was planned.

    The text says what has changed. Nothing was executed.
    """


class Database:
    """Cinder's database; a context manager.

    Each method runs one transaction.

    :param url: as in ``[database] connection`` of cinder.conf
    :raises engine.DatabaseError: the URL cannot be used, or its driver is
        missing
    """

    def __init__(self, url: str) -> None:
        self._engine = engine.Engine(
            url,
            # Between two changes, a connection can be idle for long.
            pool_pre_ping=True,
            # The statements have no parameters: a % is a literal.
            execution_options={'no_parameters': True},
        )
        #: ``mysql``, ``postgresql`` or ``sqlite``
        self.dialect = self._engine.dialect

    def __enter__(self) -> Database:
        """Check that it can be read, and is Cinder's.

        :raises engine.DatabaseError: it cannot be read, or is of another
            service
        """
        try:
            self._check()
        except engine.DatabaseError:
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
        :raises engine.DatabaseError: the database cannot be read
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
        :raises engine.DatabaseError: the database cannot execute it; nothing
            was changed, unless the text says that this is unknown
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
                    raise self._engine.error(
                        f'there is no table {table}: name the database of '
                        'Cinder, and an account that may read it'
                    )
                missing = set(columns).difference(
                    column['name'] for column in inspector.get_columns(table)
                )
                if missing:
                    raise self._engine.error(
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
        with self._engine.connect() as connection:
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
                raise self._engine.error(
                    exc,
                    f'Nothing was changed. The account needs {needs} on '
                    + ', '.join(sql_change.COLUMNS),
                ) from None
            if not write:
                return
            try:
                connection.commit()
            except sa_exc.SQLAlchemyError as exc:
                raise self._engine.error(
                    exc,
                    'The commit failed, and whether the change was made is '
                    'unknown. Run the audit again',
                ) from None


def _why_not(
    attachment_id: str, volume_id: str, rows: list[dict[str, sql_change.Value]]
) -> str:
    if not rows:
        return f'there is no attachment {attachment_id} in the database'
    if rows[0]['volume_id'] != volume_id:
        return f'attachment {attachment_id} is not of volume {volume_id}'
    return f'attachment {attachment_id} is already deleted'
