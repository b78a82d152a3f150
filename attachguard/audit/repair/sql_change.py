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

"""What is to be done in Cinder's database, as a value.

A :class:`Change` is a handful of rows, each as it was seen and as it is to
be.  Everything follows from that: the statements, which ask in their WHERE
for every value that was seen; their inverse, which is the same with the two
swapped; and the script for those who want to run it themselves, which has the
very text that :class:`attachguard.audit.repair.sql.Database` runs.

What rows are to be is what Cinder itself makes of them when an attachment is
deleted: ``Volume.finish_detach`` of cinder/objects/volume.py, that is
``volume_detached`` and ``volume_admin_metadata_delete`` of cinder/db/api.py;
and where the volume is deleted, ``volume_destroy``.  Cinder's driver and
Nova's records are not touched.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import functools
import re
from typing import Any

from attachguard.audit import model

#: A value as JSON and a statement can both have it; a time is text.
Value = str | int | bool | None

# What an attachment is connected with is left out: there are passwords in it,
# and whoever changes it changes updated_at.
#: What is read of each table, and asked for again: what changes, and what
#: tells whether somebody else has changed something.
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

# The statuses that speak of attachments (cinder.objects.fields.VolumeStatus):
# the others are not wrong for want of one.
_OF_ATTACHMENTS = frozenset(
    (
        'attaching',
        'available',
        'detaching',
        'error_attaching',
        'error_detaching',
        'in-use',
        'reserved',
    )
)

# How each dialect has text that is not plain. Not by escapes: what a backslash
# means depends on how the server, and the session, are set. In SQLite text
# ends at a NUL, but for this.
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
#: The databases that there are changes for, by SQLAlchemy's name.
DIALECTS = {
    'mysql': 'MariaDB or MySQL',
    'postgresql': 'PostgreSQL',
    'sqlite': 'SQLite',
}


class Refused(Exception):
    """What is asked for is not to be done, or there is nothing to do."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Cinder's database, of the columns that matter.

    :param table: its name
    :param before: as it was seen
    :param after: as it is to be; the same where it only has to stay so
    """

    table: str
    before: Mapping[str, Value]
    after: Mapping[str, Value]

    @property
    def changed(self) -> dict[str, Value]:
        """The columns that change, as they are to be."""
        return {
            name: value
            for name, value in self.after.items()
            if value != self.before[name]
        }

    @property
    def inverse(self) -> Row:
        """What undoes it."""
        return Row(self.table, self.after, self.before)


@dataclasses.dataclass(frozen=True)
class Statement:
    """One statement.

    :param what: what it does, in a few words
    :param rows: how many rows it must find, or change
    :param sql: with every value in it, and nothing but printable ASCII
    """

    what: str
    rows: int
    sql: str


@dataclasses.dataclass(frozen=True)
class Change:
    """What is to be done to a volume in Cinder's database.

    :param dialect: ``mysql`` (which MariaDB is, too), ``postgresql`` or
        ``sqlite``
    :param volume_id: a UUID
    :param at: when the rows were seen, UTC, ISO 8601
    :param rows: the volume, unless it has no row; all its attachments that
        are not deleted; and what else changes
    """

    dialect: str
    volume_id: str
    at: str
    rows: tuple[Row, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What does it, in one transaction."""
        return tuple(_statements(self.dialect, self.volume_id, self.rows))

    @property
    def inverse(self) -> tuple[Statement, ...]:
        """What undoes it, in one transaction."""
        rows = [row.inverse for row in self.rows]
        return tuple(_statements(self.dialect, self.volume_id, rows))

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal, with the statements to be read."""
        return {
            **dataclasses.asdict(self),
            'statements': [s.sql for s in self.statements],
            'inverse': [s.sql for s in self.inverse],
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Change:
        """Read what :meth:`to_json` has written.

        The statements are made anew: no journal can make this module run
        others than it would make itself.

        :raises ValueError: it is something else
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
                        value is None or isinstance(value, str | int)
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
    """What a change does, to be reviewed and run in the database's client.

    :param change: from :meth:`attachguard.audit.repair.sql.Database.plan`
    :param undo: the inverse instead
    :returns: printable ASCII, whatever the values are
    """
    name = DIALECTS[change.dialect]
    volume = _literal(change.dialect, change.volume_id)
    seen = _literal(change.dialect, change.at)
    lines = [
        f'-- Cinder volume {volume}, for {name}:',
        '-- undo what attachguard has changed.'
        if undo
        else f'-- what attachguard would change, as seen at {seen}.',
        '--',
        '-- Each statement says first how many rows it must find, or change.',
        '-- Where it is another number, something is not as it was any more:',
        '-- ROLLBACK instead of COMMIT, and look again.',
        f'{_BEGIN[change.dialect]};',
    ]
    for statement in change.inverse if undo else change.statements:
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
    """Work out what removing attachments of a volume makes of the rows.

    :param dialect: of :data:`DIALECTS`
    :param volume_id: a UUID
    :param volume: its row, if any
    :param live: those of its attachments that are not deleted
    :param attached_mode: those of its metadata of that name
    :param remove: ids of attachments
    :raises Refused: Cinder is at work on the volume, or its status is none
        that comes from attachments; or there is nothing to do
    """
    now = model.now()
    rows = tuple(_rows(volume, live, attached_mode, remove, now))
    if not any(row.changed for row in rows):
        raise Refused(
            f'volume {volume_id}: the database is as it should be, there is '
            'nothing to do'
        )
    return Change(dialect, volume_id, model.stamp(now), rows)


