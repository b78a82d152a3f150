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

"""Errors, as Cinder answers them."""

from __future__ import annotations

import http
import json
from typing import Any

import pytest
import webob

from attachguard.guard import faults


def answer(fault: faults.Fault) -> tuple[str, dict[str, str], Any]:
    response = webob.Request.blank('/').send(fault)
    return response.status, dict(response.headers), json.loads(response.body)


@pytest.mark.parametrize(
    ('status', 'name'),
    [
        (http.HTTPStatus.BAD_REQUEST, 'badRequest'),
        (http.HTTPStatus.FORBIDDEN, 'forbidden'),
        (http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 'overLimit'),
        (http.HTTPStatus.SERVICE_UNAVAILABLE, 'serviceUnavailable'),
    ],
)
def test_the_form_is_cinders(status: http.HTTPStatus, name: str) -> None:
    line, headers, body = answer(faults.Fault(status, 'code', 'Text.'))
    assert line == f'{status.value} {status.phrase}'
    assert body == {
        name: {'code': status.value, 'message': 'Text.', 'reason': 'code'}
    }
    assert headers == {
        'Content-Type': 'application/json',
        'Content-Length': headers['Content-Length'],
    }


def test_the_answer_to_a_head_has_no_body() -> None:
    fault = faults.Fault(http.HTTPStatus.FORBIDDEN, 'code', 'Text.')
    environ = webob.Request.blank('/', method='HEAD').environ
    assert list(fault(environ, lambda *_: lambda _: None)) == []


def test_the_headers_about_the_request_are_cinders() -> None:
    like = webob.Response(
        headers={
            'OpenStack-API-Version': 'volume 3.71',
            'Vary': 'OpenStack-API-Version',
            'x-compute-request-id': 'req-1',
            'X-Other': 'not of ours',
            'Content-Type': 'text/html',
        }
    )
    fault = faults.Fault(
        http.HTTPStatus.SERVICE_UNAVAILABLE, 'code', 'Text.', like, 7
    )
    _line, headers, _body = answer(fault)
    assert headers['OpenStack-API-Version'] == 'volume 3.71'
    assert headers['Vary'] == 'OpenStack-API-Version'
    assert headers['x-compute-request-id'] == 'req-1'
    assert headers['Retry-After'] == '7'
    assert headers['Content-Type'] == 'application/json'
    assert 'X-Other' not in headers
