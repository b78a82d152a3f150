# SPDX-License-Identifier: Apache-2.0
"""A Keystone and a Nova in a process of their own.

Their CPU time is not part of the measured process.  Keystone is the stub of
:mod:`attachguard.testing`.  Nova sends the responses of the stub of Nova from
memory, in one event loop, so that it is fast enough for many requests at
once. It counts queries and connections, and can delay its responses.

``python -m benchmarks.services`` prints one line of JSON, the arguments of
:class:`Services`, and serves until its standard input is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
import contextlib
import dataclasses
import http.client
import json
import logging
import pathlib
import re
import subprocess
import sys
from typing import Any

from keystoneauth1.identity import v3

from attachguard.testing import stub_cloud

_ROOT = pathlib.Path(__file__).parents[1]

# The server that the stub of Nova has.
_SERVER = b'5e57e57e-0000-4000-8000-000000000001'

_UUID = re.compile(rb'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')
_MICROVERSION = re.compile(
    rb'\r\n((?:OpenStack|X-OpenStack-Nova)-API-Version): *([^\r\n]+)', re.I
)
_DELAY = re.compile(rb'GET /_delay/([0-9.]+) ')

# The user agents of auth_token, which validates tokens.
_AUTH_TOKEN = ('keystonemiddleware', 'python-keystoneclient')

_END = b'\r\n\r\n'


@dataclasses.dataclass(frozen=True)
class Counts:
    """What Nova and Keystone have received.

    :param connections: connections to Nova that carried a query
    :param queries: requests to Nova
    :param most: the most queries that were in progress at the same time,
        since the delay was last set
    :param keystone: requests to Keystone, without those of auth_token
    """

    connections: int
    queries: int
    most: int
    keystone: int

    def since(self, before: Counts) -> Counts:
        """The difference from earlier counts; ``most`` is not changed."""
        return Counts(
            self.connections - before.connections,
            self.queries - before.queries,
            self.most,
            self.keystone - before.keystone,
        )


class _Nova:
    """The state that all connections share."""

    def __init__(self, cloud: stub_cloud.StubCloud) -> None:
        self._cloud = cloud
        self._token = cloud.session('admin').get_token() or ''
        self._recorded: dict[bytes, bytes] = {}
        self.delay = 0.0
        self.connections = 0
        self.queries = 0
        self.in_progress = 0
        self.most = 0

    def respond(self, head: bytes) -> bytes:
        """The stub's response to a request without a body.

        The stub is called once for each kind of request. A later request that
        differs only in its id gets the recorded response with its id.
        """
        line, __, __ = head.partition(b'\r\n')
        ids = _UUID.findall(line)
        for id in ids:
            line = line.replace(id, _SERVER)
        versions = _MICROVERSION.findall(head)
        kind = b'%s %r' % (line, versions)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(line, versions)
        response = self._recorded[kind]
        for id in ids:
            response = response.replace(_SERVER, id)
        return response

    def _record(
        self, line: bytes, versions: list[tuple[bytes, bytes]]
    ) -> bytes:
        method, path, __ = line.decode().split(' ')
        headers = {name.decode(): value.decode() for name, value in versions}
        connection = http.client.HTTPConnection(
            self._cloud.nova_server.url.removeprefix('http://')
        )
        with contextlib.closing(connection):
            connection.request(
                method, path, headers={**headers, 'X-Auth-Token': self._token}
            )
            response = connection.getresponse()
            lines = [
                f'HTTP/1.1 {response.status} {response.reason}',
                *(f'{name}: {text}' for name, text in response.getheaders()),
            ]
            return '\r\n'.join([*lines, '', '']).encode() + response.read()

    def control(self, head: bytes) -> bytes:
        """Respond to a request of the benchmark itself."""
        if delay := _DELAY.match(head):
            self.delay = float(delay[1])
            self.most = 0
        counts = Counts(
            self.connections,
            self.queries,
            self.most,
            sum(
                not request.headers['User-Agent'].startswith(_AUTH_TOKEN)
                for request in self._cloud.keystone_server.requests
            ),
        )
        body = json.dumps(dataclasses.asdict(counts))
        return (
            f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}'
        ).encode()


class _Connection(asyncio.Protocol):
    """A client's connection, with one request after the other."""

    def __init__(self, nova: _Nova) -> None:
        self._nova = nova
        self._unread = b''
        self._counted = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while _END in self._unread:
            head, __, self._unread = self._unread.partition(_END)
            if head.startswith(b'GET /_'):
                self._transport.write(self._nova.control(head))
            else:
                self._query(head)

    def _query(self, head: bytes) -> None:
        nova = self._nova
        nova.connections += not self._counted
        self._counted = True
        nova.queries += 1
        nova.in_progress += 1
        nova.most = max(nova.most, nova.in_progress)
        response = nova.respond(head)
        if nova.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(nova.delay, self._send, response)
        else:
            self._send(response)

    def _send(self, response: bytes) -> None:
        self._nova.in_progress -= 1
        self._transport.write(response)


