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
"""Two hundred callers wait for a Nova that hangs, and nobody else notices.

The circuit breaker is off: it would end the crowd's waiting, and what holds
where it has not opened is what this is about.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import random
import threading
import time

import pytest

from tests.chaos import faults
from tests.chaos import scene as scenes
from tests.chaos import usage

_CALLERS = 200
# How often each of them tries, in seconds: as Retry-After says, or less where
# this machine could not take it.
_PERIOD = 5.0
_BUSY = 0.3
_LASTS = 3.0
# Of how much slower the slowest hundredth of the others may be than without
# trouble. Who waits for Nova waits a hundred times as long.
_NOISE = 5.0
_SERVER = '00000000-0000-4000-8000-000000000000'


@pytest.fixture(scope='module', params=['threads', 'eventlet'])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[scenes.Scene]:
    directory = tmp_path_factory.mktemp('cinder')
    with scenes.staged(
        directory, request.param, nova_breaker_failures=0
    ) as scene:
        yield scene
    assert not scene.tracebacks


@contextlib.contextmanager
def crowd(
    scene: scenes.Scene, volume_id: str, server_id: str | None, period: float
) -> Iterator[list[scenes.Answer]]:
    """Have two hundred callers try again and again, while the context is open.

    :param server_id: which all of them claim; None: each another one
    :param period: seconds between two calls of the same
    :returns: what they are answered
    """
    answers: list[scenes.Answer] = []
    over = threading.Event()

    def call(number: int) -> None:
        # Spread evenly, so that it is not the processor that they wait for.
        over.wait(period * number / _CALLERS)
        while not over.is_set():
            answer = scene.member.attach(volume_id, server_id)
            answers.append(answer)
            over.wait(period * random.uniform(0.8, 1.2))

    threads = [
        threading.Thread(target=call, args=(number,), daemon=True)
        for number in range(_CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def p99(answers: list[scenes.Answer]) -> float:
    """What all but the slowest hundredth took less than, in seconds."""
    ordered = sorted(answer.seconds for answer in answers)
    return ordered[int(0.99 * (len(ordered) - 1))]


class _Run:
    """What came of some seconds of the crowd and the others."""

    def __init__(
        self,
        scene: scenes.Scene,
        volume_id: str,
        server_id: str | None,
        period: float,
    ) -> None:
        others = scenes.Others(scene, pause=0.02)
        with (
            usage.Watch(scene.pid) as watch,
            crowd(scene, volume_id, server_id, period) as self.crowd,
            others.about(),
        ):
            threading.Event().wait(_LASTS)
        self.most = watch.most
        self.failed = others.failed
        self.passed = p99(others.passed)
        self.served = p99(others.served)
        # Else that says nothing.
        assert len(others.passed) >= 20
        assert len(others.served) >= 20


@pytest.mark.parametrize(
    ('fault', 'server_id'),
    [
        pytest.param('hangs-before-answering', None, id='hangs'),
        pytest.param('drips-headers', None, id='drips'),
        # As one question, they are as many callers who wait.
        pytest.param('hangs-before-answering', _SERVER, id='one-question'),
    ],
)
def test_a_crowd_that_waits_disturbs_nobody(
    scene: scenes.Scene, fault: str, server_id: str | None
) -> None:
    volume_id = scene.volume()
    scene.warm_up(volume_id)
    start = time.monotonic()
    for _ in range(20):
        assert scene.member.attach(volume_id).status == 403
    each = (time.monotonic() - start) / 20
    period = max(_PERIOD, _CALLERS * each / _BUSY)

    before = _Run(scene, volume_id, server_id, period)
    scene.nova.begin(faults.ALL[fault])
    try:
        trouble = _Run(scene, volume_id, server_id, period)
        left = scene.nova.wait_until_left(scenes.MARGIN)
    finally:
        scene.nova.cure()
    after = _Run(scene, volume_id, server_id, period)

    assert {answer.status for answer in trouble.crowd} == {503}
    slowest = max(answer.seconds for answer in trouble.crowd)
    assert slowest < scenes.NOVA_TIMEOUT + scenes.MARGIN
    # Some waited for Nova, or this shows nothing.
    assert slowest > 0.9 * scenes.NOVA_TIMEOUT

    for run in before, trouble, after:
        assert not run.failed
    assert trouble.passed < _NOISE * max(before.passed, after.passed)
    assert trouble.served < _NOISE * max(before.served, after.served)

    assert left == 0
    limit = before.most.plus(4, 8 * scenes.CONCURRENCY, 100.0)
    assert trouble.most.threads <= limit.threads
    assert trouble.most.sockets <= limit.sockets
    assert trouble.most.megabytes <= limit.megabytes

    # Nova is back, and so are its answers.
    assert {answer.status for answer in after.crowd} == {403}


def test_all_at_once_each_is_answered_in_time(scene: scenes.Scene) -> None:
    volume_id = scene.volume()
    scene.warm_up(volume_id)

    def call(_number: int) -> scenes.Answer:
        return scene.member.attach(volume_id)

    calm = scenes.at_once(_CALLERS, call)
    scene.nova.begin(faults.ALL['hangs-before-answering'])
    try:
        answers = scenes.at_once(_CALLERS, call)
    finally:
        scene.nova.cure()
    assert {answer.status for answer in calm} <= {403, 503}
    assert {answer.status for answer in answers} == {503}
    # What it takes this machine to take as many calls at all.
    work = max(answer.seconds for answer in calm)
    slowest = max(answer.seconds for answer in answers)
    assert slowest < scenes.NOVA_TIMEOUT + scenes.MARGIN + 2 * work


def test_no_more_wait_for_nova_than_may(scene: scenes.Scene) -> None:
    volume_id = scene.volume()
    scene.nova.begin(faults.ALL['hangs-before-answering'])
    try:
        answers = scenes.at_once(
            3 * scenes.CONCURRENCY, lambda _n: scene.member.attach(volume_id)
        )
    finally:
        scene.nova.cure()
    waited = [
        answer
        for answer in answers
        if answer.seconds > 0.9 * scenes.NOVA_TIMEOUT
    ]
    assert {answer.status for answer in answers} == {503}
    assert len(waited) <= 2 * scenes.CONCURRENCY
    assert 'nova_max_concurrency' in scene.log
