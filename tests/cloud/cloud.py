# SPDX-License-Identifier: Apache-2.0
"""What the cloud consists of, and its life.

Everything it needs is in one directory and in processes that bear its mark.
``down`` removes all of it, also what a killed run left.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import concurrent.futures
import contextlib
import functools
import hashlib
import json
import pathlib
import shutil
import socket
import time
from typing import Any

import openstack.connection
import openstack.exceptions
import requests

from tests.cloud import backends
from tests.cloud import compute_driver
from tests.cloud import config
from tests.cloud import identity
from tests.cloud import mode as modes
from tests.cloud import processes
from tests.cloud import services as all_services

# Below what the system hands out to clients.
_FIRST_PORT, _LAST_PORT = 18000, 30000

#: What a server is built with, and its MiB; the last fits into no compute.
FLAVORS = {'tiny': 64, 'small': 128, 'nowhere': 10_000_000}
IMAGE = 'tiny'
#: Where volumes are, as configured.
BACKENDS = ('one', 'two')
#: What ``any`` names can move from one backend to the other.
VOLUME_TYPES: Mapping[str, Mapping[str, str]] = {
    'one': {'volume_backend_name': 'one'},
    'two': {'volume_backend_name': 'two'},
    'any': {},
    'multiattach': {
        'volume_backend_name': 'one',
        'multiattach': '<is> True',
    },
}

Progress = Callable[[str], None]


class Cloud:
    """A whole cloud on loopback.

    :param directory: where all of it lives
    :param progress: prints what is being done
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
        state = {'ports': self._ports, 'mode': self._mode}
        self._state.write_text(json.dumps(state, indent=2))

    def _find_ports(self) -> dict[str, int]:
        names = [
            *all_services.APIS,
            all_services.BRIEF_KEYSTONE,
            'mariadb',
            'rabbitmq',
        ]
        # RabbitMQ uses three.
        found = free_ports(self.directory, len(names) + 2)
        return dict(zip(names, found, strict=False))

    @property
    def places(self) -> config.Places:
        """Where everything is."""
        return config.Places(
            self.directory,
            self._ports,
            {name: self.mariadb.url(name) for name in all_services.DATABASES},
            self.rabbitmq.url,
        )

    @property
    def is_prepared(self) -> bool:
        """Whether the databases have been made and filled."""
        return self._state.exists()

    def up(self, mode: modes.Mode = modes.ENFORCED) -> None:
        """Start everything that does not run, in a mode of the cloud.

        :param mode: with the guard or without it, and what Nova sends
        :raises tests.cloud.backends.Missing: something has to be
            installed
        :raises tests.cloud.processes.Failed: a service does not
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
            self._start(all_services.services(self.places))
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
        if any(
            mode.as_json()[name] != self._mode.get(name)
            for name in ('service_token', 'nova_is_service')
        ):
            # The hypervisor forgets its servers; no test keeps any.
            stopped += all_services.NOVA
        self._progress(f'switching to: {mode.name}')
        self.processes.stop(stopped)
        places = self.places
        config.write(places, mode)
        self._start(
            {
                name: service
                for name, service in all_services.services(places).items()
                if name in stopped
            }
        )
        if len(stopped) > 1:
            self._wait_for_computes()
        self._write_state(mode)

    def restart(self, name: str) -> None:
        """Stop a service, and start it again.

        :param name: of the service
        """
        self.processes.stop([name])
        self._start({name: all_services.services(self.places)[name]})

    def down(self) -> None:
        """Stop everything, and remove every trace of it."""
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
        name = all_services.BRIEF_KEYSTONE
        self._start({name: all_services.brief_keystone(self.places)})
        return self.places.url(name) + '/v3'

    def access_log(self, service: str) -> pathlib.Path:
        """The requests to an API, and the statuses of its responses."""
        return all_services.access_log(self.directory, service)

    # How it is made

    def _prepare(self, places: config.Places, mode: modes.Mode) -> None:
        """Fill the databases and start everything, for the first time.

        Where one step does not need another, they are done at the same time.
        """
        self._progress('creating databases and configuration')
        self.mariadb.create(all_services.DATABASES)
        config.write(places, mode)
        services = all_services.services(places)
        tool = all_services.preparations(places)
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

    def _start(self, services: Mapping[str, all_services.Service]) -> None:
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
        while missing := _missing(admin):
            for name in (*all_services.COMPUTES, 'cinder-volume'):
                self.processes.check(name)
            if time.monotonic() > deadline:
                raise processes.Failed(
                    f'{missing}; see {self.directory / "log"}'
                )
            time.sleep(0.5)

    def _populate(self, places: config.Places) -> None:
        """Make what every test uses and none changes."""
        self._progress('creating flavors, volume types and an image')
        admin = identity.connect(places, 'admin', 'admin')
        for name, size in FLAVORS.items():
            admin.compute.create_flavor(name=name, ram=size, vcpus=1, disk=1)
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


def _missing(admin: openstack.connection.Connection) -> str:
    """What servers and volumes cannot be made without, if anything."""
    try:
        down = set(compute_driver.HOSTS) - {
            service.host
            for service in admin.compute.services(binary='nova-compute')
            if service.state == 'up'
        }
        if down:
            return f'down: {", ".join(sorted(down))}'
        if len(list(admin.compute.hypervisors())) < len(compute_driver.HOSTS):
            return 'a compute is in no cell yet'
        if len(list(admin.block_storage.backend_pools())) < len(BACKENDS):
            return 'a volume backend has not reported'
    except openstack.exceptions.SDKException as exc:
        return str(exc)
    return ''


def free_ports(directory: pathlib.Path, count: int) -> list[int]:
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
