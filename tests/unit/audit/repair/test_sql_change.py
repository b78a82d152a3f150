# SPDX-License-Identifier: Apache-2.0

"""A change of Cinder's database, before any database has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attachguard.audit.repair import sql_change
from tests.unit import fakes

GONE = 'd1d1d1d1-aaaa-4aaa-8aaa-d1d1d1d1d1d1'
STAYS = 'd2d2d2d2-aaaa-4aaa-8aaa-d2d2d2d2d2d2'


def volume(
    status: str | None = 'in-use',
    attach_status: str | None = 'attached',
    **values: sql_change.Value,
) -> dict[str, sql_change.Value]:
    return {
        'id': fakes.VOLUME,
        'status': status,
        'attach_status': attach_status,
        'migration_status': None,
        'deleted': 0,
        'updated_at': '2024-03-01 00:00:00',
        **values,
    }


def attachment(
    attachment_id: str = GONE,
    attach_status: str | None = 'attached',
    **values: sql_change.Value,
) -> dict[str, sql_change.Value]:
    return {
        'id': attachment_id,
        'volume_id': fakes.VOLUME,
        'instance_uuid': fakes.SERVER,
        'attached_host': None,
        'mountpoint': '/dev/vdb',
        'attach_mode': 'rw',
        'attach_status': attach_status,
        'attach_time': None,
        'detach_time': None,
        'deleted': 0,
        'deleted_at': None,
        'updated_at': None,
        **values,
    }


def mode(**values: sql_change.Value) -> dict[str, sql_change.Value]:
    return {
        'id': 7,
        'volume_id': fakes.VOLUME,
        'value': 'rw',
        'deleted': 0,
        'deleted_at': None,
        'updated_at': None,
        **values,
    }


def plan(
    row: dict[str, sql_change.Value] | None,
    *live: dict[str, sql_change.Value],
    remove: tuple[str, ...] = (GONE,),
    dialect: str = 'mysql',
) -> sql_change.Change:
    return sql_change.plan(dialect, fakes.VOLUME, row, live, [mode()], remove)


def after(change: sql_change.Change, table: str) -> list[dict[str, Any]]:
    return [dict(row.after) for row in change.rows if row.table == table]


@pytest.mark.parametrize(
    ('staying', 'expected'),
    [
        ((), ('available', 'detached')),
        (('attached',), ('in-use', 'attached')),
        (('reserved', 'attached'), ('in-use', 'attached')),
        (('reserved', 'detaching'), ('detaching', 'detaching')),
        (('detaching', 'attaching'), ('attaching', 'attaching')),
        (('reserved',), ('reserved', 'reserved')),
        (('error_attaching', 'error_detaching'), ('available', 'detached')),
        (('error_attaching', 'reserved'), ('reserved', 'reserved')),
        ((None,), ('available', 'detached')),
    ],
)
def test_a_volume_gets_the_status_of_the_remaining_attachments(
    staying: tuple[str | None, ...], expected: tuple[str, str]
) -> None:
    live = [attachment(f'{n}', status) for n, status in enumerate(staying)]
    (row,) = after(
        plan(volume('detaching', None), attachment(), *live), 'volumes'
    )
    assert (row['status'], row['attach_status']) == expected


def test_an_attachment_is_deleted_as_cinder_does_it() -> None:
    change = plan(volume(), attachment(), attachment(STAYS))
    gone, stays = after(change, 'volume_attachment')
    now = f'{change.at[:10]} {change.at[11:19]}.000000'
    assert gone == attachment(
        attach_status='detached',
        deleted=1,
        deleted_at=now,
        detach_time=now,
        updated_at=now,
    )
    assert stays == attachment(STAYS)
    assert after(change, 'volume_admin_metadata') == [
        mode(deleted=1, deleted_at=now)
    ]


@pytest.mark.parametrize('row', [None, volume('deleted', deleted=1)])
def test_of_a_deleted_volume_only_the_attachment_is_deleted(
    row: dict[str, sql_change.Value] | None,
) -> None:
    change = plan(row, attachment())
    (changed,) = (row for row in change.rows if row.changed)
    assert set(changed.changed) == {'deleted', 'deleted_at'}


def test_a_boolean_stays_a_boolean() -> None:
    change = plan(
        volume(deleted=False), attachment(deleted=False), dialect='postgresql'
    )
    (gone,) = after(change, 'volume_attachment')
    assert gone['deleted'] is True
    assert any('deleted = true' in s.sql for s in change.statements)
    assert any('deleted = false' in s.sql for s in change.inverse.statements)


@pytest.mark.parametrize(
    ('row', 'why'),
    [
        (volume('uploading'), 'uploading'),
        (volume('retyping'), 'retyping'),
        (volume('backing-up'), 'backing-up'),
        (volume('deleting'), 'deleting'),
        (volume(migration_status='starting'), 'starting'),
        (volume(migration_status='target:x'), 'target:x'),
    ],
)
def test_a_volume_that_cinder_is_busy_with_is_refused(
    row: dict[str, sql_change.Value], why: str
) -> None:
    for live, remove in (([attachment()], (GONE,)), ([], ())):
        with pytest.raises(sql_change.Refused, match=f'busy.*{why}'):
            plan(row, *live, remove=remove)


@pytest.mark.parametrize('status', ['error', 'error_extending', None])
def test_a_status_that_depends_on_nothing_attached_is_refused(
    status: str | None,
) -> None:
    with pytest.raises(sql_change.Refused, match='os-reset_status'):
        plan(volume(status), remove=())
    # Cinder itself would write available.
    (row,) = after(plan(volume(status), attachment()), 'volumes')
    assert row['status'] == (status or 'available')
    assert row['attach_status'] == 'detached'


def test_a_correct_volume_is_refused() -> None:
    for row, live in (
        (volume(), [attachment()]),
        (volume('deleted', deleted=1), [attachment()]),
        (None, []),
    ):
        with pytest.raises(sql_change.Refused, match='nothing to change'):
            plan(row, *live, remove=())


def test_the_script() -> None:
    change = plan(volume(), attachment(mountpoint="/dev/v'db"))
    now = f'{change.at[:10]} {change.at[11:19]}.000000'
    state = (
        f"id = '{GONE}' AND volume_id = '{fakes.VOLUME}' "
        f"AND instance_uuid = '{fakes.SERVER}' AND attached_host IS NULL "
        "AND mountpoint = '/dev/v''db' AND attach_mode = 'rw' "
        "AND attach_status = 'attached' AND attach_time IS NULL "
        'AND detach_time IS NULL AND deleted = 0 AND deleted_at IS NULL '
        'AND updated_at IS NULL'
    )
    left = (
        f"EXISTS (SELECT 1 FROM volumes WHERE id = '{fakes.VOLUME}' "
        "AND status = 'available' AND attach_status = 'detached' "
        f"AND migration_status IS NULL AND deleted = 0 AND updated_at = '{now}"
        "')"
    )
    of_it = f"volume_id = '{fakes.VOLUME}'"
    count = '(SELECT COUNT(*) FROM volume_attachment WHERE'
    gone_state = state.replace(' AND ', '\n  AND ')
    assert (
        sql_change.script(change)
        == f"""\
