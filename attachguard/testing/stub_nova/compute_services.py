# SPDX-License-Identifier: Apache-2.0

"""The resource ``/os-services`` of the stub of Nova."""

from __future__ import annotations

import datetime
import typing
import uuid

import webob

from attachguard.testing import service
from attachguard.testing.stub_nova import records


def _view(request: service.Request, host: str) -> dict[str, typing.Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    view: dict[str, typing.Any] = {
        'binary': 'nova-compute',
        'host': host,
        'id': 1,
        'zone': 'nova',
        'status': 'enabled',
        'state': 'up',
        'updated_at': now.strftime('%Y-%m-%dT%H:%M:%S.000000'),
        'disabled_reason': None,
    }
    if request.version >= (2, 11):
        view['forced_down'] = False
    if request.version >= (2, 53):
        view['id'] = str(uuid.uuid5(uuid.NAMESPACE_DNS, host))
    return view


class ComputeServiceApi:
    """Handles the requests for compute services.

    :param nova_records: the records of Nova
    """

    def __init__(self, nova_records: records.Records) -> None:
        self._records = nova_records

    def index(self, request: service.Request) -> webob.Response:
        """List the compute services, one for each host with servers."""
        request.authorize('admin', 'os_compute_api:os-services:list')
        query = request.GET
        servers = self._records.servers.values()
        hosts = {records.Server.host, *(server.host for server in servers)}
        if query.get('binary', 'nova-compute') != 'nova-compute':
            hosts = set()
        down = {server.host for server in servers if server.cell_down}
        views = [
            {'binary': 'nova-compute', 'host': host, 'status': 'UNKNOWN'}
            if host in down
            else _view(request, host)
            for host in sorted(hosts)
            if query.get('host', host) == host
        ]
        return service.respond(200, {'services': views})
