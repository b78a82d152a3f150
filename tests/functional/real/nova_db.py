# SPDX-License-Identifier: Apache-2.0

"""Make Nova's databases with its own migrations, and read them as it does.

It runs in a separate process, because Nova's configuration is global.
"""

from __future__ import annotations

import json
import sys

from tests.functional.real import process


def sync(api: str, cells: dict[str, str]) -> None:
    """Make the schemas, and map the cells.

    :param api: SQLAlchemy's URL of the empty database nova_api
    :param cells: by name, those of the empty databases of cells
    """
    process.complete(__name__, {'api': api, 'cells': cells})


def holders(url: str, volume_id: str) -> list[str]:
    """The servers because of which Nova refuses to attach a volume elsewhere.

    :param url: SQLAlchemy's URL of the database of a cell
    """
    settings = {'url': url, 'volume': volume_id}
    found: list[str] = json.loads(
        process.complete(__name__, settings).splitlines()[-1]
    )
    return found


def statuses() -> dict[str, str]:
    """How the API calls the states of servers without a task_state."""
    found: dict[str, str] = json.loads(
        process.complete(__name__, {}).splitlines()[-1]
    )
    return found


def _main() -> None:
    from nova import monkey_patch

    # This must run before any other module of Nova is imported.
    monkey_patch.patch(backend='threading')

    settings = json.loads(sys.argv[1])
    if 'volume' in settings:
        print(json.dumps(_holders(settings['url'], settings['volume'])))
        return
    if settings:
        _sync(settings['api'], settings['cells'])
        return
    from nova.api.openstack import common
    from nova.compute import vm_states

    states = [
        value for name, value in vars(vm_states).items() if name.isupper()
    ]
    print(
        json.dumps(
            {
                state: common.status_from_state(state)
                for state in states
                if isinstance(state, str)
            }
        )
    )


def _holders(url: str, volume_id: str) -> list[str]:
    """Read what ``nova.compute.api`` checks before it attaches a volume."""
    from nova import config
    from nova import context
    from nova import exception
    from nova import objects
    from nova.db.main import api as main_database
    from oslo_config import cfg

    config.parse_args(['nova'], default_config_files=[], configure_db=False)
    cfg.CONF.set_override('connection', url, 'database')
    main_database.configure(cfg.CONF)
    objects.register_all()
    try:
        found = objects.BlockDeviceMappingList.get_by_volume(
            context.get_admin_context(), volume_id
        )
    except exception.VolumeBDMNotFound:
        return []
    return [mapping.instance_uuid for mapping in found]


def _sync(api: str, cells: dict[str, str]) -> None:
    from nova import config
    from nova import context
    from nova import objects
    from nova.db import migration
    from nova.db.api import api as api_database
    from oslo_config import cfg
    from oslo_utils import uuidutils

    config.parse_args(['nova'], default_config_files=[], configure_db=False)
    cfg.CONF.set_override('connection', api, 'api_database')
    api_database.configure(cfg.CONF)
    objects.register_all()
    migration.db_sync(database='api')
    admin = context.get_admin_context()
    for name, url in cells.items():
        cell = objects.CellMapping(
            admin,
            uuid=objects.CellMapping.CELL0_UUID
            if name == 'cell0'
            else uuidutils.generate_uuid(),
            name=name,
            transport_url='none:///',
            database_connection=url,
        )
        cell.create()
        with context.target_cell(admin, cell) as cell_context:
            migration.db_sync(context=cell_context)


if __name__ == '__main__':
    _main()
