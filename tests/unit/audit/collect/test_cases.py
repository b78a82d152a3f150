# SPDX-License-Identifier: Apache-2.0

"""The cases of the suspects of a whole cloud."""

from __future__ import annotations

from attachguard.audit import classes
from attachguard.audit.collect import inventory
from tests.unit.audit import models
from tests.unit.audit.collect import fakes


def found(world: models.World) -> list[str]:
    """The classes of what an inventory finds."""
    with inventory.Inventory(fakes.of_world(world)) as read:
        read.read()
        return [
            finding.kind
            for case in read.cases.suspects(lambda _project: True)
            for finding in classes.find(case)
        ]


def test_an_attaching_volume_is_compared_with_novas_attachment() -> None:
    world = models.World()
    for name in ('nova_attach', 'step', 'step', 'step', 'crash'):
        world.act(models.Action(name))
    assert found(world) == ['stuck-attaching']
    (server_id,) = [s.id for s in world.servers.values() if s.volumes]
    (volume_id,) = world.servers[server_id].volumes
    world.servers[server_id].volumes[volume_id] = models.GONE
    assert found(world) == ['attachment-id-mismatch']
