# SPDX-License-Identifier: Apache-2.0

"""The stub of Cinder responds like Cinder: status, headers, keys and types.

The guard is in neither pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
import time
import typing
import uuid

import pytest

from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs represent one release.
pytestmark = pytest.mark.newest

NOTHING = '00000000-0000-0000-0000-000000000000'
SERVER = '11111111-1111-4111-8111-111111111111'
CONNECTOR = {
    'host': 'compute1',
    'ip': '127.0.0.1',
    'initiator': 'iqn.1993-08.org.debian:01:compute1',
    'multipath': False,
    'os_type': 'linux',
    'platform': 'x86_64',
    'mountpoint': '/dev/vdb',
}


class Client(compare.Client):
    """A client with a microversion."""

    version: str | None = '3.44'
    #: of the last volume
    name = ''

    def send(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
    ) -> typing.Any:
        """Make a request; returns the JSON of the response."""
        version = self.version and f'volume {self.version}'
        response = self.request(
            method,
            f'/v3{path}',
            body,
            headers={'OpenStack-API-Version': version},
        )
        if response.content and 'json' in response.headers['Content-Type']:
            return response.json()
        return None

    def volume(self) -> str:
        """Create a volume and wait until it is available."""
        self.name = f'v-{uuid.uuid4()}'
        body = {'volume': {'size': 1, 'name': self.name}}
        created = self.send('POST', '/volumes', body)
        volume_id: str = created['volume']['id']
        deadline = time.monotonic() + 30
        while self.status(volume_id) == 'creating':
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return volume_id

    def status(self, volume_id: str) -> str:
        """Return the status of a volume; the outcome is not kept."""
        shown = self.send('GET', f'/volumes/{volume_id}')
        del self.outcomes[-1]
        status: str = shown['volume']['status']
        return status

    def show(self, volume_id: str) -> None:
        """Show a volume and list its attachments."""
        shown = self.send('GET', f'/volumes/{volume_id}')
        listed = self.send('GET', f'/attachments?volume_id={volume_id}')
        assert shown['volume']['id'] == volume_id
        assert listed is not None

    def act(
        self, volume_id: str, action: str, arguments: typing.Any = None
    ) -> None:
        """Make a volume action and show the volume."""
        self.send('POST', f'/volumes/{volume_id}/action', {action: arguments})
        self.show(volume_id)

    def attachment(self, volume_id: str, **more: typing.Any) -> str:
        """Create an attachment and show the volume."""
        body = {'attachment': {'volume_uuid': volume_id, **more}}
        created = self.send('POST', '/attachments', body)
        self.show(volume_id)
        attachment_id: str = created['attachment']['id']
        return attachment_id


def _compare(pair: Pair, script: Callable[[Client], object]) -> None:
    stub, real = compare.run(
        pair, script, lambda url: Client(url, pair, 'member')
    )
    assert stub == real


def _direct_attach(client: Client) -> None:
    volume = client.volume()
    to_server = {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'}
    to_host = {'host_name': 'host', 'mountpoint': '/dev/vdc'}
    for arguments in (to_server, to_server, to_host):
        client.act(volume, 'os-attach', arguments)
    client.send('DELETE', f'/volumes/{volume}')
    steps: list[tuple[str, typing.Any]] = [
        ('os-begin_detaching', None),
        ('os-begin_detaching', None),
        ('os-roll_detaching', None),
        ('os-detach', {'attachment_id': NOTHING}),
        ('os-detach', {}),
        ('os-detach', {}),
        ('os-attach', to_host),
        ('os-detach', {'attachment_id': None}),
    ]
    for action, arguments in steps:
        client.act(volume, action, arguments)


def _reservation(client: Client) -> None:
    volume = client.volume()
    for action, arguments in (
        ('os-unreserve', None),
        ('os-reserve', None),
        ('os-reserve', None),
        ('os-initialize_connection', {'connector': CONNECTOR}),
        ('os-terminate_connection', {'connector': CONNECTOR}),
        ('os-reserve', None),
        ('os-unreserve', None),
    ):
        client.act(volume, action, arguments)


def _attachments(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, instance_uuid=SERVER)
    path = f'/attachments/{attachment}'
    client.send('GET', path)
    client.send('GET', '/attachments/detail')
    client.send(
        'POST',
        '/attachments',
        {'attachment': {'volume_uuid': volume, 'instance_uuid': NOTHING}},
    )
    client.send('PUT', path, {'attachment': {'connector': CONNECTOR}})
    client.send('GET', path)
    client.show(volume)
    client.send('POST', f'{path}/action', {'os-complete': None})
    client.send('GET', path)
    client.show(volume)
    client.send('DELETE', path)
    client.show(volume)
    client.send('GET', path)


def _attachment_without_a_server(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, connector=CONNECTOR)
    client.send('GET', f'/attachments/{attachment}')
    client.send('DELETE', f'/attachments/{attachment}')
    client.show(volume)


def _administration(client: Client) -> None:
    volume = client.volume()
    attach = {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'}
    client.act(volume, 'os-attach', attach)
    for user in ('member', 'admin'):
        client.become(user)
        client.send('GET', '/volumes/detail?all_tenants=1')
        for query in (
            'attach_status=attached',
            'attach_status=detached',
            'status=available&attach_status=attached',
            'status~=use',
            'status~=use&migration_status~=ing',
            'migration_status=migrating',
        ):
            client.send('GET', f'/volumes/detail?all_tenants=1&{query}')
        client.send('GET', '/attachments?all_tenants=1')
        for arguments in (
            {},
            {'status': None},
            {'status': 'nonsense'},
            {'status': 'deleting'},
            {'attach_status': 'attaching'},
            {'status': 'ERROR'},
        ):
            client.act(volume, 'os-reset_status', arguments)
    reset = {'status': 'available', 'attach_status': 'detached'}
    client.act(volume, 'os-reset_status', reset)
    client.act(volume, 'os-reset_status', {'status': 'in-use'})
    client.act(volume, 'os-attach', attach)
    client.act(volume, 'os-force_detach', {})
    client.become('member')
    client.act(volume, 'os-force_detach', {})


def _reads_of_the_guard(client: Client) -> None:
    """The guard reads in an administrator's context, and as the caller."""
    volume = client.volume()
    attachment = client.attachment(volume, instance_uuid=SERVER)
    other = client.volume()
    client.become('admin')
    migrating = {'os-reset_status': {'migration_status': 'migrating'}}
    client.send('POST', f'/volumes/{other}/action', migrating)
    client.version = '3.27'
    for user in ('member', 'reader', 'other', 'admin'):
        client.become(user)
        for path in (
            f'/volumes/detail?id={other}',
            f'/volumes/detail?id={NOTHING}',
            f'/attachments/detail?id={attachment}',
            f'/attachments/detail?id={NOTHING}',
            f'/attachments/detail?volume_id={volume}',
            f'/attachments/detail?volume_id={other}',
            f'/attachments/detail?volume_id={volume}&marker={attachment}',
            f'/attachments/detail?volume_id={volume}&marker={NOTHING}',
            f'/backups/detail?volume_id={other}&status=creating',
        ):
            client.send('GET', f'{path}&all_tenants=1&limit=1')


