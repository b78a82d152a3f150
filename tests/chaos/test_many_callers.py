# SPDX-License-Identifier: Apache-2.0
"""Many callers at the same time, while Nova hangs or drips.

The circuit breaker is off: what it does would hide what is tested here.
"""

from collections.abc import Iterator
import time

import pytest

from tests.chaos import chaos_cloud
from tests.outage import background
from tests.outage import faults
from tests.outage import process_usage
from tests.outage.guarded_cloud import Response

_CALLERS = 200
_RUN_SECONDS = 2.5
# How much slower than without a fault the slowest hundredth may be. A caller
# who waits for Nova waits a hundred times as long.
_NOISE = 5.0
_HANG = faults.ALL['hangs-before-responding']
_DRIP = faults.ALL['drips-headers']


@pytest.fixture(scope='module', params=['threads', 'eventlet'])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[chaos_cloud.Cloud]:
    directory = tmp_path_factory.mktemp('cinder')
    with chaos_cloud.start(
        directory, request.param, nova_breaker_failures=0
    ) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def _recovered(cloud: chaos_cloud.Cloud) -> None:
    cloud.warm_up()


class _Run:
    """Some seconds with many callers, and some who do not need Nova."""

    def __init__(self, cloud: chaos_cloud.Cloud, period: float) -> None:
        self.responses: list[Response] = []
        with (
            process_usage.monitoring(cloud.cinder.processes, 0.1) as samples,
            background.repeating(
                lambda: self.responses.append(cloud.attach()),
                period,
                threads=_CALLERS,
            ),
            cloud.others.calling(0.02) as others,
        ):
            time.sleep(_RUN_SECONDS)
        self.usage = process_usage.highest(samples)
        assert not others.failed
        # Fewer calls would prove nothing.
        assert len(others.user_responses) >= 20
        assert len(others.service_responses) >= 20
        self.user_seconds = _percentile_99(others.user_responses)
        self.service_seconds = _percentile_99(others.service_responses)


def _percentile_99(responses: list[Response]) -> float:
    ordered = sorted(each.seconds for each in responses)
    return ordered[int(0.99 * (len(ordered) - 1))]


def test_callers_who_wait_for_nova_do_not_delay_the_others(
    cloud: chaos_cloud.Cloud,
) -> None:
    period = cloud.find_period(_CALLERS)
    before = _Run(cloud, period)
    with cloud.nova.failing(_HANG):
        hanging = _Run(cloud, period)
        connections = cloud.nova.wait_until_released(
            chaos_cloud.SOCKET_TIMEOUT + chaos_cloud.MARGIN
        )
    with cloud.nova.failing(_DRIP):
        dripping = _Run(cloud, period)
    after = _Run(cloud, period)

    assert connections == 0
    limit = before.usage.plus(
        threads=4, sockets=8 * chaos_cloud.CONCURRENCY, megabytes=100.0
    )
    for run in hanging, dripping:
        assert {each.status for each in run.responses} == {503}
        slowest = max(each.seconds for each in run.responses)
        assert slowest < chaos_cloud.LATEST
        # At least one of them did wait for Nova.
        assert slowest > 0.9 * chaos_cloud.NOVA_TIMEOUT
        assert run.user_seconds < _NOISE * max(
            before.user_seconds, after.user_seconds
        )
        assert run.service_seconds < _NOISE * max(
            before.service_seconds, after.service_seconds
        )
        assert run.usage.above(limit) == []
    # On a busy machine, several may have come at the same moment.
    decided = [each for each in after.responses if each.status == 403]
    assert len(decided) > 0.5 * len(after.responses)


def test_of_200_callers_at_once_few_wait_and_all_get_503_in_time(
    cloud: chaos_cloud.Cloud,
) -> None:
    healthy = chaos_cloud.at_once(_CALLERS, cloud.attach)
    with cloud.nova.failing(_HANG):
        responses = chaos_cloud.at_once(_CALLERS, cloud.attach)
    assert {each.status for each in healthy} <= {403, 503}
    assert {each.status for each in responses} == {503}
    # The time that this machine takes for as many calls.
    work = max(each.seconds for each in healthy)
    slowest = max(each.seconds for each in responses)
    assert slowest < chaos_cloud.LATEST + 2 * work
    reasons = [each.reason for each in responses]
    # No more than half of nova_max_concurrency wait at the same time.
    waited = _CALLERS - reasons.count('nova-busy')
    assert waited <= chaos_cloud.SHARE * (1 + slowest)


@pytest.mark.parametrize(
    'fault', ['drips-headers', 'sends-100-Continue-without-end']
)
def test_a_nova_that_drips_headers_keeps_threads_until_it_stops(
    cloud: chaos_cloud.Cloud, fault: str
) -> None:
    """A limit of the guard: no timeout ends the reading of headers.

    Each read succeeds in time, so that a thread reads on, and keeps its place
    among ``nova_max_concurrency``, after its caller has got a response.
    """
    nova = cloud.nova
    with cloud.others.calling() as others, nova.failing(faults.ALL[fault]):
        first = chaos_cloud.at_once(chaos_cloud.SHARE, cloud.attach)
        connections = nova.wait_until_released(chaos_cloud.SOCKET_TIMEOUT)
        later = [cloud.attach() for _ in range(5)]
        usage = process_usage.measure(cloud.cinder.process)
    slowest = max(each.seconds for each in first)
    assert {each.status for each in first} == {503}
    assert slowest < chaos_cloud.LATEST
    # The project's places are taken, so that it does not wait any more.
    assert connections == chaos_cloud.SHARE
    assert {each.reason for each in later} == {'nova-busy'}
    assert max(each.seconds for each in later) < chaos_cloud.MARGIN
    assert not others.failed
    limit = cloud.idle_usage.plus(threads=1 + chaos_cloud.CONCURRENCY)
    assert usage.threads <= limit.threads
    cloud.assert_recovers()
    assert cloud.excess() == []
