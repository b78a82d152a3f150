# SPDX-License-Identifier: Apache-2.0
"""A fault from its begin until the guard has recovered.

One fault is expensive to try, so that each is tried once and examined from
several sides.
"""

import dataclasses

from tests.chaos import chaos_cloud
from tests.outage import faults
from tests.outage import faulty_server
from tests.outage import process_usage
from tests.outage.guarded_cloud import Response

# One project must find a place for each.
_CALLERS = chaos_cloud.SHARE
# They query, and in the background so do the probe and the check of what the
# credentials see.
_QUERIES = _CALLERS + 2
# What the process may use more during a fault: for the connections of the
# callers and to Nova.
_DURING = {
    'threads': 4 + chaos_cloud.CONCURRENCY,
    'sockets': 3 * chaos_cloud.CONCURRENCY,
    'megabytes': 150.0,
}


@dataclasses.dataclass
class Outage:
    """What happened during and after a fault.

    :param responses: to those who need Nova
    :param other_failures: of those who do not need Nova
    :param other_seconds: how long these had to wait for each response
    :param connections: to the faulty server that the guard has not closed
        after the socket timeout of each query, one after the other, as they
        wait for a token
    :param endless: whether no timeout of a socket ends the fault
    :param excess: what the process used too much of during the fault
    :param excess_after: what it used too much of some seconds later
    :param recovered: the first response other than 503 after the fault
    :param recovery: seconds from the end of the fault to that
    :param redirected: number of connections to the redirection's target
    """

    responses: list[Response]
    other_failures: list[Response]
    other_seconds: list[float]
    connections: int
    endless: bool
    excess: list[str]
    excess_after: list[str]
    recovered: Response
    recovery: float
    redirected: int


def try_fault(
    cloud: chaos_cloud.Cloud,
    server: faulty_server.FaultyServer,
    name: str,
) -> Outage:
    """Let a server fail, and recover.

    :param name: of the fault, in :data:`tests.outage.faults.ALL`
    """
    endless = name in faults.ENDLESS
    connected = cloud.other_host.accepted
    process = cloud.cinder.process
    # Each fault is charged with its own memory only.
    before = cloud.idle_usage._replace(
        megabytes=process_usage.measure(process).megabytes
    )
    monitor = process_usage.monitoring(cloud.cinder.processes, 0.1)
    with cloud.others.calling() as others:
        with monitor as samples, server.failing(faults.ALL[name]):
            responses = chaos_cloud.at_once(_CALLERS, cloud.attach)
            connections = server.wait_until_released(
                0.0
                if endless
                else _QUERIES * (chaos_cloud.SOCKET_TIMEOUT + 1.0)
            )
            others.wait_for_responses(2)
        recovered, recovery = cloud.wait_until_recovered()
    return Outage(
        responses=responses,
        other_failures=others.failed,
        other_seconds=[each.seconds for each in others.responses],
        connections=connections,
        endless=endless,
        excess=process_usage.highest(samples).above(before.plus(**_DURING)),
        excess_after=cloud.excess(before),
        recovered=recovered,
        recovery=recovery,
        redirected=cloud.other_host.accepted - connected,
    )


class Expected:
    """The expectations of each fault.

    A subclass has a fixture ``outage``, and inherits these tests.
    """

    def test_a_caller_who_needs_nova_gets_503(self, outage: Outage) -> None:
        for response in outage.responses:
            assert response.status == 503
            assert response.reason in ('nova-unknown', 'nova-down')
            assert response.body['serviceUnavailable']['code'] == 503
            assert response.headers['Content-Type'] == 'application/json'
            version = response.headers['OpenStack-API-Version']
            assert version == 'volume 3.44'
            # Not the value that Nova sends.
            assert 1 <= int(response.headers['Retry-After']) <= 60

    def test_the_503_comes_in_time(self, outage: Outage) -> None:
        slowest = max(each.seconds for each in outage.responses)
        assert slowest < chaos_cloud.LATEST

    def test_other_callers_are_not_affected(self, outage: Outage) -> None:
        assert not outage.other_failures
        assert len(outage.other_seconds) >= 2
        limit = chaos_cloud.LATEST
        assert max(outage.other_seconds) < limit

    def test_connections_are_closed(self, outage: Outage) -> None:
        # Of the callers, and of the background probe.
        kept = chaos_cloud.SHARE + 1 if outage.endless else 0
        assert outage.connections <= kept

    def test_resources_are_bounded(self, outage: Outage) -> None:
        assert outage.excess == []

    def test_resources_are_released(self, outage: Outage) -> None:
        assert outage.excess_after == []

    def test_the_guard_recovers(self, outage: Outage) -> None:
        assert outage.recovered.status == 403, outage.recovered
        assert outage.recovery < chaos_cloud.RECOVERY

    def test_no_redirect_is_followed(self, outage: Outage) -> None:
        assert outage.redirected == 0
