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


"""What undo takes back, and what it leaves as it is."""

from __future__ import annotations

import pathlib
from typing import Any
from typing import cast

import pytest

from attachguard.audit.collect import api
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import plan as plans
from attachguard.audit.repair import undo as undos
from tests.unit.audit import models


@pytest.fixture(name='world')
def _world() -> models.World:
    return models.World()


def undo(
    world: models.World, tmp_path: pathlib.Path, before: dict[str, Any]
) -> undos.Outcome:
    """Take back an act that Cinder had done.

    :param before: of the volume, what the journal has
    """
    journal = journals.Journal(tmp_path / 'journal', {})
    connection = models.Connection(
        world, lambda *_call: None, lambda *_call: None
    )
    volume_id = next(iter(world.cinder.volumes))
    entry = journals.Entry(
        1,
        {
            'finding': {'volume_id': volume_id},
            'call': plans.action(volume_id, 'os-reset_status').to_json(),
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
    try:
        (outcome,) = undos.Undo(
            api.Cloud(cast(Any, connection)), journal
        ).undo([entry])
    finally:
        journal.close()
    return outcome


def test_what_is_attached_does_not_become_available_again(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    world.act(models.Action('nova_attached'))
    outcome = undo(world, tmp_path, {'status': 'available'})
    assert outcome.result is undos.Result.REFUSED
    assert 'others could attach it' in outcome.text
    assert next(iter(world.cinder.volumes.values())).status == 'in-use'


def test_a_status_comes_back(
    world: models.World, tmp_path: pathlib.Path
) -> None:
    world.act(models.Action('nova_attached'))
    outcome = undo(world, tmp_path, {'status': 'detaching'})
    assert outcome.result is undos.Result.UNDONE
    assert next(iter(world.cinder.volumes.values())).status == 'detaching'
