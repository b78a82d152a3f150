# SPDX-License-Identifier: Apache-2.0

"""The stub of Nova responds like Nova: status, headers, keys and types."""

from __future__ import annotations

from collections.abc import Callable
import typing

import pytest

from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs represent one release.
pytestmark = pytest.mark.newest

#: The microversions that change the responses to the requests below.
_VERSIONS = (
    '2.3 2.9 2.16 2.19 2.26 2.47 2.55 2.61 2.63 2.70 2.71 2.73 2.75 2.79 2.88 '
    '2.90 2.96 2.100 2.101 2.102'
).split()

#: The paths of which the response depends on the microversion.
_VIEWS = (
    '/servers',
    '/servers/detail',
    '/servers/{server}',
    '/servers/{new_server}',
    '/servers/{server}/os-volume_attachments',
    '/servers/{server}/os-volume_attachments/{volume}',
    '/servers/{server}/os-volume_attachments/{old_volume}',
    '/flavors',
    '/flavors/1',
)

_PATHS = (
    *_VIEWS,
    '/servers?limit=1',
    '/servers?all_tenants=1&limit=1',
    '/servers?marker={server}',
    '/servers?marker={nothing}',
    '/servers/detail?limit=1&all_tenants=1',
    '/servers/detail?limit=x',
    '/servers/detail?all_tenants=1&soft_deleted=true&limit=1000',
    '/servers/detail?all_tenants=1&deleted=true&uuid={dead_server}',
    '/servers/detail?all_tenants=1&deleted=true&uuid={server}',
    '/servers/detail?all_tenants=1&uuid={dead_server}',
    '/servers/{dead_server}',
    '/servers/{dead_server}/os-volume_attachments',
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


def _compare(
    pair: Pair,
    script: Callable[[compare.Client], object],
    user: str | None = 'member',
) -> compare.Outcomes:
    stub, real = compare.run(
        pair, script, lambda url: compare.Client(url, pair, user)
    )
    assert stub == real
    return stub


def _compare_reads(
    pair: Pair, user: str, version: str | None, paths: tuple[str, ...]
) -> None:
    headers = {'OpenStack-API-Version': version and f'compute {version}'}

    def script(client: compare.Client) -> None:
        for path in paths:
            url = '/v2.1' + path.format(**pair.ids)
            client.request('GET', url, headers=headers)

    _compare(pair, script, user)


@pytest.mark.parametrize(
    ('user', 'version'),
    [
        ('member', None),
        ('member', '2.89'),
        ('admin', None),
        ('admin', '2.89'),
        ('member', 'latest'),
        ('reader', 'latest'),
        ('other', 'latest'),
        ('admin', 'latest'),
        ('nova', 'latest'),
    ],
)
def test_reads(nova_pair: Pair, user: str, version: str | None) -> None:
    _compare_reads(nova_pair, user, version, _PATHS)


@pytest.mark.parametrize('version', _VERSIONS)
def test_microversions(nova_pair: Pair, version: str) -> None:
    _compare_reads(nova_pair, 'member', version, _VIEWS)


@pytest.mark.parametrize('version', ['2.3', '2.16', '2.90'])
def test_microversions_of_an_administrator(
    nova_pair: Pair, version: str
) -> None:
    _compare_reads(nova_pair, 'admin', version, ('/servers/{server}',))


@pytest.mark.parametrize('token', [None, 'invalid'])
def test_requests_without_a_valid_token(
    nova_pair: Pair, token: str | None
) -> None:
    def script(client: compare.Client) -> None:
        client.token = token
        for path in ('/', '/v2.1', '/v2.1/', '/v2.1/servers'):
            client.request('GET', path)

    _compare(nova_pair, script, None)


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
    nova_pair: Pair, headers: dict[str, str | None]
) -> None:
    path = '/v2.1/servers/{server}/os-volume_attachments/{volume}'
    path = path.format(**nova_pair.ids)
    _compare(
        nova_pair,
        lambda client: client.request('GET', path, headers=headers),
    )


_VOLUME_ID = '22222222-2222-4222-8222-222222222222'


@pytest.mark.parametrize('version', ['2.1', '2.49', '2.79'])
@pytest.mark.parametrize(
    'body',
    [
        {},
        {'volumeAttachment': None},
        {'volumeAttachment': {}},
        {'volumeAttachment': {'volumeId': 'no-uuid'}},
        {'volumeAttachment': {'volumeId': 5}},
        {'volumeAttachment': {'volumeId': _VOLUME_ID, 'device': 'nonsense'}},
        {'volumeAttachment': {'volumeId': _VOLUME_ID, 'extra': 1}},
        {'volumeAttachment': {'volumeId': _VOLUME_ID, 'tag': 'a,b'}},
        {
            'volumeAttachment': {
                'volumeId': _VOLUME_ID,
                'delete_on_termination': 'nonsense',
            }
        },
        [],
        'text',
    ],
    ids=str,
)
def test_invalid_attachments(
    nova_pair: Pair, version: str, body: typing.Any
) -> None:
    path = f'/v2.1/servers/{nova_pair.ids["server"]}/os-volume_attachments'
    headers: dict[str, str | None] = {
        'OpenStack-API-Version': f'compute {version}'
    }
    ((_label, outcome),) = _compare(
        nova_pair,
        lambda client: client.request('POST', path, body, headers=headers),
    )
    assert outcome['status'] == 400


def test_refused_writes(nova_pair: Pair) -> None:
    """The requests are refused before they change anything."""
    ids = nova_pair.ids
    body = {'volumeAttachment': {'volumeId': ids['nothing']}}
    server = {'server': {'name': 'x'}}

    def script(client: compare.Client) -> None:
        for user in ('reader', 'other'):
            client.become(user)
            path = f'/v2.1/servers/{ids["server"]}'
            attachments = f'{path}/os-volume_attachments'
            client.request('POST', attachments, body)
            client.request('DELETE', f'{attachments}/{ids["volume"]}')
            client.request('DELETE', path)
        client.become('reader')
        client.request('POST', '/v2.1/servers', server)
        client.become('member')
        client.request('POST', '/v2.1/servers', server)
        client.request('POST', '/v2.1/servers', {})
        client.request('DELETE', f'/v2.1/servers/{ids["nothing"]}')

    _compare(nova_pair, script)
