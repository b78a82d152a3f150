# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the services, as an operator writes them."""

from __future__ import annotations

from collections.abc import Mapping
import configparser
import dataclasses
import os
import pathlib
import sys
from typing import Any

from attachguard.testing import embedded
from tests.cloud import compute_driver
from tests.cloud import mode as modes

REGION = 'RegionOne'
#: Of every user of this cloud.
PASSWORD = 'loopback'

# Of what logs at debug level, only Cinder's own is of use.
_QUIET = ','.join(
    f'{name}=WARN'
    for name in (
        'amqp',
        'dogpile',
        'keystoneauth',
        'keystonemiddleware',
        'os_brick',
        'oslo_concurrency',
        'oslo_db',
        'oslo_messaging',
        'oslo.messaging',
        'oslo_policy',
        'oslo_privsep',
        'oslo_service',
        'routes',
        'sqlalchemy',
        'stevedore',
        'urllib3',
    )
)

Options = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Places:
    """Where everything is.

    :param directory: the cloud's directory
    :param ports: name of a service to its port
    :param databases: name of a database to its SQLAlchemy URL
    :param transport_url: of the message server
    """

    directory: pathlib.Path
    ports: Mapping[str, int]
    databases: Mapping[str, str]
    transport_url: str

    def url(self, service: str) -> str:
        """The address of a service, without a path."""
        return f'http://127.0.0.1:{self.ports[service]}'

    @property
    def keystone_url(self) -> str:
        return self.url('keystone') + '/v3'

    def etc(self, project: str) -> pathlib.Path:
        """The directory of a project's configuration."""
        return self.directory / 'etc' / project


def prefix(project: str) -> pathlib.Path:
    """The virtual environment of a project's services.

    That of Cinder can be another one, with an older release: it is named by
    the environment variable ``ATTACHGUARD_CLOUD_CINDER``.
    """
    other = os.environ.get('ATTACHGUARD_CLOUD_CINDER')
    return pathlib.Path(other if other and project == 'cinder' else sys.prefix)


def _installed(project: str, name: str) -> pathlib.Path:
    return prefix(project) / 'etc' / project / name


def _credentials(places: Places, user: str) -> dict[str, Any]:
    return {
        'auth_type': 'password',
        'auth_url': places.keystone_url,
        'username': user,
        'password': PASSWORD,
        'user_domain_name': 'Default',
        'project_name': 'service',
        'project_domain_name': 'Default',
        'region_name': REGION,
    }


def _authtoken(places: Places, user: str) -> dict[str, Any]:
    return {
        **_credentials(places, user),
        'www_authenticate_uri': places.keystone_url,
        'service_token_roles': 'service',
        'service_token_roles_required': True,
    }


def _database(places: Places, name: str) -> dict[str, Any]:
    return {
        'connection': places.databases[name],
        # Debian's MariaDB takes 151 connections, and there are many
        # processes here that keep theirs.
        'max_pool_size': 3,
        'max_overflow': 30,
    }


def _common(places: Places, project: str) -> Options:
    state = places.directory / 'state' / project
    state.mkdir(parents=True, exist_ok=True)
    return {
        'DEFAULT': {
            'state_path': state,
            'transport_url': places.transport_url,
        },
        'oslo_concurrency': {'lock_path': state / 'locks'},
        'oslo_messaging_rabbit': {'heartbeat_in_pthread': False},
        'oslo_messaging_notifications': {'driver': 'noop'},
    }


def _keystone(places: Places, **token: Any) -> Options:
    return {
        **_common(places, 'keystone'),
        'database': _database(places, 'keystone'),
        'fernet_tokens': {'key_repository': places.directory / 'keys'},
        'fernet_receipts': {'key_repository': places.directory / 'keys'},
        'credential': {'key_repository': places.directory / 'keys'},
        'cache': {'enabled': True, 'backend': 'dogpile.cache.memory'},
        # There are no people here, whose passwords somebody might guess.
        'identity': {'password_hash_rounds': 4},
        'token': token,
    }


def _placement(places: Places) -> Options:
    return {
        **_common(places, 'placement'),
        'placement_database': _database(places, 'placement'),
        'api': {'auth_strategy': 'keystone'},
        'keystone_authtoken': _authtoken(places, 'placement'),
    }


def _glance(places: Places) -> Options:
    images = places.directory / 'state' / 'glance' / 'images'
    images.mkdir(parents=True, exist_ok=True)
    options = _common(places, 'glance')
    options['DEFAULT'].update(
        {
            'enabled_backends': 'files:file',
            'node_staging_uri': f'file://{images.parent}/staging',
        }
    )
    return {
        **options,
        'database': _database(places, 'glance'),
        'glance_store': {'default_backend': 'files'},
        'files': {'filesystem_store_datadir': images},
        'os_glance_staging_store': {
            'filesystem_store_datadir': images.parent / 'staging'
        },
        'os_glance_tasks_store': {
            'filesystem_store_datadir': images.parent / 'tasks'
        },
        'paste_deploy': {
            'flavor': 'keystone',
            'config_file': _installed('glance', 'glance-api-paste.ini'),
        },
        'keystone_authtoken': _authtoken(places, 'glance'),
    }


