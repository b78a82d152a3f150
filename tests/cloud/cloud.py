# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""What the cloud consists of, and its life.

Everything it needs is in one directory, in databases and a virtual host that
bear its name, and in processes that bear its mark; ``down`` removes all of
it, also what a run left that was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import socket
import sys
import time
from typing import Any

import openstack.exceptions
import requests

from tests.cloud import backends
from tests.cloud import compute_driver
from tests.cloud import config
from tests.cloud import identity
from tests.cloud import mode as modes
from tests.cloud import processes

_ROOT = pathlib.Path(__file__).parents[2]
_APIS = ('keystone', 'placement', 'glance', 'neutron', 'nova', 'cinder')
_DATABASES = (
    'keystone',
    'placement',
    'glance',
    'cinder',
    'nova_api',
    'nova_cell0',
    'nova_cell1',
)
_NOVA = (
    'nova-api',
    'nova-conductor',
    'nova-scheduler',
    *(f'nova-{host}' for host in compute_driver.HOSTS),
)
# Below what the system hands out to clients.
_FIRST_PORT, _LAST_PORT = 18000, 30000

#: What a server is built with.
FLAVORS = {'tiny': 1, 'small': 2}
IMAGE = 'tiny'
#: Each is a backend's, apart from the last.
VOLUME_TYPES: Mapping[str, Mapping[str, str]] = {
    'one': {'volume_backend_name': 'one'},
    'two': {'volume_backend_name': 'two'},
    'multiattach': {
        'volume_backend_name': 'one',
        'multiattach': '<is> True',
    },
}

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class _Service:
    """How a service is started.

    :param command: the command line
    :param environ: what to add to the environment
    :param url: answers once the API works
    """

    command: list[str]
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    url: str | None = None


