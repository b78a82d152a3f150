# SPDX-License-Identifier: Apache-2.0

"""A circuit breaker: no queries to a service that does not respond.

While Nova hangs, each request would wait until its timeout, and block one of
Cinder's threads meanwhile.  So after several failures no query is sent for a
few seconds, and then a single one, which shows whether the service responds
again.

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

LOG = logging.getLogger(__name__)


class CircuitBreaker:
    """Decides whether queries may be sent, from the results of the last ones.

    :param name: of the service, for the log
    :param max_failures: it opens after so many in a row; 0: never
    :param open_seconds: no query is sent for so long while it is open
    :param timeout: of a query, in seconds
    :param on_change: called with whether it is open, each time this changes
    :param clock: seconds, monotonic
    """

    def __init__(
        self,
        name: str,
        max_failures: int,
        open_seconds: float,
        timeout: float,
        on_change: Callable[[bool], None] = lambda is_open: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._max_failures = max_failures
        self._open_seconds = open_seconds
        self._timeout = timeout
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._succeeded_at = clock()
        self._opened_at: float | None = None
        self._retry_at = 0.0
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

        While it is open, a single query is permitted now and then; until that
        one has ended, or its timeout has passed, there is no other.
        """
        if self._opened_at is None:
            return True
        with self._lock:
            now = self._clock()
            if self._opened_at is not None:
                if now < self._retry_at:
                    return False
                self._retry_at = now + self._timeout
        return True

    def succeeded(self) -> None:
        """Note that the service has responded, whatever the response."""
        self._succeeded_at = self._clock()
        self._failures = 0
        if self._opened_at is None:
            return
        with self._lock:
            opened_at, self._opened_at = self._opened_at, None
        if opened_at is not None:
            LOG.warning(
                'Circuit breaker closed, queries are sent again: service=%s '
                'open_seconds=%.0f',
                self._name,
                self._succeeded_at - opened_at,
            )
            self._on_change(False)

    def failed(self, started: float, failure: str) -> None:
        """Note that a query has failed.

        :param started: when it was sent, by the clock
        :param failure: what went wrong, without anything secret
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
                self._opened_at = now
            if self._opened_at is not None:
                self._retry_at = now + self._open_seconds
        if opens:
            LOG.warning(
                'Circuit breaker opened, requests that need a query get 503: '
                'service=%s failure=%r retry_seconds=%g',
                self._name,
                failure,
                self._open_seconds,
            )
            self._on_change(True)
