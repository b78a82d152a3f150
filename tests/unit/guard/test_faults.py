# SPDX-License-Identifier: Apache-2.0
"""Responses in Cinder's form."""

from __future__ import annotations

import http
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
    verdict: Verdict,
    reason: Reason,
    detail: str | None = None,
    clears: bool = False,
) -> tuple[str, dict[str, str], Any]:
    decided = decision.Decision(verdict, reason, detail=detail)
    fault = faults.response_to(decided, clears, API_HEADERS, 7)
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
            # Python 3.13 has a newer name for it.
            f'413 {http.HTTPStatus(413).phrase}',
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


@pytest.mark.parametrize('reason', faults._REFUSALS)
def test_a_refusal_names_the_call_to_make_instead(reason: Reason) -> None:
    _line, _headers, body = respond(Verdict.REFUSED, reason)
    message = body['forbidden']['message']
    assert 'openstack server add volume' in message
    assert 'os-volume_attachments' in message
    assert f'(attachguard: {reason.value})' in message


@pytest.mark.parametrize(
    ('reason', 'clears', 'code'),
    [
        (Reason.SERVER_HAS_VOLUME, True, 409),
        (Reason.SERVER_BUSY, True, 409),
        (Reason.VOLUME_BUSY, True, 409),
        (Reason.SERVER_HAS_VOLUME, False, 403),
        (Reason.NO_ATTACHMENT, True, 403),
        (Reason.POLICY, True, 403),
    ],
)
def test_a_clearing_call_conflicts_with_the_state(
    reason: Reason, clears: bool, code: int
) -> None:
    line, _headers, body = respond(Verdict.REFUSED, reason, clears=clears)
    assert line.startswith(str(code))
    assert list(body) == ['conflictingRequest' if code == 409 else 'forbidden']


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
    assert faults.response_to(decided, False, {}, 7) is response


def test_the_response_to_a_head_has_no_body() -> None:
    decided = decision.Decision(Verdict.REFUSED, Reason.POLICY)
    fault = faults.response_to(decided, False, {}, 7)
    environ = webob.Request.blank('/', method='HEAD').environ
    assert list(fault(environ, lambda *_: lambda _: None)) == []
