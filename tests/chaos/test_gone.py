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
"""Callers who go away in the middle, and tokens that end there."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import datetime
import socket
import struct
import time

import pytest

from tests.chaos import episodes
from tests.chaos import faults
from tests.chaos import scene as scenes
from tests.chaos import usage

_DECISION = 'attachguard decision'


@pytest.fixture(scope='module', params=['threads', 'eventlet'])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[episodes.Stage]:
    directory = tmp_path_factory.mktemp('cinder')
    with scenes.staged(directory, request.param) as scene:
        yield episodes.Stage.of(scene)
    assert 'attachguard failed to decide' not in scene.log


@pytest.mark.parametrize('resets', [False, True], ids=['closes', 'resets'])
def test_a_caller_who_goes_leaves_nothing_behind(
    stage: episodes.Stage, resets: bool
) -> None:
    scene = stage.scene
    attached = scene.attached()
    request = scene.member.raw_attach(*attached)
    asked = scene.nova.requests
    decided = scene.log.count(_DECISION) + 3 * scenes.CONCURRENCY
    scene.nova.begin(faults.ALL['hangs-before-answering'])
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(3 * scenes.CONCURRENCY):
                caller = stack.enter_context(
                    socket.create_connection(
                        ('127.0.0.1', scene.cinder.port), 10
                    )
                )
                if resets:
                    caller.setsockopt(
                        socket.SOL_SOCKET,
                        socket.SO_LINGER,
                        struct.pack('ii', 1, 0),
                    )
                caller.sendall(request)
            give_up = time.monotonic() + 20
            while scene.nova.requests == asked:
                assert time.monotonic() < give_up
                time.sleep(0.02)
        # Servers learn late, or never, that a caller has gone.
        while scene.log.count(_DECISION) < decided:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        left = scene.nova.wait_until_left(scenes.MARGIN)
    finally:
        scene.nova.cure()
    recovered, recovery = episodes.recover(stage)
    limit = stage.calm.plus(1, 4, 60.0)
    after = usage.settled(scene.pid, limit, 10.0)

    assert left == 0
    assert recovered.status == 202
    assert recovery < episodes.RECOVERY
    # Nobody attaches for a caller who was given no answer.
    assert scene.show(attached[0])['status'] == 'available'
    assert after.threads <= limit.threads
    assert after.sockets <= limit.sockets


def test_a_token_that_ends_between_two_checks_is_decided(
    stage: episodes.Stage,
) -> None:
    scene = stage.scene
    caller = scenes.Caller(scene)
    # Cinder has seen it and goes on to believe it. So does Nova, for Cinder's
    # own service token is beside it.
    assert caller.send('GET', f'/volumes/{stage.volume_id}').status == 200
    scene.stubs.keystone.expire(caller.token)
    answer = caller.attach(stage.volume_id)
    assert (answer.status, answer.reason) == (403, 'server-lacks-volume')


def test_a_revoked_token_is_trouble_for_nobody_else(
    stage: episodes.Stage,
) -> None:
    scene = stage.scene
    caller = scenes.Caller(scene)
    assert caller.send('GET', f'/volumes/{stage.volume_id}').status == 200
    scene.stubs.keystone.revoke(caller.token)
    for _ in range(20):
        answer = caller.attach(stage.volume_id)
        assert (answer.status, answer.reason) == (503, 'nova-unknown')
        # It is not Nova that fails, so the circuit stays closed.
        assert scene.member.attach(stage.volume_id).status == 403


def test_a_token_about_to_end_is_as_good_as_any(
    stage: episodes.Stage,
) -> None:
    scene = stage.scene
    lifetime = scene.stubs.keystone.token_lifetime
    scene.stubs.keystone.token_lifetime = datetime.timedelta(seconds=3)
    try:
        caller = scenes.Caller(scene)
    finally:
        scene.stubs.keystone.token_lifetime = lifetime
    statuses = []
    end = time.monotonic() + 4
    while time.monotonic() < end:
        statuses.append(caller.attach(stage.volume_id).status)
        time.sleep(0.05)
    # Decided as long as Cinder knows who calls, and then it is Cinder's 401.
    assert set(statuses) == {403, 401}
    assert sorted(statuses, reverse=True) == statuses
