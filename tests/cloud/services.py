# SPDX-License-Identifier: Apache-2.0
"""The services of the cloud: how each is made ready, and started."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import sys

from tests.cloud import compute_driver
from tests.cloud import config

#: Those that listen.
APIS = ('keystone', 'placement', 'glance', 'neutron', 'nova', 'cinder')
#: Another Keystone of the same users, whose tokens last for three seconds.
BRIEF_KEYSTONE = 'keystone-brief'
DATABASES = (
    'keystone',
    'placement',
    'glance',
    'cinder',
    'nova_api',
    'nova_cell0',
    'nova_cell1',
)
COMPUTES = tuple(f'nova-{host}' for host in compute_driver.HOSTS)
NOVA = ('nova-api', 'nova-conductor', 'nova-scheduler', *COMPUTES)

_ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Service:
    """How a service is started.

    :param command: the command line
    :param environ: what to add to the environment
    :param url: answers once the API works
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    url: str | None = None


def services(places: config.Places) -> dict[str, Service]:
    """Every service but :data:`BRIEF_KEYSTONE`, by its name.

    :param places: where everything is
    """
    nova_conf = f'{places.etc("nova")}/nova.conf'
    cinder_conf = f'--config-file={places.etc("cinder")}/cinder.conf'
    nova_paste = f'{sys.prefix}/etc/nova/api-paste.ini'
    return {
        'keystone': _keystone(places, 'keystone'),
        'neutron': _api(places, 'neutron', 'tests.cloud.neutron'),
        'placement': _api(
            places,
            'placement',
            'placement.wsgi.api',
            OS_PLACEMENT_CONFIG_DIR=str(places.etc('placement')),
        ),
        'glance': _api(
            places,
            'glance',
            'glance.wsgi.api',
            OS_GLANCE_CONFIG_DIR=str(places.etc('glance')),
        ),
        'cinder-api': _api(places, 'cinder', 'cinder.wsgi.api', cinder_conf),
        'nova-api': _api(
            places,
            'nova',
            'nova.wsgi.osapi_compute',
            OS_NOVA_CONFIG_FILES=f'{nova_paste};{nova_conf}',
        ),
        **{
            name: _daemon(_script('cinder', name), cinder_conf)
            for name in ('cinder-scheduler', 'cinder-volume')
        },
        **{
            name: _daemon(_script('nova', name), f'--config-file={nova_conf}')
            for name in ('nova-conductor', 'nova-scheduler')
        },
        **{
            name: _daemon(
                sys.executable,
                '-m',
                'tests.cloud.compute',
                f'--config-file={places.etc("nova")}/{name}.conf',
            )
            for name in COMPUTES
        },
    }


def brief_keystone(places: config.Places) -> Service:
    """The service :data:`BRIEF_KEYSTONE`.

    :param places: where everything is
    """
    return _keystone(places, BRIEF_KEYSTONE)


def preparations(places: config.Places) -> dict[str, list[list[str]]]:
    """The commands that fill the databases, by project.

    :param places: where everything is
    """

    def manage(project: str, *words: str) -> list[str]:
        name = 'glance-api' if project == 'glance' else project
        return [
            _script(project, f'{project}-manage'),
            f'--config-file={places.etc(project)}/{name}.conf',
            *words,
        ]

    return {
        'keystone': [
            manage('keystone', 'db_sync'),
            manage(
                'keystone',
                'fernet_setup',
                f'--keystone-user={os.geteuid()}',
                f'--keystone-group={os.getegid()}',
            ),
            manage(
                'keystone',
                'bootstrap',
                f'--bootstrap-password={config.PASSWORD}',
                f'--bootstrap-region-id={config.REGION}',
                *(
                    f'--bootstrap-{interface}-url={places.keystone_url}'
                    for interface in ('public', 'internal', 'admin')
                ),
            ),
        ],
        'placement': [manage('placement', 'db', 'sync')],
        'glance': [manage('glance', 'db_sync')],
        'cinder': [manage('cinder', 'db', 'sync')],
        'nova': [
            manage('nova', 'api_db', 'sync'),
            manage(
                'nova',
                'cell_v2',
                'map_cell0',
                f'--database_connection={places.databases["nova_cell0"]}',
            ),
            manage(
                'nova',
                'cell_v2',
                'create_cell',
                '--name=cell1',
                f'--database_connection={places.databases["nova_cell1"]}',
                f'--transport-url={places.transport_url}',
            ),
            manage('nova', 'db', 'sync'),
        ],
    }


def access_log(directory: pathlib.Path, api: str) -> pathlib.Path:
    """The log of the requests to an API.

    :param directory: the cloud's
    :param api: one of :data:`APIS`
    """
    return directory / 'log' / f'{api}-access.log'


def _script(project: str, name: str) -> str:
    return str(config.prefix(project) / 'bin' / name)


def _daemon(*command: str) -> Service:
    return Service(command, {'PYTHONPATH': str(_ROOT)})


def _api(
    places: config.Places,
    name: str,
    module: str,
    *arguments: str,
    **environ: str,
) -> Service:
    return Service(
        [
            _script(name, 'python'),
            '-m',
            'tests.cloud.api',
            module,
            str(places.ports[name]),
            str(access_log(places.directory, name)),
            *arguments,
        ],
        {'PYTHONPATH': str(_ROOT), **environ},
        f'{places.url(name)}/healthcheck',
    )


def _keystone(places: config.Places, name: str) -> Service:
    return _api(
        places,
        name,
        'keystone.wsgi.api',
        OS_KEYSTONE_CONFIG_FILES=f'{places.etc(name)}/keystone.conf',
    )
