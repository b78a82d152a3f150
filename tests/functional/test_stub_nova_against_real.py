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

"""The stub of Nova answers as Nova does: status, headers, keys and types."""

from __future__ import annotations

import typing

import pytest

from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs imitate one release, and are held against that one.
pytestmark = pytest.mark.newest

#: The microversions that change what is read below.
_VERSIONS = (
    '2.3',
    '2.9',
    '2.16',
    '2.19',
    '2.26',
    '2.47',
    '2.55',
    '2.61',
    '2.63',
    '2.70',
    '2.71',
    '2.73',
    '2.75',
    '2.79',
    '2.88',
    '2.90',
    '2.96',
    '2.100',
    '2.101',
    '2.102',
)

#: What looks different from one microversion to another.
_VIEWS = (
    '/servers',
    '/servers/detail',
    '/servers/{server}',
    '/servers/{server}/os-volume_attachments',
    '/servers/{server}/os-volume_attachments/{volume}',
    '/servers/{server}/os-volume_attachments/{old_volume}',
    '/flavors',
    '/flavors/1',
)

_PATHS = (
    *_VIEWS,
    '/servers?limit=1',
    '/servers?all_tenants=1',
    '/servers?marker={server}',
    '/servers?marker={nothing}',
    '/servers/detail?limit=1&all_tenants=1',
    '/servers/detail?limit=x',
    '/servers/detail?all_tenants=1&soft_deleted=true&limit=1000',
    '/os-services?binary=nova-compute',
    '/os-services?binary=nova-conductor',
    '/os-services?host=no-such',
    '/servers/detail?name=serv&status=ACTIVE',
    '/servers/{other_server}',
    '/servers/{nothing}',
    '/servers/no-uuid',
    '/servers/{other_server}/os-volume_attachments',
    '/servers/{nothing}/os-volume_attachments',
    '/servers/{server}/os-volume_attachments/{nothing}',
    '/servers/{server}/os-volume_attachments/no-uuid',
    '/servers/{other_server}/os-volume_attachments/{volume}',
    '/flavors/detail',
    '/flavors/no-such',
    '/no-such',
)


def _ask(
    url: str, token: str | None, requests: list[dict[str, typing.Any]]
) -> compare.Outcomes:
    client = compare.Client(url, token)
    for request in requests:
        client.request('GET', **request)
    return client.outcomes


def _compare(
    pair: Pair, token: str | None, requests: list[dict[str, typing.Any]]
) -> None:
    stub = _ask(pair.stub, token, requests)
    real = _ask(pair.real, token, requests)
    assert compare.differences(stub, real) == []


def _reads(
    pair: Pair, user: str, version: str | None, paths: tuple[str, ...]
) -> None:
    headers = {'OpenStack-API-Version': version and f'compute {version}'}
    _compare(
        pair,
        pair.cloud.session(user).get_token(),
        [
            {
                'path': '/v2.1' + path.format(**pair.ids),
                'label': path,
                'headers': headers,
            }
            for path in paths
        ],
    )


@pytest.mark.parametrize(
    'user', ['member', 'reader', 'other', 'admin', 'nova']
)
@pytest.mark.parametrize('version', [None, '2.89', 'latest'])
def test_reads(nova_pair: Pair, user: str, version: str | None) -> None:
    _reads(nova_pair, user, version, _PATHS)


@pytest.mark.parametrize('version', _VERSIONS)
def test_microversions(nova_pair: Pair, version: str) -> None:
    _reads(nova_pair, 'member', version, _VIEWS)


@pytest.mark.parametrize('version', ['2.3', '2.16', '2.90'])
def test_microversions_of_an_administrator(
    nova_pair: Pair, version: str
) -> None:
    _reads(nova_pair, 'admin', version, ('/servers/{server}',))


@pytest.mark.parametrize('token', [None, 'invalid'])
def test_without_a_token(nova_pair: Pair, token: str | None) -> None:
    _compare(
        nova_pair,
        token,
        [{'path': path} for path in ('/', '/v2.1', '/v2.1/', '/v2.1/servers')],
    )


