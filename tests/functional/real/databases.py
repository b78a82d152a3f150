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

"""The database servers: those that run here, or our own.

Where one listens in its usual place and lets this user in as an
administrator, it is used. Where not, one is started, with its files in a
directory that is thrown away.
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

import sqlalchemy as sa

# Where Debian has what it does not put into every user's PATH.
_PATH = os.pathsep.join(
    [
        os.environ.get('PATH', ''),
        '/usr/sbin',
        *sorted(glob.glob('/usr/lib/postgresql/*/bin'), reverse=True),
    ]
)


class Missing(Exception):
    """A server neither runs nor can be started; says what to install."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that lets us in as an administrator.

    :param url: SQLAlchemy's
    :param client: the command that runs a script in the database whose name
        is its last argument, and says how many rows each statement changes
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


def _why_not(server: Server) -> str | None:
    """Why a server does not let us in; None where it does."""
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
            f'{programs[0]} neither runs here as one that lets us in, nor can '
            'it be started: see bindep.txt'
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
        while why := _why_not(server):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f'{command} does not start: {why}')
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def mariadb(*, own: bool = False) -> Iterator[Server]:
    """A MariaDB server.

    :param own: start one, whatever runs here
    :raises Missing: there is none
    """
    if not own:
        for socket in (None, '/run/mysqld/mysqld.sock'):
            if not _why_not(_mariadb_at(socket)):
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
    """A PostgreSQL server.

    :param own: start one, whatever runs here
    :raises Missing: there is none
    """
    if not own:
        for host in ('127.0.0.1', '/var/run/postgresql'):
            if not _why_not(_postgresql_at(host)):
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


#: By SQLAlchemy's name.
KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[Server]]] = {
    'mysql': mariadb,
    'postgresql': postgresql,
}
