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
