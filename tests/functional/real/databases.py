# SPDX-License-Identifier: Apache-2.0

"""Database servers: a running one, or a new one.

A server is used if it listens on its default address and accepts this user as
an administrator. Otherwise, one is started with its files in a temporary
directory.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import glob
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest
import sqlalchemy as sa

# Debian does not have all these directories in the PATH of every user.
_PATH = os.pathsep.join(
    [
        os.environ.get('PATH', ''),
        '/usr/sbin',
        *sorted(glob.glob('/usr/lib/postgresql/*/bin'), reverse=True),
    ]
)


class Missing(Exception):
    """No server runs or can be started."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that accepts this user as an administrator.

    :param url: SQLAlchemy's URL
    :param client: the command that runs a script in a database, and prints
        the number of rows that each statement changes; the name of the
        database is its last argument
    """

    url: str
    client: Sequence[str]


def _mariadb_at(socket: str | None) -> Server:
    client = ['mariadb', '-uroot', '-vv']
    if socket is None:
        return Server(
            'mysql+pymysql://root@127.0.0.1/?charset=utf8mb4&ssl_disabled=1',
            [*client, '-h127.0.0.1', '--skip-ssl'],
        )
    return Server(
        f'mysql+pymysql://root@localhost/?charset=utf8mb4&unix_socket={socket}',
        [*client, f'-S{socket}'],
    )


def _postgresql_at(host: str, user: str = 'postgres') -> Server:
    return Server(
        f'postgresql+psycopg2://{user}@/postgres?host={host}',
        ['psql', '-X', '-vON_ERROR_STOP=1', f'-h{host}', f'-U{user}'],
    )


def _connection_error(server: Server) -> str | None:
    """Return why a connection fails; ``None`` if it succeeds."""
    try:
        engine = sa.create_engine(
            server.url, future=True, poolclass=sa.pool.NullPool
        )
        with engine.connect():
            return None
    except (ImportError, sa.exc.SQLAlchemyError) as exc:
        return str(exc)


def _which(*programs: str) -> list[str]:
    found = [shutil.which(program, path=_PATH) for program in programs]
    if not all(found):
        raise Missing(
            f'{programs[0]} does not accept connections, and cannot be '
            'started: see bindep.txt'
        )
    return [program for program in found if program]


@contextlib.contextmanager
def _running(server: Server, command: Sequence[str]) -> Iterator[Server]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while error := _connection_error(server):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f'{command} does not start: {error}')
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def mariadb(*, own: bool = False) -> Iterator[Server]:
    """Provide a MariaDB server.

    :param own: start a new server, even if one is running
    :raises Missing: there is none
    """
    if not own:
        for socket in (None, '/run/mysqld/mysqld.sock'):
            if not _connection_error(_mariadb_at(socket)):
                yield _mariadb_at(socket)
                return
    daemon, install, _client = _which(
        'mariadbd', 'mariadb-install-db', 'mariadb'
    )
    user = ['--user=root'] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as directory:
        options = ['--no-defaults', f'--datadir={directory}/data', *user]
        subprocess.run(
            [
                install,
                *options,
                '--auth-root-authentication-method=normal',
                '--skip-test-db',
            ],
            check=True,
            capture_output=True,
        )
        socket = f'{directory}/socket'
        command = [daemon, *options, '--skip-networking', f'--socket={socket}']
        with _running(_mariadb_at(socket), command) as server:
            yield server


@contextlib.contextmanager
def postgresql(*, own: bool = False) -> Iterator[Server]:
    """Provide a PostgreSQL server.

    :param own: start a new server, even if one is running
    :raises Missing: there is none
    """
    if not own:
        for host in ('127.0.0.1', '/var/run/postgresql'):
            if not _connection_error(_postgresql_at(host)):
                yield _postgresql_at(host)
                return
    daemon, install, _client = _which('postgres', 'initdb', 'psql')
    with tempfile.TemporaryDirectory() as directory:
        user = []
        if os.geteuid() == 0:
            # It does not run as root.
            user = [*_which('runuser'), '-upostgres', '--']
            shutil.chown(directory, 'postgres')
        data = pathlib.Path(directory, 'data')
        subprocess.run(
            [*user, install, f'-D{data}', '-Upostgres', '-Atrust', '-N'],
            check=True,
            capture_output=True,
            cwd=directory,
        )
        command = [*user, daemon, f'-D{data}', f'-k{directory}', '-h']
        with _running(_postgresql_at(directory), [*command, '']) as server:
            yield server


#: The servers by the name of their dialect in SQLAlchemy.
KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[Server]]] = {
    'mysql': mariadb,
    'postgresql': postgresql,
}


@contextlib.contextmanager
def required(kind: str) -> Iterator[Server]:
    """A server that a test needs; without one, the test is skipped.

    :param kind: of :data:`KINDS`
    :raises Missing: there is none, in CI
    """
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(KINDS[kind]())
        except Missing as exc:
            if os.environ.get('CI'):
                raise
            pytest.skip(str(exc))
        yield server
