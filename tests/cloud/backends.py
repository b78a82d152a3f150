# SPDX-License-Identifier: Apache-2.0
"""The cloud's own MariaDB and RabbitMQ, with all files in its directory."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import os
import shutil
import socket
import time
from typing import Any

import pymysql

from tests.cloud import processes

_PATH = os.pathsep.join(
    ['/usr/lib/rabbitmq/bin', os.environ.get('PATH', ''), '/usr/sbin']
)


class Missing(Exception):
    """A server is not installed; the message says what to install."""


def _program(name: str, package: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise Missing(f'{name} is not installed: apt-get install {package}')
    return path


def _start(
    cloud: processes.Processes,
    service: str,
    command: Sequence[str],
    environ: dict[str, str],
    ready: Callable[[], bool],
) -> None:
    """Start a server, unless it runs, and wait until it is ready."""
    if not list(cloud.find([service])):
        cloud.start(service, command, environ=environ)
    deadline = time.monotonic() + 120
    while not ready():
        cloud.check(service)
        if time.monotonic() > deadline:
            raise processes.Failed(
                f'{service} does not answer; see {cloud.log(service)}'
            )
        time.sleep(0.2)


class MariaDB:
    """The MariaDB server.

    :param cloud: the cloud's processes
    :param port: where to listen
    """

    SERVICE = 'mariadb'

    def __init__(self, cloud: processes.Processes, port: int) -> None:
        self._cloud = cloud
        self._port = port

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database.

        :param database: its name
        """
        return (
            f'mysql+pymysql://root@127.0.0.1:{self._port}/{database}'
            '?charset=utf8mb4&ssl_disabled=1'
        )

    def start(self) -> None:
        """Start the server, and wait until it is ready.

        :raises Missing: it is not installed
        :raises tests.cloud.processes.Failed: it does not start
        """
        server = _program('mariadbd', 'mariadb-server')
        install = _program('mariadb-install-db', 'mariadb-server')
        data = self._cloud.directory / 'mariadb'
        options = ['--no-defaults', f'--datadir={data}']
        if os.geteuid() == 0:
            options.append('--user=root')
        if not (data / 'mysql').is_dir():
            self._cloud.run(
                self.SERVICE,
                [
                    install,
                    *options,
                    '--auth-root-authentication-method=normal',
                    '--skip-test-db',
                ],
            )
        _start(
            self._cloud,
            self.SERVICE,
            [
                server,
                *options,
                f'--socket={data}/socket',
                f'--pid-file={data}/pid',
                f'--port={self._port}',
                '--bind-address=127.0.0.1',
                '--max-connections=1000',
                # The data need not survive a crash.
                '--innodb-flush-log-at-trx-commit=0',
            ],
            {},
            self._is_ready,
        )

    def _is_ready(self) -> bool:
        try:
            self._connect().close()
        except pymysql.Error:
            return False
        return True

    def _connect(self, database: str | None = None) -> Any:
        return pymysql.connect(
            host='127.0.0.1',
            port=self._port,
            user='root',
            database=database,
            connect_timeout=5,
            autocommit=True,
            # It would load every certificate of the machine.
            ssl_disabled=True,
        )

    def create(self, databases: Sequence[str]) -> None:
        """Make empty databases.

        :param databases: their names
        """
        with self._connect() as connection, connection.cursor() as cursor:
            for database in databases:
                cursor.execute(
                    f'CREATE DATABASE `{database}` CHARACTER SET utf8mb4'
                )

    def read(
        self, *queries: tuple[str, str, Sequence[Any]]
    ) -> list[list[tuple[Any, ...]]]:
        """Read from the databases, without the API.

        :param queries: of each the database, the statement and its parameters
        :returns: the rows of each
        """
        found = []
        with self._connect() as connection, connection.cursor() as cursor:
            for database, statement, parameters in queries:
                cursor.execute(f'USE `{database}`')
                cursor.execute(statement, parameters)
                found.append(list(cursor.fetchall()))
        return found

    def write(
        self, database: str, statement: str, parameters: Sequence[Any]
    ) -> int:
        """Change something without the API, as an operator might in SQL.

        :param database: its name
        :param statement: the statement
        :param parameters: its parameters
        :returns: the number of rows that it changed
        """
        connection = self._connect(database)
        with connection, connection.cursor() as cursor:
            return int(cursor.execute(statement, parameters))


class RabbitMQ:
    """The RabbitMQ server.

    :param cloud: the cloud's processes
    :param port: where to listen; the next two ports are used as well
    """

    SERVICE = 'rabbitmq'

    def __init__(self, cloud: processes.Processes, port: int) -> None:
        self._cloud = cloud
        self._port = port
        #: The transport URL.
        self.url = f'rabbit://guest:guest@127.0.0.1:{port}/'

    def start(self) -> None:
        """Start the server, and wait until it is ready.

        :raises Missing: it is not installed
        :raises tests.cloud.processes.Failed: it does not start
        """
        server = _program('rabbitmq-server', 'rabbitmq-server')
        home = self._cloud.directory / 'rabbitmq'
        home.mkdir(parents=True, exist_ok=True)
        _start(
            self._cloud,
            self.SERVICE,
            [server],
            {
                'HOME': str(home),
                'ERL_EPMD_PORT': str(self._port + 1),
                'ERL_EPMD_ADDRESS': '127.0.0.1',
                'RABBITMQ_NODENAME': f'attachguard{self._port}@localhost',
                'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
                'RABBITMQ_NODE_PORT': str(self._port),
                'RABBITMQ_DIST_PORT': str(self._port + 2),
                'RABBITMQ_BASE': str(home),
                'RABBITMQ_MNESIA_BASE': str(home / 'mnesia'),
                'RABBITMQ_LOG_BASE': str(home / 'log'),
                'RABBITMQ_CONFIG_FILE': str(home / 'rabbitmq'),
                'RABBITMQ_ENABLED_PLUGINS_FILE': str(home / 'enabled_plugins'),
                'RABBITMQ_CONF_ENV_FILE': str(home / 'rabbitmq-env.conf'),
            },
            self._listens,
        )

    def _listens(self) -> bool:
        address = ('127.0.0.1', self._port)
        try:
            socket.create_connection(address, timeout=2).close()
        except OSError:
            return False
        return True
