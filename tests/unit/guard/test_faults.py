# SPDX-License-Identifier: Apache-2.0
"""Responses in Cinder's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
import webob

from attachguard.guard import decision
from attachguard.guard import faults
from attachguard.guard.decision import Reason
from attachguard.guard.decision import Verdict

API_HEADERS = {
    'OpenStack-API-Version': 'volume 3.71',
    'Vary': 'OpenStack-API-Version',
}


def respond(
    verdict: Verdict, reason: Reason, detail: str | None = None
) -> tuple[str, dict[str, str], Any]:
    decided = decision.Decision(verdict, reason, detail=detail)
    fault = faults.response_to(decided, API_HEADERS, 7)
    response = webob.Request.blank('/').send(fault)
    return response.status, dict(response.headers), json.loads(response.body)


@pytest.mark.parametrize(
    ('verdict', 'reason', 'status', 'name'),
    [
        (
            Verdict.MALFORMED,
            Reason.MALFORMED,
            '400 Bad Request',
            'badRequest',
        ),
        (Verdict.REFUSED, Reason.POLICY, '403 Forbidden', 'forbidden'),
        (Verdict.MISSING, Reason.MISSING, '404 Not Found', 'itemNotFound'),
        (
            Verdict.MALFORMED,
            Reason.BODY_TOO_LARGE,
            '413 Request Entity Too Large',
            'overLimit',
        ),
        (
            Verdict.UNKNOWN,
            Reason.NOVA_DOWN,
            '503 Service Unavailable',
            'serviceUnavailable',
        ),
    ],
)
def test_the_form_is_cinders(
    verdict: Verdict, reason: Reason, status: str, name: str
) -> None:
    line, headers, body = respond(verdict, reason)
    assert line == status
    ((found, fault),) = body.items()
    assert found == name
    assert fault['code'] == int(status[:3])
    assert fault['reason'] == reason.value
    assert fault['message']
    assert headers.pop('Content-Length')
    retry_after = {'Retry-After': '7'} if fault['code'] == 503 else {}
    assert headers == {
        'Content-Type': 'application/json',
        **API_HEADERS,
        **retry_after,
    }


@pytest.mark.parametrize(
    'reason',
    [
        Reason.SERVER_LACKS_VOLUME,
        Reason.SERVER_HAS_VOLUME,
        Reason.OTHER_ATTACHMENT,
        Reason.ALREADY_ATTACHED,
        Reason.TOO_MANY_SERVERS,
        Reason.NO_SERVER,
        Reason.POLICY,
    ],
)
def test_a_refusal_names_the_call_to_make_instead(reason: Reason) -> None:
    _line, _headers, body = respond(Verdict.REFUSED, reason)
    message = body['forbidden']['message']
    assert 'openstack server add volume' in message
    assert 'os-volume_attachments' in message
    assert f'(attachguard: {reason.value})' in message


def test_an_operators_detail_is_not_in_an_unknown() -> None:
    _line, _headers, body = respond(
        Verdict.UNKNOWN, Reason.NOVA_UNKNOWN, 'http://internal:8774'
    )
    assert 'internal' not in str(body)


def test_a_malformed_request_gets_the_detail() -> None:
    _line, _headers, body = respond(
        Verdict.MALFORMED, Reason.MALFORMED, 'The path is not UTF-8'
    )
    assert body['badRequest']['message'] == 'The path is not UTF-8'


def test_cinders_own_response_is_returned_as_it_is() -> None:
    response = webob.Response(status=404)
    decided = decision.Decision(
        Verdict.MISSING, Reason.MISSING, response=response
    )
    assert faults.response_to(decided, {}, 7) is response


def test_the_response_to_a_head_has_no_body() -> None:
    decided = decision.Decision(Verdict.REFUSED, Reason.POLICY)
    fault = faults.response_to(decided, {}, 7)
    environ = webob.Request.blank('/', method='HEAD').environ
    assert list(fault(environ, lambda *_: lambda _: None)) == []
