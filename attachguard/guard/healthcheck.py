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

"""A backend for oslo.middleware's healthcheck: is Nova being asked?

For ``/healthcheck`` of the process that the guard is in, as an application in
the same paste file::

    [app:healthcheckapp]
    paste.app_factory = oslo_middleware:Healthcheck.app_factory
    backends = disable_by_file, attachguard
    # attachguard_fail_without_nova = true

While Nova does not answer, the process is as available as ever, for nearly
everything that is asked of it: a balancer that took it out of service would
make of Nova's outage one of Cinder.  Only a check that no balancer asks should
fail then: it says ``attachguard_fail_without_nova = true``.
"""

from __future__ import annotations

import weakref

from oslo_middleware.healthcheck import pluginbase
from oslo_utils import strutils

from attachguard.nova import circuit_breaker as breakers

_WATCHED: weakref.WeakSet[breakers.Breaker] = weakref.WeakSet()


def watch(breaker: breakers.Breaker) -> None:
    """Let a breaker count for the health of this process.

    :param breaker: it is not kept
    """
    _WATCHED.add(breaker)


class Healthcheck(pluginbase.HealthcheckBaseExtension):
    """Says whether there is a guard in this process, and asks Nova.

    An extension of oslo.middleware's healthcheck, by the name
    ``attachguard``.
    """

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        """Look.

        :param server_port: of the request, not used
        :returns: not available where no guard is in this process; where Nova
            is left alone, only if the paste file says so
        """
        fails = strutils.bool_from_string(
            self.conf.get('attachguard_fail_without_nova', False), strict=True
        )
        watched = list(_WATCHED)
        if not watched:
            return pluginbase.HealthcheckResult(
                available=False,
                reason='attachguard: not in this process',
                details='No pipeline of this process has the filter.',
            )
        for breaker in watched:
            open_for = breaker.open_for
            if open_for is not None:
                return pluginbase.HealthcheckResult(
                    available=not fails,
                    reason=f'attachguard: no Nova for {open_for:.0f} s',
                    details=breaker.why,
                )
        return pluginbase.HealthcheckResult(
            available=True, reason='attachguard: OK'
        )