@pytest.mark.parametrize(
    'headers',
    [
        {'X-OpenStack-Nova-API-Version': '2.89'},
        {'OpenStack-API-Version': 'volume 3.27'},
        {'OpenStack-API-Version': 'volume 3.27, compute 2.89'},
        {'OpenStack-API-Version': 'compute 2.0'},
        {'OpenStack-API-Version': 'compute 2.999'},
        {'OpenStack-API-Version': 'compute 3.1'},
        {'OpenStack-API-Version': 'compute 2'},
        {'OpenStack-API-Version': 'compute 2.01'},
        {'OpenStack-API-Version': 'compute nonsense'},
        {'OpenStack-API-Version': 'compute'},
        {'OpenStack-API-Version': 'nonsense'},
    ],
    ids=lambda headers: ' '.join(headers.values()),
)
def test_microversion_headers(
    nova_pair: Pair, headers: dict[str, str]
) -> None:
    token = nova_pair.cloud.session('member').get_token()
    path = '/v2.1/servers/{server}/os-volume_attachments/{volume}'
    _compare(
        nova_pair,
        token,
        [{'path': path.format(**nova_pair.ids), 'headers': headers}],
    )


@pytest.mark.parametrize('version', ['2.1', '2.49', '2.79'])
@pytest.mark.parametrize(
    'body',
    [
        {},
        {'volumeAttachment': None},
        {'volumeAttachment': {}},
        {'volumeAttachment': {'volumeId': 'no-uuid'}},
        {'volumeAttachment': {'volumeId': 5}},
        {'volumeAttachment': {'volumeId': '{nothing}', 'device': 'nonsense'}},
        {'volumeAttachment': {'volumeId': '{nothing}', 'extra': 1}},
        {'volumeAttachment': {'volumeId': '{nothing}', 'tag': 'a,b'}},
        {
            'volumeAttachment': {
                'volumeId': '{nothing}',
                'delete_on_termination': 'nonsense',
            }
        },
        [],
        'text',
    ],
    ids=str,
)
def test_bad_attachments(
    nova_pair: Pair, version: str, body: typing.Any
) -> None:
    if isinstance(body, dict) and isinstance(
        body.get('volumeAttachment'), dict
    ):
        wanted = dict(body['volumeAttachment'])
        if wanted.get('volumeId') == '{nothing}':
            wanted['volumeId'] = nova_pair.ids['nothing']
        body = {'volumeAttachment': wanted}
    token = nova_pair.cloud.session('member').get_token()
    outcomes = []
    for url in (nova_pair.stub, nova_pair.real):
        client = compare.Client(url, token)
        client.request(
            'POST',
            f'/v2.1/servers/{nova_pair.ids["server"]}/os-volume_attachments',
            body,
            headers={'OpenStack-API-Version': f'compute {version}'},
        )
        outcomes.append(client.outcomes)
    assert compare.differences(*outcomes) == []
    assert outcomes[0][0][1]['status'] == 400


def test_refused_writes(nova_pair: Pair) -> None:
    """What is refused before anything happens is refused alike."""
    ids = nova_pair.ids
    body = {'volumeAttachment': {'volumeId': ids['nothing']}}
    outcomes = []
    for url in (nova_pair.stub, nova_pair.real):
        client = compare.Client(url)
        for user in ('reader', 'other'):
            client.token = nova_pair.cloud.session(user).get_token()
            path = f'/v2.1/servers/{ids["server"]}'
            attachments = f'{path}/os-volume_attachments'
            client.request('POST', attachments, body)
            client.request('DELETE', f'{attachments}/{ids["volume"]}')
            client.request('DELETE', path)
        client.token = nova_pair.cloud.session('reader').get_token()
        client.request('POST', '/v2.1/servers', {'server': {'name': 'x'}})
        client.token = nova_pair.cloud.session('member').get_token()
        client.request('POST', '/v2.1/servers', {'server': {'name': 'x'}})
        client.request('POST', '/v2.1/servers', {})
        client.request('DELETE', f'/v2.1/servers/{ids["nothing"]}')
        outcomes.append(client.outcomes)
    assert compare.differences(*outcomes) == []
