# SPDX-License-Identifier: Apache-2.0

"""The real Cinder, for tests and demonstrations.

It consists of the API in its own pipeline behind the real auth_token, the
scheduler and a volume service without storage. They run on SQLite in one
process, which starts within seconds and ends with the test::

    with EmbeddedCinder(tmp_path, keystone.url) as cinder:
        keystone.add_endpoint('block-storage', cinder.url)

Needs the ``demo`` extra: Cinder, and for ``server='threads'`` waitress.
"""

from __future__ import annotations

from collections import abc
import configparser
import http.client
import os
import pathlib
import subprocess
import sys
import sysconfig
import time
import types
from typing import Any
from typing import Literal

PROCESS = pathlib.Path(__file__).with_name('_cinder_process.py')
PACKAGE_ROOT = pathlib.Path(__file__).parents[2]
# Seconds to wait for the process to exit before it is killed.
GRACE = 5.0


class CinderNotStarted(Exception):
    """Cinder did not start; the message ends with the end of its log."""


def sample_paste_ini() -> pathlib.Path:
    """Find the api-paste.ini.sample of attachguard.

    :returns: the file in the checkout, else the installed file
    :raises FileNotFoundError: there is no such file
    """
    directories = (
        PACKAGE_ROOT / 'etc',
        pathlib.Path(sysconfig.get_path('data'), 'etc', 'attachguard'),
        # The package of Debian.
        pathlib.Path(sys.prefix, 'share', 'attachguard'),
    )
    for directory in directories:
        sample = directory / 'api-paste.ini.sample'
        if sample.is_file():
            return sample
    raise FileNotFoundError(
        f'no api-paste.ini.sample in {" or ".join(map(str, directories))}'
    )


def _resource_filters() -> pathlib.Path:
    """Find the file of filters that Cinder installs.

    Without it, Cinder refuses every filter of a list from microversion 3.31
    on.

    :returns: the file in Python's environment, else that of Debian's package
    """
    name = 'etc/cinder/resource_filters.json'
    installed = pathlib.Path(sysconfig.get_path('data'), name)
    return installed if installed.exists() else pathlib.Path('/', name)


