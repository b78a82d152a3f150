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

"""A Nova that fits into a test: servers, and the volumes they have.

It stands behind the real keystonemiddleware and calls Cinder over HTTP just
as Nova does when a volume is attached or detached, with the caller's token
and, unless told otherwise, Nova's service token beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import dataclasses
import datetime
import threading
import typing
import urllib.parse
import uuid

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import service_token as ksa_service_token
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import access
from keystoneauth1.identity import v3
import microversion_parse
from oslo_middleware import request_id
import webob

from attachguard.testing import service

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

MIN_VERSION = (2, 1)
MAX_VERSION = (2, 104)
_LEGACY_HEADER = 'X-OpenStack-Nova-API-Version'

#: ``[api] max_limit``: how long a page can be.
MAX_LIMIT = 1000

_FAULTS = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    409: 'conflictingRequest',
    413: 'overLimit',
    415: 'badMediaType',
    429: 'overLimit',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}

_UUID = {'type': 'string', 'format': 'uuid'}


def _attach_schema(version: service.Version) -> dict[str, typing.Any]:
    properties: dict[str, typing.Any] = {
        'volumeId': _UUID,
        'device': {
            'type': ['string', 'null'],
            'pattern': '(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$',
        },
    }
    if version >= (2, 49):
        properties['tag'] = {
            'type': 'string',
            'minLength': 1,
            'maxLength': 60,
            'pattern': '^[^,/]*$',
        }
    if version >= (2, 79):
        properties['delete_on_termination'] = {'type': 'boolean'}
    return {
        'type': 'object',
        'properties': {
            'volumeAttachment': {
                'type': 'object',
                'properties': properties,
                'required': ['volumeId'],
                'additionalProperties': False,
            }
        },
        'required': ['volumeAttachment'],
        'additionalProperties': False,
    }


_CREATE_SCHEMA = {
    'type': 'object',
    'properties': {
        'server': {
            'type': 'object',
            'properties': {
                'name': {'type': 'string', 'minLength': 1, 'maxLength': 255},
                'flavorRef': {'type': ['string', 'integer'], 'minLength': 1},
                'imageRef': {'type': 'string'},
                'block_device_mapping_v2': {
                    'type': 'array',
                    'items': {'type': 'object'},
                },
            },
            'required': ['name', 'flavorRef'],
        }
    },
    'required': ['server'],
}


def _time(moment: datetime.datetime) -> str:
    return moment.strftime('%Y-%m-%dT%H:%M:%SZ')


@dataclasses.dataclass
class Attachment:
    """Nova's record of a volume of a server: a block device mapping."""

    volume_id: str
    device: str
    attachment_id: str | None = None
    tag: str | None = None
    delete_on_termination: bool = False
    boot_index: int | None = None
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


#: What is in a cell that does not answer is shown, as far as it is known.
_DOWN_CELLS = (2, 69)


@dataclasses.dataclass
class Server:
    """A server, and what Nova knows of its volumes by their ids."""

    id: str
    name: str
    project_id: str
    user_id: str
    flavor: str = '1'
    image: str = ''
    status: str = 'ACTIVE'
    host: str = 'compute1'
    task_state: str | None = None
    #: whether the cell that it is in does not answer
    cell_down: bool = False
    created: datetime.datetime = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC)
    )
    attachments: dict[str, Attachment] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int


class _RequestId(request_id.RequestId):
    compat_headers = ['x-compute-request-id']


