# SPDX-License-Identifier: Apache-2.0

"""The WSGI application of the stub of Nova."""

from __future__ import annotations

from collections.abc import Iterable
import typing
import uuid

from keystoneauth1 import service_token as ksa_service_token
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import access
from keystoneauth1.identity import v3
import microversion_parse
from oslo_middleware import request_id
import webob

from attachguard.testing import service
from attachguard.testing.stub_nova import cinder_client
from attachguard.testing.stub_nova import compute_services
from attachguard.testing.stub_nova import flavors
from attachguard.testing.stub_nova import records
from attachguard.testing.stub_nova import servers
from attachguard.testing.stub_nova import volume_attachments

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

_LEGACY_HEADER = 'X-OpenStack-Nova-API-Version'
_BASE = r'/v2\.1'
_SERVER = f'{_BASE}/servers/{{server_id}}'
_ATTACHMENTS = f'{_SERVER}/os-volume_attachments'
_ATTACHMENT = f'{_ATTACHMENTS}/{{volume_id}}'


class _RequestId(request_id.RequestId):
    compat_headers = ['x-compute-request-id']


class StubNova(service.MicroversionService):
    """A WSGI application that behaves like Nova's Compute API.

    It contains the real keystonemiddleware. To attach or detach a volume, it
    sends the requests to Cinder that Nova sends, with the caller's token and,
    by default, Nova's service token.

    :param keystone_url: address of Keystone, without the version
    :param service_token: whether Nova sends its service token to Cinder:
        ``[service_user] send_service_user_token``
    :param username: Nova's own user, in the project ``service``
    :param password: that user's password
    :param options: more options for auth_token, as in
        ``[keystone_authtoken]``

    :ivar servers: the servers by id
    :ivar flavors: the flavors by id
    :ivar service_token: the parameter; a test can change it at any time
    :ivar faults: the faults and delays that a test adds, a
        :class:`~attachguard.testing.fault_injection.Faults`
    """

    min_version = (2, 1)
    max_version = (2, 104)
    routes = (
        service.Route('GET', '/', 'list_versions'),
        service.Route('GET', _BASE, 'show_version'),
        service.Route('GET', f'{_BASE}/servers', 'server_api.index'),
        service.Route('POST', f'{_BASE}/servers', 'server_api.create'),
        service.Route('GET', f'{_BASE}/servers/detail', 'server_api.detail'),
        service.Route('GET', _SERVER, 'server_api.show'),
        service.Route('DELETE', _SERVER, 'server_api.delete'),
        service.Route('GET', _ATTACHMENTS, 'attachment_api.index'),
        service.Route('POST', _ATTACHMENTS, 'attachment_api.create'),
        service.Route('GET', _ATTACHMENT, 'attachment_api.show'),
        service.Route('DELETE', _ATTACHMENT, 'attachment_api.delete'),
        service.Route('GET', f'{_BASE}/os-services', 'service_api.index'),
        service.Route('GET', f'{_BASE}/flavors', 'flavor_api.index'),
        service.Route('GET', f'{_BASE}/flavors/detail', 'flavor_api.detail'),
        service.Route(
            'GET', f'{_BASE}/flavors/{{flavor_id}}', 'flavor_api.show'
        ),
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
        self._records = records.Records()
        self.servers = self._records.servers
        self.flavors = self._records.flavors
        self.server_api = servers.ServerApi(self._records, self._cinder)
        self.attachment_api = volume_attachments.VolumeAttachmentApi(
            self._records, self._cinder
        )
        self.service_api = compute_services.ComputeServiceApi(self._records)
        self.flavor_api = flavors.FlavorApi(self._records)
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

    def add_server(
        self,
        project_id: str,
        name: str = 'server',
        *,
        server_id: str | None = None,
        user_id: str = '',
        status: str = 'ACTIVE',
    ) -> records.Server:
        """Add a server.

        :param project_id: id of its project
        :param name: its name
        :param server_id: its id, a random one by default
        :param user_id: id of its owner
        :param status: its status
        :returns: the server
        """
        server = records.Server(
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
    ) -> records.Attachment:
        """Add Nova's record of an attachment; Cinder is not informed.

        :param server_id: id of the server
        :param volume_id: id of the volume
        :param attachment_id: id of Cinder's attachment; ``None`` for a volume
            attached before Queens
        :param device: its name, the next free one by default
        :returns: the record
        """
        server = self.servers[server_id]
        with self._records.lock:
            attachment = records.Attachment(
                volume_id, device or server.next_device(), attachment_id
            )
            server.attachments[volume_id] = attachment
        return attachment

    def _urlmap(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        path = environ['PATH_INFO'].rstrip('/')
        if not path:
            return self._dispatch(environ, start_response)
        application = self._version_api if path == '/v2.1' else self._api
        response: Iterable[bytes] = application(environ, start_response)
        return response

    def _cinder(self, request: service.Request) -> cinder_client.CinderClient:
        token = request.environ['keystone.token_auth']
        auth: typing.Any = access.AccessInfoPlugin(token.user)
        if self.service_token:
            auth = ksa_service_token.ServiceTokenAuthWrapper(
                user_auth=auth, service_auth=self._auth
            )
        return cinder_client.CinderClient(self._session, auth)

    def error(self, status: int, message: str) -> webob.Response:
        response = super().error(status, message)
        response.charset = 'UTF-8'
        return response

    def prepare(
        self, request: service.Request, params: dict[str, typing.Any]
    ) -> None:
        if request.path_info != '/':
            requested = microversion_parse.get_version(
                request.headers,
                service_type='compute',
                legacy_headers=[_LEGACY_HEADER],
            )
            self.set_version(request, requested or '2.1')
        request.caller = service.Caller.from_request(request)

    def finish(
        self, request: service.Request, response: webob.Response
    ) -> None:
        version = getattr(request, 'version', None)
        if version is not None:
            text = service.format_version(version)
            response.headers['OpenStack-API-Version'] = f'compute {text}'
            response.headers[_LEGACY_HEADER] = text
            response.headers['Vary'] = (
                f'OpenStack-API-Version, {_LEGACY_HEADER}'
            )

    def list_versions(self, request: service.Request) -> webob.Response:
        """List the versions of the API."""
        old = {
            'id': 'v2.0',
            'status': 'DEPRECATED',
            'version': '',
            'min_version': '',
            'updated': '2025-07-04T12:00:00Z',
            'links': [
                {'rel': 'self', 'href': f'{request.application_url}/v2/'}
            ],
        }
        return service.respond(
            200, {'versions': [old, self._version(request)]}
        )

    def show_version(self, request: service.Request) -> webob.Response:
        """Show the version of the API."""
        media_type = 'application/vnd.openstack.compute+json;version=2.1'
        version = self._version(request)
        version['links'].append(
            {
                'rel': 'describedby',
                'type': 'text/html',
                'href': 'http://docs.openstack.org/',
            }
        )
        version['media-types'] = [
            {'base': 'application/json', 'type': media_type}
        ]
        return service.respond(200, {'version': version})

    def _version(self, request: service.Request) -> dict[str, typing.Any]:
        return {
            'id': 'v2.1',
            'status': 'CURRENT',
            'version': service.format_version(self.max_version),
            'min_version': service.format_version(self.min_version),
            'updated': '2013-07-23T11:33:21Z',
            'links': [
                {'rel': 'self', 'href': f'{request.application_url}/v2.1/'}
            ],
        }
