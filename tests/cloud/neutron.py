# SPDX-License-Identifier: Apache-2.0

"""As much of Neutron as Nova asks of it when no server has a network.

Every listing is empty and every quota unlimited.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
import re
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

_QUOTAS = re.compile(r'/v2\.0/quotas/[^/]+$')
_UNLIMITED = ('floatingip', 'network', 'port', 'security_group', 'subnet')


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer a request; nothing is ever written."""
    path = environ['PATH_INFO'].removesuffix('.json')
    body: dict[str, Any]
    if _QUOTAS.match(path):
        body = {'quota': dict.fromkeys(_UNLIMITED, -1)}
    else:
        body = {path.rpartition('/')[2].replace('-', '_'): []}
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps(body).encode()]
