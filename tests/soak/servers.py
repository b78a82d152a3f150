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
"""The real Cinder on the servers that operators run it on.

As :class:`attachguard.testing.embedded.EmbeddedCinder` does it, which itself
is one of them: eventlet, cinder-api's own. The others load the application in
each of their processes, see :mod:`tests.soak.wsgi`.
"""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import contextlib
import os
import pathlib
import secrets
import socket
import sys
from typing import Any

import psutil
import pymysql

from attachguard.testing import embedded
from tests.soak import accounting

_PACKAGE = pathlib.Path(__file__).parent


class Eventlet(embedded.EmbeddedCinder):
    """As ``cinder-api`` serves it: one process, greenthreads."""

    PROCESSES = 1

    def processes(self) -> list[psutil.Process]:
        """The server's processes that are alive."""
        assert self._process is not None
        top = psutil.Process(self._process.pid)
        return [top, *top.children(recursive=True)]


class Threaded(Eventlet):
    """A server of its own, with threads."""

    PROCESSES = 2
    THREADS = 8

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, server='threads', **kwargs)

    def processes(self) -> list[psutil.Process]:
        # But not what watches over them.
        return super().processes()[1:]

    def _command(self, ready: pathlib.Path) -> list[str]:
        for left in self.directory.glob('worker-*'):
            left.unlink()
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        environ = {
            'SOAK_CINDER_CONF': str(self.conf),
            'SOAK_READY': str(ready),
            'SOAK_PROCESSES': str(self.PROCESSES),
            'SOAK_PORT': str(port),
        }
        return [
            sys.executable,
            str(_PACKAGE / '_supervise.py'),
            'env',
            *(f'{name}={value}' for name, value in environ.items()),
            sys.executable,
            *self._server_command(f'127.0.0.1:{port}'),
        ]

    def _server_command(self, address: str) -> list[str]:
        """The arguments for Python."""
        raise NotImplementedError


class UWSGI(Threaded):
    """As most deployments serve it."""

    def _server_command(self, address: str) -> list[str]:
        options = {
            # With keep-alive.
            'http11-socket': address,
            'module': 'tests.soak.wsgi',
            'processes': self.PROCESSES,
            'threads': self.THREADS,
            # A connection that is kept keeps its thread.
            'socket-timeout': 60,
            'buffer-size': 65535,
        }
        flags = (
            'master',
            'no-orphans',
            'need-app',
            'lazy-apps',
            'enable-threads',
            'thunder-lock',
            'die-on-term',
            'disable-logging',
        )
        return [
            '-c',
            'import pyuwsgi; pyuwsgi.run()',
            *(f'--{name}={value}' for name, value in options.items()),
            *(f'--{name}' for name in flags),
        ]


class Gunicorn(Threaded):
    """With its threaded workers."""

    def _server_command(self, address: str) -> list[str]:
        options = {
            'bind': address,
            'worker-class': 'gthread',
            'workers': self.PROCESSES,
            'threads': self.THREADS,
            # Longer than any client here is silent.
            'keep-alive': 75,
            # To start, with the database's tables.
            'timeout': 120,
        }
        return [
            '-m',
            'gunicorn',
            *(f'--{name}={value}' for name, value in options.items()),
            'tests.soak.wsgi:application',
        ]


SERVERS: dict[str, type[Eventlet]] = {
    'uwsgi': UWSGI,
    'gunicorn': Gunicorn,
    'eventlet': Eventlet,
}


def write_paste_ini(
    path: pathlib.Path, records: pathlib.Path, *, guard: bool = True
) -> None:
    """Put the recorders into the shipped paste file.

    :param path: the file to write
    :param records: where the recorders shall write
    :param guard: False to take the guard out
    """
    config = configparser.RawConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(embedded.sample_paste_ini())
    api = 'composite:openstack_volume_api_v3'
    for name in ('keystone', 'keystone_nolimit'):
        words = config[api][name].split()
        at = words.index('attachguard')
        words[at : at + 1] = ['attachguard', 'soak_back'][not guard :]
        config[api][name] = ' '.join(['soak_front', *words])
    for where in (accounting.Where.FRONT, accounting.Where.BACK):
        config[f'filter:soak_{where}'] = {
            'paste.filter_factory': 'tests.soak.recorder:filter_factory',
            'path': str(records),
            'where': where,
        }
    with path.open('w') as file:
        config.write(file)


@contextlib.contextmanager
def mariadb() -> Iterator[str | None]:
    """A new database on this machine's MariaDB.

    :returns: its address; None where there is no MariaDB that lets root in
        over TCP without a password
    """
    try:
        connection = pymysql.connect(
            host='127.0.0.1', user='root', ssl_disabled=True
        )
    except (pymysql.Error, OSError):
        yield None
        return
    name = f'attachguard_soak_{os.getpid()}_{secrets.token_hex(4)}'
    with connection, connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE {name} CHARACTER SET utf8mb4')
    try:
        yield (
            f'mysql+pymysql://root@127.0.0.1/{name}'
            '?charset=utf8mb4&ssl_disabled=1'
        )
    finally:
        connection.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE {name}')