def _transfers(client: Client) -> None:
    volume = client.volume()
    attached = client.volume()
    client.attachment(attached, instance_uuid=SERVER)
    for version in ('3.44', '3.55', '3.57'):
        client.version = version
        for path in ('/volume-transfers', '/os-volume-transfer'):
            for volume_id in (NOTHING, attached):
                body = {'transfer': {'volume_id': volume_id}}
                client.send('POST', path, body)
            body = {'transfer': {'volume_id': volume, 'name': 'gift'}}
            created = client.send('POST', path, body)
            client.send('POST', path, body)
            client.show(volume)
            transfer = f'{path}/{created["transfer"]["id"]}'
            client.become('other')
            client.send('DELETE', transfer)
            client.become('member')
            client.send('DELETE', transfer)
            client.show(volume)
            client.send('DELETE', transfer)


def _reimage(client: Client) -> None:
    """Up to where Cinder reads the image: there is no Glance."""
    volume = client.volume()
    for version in ('3.67', '3.68'):
        client.version = version
        for volume_id, arguments in (
            (volume, None),
            (volume, {}),
            (volume, {'image_id': 'no-uuid'}),
            (volume, {'image_id': NOTHING, 'x': 1}),
            (NOTHING, {'image_id': NOTHING}),
        ):
            path = f'/volumes/{volume_id}/action'
            client.send('POST', path, {'os-reimage': arguments})


