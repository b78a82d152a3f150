# SPDX-License-Identifier: Apache-2.0

"""When the circuit breaker opens and closes."""

from __future__ import annotations

import logging

import pytest

from attachguard.nova import circuit_breaker


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def changes() -> list[bool]:
    return []


@pytest.fixture
def nova(clock: Clock, changes: list[bool]) -> circuit_breaker.CircuitBreaker:
    return circuit_breaker.CircuitBreaker(
        'Nova', 3, 5, 10, changes.append, clock
    )


def fail(
    nova: circuit_breaker.CircuitBreaker, clock: Clock, after: float = 0.1
) -> None:
    started = clock()
    clock.now += after
    nova.failed(started, 'ConnectFailure')


def test_failures_in_a_row_open_it(
    nova: circuit_breaker.CircuitBreaker, clock: Clock, changes: list[bool]
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
    assert nova.failure == 'ConnectFailure'
    assert changes == [True]


def test_a_response_in_between_resets_the_count(
    nova: circuit_breaker.CircuitBreaker, clock: Clock
) -> None:
    for _ in range(5):
        fail(nova, clock)
        fail(nova, clock)
        nova.succeeded()
    assert nova.permits()


def test_a_single_timeout_opens_it(
    nova: circuit_breaker.CircuitBreaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    assert not nova.permits()


def test_a_timeout_while_others_got_responses_is_one_failure(
    nova: circuit_breaker.CircuitBreaker, clock: Clock
) -> None:
    started = clock()
    clock.now += 5
    nova.succeeded()
    clock.now += 5
    nova.failed(started, 'no response')
    assert nova.permits()


def test_an_open_one_permits_one_query_at_a_time(
    nova: circuit_breaker.CircuitBreaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    clock.now += 4.9
    assert not nova.permits()
    clock.now += 0.1
    assert nova.permits()
    # No other, until the timeout of that one.
    clock.now += 9.9
    assert not nova.permits()


def test_a_failed_query_leaves_it_open(
    nova: circuit_breaker.CircuitBreaker, clock: Clock, changes: list[bool]
) -> None:
    fail(nova, clock, after=10)
    for _ in range(3):
        clock.now += 5
        assert nova.permits()
        fail(nova, clock)
        assert not nova.permits()
    assert changes == [True]


def test_a_query_that_never_ends_does_not_block_the_next(
    nova: circuit_breaker.CircuitBreaker, clock: Clock
) -> None:
    fail(nova, clock, after=10)
    clock.now += 5
    assert nova.permits()
    clock.now += 10
    assert nova.permits()


def test_a_response_closes_it(
    nova: circuit_breaker.CircuitBreaker, clock: Clock, changes: list[bool]
) -> None:
    fail(nova, clock, after=10)
    clock.now += 5
    assert nova.permits()
    nova.succeeded()
    assert nova.permits()
    assert nova.open_for is None
    assert changes == [True, False]
    # The count starts anew.
    fail(nova, clock)
    fail(nova, clock)
    assert nova.permits()


def test_it_can_be_disabled(clock: Clock, changes: list[bool]) -> None:
    nova = circuit_breaker.CircuitBreaker(
        'Nova', 0, 5, 10, changes.append, clock
    )
    for _ in range(10):
        fail(nova, clock, after=10)
    assert nova.permits()
    assert changes == []


def test_each_change_is_logged_once(
    nova: circuit_breaker.CircuitBreaker,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            fail(nova, clock)
        nova.succeeded()
        nova.succeeded()
    opened, closed = caplog.messages
    assert 'Circuit breaker opened' in opened
    assert "service=Nova failure='ConnectFailure'" in opened
    assert 'Circuit breaker closed' in closed
