# SPDX-License-Identifier: Apache-2.0

"""The scripts for a person: complete, in order, and without loss of a disk."""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.repair import advice
from attachguard.audit.repair import plan
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import NO_PROJECT
from tests.unit.audit.cases import OLD
from tests.unit.audit.cases import OTHER
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import SERVER
from tests.unit.audit.cases import server
from tests.unit.audit.cases import THIRD
from tests.unit.audit.cases import UNKNOWN
from tests.unit.audit.cases import VOLUME
from tests.unit.audit.cases import volume

DATA_DISK = {'device': '/dev/vdb', 'root_device': '/dev/vda'}
ROOT_DISK = {'device': '/dev/vda', 'root_device': '/dev/vda'}
RUNS = {**DATA_DISK, 'status': 'ACTIVE', 'host': 'compute1'}


def script(
    of: model.Case, shell: advice.Shell = advice.PLAIN, number: int = 0
) -> str:
    """The script for a finding of a case."""
    finding = classes.find(of)[number]
    return advice.script(plan.make(finding, of, connected=None), of, shell)


def commands(text: str) -> list[str]:
    """The commands of a script, of which each needs the one before it."""
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    assert all(line.endswith(' &&') for line in lines[:-1])
    return [line.removesuffix(' &&') for line in lines]


def comments(text: str) -> str:
    """Its comments, in one line."""
    return ' '.join(
        line.removeprefix('# ')
        for line in text.splitlines()
        if line.startswith('# ')
    )


def missing(**values: Any) -> model.Case:
    """A volume that a server has, without an attachment in Cinder."""
    return case(volume(), server(HAS, FIRST, **{**RUNS, **values}))


def test_a_server_keeps_a_disk_that_cinder_has_lost() -> None:
    _check, stop, wait, reset, refresh, start = commands(script(missing()))
    assert stop == f'openstack server stop {SERVER}'
    assert 'SHUTOFF' in wait
    assert reset == (
        f'openstack volume set --state available --detached {VOLUME}'
    )
    assert refresh == (
        f'nova-manage volume_attachment refresh {SERVER} {VOLUME} '
        'connector.json'
    )
    assert start == f'openstack server start {SERVER}'


def test_a_stopped_server_stays_stopped() -> None:
    found = commands(script(missing(status='SHUTOFF')))
    assert not any('server' in command for command in found[:-1])
    assert 'refresh' in found[-1]


def test_a_server_in_another_state_is_left_alone() -> None:
    text = script(missing(status='SHELVED_OFFLOADED'))
    assert commands(text) == []
    assert 'SHELVED_OFFLOADED' in text


@pytest.mark.parametrize('disk', [DATA_DISK, ROOT_DISK, {'device': None}])
def test_what_a_hard_reboot_would_lose_is_said(disk: dict[str, Any]) -> None:
    text = script(missing(**disk))
    assert 'Do not reboot' in text
    assert ('the server would be lost' in comments(text)) is (
        disk is not DATA_DISK
    )
    assert not any('reboot' in command for command in commands(text))


def test_a_reboot_does_nothing_about_what_nova_has_without_an_id() -> None:
    of = case(volume('available'), server(HAS, None, **RUNS))
    text = script(of)
    assert 'A hard reboot changes nothing' in text
    assert any('refresh' in command for command in commands(text))


def test_what_nova_has_by_another_id_is_dropped_while_it_is_stopped() -> None:
    """Cinder refuses a second one that is connected to the same host.

    The guard refuses to delete the one that stands for what Nova has.
    """
    found = commands(
        script(
            case(
                volume(),
                attachment(),
                attachment(OTHER, found=THIRD),
                server(GONE, found=OTHER),
                server(HAS, SECOND, **RUNS),
            ),
            number=1,
        )
    )
    expected = (THIRD, 'available --detached', 'refresh', 'server start')
    assert len(found[3:]) == len(expected)
    for command, text in zip(found[3:], expected):
        assert text in command


def test_a_duplicate_is_deleted_while_the_server_is_stopped() -> None:
    found = commands(
        script(
            case(
                volume(),
                attachment(host='compute1'),
                attachment(found=SECOND, host='compute1'),
                server(HAS, FIRST, **RUNS),
            )
        )
    )
    assert SECOND in found[3]
    assert 'refresh' in found[4]
    assert not any('volume set' in command for command in found)