def _other_users(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, instance_uuid=SERVER)
    for user in ('reader', 'other', 'nova'):
        client.become(user)
        client.send('GET', '/volumes')
        client.send('GET', f'/volumes/{volume}')
        client.send(
            'POST',
            f'/volumes/{volume}/action',
            {'os-attach': {'host_name': 'h', 'mountpoint': '/dev/vdb'}},
        )
        for method in ('GET', 'DELETE'):
            client.send(method, f'/attachments/{attachment}')
        client.send(
            'POST', '/attachments', {'attachment': {'volume_uuid': volume}}
        )


@pytest.mark.parametrize(
    'script',
    [
        _direct_attach,
        _reservation,
        _attachments,
        _attachment_without_a_server,
        _administration,
        _reads_of_the_guard,
        _transfers,
        _reimage,
        _other_users,
    ],
)
def test_states(cinder_pair: Pair, script: Callable[[Client], object]) -> None:
    _compare(cinder_pair, script)


_VERSIONS = (
    '3.0 3.13 3.21 3.26 3.27 3.43 3.45 3.48 3.54 3.61 3.63 3.65 3.71 latest '
    '3.72 2.0 nonsense'
).split()


# Before 3.45, Cinder takes with_count for a filter.
_WITHOUT_COUNT = (None, '3.0', '3.13', '3.21', '3.26', '3.27', '3.43')


@pytest.mark.parametrize('version', [None, *_VERSIONS])
def test_microversions(cinder_pair: Pair, version: str | None) -> None:
    def script(client: Client) -> None:
        volume = client.volume()
        attachment = client.attachment(volume, instance_uuid=SERVER)
        client.version = version
        # Not all: those of the same second can come in any order.
        listed = f'/volumes/detail?name={client.name}'
        if version not in _WITHOUT_COUNT:
            listed += '&with_count=true'
        for user in ('member', 'admin'):
            client.become(user)
            for path in (
                '',
                '/volumes',
                '/volumes?limit=1',
                listed,
                f'/volumes/{volume}',
                '/attachments',
                '/attachments/detail',
                f'/attachments/{attachment}',
            ):
                client.send('GET', path)
        client.send(
            'POST', f'/attachments/{attachment}/action', {'os-complete': {}}
        )

    _compare(cinder_pair, script)


@pytest.fixture(scope='module')
def volumes(cinder_pair: Pair) -> dict[str, str]:
    """The id of a volume in each service, which no test changes."""
    return {
        url: Client(url, cinder_pair, 'member').volume()
        for url in (cinder_pair.stub, cinder_pair.real)
    }


