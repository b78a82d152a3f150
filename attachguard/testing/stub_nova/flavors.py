# SPDX-License-Identifier: Apache-2.0

"""The resource ``/flavors`` of the stub of Nova."""

from __future__ import annotations

import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_nova import records
from attachguard.testing.stub_nova import server_view


def _view(
    request: service.Request, flavor: records.Flavor
) -> dict[str, typing.Any]:
    view: dict[str, typing.Any] = {
        'id': flavor.id,
        'name': flavor.name,
        'vcpus': flavor.vcpus,
        'ram': flavor.ram,
        'disk': flavor.disk,
        'swap': 0 if request.version >= (2, 75) else '',
        'OS-FLV-EXT-DATA:ephemeral': 0,
        'os-flavor-access:is_public': True,
        'links': server_view.links(request, 'flavors', flavor.id),
    }
    if request.version >= (2, 55):
        view['description'] = None
    if request.version >= (2, 61) and request.caller.has_role('reader'):
        view['extra_specs'] = {}
    if request.version < (2, 102):
        view['OS-FLV-DISABLED:disabled'] = False
        view['rxtx_factor'] = 1.0
    return view


class FlavorApi:
    """Handles the requests for flavors.

    :param nova_records: the records of Nova
    """

    def __init__(self, nova_records: records.Records) -> None:
        self._records = nova_records

    def index(self, request: service.Request) -> webob.Response:
        """List the ids and names of the flavors."""
        keys = ['id', 'name', 'links']
        if request.version >= (2, 55):
            keys.append('description')
        views = [
            {key: _view(request, flavor)[key] for key in keys}
            for flavor in self._records.flavors.values()
        ]
        return service.respond(200, {'flavors': views})

    def detail(self, request: service.Request) -> webob.Response:
        """List the flavors with all their properties."""
        views = [
            _view(request, flavor) for flavor in self._records.flavors.values()
        ]
        return service.respond(200, {'flavors': views})

    def show(self, request: service.Request, flavor_id: str) -> webob.Response:
        """Show a flavor."""
        flavor = self._records.flavors.get(flavor_id)
        if flavor is None:
            raise service.Refused(
                404, f'Flavor {flavor_id} could not be found.'
            )
        return service.respond(200, {'flavor': _view(request, flavor)})