class Cloud:
    """A whole cloud on loopback.

    :param directory: where all of it lives
    :param progress: told what is being done
    """

    def __init__(
        self, directory: pathlib.Path, progress: Progress = print
    ) -> None:
        self.directory = directory.resolve()
        self.processes = processes.Processes(self.directory)
        self._progress = progress
        self._state = self.directory / 'cloud.json'
        known = self._read_state()
        self._ports: dict[str, int] = known.get('ports') or self._find_ports()
        self._mode: dict[str, Any] = known.get('mode', {})
        self.mariadb = backends.MariaDB(self.processes, self._ports['mariadb'])
        self.rabbitmq = backends.RabbitMQ(
            self.processes, self._ports['rabbitmq']
        )

    def _read_state(self) -> dict[str, Any]:
        if not self._state.exists():
            return {}
        state: dict[str, Any] = json.loads(self._state.read_text())
        return state

    def _write_state(self, mode: modes.Mode) -> None:
        self._mode = mode.as_json()
        self._state.write_text(
            json.dumps({'ports': self._ports, 'mode': self._mode}, indent=2)
        )

    def _find_ports(self) -> dict[str, int]:
        names = [*_APIS, 'keystone-brief', 'mariadb', 'rabbitmq']
        # RabbitMQ takes three.
        found = _free_ports(self.directory, len(names) + 2)
        return dict(zip(names, found, strict=False))

    @property
    def places(self) -> config.Places:
        """Where everything is, once the backends have been started."""
        return config.Places(
            self.directory,
            self._ports,
            {name: self.mariadb.url(name) for name in _DATABASES},
            self.rabbitmq.url,
        )

    @property
    def is_prepared(self) -> bool:
        """Whether the databases have been made and filled."""
        return self._state.exists()

    def up(self, mode: modes.Mode = modes.ENFORCED) -> None:
        """Start everything that does not run, in a mode of the cloud.

        :param mode: with the guard or without it, and what Nova sends
        :raises attachguard.tests.cloud.backends.Missing: something has to be
            installed
        :raises attachguard.tests.cloud.processes.Failed: a service does not
            start
        """
        if not self.is_prepared:
            # What a run left that was killed before it was ready.
            self.down()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.mariadb.start()
        self.rabbitmq.start()
        if self.is_prepared:
            self.switch(mode)
            self._start(self._services(self.places))
            self._wait_for_computes()
        else:
            self._prepare(self.places, mode)
            self._write_state(mode)

    def switch(self, mode: modes.Mode) -> None:
        """Go over to another mode; restarts only what is affected.

        :param mode: with the guard or without it, and what Nova sends
        """
        if mode.as_json() == self._mode:
            return
        stopped = ['cinder-api']
        if mode.service_token != self._mode.get('service_token'):
            # The hypervisor forgets its servers; no test keeps any.
            stopped += _NOVA
        self._progress(f'switching to: {mode.name}')
        self.processes.stop(stopped)
        places = self.places
        config.write(places, mode)
        self._start(
            {
                name: service
                for name, service in self._services(places).items()
                if name in stopped
            }
        )
        if len(stopped) > 1:
            self._wait_for_computes()
        self._write_state(mode)

    def down(self) -> None:
        """Stop everything, and remove every trace of it."""
        ours = (backends.MariaDB.SERVICE, backends.RabbitMQ.SERVICE)
        self.processes.stop(
            {
                name
                for process in self.processes.find()
                if (name := process.environ()[processes.SERVICE_MARK])
                not in ours
            }
        )
        self.mariadb.remove()
        self.rabbitmq.remove()
        self.processes.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._mode = {}

    def keep(self, target: pathlib.Path) -> None:
        """Copy the logs and the configuration to somewhere else."""
        for name in ('log', 'etc'):
            with contextlib.suppress(FileNotFoundError):
                shutil.copytree(
                    self.directory / name, target / name, dirs_exist_ok=True
                )

    def start_brief_keystone(self) -> str:
        """Start a second Keystone whose tokens last for three seconds.

        :returns: its address; the other services believe its tokens
        """
        places = self.places
        self._start(
            {
                'keystone-brief': _api(
                    places,
                    'keystone-brief',
                    'keystone.wsgi.api',
                    '/v3',
                    {
                        'OS_KEYSTONE_CONFIG_FILES': str(
                            places.etc('keystone-brief') / 'keystone.conf'
                        )
                    },
                )
            }
        )
        return places.url('keystone-brief') + '/v3'

    def access_log(self, service: str) -> pathlib.Path:
        """What an API was asked, and how it answered."""
        return _access_log(self.places, service)

    # How it is made

    def _prepare(self, places: config.Places, mode: modes.Mode) -> None:
        """Fill the databases and start everything, for the first time.

        Where one step does not need another, they are done at the same time.
        """
        self._progress('creating databases and configuration')
        self.mariadb.create(_DATABASES)
        self.rabbitmq.create()
        config.write(places, mode)
        services = self._services(places)
        tool = _tools(places)
        with concurrent.futures.ThreadPoolExecutor() as pool:

            def after(
                *needed: concurrent.futures.Future[None],
                run: Callable[[], None],
            ) -> concurrent.futures.Future[None]:
                def job() -> None:
                    for future in needed:
                        future.result()
                    run()

                return pool.submit(job)

            def sync(project: str) -> concurrent.futures.Future[None]:
                return pool.submit(
                    self.processes.run, f'{project}-manage', *tool[project]
                )

            def start(prefix: str) -> None:
                self._start(
                    {
                        name: service
                        for name, service in services.items()
                        if name.startswith(prefix)
                    }
                )

            def start_keystone() -> None:
                start('keystone')
                identity.populate(places)

            keystone = after(sync('keystone'), run=start_keystone)
            jobs = [keystone, pool.submit(start, 'neutron')]
            for project in ('nova', 'cinder', 'placement', 'glance'):
                jobs.append(
                    after(
                        sync(project),
                        keystone,
                        run=functools.partial(start, project),
                    )
                )
            for job in concurrent.futures.as_completed(jobs):
                job.result()
        self._wait_for_computes()
        self._populate(places)

    def _start(self, services: Mapping[str, _Service]) -> None:
        # A compute that does not find a conductor tries again after long.
        computes = {
            name for name in services if name.startswith('nova-compute')
        }
        for names in (services.keys() - computes, computes):
            for name in sorted(names):
                if not list(self.processes.find([name])):
                    self._progress(f'starting {name}')
                    self.processes.start(
                        name,
                        services[name].command,
                        environ=services[name].environ,
                    )
            for name in names:
                url = services[name].url
                if url is not None:
                    self._wait_for_api(name, url)

    def _wait_for_api(self, name: str, url: str) -> None:
        deadline = time.monotonic() + 120
        while not _answers(url):
            self.processes.check(name)
            if time.monotonic() > deadline:
                raise processes.Failed(
                    f'{name} does not answer; see {self.processes.log(name)}'
                )
            time.sleep(0.2)

    def _wait_for_computes(self) -> None:
        """Wait until servers and volumes can be made."""
        admin = identity.connect(self.places, 'admin', 'admin')
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(openstack.exceptions.SDKException):
                computes = {
                    service.host
                    for service in admin.compute.services(
                        binary='nova-compute'
                    )
                    if service.state == 'up'
                }
                hypervisors = list(admin.compute.hypervisors())
                pools = list(admin.block_storage.backend_pools())
                if (
                    computes == set(compute_driver.HOSTS)
                    and len(hypervisors) == len(compute_driver.HOSTS)
                    and len(pools) == 2
                ):
                    return
            for name in ('nova-compute1', 'nova-compute2', 'cinder-volume'):
                self.processes.check(name)
            if time.monotonic() > deadline:
                raise processes.Failed(
                    'computes and volume backends do not report; see '
                    f'{self.directory / "log"}'
                )
            time.sleep(0.5)

    def _populate(self, places: config.Places) -> None:
        """Make what every test uses and none changes."""
        self._progress('creating flavors, volume types and an image')
        admin = identity.connect(places, 'admin', 'admin')
        for name, size in FLAVORS.items():
            admin.compute.create_flavor(
                name=name, ram=64 * size, vcpus=1, disk=1
            )
        for name, specs in VOLUME_TYPES.items():
            admin.block_storage.create_type(name=name, extra_specs=specs)
        admin.image.create_image(
            IMAGE,
            data=b'attachguard',
            disk_format='raw',
            container_format='bare',
            visibility='public',
            min_disk=1,
        )

    def _services(self, places: config.Places) -> dict[str, _Service]:
        """Every service, in the order in which they are started."""
        nova = {
            'OS_NOVA_CONFIG_FILES': (
                f'{sys.prefix}/etc/nova/api-paste.ini;'
                f'{places.etc("nova") / "nova.conf"}'
            )
        }
        cinder_conf = f'--config-file={places.etc("cinder")}/cinder.conf'
        services = {
            'keystone': _api(
                places,
                'keystone',
                'keystone.wsgi.api',
                '/v3',
                {
                    'OS_KEYSTONE_CONFIG_FILES': str(
                        places.etc('keystone') / 'keystone.conf'
                    )
                },
            ),
            'neutron': _api(places, 'neutron', 'tests.cloud.neutron', '/'),
            'placement': _api(
                places,
                'placement',
                'placement.wsgi.api',
                '/',
                {'OS_PLACEMENT_CONFIG_DIR': str(places.etc('placement'))},
            ),
            'glance': _api(
                places,
                'glance',
                'glance.wsgi.api',
                '/healthcheck',
                {'OS_GLANCE_CONFIG_DIR': str(places.etc('glance'))},
            ),
            'cinder-api': _api(
                places,
                'cinder',
                'cinder.wsgi.api',
                '/healthcheck',
                {},
                cinder_conf,
            ),
            'nova-api': _api(
                places, 'nova', 'nova.wsgi.osapi_compute', '/', nova
            ),
        }
        path = {'PYTHONPATH': _python_path()}
        for name in ('cinder-scheduler', 'cinder-volume'):
            services[name] = _Service([_script(name), cinder_conf], path)
        for name in ('nova-conductor', 'nova-scheduler'):
            services[name] = _Service(
                [
                    _script(name),
                    f'--config-file={places.etc("nova")}/nova.conf',
                ]
            )
        for host in compute_driver.HOSTS:
            services[f'nova-{host}'] = _Service(
                [
                    sys.executable,
                    '-m',
                    'tests.cloud.compute',
                    f'--config-file={places.etc("nova")}/nova-{host}.conf',
                ],
                path,
            )
        return services


