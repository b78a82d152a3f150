# SPDX-License-Identifier: Apache-2.0

"""When the circuit breaker opens, who finds out that it can close."""

from __future__ import annotations

from collections.abc import Callable
import logging
import threading

import pytest

from attachguard import threads
from attachguard.nova import circuit_breaker

TIMEOUT = 2.0
INTERVAL = 1.0


class Nova:
    """A service behind a circuit breaker, with a clock that a test advances.

    The background thread runs when the test calls :meth:`run`.

    :param max_failures: the circuit breaker opens after so many
    """

    def __init__(self, max_failures: int = 3) -> None:
        self.now = 1000.0
        self.changes: list[bool] = []
        self.threads: list[Callable[[], object]] = []
        self.slept: list[float] = []
        #: the results of the next probes
        self.results: list[str | None] = []
        self.breaker = circuit_breaker.CircuitBreaker(
            'Nova',
            max_failures,
            INTERVAL,
            TIMEOUT,
            self.changes.append,
            lambda: self.now,
            self.sleep,
            self.threads.append,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def fail(self, after: float = 0.1) -> None:
        started = self.now
        self.now += after
        self.breaker.failed(
            started, 'ConnectFailure', lambda: self.results.pop(0)
        )

    def run(self, *results: str | None) -> None:
        """Run the background thread, whose probes have these results."""
        self.results = list(results)
        self.threads.pop()()
        assert not self.results


@pytest.fixture
def nova() -> Nova:
    return Nova()


def test_failures_in_a_row_open_it(nova: Nova) -> None:
    for _ in range(2):
        assert nova.breaker.permits()
        nova.fail()
    assert nova.breaker.permits()
    assert nova.breaker.open_for is None
    nova.fail()
    assert not nova.breaker.permits()
    nova.now += 2
    assert nova.breaker.open_for == 2
    assert nova.breaker.failure == 'ConnectFailure'
    assert nova.changes == [True]


def test_a_response_in_between_resets_the_count(nova: Nova) -> None:
    for _ in range(5):
        nova.fail()
        nova.fail()
        nova.breaker.succeeded()
    assert nova.breaker.permits()
    assert not nova.threads


def test_a_single_timeout_opens_it(nova: Nova) -> None:
    nova.fail(after=TIMEOUT)
    assert not nova.breaker.permits()


def test_a_timeout_while_others_got_responses_is_one_failure(
    nova: Nova,
) -> None:
    started = nova.now
    nova.now += 1
    nova.breaker.succeeded()
    nova.now += 1
    nova.breaker.failed(started, 'no response', lambda: None)
    assert nova.breaker.permits()


def test_a_probe_in_the_background_closes_it(nova: Nova) -> None:
    nova.fail(after=TIMEOUT)
    nova.run('ConnectFailure', 'ConnectFailure', None)
    assert nova.slept == [INTERVAL] * 3
    assert nova.breaker.permits()
    assert nova.breaker.open_for is None
    assert nova.changes == [True, False]
    # The count starts anew.
    nova.fail()
    nova.fail()
    assert nova.breaker.permits()


def test_no_request_queries_while_the_probe_runs(nova: Nova) -> None:
    nova.fail(after=TIMEOUT)
    permitted: list[bool] = []
    probes = iter(['no response'] * 20 + [None])

    def probe() -> str | None:
        # Each takes as long as it can.
        nova.now += TIMEOUT
        permitted.append(nova.breaker.permits())
        return next(probes)

    nova.breaker.succeeded()
    started = nova.now
    nova.now += TIMEOUT
    nova.breaker.failed(started, 'no response', probe)
    nova.threads.pop()()
    assert permitted == [False] * 21


def test_a_late_probe_lets_one_request_query(
    nova: Nova, caplog: pytest.LogCaptureFixture
) -> None:
    # As in uWSGI without threads: the background thread does not run.
    nova.fail(after=TIMEOUT)
    nova.now += INTERVAL + 2 * TIMEOUT
    assert nova.breaker.permits()
    assert 'enable-threads' in caplog.text
    # No other, until it is late again.
    assert not nova.breaker.permits()
    nova.now += INTERVAL + TIMEOUT
    assert nova.breaker.permits()
    nova.breaker.succeeded()
    assert nova.breaker.permits()
    assert nova.changes == [True, False]


def test_requests_that_query_instead_of_the_probe_are_few(
    nova: Nova,
) -> None:
    nova.fail(after=TIMEOUT)
    began = nova.now
    slow = 0
    while nova.now < began + 300:
        if nova.breaker.permits():
            slow += 1
            nova.fail(after=TIMEOUT)
        nova.now += 0.1
    assert slow * TIMEOUT / 300 < 0.15
    # It is found out all the same that Nova responds.
    nova.now += 16 * INTERVAL + TIMEOUT
    assert nova.breaker.permits()


def test_a_query_from_before_the_outage_does_not_delay_the_probe(
    nova: Nova,
) -> None:
    # Of a process with several threads.
    started = nova.now
    nova.fail(after=TIMEOUT)
    nova.breaker.failed(started, 'no response', lambda: None)
    nova.run(None)
    assert nova.slept == [INTERVAL]


def test_a_probe_that_does_not_end_delays_few_requests(nova: Nova) -> None:
    # As with a Nova that sends single bytes.
    def probe() -> str | None:
        nova.now += 15
        assert not nova.breaker.permits()
        nova.now += 1
        assert nova.breaker.permits()
        nova.breaker.succeeded()
        return 'no response'

    started = nova.now
    nova.now += TIMEOUT
    nova.breaker.failed(started, 'no response', probe)
    nova.threads.pop()()
    assert nova.breaker.open_for is None


def test_the_failure_of_a_probe_is_shown_and_logged_once(
    nova: Nova, caplog: pytest.LogCaptureFixture
) -> None:
    # The timeout of a request does not show what did not respond.
    nova.fail(after=TIMEOUT)
    keystone = 'ConnectTimeout: http://keystone:5000/v3/auth/tokens'
    nova.run(*[keystone] * 3, None)
    assert nova.breaker.failure == keystone
    assert caplog.text.count(keystone) == 1


def test_a_request_that_gets_a_response_ends_the_background_thread(
    nova: Nova,
) -> None:
    nova.fail(after=TIMEOUT)
    nova.breaker.succeeded()
    nova.run()
    assert nova.changes == [True, False]


def test_it_opens_without_a_thread(
    nova: Nova, caplog: pytest.LogCaptureFixture
) -> None:
    def start(run: object) -> None:
        raise RuntimeError("can't start new thread")

    nova.breaker = circuit_breaker.CircuitBreaker(
        'Nova', 1, INTERVAL, TIMEOUT, clock=lambda: nova.now, start=start
    )
    nova.fail()
    assert "can't start new thread" in caplog.text
    assert not nova.breaker.permits()
    nova.now += INTERVAL + 2 * TIMEOUT
    assert nova.breaker.permits()


def test_a_nova_that_responds_now_and_then_is_probed_less_often(
    nova: Nova,
) -> None:
    lost = 0.0
    began = nova.now
    for _ in range(20):
        nova.fail(after=TIMEOUT)
        lost += TIMEOUT
        nova.run(None)
    assert nova.slept[:6] == [1, 2, 4, 8, 16, 16]
    # The share of the time that requests lose is bounded.
    assert lost / (nova.now - began) < 0.15
    # After some time without a failure it is as at first.
    nova.now += 10
    nova.fail(after=TIMEOUT)
    nova.run(None)
    assert nova.slept[-1] == INTERVAL


def test_it_can_be_disabled() -> None:
    nova = Nova(max_failures=0)
    for _ in range(10):
        nova.fail(after=TIMEOUT)
    assert nova.breaker.permits()
    assert nova.changes == []


def test_each_change_is_logged_once(
    nova: Nova, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            nova.fail()
        nova.breaker.succeeded()
        nova.breaker.succeeded()
    opened, closed = caplog.messages
    assert 'Circuit breaker opened' in opened
    assert "service=Nova failure='ConnectFailure'" in opened
    assert 'Circuit breaker closed' in closed


def test_the_background_thread_ends_with_the_process() -> None:
    found: list[bool] = []
    done = threading.Event()

    def run() -> None:
        found.append(threading.current_thread().daemon)
        done.set()

    threads.start(run)
    assert done.wait(10)
    assert found == [True]
