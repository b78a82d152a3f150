# SPDX-License-Identifier: Apache-2.0

"""The stub of Keystone responds like Keystone: status, headers, body."""

from __future__ import annotations

from collections.abc import Callable
import typing

import pytest

from attachguard.testing import stub_cloud
from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs represent one release.
pytestmark = pytest.mark.newest

_TOKENS = '/v3/auth/tokens'
_DEFAULT = {'id': 'default'}


def _password(
    name: str,
    scope: typing.Any = None,
    *,
    password: str | None = None,
    **user: typing.Any,
) -> dict[str, typing.Any]:
    user = {
        'name': name,
        'domain': _DEFAULT,
        'password': password or name,
        **user,
    }
    auth: dict[str, typing.Any] = {
        'identity': {'methods': ['password'], 'password': {'user': user}}
    }
    if scope is not None:
        auth['scope'] = scope
    return {'auth': auth}


def _project(name: str) -> dict[str, typing.Any]:
    return {'project': {'name': name, 'domain': _DEFAULT}}


def _token(
    client: compare.Client, name: str, project: str | None = None
) -> str:
    """Authenticate; the outcome is kept."""
    response = client.request(
        'POST',
        _TOKENS,
        _password(name, project and _project(project)),
    )
    return response.headers['X-Subject-Token']


@pytest.fixture(scope='module')
def pair(keystone_pair: Pair) -> Pair:
    """The pair, after the users of a stub cloud are added to the real one."""
    client = compare.Client(keystone_pair.real, keystone_pair)
    client.token = _token(client, 'admin', 'admin')

    def send(method: str, path: str, body: typing.Any = None) -> typing.Any:
        response = client.request(method, f'/v3/{path}', body)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    roles = {
        role['name']: role['id'] for role in send('GET', 'roles')['roles']
    }
    send('POST', 'projects', {'project': {'name': 'other'}})
    projects = {
        name: send('POST', 'projects', {'project': {'name': name}})
        for name in ('demo', 'service')
    }
    for name in ('member', 'reader', 'nova'):
        project, (role,) = stub_cloud.USERS[name]
        body = {'user': {'name': name, 'password': name}}
        user = send('POST', 'users', body)['user']['id']
        project_id = projects[project]['project']['id']
        path = f'projects/{project_id}/users/{user}/roles/{roles[role]}'
        send('PUT', path)
    return keystone_pair


def _compare(pair: Pair, script: Callable[[compare.Client], object]) -> None:
    stub, real = compare.run(
        pair, script, lambda url: compare.Client(url, pair)
    )
    assert stub == real


@pytest.mark.parametrize(
    'path', ['/', '/v3', '/v3/', '/no-such', '/v3/no-such']
)
def test_discovery(pair: Pair, path: str) -> None:
    _compare(pair, lambda client: client.request('GET', path))


@pytest.mark.parametrize(
    'body',
    [
        _password('member'),
        _password('member', {'unscoped': {}}),
        _password('member', 'unscoped'),
        _password('member', _project('demo')),
        _password('nova', _project('service')),
        _password('admin', _project('admin')),
        _password(
            'reader',
            {'project': {'name': 'demo', 'domain': {'name': 'Default'}}},
        ),
        _password('member', _project('other')),
        _password('member', _project('no-such')),
        _password('member', {'project': {'id': 'no-such'}}),
        _password('member', {'domain': _DEFAULT}),
        _password('member', {'system': {'all': True}}),
        _password('member', password='wrong'),
        _password('no-such'),
        _password('member', domain={'id': 'no-such'}),
        _password('member', domain={'name': 'no-such'}),
        {},
        {'auth': {}},
        {'auth': {'identity': {}}},
        {'auth': {'identity': {'methods': []}}},
        {'auth': {'identity': {'methods': ['password']}}},
        {'auth': {'identity': {'methods': ['password'], 'password': {}}}},
        {'auth': {'identity': {'methods': ['no-such'], 'no-such': {}}}},
        {'auth': {'identity': {'methods': ['token'], 'token': {'id': 'x'}}}},
        {'auth': None},
        [],
    ],
    ids=str,
)
def test_authentication(pair: Pair, body: typing.Any) -> None:
    def script(client: compare.Client) -> None:
        client.request('POST', _TOKENS, body)
        client.request('POST', f'{_TOKENS}?nocatalog', body)

    _compare(pair, script)


