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


"""What is seen of one volume."""

from __future__ import annotations

from typing import Any
from typing import cast

from attachguard.audit import foreign
from attachguard.audit import recheck
from attachguard.audit.collect import api
from tests.unit.audit import models


def test_what_is_listed_twice_is_there_once() -> None:
    world = models.World()
    for server in (0, 1):
        world.act(models.Action('forge', 1, server))
    asked: list[str] = []

    def lose_a_page(*call: Any) -> models.Fault | None:
        # The list begins anew, as when what a page ended with is deleted.
        asked.append(call[2])
        pages = [path for path in asked if 'marker' in path]
        if 'marker' in call[2] and len(pages) == 1:
            return models.Fault('proxy', False)
        return None

    cloud = api.Cloud(
        cast(Any, models.Connection(world, lose_a_page, lambda *_call: None))
    )
    volume_id = list(world.cinder.volumes)[1]
    case = recheck.read_case(cloud, volume_id, foreign.Rules())
    assert sum('/attachments?' in path for path in asked) > 2
    assert [item.id for item in case.attachments] == [
        item.id for item in world.cinder.of(volume_id)
    ]
