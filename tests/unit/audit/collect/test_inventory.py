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


"""What is suspect in a whole cloud, and what is asked about it."""

from __future__ import annotations

from typing import Any
from typing import cast

from attachguard.audit import checks
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from tests.unit.audit import models


def found(world: models.World) -> list[str]:
    """The classes of what an inventory finds."""
    cloud = api.Cloud(
        cast(
            Any,
            models.Connection(world, lambda *_call: None, lambda *_call: None),
        )
    )
    with inventories.Inventory(cloud) as inventory:
        inventory.read()
        return [
            finding.kind
            for case in inventory.cases(lambda *_volume: True)
            for finding in checks.find(case)
        ]


def test_what_is_attaching_waits_for_what_nova_has_it_by() -> None:
    world = models.World()
    for name in ('nova_attach', 'step', 'step', 'step', 'crash'):
        world.act(models.Action(name))
    assert found(world) == ['stuck-attaching']
    (server_id,) = [s.id for s in world.servers.values() if s.volumes]
    (volume_id,) = world.servers[server_id].volumes
    world.servers[server_id].volumes[volume_id] = models.GONE
    assert found(world) == ['attachment-id-mismatch']