@pytest.mark.parametrize('data', [b'', b'{', b'\xff', b'null', b'5'])
def test_authentication_with_a_malformed_body(pair: Pair, data: bytes) -> None:
    headers: dict[str, str | None] = {'Content-Type': 'application/json'}
    _compare(
        pair,
        lambda client: client.request(
            'POST', _TOKENS, data=data, headers=headers
        ),
    )


def test_authentication_with_a_token(pair: Pair) -> None:
    def script(client: compare.Client) -> None:
        unscoped = _token(client, 'member')
        scoped = _token(client, 'member', 'demo')
        for token, project in (
            (unscoped, 'demo'),
            (unscoped, 'other'),
            (scoped, 'demo'),
        ):
            client.request(
                'POST',
                _TOKENS,
                {
                    'auth': {
                        'identity': {
                            'methods': ['token'],
                            'token': {'id': token},
                        },
                        'scope': _project(project),
                    }
                },
            )

    _compare(pair, script)


@pytest.mark.parametrize(
    ('method', 'query'),
    [('GET', ''), ('HEAD', ''), ('GET', '?nocatalog&allow_expired=1')],
)
def test_validation(pair: Pair, method: str, query: str) -> None:
    path = f'{_TOKENS}{query}'

    def script(client: compare.Client) -> None:
        subject = _token(client, 'member', 'demo')
        unscoped = _token(client, 'member')
        admin = _token(client, 'admin', 'admin')
        nova = _token(client, 'nova', 'service')
        another = _token(client, 'reader', 'demo')
        for caller in (None, 'nonsense', admin, nova, subject, another):
            client.token = caller
            for subject_id in (subject, unscoped, 'nonsense', None):
                headers = {'X-Subject-Token': subject_id}
                client.request(method, path, headers=headers)

    _compare(pair, script)


def test_revocation(pair: Pair) -> None:
    def script(client: compare.Client) -> None:
        admin = _token(client, 'admin', 'admin')
        owner = _token(client, 'member', 'demo')
        another = _token(client, 'reader', 'demo')
        for caller, method in (
            (another, 'DELETE'),
            (admin, 'GET'),
            (owner, 'DELETE'),
            (admin, 'GET'),
            (admin, 'DELETE'),
        ):
            client.token = caller
            client.request(method, _TOKENS, headers={'X-Subject-Token': owner})

    _compare(pair, script)


def test_all_projects(pair: Pair) -> None:
    def script(client: compare.Client) -> None:
        for name, project in (
            ('member', 'demo'),
            ('nova', 'service'),
            ('admin', 'admin'),
        ):
            client.token = _token(client, name, project)
            for query in ('', '?limit=1000', '?name=demo', '?name=no-such'):
                client.request('GET', f'/v3/projects{query}')
        listed = []
        path = '/v3/projects?limit=3'
        for _ in range(9):
            body = client.request('GET', path).json()
            listed += [row['id'] for row in body['projects']]
            if not body['links']['next']:
                break
            path = f'/v3/projects?limit=3&marker={listed[-1]}'
            assert body['links']['next'].endswith(f'marker={listed[-1]}')
        client.outcomes.append(('listed', {'number': len(listed)}))
        assert sorted(set(listed)) == listed
        for path in ('?limit=1&marker=no-such', '/no-such'):
            client.request('GET', f'/v3/projects{path}')
        client.token = None
        client.request('GET', '/v3/projects')

    _compare(pair, script)


def test_the_404_of_a_project_names_it(pair: Pair) -> None:
    """By that, the audit knows that it is deleted."""
    project_id = '0123456789abcdef0123456789abcdef'

    def script(client: compare.Client) -> None:
        client.token = _token(client, 'admin', 'admin')
        found = client.request('GET', f'/v3/projects/{project_id}')
        error = found.json()['error']
        assert (found.status_code, error['code']) == (404, 404)
        assert project_id in error['message']

    _compare(pair, script)


def test_own_catalog_and_projects(pair: Pair) -> None:
    def script(client: compare.Client) -> None:
        for name, project in (('member', 'demo'), ('admin', 'admin')):
            client.token = _token(client, name, project)
            client.request('GET', '/v3/auth/catalog')
            own_projects = client.request('GET', '/v3/auth/projects').json()
            (own,) = (p['id'] for p in own_projects['projects'])
            for project_id in (own, 'no-such'):
                client.request('GET', f'/v3/projects/{project_id}')
            client.request('GET', '/v3/projects')
        client.token = None
        client.request('GET', '/v3/projects')
        client.request('GET', '/v3/auth/catalog')
        client.request('GET', '/v3/auth/projects')

    _compare(pair, script)