_INVALID_ACTIONS: list[typing.Any] = [
    {},
    [],
    [1, 2],
    'text',
    5,
    {'no-such': None},
    {'os-reserve': None, 'os-attach': None},
    {'os-attach': None},
    {'os-attach': {}},
    {'os-attach': {'mountpoint': '/dev/vdb'}},
    {'os-attach': {'mountpoint': '', 'host_name': 'h'}},
    {'os-attach': {'mountpoint': 'm', 'instance_uuid': 'no-uuid'}},
    {'os-attach': {'mountpoint': 'm', 'instance_uuid': None}},
    {'os-attach': {'mountpoint': 'm', 'host_name': 'h', 'mode': 'x'}},
    {'os-attach': {'mountpoint': 'm', 'host_name': 'h', 'x': 1}},
    {'os-detach': None},
    {'os-detach': {'attachment_id': 'no-uuid'}},
    {'os-initialize_connection': {}},
    {'os-terminate_connection': {}},
]
_INVALID_ATTACHMENTS: list[typing.Any] = [
    {},
    [],
    {'attachment': None},
    {'attachment': {}},
    {'attachment': {'volume_uuid': 'no-uuid'}},
    {'attachment': {'volume_uuid': NOTHING}},
    {'attachment': {'volume_uuid': NOTHING, 'mode': 'rw'}},
    {'attachment': {'volume_uuid': NOTHING, 'instance_uuid': None}},
    {'attachment': {'volume_uuid': NOTHING, 'connector': 'text'}},
]
_INVALID_TRANSFERS: list[typing.Any] = [
    {},
    {'transfer': None},
    {'transfer': {}},
    {'transfer': {'volume_id': 'no-uuid'}},
    {'transfer': {'volume_id': NOTHING, 'no_snapshots': True}},
]


@pytest.mark.parametrize(
    ('path', 'body'),
    [
        *(('/volumes/{}/action', body) for body in _INVALID_ACTIONS),
        *(('/attachments', body) for body in _INVALID_ATTACHMENTS),
        *(('/volume-transfers', body) for body in _INVALID_TRANSFERS),
        (f'/volumes/{NOTHING}/action', {'os-reserve': None}),
        ('/volumes/no-uuid/action', {'os-reserve': None}),
        (f'/attachments/{NOTHING}/action', {'os-complete': None}),
        (f'/attachments/{NOTHING}/action', {'no-such': None}),
        (f'/attachments/{NOTHING}/action', {}),
        ('/volumes', {}),
        ('/volumes', {'volume': {}}),
        ('/volumes', {'volume': {'size': 0}}),
        ('/volumes', {'volume': {'size': 'x'}}),
    ],
    ids=str,
)
def test_invalid_bodies(
    cinder_pair: Pair, volumes: dict[str, str], path: str, body: typing.Any
) -> None:
    _compare(
        cinder_pair,
        lambda client: client.send(
            'POST', path.format(volumes[client.url]), body
        ),
    )


@pytest.mark.parametrize(
    ('method', 'path', 'data', 'content_type'),
    [
        ('POST', '/volumes/{}/action', b'{', 'application/json'),
        ('POST', '/volumes/{}/action', b'', 'application/json'),
        ('POST', '/volumes/{}/action', b'{"os-reserve": null}', 'text/plain'),
        ('POST', '/attachments', b'{', 'application/json'),
        ('POST', '/attachments', b'', 'application/json'),
        ('POST', '/attachments', b'{}', 'text/xml'),
        ('PUT', '/attachments/' + NOTHING, b'{', 'application/json'),
        ('PUT', '/attachments/' + NOTHING, b'{}', 'application/json'),
        ('GET', '/no-such', b'', None),
        ('GET', '/abc/volumes', b'', None),
        ('GET', '/volumes?limit=x', b'', None),
        ('GET', '/volumes?limit=-1', b'', None),
        ('GET', '/volumes?marker=' + NOTHING, b'', None),
    ],
)
def test_invalid_requests(
    cinder_pair: Pair,
    volumes: dict[str, str],
    method: str,
    path: str,
    data: bytes,
    content_type: str | None,
) -> None:
    headers = {
        'Content-Type': content_type,
        'OpenStack-API-Version': 'volume 3.44',
    }
    _compare(
        cinder_pair,
        lambda client: client.request(
            method,
            '/v3' + path.format(volumes[client.url]),
            data=data,
            headers=headers,
        ),
    )


@pytest.mark.parametrize('path', ['/', '/v3', '/v3/', '/v3/volumes'])
def test_requests_without_a_token(cinder_pair: Pair, path: str) -> None:
    def script(client: Client) -> None:
        client.token = None
        client.request('GET', path)

    _compare(cinder_pair, script)
