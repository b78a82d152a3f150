# SPDX-License-Identifier: Apache-2.0
"""Many callers of one project leave places for queries to another one."""

import pathlib
import statistics
import time
from typing import Any

from tests.chaos import chaos_cloud
from tests.outage import background
from tests.outage import faulty_server
from tests.outage.guarded_cloud import Caller
from tests.outage.guarded_cloud import Response

_CALLERS = 200
# Nova responds in time, however busy this machine is.
_SLOW = faulty_server.Fault(delay=1.0)
_OPTIONS: dict[str, Any] = {
    'nova_breaker_failures': 0,
    'nova_timeout': 20,
    'timeout': 20,
}


def test_another_project_keeps_its_share_of_the_places(
    tmp_path: pathlib.Path,
) -> None:
    busy: list[Response] = []
    with chaos_cloud.start(tmp_path, 'threads', **_OPTIONS) as cloud:
        other = Caller(cloud, 'other')
        created = other.send('POST', '/volumes', {'volume': {'size': 1}})
        volume_id = created.body['volume']['id']
        period = cloud.find_period(_CALLERS)
        with (
            cloud.nova.failing(_SLOW),
            background.repeating(
                lambda: busy.append(cloud.attach()), period, threads=_CALLERS
            ),
        ):
            give_up = time.monotonic() + 60
            while not any(each.reason == 'nova-busy' for each in busy):
                assert time.monotonic() < give_up
                time.sleep(0.05)
            guarded = [other.attach(volume_id) for _ in range(3)]
            shown = [
                other.send('GET', f'/volumes/{volume_id}') for _ in range(20)
            ]
    assert {each.reason for each in guarded} == {'server-lacks-volume'}
    assert {each.status for each in shown} == {200}
    # Others of them may wait for a processor, but not for Nova.
    assert statistics.median(each.seconds for each in shown) < _SLOW.delay / 2
