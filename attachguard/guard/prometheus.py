# SPDX-License-Identifier: Apache-2.0
"""Metrics of the guard for Prometheus.

cinder-api has many processes, and a scrape reaches one of them.  So
prometheus_client keeps the values in files, in the directory that the
environment variable ``PROMETHEUS_MULTIPROC_DIR`` names, and ``attachguard
metrics`` serves their sums.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

from attachguard import opts

if TYPE_CHECKING:
    from attachguard.guard import decision_log

#: where prometheus_client keeps the values of all processes
VARIABLE = 'PROMETHEUS_MULTIPROC_DIR'

# Seconds. nova_timeout is 2 by default.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)

# Of the circuit breaker, where False and True index it: whether it is open.
_STATES = ('closed', 'open')


@functools.cache
def shared() -> Metrics:
    """The metrics of this process, for all guards in it.

    :raises attachguard.opts.ConfigError: if the package is missing, or the
        directory is not set
    """
    return Metrics()


def check() -> None:
    """Check that metrics can be written, and write none.

    :raises attachguard.opts.ConfigError: if the package is missing, or the
        directory is not set
    """
    if importlib.util.find_spec('prometheus_client') is None:
        raise opts.ConfigError(
            f'[{opts.GROUP}] prometheus needs the package '
            '"prometheus_client": pip install attachguard[prometheus]'
        )
    if not os.path.isdir(os.environ.get(VARIABLE, '')):
        raise opts.ConfigError(
            f'[{opts.GROUP}] prometheus needs the environment variable '
            f'{VARIABLE} of cinder-api, with a directory that is empty when '
            'it starts'
        )


class Metrics:
    """The metrics of one process.

    :raises attachguard.opts.ConfigError: if the package is missing, or the
        directory is not set
    """

    def __init__(self) -> None:
        check()
        import prometheus_client

        # Not the library's own, which other filters use.
        registry = prometheus_client.CollectorRegistry()
        self._decisions = prometheus_client.Counter(
            'attachguard_decisions',
            'Decisions about requests.',
            ('operation', 'verdict', 'reason', 'mode'),
            registry=registry,
        )
        self._seconds = prometheus_client.Histogram(
            'attachguard_decision_seconds',
            'Duration of decisions, with the queries to Cinder and Nova.',
            registry=registry,
            buckets=_BUCKETS,
        )
        self._nova = prometheus_client.Histogram(
            'attachguard_nova_seconds',
            'Duration of the queries of one request to Nova.',
            registry=registry,
            buckets=_BUCKETS,
        )
        # Not a gauge of the state: a process that has ended would keep it.
        self._breaker = prometheus_client.Counter(
            'attachguard_nova_breaker',
            'Changes of the circuit breaker of Nova.',
            ('state',),
            registry=registry,
        )
        # From the start: a counter that appears has not increased, and a
        # dashboard has no data of it.
        for state in _STATES:
            self._breaker.labels(state)

    def record(self, event: decision_log.Event) -> None:
        """Count a decision.

        :param event: the decision
        """
        self._decisions.labels(
            event.operation or 'unreadable',
            event.verdict.value,
            event.reason,
            event.mode.value,
        ).inc()
        self._seconds.observe(event.ms / 1000)
        if event.nova_queries:
            self._nova.observe(event.nova_ms / 1000)

    def breaker_changed(self, is_open: bool) -> None:
        """Count an opening or a closing of the circuit breaker of Nova.

        :param is_open: whether it is open now
        """
        self._breaker.labels(_STATES[is_open]).inc()
