# SPDX-License-Identifier: Apache-2.0


"""What undo restores, and what it does not change."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import pytest

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
