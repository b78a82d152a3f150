# SPDX-License-Identifier: Apache-2.0

"""A backend for oslo.middleware's healthcheck: is the guard loaded?

For ``/healthcheck`` of the process that the guard is in, as an application in
the same paste file::

    [app:healthcheckapp]
    paste.app_factory = oslo_middleware:Healthcheck.app_factory
    backends = disable_by_file, attachguard
    # attachguard_fail_without_nova = true

While Nova does not respond, or does not show every server, the process still
serves nearly every request: a load balancer that removed it would turn a
defect of Nova into one of Cinder.  So these are only in the text.  A check
that no load balancer uses can fail while Nova does not respond: it sets
``attachguard_fail_without_nova = true``.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any
import weakref

from oslo_middleware.healthcheck import pluginbase
from oslo_utils import strutils

from attachguard import wsgi_server
from attachguard.nova import client as nova_client

#: the Nova clients of the guards in this process, and whether each enforces
WATCHED: weakref.WeakKeyDictionary[nova_client.Nova, bool] = (
    weakref.WeakKeyDictionary()
)

_UNSEEN = {
    nova_client.Visibility.CALLER: 'Nova is queried as the caller',
    nova_client.Visibility.SOME_PROJECTS: 'Nova does not show every server',
}


def watch(nova: nova_client.Nova, enforce: bool) -> None:
    """Include a guard in the health of this process.

    :param nova: its client; only a weak reference to it is kept
    :param enforce: whether it refuses requests, or only logs
    """
    WATCHED[nova] = enforce


class Healthcheck(pluginbase.HealthcheckBaseExtension):
    """Reports whether this process has a guard, its mode, and what it sees.

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
        guards = list(WATCHED.items())
        if not guards:
            return pluginbase.HealthcheckResult(
                available=False,
                reason='attachguard: not loaded',
                details='No pipeline of this process has the filter.',
            )
        server = wsgi_server.detect()
        problems: list[str] = []
        details: list[dict[str, Any]] = []
        available = True
        for nova, enforce in guards:
            open_for = nova.breaker.open_for
            details.append(_details(nova, enforce, server))
            if open_for is not None:
                available = not fails
                problems.append(
                    f'Nova does not respond since {open_for:.0f} s'
                )
            if nova.visibility in _UNSEEN:
                problems.append(_UNSEEN[nova.visibility])
            if not enforce:
                problems.append('shadow mode, nothing is refused')
            if server is not None and not server.runs_threads:
                problems.append('the server runs no background threads')
        return pluginbase.HealthcheckResult(
            available=available,
            reason=f'attachguard: {"; ".join(problems) or "OK"}',
            details=json.dumps(details),
        )


def _details(
    nova: nova_client.Nova, enforce: bool, server: wsgi_server.Server | None
) -> dict[str, Any]:
    """What ``attachguard preflight --url`` reads."""
    responds = nova.breaker.open_for is None
    return {
        'enforce': enforce,
        'nova_visibility': nova.visibility.value,
        'nova_responds': responds,
        'nova_failure': '' if responds else nova.breaker.failure,
        'nova_max_concurrency': nova.max_concurrency,
        'server': None if server is None else dataclasses.asdict(server),
    }
