# SPDX-License-Identifier: Apache-2.0

"""The real Nova API, over a database with the servers of a test.

There is no conductor, scheduler or compute service.
"""

from __future__ import annotations

from nova import monkey_patch

# This must run before any other module of Nova is imported.
monkey_patch.patch(backend='threading')

# ruff: noqa: E402
import datetime
import os
import pathlib
import sys
import typing

from nova import context as nova_context
from nova import objects
from nova.api.openstack import wsgi_app
from nova.db import migration
from nova.network import model as network_model

from tests.functional.real import process

_PASTE = f'{sys.prefix}/etc/nova/api-paste.ini'

_CONFIG = """
[DEFAULT]
transport_url = fake://
state_path = {directory}
host = nova-api
[api_database]
connection = sqlite:///{directory}/api.sqlite
[database]
connection = sqlite:///{directory}/cell1.sqlite
[oslo_concurrency]
lock_path = {directory}
[keystone_authtoken]
www_authenticate_uri = {keystone_url}
{credentials}
[neutron]
region_name = RegionOne
{credentials}
"""

_CREDENTIALS = """
auth_type = password
auth_url = {keystone_url}
username = nova
password = nova
project_name = service
user_domain_id = default
project_domain_id = default
"""


def _map_cells(directory: pathlib.Path) -> objects.CellMapping:
    context = nova_context.get_admin_context()
    cells = []
    for name, uuid, transport_url in (
        ('cell0', objects.CellMapping.CELL0_UUID, 'none:///'),
        ('cell1', '00000000-0000-0000-0000-000000000001', 'fake://'),
    ):
        cell = objects.CellMapping(
            context,
            uuid=uuid,
            name=name,
            transport_url=transport_url,
            database_connection=f'sqlite:///{directory}/{name}.sqlite',
        )
        cell.create()
        with nova_context.target_cell(context, cell) as cell_context:
            migration.db_sync(context=cell_context)
        cells.append(cell)
    return cells[-1]


def _add_compute(cell: objects.CellMapping) -> None:
    context = nova_context.get_admin_context()
    with nova_context.target_cell(context, cell) as cell_context:
        compute = objects.Service(
            cell_context,
            host='compute1',
            binary='nova-compute',
            topic='compute',
            report_count=0,
            disabled=False,
        )
        compute.create()
        # The service reports that it is up.
        compute.report_count += 1
        compute.save()


def _add_flavor() -> objects.Flavor:
    flavor = objects.Flavor(
        nova_context.get_admin_context(),
        name='m1.tiny',
        flavorid='1',
        memory_mb=512,
        vcpus=1,
        root_gb=1,
        ephemeral_gb=0,
        swap=0,
        rxtx_factor=1.0,
        is_public=True,
        disabled=False,
        extra_specs={},
    )
    flavor.create()
    return flavor


def _add_server(
    cell: objects.CellMapping,
    flavor: objects.Flavor,
    server: dict[str, typing.Any],
) -> None:
    context = nova_context.get_admin_context()
    vm_state = {'BUILD': 'building', 'DELETED': 'deleted'}.get(
        server['status'], 'active'
    )
    with nova_context.target_cell(context, cell) as cell_context:
        instance = objects.Instance(
            cell_context,
            uuid=server['id'],
            project_id=server['project_id'],
            user_id=server['user_id'],
            display_name='server',
            hostname='server',
            host='compute1',
            node='compute1',
            compute_id=1,
            vm_state=vm_state,
            task_state=server['task_state'],
            power_state=1,
            progress=0,
            flavor=flavor,
            old_flavor=None,
            new_flavor=None,
            image_ref='',
            kernel_id='',
            ramdisk_id='',
            reservation_id='r-1',
            root_device_name='/dev/vda',
            launch_index=0,
            memory_mb=512,
            vcpus=1,
            root_gb=1,
            ephemeral_gb=0,
            config_drive='',
            availability_zone='nova',
            launched_at=(
                None
                if vm_state == 'building'
                else datetime.datetime.now(datetime.UTC)
            ),
            info_cache=objects.InstanceInfoCache(
                instance_uuid=server['id'],
                network_info=network_model.NetworkInfo([]),
            ),
            system_metadata={},
            metadata={},
        )
        instance.create()
        if server['deleted']:
            # Before its mappings: it leaves none.
            instance.destroy()
        for attachment in server['attachments'].values():
            objects.BlockDeviceMapping(
                cell_context,
                instance_uuid=server['id'],
                source_type='volume',
                destination_type='volume',
                device_type='disk',
                connection_info='{}',
                delete_on_termination=False,
                no_device=False,
                volume_id=attachment['volume_id'],
                attachment_id=attachment['attachment_id'],
                device_name=attachment['device'],
            ).create()
    objects.InstanceMapping(
        context,
        instance_uuid=server['id'],
        cell_mapping=cell,
        project_id=server['project_id'],
        user_id=server['user_id'],
    ).create()


def main() -> None:
    """Serve Nova's API with the servers in the settings."""
    settings, output = process.read_settings()
    directory = pathlib.Path(settings['directory'])
    config = directory / 'nova.conf'
    url = settings['keystone_url']
    config.write_text(
        _CONFIG.format(
            directory=directory,
            keystone_url=url,
            credentials=_CREDENTIALS.format(keystone_url=url),
        )
    )
    # Nova loads its pipeline from the first file.
    os.environ['OS_NOVA_CONFIG_FILES'] = f'{_PASTE};{config}'
    wsgi_app.init_global_data([str(config)], 'osapi_compute', 'nova-api')
    migration.db_sync(database='api')
    cell = _map_cells(directory)
    _add_compute(cell)
    flavor = _add_flavor()
    for server in settings['servers']:
        _add_server(cell, flavor, server)
    process.serve_until_closed(
        wsgi_app.init_application('osapi_compute', 'nova-api-os-compute'),
        output,
    )


if __name__ == '__main__':
    main()
