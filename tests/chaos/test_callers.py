# SPDX-License-Identifier: Apache-2.0
"""Callers who go away while they wait, and callers whose tokens end."""

import contextlib
import datetime
import http.client
import json
import socket
import struct
import time
import uuid

import pytest

from tests.chaos import chaos_cloud
from tests.outage import faults
from tests.outage.guarded_cloud import Caller

_DECISION = 'attachguard decision'
_CALLERS = 3 * chaos_cloud.CONCURRENCY


@pytest.mark.parametrize('reset', [False, True], ids=['closes', 'resets'])
def test_a_caller_who_goes_away_leaves_nothing_behind(
    cloud: chaos_cloud.Cloud, reset: bool
) -> None:
    volume_id = cloud.create_volume()
    body = {'instance_uuid': str(uuid.uuid4()), 'mountpoint': '/dev/vdb'}
    request = (
        'POST',
        f'{cloud.member.path}/volumes/{volume_id}/action',
        json.dumps({'os-attach': body}),
        cloud.member.headers,
    )
    before = cloud.nova.requests
    decisions = cloud.log.count(_DECISION) + _CALLERS
    give_up = time.monotonic() + 20
    with cloud.nova.failing(faults.ALL['hangs-before-responding']):
        with contextlib.ExitStack() as stack:
            for _ in range(_CALLERS):
                caller = http.client.HTTPConnection(
                    '127.0.0.1', cloud.cinder.port
                )
                stack.callback(caller.close)
                caller.request(*request)
                if reset:
                    caller.sock.setsockopt(
                        socket.SOL_SOCKET,
                        socket.SO_LINGER,
                        struct.pack('ii', 1, 0),
                    )
            while cloud.nova.requests == before:
                assert time.monotonic() < give_up
                time.sleep(0.02)
        # Servers notice late, or never, that a caller has gone away.
        while cloud.log.count(_DECISION) < decisions:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        connections = cloud.nova.wait_until_released(
            chaos_cloud.SOCKET_TIMEOUT + chaos_cloud.MARGIN
        )
    cloud.assert_recovers()
    assert connections == 0
    assert cloud.show(volume_id)['status'] == 'available'
    assert cloud.excess() == []


def _new_caller(cloud: chaos_cloud.Cloud) -> Caller:
    """A caller whose token Cinder has validated, and keeps in its cache."""
    caller = Caller(cloud)
    assert caller.send('GET', f'/volumes/{cloud.volume_id}').status == 200
    return caller


def test_an_expired_token_in_the_cache_of_cinder_gets_a_decision(
    cloud: chaos_cloud.Cloud,
) -> None:
    caller = _new_caller(cloud)
    # Nova accepts it, because Cinder sends its own service token as well.
    cloud.stubs.keystone.expire(caller.token)
    response = caller.attach(cloud.volume_id)
    assert (response.status, response.reason) == (403, 'server-lacks-volume')


def test_a_revoked_token_does_not_open_the_circuit_breaker(
    cloud: chaos_cloud.Cloud,
) -> None:
    caller = _new_caller(cloud)
    cloud.stubs.keystone.revoke(caller.token)
    for _ in range(20):
        response = caller.attach(cloud.volume_id)
        assert (response.status, response.reason) == (503, 'nova-unknown')
        assert cloud.attach().status == 403


def test_a_token_gets_decisions_until_it_expires(
    cloud: chaos_cloud.Cloud,
) -> None:
    keystone = cloud.stubs.keystone
    lifetime = keystone.token_lifetime
    keystone.token_lifetime = datetime.timedelta(seconds=2)
    try:
        caller = Caller(cloud)
    finally:
        keystone.token_lifetime = lifetime
    statuses = []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        response = caller.attach(cloud.volume_id)
        statuses.append(response.status)
        time.sleep(0.05)
    # Then Cinder responds with 401.
    assert {*statuses} == {403, 401}
    assert sorted(statuses, reverse=True) == statuses
