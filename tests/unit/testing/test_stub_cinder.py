# SPDX-License-Identifier: Apache-2.0

"""The stub of Cinder as the last application of a pipeline."""

from __future__ import annotations

import json
import typing

import pytest
import webob

from attachguard.testing import stub_cinder

PROJECT = 'a' * 32
OTHER = 'b' * 32
SERVER = '11111111-1111-4111-8111-111111111111'


@pytest.fixture
def app() -> stub_cinder.StubCinder:
    return stub_cinder.StubCinder.app_factory({}, some='option')


def _send(
    app: stub_cinder.StubCinder,
    method: str,
    path: str,
    body: typing.Any = None,
    *,
    project: str = PROJECT,
    **environ: str,
) -> webob.Response:
    request = webob.Request.blank(path, method=method)
    request.environ.update(environ)
    request.headers['X-Project-Id'] = project
    request.headers['X-Roles'] = 'member,reader'
    request.headers['OpenStack-API-Version'] = 'volume 3.44'
    if body is not None:
        request.body = json.dumps(body).encode()
        request.content_type = 'application/json'
    return request.get_response(app)


@pytest.mark.parametrize('script_name', ['', '/v3'])
@pytest.mark.parametrize('project', ['', f'/{PROJECT}'])
def test_the_prefix_can_be_in_script_name_or_path_info(
    app: stub_cinder.StubCinder, script_name: str, project: str
) -> None:
    volume = app.add_volume(PROJECT)
    path = f'{project}/volumes/{volume.id}'
    response = _send(
        app,
        'GET',
        path if script_name else f'/v3{path}',
        SCRIPT_NAME=script_name,
    )
    assert response.json['volume']['id'] == volume.id


def test_another_project_gets_404(app: stub_cinder.StubCinder) -> None:
    volume = app.add_volume(OTHER)
    attachment = app.add_attachment(volume.id)
    for path in (f'volumes/{volume.id}', f'attachments/{attachment.id}'):
        assert _send(app, 'GET', f'/v3/{path}').status_int == 404
        assert (
            _send(app, 'GET', f'/v3/{path}', project=OTHER).status_int == 200
        )
    response = _send(app, 'GET', f'/v3/{OTHER}/volumes/{volume.id}')
    assert response.status_int == 400


def test_the_status_follows_from_the_attachments(
    app: stub_cinder.StubCinder,
) -> None:
    volume = app.add_volume(PROJECT, multiattach=True)
    app.add_attachment(volume.id, attach_status='error_attaching')
    assert (volume.status, volume.attach_status) == ('available', 'detached')
    app.add_attachment(volume.id, attach_status='reserved')
    assert (volume.status, volume.attach_status) == ('reserved', 'reserved')
    attached = app.add_attachment(volume.id)
    assert (volume.status, volume.attach_status) == ('in-use', 'attached')
    _send(app, 'DELETE', f'/v3/attachments/{attached.id}')
    assert (volume.status, volume.attach_status) == ('reserved', 'reserved')


def test_the_same_server_can_reserve_again(
    app: stub_cinder.StubCinder,
) -> None:
    """A live migration does this."""
    volume = app.add_volume(PROJECT)
    app.add_attachment(volume.id, instance_uuid=SERVER)
    for server, status in ((SERVER, 200), (SERVER[::-1], 400)):
        body = {'volume_uuid': volume.id, 'instance_uuid': server}
        response = _send(app, 'POST', '/v3/attachments', {'attachment': body})
        assert response.status_int == status


def test_os_detach_needs_the_id_of_one_of_two(
    app: stub_cinder.StubCinder,
) -> None:
    volume = app.add_volume(PROJECT, multiattach=True)
    first, __ = (app.add_attachment(volume.id) for _ in range(2))
    path = f'/v3/volumes/{volume.id}/action'
    assert _send(app, 'POST', path, {'os-detach': {}}).status_int == 409
    body = {'os-detach': {'attachment_id': first.id}}
    assert _send(app, 'POST', path, body).status_int == 202
    assert first.id not in app.attachments
    assert volume.status == 'in-use'
