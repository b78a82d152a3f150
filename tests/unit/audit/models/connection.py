# SPDX-License-Identifier: Apache-2.0

"""What openstacksdk is to the audit: a connection to a world."""

from __future__ import annotations

from collections.abc import Callable
import json
import re
from typing import Any
from typing import NamedTuple
from typing import Optional
from urllib import parse

from keystoneauth1 import exceptions as ksa_exceptions

from tests.unit.audit.models import cinder
from tests.unit.audit.models import nova
from tests.unit.audit.models import world

PROJECT = world.PROJECT
_ADMIN_PROJECT = '0123456789abcdef0123456789abcdef'

_FAULTS = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    409: 'conflictingRequest',
    503: 'serviceUnavailable',
}


class Response:
    """As much of ``requests.Response`` as is used."""

    def __init__(self, status: int, content: bytes) -> None:
        self.status_code = status
        self.headers = {'x-openstack-request-id': 'req-1'}
        self.raw = self
        self._content = content

    def read(self, _size: int, decode_content: bool) -> bytes:
        """Read the body."""
        return self._content


def _respond(status: int, body: dict[str, Any] | None) -> Response:
    return Response(status, b'' if body is None else json.dumps(body).encode())


def _fail(status: int, message: str) -> Response:
    name = _FAULTS.get(status, 'computeFault')
    return _respond(status, {name: {'code': status, 'message': message}})


class Fault(NamedTuple):
    """How a request fails.

    :param kind: a status; ``proxy`` for a 404 of a proxy; ``guard`` for a 503
        of the guard; ``timeout``; or ``kill`` or ``stop``, which end the audit
        itself
    :param late: whether the service has done what was requested
    """

    kind: str
    late: bool


#: Called before a request is performed: how it fails.
Before = Callable[[str, str, str, Any], Optional[Fault]]


class Adapter:
    """As much of an SDK's proxy of a service as the audit uses."""

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._service = service

    def get_endpoint(self) -> str:
        """Return where the service is."""
        return f'https://{self._service}.example.com'

    def request(self, path: str, method: str, **options: Any) -> Response:
        """Make a request."""
        return self._connection.request(self._service, path, method, options)


class _Config:
    name = 'envvars'
    config = {'auth': {'auth_url': 'https://keystone.example.com'}}

    def get_region_name(self) -> str:
        return 'RegionOne'


class _Session:
    def get_token(self) -> str:
        return 'token'

    def get_project_id(self) -> str:
        return _ADMIN_PROJECT


class Connection:
    """openstacksdk, connected to a world.

    :param of: the world
    :param before: called before each request
    :param after: called after each write that was performed
    """

    def __init__(
        self,
        of: world.World,
        before: Before = lambda *_request: None,
        after: Callable[[str, str, Any], None] = lambda *_request: None,
    ) -> None:
        self.config = _Config()
        self.session = _Session()
        self.block_storage = Adapter(self, 'block_storage')
        self.compute = Adapter(self, 'compute')
        self.identity = Adapter(self, 'identity')
        self._world = of
        self._before = before
        self._after = after

    def request(
        self, service: str, path: str, method: str, options: dict[str, Any]
    ) -> Response:
        """Perform a request, or let it fail."""
        if 'headers' in options:
            raise AssertionError(f'headers of its own: {options["headers"]}')
        body = options.get('json')
        fault = self._before(service, method, path, body)
        refusing = self._world.nova.refusing
        if refusing and re.match('/servers/(?!detail)', path):
            fault = fault or Fault(refusing, False)
        if fault is None or fault.late:
            response = self._perform(service, path, method, options)
            if method != 'GET':
                self._after(method, path, body)
            if fault is None:
                return response
        if fault.kind in ('kill', 'stop'):
            raise KeyboardInterrupt
        if fault.kind == 'timeout':
            raise ksa_exceptions.ConnectTimeout('timed out')
        if fault.kind == 'guard':
            later = {'code': 503, 'message': 'later', 'reason': 'young'}
            return _respond(503, {'serviceUnavailable': later})
        if fault.kind == 'proxy':
            return Response(404, b'<html>Not Found</html>')
        return _fail(int(fault.kind), 'it failed')

    def _keystone(self, path: str) -> Response:
        """The Identity API, of which only reads of projects are used."""
        if path == '/projects':
            rows = [{'id': found} for found in self._world.projects]
            return _respond(200, {'projects': rows, 'links': {'next': None}})
        found = path.removeprefix('/projects/')
        if found in self._world.projects:
            return _respond(200, {'project': {'id': found}})
        message = f'Could not find project: {found}.'
        return _respond(404, {'error': {'code': 404, 'message': message}})

    def _perform(
        self, service: str, path: str, method: str, options: dict[str, Any]
    ) -> Response:
        parts = parse.urlsplit(path)
        query = dict(parse.parse_qsl(parts.query))
        try:
            if service == 'identity':
                return self._keystone(parts.path)
            if service == 'compute':
                version = tuple(map(int, options['microversion'].split('.')))
                nova_view = _NovaView(self._world.nova, version)
                return _respond(200, nova_view.get(parts.path, query))
            found = _CinderView(self._world.cinder).call(
                method, parts.path, query, options.get('json')
            )
        except cinder.Refused as exc:
            return _fail(exc.status, exc.message)
        return _respond(202 if found is None else 200, found)


