# SPDX-License-Identifier: Apache-2.0

"""The case of one volume."""

from __future__ import annotations

from typing import Any

from attachguard.audit import foreign
from attachguard.audit.collect import case_builder
from tests.unit.audit import models
from tests.unit.audit.collect import fakes


def test_an_attachment_that_is_listed_twice_is_one() -> None:
    world = models.World()
    for server in (0, 1):
        world.act(models.Action('forge', 1, server))
    paths: list[str] = []

    def lose_a_page(*call: Any) -> models.Fault | None:
        # The list is read again, as if its last attachment were deleted.
        paths.append(call[2])
        marked = [path for path in paths if 'marker' in path]
        if 'marker' in call[2] and len(marked) == 1:
            return models.Fault('proxy', False)
        return None

    volume_id = list(world.cinder.volumes)[1]
    case = case_builder.read_case(
        fakes.of_world(world, lose_a_page), volume_id, foreign.Rules()
    )
    assert sum('/attachments?' in path for path in paths) > 2
    assert [item.id for item in case.attachments] == [
        item.id for item in world.cinder.of(volume_id)
    ]
