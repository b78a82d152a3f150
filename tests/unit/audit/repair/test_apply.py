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


"""What a repair does with what it finds."""

from __future__ import annotations

import pathlib
from typing import Any
from typing import cast

import pytest

from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from tests.unit.audit import models

MULTIATTACH = 1


def repair(
    world: models.World, tmp_path: pathlib.Path, kind: str
) -> repairs.Outcome:
    """Repair the first finding of a class."""
    cloud = api.Cloud(
        cast(
            Any,
            models.Connection(world, lambda *_call: None, lambda *_call: None),
        )
    )
    rules = foreign.Rules(compute_hosts=models.HOSTS)
    (finding, *_) = (
        finding
        for volume_id in world.cinder.volumes
        for finding in checks.find(
            case_builder.read_case(cloud, volume_id, rules)
        )
        if finding.kind == kind
    )
    journal = journals.Journal(tmp_path / 'journal', {})
    try:
        return repairs.Repair(
            cloud,
            rules,
            journal,
            lambda _volume_id: [],
            sleep=lambda _seconds: None,
        ).repair(finding)
    finally:
        journal.close()


@pytest.mark.parametrize('host', [0, 1])
def test_the_connection_of_a_container_stays(
    tmp_path: pathlib.Path, host: int
) -> None:
    world = models.World()
    world.act(models.Action('forge', MULTIATTACH, 0, host))
    world.act(models.Action('zun', MULTIATTACH, 0, 0))
    before = set(world.cinder.connections)
    outcome = repair(world, tmp_path, 'server-lacks-volume')
    assert outcome.result is repairs.Result.BY_HAND
    assert 'Zun' in outcome.text
    assert world.cinder.connections == before


def test_what_is_connected_is_repaired(tmp_path: pathlib.Path) -> None:
    world = models.World()
    world.act(models.Action('forge', MULTIATTACH, 0, 0))
    world.act(models.Action('forge_gone', MULTIATTACH, 0, 0))
    outcome = repair(world, tmp_path, 'server-lacks-volume')
    assert outcome.result is repairs.Result.REPAIRED


def test_a_volume_in_use_by_nothing_is_repaired_behind_a_hold(
    tmp_path: pathlib.Path,
) -> None:
    world = models.World()
    world.act(models.Action('sql'))
    outcome = repair(world, tmp_path, 'in-use-without-attachment')
    assert outcome.result is repairs.Result.REPAIRED
    _header, acts = journals.read(tmp_path / 'journal')
    assert [entry.act['call']['name'] for entry in acts] == [
        'os-begin_detaching',
        'os-detach',
    ]


def test_a_hold_is_made_possible(tmp_path: pathlib.Path) -> None:
    world = models.World()
    world.act(models.Action('sql'))
    (volume, *_others) = world.cinder.volumes.values()
    volume.attach_status = 'detached'
    outcome = repair(world, tmp_path, 'in-use-without-attachment')
    assert outcome.result is repairs.Result.REPAIRED
    _header, acts = journals.read(tmp_path / 'journal')
    assert [entry.act['call']['name'] for entry in acts] == [
        'os-reset_status',
        'os-begin_detaching',
        'os-detach',
    ]
    assert (volume.status, volume.attach_status) == ('available', 'detached')
