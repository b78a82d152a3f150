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

"""The stub of Keystone answers as Keystone does: status, headers, shape."""

from __future__ import annotations

from collections.abc import Callable
import typing

import pytest

from tests.functional.real import compare
from tests.functional.real.fixtures import Pair

# The stubs imitate one release, and are held against that one.
pytestmark = pytest.mark.newest

_USERS = {'member': 'member', 'reader': 'reader', 'nova': 'service'}
_DEFAULT = {'id': 'default'}


def _password(
    name: str,
    scope: typing.Any = None,
    *,
    password: str | None = None,
    **user: typing.Any,
) -> dict[str, typing.Any]:
    auth: dict[str, typing.Any] = {
        'identity': {
            'methods': ['password'],
            'password': {
                'user': {
                    'name': name,
                    'domain': _DEFAULT,
                    'password': password or name,
                    **user,
                }
            },
        }
    }
    if scope is not None:
        auth['scope'] = scope
    return {'auth': auth}


def _project(name: str) -> dict[str, typing.Any]:
    return {'project': {'name': name, 'domain': _DEFAULT}}


def _token(
    client: compare.Client, name: str, project: str | None = None
) -> str:
    """Log in; an outcome as any other."""
    answer = client.request(
        'POST',
        '/v3/auth/tokens',
        _password(name, project and _project(project)),
        label=f'log in as {name}',
    )
    return answer.headers['X-Subject-Token']


@pytest.fixture(scope='module')
def pair(keystone_pair: Pair) -> Pair:
    """The two, with the users that every stub cloud has in the real one."""
    client = compare.Client(keystone_pair.real)
    client.token = _token(client, 'admin', 'admin')

    def make(kind: str, **values: typing.Any) -> str:
        answer = client.request('POST', f'/v3/{kind}s', {kind: values})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()[kind]['id']
        return made

    roles = {
        role['name']: role['id']
        for role in client.request('GET', '/v3/roles').json()['roles']
    }
    projects = {
        name: make('project', name=name)
        for name in ('demo', 'other', 'service')
    }
    for name, role in _USERS.items():
        user = make('user', name=name, password=name)
        project = projects['service' if role == 'service' else 'demo']
        answer = client.request(
            'PUT', f'/v3/projects/{project}/users/{user}/roles/{roles[role]}'
        )
        assert answer.status_code == 204, answer.text
    return keystone_pair


Script = Callable[[compare.Client], object]


def _compare(pair: Pair, script: Script) -> None:
    outcomes = []
    for url in (pair.stub, pair.real):
        client = compare.Client(url)
        script(client)
        outcomes.append(client.outcomes)
    assert compare.differences(*outcomes) == []


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
@pytest.mark.parametrize('query', ['', '?nocatalog'])
def test_log_in(pair: Pair, body: typing.Any, query: str) -> None:
    _compare(
        pair,
        lambda client: client.request('POST', f'/v3/auth/tokens{query}', body),
    )


@pytest.mark.parametrize('data', [b'', b'{', b'\xff', b'null', b'5'])
def test_bodies_that_are_no_log_in(pair: Pair, data: bytes) -> None:
    _compare(
        pair,
        lambda client: client.request(
            'POST',
            '/v3/auth/tokens',
            data=data,
            headers={'Content-Type': 'application/json'},
        ),
    )


def test_log_in_with_a_token(pair: Pair) -> None:
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
                '/v3/auth/tokens',
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
    path = f'/v3/auth/tokens{query}'

    def script(client: compare.Client) -> None:
        subject = _token(client, 'member', 'demo')
        unscoped = _token(client, 'member')
        callers = {
            'nobody': None,
            'nonsense': 'nonsense',
            'admin': _token(client, 'admin', 'admin'),
            'service': _token(client, 'nova', 'service'),
            'itself': subject,
            'another': _token(client, 'reader', 'demo'),
        }
        for name, caller in callers.items():
            client.token = caller
            for subject_id in (subject, unscoped, 'nonsense', None):
                client.request(
                    method,
                    path,
                    label=f'{name} validates',
                    headers={'X-Subject-Token': subject_id},
                )

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
            client.request(
                method,
                '/v3/auth/tokens',
                headers={'X-Subject-Token': owner},
            )

    _compare(pair, script)


def test_who_one_is(pair: Pair) -> None:
    def script(client: compare.Client) -> None:
        for name, project in (('member', 'demo'), ('admin', 'admin')):
            client.token = _token(client, name, project)
            client.request('GET', '/v3/auth/catalog')
            mine = client.request('GET', '/v3/auth/projects').json()
            (own,) = (p['id'] for p in mine['projects'])
            for project_id in (own, 'no-such'):
                client.request(
                    'GET', f'/v3/projects/{project_id}', label='show project'
                )
        client.token = None
        client.request('GET', '/v3/auth/catalog')
        client.request('GET', '/v3/auth/projects')

    _compare(pair, script)
