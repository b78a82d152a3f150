# SPDX-License-Identifier: Apache-2.0


"""What a repair does with what it finds."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import apply
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import writer
from tests.unit.audit import models
from tests.unit.audit.collect import fakes

MULTIATTACH = 1


def repair(
    world: models.World, tmp_path: pathlib.Path, kind: str
) -> apply.Outcome:
    """Repair the first finding of a class."""
    cloud = fakes.of_world(world)
    rules = foreign.Rules(compute_hosts=models.HOSTS)
    (finding, *_) = (
        finding
        for volume_id in world.cinder.volumes
        for finding in checks.find(
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
