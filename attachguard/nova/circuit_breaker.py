# SPDX-License-Identifier: Apache-2.0

"""A circuit breaker: no queries to a service that does not respond.

While Nova hangs, each request would wait until its timeout, and block one of
Cinder's threads meanwhile: in most deployments the only one of its process.
So after one timeout, or several failures, no request waits for a query any
more.  A background thread probes the service, and closes the circuit breaker
when it responds again.  The thread starts when the circuit breaker opens, so
after a fork, and ends when it closes, or with the process.

Where a server does not let threads run between requests (uWSGI without
``enable-threads``), or Nova sends single bytes to the probe, the probe is
late.  Then a request is permitted to query now and then, less often each time.

A service that responds only now and then is probed less often each time, so
that the share of the time that requests lose to it is bounded.

The circuit breakers on PyPI do not fit: pybreaker 1.4 holds its lock during
the call, so that there is one at a time; circuitbreaker 2.1 has none, so that
all callers retry at once; and neither treats a query that waited for its whole
timeout as more significant than one which was refused at once.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

from oslo_log import log as logging

from attachguard import threads

LOG = logging.getLogger(__name__)

# If it opens again so soon after it has closed, the service responds only now
# and then: the time between two probes doubles, up to a limit. Both are
# multiples of the time between two probes.
_SOON = 10
_MAX_INTERVAL = 16


class CircuitBreaker:
    """Decides whether queries may be sent, from the results of the last ones.

    :param name: of the service, for the log
    :param max_failures: it opens after so many in a row; 0: never
    :param probe_seconds: between two probes while it is open
    :param timeout: of a query, in seconds
    :param on_change: called with whether it is open, each time this changes
    :param clock: seconds, monotonic
    :param sleep: waits for so many seconds
    :param start: runs something in the background
    """

    def __init__(
        self,
        name: str,
        max_failures: int,
        probe_seconds: float,
        timeout: float,
        on_change: Callable[[bool], None] = lambda is_open: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        start: Callable[[Callable[[], object]], object] = threads.start,
    ) -> None:
        self._name = name
        self._max_failures = max_failures
        self._probe_seconds = probe_seconds
        self._timeout = timeout
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._start = start
        self._lock = threading.Lock()
        self._failures = 0
        self._succeeded_at = clock()
        self._closed_at = float('-inf')
        self._opened_at: float | None = None
        # Seconds between two probes now, and when the next one is overdue.
        self._interval = probe_seconds
        self._overdue_at = 0.0
        self._failure = ''

    @property
    def open_for(self) -> float | None:
        """For how many seconds it has been open; None if it is closed."""
        opened_at = self._opened_at
        return None if opened_at is None else self._clock() - opened_at

    @property
    def failure(self) -> str:
        """The last failure, for the operator."""
        return self._failure

    def permits(self) -> bool:
        """Whether a query may be sent now.

        While it is open, only if the background probe is overdue, and then a
        single one until the next is.
        """
        if self._opened_at is None:
            return True
        with self._lock:
            now = self._clock()
            if self._opened_at is None:
                return True
            if now < self._overdue_at:
                return False
            self._overdue_at = now + self._interval + self._timeout
        LOG.warning(
            'The background probe is overdue, a request queries instead: '
            'service=%s. Let the server run threads between requests (uWSGI: '
            'enable-threads = true)',
            self._name,
        )
        return True

    def succeeded(self) -> None:
        """Note that the service has responded, whatever the response."""
        self._succeeded_at = self._clock()
        self._failures = 0
        if self._opened_at is None:
            return
        with self._lock:
            opened_at, self._opened_at = self._opened_at, None
            self._closed_at = self._succeeded_at
        if opened_at is not None:
            LOG.warning(
                'Circuit breaker closed, queries are sent again: service=%s '
                'open_seconds=%.0f',
                self._name,
                self._succeeded_at - opened_at,
            )
            self._on_change(False)

    def failed(
        self, started: float, failure: str, probe: Callable[[], str | None]
    ) -> None:
        """Note that a query has failed.

        :param started: when it was sent, by the clock
        :param failure: what went wrong, without anything secret
        :param probe: sends the query again, and returns what went wrong, or
            None if the service responds; called in the background
        """
        if not self._max_failures:
            return
        with self._lock:
            now = self._clock()
            self._failure = failure
            self._failures += 1
            # There was no response for the length of a timeout, give or take
            # the time that the request took before its query.
            silent = (
                now - started >= 0.9 * self._timeout
                and self._succeeded_at <= started
            )
            opens = self._opened_at is None and (
                silent or self._failures >= self._max_failures
            )
            if opens:
                closed_for = now - self._closed_at
                if closed_for < _SOON * self._probe_seconds:
                    self._double_interval()
                else:
                    self._interval = self._probe_seconds
                self._opened_at = now
                self._overdue_at = now + self._interval + 2 * self._timeout
            elif self._opened_at is not None and started > self._opened_at:
                # A request has queried instead of the probe, in vain.
                self._double_interval()
                self._overdue_at = now + self._interval + self._timeout
        if opens:
            LOG.warning(
                'Circuit breaker opened, requests that need a query get 503: '
                'service=%s failure=%r probe_seconds=%g',
                self._name,
                failure,
                self._interval,
            )
            self._on_change(True)
            self._probe_in_background(probe)

    def _double_interval(self) -> None:
        self._interval = min(
            2 * self._interval, _MAX_INTERVAL * self._probe_seconds
        )

    def _probe_in_background(self, probe: Callable[[], str | None]) -> None:
        opened_at = self._opened_at

        def expect(seconds: float) -> bool:
            with self._lock:
                self._overdue_at = self._clock() + seconds
                # If not, a request has found that the service responds.
                return self._opened_at == opened_at

        def probe_until_closed() -> None:
            while True:
                self._sleep(self._interval)
                # It is under way, so that threads do run here.
                if not expect(_MAX_INTERVAL * self._probe_seconds):
                    return
                failure = probe()
                if failure is None:
                    self.succeeded()
                    return
                if not expect(self._interval + 2 * self._timeout):
                    return
                self._note(failure)

        try:
            self._start(probe_until_closed)
        except RuntimeError as exc:
            LOG.warning('Background probe not started: error=%s', exc)

    def _note(self, failure: str) -> None:
        """Keep the failure of a probe, which can say more than a timeout."""
        if failure != self._failure:
            self._failure = failure
            LOG.warning(
                'The background probe fails: service=%s failure=%r',
                self._name,
                failure,
            )
