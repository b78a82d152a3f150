# SPDX-License-Identifier: Apache-2.0

"""A refusal does not show what the caller may not know."""

from __future__ import annotations

import pytest
import webob

from attachguard.guard import middleware
from tests.unit import fakes


@pytest.mark.parametrize('server', ['gone', 'busy', 'idle'])
def test_whether_a_server_that_the_body_names_exists(server: str) -> None:
    guard = middleware.AttachGuard(fakes.FakeCinder(), {})
    guard.nova = nova = fakes.FakeNova()
    if server == 'gone':
        nova.servers.clear()
    elif server == 'busy':
        nova.busy.add(fakes.SERVER)
    arguments = {'instance_uuid': fakes.SERVER, 'mountpoint': 'm'}
    path = f'/v3/volumes/{fakes.VOLUME}/action'
    environ = fakes.environ('POST', path, {'os-attach': arguments})
    response = webob.Request(environ).get_response(guard)
    assert response.status_int == 403
    fault = response.json['forbidden']
    assert fault['reason'] == 'server-lacks-volume'
    assert fault['message'].startswith('The server does not have this volume.')