-- Cinder volume '{fakes.VOLUME}', for MariaDB or MySQL:
-- the change planned by attachguard at '{change.at}'.
--
-- The comment before each statement says how many rows it must find
-- or change. If the number differs, the volume has changed since:
-- ROLLBACK instead of COMMIT, and run the audit again.
START TRANSACTION;

-- 1 row: lock the volume
SELECT id, status, attach_status
FROM volumes
WHERE id = '{fakes.VOLUME}'
FOR UPDATE;

-- 1 row: the volume, with the attachments that it had: status, attach_status,\
 updated_at
UPDATE volumes
SET status = 'available',
    attach_status = 'detached',
    updated_at = '{now}'
WHERE id = '{fakes.VOLUME}'
  AND status = 'in-use'
  AND attach_status = 'attached'
  AND migration_status IS NULL
  AND deleted = 0
  AND updated_at = '2024-03-01 00:00:00'
  AND {count} {of_it} AND deleted = 0) = 1
  AND {count} ({state})) = 1;

-- 1 row: attachment '{GONE}': attach_status, detach_time, deleted,\
 deleted_at, updated_at
UPDATE volume_attachment
SET attach_status = 'detached',
    detach_time = '{now}',
    deleted = 1,
    deleted_at = '{now}',
    updated_at = '{now}'
WHERE {gone_state}
  AND {left};

-- 1 row: the metadata attached_mode: deleted, deleted_at
UPDATE volume_admin_metadata
SET deleted = 1,
    deleted_at = '{now}'
WHERE id = 7
  AND {of_it}
  AND value = 'rw'
  AND deleted = 0
  AND deleted_at IS NULL
  AND updated_at IS NULL
  AND {left};

COMMIT;
"""
    )
    assert 'undo the change of attachguard' in sql_change.script(
        change, undo=True
    )


@pytest.mark.parametrize('dialect', list(sql_change.DIALECTS))
@pytest.mark.parametrize(
    'value', ["x'y\\", 'a\nb', '\\', '\x00', '\x1b]0;', 'ü', '\u202e', "''\\'"]
)
def test_no_value_can_end_its_literal(dialect: str, value: str) -> None:
    text = sql_change.literal(dialect, value)
    assert text.isascii()
    assert text.isprintable()
    assert '\\' not in text
    assert value.encode().hex() in text


def test_a_change_can_be_read_from_a_journal() -> None:
    change = plan(volume(), attachment(), attachment(STAYS, 'reserved'))
    written = json.loads(json.dumps(change.to_json()))
    read = sql_change.Change.from_json(written)
    assert read == change
    assert read.statements == change.statements
    assert read.inverse == change.inverse
    assert written['statements'] == [s.sql for s in change.statements]


@pytest.mark.parametrize(
    'spoil',
    [
        lambda w: w.pop('rows'),
        lambda w: w.update(dialect='oracle'),
        lambda w: w.update(volume_id=None),
        lambda w: w.update(rows=[1]),
        lambda w: w['rows'][0].update(table='services'),
        lambda w: w['rows'][0]['after'].update({'id = 1; --': 1}),
        lambda w: w['rows'][0]['before'].pop('id'),
        lambda w: w['rows'][0]['before'].update(id=['x']),
        lambda w: w['rows'][0]['before'].update(id=1.5),
        lambda w: w['rows'][0].update(before=None),
    ],
)
def test_a_modified_journal_is_refused(spoil: Any) -> None:
    written = json.loads(json.dumps(plan(volume(), attachment()).to_json()))
    spoil(written)
    with pytest.raises(ValueError, match='not a change of attachguard'):
        sql_change.Change.from_json(written)
    with pytest.raises(ValueError, match='not a change of attachguard'):
        sql_change.Change.from_json([])  # type: ignore[arg-type]


def test_statements_in_a_journal_are_ignored() -> None:
    written = plan(volume(), attachment()).to_json()
    written['statements'] = ['DROP TABLE volumes']
    read = sql_change.Change.from_json(written)
    assert 'DROP' not in sql_change.script(read)