def _python_path() -> str:
    return os.pathsep.join(
        filter(None, [str(_ROOT), os.environ.get('PYTHONPATH')])
    )


def _script(name: str) -> str:
    return str(pathlib.Path(sys.prefix, 'bin', name))


def _access_log(places: config.Places, service: str) -> pathlib.Path:
    return places.directory / 'log' / f'{service}-access.log'


def _api(
    places: config.Places,
    name: str,
    module: str,
    health: str,
    environ: Mapping[str, str] | None = None,
    *arguments: str,
) -> _Service:
    return _Service(
        [
            sys.executable,
            '-m',
            'tests.cloud.api',
            module,
            str(places.ports[name]),
            str(_access_log(places, name)),
            *arguments,
        ],
        {'PYTHONPATH': _python_path(), **(environ or {})},
        places.url(name) + health,
    )


def _tools(places: config.Places) -> dict[str, list[list[str]]]:
    """The commands that fill the databases, by project."""

    def manage(project: str, *words: str) -> list[str]:
        name = 'glance-api' if project == 'glance' else project
        return [
            _script(f'{project}-manage'),
            f'--config-file={places.etc(project)}/{name}.conf',
            *words,
        ]

    nova: list[Iterable[str]] = [
        ('api_db', 'sync'),
        (
            'cell_v2',
            'map_cell0',
            '--database_connection',
            places.databases['nova_cell0'],
        ),
        (
            'cell_v2',
            'create_cell',
            '--name',
            'cell1',
            '--database_connection',
            places.databases['nova_cell1'],
            '--transport-url',
            places.transport_url,
        ),
        ('db', 'sync'),
    ]
    owner = [
        f'--keystone-user={os.geteuid()}',
        f'--keystone-group={os.getegid()}',
    ]
    return {
        'keystone': [
            manage('keystone', 'db_sync'),
            manage('keystone', 'fernet_setup', *owner),
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
        'nova': [manage('nova', *words) for words in nova],
    }


def _free_ports(directory: pathlib.Path, count: int) -> list[int]:
    """Neighbouring ports that nobody uses; others for another directory."""
    digest = hashlib.sha256(str(directory).encode()).digest()
    span = (_LAST_PORT - _FIRST_PORT) // count
    start = int.from_bytes(digest[:4]) % span
    for step in range(span):
        first = _FIRST_PORT + (start + step) % span * count
        ports = list(range(first, first + count))
        if all(map(_is_free, ports)):
            return ports
    raise OSError(f'no {count} free ports from {_FIRST_PORT} on')


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        answer = requests.get(url, timeout=10)
    except requests.RequestException:
        return False
    return answer.status_code < 500


def describe(places: config.Places) -> dict[str, Any]:
    """The contents of a clouds.yaml for everybody in the cloud."""
    return {
        'clouds': {
            person.name: {
                'auth': {
                    'auth_url': places.keystone_url,
                    'username': person.name,
                    'password': config.PASSWORD,
                    'project_name': person.project,
                    'user_domain_name': 'Default',
                    'project_domain_name': 'Default',
                },
                'region_name': config.REGION,
            }
            for person in identity.PEOPLE
        }
    }
