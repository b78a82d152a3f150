# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The stub of Cinder answers as Cinder does: status, headers, keys and types.

Nothing guards either of them.
"""

from __future__ import annotations

from collections.abc import Callable
import time
import typing
import uuid

import pytest

from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs imitate one release, and are held against that one.
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
    """A client of Cinder at one microversion, for one user at a time."""

    def __init__(self, url: str, pair: Pair, version: str | None) -> None:
        super().__init__(url)
        self.version = version
        self._pair = pair
        self.become('member')

    def become(self, user: str) -> None:
        """Go on as another user."""
        self.token = self._pair.cloud.session(user).get_token()

    def ask(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        *,
        label: str | None = None,
        version: str | None = None,
    ) -> typing.Any:
        """Make a request; returns what is in its JSON."""
        wanted = version or self.version
        answer = self.request(
            method,
            f'/v3{path}',
            body,
            label=label,
            headers={
                'OpenStack-API-Version': wanted and f'volume {wanted}',
            },
        )
        if answer.content and 'json' in answer.headers['Content-Type']:
            return answer.json()
        return None

    def volume(self) -> str:
        """Make a volume and wait until it is available."""
        body = {'volume': {'size': 1, 'name': f'v-{uuid.uuid4()}'}}
        made = self.ask('POST', '/volumes', body, label='create volume')
        volume_id: str = made['volume']['id']
        end = time.monotonic() + 30
        while self.status(volume_id) == 'creating':
            assert time.monotonic() < end
            time.sleep(0.1)
        return volume_id

    def status(self, volume_id: str) -> str:
        """Look at a volume without keeping the outcome."""
        shown = self.ask('GET', f'/volumes/{volume_id}')
        del self.outcomes[-1]
        status: str = shown['volume']['status']
        return status

    def show(self, volume_id: str) -> None:
        """Look at a volume, alone and among the others, and its state."""
        shown = self.ask('GET', f'/volumes/{volume_id}', label='show volume')
        listed = self.ask(
            'GET', f'/attachments?volume_id={volume_id}', label='attachments'
        )
        assert shown['volume']['id'] == volume_id
        assert listed is not None

    def act(
        self,
        volume_id: str,
        action: str,
        arguments: typing.Any = None,
    ) -> typing.Any:
        """Make a volume action, and look at what became of the volume."""
        answer = self.ask(
            'POST',
            f'/volumes/{volume_id}/action',
            {action: arguments},
            label=f'{action} {arguments}',
        )
        self.show(volume_id)
        return answer

    def attachment(self, volume_id: str, **more: typing.Any) -> str:
        """Make an attachment."""
        body = {'attachment': {'volume_uuid': volume_id, **more}}
        made = self.ask('POST', '/attachments', body, label='attachment')
        self.show(volume_id)
        attachment_id: str = made['attachment']['id']
        return attachment_id


Script = Callable[[Client], object]


def _compare(pair: Pair, script: Script, version: str | None = '3.44') -> None:
    outcomes = []
    for url in (pair.stub, pair.real):
        client = Client(url, pair, version)
        script(client)
        outcomes.append(client.outcomes)
    assert compare.differences(*outcomes) == []


def _direct_attach(client: Client) -> None:
    volume = client.volume()
    attach = {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'}
    client.act(volume, 'os-attach', attach)
    client.act(volume, 'os-attach', attach)
    client.act(
        volume, 'os-attach', {'host_name': 'host', 'mountpoint': '/dev/vdc'}
    )
    client.ask('DELETE', f'/volumes/{volume}', label='delete')
    client.act(volume, 'os-begin_detaching')
    client.act(volume, 'os-begin_detaching')
    client.act(volume, 'os-roll_detaching')
    client.act(volume, 'os-detach', {'attachment_id': NOTHING})
    client.act(volume, 'os-detach', {})
    client.act(volume, 'os-detach', {})
    client.act(
        volume, 'os-attach', {'host_name': 'host', 'mountpoint': '/dev/vdc'}
    )
    client.act(volume, 'os-detach', {'attachment_id': None})


def _reservation(client: Client) -> None:
    volume = client.volume()
    client.act(volume, 'os-unreserve')
    client.act(volume, 'os-reserve')
    client.act(volume, 'os-reserve')
    client.act(
        volume,
        'os-initialize_connection',
        {'connector': CONNECTOR},
    )
    client.act(volume, 'os-terminate_connection', {'connector': CONNECTOR})
    client.act(volume, 'os-reserve')
    client.act(volume, 'os-unreserve')


def _attachments(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, instance_uuid=SERVER)
    path = f'/attachments/{attachment}'
    client.ask('GET', path, label='show')
    client.ask('GET', '/attachments/detail', label='details')
    client.ask(
        'POST',
        '/attachments',
        {'attachment': {'volume_uuid': volume, 'instance_uuid': NOTHING}},
        label='another',
    )
    client.ask(
        'PUT',
        path,
        {'attachment': {'connector': CONNECTOR}},
        label='update',
    )
    client.ask('GET', path, label='show')
    client.show(volume)
    client.ask('POST', f'{path}/action', {'os-complete': None}, label='done')
    client.ask('GET', path, label='show')
    client.show(volume)
    client.ask('DELETE', path, label='delete')
    client.show(volume)
    client.ask('GET', path, label='show')


def _attachment_of_nobody(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, connector=CONNECTOR)
    client.ask('GET', f'/attachments/{attachment}', label='show')
    client.ask('DELETE', f'/attachments/{attachment}', label='delete')
    client.show(volume)


def _administration(client: Client) -> None:
    volume = client.volume()
    attach = {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'}
    client.act(volume, 'os-attach', attach)
    for user in ('member', 'admin'):
        client.become(user)
        client.ask('GET', '/volumes/detail?all_tenants=1', label='details')
        for query in (
            'attach_status=attached',
            'attach_status=detached',
            'status=available&attach_status=attached',
        ):
            client.ask(
                'GET', f'/volumes/detail?all_tenants=1&{query}', label=query
            )
        client.ask('GET', '/attachments?all_tenants=1', label='attachments')
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


def _others(client: Client) -> None:
    volume = client.volume()
    attachment = client.attachment(volume, instance_uuid=SERVER)
    for user in ('reader', 'other', 'nova'):
        client.become(user)
        client.ask('GET', '/volumes', label=f'{user} lists')
        client.ask('GET', f'/volumes/{volume}', label=f'{user} shows')
        client.ask(
            'POST',
            f'/volumes/{volume}/action',
            {'os-attach': {'host_name': 'h', 'mountpoint': '/dev/vdb'}},
            label=f'{user} attaches',
        )
        for method in ('GET', 'DELETE'):
            client.ask(
                method, f'/attachments/{attachment}', label=f'{user} {method}'
            )
        client.ask(
            'POST',
            '/attachments',
            {'attachment': {'volume_uuid': volume}},
            label=f'{user} creates',
        )


@pytest.mark.parametrize(
    'script',
    [
        _direct_attach,
        _reservation,
        _attachments,
        _attachment_of_nobody,
        _administration,
        _others,
    ],
)
def test_states(cinder_pair: Pair, script: Script) -> None:
    _compare(cinder_pair, script)


@pytest.mark.parametrize(
    'version',
    [
        None,
        '3.0',
        '3.13',
        '3.21',
        '3.26',
        '3.27',
        '3.43',
        '3.45',
        '3.48',
        '3.54',
        '3.61',
        '3.63',
        '3.65',
        '3.71',
        'latest',
        '3.72',
        '2.0',
        'nonsense',
    ],
)
def test_microversions(cinder_pair: Pair, version: str | None) -> None:
    def script(client: Client) -> None:
        client.version = '3.44'
        volume = client.volume()
        attachment = client.attachment(volume, instance_uuid=SERVER)
        client.version = version
        for user in ('member', 'admin'):
            client.become(user)
            for path in (
                '',
                '/volumes',
                '/volumes?limit=1',
                '/volumes/detail?with_count=true',
                f'/volumes/{volume}',
                '/attachments',
                '/attachments/detail',
                f'/attachments/{attachment}',
            ):
                label = path.replace(volume, 'V').replace(attachment, 'A')
                client.ask('GET', path, label=label)
        client.ask(
            'POST',
            f'/attachments/{attachment}/action',
            {'os-complete': {}},
            label='complete',
        )

    _compare(cinder_pair, script)


@pytest.mark.parametrize(
    ('path', 'body'),
    [
        ('/volumes/{}/action', {}),
        ('/volumes/{}/action', []),
        ('/volumes/{}/action', [1, 2]),
        ('/volumes/{}/action', 'text'),
        ('/volumes/{}/action', 5),
        ('/volumes/{}/action', {'no-such': None}),
        ('/volumes/{}/action', {'os-reserve': None, 'os-attach': None}),
        ('/volumes/{}/action', {'os-attach': None}),
        ('/volumes/{}/action', {'os-attach': {}}),
        ('/volumes/{}/action', {'os-attach': {'mountpoint': '/dev/vdb'}}),
        (
            '/volumes/{}/action',
            {'os-attach': {'mountpoint': '', 'host_name': 'h'}},
        ),
        (
            '/volumes/{}/action',
            {'os-attach': {'mountpoint': 'm', 'instance_uuid': 'no-uuid'}},
        ),
        (
            '/volumes/{}/action',
            {'os-attach': {'mountpoint': 'm', 'instance_uuid': None}},
        ),
        (
            '/volumes/{}/action',
            {'os-attach': {'mountpoint': 'm', 'host_name': 'h', 'mode': 'x'}},
        ),
        (
            '/volumes/{}/action',
            {'os-attach': {'mountpoint': 'm', 'host_name': 'h', 'x': 1}},
        ),
        ('/volumes/{}/action', {'os-detach': None}),
        ('/volumes/{}/action', {'os-detach': {'attachment_id': 'no-uuid'}}),
        ('/volumes/{}/action', {'os-initialize_connection': {}}),
        ('/volumes/{}/action', {'os-terminate_connection': {}}),
        ('/volumes/' + NOTHING + '/action', {'os-reserve': None}),
        ('/volumes/no-uuid/action', {'os-reserve': None}),
        ('/attachments', {}),
        ('/attachments', []),
        ('/attachments', {'attachment': None}),
        ('/attachments', {'attachment': {}}),
        ('/attachments', {'attachment': {'volume_uuid': 'no-uuid'}}),
        ('/attachments', {'attachment': {'volume_uuid': NOTHING}}),
        (
            '/attachments',
            {'attachment': {'volume_uuid': NOTHING, 'mode': 'rw'}},
        ),
        (
            '/attachments',
            {'attachment': {'volume_uuid': NOTHING, 'instance_uuid': None}},
        ),
        (
            '/attachments',
            {'attachment': {'volume_uuid': NOTHING, 'connector': 'text'}},
        ),
        ('/attachments/' + NOTHING + '/action', {'os-complete': None}),
        ('/attachments/' + NOTHING + '/action', {'no-such': None}),
        ('/attachments/' + NOTHING + '/action', {}),
        ('/volumes', {}),
        ('/volumes', {'volume': {}}),
        ('/volumes', {'volume': {'size': 0}}),
        ('/volumes', {'volume': {'size': 'x'}}),
    ],
    ids=str,
)
def test_bad_bodies(cinder_pair: Pair, path: str, body: typing.Any) -> None:
    def script(client: Client) -> None:
        volume = client.volume() if '{}' in path else ''
        client.ask('POST', path.format(volume), body, label='bad')

    _compare(cinder_pair, script)


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
def test_bad_requests(
    cinder_pair: Pair,
    method: str,
    path: str,
    data: bytes,
    content_type: str | None,
) -> None:
    def script(client: Client) -> None:
        volume = client.volume() if '{}' in path else ''
        client.request(
            method,
            '/v3' + path.format(volume),
            data=data,
            label='bad',
            headers={
                'Content-Type': content_type,
                'OpenStack-API-Version': 'volume 3.44',
            },
        )

    _compare(cinder_pair, script)


@pytest.mark.parametrize('path', ['/', '/v3', '/v3/', '/v3/volumes'])
def test_without_a_token(cinder_pair: Pair, path: str) -> None:
    outcomes = []
    for url in (cinder_pair.stub, cinder_pair.real):
        client = compare.Client(url)
        client.request('GET', path)
        outcomes.append(client.outcomes)
    assert compare.differences(*outcomes) == []
