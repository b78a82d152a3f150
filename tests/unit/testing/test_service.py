# SPDX-License-Identifier: Apache-2.0

"""The base classes of the stubs."""

from __future__ import annotations

import threading
import time
import typing

import pytest
import webob

from attachguard.testing import fault_injection
from attachguard.testing import service


class _Echo(service.Service):
    routes = (
        service.Route('GET', '/things/{id}', 'show'),
        service.Route('POST', '/things', 'create'),
    )

    def show(self, request: service.Request, id: str) -> webob.Response:
        return service.respond(200, {'id': id})

    def create(self, request: service.Request) -> webob.Response:
        schema = {'type': 'object', 'properties': {'id': {'format': 'uuid'}}}
        body = service.validate(service.json_body(request), schema)
        return service.respond(201, body)

    def error(self, status: int, message: str) -> webob.Response:
        return service.respond(status, {'error': message})


def _send(
    app: service.Service, path: str, **more: typing.Any
) -> webob.Response:
    return webob.Request.blank(path, **more).get_response(app)


@pytest.mark.parametrize(
    ('method', 'path', 'status'),
    [
        ('GET', '/things/1', 200),
        ('GET', '/things/1/', 200),
        ('GET', '/things/a/b', 404),
        ('GET', '/things', 404),
        ('DELETE', '/things/1', 404),
    ],
)
def test_routes(method: str, path: str, status: int) -> None:
    assert _send(_Echo(), path, method=method).status_int == status


@pytest.mark.parametrize(
    ('body', 'status'),
    [
        (b'{}', 201),
        (b'{"id": "00000000-0000-0000-0000-000000000000"}', 201),
        (b'{"id": "no-uuid"}', 400),
        (b'[]', 400),
        (b'{', 400),
        (b'', 400),
        (b'\xff', 400),
    ],
)
def test_bodies(body: bytes, status: int) -> None:
    response = _send(_Echo(), '/things', method='POST', body=body)
    assert response.status_int == status


def test_every_response_has_a_request_id() -> None:
    for path in ('/things/1', '/no-such'):
        response = _send(_Echo(), path)
        assert response.headers['x-openstack-request-id'].startswith('req-')


def test_a_fault_applies_to_matching_requests() -> None:
    app = _Echo()
    fault = app.faults.add(503, times=2, path='/2$', method='GET')
    statuses = [
        _send(app, path).status_int
        for path in ('/things/1', '/things/2', '/things/2', '/things/2')
    ]
    assert statuses == [200, 503, 503, 200]
    assert fault.hits == 2


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        (None, b'{"error": "A fault added by a test."}'),
        ({'a': 1}, b'{"a": 1}'),
        ('text', b'text'),
        (b'\xff', b'\xff'),
    ],
)
def test_the_body_of_a_fault(
    body: fault_injection.Body | None, expected: bytes
) -> None:
    app = _Echo()
    app.faults.add(500, body=body, headers={'Retry-After': '1'})
    response = _send(app, '/things/1')
    assert (response.status_int, response.body) == (500, expected)
    assert response.headers['Retry-After'] == '1'


def test_a_delayed_request_is_processed() -> None:
    app = _Echo()
    app.faults.add(None, delay=0.05)
    begin = time.monotonic()
    assert _send(app, '/things/1').status_int == 200
    assert time.monotonic() - begin >= 0.05


def test_clear_ends_a_running_delay() -> None:
    app = _Echo()
    app.faults.add(None, delay=60)
    threading.Timer(0.1, app.faults.clear).start()
    begin = time.monotonic()
    assert _send(app, '/things/1').status_int == 200
    assert time.monotonic() - begin < 30


def test_cleared_faults_do_not_apply() -> None:
    app = _Echo()
    app.faults.add(500, times=None)
    app.faults.clear()
    assert _send(app, '/things/1').status_int == 200


@pytest.mark.parametrize(
    ('text', 'version'),
    [
        ('2.1', (2, 1)),
        ('2.100', (2, 100)),
        ('3.0', (3, 0)),
        ('2.01', None),
        ('2', None),
        ('latest', None),
        ('2.1 ', None),
    ],
)
def test_versions(text: str, version: service.Version | None) -> None:
    assert service.parse_version(text) == version