def without_guard(paste_ini: pathlib.Path) -> configparser.ConfigParser:
    """Remove attachguard from a paste configuration.

    :param paste_ini: a file with the section ``[filter:attachguard]``
    :returns: the configuration without that section, and without its name in
        the pipelines
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(paste_ini.read_text())
    config.remove_section('filter:attachguard')
    for section in config.sections():
        for key, value in config.items(section):
            names = value.split()
            if 'attachguard' in names:
                names.remove('attachguard')
                config.set(section, key, ' '.join(names))
    return config


class EmbeddedCinder:
    """A context manager that runs Cinder in a separate process.

    :param directory: directory for the configuration, database and log. After
        Cinder has stopped, another instance can use it again.
    :param keystone_url: Keystone's endpoint, ``http://host:port/v3``. It must
        have the user ``cinder`` with the password ``cinder`` and the role
        ``service`` in the project ``service``, all in the domain Default. The
        catalog of its tokens must have Nova's endpoint.
    :param paste_ini: a paste configuration; by default the sample
    :param guard: False removes attachguard from the pipeline
    :param guard_options: options of the group ``[attachguard]``
    :param cinder_options: options of other groups, by group
    :param server: ``eventlet`` serves like cinder-api, ``threads`` like a
        threaded WSGI server; Cinder's services use the same
    :param deadline: seconds to wait for Cinder to start

    :ivar server: the kind of server
    :ivar log: path of Cinder's log
    :ivar conf: path of cinder.conf
    :ivar port: port of the API, after the start
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keystone_url: str,
        *,
        paste_ini: str | os.PathLike[str] | None = None,
        guard: bool = True,
        guard_options: abc.Mapping[str, Any] | None = None,
        cinder_options: (
            abc.Mapping[str, abc.Mapping[str, Any]] | None
        ) = None,
        server: Literal['eventlet', 'threads'] = 'eventlet',
        deadline: float = 60.0,
    ) -> None:
        self.directory = pathlib.Path(directory).resolve()
        self.log = self.directory / 'cinder.log'
        self.conf = self.directory / 'cinder.conf'
        self.port = 0
        self._keystone_url = keystone_url
        self._paste_ini = pathlib.Path(paste_ini or sample_paste_ini())
        self._guard = guard
        self._options = {
            **(cinder_options or {}),
            'attachguard': guard_options or {},
        }
        self.server = server
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint of the API, for a catalog or a client."""
        return f'http://127.0.0.1:{self.port}/v3'

    @property
    def pid(self) -> int:
        """The id of its process.

        :raises CinderNotStarted: it does not run
        """
        if self._process is None:
            raise CinderNotStarted('Cinder does not run')
        return self._process.pid

    def __enter__(self) -> EmbeddedCinder:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start Cinder and wait until it can create volumes.

        :raises CinderNotStarted: it exits, or the deadline passes
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        ready = self.directory / 'port'
        ready.unlink(missing_ok=True)
        self._write_configuration()
        # All its peers are on loopback; it needs no proxy.
        environ = {**os.environ, 'no_proxy': '*', 'NO_PROXY': '*'}
        # It overrides the backend that the process selects.
        environ.pop('OS_CINDER_DISABLE_EVENTLET_PATCHING', None)
        environ['PYTHONPATH'] = os.pathsep.join(
            filter(None, [str(PACKAGE_ROOT), environ.get('PYTHONPATH')])
        )
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                self._command(ready),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environ,
                # Ctrl-C in the terminal stops the parent, which stops it.
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._process, ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop Cinder immediately."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=GRACE)

    def _command(self, ready: pathlib.Path) -> list[str]:
        """Make the command that runs Cinder until its standard input ends.

        :param ready: file to which it writes the port
        """
        return [
            sys.executable,
            str(PROCESS),
            self.server,
            str(ready),
            str(self.conf),
        ]

    def _wait_until_ready(
        self, process: subprocess.Popen[bytes], ready: pathlib.Path
    ) -> None:
        deadline = time.monotonic() + self._deadline
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise CinderNotStarted(
                    f'Cinder exited with {process.returncode}; the end of '
                    f'{self.log}:\n{self._log_tail()}'
                )
            if ready.exists():
                self.port = int(ready.read_text())
                if self._is_healthy():
                    return
            time.sleep(0.05)
        raise CinderNotStarted(
            f'Cinder did not start within {self._deadline:g} seconds; '
            f'the end of {self.log}:\n{self._log_tail()}'
        )

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.port, timeout=5
        )
        try:
            connection.request('GET', '/healthcheck')
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_tail(self, lines: int = 20) -> str:
        text = self.log.read_text(errors='replace')
        return '\n'.join(text.splitlines()[-lines:])

    def _write_configuration(self) -> None:
        paste_ini = self._paste_ini
        if not self._guard:
            paste_ini = self.directory / 'api-paste.ini'
            with paste_ini.open('w') as file:
                without_guard(self._paste_ini).write(file)

        (self.directory / 'state').mkdir(exist_ok=True)
        config = configparser.ConfigParser(
            interpolation=None, default_section='none'
        )
        config.read_dict(self._cinder_options(paste_ini))
        for group, options in self._options.items():
            config.read_dict({group: options})
        with self.conf.open('w') as file:
            config.write(file)

    def _cinder_options(
        self, paste_ini: pathlib.Path
    ) -> dict[str, dict[str, Any]]:
        service_user = {
            'auth_type': 'password',
            'auth_url': self._keystone_url,
            'username': 'cinder',
            'password': 'cinder',
            'user_domain_name': 'Default',
            'project_name': 'service',
            'project_domain_name': 'Default',
        }
        return {
            'DEFAULT': {
                'state_path': self.directory / 'state',
                'api_paste_config': paste_ini,
                'auth_strategy': 'keystone',
                'osapi_volume_listen': '127.0.0.1',
                'osapi_volume_listen_port': 0,
                'transport_url': 'fake://',
                'resource_query_filters_file': _resource_filters(),
                'enabled_backends': 'nostorage',
                # Two services in one process report as one. After a minute,
                # the other would be down.
                'service_down_time': 10 * 365 * 24 * 3600,
                'quota_volumes': -1,
                'quota_gigabytes': -1,
                'quota_snapshots': -1,
            },
            'nostorage': {
                'volume_driver': (
                    'attachguard.testing._cinder_driver.NoStorageDriver'
                ),
                'volume_backend_name': 'nostorage',
            },
            'database': {
                'connection': (
                    f'sqlite:///{self.directory}/cinder.sqlite?timeout=30'
                ),
                # The tests delete the database; it need not be durable.
                'sqlite_synchronous': False,
            },
            'keystone_authtoken': {
                **service_user,
                'www_authenticate_uri': self._keystone_url,
                'service_type': 'block-storage',
                'service_token_roles': 'service',
                'service_token_roles_required': True,
            },
            # With credentials here, the guard would use them.
            'nova': {'interface': 'public'},
            'service_user': {**service_user, 'send_service_user_token': True},
            'oslo_concurrency': {'lock_path': self.directory / 'state'},
        }
