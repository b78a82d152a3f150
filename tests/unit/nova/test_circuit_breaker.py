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

"""When a service that does not answer is left alone, and when not."""

from __future__ import annotations

import logging

import pytest

from attachguard.nova import circuit_breaker


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[bool]:
    return []


@pytest.fixture
def nova(clock: Clock, told: list[bool]) -> circuit_breaker.Breaker:
    return circuit_breaker.Breaker('Nova', 3, 5, 10, told.append, clock)


def fail(
    nova: circuit_breaker.Breaker, clock: Clock, after: float = 0.1
) -> None:
    asked = clock()
    clock.now += after
    nova.failed(asked, 'ConnectFailure')


def test_some_failures_in_a_row_open_it(
    nova: circuit_breaker.Breaker, clock: Clock, told: list[bool]
) -> None:
    for _ in range(2):
        assert nova.permits()
        fail(nova, clock)
    assert nova.permits()
    assert nova.open_for is None
    fail(nova, clock)
    assert not nova.permits()
    clock.now += 2
    assert nova.open_for == 2
    assert nova.why == 'ConnectFailure'
    assert told == [True]


def test_an_answer_in_between_starts_the_count_anew(
    nova: circuit_breaker.Breaker, clock: Clock
) -> None:
    for _ in range(5):
        fail(nova, clock)
        fail(nova, clock)
        nova.answered()
    assert nova.permits()


def test_one_that_waited_in_vain_opens_it(
    nova: circuit_breaker.Breaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    assert not nova.permits()


def test_one_that_waited_in_vain_while_others_did_not_is_one(
    nova: circuit_breaker.Breaker, clock: Clock
) -> None:
    asked = clock()
    clock.now += 5
    nova.answered()
    clock.now += 5
    nova.failed(asked, 'no answer')
    assert nova.permits()


def test_after_a_while_one_tries_at_a_time(
    nova: circuit_breaker.Breaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    clock.now += 4.9
    assert not nova.permits()
    clock.now += 0.1
    assert nova.permits()
    # Nobody else, for as long as that one may take.
    clock.now += 9.9
    assert not nova.permits()


def test_one_that_tries_in_vain_leaves_it_open(
    nova: circuit_breaker.Breaker, clock: Clock, told: list[bool]
) -> None:
    fail(nova, clock, after=10)
    for _ in range(3):
        clock.now += 5
        assert nova.permits()
        fail(nova, clock)
        assert not nova.permits()
    assert told == [True]


def test_one_that_never_comes_back_is_not_waited_for(
    nova: circuit_breaker.Breaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    clock.now += 5
    assert nova.permits()
    clock.now += 10
    assert nova.permits()


def test_an_answer_closes_it(
    nova: circuit_breaker.Breaker, clock: Clock, told: list[bool]
) -> None:
    fail(nova, clock, after=10)
    clock.now += 5
    assert nova.permits()
    nova.answered()
    assert nova.permits()
    assert nova.open_for is None
    assert told == [True, False]
    # As if nothing had been.
    fail(nova, clock)
    fail(nova, clock)
    assert nova.permits()


def test_it_can_be_switched_off(clock: Clock, told: list[bool]) -> None:
    nova = circuit_breaker.Breaker('Nova', 0, 5, 10, told.append, clock)
    for _ in range(10):
        fail(nova, clock, after=10)
    assert nova.permits()
    assert told == []


def test_the_log_says_it_once_each_way(
    nova: circuit_breaker.Breaker,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            fail(nova, clock)
        nova.answered()
        nova.answered()
    opened, closed = caplog.messages
    assert 'Nova does not answer (ConnectFailure)' in opened
    assert 'Nova answers again' in closed
