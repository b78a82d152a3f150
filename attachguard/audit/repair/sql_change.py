# SPDX-License-Identifier: Apache-2.0

"""A change of Cinder's database, as a value.

A :class:`Change` is a few rows, each before and after the change.  Derived
from them are the statements, whose WHERE compares every value that was read;
the inverse, with before and after swapped; and a script for operators who run
it themselves, with the same text that
:class:`attachguard.audit.repair.sql.Database` executes.

The rows become what Cinder itself makes of them when an attachment is
deleted: ``Volume.finish_detach`` of cinder/objects/volume.py, that is
``volume_detached`` and ``volume_admin_metadata_delete`` of cinder/db/api.py;
and where the volume is deleted, ``volume_destroy``.  Except that a status
which says something else than the attachments is kept.  Cinder's driver and
Nova's records are not changed.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import re
from typing import Any
from typing import Union

from attachguard.audit import model

#: A value that both JSON and a statement can contain; a time is text.
Value = Union[str, int, bool, None]

# Not connection_info, which contains passwords: when it changes, updated_at
# changes too.
#: The columns that are read, and compared again by the statements: those that
#: change, and those that show whether something else has changed the row.
COLUMNS = {
    'volumes': (
        'id',
        'status',
        'attach_status',
        'migration_status',
        'deleted',
        'updated_at',
    ),
    'volume_attachment': (
        'id',
        'volume_id',
        'instance_uuid',
        'attached_host',
        'mountpoint',
        'attach_mode',
        'attach_status',
        'attach_time',
        'detach_time',
        'deleted',
        'deleted_at',
        'updated_at',
    ),
    'volume_admin_metadata': (
        'id',
        'volume_id',
        'value',
        'deleted',
        'deleted_at',
        'updated_at',
    ),
}

# cinder.db.api.ATTACH_STATUS_MAP
_STATUS = {'attached': 'in-use', 'detached': 'available'}

# How each dialect writes text that is not printable ASCII. Not by escapes: the
# meaning of a backslash depends on settings of the server and the session. In
# SQLite, other text literals end at a NUL.
_HEX = {
    'mysql': "_utf8mb4 X'{}'",
    'postgresql': "convert_from(decode('{}', 'hex'), 'UTF8')",
    'sqlite': "CAST(X'{}' AS TEXT)",
}
_BEGIN = {
    'mysql': 'START TRANSACTION',
    'postgresql': 'BEGIN',
    'sqlite': 'BEGIN IMMEDIATE',
}
#: The databases that can be changed, by SQLAlchemy's name.
DIALECTS = {
    'mysql': 'MariaDB or MySQL',
    'postgresql': 'PostgreSQL',
    'sqlite': 'SQLite',
}


class Refused(Exception):
    """The change must not be made, or there is nothing to change."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Cinder's database, with the columns of :data:`COLUMNS`.

    :param table: the table
    :param before: as it was read
    :param after: as it will be; the same where it only must not change
    """

    table: str
    before: Mapping[str, Value]
    after: Mapping[str, Value]

    @property
    def changed(self) -> dict[str, Value]:
        """The columns that change, with their new values."""
        return {
            name: value
            for name, value in self.after.items()
            if value != self.before[name]
        }


@dataclasses.dataclass(frozen=True)
class Statement:
    """One statement.

    :param what: a description
    :param rows: how many rows it must find or change
    :param sql: the statement with all its values, in printable ASCII
    """

    what: str
    rows: int
    sql: str


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of one volume in Cinder's database.

    :param dialect: one of :data:`DIALECTS`
    :param volume_id: a UUID
    :param at: when the rows were read, UTC, ISO 8601
    :param rows: the volume, unless it has no row; all its attachments that
        are not deleted; and other rows that change
    """

    dialect: str
    volume_id: str
    at: str
    rows: tuple[Row, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements, for one transaction."""
        return tuple(_statements(self.dialect, self.volume_id, self.rows))

    @property
    def inverse(self) -> Change:
        """The change that undoes it."""
        rows = tuple(Row(r.table, r.after, r.before) for r in self.rows)
        return dataclasses.replace(self, rows=rows)

    def to_json(self) -> dict[str, Any]:
        """Return what a journal stores, with the statements for people."""
        return {
            **dataclasses.asdict(self),
            'statements': [s.sql for s in self.statements],
            'inverse': [s.sql for s in self.inverse.statements],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Change:
        """Read what :meth:`to_json` has written.

        The statements are derived again from the rows, so that a modified
        journal cannot contain others.

        :raises ValueError: it is not a change
        """
        try:
            change = cls(
                written['dialect'],
                written['volume_id'],
                written['at'],
                tuple(
                    Row(row['table'], row['before'], row['after'])
                    for row in written['rows']
                ),
            )
            for row in change.rows:
                for state in (row.before, row.after):
                    if set(state) != set(COLUMNS[row.table]) or not all(
                        value is None or isinstance(value, (str, int))
                        for value in state.values()
                    ):
                        raise ValueError(row.table)
            known = change.dialect in _HEX and all(
                isinstance(text, str) for text in (change.volume_id, change.at)
            )
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise ValueError(f'not a change of attachguard: {exc}') from None
        if not known:
            raise ValueError('not a change of attachguard')
        return change


def script(change: Change, *, undo: bool = False) -> str:
    """Return a change as a script for the database's client.

    :param change: from :meth:`attachguard.audit.repair.sql.Database.plan`
    :param undo: True for the inverse
    :returns: printable ASCII, whatever the values are
    """
    name = DIALECTS[change.dialect]
    volume = literal(change.dialect, change.volume_id)
    seen = literal(change.dialect, change.at)
    lines = [
        f'-- Cinder volume {volume}, for {name}:',
        '-- undo the change of attachguard.'
        if undo
        else f'-- the change planned by attachguard at {seen}.',
        '--',
        '-- The comment before each statement says how many rows it must find',
        '-- or change. If the number differs, the volume has changed since:',
        '-- ROLLBACK instead of COMMIT, and run the audit again.',
        f'{_BEGIN[change.dialect]};',
    ]
    for statement in (change.inverse if undo else change).statements:
        rows = '1 row' if statement.rows == 1 else f'{statement.rows} rows'
        lines += ['', f'-- {rows}: {statement.what}', f'{statement.sql};']
    return '\n'.join([*lines, '', 'COMMIT;', ''])


def plan(
    dialect: str,
    volume_id: str,
    volume: Mapping[str, Value] | None,
    live: Iterable[Mapping[str, Value]],
    attached_mode: Iterable[Mapping[str, Value]],
    remove: Collection[str],
) -> Change:
    """Plan to remove attachments of a volume.

    :param dialect: one of :data:`DIALECTS`
    :param volume_id: a UUID
    :param volume: its row, if any
    :param live: the rows of its attachments that are not deleted
    :param attached_mode: the rows of its metadata of that name
    :param remove: ids of attachments
    :raises Refused: Cinder is busy with the volume, its status does not
        depend on attachments, or there is nothing to change
    """
    now = model.now()
    rows = tuple(_rows(volume, live, attached_mode, remove, now))
    if not any(row.changed for row in rows):
        raise Refused(
            f'volume {volume_id}: the database is correct, there is nothing '
            'to change'
        )
    return Change(dialect, volume_id, model.stamp(now), rows)


def _rows(
    volume: Mapping[str, Value] | None,
    live: Iterable[Mapping[str, Value]],
    attached_mode: Iterable[Mapping[str, Value]],
    remove: Collection[str],
    now: datetime.datetime,
) -> Iterator[Row]:
    # This form compares equal to all of Cinder's times, with fractions of a
    # second (SQLite's, which are text) or without (MariaDB's).
    time = f'{now:%Y-%m-%d %H:%M:%S}.000000'

    def deleted(row: Mapping[str, Value]) -> dict[str, Value]:
        # True in PostgreSQL, 1 elsewhere.
        true = isinstance(row['deleted'], bool) or 1
        return {**row, 'deleted': true, 'deleted_at': time}

    gone = volume is None or volume['deleted'] not in (0, False)
    staying = []
    for row in live:
        if row['id'] not in remove:
            staying.append(row)
            yield Row('volume_attachment', row, row)
        elif gone:
            # As cinder.db.api.volume_destroy.
            yield Row('volume_attachment', row, deleted(row))
        else:
            # As cinder.db.models.VolumeAttachment.delete_values.
            after = {
                **deleted(row),
                'attach_status': 'detached',
                'detach_time': time,
                'updated_at': time,
            }
            yield Row('volume_attachment', row, after)
    if volume is None:
        return
    if gone:
        yield Row('volumes', volume, volume)
        return
    _check(volume, remove)
    # Cinder does so whatever stays attached, but only when it detaches.
    if remove or not staying:
        for row in attached_mode:
            yield Row('volume_admin_metadata', row, deleted(row))
    after = {**volume, **_status(staying)}
    kept = {None, *model.STATUSES_OF_ATTACHMENTS}
    if not staying and volume['status'] not in kept:
        # Cinder would write available over it.
        after['status'] = volume['status']
    if after != volume:
        # Cinder assigns updated_at to itself, here and in the attachment. Its
        # ORM ignores that, and sets the column's default. In the other tables
        # it is not changed.
        after['updated_at'] = time
    yield Row('volumes', volume, after)


def _status(attachments: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """Return the statuses that attachments give their volume.

    As cinder.db.api._get_statuses_from_attachments.
    """
    statuses = sorted(
        str(row['attach_status'])
        for row in attachments
        if row['attach_status'] is not None
        and not str(row['attach_status']).startswith('error_')
    )
    attach_status = (statuses[0] if statuses else '') or 'detached'
    return {
        'status': _STATUS.get(attach_status, attach_status),
        'attach_status': attach_status,
    }


def _check(volume: Mapping[str, Value], remove: Collection[str]) -> None:
    # Cinder itself can detach a volume that it migrates or uploads, whose
    # former status it knows. Here it is unknown.
    status = str(volume['status'])
    migration = volume['migration_status']
    seen = model.Volume(
        str(volume['id']),
        '',
        status,
        migration_status=None if migration is None else str(migration),
    )
    if seen.busy:
        raise Refused(
            f'Cinder is busy with volume {seen.id}: status {status}, '
            f'migration_status {migration}'
        )
    if not remove and seen.has_own_status:
        raise Refused(
            f'the status of volume {seen.id} is {status}, which does not '
            'depend on attachments: use os-reset_status'
        )


def _statements(
    dialect: str, volume_id: str, rows: Iterable[Row]
) -> Iterator[Statement]:
    """Derive the statements.

    The first that changes a row compares everything that was read, and each
    later one what the first has written.
    """
    volume = next((row for row in rows if row.table == 'volumes'), None)
    attachments = [row for row in rows if row.table == 'volume_attachment']

    # Inserting an attachment locks the volume that it references, in MariaDB
    # and PostgreSQL: so none is inserted until the transaction ends. Cinder
    # begins in the same way.
    yield Statement(
        'lock the volume'
        if volume is not None
        else 'the volume, which has no row',
        0 if volume is None else 1,
        'SELECT id, status, attach_status\n'
        'FROM volumes\n'
        f'WHERE id = {literal(dialect, volume_id)}'
        + ('' if dialect == 'sqlite' else '\nFOR UPDATE'),
    )
    exists = 'EXISTS (SELECT 1 FROM volumes WHERE {})'
    if volume is None:
        key = f'id = {literal(dialect, volume_id)}'
        left = f'NOT {exists.format(key)}'
    else:
        guards = _same(dialect, volume.before)
        guards += _attached(dialect, volume_id, attachments)
        yield _statement(dialect, volume, guards)
        left = exists.format(' AND '.join(_same(dialect, volume.after)))
    for row in rows:
        if row.table != 'volumes' and row.changed:
            guards = [*_same(dialect, row.before), left]
            yield _statement(dialect, row, guards)


def _statement(dialect: str, row: Row, guards: list[str]) -> Statement:
    where = '\n  AND '.join(guards)
    what = {
        'volumes': 'the volume, with the attachments that it had',
        'volume_attachment': (
            f'attachment {literal(dialect, row.before["id"])}'
        ),
        'volume_admin_metadata': 'the metadata attached_mode',
    }[row.table]
    if not row.changed:
        return Statement(
            f'{what}: unchanged',
            1,
            f'SELECT id\nFROM {row.table}\nWHERE {where}',
        )
    values = ',\n    '.join(
        f'{name} = {literal(dialect, value)}'
        for name, value in row.changed.items()
    )
    return Statement(
        f'{what}: {", ".join(row.changed)}',
        1,
        f'UPDATE {row.table}\nSET {values}\nWHERE {where}',
    )


def _attached(
    dialect: str, volume_id: str, attachments: Iterable[Row]
) -> list[str]:
    """Guards: these are all attachments that are not deleted."""
    live = [row.before for row in attachments if not row.before['deleted']]
    count = '(SELECT COUNT(*) FROM volume_attachment WHERE {}) = {}'
    guards = [
        count.format(
            f'volume_id = {literal(dialect, volume_id)} '
            f'AND deleted = {literal(dialect, False)}',
            len(live),
        )
    ]
    if live:
        each = (' AND '.join(_same(dialect, values)) for values in live)
        guards.append(count.format(f'({") OR (".join(each)})', len(live)))
    return guards


def _same(dialect: str, values: Mapping[str, Value]) -> list[str]:
    """Guards: a row has these values, the primary key first."""
    return [
        f'{name} IS NULL'
        if value is None
        else f'{name} = {literal(dialect, value)}'
        for name, value in values.items()
    ]


def literal(dialect: str, value: Value) -> str:
    """Return a value as a statement contains it.

    Users choose some of the values: a host, a mount point.

    :param dialect: one of :data:`DIALECTS`
    :param value: any value
    :returns: one line of printable ASCII
    """
    if value is None:
        return 'NULL'
    if isinstance(value, str):
        if re.fullmatch(r'[ -\[\]-~]*', value):
            return "'" + value.replace("'", "''") + "'"
        return _HEX[dialect].format(value.encode().hex())
    if isinstance(value, bool) and dialect == 'postgresql':
        return 'true' if value else 'false'
    return str(int(value))