def _nova(places: Places, mode: modes.Mode, host: str) -> Options:
    options = _common(places, 'nova')
    state = options['DEFAULT']['state_path']
    if host:
        # It keeps the node's uuid there.
        state = state / host
        state.mkdir(exist_ok=True)
    options['DEFAULT'].update(
        {
            'state_path': state,
            'host': host or 'controller',
            'my_ip': '127.0.0.1',
            'compute_driver': compute_driver.NAME,
            'allow_resize_to_same_host': False,
            # A compute that was stopped for another mode is missed sooner
            # than it would be by default, and back as soon.
            'report_interval': 3,
            'service_down_time': 30,
            # Else the first search for computes is up to a minute away.
            'periodic_fuzzy_delay': 0,
        }
    )
    user = _credentials(places, 'nova')
    authtoken = _authtoken(places, 'nova')
    if not mode.nova_is_service:
        authtoken |= {'username': 'admin', 'project_name': 'admin'}
    return {
        **options,
        'database': _database(places, 'nova_cell1'),
        'api_database': _database(places, 'nova_api'),
        'keystone_authtoken': authtoken,
        'service_user': {
            **user,
            'send_service_user_token': mode.service_token,
        },
        'placement': user,
        'neutron': user,
        'glance': {**user, 'num_retries': 3},
        'cinder': {**user, 'catalog_info': 'block-storage::publicURL'},
        'scheduler': {'discover_hosts_in_cells_interval': 2, 'workers': 1},
        'conductor': {'workers': 1},
        'quota': {
            name: -1
            for name in ('instances', 'cores', 'ram', 'injected_files')
        },
        'vnc': {'enabled': False},
    }


def _cinder(places: Places, mode: modes.Mode) -> Options:
    options = _common(places, 'cinder')
    options['DEFAULT'].update(
        {
            'host': 'controller',
            'my_ip': '127.0.0.1',
            # It is what names the action of a request in the log.
            'debug': True,
            'log_options': False,
            'default_log_levels': _QUIET,
            'auth_strategy': 'keystone',
            'api_paste_config': places.etc('cinder') / 'api-paste.ini',
            'resource_query_filters_file': _installed(
                'cinder', 'resource_filters.json'
            ),
            'enabled_backends': 'one,two',
            'default_volume_type': 'one',
            'glance_api_servers': places.url('glance'),
            'quota_volumes': -1,
            'quota_gigabytes': -1,
            'quota_snapshots': -1,
        }
    )
    options |= {
        name: {
            'volume_driver': 'tests.cloud.volume.Driver',
            'volume_backend_name': name,
        }
        for name in ('one', 'two')
    }
    user = _credentials(places, 'cinder')
    return {
        **options,
        'database': _database(places, 'cinder'),
        'keystone_authtoken': {
            **_authtoken(places, 'cinder'),
            'service_type': 'block-storage',
            'service_token_roles_required': mode.service_roles_required,
        },
        'service_user': {**user, 'send_service_user_token': True},
        # Without them, the guard queries Nova as the caller.
        'nova': {
            **(user if mode.nova_credentials else {}),
            'interface': 'public',
            'region_name': REGION,
        },
        # One machine runs all of Nova.
        'attachguard': {'nova_timeout': 10, **mode.guard_options},
    }


def _write(path: pathlib.Path, options: Options) -> None:
    config = configparser.ConfigParser(
        interpolation=None, default_section='none'
    )
    config.read_dict(options)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        config.write(file)


def guarded(paste_ini: pathlib.Path, sample: pathlib.Path) -> str:
    """Put the filter into a paste file as the sample says.

    :param paste_ini: Cinder's own
    :param sample: ours, whose filter section is taken
    :returns: the text of the file with the guard in it
    :raises ValueError: a pipeline is not as the sample's recipe expects it
    """
    recipe = configparser.RawConfigParser()
    recipe.read(sample)
    text = paste_ini.read_text()
    before, after = (
        'keystonecontext apiv3',
        'keystonecontext attachguard apiv3',
    )
    if text.count(before) != 2:
        raise ValueError(f'"{before}" is not twice in {paste_ini}')
    section = ''.join(
        f'{name} = {value}\n'
        for name, value in recipe.items('filter:attachguard')
    )
    return f'{text.replace(before, after)}\n[filter:attachguard]\n{section}'


def write(places: Places, mode: modes.Mode) -> None:
    """Write every file for a mode of the cloud.

    :param places: where everything is
    :param mode: with the guard or without it, and what Nova sends
    """
    _write(places.etc('keystone') / 'keystone.conf', _keystone(places))
    _write(
        places.etc('keystone-brief') / 'keystone.conf',
        # Whose tokens are over before a test is.
        _keystone(places, expiration=3, allow_expired_window=0),
    )
    _write(places.etc('placement') / 'placement.conf', _placement(places))
    _write(places.etc('glance') / 'glance-api.conf', _glance(places))
    for host in ('', *compute_driver.HOSTS):
        _write(
            places.etc('nova') / f'nova{"-" * bool(host)}{host}.conf',
            _nova(places, mode, host),
        )
    _write(places.etc('cinder') / 'cinder.conf', _cinder(places, mode))
    theirs = _installed('cinder', 'api-paste.ini')
    text = (
        guarded(theirs, embedded.sample_paste_ini())
        if mode.guard
        else theirs.read_text()
    )
    (places.etc('cinder') / 'api-paste.ini').write_text(text)
