# SPDX-License-Identifier: Apache-2.0


"""What a repair does with what it finds."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import pytest

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import apply
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import writer
from tests.unit.audit import models
from tests.unit.audit.collect import fakes
from tests.unit.audit.models import cinder

MULTIATTACH = 1


def repair(
    world: models.World,
    tmp_path: pathlib.Path,
    kind: str,
    before: models.Before = lambda *_call: None,
) -> apply.Outcome:
    """Repair the first finding of a class.

    :param before: called before each request
    """
    cloud = fakes.of_world(world, before)
    rules = foreign.Rules(compute_hosts=models.HOSTS)
    (finding, *_) = (
        finding
        for volume_id in world.cinder.volumes
        for finding in classes.find(
            case_builder.read_case(cloud, volume_id, rules)
        )
        if finding.kind == kind
    )
    with contextlib.closing(
        journal.Journal(tmp_path / 'journal', {})
    ) as opened:
        return apply.Repair(
            cloud,
            rules,
            opened,
            lambda _volume_id: [],
            sleep=lambda _seconds: None,
        ).repair(finding)


def calls(tmp_path: pathlib.Path) -> list[str]:
    """The calls in the journal."""
    _header, entries = journal.read(tmp_path / 'journal')
    return [entry.act['call']['name'] for entry in entries]


@pytest.mark.parametrize('host', [0, 1])
def test_the_connection_of_a_container_is_kept(
    tmp_path: pathlib.Path, host: int
) -> None:
    world = models.World()
    world.act(models.Action('forge', MULTIATTACH, 0, host))
    world.act(models.Action('zun', MULTIATTACH, 0, 0))
    before = set(world.cinder.connections)
    outcome = repair(world, tmp_path, 'server-lacks-volume')
    assert outcome.result is apply.Result.BY_HAND
    assert 'Zun' in outcome.text
    assert world.cinder.connections == before


def test_a_connected_attachment_is_repaired(tmp_path: pathlib.Path) -> None:
    world = models.World()
    world.act(models.Action('forge', MULTIATTACH, 0, 0))
    world.act(models.Action('forge_gone', MULTIATTACH, 0, 0))
    outcome = repair(world, tmp_path, 'server-lacks-volume')
    assert outcome.result is apply.Result.REPAIRED


@pytest.mark.parametrize('attach_status', ['attached', 'detached'])
def test_a_volume_in_use_by_nothing_is_reserved_and_repaired(
    tmp_path: pathlib.Path, attach_status: str
) -> None:
    world = models.World()
    world.act(models.Action('sql'))
    (volume, *_others) = world.cinder.volumes.values()
    volume.attach_status = attach_status
    outcome = repair(world, tmp_path, 'in-use-without-attachment')
    assert outcome.result is apply.Result.REPAIRED
    # Cinder reserves no volume whose attach_status is detached.
    first = ['os-reset_status'] if attach_status == 'detached' else []
    assert calls(tmp_path) == [*first, 'os-begin_detaching', 'os-detach']
    assert (volume.status, volume.attach_status) == ('available', 'detached')


def test_nothing_is_repaired_if_nova_does_not_respond_now(
    tmp_path: pathlib.Path,
) -> None:
    """That no server has it is only as true as Nova's list was."""
    world = models.World()
    world.act(models.Action('sql'))
    (volume, *_others) = world.cinder.volumes.values()
    outcome = repair(
        world,
        tmp_path,
        'in-use-without-attachment',
        lambda *_call: setattr(world.nova, 'down', True),
    )
    assert outcome.result is apply.Result.UNKNOWN
    assert 'Nova is down' in outcome.text
    assert volume.status == 'in-use'


@pytest.mark.parametrize('kind', ['server-gone', 'server-lacks-volume'])
def test_nothing_is_repaired_beside_a_server_that_is_unknown(
    tmp_path: pathlib.Path, kind: str
) -> None:
    world = models.World()
    for name in ('forge', 'forge_gone'):
        world.act(models.Action(name, MULTIATTACH, 0, 0))
    world.act(models.Action('nova_attached', MULTIATTACH, 1, 1))
    *_others, server = world.servers.values()
    outcome = repair(
        world,
        tmp_path,
        kind,
        lambda *_call: setattr(server, 'cell_down', True),
    )
    assert outcome.result is apply.Result.UNKNOWN
    assert calls(tmp_path) == []


# A status that says something else than the attachments


def own_status(world: models.World, status: str) -> cinder.Volume:
    """A volume of a status of its own, with an attachment to nobody."""
    world.act(models.Action('os_attach_gone'))
    (volume, *_others) = world.cinder.volumes.values()
    volume.status = status
    return volume


@pytest.mark.parametrize(
    'status',
    ['error', 'error_deleting', 'error_restoring', 'awaiting-transfer'],
)
def test_the_own_status_of_a_volume_is_put_back(
    tmp_path: pathlib.Path, status: str
) -> None:
    world = models.World()
    volume = own_status(world, status)
    outcome = repair(world, tmp_path, 'server-gone')
    assert outcome.result is apply.Result.REPAIRED
    assert (volume.status, volume.attach_status) == (status, 'detached')
    # Nobody can attach it in between.
    assert calls(tmp_path) == [
        'attachment-delete',
        'os-reserve',
        'os-reset_status',
    ]


