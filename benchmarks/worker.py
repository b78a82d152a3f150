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
"""A guard behind the real auth_token, for a WSGI server's workers.

``gunicorn 'benchmarks.worker:make()'``, with what :data:`NEARBY` names in the
environment.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from attachguard.testing import service
from benchmarks import guarded
from benchmarks import neighbours

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: The variable that says where Keystone and Nova are.
NEARBY = 'ATTACHGUARD_BENCHMARK_NEARBY'


def make() -> WSGIApplication:
    """The application of one worker."""
    guarded.log_like_cinder()
    nearby = neighbours.Neighbours(**json.loads(os.environ[NEARBY]))
    return service.authenticated(
        guarded.guard(**guarded.with_credentials(nearby)),
        nearby.keystone_url,
        'cinder',
        'cinder',
    )
