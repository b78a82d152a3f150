# SPDX-License-Identifier: Apache-2.0

"""The resource ``/servers`` of the stub of Nova."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import typing
import uuid

import webob

from attachguard.testing import service
from attachguard.testing.stub_nova import cinder_client
from attachguard.testing.stub_nova import errors
from attachguard.testing.stub_nova import records
from attachguard.testing.stub_nova import server_view

#: ``[api] max_limit``: the largest number of servers in a page.
MAX_LIMIT = 1000

#: From this microversion on, Nova lists the servers of a cell that is down
#: with the few properties that it knows.
_DOWN_CELLS = (2, 69)

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


class ServerApi:
    """Handles the requests for servers.

    :param nova_records: the records of Nova
    :param cinder: makes the client of Cinder for a request
    """

    def __init__(
        self,
        nova_records: records.Records,
        cinder: Callable[[service.Request], cinder_client.CinderClient],
    ) -> None:
        self._records = nova_records
        self._cinder = cinder

    def index(self, request: service.Request) -> webob.Response:
        """List the ids and names of a page of servers."""
        page, more = self._select(request, 'index')
        views = [
            {
                'id': server.id,
                'name': server.name,
                'links': server_view.links(request, 'servers', server.id),
            }
            for server in page
        ]
        return service.respond(200, {'servers': views, **more})

    def detail(self, request: service.Request) -> webob.Response:
        """List a page of servers with all their properties."""
        page, more = self._select(request, 'detail')
        views = [self._view(request, server) for server in page]
        return service.respond(200, {'servers': views, **more})

    def show(self, request: service.Request, server_id: str) -> webob.Response:
        """Show a server."""
        server = self._records.find_server(
            request, server_id, 'reader', 'servers:show'
        )
        if server.cell_down and request.version < _DOWN_CELLS:
            raise errors.unexpected('NovaException')
        view = self._view(request, server)
        if not server.cell_down and request.version >= (2, 71):
            view['server_groups'] = []
        if not server.cell_down and request.version >= (2, 100):
            view['scheduler_hints'] = {}
        return service.respond(200, {'server': view})

    def _view(
        self, request: service.Request, server: records.Server
    ) -> dict[str, typing.Any]:
        flavor = self._records.flavors[server.flavor]
        return server_view.show(request, server, flavor)

    def _select(
        self, request: service.Request, rule: str
    ) -> tuple[list[records.Server], dict[str, typing.Any]]:
        query = request.GET
        rule = f'os_compute_api:servers:{rule}'
        if not query.get('limit', '0').isdigit():
            raise service.Refused(
                400,
                'Invalid input for query parameters limit. Value: '
                f"{query['limit']}. {query['limit']!r} does not match "
                "'^[0-9]*$'",
            )
        request.authorize('reader', rule)
        if query.get('all_tenants', '0').lower() in ('1', 'true', ''):
            request.authorize('admin', f'{rule}:get_all_tenants')
            project = query.get('project_id') or query.get('tenant_id')
        else:
            project = request.caller.project_id

        # A list that is filtered, sorted or paged omits the servers of a cell
        # that is down.
        with_down_cells = request.version >= _DOWN_CELLS and not {*query} - {
            'all_tenants'
        }
        deleted = request.caller.is_admin and query.get(
            'deleted', ''
        ).lower() in ('1', 'true')
        soft_deleted = request.caller.is_admin and 'soft_deleted' in query
        servers = [
            server
            for server in self._after_marker(query.get('marker'))
            if project in (None, server.project_id)
            and (
                server.deleted is deleted
                or deleted
                and server.status == 'SOFT_DELETED'
            )
            and (with_down_cells or not server.cell_down)
            and (soft_deleted or deleted or server.status != 'SOFT_DELETED')
            and query.get('name', server.name) in server.name
            and query.get('status', server.status).upper() == server.status
            and query.get('uuid', server.id) == server.id
        ]
        limit = min(int(query.get('limit', MAX_LIMIT)), MAX_LIMIT)
        page = servers[:limit]
        if not page or len(page) < limit:
            return page, {}
        return page, service.next_page(request, 'servers', page[-1].id)

    def _after_marker(self, marker: str | None) -> list[records.Server]:
        """List the servers after the marker, newest first.

        :param marker: id of any server, even one that the filters exclude
        :raises Refused: 400, there is no such server
        """
        servers = sorted(
            self._records.servers.values(),
            key=lambda server: (server.created, server.id),
            reverse=True,
        )
        if marker is None:
            return servers
        ids = [server.id for server in servers]
        if marker not in ids:
            raise service.Refused(400, f'marker [{marker}] not found')
        return servers[ids.index(marker) + 1 :]

    def create(self, request: service.Request) -> webob.Response:
        """Create a server, which is active afterwards.

        As in Nova, a volume is reserved in Cinder before the server and its
        record of the volume exist, and is connected while it is built.
        """
        arguments = service.validate(
            service.json_body(request), _CREATE_SCHEMA
        )['server']
        request.authorize('member', 'os_compute_api:servers:create')
        flavor = str(arguments['flavorRef'])
        if flavor not in self._records.flavors:
            raise service.Refused(400, f'Flavor {flavor} could not be found.')
        mappings = [
            mapping
            for mapping in arguments.get('block_device_mapping_v2', ())
            if mapping.get('destination_type') == 'volume'
        ]
        if any(m.get('source_type') != 'volume' for m in mappings):
            raise service.Refused(
                400, 'This stub boots from existing volumes only.'
            )
        server = records.Server(
            str(uuid.uuid4()),
            arguments['name'],
            request.caller.project_id,
            request.caller.user_id,
            flavor,
            arguments.get('imageRef') or '',
            status='BUILD',
            task_state='spawning',
        )
        cinder = self._cinder(request)
        for mapping in mappings:
            attachment = records.Attachment(
                mapping['uuid'],
                mapping.get('device_name') or server.next_device(),
                cinder.reserve(mapping['uuid'], server.id),
                mapping.get('tag'),
                mapping.get('delete_on_termination', False),
                mapping.get('boot_index'),
            )
            server.attachments[attachment.volume_id] = attachment
        self._records.servers[server.id] = server
        for attachment in list(server.attachments.values()):
            cinder.connect(server, attachment)
        server.status, server.task_state = 'ACTIVE', None
        view = {
            'id': server.id,
            'links': server_view.links(request, 'servers', server.id),
            'OS-DCF:diskConfig': 'MANUAL',
            'security_groups': [{'name': 'default'}],
            'adminPass': uuid.uuid4().hex[:12],
        }
        return service.respond(202, {'server': view})

    def delete(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Delete a server and its attachments in Cinder.

        As in Nova, the server is deleted even if Cinder does not delete an
        attachment.
        """
        server = self._records.find_server(
            request, server_id, 'member', 'servers:delete'
        )
        cinder = self._cinder(request)
        for attachment in list(server.attachments.values()):
            with contextlib.suppress(service.Refused):
                cinder.disconnect(attachment)
                if attachment.delete_on_termination:
                    cinder.delete_volume(attachment.volume_id)
        self._records.servers.pop(server.id, None)
        return service.respond(204)