class StubNova(service.Service):
    """A WSGI application that answers as Nova's compute API does.

    :param keystone_url: address of Keystone, without the version
    :param service_token: whether Nova sends its service token to Cinder:
        ``[service_user] send_service_user_token``
    :param username: Nova's own user, in the project ``service``
    :param password: that user's password
    :param options: more options for auth_token, as in
        ``[keystone_authtoken]``
    """

    routes = (
        service.Route('GET', '/', 'versions'),
        service.Route('GET', '/v2\\.1', 'show_version'),
        service.Route('GET', '/v2\\.1/servers', 'list_servers'),
        service.Route('POST', '/v2\\.1/servers', 'create_server'),
        service.Route('GET', '/v2\\.1/servers/detail', 'list_details'),
        service.Route('GET', '/v2\\.1/servers/{server_id}', 'show_server'),
        service.Route(
            'DELETE', '/v2\\.1/servers/{server_id}', 'delete_server'
        ),
        service.Route(
            'GET',
            '/v2\\.1/servers/{server_id}/os-volume_attachments',
            'list_attachments',
        ),
        service.Route(
            'POST',
            '/v2\\.1/servers/{server_id}/os-volume_attachments',
            'create_attachment',
        ),
        service.Route(
            'GET',
            '/v2\\.1/servers/{server_id}/os-volume_attachments/{volume_id}',
            'show_attachment',
        ),
        service.Route(
            'DELETE',
            '/v2\\.1/servers/{server_id}/os-volume_attachments/{volume_id}',
            'delete_attachment',
        ),
        service.Route('GET', '/v2\\.1/os-services', 'list_services'),
        service.Route('GET', '/v2\\.1/flavors', 'list_flavors'),
        service.Route('GET', '/v2\\.1/flavors/detail', 'list_flavor_details'),
        service.Route('GET', '/v2\\.1/flavors/{flavor_id}', 'show_flavor'),
    )

    def __init__(
        self,
        keystone_url: str,
        *,
        service_token: bool = True,
        username: str = 'nova',
        password: str = 'nova',
        options: dict[str, typing.Any] | None = None,
    ) -> None:
        super().__init__()
        self.service_token = service_token
        self.servers: dict[str, Server] = {}
        self.flavors = {'1': Flavor('1', 'm1.tiny', 1, 512, 1)}
        self._lock = threading.Lock()
        self._auth = v3.Password(
            auth_url=f'{keystone_url}/v3',
            username=username,
            password=password,
            project_name='service',
            user_domain_id='default',
            project_domain_id='default',
        )
        self._session = ksa_session.Session(timeout=60)
        self._version_api = _RequestId(self._dispatch)
        self._api = _RequestId(
            service.authenticated(
                self._dispatch,
                keystone_url,
                username,
                password,
                **(options or {}),
            )
        )
        self._pipeline = self._urlmap

    # What tests set up.

    def add_server(
        self,
        project_id: str,
        name: str = 'server',
        *,
        server_id: str | None = None,
        user_id: str = '',
        status: str = 'ACTIVE',
    ) -> Server:
        """Add a server.

        :param project_id: id of its project
        :param name: its name
        :param server_id: its id, a random one by default
        :param user_id: id of its owner
        :param status: its status
        :returns: the server
        """
        server = Server(
            server_id or str(uuid.uuid4()),
            name,
            project_id,
            user_id,
            status=status,
        )
        self.servers[server.id] = server
        return server

    def add_attachment(
        self,
        server_id: str,
        volume_id: str,
        *,
        attachment_id: str | None = None,
        device: str | None = None,
    ) -> Attachment:
        """Record that a server has a volume, without a word to Cinder.

        :param server_id: id of the server
        :param volume_id: id of the volume
        :param attachment_id: id of Cinder's attachment; none is how servers
            from before Queens look
        :param device: its name, the next free one by default
        :returns: the record
        """
        server = self.servers[server_id]
        with self._lock:
            attachment = Attachment(
                volume_id, device or self._next_device(server), attachment_id
            )
            server.attachments[volume_id] = attachment
        return attachment

    # What it answers.

    def _urlmap(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        path = environ['PATH_INFO'].rstrip('/')
        if not path:
            return self._dispatch(environ, start_response)
        application = self._version_api if path == '/v2.1' else self._api
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    def error(self, status: int, message: str) -> webob.Response:
        kind = _FAULTS.get(status, 'computeFault')
        answer = service.respond(
            status, {kind: {'code': status, 'message': message}}
        )
        answer.charset = 'UTF-8'
        return answer

    def admit(
        self, request: service.Request, params: dict[str, typing.Any]
    ) -> None:
        if request.path_info != '/':
            request.version = self._read_version(request)
        request.caller = service.Caller.of(request)

    def _read_version(self, request: service.Request) -> service.Version:
        wanted = microversion_parse.get_version(
            request.headers,
            service_type='compute',
            legacy_headers=[_LEGACY_HEADER],
        )
        if wanted == 'latest':
            return MAX_VERSION
        version = service.parse_version(wanted or '2.1')
        if version is None:
            raise service.Refused(
                400,
                f'API Version String {wanted} is of invalid format. Must be '
                'of format MajorNum.MinorNum.',
            )
        # The answer names what was asked for, supported or not.
        request.version = version
        if not MIN_VERSION <= version <= MAX_VERSION:
            raise service.Refused(
                406,
                f'Version {wanted} is not supported by the API. Minimum is '
                '2.1 and maximum is 2.104.',
            )
        return version

    def finish(self, request: service.Request, answer: webob.Response) -> None:
        version = getattr(request, 'version', None)
        if version is not None:
            text = f'{version[0]}.{version[1]}'
            answer.headers['OpenStack-API-Version'] = f'compute {text}'
            answer.headers[_LEGACY_HEADER] = text
            answer.headers['Vary'] = f'OpenStack-API-Version, {_LEGACY_HEADER}'

    def versions(self, request: service.Request) -> webob.Response:
        """Answer version discovery at the root."""
        base = request.application_url
        return service.respond(
            200,
            {
                'versions': [
                    {
                        'id': 'v2.0',
                        'status': 'DEPRECATED',
                        'version': '',
                        'min_version': '',
                        'updated': '2025-07-04T12:00:00Z',
                        'links': [{'rel': 'self', 'href': f'{base}/v2/'}],
                    },
                    {
                        'id': 'v2.1',
                        'status': 'CURRENT',
                        'version': '2.104',
                        'min_version': '2.1',
                        'updated': '2013-07-23T11:33:21Z',
                        'links': [{'rel': 'self', 'href': f'{base}/v2.1/'}],
                    },
                ]
            },
        )

    def show_version(self, request: service.Request) -> webob.Response:
        """Answer version discovery at ``/v2.1``."""
        media_type = 'application/vnd.openstack.compute+json;version=2.1'
        return service.respond(
            200,
            {
                'version': {
                    'id': 'v2.1',
                    'status': 'CURRENT',
                    'version': '2.104',
                    'min_version': '2.1',
                    'updated': '2013-07-23T11:33:21Z',
                    'links': [
                        {
                            'rel': 'self',
                            'href': f'{request.application_url}/v2.1/',
                        },
                        {
                            'rel': 'describedby',
                            'type': 'text/html',
                            'href': 'http://docs.openstack.org/',
                        },
                    ],
                    'media-types': [
                        {'base': 'application/json', 'type': media_type}
                    ],
                }
            },
        )

    # Servers.

    def _allow(self, request: service.Request, role: str, rule: str) -> None:
        if not request.caller.may(role):
            raise service.Refused(
                403,
                f"Policy doesn't allow os_compute_api:{rule} to be performed.",
            )

    def _server(
        self, request: service.Request, server_id: str, role: str, rule: str
    ) -> Server:
        server = self.servers.get(server_id)
        caller = request.caller
        if server is None or not (
            caller.is_admin or caller.project_id == server.project_id
        ):
            raise service.Refused(
                404, f'Instance {server_id} could not be found.'
            )
        self._allow(request, role, rule)
        return server

    def _page(
        self, request: service.Request, rule: str, path: str
    ) -> tuple[list[Server], dict[str, typing.Any]]:
        """Find the servers that are asked for.

        :returns: a page of them, and the link to the next one
        """
        wanted = request.GET
        if not wanted.get('limit', '0').isdigit():
            raise service.Refused(
                400,
                'Invalid input for query parameters limit. Value: '
                f"{wanted['limit']}. {wanted['limit']!r} does not match "
                "'^[0-9]*$'",
            )
        self._allow(request, 'reader', f'servers:{rule}')
        if wanted.get('all_tenants', '0').lower() in ('1', 'true', ''):
            self._allow(request, 'admin', f'servers:{rule}:get_all_tenants')
            project = wanted.get('project_id') or wanted.get('tenant_id')
        else:
            project = request.caller.project_id

        # A list that is filtered, sorted or paged leaves out what is in a cell
        # that does not answer.
        cells = request.version >= _DOWN_CELLS and not {*wanted} - {
            'all_tenants'
        }
        soft_deleted = request.caller.is_admin and 'soft_deleted' in wanted
        servers = sorted(
            self.servers.values(), key=lambda s: (s.created, s.id)
        )[::-1]
        if 'marker' in wanted:
            # It need not be one of those that are asked for.
            ids = [server.id for server in servers]
            if wanted['marker'] not in ids:
                raise service.Refused(
                    400, f'marker [{wanted["marker"]}] not found'
                )
            servers = servers[ids.index(wanted['marker']) + 1 :]
        servers = [
            server
            for server in servers
            if project in (None, server.project_id)
            and (cells or not server.cell_down)
            and (soft_deleted or server.status != 'SOFT_DELETED')
            and wanted.get('name', server.name) in server.name
            and wanted.get('status', server.status).upper() == server.status
            and wanted.get('uuid', server.id) == server.id
        ]
        limit = min(int(wanted.get('limit', MAX_LIMIT)), MAX_LIMIT)
        page = servers[:limit]
        if not page or len(page) < limit:
            return page, {}
        query = {**wanted, 'marker': page[-1].id}
        href = (
            f'{request.application_url}/v2.1{path}?'
            f'{urllib.parse.urlencode(query)}'
        )
        return page, {'servers_links': [{'rel': 'next', 'href': href}]}

    def list_servers(self, request: service.Request) -> webob.Response:
        """Answer a page of the servers, by name and id."""
        page, links = self._page(request, 'index', '/servers')
        return service.respond(
            200,
            {
                'servers': [
                    {
                        'id': server.id,
                        'name': server.name,
                        'links': self._links(request, server.id),
                    }
                    for server in page
                ],
                **links,
            },
        )

    def list_details(self, request: service.Request) -> webob.Response:
        """Answer a page of the servers with all that is known of them."""
        page, links = self._page(request, 'detail', '/servers/detail')
        return service.respond(
            200,
            {
                'servers': [self._detail(request, server) for server in page],
                **links,
            },
        )

    def show_server(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Answer one server."""
        server = self._server(request, server_id, 'reader', 'servers:show')
        if server.cell_down and request.version < _DOWN_CELLS:
            raise service.Refused(500, _unexpected('NovaException'))
        shown = self._detail(request, server)
        if server.cell_down:
            return service.respond(200, {'server': shown})
        if request.version >= (2, 71):
            shown['server_groups'] = []
        if request.version >= (2, 100):
            shown['scheduler_hints'] = {}
        return service.respond(200, {'server': shown})

    def _links(
        self, request: service.Request, id: str, kind: str = 'servers'
    ) -> list[dict[str, str]]:
        base = request.application_url
        return [
            {'rel': 'self', 'href': f'{base}/v2.1/{kind}/{id}'},
            {'rel': 'bookmark', 'href': f'{base}/{kind}/{id}'},
        ]

    def _detail(
        self, request: service.Request, server: Server
    ) -> dict[str, typing.Any]:
        version = request.version
        created = _time(server.created)
        if server.cell_down:
            return {
                'id': server.id,
                'status': 'UNKNOWN',
                'tenant_id': server.project_id,
                'created': created,
                'links': self._links(request, server.id),
            }
        flavor = self.flavors[server.flavor]
        shown: dict[str, typing.Any] = {
            'id': server.id,
            'name': server.name,
            'status': server.status,
            'tenant_id': server.project_id,
            'user_id': server.user_id,
            'metadata': {},
            'hostId': uuid.uuid5(uuid.NAMESPACE_DNS, server.host).hex,
            'image': '',
            'flavor': {
                'id': flavor.id,
                'links': self._links(request, flavor.id, 'flavors')[1:],
            },
            'created': created,
            'updated': created,
            'addresses': {},
            'accessIPv4': '',
            'accessIPv6': '',
            'links': self._links(request, server.id),
            'OS-DCF:diskConfig': 'MANUAL',
            'progress': 0,
            'OS-EXT-AZ:availability_zone': 'nova',
            'config_drive': '',
            'key_name': None,
            'OS-SRV-USG:launched_at': server.created.strftime(
                '%Y-%m-%dT%H:%M:%S.000000'
            ),
            'OS-SRV-USG:terminated_at': None,
            'OS-EXT-STS:task_state': server.task_state,
            'OS-EXT-STS:vm_state': server.status.lower(),
            'OS-EXT-STS:power_state': 1,
            'os-extended-volumes:volumes_attached': [
                {'id': attachment.volume_id}
                | (
                    {'delete_on_termination': attachment.delete_on_termination}
                    if version >= (2, 3)
                    else {}
                )
                for attachment in server.attachments.values()
            ],
        }
        if server.image:
            shown['image'] = {
                'id': server.image,
                'links': self._links(request, server.image, 'images')[1:],
            }
        if version >= (2, 47):
            shown['flavor'] = {
                'vcpus': flavor.vcpus,
                'ram': flavor.ram,
                'disk': flavor.disk,
                'ephemeral': 0,
                'swap': 0,
                'original_name': flavor.name,
                'extra_specs': {},
            }
        if request.caller.is_admin:
            shown['OS-EXT-SRV-ATTR:host'] = server.host
            shown['OS-EXT-SRV-ATTR:instance_name'] = f'instance-{server.id}'
            shown['OS-EXT-SRV-ATTR:hypervisor_hostname'] = server.host
            if version >= (2, 3):
                shown['OS-EXT-SRV-ATTR:hostname'] = server.name
                shown['OS-EXT-SRV-ATTR:kernel_id'] = ''
                shown['OS-EXT-SRV-ATTR:launch_index'] = 0
                shown['OS-EXT-SRV-ATTR:ramdisk_id'] = ''
                shown['OS-EXT-SRV-ATTR:reservation_id'] = 'r-1'
                shown['OS-EXT-SRV-ATTR:root_device_name'] = '/dev/vda'
                shown['OS-EXT-SRV-ATTR:user_data'] = None
            if version >= (2, 16):
                shown['host_status'] = 'UP'
        if version >= (2, 9):
            shown['locked'] = False
        if version >= (2, 19):
            shown['description'] = None
        if version >= (2, 26):
            shown['tags'] = []
        if version >= (2, 63):
            shown['trusted_image_certificates'] = None
        if version >= (2, 73):
            shown['locked_reason'] = None
        if version >= (2, 90):
            shown['OS-EXT-SRV-ATTR:hostname'] = server.name
        if version >= (2, 96):
            shown['pinned_availability_zone'] = None
        if version >= (2, 100):
            shown['scheduler_hints'] = None
        return shown

    def create_server(self, request: service.Request) -> webob.Response:
        """Create a server, which is active at once.

        As in Nova, a volume is reserved in Cinder before the server and its
        record of the volume exist; it is connected afterwards.
        """
        asked = service.validate(service.json_body(request), _CREATE_SCHEMA)[
            'server'
        ]
        self._allow(request, 'member', 'servers:create')
        flavor = str(asked['flavorRef'])
        if flavor not in self.flavors:
            raise service.Refused(400, f'Flavor {flavor} could not be found.')
        mappings = [
            mapping
            for mapping in asked.get('block_device_mapping_v2', ())
            if mapping.get('destination_type') == 'volume'
        ]
        if any(m.get('source_type') != 'volume' for m in mappings):
            raise service.Refused(
                400, 'This stub boots from existing volumes only.'
            )
        server = Server(
            str(uuid.uuid4()),
            asked['name'],
            request.caller.project_id,
            request.caller.user_id,
            flavor,
            asked.get('imageRef') or '',
        )
        cinder = self._cinder(request)
        for mapping in mappings:
            attachment = Attachment(
                mapping['uuid'],
                mapping.get('device_name') or self._next_device(server),
                tag=mapping.get('tag'),
                delete_on_termination=mapping.get(
                    'delete_on_termination', False
                ),
                boot_index=mapping.get('boot_index'),
            )
            attachment.attachment_id = cinder.reserve(
                attachment.volume_id, server.id
            )
            server.attachments[attachment.volume_id] = attachment
        self.servers[server.id] = server
        for attachment in server.attachments.values():
            cinder.connect(server, attachment)
        return service.respond(
            202,
            {
                'server': {
                    'id': server.id,
                    'links': self._links(request, server.id),
                    'OS-DCF:diskConfig': 'MANUAL',
                    'security_groups': [{'name': 'default'}],
                    'adminPass': uuid.uuid4().hex[:12],
                }
            },
        )

    def delete_server(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Delete a server, and its attachments in Cinder.

        Where Cinder does not delete an attachment, the server is deleted all
        the same, as in Nova.
        """
        server = self._server(request, server_id, 'member', 'servers:delete')
        cinder = self._cinder(request)
        for attachment in list(server.attachments.values()):
            with contextlib.suppress(service.Refused):
                cinder.disconnect(attachment)
                if attachment.delete_on_termination:
                    cinder.delete_volume(attachment.volume_id)
        self.servers.pop(server.id, None)
        return service.respond(204)

    # The volumes of a server.

    def _attachment(
        self, server: Server, volume_id: str, version: service.Version
    ) -> Attachment:
        attachment = server.attachments.get(volume_id)
        if attachment is None or (
            version >= (2, 89) and attachment.attachment_id is None
        ):
            raise service.Refused(
                404,
                f'Instance {server.id} is not attached to volume {volume_id}',
            )
        return attachment

    def _view(
        self,
        server: Server,
        attachment: Attachment,
        version: service.Version,
    ) -> dict[str, typing.Any]:
        view: dict[str, typing.Any] = {
            'volumeId': attachment.volume_id,
            'serverId': server.id,
            'device': attachment.device,
        }
        if version < (2, 89):
            view['id'] = attachment.volume_id
        if version >= (2, 70):
            view['tag'] = attachment.tag
        if version >= (2, 79):
            view['delete_on_termination'] = attachment.delete_on_termination
        if version >= (2, 89):
            view['attachment_id'] = attachment.attachment_id
            view['bdm_uuid'] = attachment.uuid
        return view

    def list_attachments(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Answer the volumes of a server."""
        server = self._server(
            request, server_id, 'reader', 'os-volumes-attachments:index'
        )
        return service.respond(
            200,
            {
                'volumeAttachments': [
                    self._view(server, attachment, request.version)
                    for attachment in server.attachments.values()
                    if request.version < (2, 89)
                    or attachment.attachment_id is not None
                ]
            },
        )

    def show_attachment(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> webob.Response:
        """Answer whether, and how, a server has a volume."""
        server = self._server(
            request, server_id, 'reader', 'os-volumes-attachments:show'
        )
        attachment = self._attachment(server, volume_id, request.version)
        return service.respond(
            200,
            {
                'volumeAttachment': self._view(
                    server, attachment, request.version
                )
            },
        )

    def create_attachment(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Attach a volume to a server.

        Nova's own record is there before Cinder is asked; the attachment's
        id is saved when Cinder has given it.
        """
        asked = service.validate(
            service.json_body(request), _attach_schema(request.version)
        )['volumeAttachment']
        server = self._server(
            request, server_id, 'member', 'os-volumes-attachments:create'
        )
        cinder = self._cinder(request)
        cinder.show_volume(asked['volumeId'])
        with self._lock:
            if asked['volumeId'] in server.attachments:
                raise service.Refused(
                    400,
                    'Invalid volume: volume '
                    f'{asked["volumeId"]} already attached',
                )
            attachment = Attachment(
                asked['volumeId'],
                asked.get('device') or self._next_device(server),
                tag=asked.get('tag'),
                delete_on_termination=asked.get(
                    'delete_on_termination', False
                ),
            )
            server.attachments[attachment.volume_id] = attachment
        try:
            attachment.attachment_id = cinder.reserve(
                attachment.volume_id, server.id
            )
        except service.Refused:
            del server.attachments[attachment.volume_id]
            raise
        cinder.connect(server, attachment)
        if request.version >= (2, 101):
            return service.respond(202)
        view = self._view(server, attachment, min(request.version, (2, 88)))
        return service.respond(200, {'volumeAttachment': view})

    def delete_attachment(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> webob.Response:
        """Detach a volume from a server.

        Nova has answered before its compute service calls Cinder: what goes
        wrong then leaves the record, and the volume ``detaching``.
        """
        server = self._server(
            request, server_id, 'member', 'os-volumes-attachments:delete'
        )
        cinder = self._cinder(request)
        cinder.show_volume(volume_id)
        attachment = self._attachment(server, volume_id, MIN_VERSION)
        if attachment.boot_index == 0:
            raise service.Refused(400, 'Cannot detach a root device volume')
        cinder.begin_detaching(volume_id)
        with contextlib.suppress(service.Refused):
            cinder.disconnect(attachment)
            del server.attachments[volume_id]
        return service.respond(202)

    def _next_device(self, server: Server) -> str:
        used = {a.device for a in server.attachments.values()}
        return next(
            device
            for letter in 'bcdefghijklmnopqrstuvwxyz'
            if (device := f'/dev/vd{letter}') not in used
        )

    def _cinder(self, request: service.Request) -> _Cinder:
        token = request.environ['keystone.token_auth']
        auth: typing.Any = access.AccessInfoPlugin(token.user)
        if self.service_token:
            auth = ksa_service_token.ServiceTokenAuthWrapper(
                user_auth=auth, service_auth=self._auth
            )
        return _Cinder(self._session, auth)

    # Compute services.

    def list_services(self, request: service.Request) -> webob.Response:
        """Answer the compute services, one for each host with servers."""
        self._allow(request, 'admin', 'os-services:list')
        wanted = request.GET
        hosts = sorted(
            {Server.host, *(server.host for server in self.servers.values())}
        )
        if wanted.get('binary', 'nova-compute') != 'nova-compute':
            hosts = []
        return service.respond(
            200,
            {
                'services': [
                    self._service(request, host)
                    for host in hosts
                    if wanted.get('host', host) == host
                ]
            },
        )

    def _service(
        self, request: service.Request, host: str
    ) -> dict[str, typing.Any]:
        if any(s.cell_down for s in self.servers.values() if s.host == host):
            return {
                'binary': 'nova-compute',
                'host': host,
                'status': 'UNKNOWN',
            }
        shown: dict[str, typing.Any] = {
            'binary': 'nova-compute',
            'host': host,
            'id': 1,
            'zone': 'nova',
            'status': 'enabled',
            'state': 'up',
            'updated_at': datetime.datetime.now(datetime.UTC).strftime(
                '%Y-%m-%dT%H:%M:%S.000000'
            ),
            'disabled_reason': None,
        }
        if request.version >= (2, 11):
            shown['forced_down'] = False
        if request.version >= (2, 53):
            shown['id'] = str(uuid.uuid5(uuid.NAMESPACE_DNS, host))
        return shown

    # Flavors.

    def _flavor(
        self, request: service.Request, flavor: Flavor
    ) -> dict[str, typing.Any]:
        shown: dict[str, typing.Any] = {
            'id': flavor.id,
            'name': flavor.name,
            'vcpus': flavor.vcpus,
            'ram': flavor.ram,
            'disk': flavor.disk,
            'swap': 0 if request.version >= (2, 75) else '',
            'OS-FLV-EXT-DATA:ephemeral': 0,
            'os-flavor-access:is_public': True,
            'links': self._links(request, flavor.id, 'flavors'),
        }
        if request.version >= (2, 55):
            shown['description'] = None
        if request.version >= (2, 61) and request.caller.may('reader'):
            shown['extra_specs'] = {}
        if request.version < (2, 102):
            shown['OS-FLV-DISABLED:disabled'] = False
            shown['rxtx_factor'] = 1.0
        return shown

    def list_flavors(self, request: service.Request) -> webob.Response:
        """Answer the flavors, by name and id."""
        keys = ['id', 'name', 'links']
        if request.version >= (2, 55):
            keys.append('description')
        return service.respond(
            200,
            {
                'flavors': [
                    {key: self._flavor(request, flavor)[key] for key in keys}
                    for flavor in self.flavors.values()
                ]
            },
        )

    def list_flavor_details(self, request: service.Request) -> webob.Response:
        """Answer the flavors with all that is known of them."""
        return service.respond(
            200,
            {
                'flavors': [
                    self._flavor(request, flavor)
                    for flavor in self.flavors.values()
                ]
            },
        )

    def show_flavor(
        self, request: service.Request, flavor_id: str
    ) -> webob.Response:
        """Answer one flavor."""
        flavor = self.flavors.get(flavor_id)
        if flavor is None:
            raise service.Refused(
                404, f'Flavor {flavor_id} could not be found.'
            )
        return service.respond(200, {'flavor': self._flavor(request, flavor)})


class _Cinder:
    """Nova's calls to Cinder, as ``nova.volume.cinder`` makes them."""

    def __init__(self, session: ksa_session.Session, auth: typing.Any) -> None:
        self._adapter = adapter.Adapter(
            session=session,
            auth=auth,
            service_type='volumev3',
            interface='public',
            user_agent='nova',
        )

    def _call(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        version: str = '3.44',
    ) -> typing.Any:
        try:
            answer = self._adapter.request(
                path,
                method,
                json=body,
                headers={
                    'Accept': 'application/json',
                    'OpenStack-API-Version': f'volume {version}',
                },
            )
        except ksa_exceptions.HttpError as error:
            status = error.http_status
            if status in (400, 403, 404):
                raise service.Refused(
                    status, f'{_message(error)} (HTTP {status})'
                ) from None
            raise service.Refused(
                500, _unexpected(type(error).__name__)
            ) from error
        except ksa_exceptions.ClientException as error:
            raise service.Refused(
                500, _unexpected(type(error).__name__)
            ) from error
        return answer.json() if answer.content else None

    def show_volume(self, volume_id: str) -> typing.Any:
        try:
            return self._call('GET', f'/volumes/{volume_id}', version='3.0')
        except service.Refused as refused:
            if refused.status == 404:
                refused.message = f'Volume {volume_id} could not be found.'
            raise

    def reserve(self, volume_id: str, server_id: str) -> str:
        answer = self._call(
            'POST',
            '/attachments',
            {
                'attachment': {
                    'volume_uuid': volume_id,
                    'instance_uuid': server_id,
                    'connector': None,
                }
            },
        )
        attachment_id: str = answer['attachment']['id']
        return attachment_id

    def connect(self, server: Server, attachment: Attachment) -> None:
        """Do the part of an attach that happens on a compute host."""
        connector = {
            'host': server.host,
            'ip': '127.0.0.1',
            'initiator': f'iqn.1993-08.org.debian:01:{server.host}',
            'multipath': False,
            'os_type': 'linux',
            'platform': 'x86_64',
            'mountpoint': attachment.device,
        }
        path = f'/attachments/{attachment.attachment_id}'
        try:
            self._call('PUT', path, {'attachment': {'connector': connector}})
            self._call('POST', f'{path}/action', {'os-complete': None})
        except service.Refused:
            with contextlib.suppress(service.Refused):
                self.disconnect(attachment)
            del server.attachments[attachment.volume_id]

    def begin_detaching(self, volume_id: str) -> None:
        self._call(
            'POST',
            f'/volumes/{volume_id}/action',
            {'os-begin_detaching': None},
            version='3.0',
        )

    def disconnect(self, attachment: Attachment) -> None:
        self._call('DELETE', f'/attachments/{attachment.attachment_id}')

    def delete_volume(self, volume_id: str) -> None:
        self._call('DELETE', f'/volumes/{volume_id}', version='3.0')


def _message(error: ksa_exceptions.HttpError) -> str:
    if error.response is not None:
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            (fault,) = error.response.json().values()
            return str(fault.get('message'))
    return str(error.message)


def _unexpected(kind: str) -> str:
    return (
        'Unexpected API Error. Please report this at '
        'http://bugs.launchpad.net/nova/ and attach the Nova API log if '
        f'possible.\n<class \'{kind}\'>'
    )
