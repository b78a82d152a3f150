# SPDX-License-Identifier: Apache-2.0

"""The view of a server in the responses of Nova."""

from __future__ import annotations

import typing
import uuid

from attachguard.testing import service
from attachguard.testing.stub_nova import records

# The statuses of servers that show a progress.
_PROGRESS = (
    'ACTIVE',
    'BUILD',
    'MIGRATING',
    'REBUILD',
    'RESIZE',
    'VERIFY_RESIZE',
)

_VM_STATES = {
    'BUILD': 'building',
    'RESCUE': 'rescued',
    'SHUTOFF': 'stopped',
    'SOFT_DELETED': 'soft-delete',
}


def links(
    request: service.Request, kind: str, id: str
) -> list[dict[str, str]]:
    """Make the links to a resource.

    :param request: the request
    :param kind: ``servers``, ``flavors`` or ``images``
    :param id: id of the resource
    """
    base = request.application_url
    return [
        {'rel': 'self', 'href': f'{base}/v2.1/{kind}/{id}'},
        {'rel': 'bookmark', 'href': f'{base}/{kind}/{id}'},
    ]


def show(
    request: service.Request, server: records.Server, flavor: records.Flavor
) -> dict[str, typing.Any]:
    """Make the view of a server with all its properties.

    :param request: the request, with its microversion
    :param server: the server
    :param flavor: the flavor of the server
    """
    version = request.version
    created = server.created.strftime('%Y-%m-%dT%H:%M:%SZ')
    if server.cell_down:
        return {
            'id': server.id,
            'status': 'UNKNOWN',
            'tenant_id': server.project_id,
            'created': created,
            'links': links(request, 'servers', server.id),
        }
    view: dict[str, typing.Any] = {
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
            'links': links(request, 'flavors', flavor.id)[1:],
        },
        'created': created,
        'updated': created,
        'addresses': {},
        'accessIPv4': '',
        'accessIPv6': '',
        'links': links(request, 'servers', server.id),
        'OS-DCF:diskConfig': 'MANUAL',
        'OS-EXT-AZ:availability_zone': 'nova',
        'config_drive': '',
        'key_name': None,
        'OS-SRV-USG:launched_at': None
        if server.status == 'BUILD'
        else server.created.strftime('%Y-%m-%dT%H:%M:%S.000000'),
        'OS-SRV-USG:terminated_at': None,
        'OS-EXT-STS:task_state': server.task_state,
        'OS-EXT-STS:vm_state': _VM_STATES.get(
            server.status, server.status.lower()
        ),
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
    if server.status in _PROGRESS:
        view['progress'] = 0
    if server.image:
        view['image'] = {
            'id': server.image,
            'links': links(request, 'images', server.image)[1:],
        }
    if version >= (2, 47):
        view['flavor'] = {
            'vcpus': flavor.vcpus,
            'ram': flavor.ram,
            'disk': flavor.disk,
            'ephemeral': 0,
            'swap': 0,
            'original_name': flavor.name,
            'extra_specs': {},
        }
    if request.caller.is_admin:
        view['OS-EXT-SRV-ATTR:host'] = server.host
        view['OS-EXT-SRV-ATTR:instance_name'] = f'instance-{server.id}'
        view['OS-EXT-SRV-ATTR:hypervisor_hostname'] = server.host
        if version >= (2, 3):
            view['OS-EXT-SRV-ATTR:hostname'] = server.name
            view['OS-EXT-SRV-ATTR:kernel_id'] = ''
            view['OS-EXT-SRV-ATTR:launch_index'] = 0
            view['OS-EXT-SRV-ATTR:ramdisk_id'] = ''
            view['OS-EXT-SRV-ATTR:reservation_id'] = 'r-1'
            view['OS-EXT-SRV-ATTR:root_device_name'] = '/dev/vda'
            view['OS-EXT-SRV-ATTR:user_data'] = None
        if version >= (2, 16):
            view['host_status'] = 'UP'
    if version >= (2, 9):
        view['locked'] = False
    if version >= (2, 19):
        view['description'] = None
    if version >= (2, 26):
        view['tags'] = []
    if version >= (2, 63):
        view['trusted_image_certificates'] = None
    if version >= (2, 73):
        view['locked_reason'] = None
    if version >= (2, 90):
        view['OS-EXT-SRV-ATTR:hostname'] = server.name
    if version >= (2, 96):
        view['pinned_availability_zone'] = None
    if version >= (2, 100):
        view['scheduler_hints'] = None
    return view
