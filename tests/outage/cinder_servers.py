# SPDX-License-Identifier: Apache-2.0
"""Cinder on each of the servers that operators use.

``eventlet`` is the server of cinder-api, ``threads`` is waitress.  With uWSGI
and gunicorn, each process loads the application: see :mod:`tests.outage.wsgi`.
"""

import pathlib
import socket
import sys
from typing import Any

import psutil

from attachguard.testing import embedded

_APPLICATION = 'tests.outage.wsgi'
_PROCESSES = 2
_THREADS = 8
# Runs its arguments. At the end of standard input, which the kernel closes
# even if the tests are killed, it kills all processes of its group.
_UNTIL_END_OF_INPUT = (
    'exec 3<&0; (cat <&3 >/dev/null; kill -KILL 0) & "$@" 3<&- </dev/null'
)


class Cinder(embedded.EmbeddedCinder):
    """Cinder with eventlet or waitress.

    :param server: name of one of :data:`SERVERS`
    """

    def __init__(self, *args: Any, server: str, **kwargs: Any) -> None:
        super().__init__(
            *args,
            server='eventlet' if server == 'eventlet' else 'threads',
            **kwargs,
        )
        self.kind = server

    @property
    def process(self) -> psutil.Process:
        """The process that was started."""
        return psutil.Process(self.pid)

    def processes(self) -> list[psutil.Process]:
        """The processes of the server that are alive."""
        return [self.process]


class _Forking(Cinder):
    """A server with several processes, which has a command of its own."""

    def processes(self) -> list[psutil.Process]:
        return [
            process
            for process in self.process.children(recursive=True)
            if process.name() not in ('sh', 'cat')
        ]

    def _command(self, ready: pathlib.Path) -> list[str]:
        for left in self.directory.glob('worker-*'):
            left.unlink()
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        environ = {
            'TEST_CINDER_CONF': self.conf,
            'TEST_READY_FILE': ready,
            'TEST_PROCESSES': _PROCESSES,
            'TEST_PORT': port,
        }
        return [
            'env',
            *(f'{name}={value}' for name, value in environ.items()),
            *('sh', '-c', _UNTIL_END_OF_INPUT, 'sh', sys.executable),
            *(each.format(port=port) for each in _ARGUMENTS[self.kind]),
        ]


# Of Python, for each server.
_ARGUMENTS = {
    'uwsgi': [
        '-c',
        'import pyuwsgi; pyuwsgi.run()',
        # With keep-alive.
        '--http11-socket=127.0.0.1:{port}',
        f'--module={_APPLICATION}',
        f'--processes={_PROCESSES}',
        f'--threads={_THREADS}',
        # A connection that stays open keeps its thread.
        '--socket-timeout=60',
        '--buffer-size=65535',
        *'--master --no-orphans --need-app --lazy-apps'.split(),
        *'--enable-threads --thunder-lock'.split(),
        *'--die-on-term --disable-logging'.split(),
    ],
    'gunicorn': [
        '-m',
        'gunicorn',
        '--bind=127.0.0.1:{port}',
        '--worker-class=gthread',
        f'--workers={_PROCESSES}',
        f'--threads={_THREADS}',
        # Longer than any client here is idle.
        '--keep-alive=75',
        # For the start, with the creation of the tables.
        '--timeout=120',
        f'{_APPLICATION}:application',
    ],
}

SERVERS: dict[str, type[Cinder]] = {
    'eventlet': Cinder,
    'threads': Cinder,
    'uwsgi': _Forking,
    'gunicorn': _Forking,
}
