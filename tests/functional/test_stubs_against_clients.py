# SPDX-License-Identifier: Apache-2.0

"""The real clients and the real keystonemiddleware work with the stubs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
import typing
import uuid

from cinderclient import exceptions as cinder_exceptions
from keystoneauth1 import exceptions as ksa_exceptions
from novaclient import exceptions as nova_exceptions
import pytest

from attachguard.testing import StubCloud

NO_SUCH_SERVER = str(uuid.uuid4())


@pytest.fixture
def cloud() -> Iterator[StubCloud]:
    with StubCloud() as cloud:
        yield cloud


def _server(cloud: StubCloud) -> typing.Any:
    nova = cloud.novaclient('member')
    return nova.servers.create('s', '', nova.flavors.list()[0])


def _volume(cloud: StubCloud) -> typing.Any:
    cinder = cloud.cinderclient('member')
    return cinder.volumes.get(cinder.volumes.create(1, name='v').id)


def test_nova_attaches_and_detaches(cloud: StubCloud) -> None:
    server, volume = _server(cloud), _volume(cloud)
    nova = cloud.novaclient('member', '2.89')
    nova.volumes.create_server_volume(server.id, volume.id)
    volume.get()
    assert volume.status == 'in-use'
    (attached,) = volume.attachments
    assert attached['server_id'] == server.id
    shown = nova.volumes.get_server_volume(server.id, volume.id)
    assert shown.attachment_id == attached['attachment_id']

    nova.volumes.delete_server_volume(server.id, volume.id)
    volume.get()
    assert (volume.status, volume.attachments) == ('available', [])
    assert nova.volumes.get_server_volumes(server.id) == []


def test_nova_sends_both_tokens_to_cinder(cloud: StubCloud) -> None:
    server, volume = _server(cloud), _volume(cloud)
    cloud.cinder_server.forget()
    nova = cloud.novaclient('member')
    nova.volumes.create_server_volume(server.id, volume.id)
    nova.volumes.delete_server_volume(server.id, volume.id)
    writes = [r for r in cloud.cinder_server.requests if r.method != 'GET']
    methods = [request.method for request in writes]
    assert methods == ['POST', 'PUT', 'POST', 'POST', 'DELETE']
    for request in writes:
        assert 'X-Auth-Token' in request.headers
        assert 'X-Service-Token' in request.headers


def test_without_a_service_token_nova_cannot_detach(cloud: StubCloud) -> None:
    """As in a real cloud, the volume stays ``detaching``."""
    cloud.nova.service_token = False
    server, volume = _server(cloud), _volume(cloud)
    nova = cloud.novaclient('member')
    nova.volumes.create_server_volume(server.id, volume.id)
    nova.volumes.delete_server_volume(server.id, volume.id)
    volume.get()
    assert volume.status == 'detaching'
    assert cloud.cinder_server.requests[-2].status == 409
    assert not any(
        'X-Service-Token' in request.headers
        for request in cloud.cinder_server.requests
    )


def test_nova_knows_the_volume_before_its_attachment(
    cloud: StubCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Nova attaches, it responds with 200, and with 404 at 2.89."""
    server, volume = _server(cloud), _volume(cloud)
    nova = {v: cloud.novaclient('member', v) for v in ('2.1', '2.89')}
    found: dict[str, bool] = {}
    create = cloud.cinder.attachment_api.create

    def query_nova_and_create(request: typing.Any) -> typing.Any:
        for version, client in nova.items():
            try:
                client.volumes.get_server_volume(server.id, volume.id)
                found[version] = True
            except nova_exceptions.NotFound:
                found[version] = False
        return create(request)

    monkeypatch.setattr(
        cloud.cinder.attachment_api, 'create', query_nova_and_create
    )
    nova['2.1'].volumes.create_server_volume(server.id, volume.id)
    assert found == {'2.1': True, '2.89': False}


def test_boot_from_volume(cloud: StubCloud) -> None:
    volume = _volume(cloud)
    nova = cloud.novaclient('member', '2.89')
    mapping = {
        'uuid': volume.id,
        'source_type': 'volume',
        'destination_type': 'volume',
        'boot_index': 0,
        'delete_on_termination': True,
    }
    server = nova.servers.create(
        's',
        '',
        nova.flavors.list()[0],
        nics='none',
        block_device_mapping_v2=[mapping],
    )
    volume.get()
    assert volume.status == 'in-use'
    with pytest.raises(nova_exceptions.BadRequest, match='root device'):
        nova.volumes.delete_server_volume(server.id, volume.id)
    nova.servers.delete(server.id)
    with pytest.raises(cinder_exceptions.NotFound):
        volume.get()