def _rows(
    volume: Mapping[str, Value] | None,
    live: Iterable[Mapping[str, Value]],
    attached_mode: Iterable[Mapping[str, Value]],
    remove: Collection[str],
    now: datetime.datetime,
) -> Iterator[Row]:
    # All of Cinder's times compare equal to this, whether they have fractions
    # of a second (SQLite's, which are text, do) or not (MariaDB's).
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
            # As cinder.db.api.volume_destroy, which came too early for it.
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
    # Cinder does so whatever stays attached, but not without a detach.
    if remove or not staying:
        for row in attached_mode:
            yield Row('volume_admin_metadata', row, deleted(row))
    after = {**volume, **_status(staying)}
    if after != volume:
        # Cinder means to leave that, here and in the attachment, as it is. But
        # to its ORM a value that is set to itself is no value, so the column's
        # default is set. In the other tables it is left.
        after['updated_at'] = time
    yield Row('volumes', volume, after)


def _status(attachments: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    """What a volume's attachments say of it.

    As cinder.db.api._get_statuses_from_attachments.
    """
    said = sorted(
        str(row['attach_status'])
        for row in attachments
        if row['attach_status'] is not None
        and not str(row['attach_status']).startswith('error_')
    )
    attach_status = (said[0] if said else '') or 'detached'
    return {
        'status': _STATUS.get(attach_status, attach_status),
        'attach_status': attach_status,
    }


def _check(volume: Mapping[str, Value], remove: Collection[str]) -> None:
    # Cinder itself detaches while it migrates or uploads a volume, and hides
    # that in the status: that is for its own detach to know.
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
            f'Cinder is at work on volume {seen.id}: status {status}, '
            f'migration_status {migration}'
        )
    if not remove and status not in _OF_ATTACHMENTS:
        raise Refused(
            f'the status of volume {seen.id} is {status}, which does not come '
            'from its attachments: os-reset_status is for that'
        )


def _statements(
    dialect: str, volume_id: str, rows: Iterable[Row]
) -> Iterator[Statement]:
    """What makes each row what it is to be.

    The first that changes anything asks for everything that was seen, and
    each that follows for what that one has left.
    """
    literal = functools.partial(_literal, dialect)
    volume = next((row for row in rows if row.table == 'volumes'), None)
    attachments = [row for row in rows if row.table == 'volume_attachment']

    # An attachment is made with a reference to the volume, for which MariaDB
    # and PostgreSQL lock that too: so there will be no other until the end.
    # Cinder begins in the same way.
    yield Statement(
        'lock the volume'
        if volume is not None
        else 'the volume, which has no row',
        0 if volume is None else 1,
        'SELECT id, status, attach_status\n'
        'FROM volumes\n'
        f'WHERE id = {literal(volume_id)}'
        + ('' if dialect == 'sqlite' else '\nFOR UPDATE'),
    )
    exists = 'EXISTS (SELECT 1 FROM volumes WHERE {})'
    if volume is None:
        left = f'NOT {exists.format(f"id = {literal(volume_id)}")}'
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
            f'attachment {_literal(dialect, row.before["id"])}'
        ),
        'volume_admin_metadata': 'the metadata attached_mode',
    }[row.table]
    if not row.changed:
        return Statement(
            f'{what}: as it was',
            1,
            f'SELECT id\nFROM {row.table}\nWHERE {where}',
        )
    values = ',\n    '.join(
        f'{name} = {_literal(dialect, value)}'
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
    """Guards: the attachments that are not deleted are these, and so."""
    live = [row.before for row in attachments if not row.before['deleted']]
    count = '(SELECT COUNT(*) FROM volume_attachment WHERE {}) = {}'
    guards = [
        count.format(
            f'volume_id = {_literal(dialect, volume_id)} '
            f'AND deleted = {_literal(dialect, False)}',
            len(live),
        )
    ]
    if live:
        each = (' AND '.join(_same(dialect, values)) for values in live)
        guards.append(count.format(f'({") OR (".join(each)})', len(live)))
    return guards


def _same(dialect: str, values: Mapping[str, Value]) -> list[str]:
    """Guards: a row has these values, by its primary key first."""
    return [
        f'{name} IS NULL'
        if value is None
        else f'{name} = {_literal(dialect, value)}'
        for name, value in values.items()
    ]


def _literal(dialect: str, value: Value) -> str:
    """A value in a statement, on one line and in printable ASCII.

    Users choose some of them: a host, a mount point.
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