def test_a_status_in_which_cinder_makes_no_other_is_reset_first() -> None:
    found = commands(
        script(
            case(
                volume('attaching'),
                attachment(status='attaching'),
                server(HAS, FIRST, **RUNS),
            )
        )
    )
    reset = found.index(f'openstack volume set --state in-use {VOLUME}')
    assert 'refresh' in found[reset + 1]


def test_the_last_stale_attachment_goes_while_the_holder_is_stopped() -> None:
    """It is all that keeps others from attaching the volume."""
    found = commands(
        script(
            case(
                volume(),
                attachment(),
                server(GONE),
                server(HAS, SECOND, OTHER, **RUNS),
            )
        )
    )
    stop = found.index(f'openstack server stop {OTHER}')
    assert stop < next(n for n, text in enumerate(found) if FIRST in text)


def test_two_servers_with_one_disk_are_for_a_person() -> None:
    text = script(
        case(
            volume(),
            attachment(OTHER),
            server(HAS, FIRST, OTHER, **RUNS),
            server(HAS, SECOND, **RUNS),
        )
    )
    assert commands(text) == []
    assert 'both write to the volume' in comments(text)


@pytest.mark.parametrize(
    'more',
    [
        {'foreign': (attachment(None, found=SECOND),)},
        {},
    ],
    ids=['foreign', 'unknown'],
)
def test_nothing_is_made_anew_beside_what_is_not_known(
    more: dict[str, Any],
) -> None:
    others = () if more else (server(UNKNOWN, found=OTHER),)
    of = case(volume(), server(HAS, FIRST, **RUNS), *others, **more)
    assert commands(script(of)) == []


# A volume that is gone


def lost(*disks: model.Disk, **values: Any) -> model.Case:
    """A server that has a volume that Cinder does not have."""
    own = model.Disk(VOLUME, FIRST, False)
    values = {**RUNS, 'disks': (own, *disks), **values}
    return case(None, server(HAS, FIRST, **values))


KEPT = model.Disk('other', SECOND, True)


def test_a_volume_that_is_gone_is_dropped_by_a_reboot() -> None:
    text = script(lost(KEPT))
    assert commands(text) == [f'openstack server reboot --hard {SERVER}']
    assert text.startswith('# Disruptive')


@pytest.mark.parametrize(
    'of',
    [
        pytest.param(lost(KEPT, **ROOT_DISK), id='the root disk'),
        pytest.param(lost(KEPT, device=None), id='perhaps the root disk'),
        pytest.param(lost(disks=None), id='the others are unknown'),
        pytest.param(
            lost(KEPT, model.Disk('another', THIRD, False)),
            id='another would be dropped, too',
        ),
        pytest.param(
            case(None, server(HAS, None, disks=(), **RUNS)),
            id='without an attachment id',
        ),
    ],
)
def test_no_reboot_is_advised_that_loses_a_disk(of: model.Case) -> None:
    assert commands(script(of)) == []


# How commands are written


def test_a_command_names_the_cloud_and_is_quoted() -> None:
    shell = advice.Shell(
        ('--os-cloud', 'my cloud'), ('--foreign-pattern', 'host=k8s*')
    )
    (repair,) = commands(
        script(case(volume('reserved')), shell),
    )
    assert repair == (
        "attachguard repair --os-cloud 'my cloud' --foreign-pattern "
        f"'host=k8s*' --volume {VOLUME} --yes"
    )
    _check, stop, *_more = commands(script(missing(), shell))
    assert stop == f"openstack --os-cloud 'my cloud' server stop {SERVER}"


def whole(text: str) -> list[str]:
    """The lines of its comments that can be copied."""
    return [
        line.removeprefix('#    ')
        for line in text.splitlines()
        if line.startswith('#    ')
    ]