def test_cinder_accepts_a_forged_attachment(cloud: StubCloud) -> None:
    server, volume = _server(cloud), _volume(cloud)
    cinder = cloud.cinderclient('member')
    cinder.volumes.attach(volume, NO_SUCH_SERVER, '/dev/vdb')
    volume.get()
    assert volume.status == 'in-use'
    nova = cloud.novaclient('member')
    with pytest.raises(nova_exceptions.BadRequest, match='must be available'):
        nova.volumes.create_server_volume(server.id, volume.id)
    assert nova.volumes.get_server_volumes(server.id) == []
    volume.detach()
    volume.get()
    assert volume.status == 'available'


def test_cinder_protects_an_attachment_of_nova(cloud: StubCloud) -> None:
    server, volume = _server(cloud), _volume(cloud)
    nova = cloud.novaclient('member')
    nova.volumes.create_server_volume(server.id, volume.id)
    (attachment,) = cloud.cinderclient('member').attachments.list()
    with pytest.raises(cinder_exceptions.ClientException) as refused:
        cloud.cinderclient('member').attachments.delete(attachment.id)
    assert refused.value.code == 409
    cloud.nova.servers.clear()
    cloud.cinderclient('member').attachments.delete(attachment.id)


def test_a_service_in_the_same_project_gets_403(
    cloud: StubCloud,
) -> None:
    cloud.keystone.add_user('agent', 'agent', 'demo', ['service'])
    server = _server(cloud)
    token = cloud.keystone.issue_token('agent', 'demo')
    response = cloud.session('member').get(
        f'{cloud.nova_url}/servers/{server.id}',
        authenticated=False,
        headers={'X-Auth-Token': token.id},
        raise_exc=False,
    )
    assert response.status_code == 403


def test_a_client_renews_a_rejected_token(cloud: StubCloud) -> None:
    session = cloud.session('member')
    url = f'{cloud.nova_url}/servers'
    assert session.get(url).status_code == 200
    token = session.get_token()
    assert token is not None
    cloud.keystone.revoke(token)
    cloud.nova.faults.add(401)
    assert session.get(url).status_code == 200
    methods = [r.method for r in cloud.keystone_server.requests]
    # Two are tokens of the user, and one is Nova's.
    assert methods.count('POST') == 3


def test_a_service_token_extends_an_expired_token(cloud: StubCloud) -> None:
    token = cloud.keystone.issue_token('member', 'demo')
    cloud.keystone.expire(token)
    service = cloud.keystone.issue_token('nova', 'service')
    session = cloud.session('member')

    def status(**headers: str) -> int:
        return int(
            session.get(
                f'{cloud.nova_url}/servers',
                authenticated=False,
                headers={'X-Auth-Token': token.id, **headers},
                raise_exc=False,
            ).status_code
        )

    assert status() == 401
    assert status(**{'X-Service-Token': service.id}) == 200


def test_a_truncated_response(cloud: StubCloud) -> None:
    cloud.nova.faults.add(
        200, body='{"servers"', headers={'Content-Length': '1000'}
    )
    session, url = cloud.session('member'), f'{cloud.nova_url}/servers'
    if metadata.version('urllib3').startswith('1.'):
        # It does not compare the length.
        assert session.get(url).text == '{"servers"'
        return
    with pytest.raises(ksa_exceptions.ConnectionError):
        session.get(url)


def test_another_cinder_can_be_registered() -> None:
    with StubCloud(cinder=None) as cloud:
        session = cloud.session('member')
        with pytest.raises(ksa_exceptions.EndpointNotFound):
            session.get_endpoint(service_type='block-storage')
        cloud.register_cinder('http://127.0.0.1:1/v3')
        session = cloud.session('member')
        for name in ('block-storage', 'volumev3'):
            url = session.get_endpoint(service_type=name)
            assert url == 'http://127.0.0.1:1/v3'
