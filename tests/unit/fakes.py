# SPDX-License-Identifier: Apache-2.0

"""A small Cinder and Nova, for tests of the filter's own logic.

Those of ``tests/functional`` speak HTTP, and are compared with the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import io
import json
import re
from typing import Any
from urllib import parse

from keystoneauth1 import access
from keystoneauth1 import fixture
from keystonemiddleware.auth_token import _user_plugin

from attachguard.nova import client as nova_client

PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'
USER = '0123456789abcdef0123456789abcdef'
SERVER = '11111111-aaaa-4aaa-8aaa-111111111111'
OTHER_SERVER = '22222222-aaaa-4aaa-8aaa-222222222222'
VOLUME = 'aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa'
ATTACHMENT = 'cccccccc-1111-4111-8111-cccccccccccc'
GROUP = 'eeeeeeee-1111-4111-8111-eeeeeeeeeeee'
UNKNOWN_ID = 'dddddddd-1111-4111-8111-dddddddddddd'

#: under which Cinder shows admins the status of a volume's migration
MIGRATION = 'os-vol-mig-status-attr:migstat'

_VERSION = 'HTTP_OPENSTACK_API_VERSION'


class FakeNova:
    """A Nova with the given attachments, which records the queries.

    It is the client, and the queries of every request.

    :param has: pairs of a server and a volume, and the attachment's id
    """

    visibility = nova_client.Visibility.EVERY_PROJECT
    deadline = float('inf')

    def __init__(self, has: dict[tuple[str, str], str | None] | None = None):
        self.has = has or {}
        self.servers = {SERVER, OTHER_SERVER}
        self.down = False
        self.outage = True
        self.busy: set[str] = set()
        self.queried: list[str] = []
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """How many queries there were."""
        return len(self.queried)

    def queries(self, auth: Any, project_id: Any) -> FakeNova:
        """The queries for one request."""
        return self

    def start(self, server_id: str) -> None:
        """Start the query for a server: nothing to wait for."""

    def server(self, server_id: str) -> nova_client.Server | None:
        """Look a server up."""
        self._query(server_id)
        if server_id not in self.servers:
            return None
        return nova_client.Server(
            server_id,
            server_id in self.busy,
            frozenset(
                volume for server, volume in self.has if server == server_id
            ),
        )

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The attachment by which the server has the volume."""
        self._query(f'{server_id} {volume_id}')
        return self.has.get((server_id, volume_id))

    def sees_every_project(self) -> bool:
        """Whether it shows every server."""
        return self.visibility is nova_client.Visibility.EVERY_PROJECT

    def _query(self, query: str) -> None:
        self.queried.append(query)
        if self.down:
            raise nova_client.Unknown('down', self.outage)


class Context:
    """The context of Cinder, and what it makes of itself."""

    def elevated(self) -> str:
        """The context that sees every project."""
        return 'elevated'