def test_a_leftover_is_removed_only_from_a_deleted_server() -> None:
    left = server(GONE, leftovers=1, cell='db1/nova_cell1 (cell cell1)')
    text = script(case(volume('available'), left))
    assert commands(text) == []
    (statement,) = whole(text)
    assert statement.startswith('UPDATE block_device_mapping SET deleted = id')
    assert f"instance_uuid = '{SERVER}' AND volume_id = '{VOLUME}'" in text
    assert 'AND NOT EXISTS (SELECT 1 FROM instances' in statement
    assert statement.endswith(';')
    assert 'db1/nova_cell1 (cell cell1)' in comments(text)
    assert 'Not disruptive' in text


def test_a_volume_of_no_project_is_offered_and_never_deleted() -> None:
    shell = advice.Shell(('--os-cloud', 'my cloud'))
    text = script(case(volume('available'), project=NO_PROJECT), shell)
    start = "openstack --os-cloud 'my cloud' volume"
    assert commands(text) == [f'{start} transfer request create {VOLUME}']
    accept, delete = whole(text)
    assert accept.startswith('openstack volume transfer request accept')
    assert delete == f'{start} delete --purge {VOLUME}'
    assert 'Nothing brings it back' in comments(text)


@pytest.mark.parametrize('presence', [HAS, UNKNOWN])
def test_a_server_that_may_have_it_comes_first(
    presence: model.Presence,
) -> None:
    of = case(
        volume(),
        attachment(),
        server(presence, FIRST),
        project=NO_PROJECT,
    )
    finding = classes.Finding('no-project', VOLUME, None, None, None, '')
    text = advice.script(plan.make(finding, of), of, advice.PLAIN)
    assert commands(text) == []
    assert whole(text) == [f'openstack server remove volume {SERVER} {VOLUME}']
    assert 'disruptive' in text


@pytest.mark.parametrize(
    'of',
    [
        case(volume(), attachment(), server(GONE), project=NO_PROJECT),
        case(volume('error'), project=NO_PROJECT),
        case(volume(), foreign=(attachment(None),), project=NO_PROJECT),
    ],
)
def test_what_cinder_does_not_transfer_is_repaired_first(
    of: model.Case,
) -> None:
    text = script(of, number=-1)
    assert commands(text) == []
    assert 'First repair' in text
    assert whole(text) == [f'openstack volume delete --purge {VOLUME}']


def test_an_attachment_of_a_deleted_volume_is_left_to_sql() -> None:
    (command,) = commands(script(case(None, attachment(), server(GONE))))
    assert command.startswith(f'attachguard repair --volume {VOLUME} --yes ')
    assert '--execute-sql' in command


def chosen(text: str) -> list[str]:
    """The commands in the comments, which a person chooses or runs elsewhere.

    Each has a line of its own.
    """
    return [
        line.removeprefix('#').strip()
        for line in text.splitlines()
        if line.startswith('#  ')
    ]


def test_a_command_is_whole_in_the_comments_too() -> None:
    (connector,) = chosen(script(missing()))
    assert connector == 'nova-manage volume_attachment get_connector --json'

    old = {'updated_at': OLD}
    working = case(volume('backing-up', **old))
    assert chosen(script(working)) == [
        f'openstack volume set --state in-use {VOLUME}',
        f'openstack volume set --state available {VOLUME}',
    ]
    migrating = case(volume('in-use', migration_status='migrating', **old))
    assert chosen(script(migrating)) == [
        f'cinder reset-state --reset-migration-status {VOLUME}'
    ]
    target = case(volume(migration_status=f'target:{THIRD}', **old))
    assert chosen(script(target)) == [
        f'openstack volume delete --force {VOLUME}'
    ]


@pytest.mark.parametrize(
    ('of', 'ends'),
    [
        (
            case(
                volume(),
                attachment(),
                server(HAS, FIRST, mappings=2, **RUNS),
            ),
            ['AND deleted = 0;', 'WHERE id = ID;'],
        ),
        (
            case(None, server(HAS, None, disks=(), **RUNS)),
            ['AND deleted = 0;'],
        ),
    ],
    ids=['twice', 'gone'],
)
def test_sql_is_whole(of: model.Case, ends: list[str]) -> None:
    statements = chosen(script(of))
    assert len(statements) == len(ends)
    for statement, end in zip(statements, ends):
        assert statement.split()[0] in ('SELECT', 'UPDATE')
        assert statement.endswith(end)
