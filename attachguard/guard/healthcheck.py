# SPDX-License-Identifier: Apache-2.0

"""A backend for oslo.middleware's healthcheck: is the guard loaded?

For ``/healthcheck`` of the process that the guard is in, as an application in
the same paste file::

    [app:healthcheckapp]
    paste.app_factory = oslo_middleware:Healthcheck.app_factory
    backends = disable_by_file, attachguard
    # attachguard_fail_without_nova = true

While Nova does not respond, the process still serves nearly every request: a
load balancer that removed it would turn an outage of Nova into one of Cinder.
Only a check that no load balancer uses should fail then: it sets
``attachguard_fail_without_nova = true``.
"""

from __future__ import annotations

import weakref

from oslo_middleware.healthcheck import pluginbase
from oslo_utils import strutils

from attachguard.nova import circuit_breaker

#: the circuit breakers of the guards in this process
WATCHED: weakref.WeakSet[circuit_breaker.CircuitBreaker] = weakref.WeakSet()


def watch(breaker: circuit_breaker.CircuitBreaker) -> None:
    """Include a circuit breaker in the health of this process.

    :param breaker: only a weak reference to it is kept
    """
    WATCHED.add(breaker)


class Healthcheck(pluginbase.HealthcheckBaseExtension):
    """Reports whether this process has a guard, and whether Nova responds.

    An extension of oslo.middleware's healthcheck, by the name
    ``attachguard``.
    """

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """Check the guards of this process.

        :param server_port: of the request, not used
        :returns: not available if this process has no guard; while Nova does
            not respond, only if the paste file sets
            ``attachguard_fail_without_nova``
        """
        fails = strutils.bool_from_string(
            self.conf.get('attachguard_fail_without_nova', False), strict=True
        )
        watched = list(WATCHED)
        if not watched:
            return pluginbase.HealthcheckResult(
                available=False,
                reason='attachguard: not loaded',
                details='No pipeline of this process has the filter.',
            )
        for breaker in watched:
            open_for = breaker.open_for
            if open_for is not None:
                return pluginbase.HealthcheckResult(
                    available=not fails,
                    reason='attachguard: Nova does not respond since '
                    f'{open_for:.0f} s',
                    details=breaker.failure,
                )
        return pluginbase.HealthcheckResult(
            available=True, reason='attachguard: OK'
        )