class FakeCinder:
    """The reads of Cinder's API, and a record of all requests.

    :param attachments: of :data:`VOLUME`: pairs of an id and a server
    :param status: of the attachments
    :param connected: whether they are connected to a host
    """

    def __init__(
        self,
        attachments: Iterable[tuple[str, str | None]] = (),
        status: str = 'attached',
        connected: bool = True,
    ):
        self.attachments = [
            {
                'id': id_,
                'volume_id': VOLUME,
                'instance': server,
                'status': status,
                'connection_info': {'driver': 'x'} if connected else {},
            }
            for id_, server in attachments
        ]
        self.volume: dict[str, Any] = {
            'id': VOLUME,
            'os-vol-tenant-attr:tenant_id': PROJECT,
            'status': 'in-use' if self.attachments else 'available',
            MIGRATION: None,
            'created_at': '2026-01-01T00:00:00.000000',
            'updated_at': '2026-01-01T00:00:00.000000',
        }
        #: the statuses of backups of the volume
        self.backups: list[str] = []
        #: shows nothing without the elevated context but single attachments
        self.hides_volume = False
        self.calls: list[tuple[str, str, bytes]] = []
        self.fails: Callable[[str, str], int | None] = lambda *_: None

    @property
    def reads(self) -> int:
        """How many calls only read."""
        return len(self.calls) - len(self.performed)

    @property
    def performed(self) -> list[tuple[str, str, bytes]]:
        """The calls that could change something."""
        return [call for call in self.calls if call[0] != 'GET']

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        method, path = environ['REQUEST_METHOD'], environ['PATH_INFO']
        length = int(environ.get('CONTENT_LENGTH') or 0)
        body = environ['wsgi.input'].read(length)
        self.calls.append((method, path, body))
        status = self.fails(method, path)
        answer: Any = {}
        if status is None:
            asked = {**environ, 'attachguard.body': body}
            status, answer = self._answer(method, path, asked)
        start_response(
            f'{status} Whatever',
            [
                ('Content-Type', 'application/json'),
                ('OpenStack-API-Version', environ[_VERSION]),
                ('Vary', 'OpenStack-API-Version'),
            ],
        )
        # As WebOb does.
        return [] if method == 'HEAD' else [json.dumps(answer).encode()]

    def _answer(self, method: str, path: str, environ: Any) -> Any:
        message = f'{path}, {environ["attachguard.body"]} is not there'
        missing = {'itemNotFound': {'code': 404, 'message': message}}
        if method != 'GET':
            return 202, {}
        query = dict(parse.parse_qsl(environ['QUERY_STRING']))
        hidden = (
            self.hides_volume and environ.get('cinder.context') != 'elevated'
        )
        if hidden and '/volumes/' in path:
            return 404, missing
        attached = [
            {'attachment_id': item['id']}
            for item in self.attachments
            if item['status'] == 'attached'
        ]
        volume = {**self.volume, 'attachments': attached}
        if path.endswith(f'/volumes/{VOLUME}'):
            return 200, {'volume': volume}
        if path.endswith('/volumes/detail'):
            filters = query.keys() & {'id', 'group_id'}
            named = all(query[name] == volume.get(name) for name in filters)
            return 200, {'volumes': [volume] if filters and named else []}
        if path.endswith('/backups/detail'):
            making = self.backups.count(query['status'])
            return 200, {'backups': [{'volume_id': VOLUME}] * making}
        if path.endswith(f'groups/{GROUP}') and not hidden:
            return 200, {'group': {'id': GROUP}}
        if path.endswith('/attachments/detail'):
            caller = environ['keystone.token_auth'].user.project_id
            owner = volume['os-vol-tenant-attr:tenant_id']
            # To an elevated context without a project, Cinder lists all.
            own = caller in (owner, None)
            rows = [
                item
                for item in self.attachments
                if not hidden
                and (own or 'all_tenants' in query)
                and item['id'] == query.get('id', item['id'])
                and item['volume_id'] == query.get('volume_id', VOLUME)
            ]
            ids = [item['id'] for item in rows]
            if 'marker' in query and query['marker'] not in ids:
                return 404, missing
            start = ids.index(query['marker']) + 1 if 'marker' in query else 0
            end = start + int(query.get('limit', 1000))
            return 200, {'attachments': rows[start:end]}
        if found := re.search(r'/attachments/([^/]+)$', path):
            for item in self.attachments:
                if item['id'] == found[1]:
                    return 200, {'attachment': item}
        return 404, missing


def token(
    *roles: str, user: str = USER, project: str | None = PROJECT
) -> access.AccessInfo:
    """What auth_token makes of a token."""
    data = fixture.V3Token(user_id=user, project_id=project)
    for role in roles:
        data.add_role(name=role)
    return access.create(body=data, auth_token='secret-token')


def environ(
    method: str,
    path: str,
    body: Any = None,
    *,
    roles: Iterable[str] = ('member', 'reader'),
    service_roles: Iterable[str] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """A request as it leaves auth_token.

    :param body: bytes, or something to send as JSON
    """
    raw = body if isinstance(body, bytes) else b''
    if body is not None and not isinstance(body, bytes):
        raw = json.dumps(body).encode()
    service = None if service_roles is None else token(*service_roles)
    result = {
        'REQUEST_METHOD': method,
        'PATH_INFO': path,
        'QUERY_STRING': '',
        'SERVER_NAME': 'cinder',
        'SERVER_PORT': '8776',
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'wsgi.url_scheme': 'http',
        'wsgi.input': io.BytesIO(raw),
        'CONTENT_LENGTH': str(len(raw)),
        'CONTENT_TYPE': 'application/json',
        'HTTP_OPENSTACK_API_VERSION': 'volume 3.44',
        'HTTP_X_IDENTITY_STATUS': 'Confirmed',
        'HTTP_X_AUTH_TOKEN': 'secret-token',
        'keystone.token_auth': _user_plugin.UserAuthPlugin(
            token(*roles), service
        ),
        'openstack.request_id': 'req-1',
    }
    if service is not None:
        result['HTTP_X_SERVICE_IDENTITY_STATUS'] = 'Confirmed'
    result.update(extra)
    return result
