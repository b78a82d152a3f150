# SPDX-License-Identifier: Apache-2.0


"""What undo restores, and what it does not change."""

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
from attachguard.audit.repair import undo
from tests.unit.audit import models
from tests.unit.audit.collect import fakes


@pytest.fixture(name='world')
def _world() -> models.World:
    return models.World()


def undo_change(
    world: models.World, tmp_path: pathlib.Path, before: dict[str, Any]
) -> undo.Outcome:
    """Undo a change that Cinder made.

    :param before: the volume, as the journal has it
    """
    volume_id = next(iter(world.cinder.volumes))
    entry = journal.Entry(
        1,
        {
            'finding': {'volume_id': volume_id},
            'call': plan.action(volume_id, 'os-reset_status').to_json(),
            'before': {
                'volume': {
                    'id': volume_id,
                    'project_id': models.PROJECT,
                    **before,
                },
                'attachments': [
                    {
                        'id': item.id,
                        'server_id': item.server,
                        'status': item.status,
                    }
                    for item in world.cinder.of(volume_id)
                ],
            },
        },
        {'answer': {'status': 202}},
    )
    with contextlib.closing(
        journal.Journal(tmp_path / 'journal', {})
    ) as opened:
        (outcome,) = undo.Undo(fakes.of_world(world), opened).undo([entry])
    return outcome


def test_an_attached_volume_does_not_become_available(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    world.act(models.Action('nova_attached'))
    outcome = undo_change(world, tmp_path, {'status': 'available'})
    assert outcome.result is undo.Result.REFUSED
    assert 'others could attach it' in outcome.text
    assert next(iter(world.cinder.volumes.values())).status == 'in-use'


def test_a_status_is_restored(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    world.act(models.Action('nova_attached'))
    outcome = undo_change(world, tmp_path, {'status': 'detaching'})
    assert outcome.result is undo.Result.UNDONE
    assert next(iter(world.cinder.volumes.values())).status == 'detaching'


# A whole repair, and its undo


def repaired(world: models.World, tmp_path: pathlib.Path) -> pathlib.Path:
    """Repair everything that is found.

    :returns: the journal
    """
    cloud = fakes.of_world(world)
    rules = foreign.Rules(compute_hosts=models.HOSTS)
    path = tmp_path / 'repair'
    with contextlib.closing(journal.Journal(path, {})) as opened:
        repair = apply.Repair(
            cloud, rules, opened, lambda _id: [], sleep=lambda _seconds: None
        )
        for volume_id in world.cinder.volumes:
            case = case_builder.read_case(cloud, volume_id, rules)
            for finding in classes.find(case):
                outcome = repair.repair(finding)
                assert outcome.result is apply.Result.REPAIRED
    return path


def undone(
    world: models.World, tmp_path: pathlib.Path, path: pathlib.Path
) -> list[undo.Outcome]:
    """Undo a repair."""
    with contextlib.closing(journal.Journal(tmp_path / 'undo', {})) as opened:
        found = undo.Undo(fakes.of_world(world), opened)
        return list(found.undo(journal.read(path)[1]))


@pytest.mark.parametrize(
    'status',
    ['in-use', 'available', 'detaching', 'error', 'error_deleting'],
)
def test_a_status_comes_back_with_its_attachment(
    world: models.World, tmp_path: pathlib.Path, status: str
) -> None:
    world.act(models.Action('os_attach_gone'))
    (volume, *_others) = world.cinder.volumes.values()
    volume.status = status
    path = repaired(world, tmp_path)
    assert not world.cinder.of(volume.id)
    (outcome,) = undone(world, tmp_path, path)
    assert outcome.result is undo.Result.UNDONE
    (back,) = world.cinder.of(volume.id)
    assert (back.status, volume.status) == ('attached', status)


@pytest.mark.parametrize(
    ('action', 'needed'),
    [('os_attach_gone', 'roles admin and service'), ('reserve', 'role admin')],
)
def test_a_dry_run_says_as_whom_it_works(
    world: models.World, tmp_path: pathlib.Path, action: str, needed: str
) -> None:
    world.act(models.Action(action))
    path = repaired(world, tmp_path)
    cloud = fakes.of_world(world)
    for roles, text in (
        (None, f'It works as a user with the {needed}; the roles of these'),
        ({'admin', 'service'}, 'nothing of this is refused'),
        ({'member'}, f'It works as a user with the {needed}'),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cloud, 'roles', lambda found=roles: found)
            entries = journal.read(path)[1]
            (outcome,) = undo.Undo(cloud, None).undo(entries)
        assert outcome.result is undo.Result.PLANNED
        assert text in outcome.text


def test_what_is_not_as_before_is_not_called_undone(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    """Nothing but a compute service makes an attachment attaching."""
    world.act(models.Action('os_attach_gone'))
    (volume, *_others) = world.cinder.volumes.values()
    (item,) = world.cinder.of(volume.id)
    item.status = volume.status = volume.attach_status = 'attaching'
    path = repaired(world, tmp_path)
    (outcome,) = undone(world, tmp_path, path)
    assert outcome.result is undo.Result.PARTLY
    assert 'is reserved, and was attaching' in outcome.text
    assert volume.status == 'attaching'


def test_what_may_have_been_done_is_undone(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    """A gateway's 504 does not say whether Cinder did it."""
    world.act(models.Action('os_attach_gone'))
    (volume, *_others) = world.cinder.volumes.values()
    path = repaired(world, tmp_path)
    text = path.read_text()
    assert '"status": 200' in text
    path.write_text(text.replace('"status": 200', '"status": 504'))
    (outcome,) = undone(world, tmp_path, path)
    assert outcome.result is undo.Result.UNDONE
    assert world.cinder.of(volume.id)


@pytest.mark.parametrize('shown', [True, False])
def test_a_volume_that_a_server_has_is_not_made_available_for_a_moment(
    world: models.World, tmp_path: pathlib.Path, shown: bool
) -> None:
    """Cinder creates an attachment of one in error only in that way."""
    volume = next(iter(world.cinder.volumes.values()))
    world.act(models.Action('os_attach_gone'))
    volume.status = 'error'
    path = repaired(world, tmp_path)
    assert world.cinder.of(volume.id) == []
    # An admin lets Nova attach it, and Cinder loses that.
    volume.status = 'available'
    world.act(models.Action('nova_attached'))
    assert any(server.volumes for server in world.servers.values())
    world.cinder.attachments.clear()
    volume.status, volume.attach_status = 'error', 'detached'
    for server in world.servers.values():
        server.cell_down = not shown
    (outcome,) = undone(world, tmp_path, path)
    assert outcome.result is undo.Result.REFUSED
    assert (
        'has the volume in Nova' if shown else 'its cell does not respond'
    ) in outcome.text
    assert volume.status == 'error'