def _page(
    rows: list[dict[str, Any]], query: dict[str, str], status: int
) -> tuple[list[dict[str, Any]], bool]:
    ids = [row['id'] for row in rows]
    if 'marker' in query:
        if query['marker'] not in ids:
            raise cinder.Refused(status, f'marker {query["marker"]} not found')
        rows = rows[ids.index(query['marker']) + 1 :]
    limit = int(query.get('limit', 1000))
    return rows[:limit], bool(rows) and len(rows) >= limit


class _NovaView:
    """The Compute API, of which only reads are used."""

    def __init__(self, of: nova.Core, version: tuple[int, ...]) -> None:
        self._nova = of
        self._version = version

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        servers = self._nova.servers.values()
        if self._nova.down:
            raise cinder.Refused(503, 'Nova is down')
        if path == '/os-services':
            down = {server.host for server in servers if server.cell_down}
            return {
                'services': [
                    {
                        'host': host,
                        'status': 'UNKNOWN' if host in down else 'enabled',
                    }
                    for host in nova.HOSTS
                ]
            }
        if path == '/servers/detail':
            rows, more = _page([self._server(s) for s in servers], query, 400)
            links = {'servers_links': [{'rel': 'next'}]} if more else {}
            return {'servers': rows, **links}
        _, _, server_id, *rest = path.split('/')
        if not rest:
            return {'server': self._server(self._nova.server(server_id))}
        volume_id = rest[-1]
        if self._version < (2, 89):
            raise AssertionError('no attachment id below 2.89')
        return {
            'volumeAttachment': {
                'volumeId': volume_id,
                'attachment_id': self._nova.attachment_id(
                    server_id, volume_id
                ),
            }
        }

    def _server(self, server: nova.Server) -> dict[str, Any]:
        if server.cell_down:
            return {
                'id': server.id,
                'status': 'UNKNOWN',
                'tenant_id': PROJECT,
            }
        return {
            'id': server.id,
            'status': server.status,
            'tenant_id': PROJECT,
            'OS-EXT-STS:task_state': server.task_state,
            'OS-EXT-SRV-ATTR:host': server.host,
            'os-extended-volumes:volumes_attached': [
                {'id': volume_id} for volume_id in server.volumes
            ],
        }


class _CinderView:
    """The Block Storage API, for an administrator without service token."""

    def __init__(self, of: cinder.Cinder) -> None:
        self._cinder = of

    def call(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> dict[str, Any] | None:
        if method == 'GET':
            return self._get(path, query)
        _, kind, *rest = path.split('/')
        if method == 'DELETE':
            self._cinder.delete(rest[0])
            return {'attachments': []}
        if not rest:
            wanted = body['attachment']
            made = self._cinder.create(
                wanted['volume_uuid'], wanted['instance_uuid']
            )
            item = self._cinder.attachments[made]
            return {'attachment': self._attachment(item)}
        ((name, parameters),) = body.items()
        act = getattr(self._cinder, name.removeprefix('os-'))
        act(rest[0], **(parameters or {}))
        return None

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        _, kind, *rest = path.split('/')
        if kind == 'attachments' and rest:
            item = self._cinder.attachment(rest[0])
            return {'attachment': self._attachment(item)}
        if kind == 'attachments':
            attachments = [
                self._attachment(item)
                for item in self._cinder.attachments.values()
                if query.get('volume_id', item.volume_id) == item.volume_id
                and query.get('instance_id', item.server) == item.server
            ]
            return {'attachments': _page(attachments, query, 404)[0]}
        if rest and rest[0] != 'detail':
            return {'volume': self._volume(self._cinder.volume(rest[0]))}
        volumes = [
            self._volume(volume)
            for volume in self._cinder.volumes.values()
            if query.get('project_id', PROJECT) == PROJECT
            and all(
                query.get(name, getattr(volume, name)) == getattr(volume, name)
                and query.get(f'{name}~', '') in (getattr(volume, name) or '')
                for name in (
                    'id',
                    'status',
                    'attach_status',
                    'migration_status',
                )
            )
        ]
        rows, more = _page(volumes, query, 404)
        links = {'volumes_links': [{'rel': 'next'}]} if more else {}
        return {'volumes': rows, 'count': len(volumes), **links}

    def _volume(self, volume: cinder.Volume) -> dict[str, Any]:
        return {
            'id': volume.id,
            'status': volume.status,
            'multiattach': volume.multiattach,
            'migration_status': volume.migration_status,
            'created_at': volume.updated_at,
            'updated_at': volume.updated_at,
            'os-vol-tenant-attr:tenant_id': PROJECT,
            'os-vol-host-attr:host': 'cinder1@lvm#lvm',
            'attachments': [
                {
                    'attachment_id': item.id,
                    'server_id': item.server,
                    'host_name': item.host,
                    'device': item.device,
                    'attached_at': item.attached_at,
                }
                for item in self._cinder.of(volume.id)
                if item.status == 'attached'
            ],
        }

    def _attachment(self, item: cinder.Attachment) -> dict[str, Any]:
        return {
            'id': item.id,
            'status': item.status,
            'instance': item.server,
            'volume_id': item.volume_id,
            'connection_info': {'driver_volume_type': 'iscsi'}
            if item.connector
            else {},
        }