async def _serve(cloud: stub_cloud.StubCloud) -> None:
    nova = _Nova(cloud)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(nova), '127.0.0.1', 0, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    url = f'http://127.0.0.1:{port}/v2.1'
    cloud.keystone.add_endpoint('compute', url, stub_cloud.REGION, name='nova')
    print(
        json.dumps({'nova_url': url, 'keystone_url': cloud.keystone_url}),
        flush=True,
    )
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input is closed."""
    # It warns that there is no memcached.
    logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
    with stub_cloud.StubCloud(cinder=None) as cloud:
        project_id = cloud.project_id('member')
        cloud.nova.add_server(project_id, server_id=_SERVER.decode())
        asyncio.run(_serve(cloud))


class Services:
    """The addresses of Keystone and Nova, and their counts.

    :param nova_url: Nova's endpoint, with its version
    :param keystone_url: Keystone's address, without a version
    """

    def __init__(self, nova_url: str, keystone_url: str) -> None:
        self.nova_url = nova_url
        self.keystone_url = keystone_url

    def _control(self, path: str) -> Counts:
        # On a connection of its own, which is not counted.
        host = self.nova_url.removeprefix('http://').partition('/')[0]
        connection = http.client.HTTPConnection(host)
        with contextlib.closing(connection):
            connection.request('GET', path)
            return Counts(**json.loads(connection.getresponse().read()))

    def counts(self) -> Counts:
        """What they have received so far."""
        return self._control('/_counts')

    def delay(self, seconds: float) -> None:
        """Delay each of Nova's responses from now on."""
        self._control(f'/_delay/{seconds}')

    def credentials(self, user: str = 'admin') -> dict[str, Any]:
        """The credentials of a user, as ``v3password`` options."""
        return {
            'auth_url': f'{self.keystone_url}/v3',
            'username': user,
            'password': user,
            'project_name': stub_cloud.USERS[user][0],
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        }

    def auth(self, user: str = 'admin') -> v3.Password:
        """The credentials of a user, as a keystoneauth plugin."""
        return v3.Password(**self.credentials(user))


@contextlib.contextmanager
def running(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run a module that serves something until its standard input is closed.

    :param module: its name
    :returns: the object of the first line that it prints, which is JSON
    :raises OSError: it does not start
    """
    with subprocess.Popen(  # noqa: S603
        [sys.executable, '-m', module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
    ) as process:
        line = process.stdout.readline() if process.stdout else ''
        try:
            if not line:
                raise OSError(f'the process of {module} has ended')
            yield json.loads(line)
        finally:
            if process.stdin:
                process.stdin.close()


@contextlib.contextmanager
def served() -> Iterator[Services]:
    """Serve Keystone and Nova until the block is left.

    :raises OSError: they do not start
    """
    with running('benchmarks.services') as started:
        yield Services(**started)


if __name__ == '__main__':
    main()
