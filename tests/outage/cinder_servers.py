# SPDX-License-Identifier: Apache-2.0
"""Cinder on each of the servers that operators use, as they configure it.

``eventlet`` is the server of cinder-api, ``threads`` is waitress.  With the
others, each process loads the application: see :mod:`tests.outage.wsgi`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import os
import pathlib
import shutil
import socket
import sys
import sysconfig
from typing import Any

import psutil

from attachguard.testing import embedded

_ROOT = embedded.PACKAGE_ROOT
_PACKAGES = sysconfig.get_path('purelib')
_APPLICATION = 'tests.outage.wsgi'
# Runs its arguments. At the end of standard input, which the kernel closes
# even if the tests are killed, it kills all processes of its group.
_UNTIL_END_OF_INPUT = (
    'exec 3<&0; (cat <&3 >/dev/null; kill -KILL 0) & "$@" 3<&- </dev/null'
)


class Cinder(embedded.EmbeddedCinder):
    """Cinder with eventlet or waitress.

    :param server: name of one of :data:`SHAPES`
    :param services: False to run only the API, as a process of these servers
        does; there is no scheduler and no volume service then
    """

    def __init__(
        self, *args: Any, server: str, services: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(
            *args,
            server='eventlet' if server == 'eventlet' else 'threads',
            **kwargs,
        )
        self.shape = SHAPES[server]
        self.services = services

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

    def _cinder_options(self, paste_ini: pathlib.Path) -> dict[str, Any]:
        options: dict[str, Any] = super()._cinder_options(paste_ini)
        # Apache would change the lines on standard error.
        options['DEFAULT']['log_file'] = self.log
        return options

    def _command(self, ready: pathlib.Path) -> list[str]:
        for left in self.directory.glob('worker-*'):
            left.unlink()
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        environ = {
            'TEST_CINDER_CONF': self.conf,
            'TEST_READY_FILE': ready,
            'TEST_PROCESSES': self.shape.processes,
            'TEST_SERVICES': int(self.services),
            'TEST_PORT': port,
            # glibc keeps memory for each of many threads, one after the other,
            # which looks like a leak for an hour.
            'MALLOC_ARENA_MAX': 2,
            **self.shape.environ,
        }
        return [
            'env',
            *(f'{name}={value}' for name, value in environ.items()),
            *('sh', '-c', _UNTIL_END_OF_INPUT, 'sh'),
            *self.shape.command(self.shape, port, self.directory),
        ]


_UWSGI_OPTIONS = (
    f'--module={_APPLICATION}',
    '--buffer-size=65535',
    *'--master --lazy-apps --need-app --thunder-lock'.split(),
    *'--die-on-term --no-orphans --disable-logging'.split(),
    '--add-header=Connection: close',
)


def _run_uwsgi(shape: Shape, *options: str) -> list[str]:
    return [
        *(sys.executable, '-c', 'import pyuwsgi; pyuwsgi.run()'),
        f'--processes={shape.processes}',
        f'--threads={shape.threads}',
        '--enable-threads',
        *_UWSGI_OPTIONS,
        *options,
    ]


def _kolla_ansible(shape: Shape, port: int, _: pathlib.Path) -> list[str]:
    """As its role service-uwsgi-config: a router in front of the workers."""
    return _run_uwsgi(shape, f'--http=127.0.0.1:{port}')


def _openstack_ansible(shape: Shape, port: int, _: pathlib.Path) -> list[str]:
    """As its role uwsgi: a worker accepts the connections."""
    return _run_uwsgi(
        shape,
        f'--http-socket=127.0.0.1:{port}',
        *'--http-auto-chunked --http-raw-body --socket-timeout=10'.split(),
    )


def _uwsgi_keep_alive(shape: Shape, port: int, _: pathlib.Path) -> list[str]:
    """With connections that stay open, each of which keeps its thread."""
    options = [
        option
        for option in _run_uwsgi(shape, f'--http11-socket=127.0.0.1:{port}')
        if not option.startswith('--add-header')
    ]
    return [*options, '--socket-timeout=60']


def _debian_uwsgi(_shape: Shape, port: int, _: pathlib.Path) -> list[str]:
    """As uWSGI 2.0.21 of Debian is by default; 2.0.30 runs threads always."""
    return [
        *('uwsgi', '--plugins=python3', f'--http-socket=127.0.0.1:{port}'),
        *(f'--pythonpath={path}' for path in (_ROOT, _PACKAGES)),
        *_UWSGI_OPTIONS,
    ]


def _gunicorn(shape: Shape, port: int, _: pathlib.Path) -> list[str]:
    return [
        *(sys.executable, '-m', 'gunicorn'),
        f'--bind=127.0.0.1:{port}',
        '--worker-class=gthread',
        f'--workers={shape.processes}',
        f'--threads={shape.threads}',
        # Longer than any client here is idle.
        '--keep-alive=75',
        # For the start, with the creation of the tables.
        '--timeout=120',
        f'{_APPLICATION}:application',
    ]


# As the cinder-operator of RHOSO configures it, but that Debian's mod_wsgi
# uses Debian's Python 3.11 with the packages of this environment, that each
# process loads the application when it starts, and that Apache itself has one
# process for connections.
_APACHE = """
ServerName localhost
ServerRoot {directory}
PidFile apache.pid
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
MaxSpareThreads 64
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ErrorLog apache.log
WSGISocketPrefix wsgi
WSGIApplicationGroup %{{GLOBAL}}
WSGIDaemonProcess cinder processes={shape.processes} \\
    threads={shape.threads} home={directory} python-path={root}:{packages}