def test_a_status_that_cannot_be_put_back_is_left_to_a_person(
    tmp_path: pathlib.Path,
) -> None:
    world = models.World()
    volume = own_status(world, 'error_of_a_newer_cinder')
    outcome = repair(world, tmp_path, 'server-gone')
    assert outcome.result is apply.Result.BY_HAND
    assert 'nothing can restore it' in outcome.text
    assert volume.status == 'error_of_a_newer_cinder'


def test_what_nova_attaches_meanwhile_keeps_its_status(
    tmp_path: pathlib.Path,
) -> None:
    world = models.World()
    volume = own_status(world, 'error')

    def attach(service: str, method: str, path: str, body: Any) -> None:
        if body and 'os-reserve' in body:
            world.act(models.Action('nova_attached'))

    outcome = repair(world, tmp_path, 'server-gone', attach)
    assert outcome.result is apply.Result.FAILED
    assert 'the volume was error, and is in-use' in outcome.text
    assert volume.status == 'in-use'


@pytest.mark.parametrize('late', [False, True], ids=['not done', 'done'])
@pytest.mark.parametrize('number', range(3))
def test_a_lost_response_is_no_repair(
    tmp_path: pathlib.Path, number: int, late: bool
) -> None:
    """Repaired is what was checked; the rest is said."""
    world = models.World()
    volume = own_status(world, 'error')
    writes: list[str] = []

    def lose(
        service: str, method: str, path: str, body: Any
    ) -> models.Fault | None:
        if method == 'GET':
            return None
        writes.append(path)
        at_once = len(writes) == number + 1
        return models.Fault('timeout', late) if at_once else None

    outcome = repair(world, tmp_path, 'server-gone', lose)
    as_it_was = volume.status == 'error' and not world.cinder.of(volume.id)
    assert (outcome.result is apply.Result.REPAIRED) == as_it_was
    assert volume.status in ('error', 'available')


@pytest.mark.parametrize(
    ('status', 'expected'),
    [
        (200, writer.CallStatus.DONE),
        (202, writer.CallStatus.DONE),
        (302, writer.CallStatus.FAILED),
        (400, writer.CallStatus.FAILED),
        (404, writer.CallStatus.FAILED),
        (403, writer.CallStatus.REFUSED),
        (409, writer.CallStatus.REFUSED),
        (500, writer.CallStatus.NO_RESPONSE),
        (504, writer.CallStatus.NO_RESPONSE),
    ],
)
def test_the_result_of_a_call(
    tmp_path: pathlib.Path, status: int, expected: writer.CallStatus
) -> None:
    path = tmp_path / 'journal'
    with contextlib.closing(journal.Journal(path, {})) as opened:
        result = writer.Writer(fakes.always(status, {}), opened).call(
            plan.action('v', 'os-reserve'), {'role': 'step'}
        )
    assert result.status is expected
    assert (result.detail == '') == (expected is writer.CallStatus.DONE)
    (entry,) = journal.read(path)[1]
    assert entry.act['call']['name'] == 'os-reserve'
    assert entry.done is not None
    assert entry.done['answer']['status'] == status


def test_what_the_guard_cannot_verify_yet_is_tried_again(
    tmp_path: pathlib.Path,
) -> None:
    """The reservation has just changed the volume."""
    world = models.World()
    world.act(models.Action('forge', 0, 0, 0))
    refused: list[str] = []

    def young(
        service: str, method: str, path: str, body: Any
    ) -> models.Fault | None:
        if method == 'DELETE' and len(refused) < 2:
            refused.append(path)
            return models.Fault('guard', False)
        return None

    outcome = repair(world, tmp_path, 'server-lacks-volume', young)
    assert outcome.result is apply.Result.REPAIRED
    assert calls(tmp_path) == [
        'os-begin_detaching',
        *['attachment-delete'] * 3,
    ]


def test_no_other_step_is_tried_if_the_guard_cannot_verify_it(
    tmp_path: pathlib.Path,
) -> None:
    world = models.World()
    world.act(models.Action('os_attach_gone'))
    outcome = repair(
        world,
        tmp_path,
        'server-gone',
        lambda _service, method, *_call: (
            models.Fault('guard', False) if method == 'DELETE' else None
        ),
    )
    assert outcome.result is apply.Result.UNKNOWN
    assert calls(tmp_path) == ['attachment-delete']


def test_a_503_of_the_guard_is_no_other_503(tmp_path: pathlib.Path) -> None:
    fault = {'code': 503, 'message': 'later', 'reason': 'attachment-young'}
    cloud = fakes.always(503, {'serviceUnavailable': fault})
    with contextlib.closing(
        journal.Journal(tmp_path / 'journal', {})
    ) as opened:
        result = writer.Writer(cloud, opened).call(
            plan.action('v', 'os-detach'), {}
        )
    assert result.status is writer.CallStatus.UNVERIFIED


def test_no_response_is_not_a_refusal(tmp_path: pathlib.Path) -> None:
    def time_out(*_request: str) -> None:
        raise OSError('timed out')

    cloud, _adapter = fakes.make(time_out)
    with contextlib.closing(
        journal.Journal(tmp_path / 'journal', {})
    ) as opened:
        result = writer.Writer(cloud, opened).call(
            plan.action('v', 'os-reserve'), {}
        )
    assert result.status is writer.CallStatus.NO_RESPONSE
    assert str(result) == 'no response: OSError: timed out'
