# SPDX-License-Identifier: Apache-2.0
"""A refusal must not show which servers exist in other projects."""

from __future__ import annotations

import json
from typing import Any

from oslo_config import cfg
import pytest
import webob

from attachguard.guard import middleware
from tests.unit import fakes


def refusal(nova: fakes.FakeNova, cinder: fakes.FakeCinder) -> Any:
    """What a member learns who attaches his volume to a server."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    guard = middleware.AttachGuard(cinder, conf)
    guard.nova = nova
    body = {'os-attach': {'instance_uuid': fakes.SERVER}}
    path = f'/v3/{fakes.PROJECT}/volumes/{fakes.VOLUME}/action'
    request = webob.Request(fakes.environ('POST', path, body))
    response = request.send(guard)
    return response.status, response.headerlist, json.loads(response.body)


@pytest.mark.parametrize('state', ['idle', 'busy'])
def test_a_server_looks_like_one_that_does_not_exist(state: str) -> None:
    there, nowhere = fakes.FakeNova(), fakes.FakeNova()
    nowhere.servers.clear()
    if state == 'busy':
        there.busy.add(fakes.SERVER)
    found = refusal(there, fakes.FakeCinder())
    assert found == refusal(nowhere, fakes.FakeCinder())
    assert found[0].startswith('403 ')
    fault = found[2]['forbidden']
    assert fault['reason'] == 'server-lacks-volume'
    assert fault['message'].startswith('The server does not have this volume.')


def test_the_owner_learns_that_a_server_has_his_volume() -> None:
    nova = fakes.FakeNova({(fakes.SERVER, fakes.VOLUME): fakes.ATTACHMENT})
    *_response, body = refusal(nova, fakes.FakeCinder())
    assert body['forbidden']['reason'] == 'server-has-volume'