WSGIProcessGroup cinder
WSGIScriptAlias / {script} process-group=cinder application-group=%{{GLOBAL}}
WSGIPassAuthorization On
<Directory {script.parent}>
    Require all granted
</Directory>
"""
_APACHE_MODULES = pathlib.Path('/usr/lib/apache2/modules')
# Its servers use it, with the packages of this environment.
_DEBIANS_PYTHON = '3.11'


def _apache(shape: Shape, port: int, directory: pathlib.Path) -> list[str]:
    conf = directory / 'apache.conf'
    conf.write_text(
        _APACHE.format(
            shape=shape,
            port=port,
            directory=directory,
            modules=_APACHE_MODULES,
            root=_ROOT,
            packages=_PACKAGES,
            script=pathlib.Path(__file__).with_name('wsgi.py'),
        )
    )
    apache = shutil.which('apache2', path='/usr/sbin:/usr/bin')
    command = [str(apache), '-f', str(conf), '-DFOREGROUND']
    if os.geteuid() != 0:
        return command
    # mod_wsgi does not run as root: as nobody, who may use root's files.
    return [
        *('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'),
        *('--inh-caps=+dac_override', '--ambient-caps=+dac_override'),
        *command,
    ]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A server, and how many requests it processes at a time.

    :param text: the server, for a table
    :param processes: number of processes that serve requests
    :param threads: of each process
    :param server: what runs it
    :param command: makes the command of a forking server, from this, its port
        and a directory
    :param environ: more of its environment
    :param needs: a file of the packages of Debian that it needs
    """

    text: str
    processes: int
    threads: int
    server: type[Cinder] = Cinder
    command: Callable[[Shape, int, pathlib.Path], list[str]] = _gunicorn
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: str = ''

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        python = f'{sys.version_info.major}.{sys.version_info.minor}'
        if not self.needs or (
            pathlib.Path(self.needs).exists() and python == _DEBIANS_PYTHON
        ):
            return ''
        return (
            f'{self.needs}, and Python {_DEBIANS_PYTHON} as in Debian 12: see '
            'bindep.txt'
        )


SHAPES = {
    'eventlet': Shape('cinder-api, eventlet', 1, 1000),
    'threads': Shape('waitress', 1, 16),
    'uwsgi-1x1': Shape(
        'uWSGI as OpenStack-Ansible', 1, 1, _Forking, _openstack_ansible
    ),
    'uwsgi-5x1': Shape(
        'uWSGI as kolla-ansible', 5, 1, _Forking, _kolla_ansible
    ),
    'uwsgi-2x8': Shape(
        'uWSGI with keep-alive', 2, 8, _Forking, _uwsgi_keep_alive
    ),
    'uwsgi-1x1-no-threads': Shape(
        'uWSGI without enable-threads',
        1,
        1,
        _Forking,
        _debian_uwsgi,
        needs='/usr/lib/uwsgi/plugins/python3_plugin.so',
    ),
    'uwsgi-1x1-no-eventlet': Shape(
        'uWSGI, eventlet not installed',
        1,
        1,
        _Forking,
        _openstack_ansible,
        {'TEST_WITHOUT_EVENTLET': '1'},
    ),
    'apache-4x1': Shape(
        'Apache with mod_wsgi as RHOSO',
        4,
        1,
        _Forking,
        _apache,
        needs=f'{_APACHE_MODULES}/mod_wsgi.so',
    ),
    'gunicorn-2x8': Shape('gunicorn', 2, 8, _Forking, _gunicorn),
}
