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

"""The database and message servers: those that run here, or our own.

Where MariaDB listens on its usual port or socket and lets this user in as an
administrator, the cloud gets databases and an account there; where RabbitMQ
runs and ``rabbitmqctl`` may be used, a virtual host and an account. Where
not, they are started for this cloud, with their files in its directory.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
from typing import Any

import pymysql

from tests.cloud import processes

_PASSWORD = 'loopback'
_SOCKETS = ('/run/mysqld/mysqld.sock', '/var/run/mysqld/mysqld.sock')
# Where Debian has what it does not put into every user's PATH, and RabbitMQ's
# own commands: those in the PATH change to the user rabbitmq.
_PATH = os.pathsep.join(
    ['/usr/lib/rabbitmq/bin', os.environ.get('PATH', ''), '/usr/sbin']
)


class Missing(Exception):
    """A server neither runs nor can be started; says what to install."""


def _which(program: str) -> str | None:
    return shutil.which(program, path=_PATH)


def _name(directory: pathlib.Path) -> str:
    """A name of the cloud that others on the same server do not have."""
    digest = hashlib.sha256(str(directory).encode()).hexdigest()
    return f'attachguard_{digest[:8]}'


class _Server:
    """A server that runs here, or is started.

    :param procs: the cloud's processes
    :param port: where to listen, should it have to be started
    :param own: start one, whatever runs here
    """

    SERVICE: str

    def __init__(
        self, procs: processes.Processes, port: int, *, own: bool = False
    ) -> None:
        self._processes = procs
        self._name = _name(procs.directory)
        self._own_port = port
        self._own = own

    def _wait(self, answers: Callable[[], Any]) -> None:
        """Wait for the own one."""
        deadline = time.monotonic() + 60
        while not answers():
            self._processes.check(self.SERVICE)
            if time.monotonic() > deadline:
                raise processes.Failed(
                    f'{self.SERVICE} does not answer; see '
                    f'{self._processes.log(self.SERVICE)}'
                )
            time.sleep(0.2)


class MariaDB(_Server):
    """A MariaDB server and this cloud's databases in it."""

    SERVICE = 'mariadb'
    _port = 3306

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database.

        :param database: its name in this cloud
        """
        return (
            f'mysql+pymysql://{self._name}:{_PASSWORD}@127.0.0.1:{self._port}'
            f'/{self._name}_{database}?charset=utf8mb4&ssl_disabled=1'
        )

    def start(self) -> None:
        """Use the server that is there, or start one.

        :raises Missing: there is none to start
        :raises tests.cloud.processes.Failed: it does not start
        """
        if self._connect() is not None:
            return
        server, install = map(_which, ('mariadbd', 'mariadb-install-db'))
        if not server or not install:
            raise Missing(
                'MariaDB does not let root in on 127.0.0.1:3306 or '
                f'{_SOCKETS[0]}, and is not installed to be started: '
                'apt-get install mariadb-server'
            )
        data = self._processes.directory / 'mariadb'
        if not (data / 'mysql').is_dir():
            self._processes.run(
                self.SERVICE,
                [
                    install,
                    '--no-defaults',
                    f'--datadir={data}',
                    '--auth-root-authentication-method=normal',
                    '--skip-test-db',
                    *self._as_root(),
                ],
            )
        if not list(self._processes.find([self.SERVICE])):
            self._processes.start(
                self.SERVICE,
                [
                    server,
                    '--no-defaults',
                    f'--datadir={data}',
                    f'--socket={data}/socket',
                    f'--pid-file={data}/pid',
                    f'--port={self._own_port}',
                    '--bind-address=127.0.0.1',
                    # It is thrown away.
                    '--innodb-flush-log-at-trx-commit=0',
                    *self._as_root(),
                ],
            )
        self._wait(self._connect)

    @staticmethod
    def _as_root() -> list[str]:
        return ['--user=root'] if os.geteuid() == 0 else []

    def _connect(self) -> Any:
        # An own one stays in use as long as it runs.
        places: list[dict[str, Any]] = [
            {'host': '127.0.0.1', 'port': self._own_port}
        ]
        if not self._own:
            places.append({'host': '127.0.0.1', 'port': 3306})
            places += [{'unix_socket': path} for path in _SOCKETS]
        for place in places:
            try:
                connection = pymysql.connect(
                    user='root',
                    connect_timeout=5,
                    autocommit=True,
                    # It would load every certificate, for a socket here.
                    ssl_disabled=True,
                    **place,
                )
            except (pymysql.Error, OSError):
                continue
            self._port = place.get('port', 3306)
            return connection
        return None

    def create(self, databases: Sequence[str]) -> None:
        """Make empty databases, and the account that may use them.

        :param databases: their names in this cloud
        """
        connection = self._connect()
        with connection, connection.cursor() as cursor:
            for host in ('localhost', '127.0.0.1'):
                account = f"'{self._name}'@'{host}'"
                cursor.execute(
                    f"CREATE OR REPLACE USER {account} "
                    f"IDENTIFIED BY '{_PASSWORD}'"
                )
                cursor.execute(
                    f'GRANT ALL ON `{self._name}\\_%`.* TO {account}'
                )
            for database in databases:
                cursor.execute(
                    f'CREATE OR REPLACE DATABASE `{self._name}_{database}` '
                    'CHARACTER SET utf8mb4'
                )

    def remove(self) -> None:
        """Remove every trace of this cloud from a server that was there."""
        connection = self._connect()
        if connection is None:
            return
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW DATABASES LIKE '{self._name}\\_%'")
            for (database,) in list(cursor.fetchall()):
                cursor.execute(f'DROP DATABASE `{database}`')
            for host in ('localhost', '127.0.0.1'):
                cursor.execute(f"DROP USER IF EXISTS '{self._name}'@'{host}'")

    def read(
        self, *queries: tuple[str, str, Sequence[Any]]
    ) -> list[list[tuple[Any, ...]]]:
        """Look into the databases past the API.

        :param queries: of each the database's name in this cloud, what to
            select, and its parameters
        :returns: the rows of each
        """
        found = []
        connection = self._connect()
        with connection, connection.cursor() as cursor:
            for database, statement, parameters in queries:
                cursor.execute(f'USE `{self._name}_{database}`')
                cursor.execute(statement, parameters)
                found.append(list(cursor.fetchall()))
        return found

    def write(
        self, database: str, statement: str, parameters: Sequence[Any]
    ) -> int:
        """Change something past the API, as an operator might by hand.

        :param database: its name in this cloud
        :param statement: what to do
        :param parameters: of the statement
        :returns: how many rows it changed
        """
        connection = self._connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(f'USE `{self._name}_{database}`')
            return int(cursor.execute(statement, parameters))


class RabbitMQ(_Server):
    """A RabbitMQ server and this cloud's virtual host in it.

    One that has to be started takes the next two ports as well.
    """

    SERVICE = 'rabbitmq'

    @property
    def url(self) -> str:
        """The transport URL of the virtual host."""
        port = self._own_port if self._own else 5672
        return (
            f'rabbit://{self._name}:{_PASSWORD}@127.0.0.1:{port}/{self._name}'
        )

    @property
    def _own_environ(self) -> dict[str, str]:
        home = self._processes.directory / 'rabbitmq'
        return {
            'HOME': str(home),
            'ERL_EPMD_PORT': str(self._own_port + 1),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODENAME': f'{self._name}@localhost',
            'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODE_PORT': str(self._own_port),
            'RABBITMQ_DIST_PORT': str(self._own_port + 2),
            'RABBITMQ_BASE': str(home),
            'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(home / 'log'),
            'RABBITMQ_CONFIG_FILE': str(home / 'rabbitmq'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'enabled_plugins'),
            'RABBITMQ_CONF_ENV_FILE': str(home / 'rabbitmq-env.conf'),
        }

    def start(self) -> None:
        """Use the server that is there, or start one.

        :raises Missing: there is none to start
        :raises tests.cloud.processes.Failed: it does not start
        """
        running = list(self._processes.find([self.SERVICE]))
        if not (self._own or running):
            if _listens(5672) and self._ctl('list_vhosts'):
                return
        self._own = True
        server = _which('rabbitmq-server')
        if server is None:
            raise Missing(
                'RabbitMQ does not run on 127.0.0.1:5672, or does not let '
                'this user administer it, and is not installed to be '
                'started: apt-get install rabbitmq-server'
            )
        if not running:
            home = self._processes.directory / 'rabbitmq'
            home.mkdir(parents=True, exist_ok=True)
            self._processes.start(
                self.SERVICE, [server], environ=self._own_environ
            )
        self._wait(
            lambda: _listens(self._own_port) and self._ctl('list_vhosts')
        )

    def _ctl(self, *words: str) -> bool:
        """Whether rabbitmqctl succeeds."""
        # That of the server which runs here knows where its cookie is.
        program = (
            _which('rabbitmqctl') if self._own else shutil.which('rabbitmqctl')
        )
        if program is None:
            return False
        environ = {**os.environ, **(self._own_environ if self._own else {})}
        done = subprocess.run(
            [program, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode == 0

    def create(self) -> None:
        """Make an empty virtual host, and the account that may use it.

        :raises Missing: rabbitmqctl does not do it
        """
        self.remove()
        for words in (
            ('add_vhost', self._name),
            ('add_user', self._name, _PASSWORD),
            ('set_permissions', '-p', self._name, self._name, *('.*',) * 3),
        ):
            if not self._ctl(*words):
                raise Missing(f'rabbitmqctl {words[0]} fails')

    def remove(self) -> None:
        """Remove every trace of this cloud from a server that was there."""
        self._ctl('delete_vhost', self._name)
        self._ctl('delete_user', self._name)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(('127.0.0.1', port), timeout=2).close()
    except OSError:
        return False
    return True
