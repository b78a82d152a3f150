# SPDX-License-Identifier: Apache-2.0
"""Nova fails in every way, one after the other, below one real Cinder.

The guard has its default options, except for the times.
"""

from collections.abc import Iterator
import time

import pytest

from tests.chaos import chaos_cloud
from tests.chaos import outage_checks
from tests.outage import background
from tests.outage import faults


class TestNovaFails(outage_checks.Expected):
    """Nova, or what responds instead of it, has a fault."""

    @pytest.fixture(scope='class', params=faults.ALL)
    @staticmethod
    def outage(
        request: pytest.FixtureRequest, cloud: chaos_cloud.Cloud
    ) -> Iterator[outage_checks.Outage]:
        name: str = request.param
        nova = cloud.nova_with_tls if name in faults.TLS else cloud.nova
        cloud.use(nova)
        yield outage_checks.try_fault(cloud, nova, name)
        cloud.use(cloud.nova)


def test_nova_restarts_every_second(cloud: chaos_cloud.Cloud) -> None:
    def restart() -> None:
        with cloud.nova.failing(faults.PLAIN['refuses']):
            time.sleep(1.0)

    responses = []
    with cloud.others.calling() as others:
        with background.repeating(restart, 1.0):
            end = time.monotonic() + 5
            while time.monotonic() < end:
                responses += chaos_cloud.at_once(2, cloud.attach)
                time.sleep(0.05)
        cloud.assert_recovers()
    assert {each.status for each in responses} == {403, 503}
    slowest = max(each.seconds for each in responses)
    assert slowest < chaos_cloud.LATEST
    assert not others.failed


def test_nova_restarts_while_the_guard_is_idle(
    cloud: chaos_cloud.Cloud,
) -> None:
    # Each of the connections that the guard keeps is closed by the restart.
    cloud.warm_up()
    with cloud.nova.failing(faults.PLAIN['refuses']):
        time.sleep(0.5)
    responses = chaos_cloud.at_once(chaos_cloud.CONCURRENCY // 2, cloud.attach)
    assert {each.status for each in responses} == {403}


def test_all_faults_together_leave_nothing_behind(
    cloud: chaos_cloud.Cloud,
) -> None:
    assert cloud.excess(megabytes=120) == []
