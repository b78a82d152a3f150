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
"""A Keystone and a Nova for whoever measures, in a process of their own.

So what they take is nobody's cost.  Keystone is the stub of
:mod:`attachguard.testing`; Nova answers one question only, in the stub's very
words, from a loop that can do nothing else and is quick enough for hundreds of
questions at once.  It counts connections and questions, and takes as long as
it is told to.

``python -m benchmarks.neighbours`` prints where they are, and serves until its
standard input is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
import contextlib
import dataclasses
import http.client
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

from keystoneauth1.identity import v3

from attachguard.testing import stub_cloud

_ROOT = pathlib.Path(__file__).parents[1]

_SERVER = '5e57e57e-0000-4000-8000-000000000001'
_VOLUME = '701c0000-0000-4000-8000-000000000002'

_QUESTION = re.compile(
    rb'GET /v2\.1/servers/([-0-9a-f]{36})/os-volume_attachments/'
    rb'([-0-9a-f]{36}) HTTP/1\.1\r\n'
)
_DELAY = re.compile(rb'GET /_delay/([0-9.]+) ')
_CATALOG = re.compile(rb'GET /_catalog/([0-9]+) ')
_END = b'\r\n\r\n'


def question(server_id: str, volume_id: str) -> str:
    """The path of a question, below Nova's endpoint."""
    return f'/servers/{server_id}/os-volume_attachments/{volume_id}'


@dataclasses.dataclass(frozen=True)
class Counts:
    """What Nova and Keystone have been asked.

    :param connections: to Nova, since it was started
    :param questions: to Nova
    :param most: questions to Nova that were under way at once, at most
    :param keystone: requests to Keystone
    """

    connections: int
    questions: int
    most: int
    keystone: int

    def since(self, before: Counts) -> Counts:
        """What has been asked since then; ``most`` is of all the time."""
        return Counts(
            self.connections - before.connections,
            self.questions - before.questions,
            self.most,
            self.keystone - before.keystone,
        )


class _Nova:
    """What all connections share.

    :param answer: bytes that the stub sends, for one server and volume
    """

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.delay = 0.0
        self.connections = 0
        self.questions = 0
        self.under_way = 0
        self.most = 0

    def answer_to(self, server_id: bytes, volume_id: bytes) -> bytes:
        return self.answer.replace(_SERVER.encode(), server_id).replace(
            _VOLUME.encode(), volume_id
        )


class _Connection(asyncio.Protocol):
    """One client: a request after the other, none with a body."""

    def __init__(self, nova: _Nova, keystone: stub_cloud.StubCloud) -> None:
        self._nova = nova
        self._keystone = keystone
        self._unread = b''
        self._transport: asyncio.Transport
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while _END in self._unread:
            head, __, self._unread = self._unread.partition(_END)
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        nova = self._nova
        asked = _QUESTION.match(head)
        if asked is None:
            self._control(head)
            return
        if not self._counted:
            # Not those over which it is only controlled.
            self._counted = True
            nova.connections += 1
        nova.questions += 1
        nova.under_way += 1
        nova.most = max(nova.most, nova.under_way)
        answer = nova.answer_to(asked[1], asked[2])
        if nova.delay:
            asyncio.get_running_loop().call_later(
                nova.delay, self._send, answer
            )
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._nova.under_way -= 1
        # Whoever asked may be gone: then it does nothing.
        self._transport.write(answer)

    def _control(self, head: bytes) -> None:
        nova = self._nova
        status = '200 OK'
        if delay := _DELAY.match(head):
            nova.delay = float(delay[1])
            nova.most = 0
        elif catalog := _CATALOG.match(head):
            for index in range(int(catalog[1])):
                self._keystone.keystone.add_endpoint(
                    f'service-{index}',
                    f'http://127.0.0.1/service-{index}',
                    stub_cloud.REGION,
                )
        elif not head.startswith(b'GET /_counts '):
            status = '404 Not Found'
        counts = Counts(
            nova.connections,
            nova.questions,
            nova.most,
            len(self._keystone.keystone_server.requests),
        )
        body = json.dumps(dataclasses.asdict(counts))
        self._transport.write(
            f'HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n'
            f'{body}'.encode()
        )


def _stubs_answer(cloud: stub_cloud.StubCloud) -> bytes:
    """What the stub of Nova says, over HTTP, to someone of the project."""
    cloud.nova.add_server(cloud.project_id('member'), 'it', server_id=_SERVER)
    cloud.nova.add_attachment(_SERVER, _VOLUME)
    token = cloud.session('member').get_token()
    connection = http.client.HTTPConnection(cloud.nova_server.url[7:])
    with contextlib.closing(connection):
        connection.request(
            'GET',
            f'/v2.1{question(_SERVER, _VOLUME)}',
            headers={'X-Auth-Token': token or ''},
        )
        answer = connection.getresponse()
        lines = [f'{name}: {value}' for name, value in answer.getheaders()]
        assert answer.status == 200
        return '\r\n'.join(['HTTP/1.1 200 OK', *lines, '', '']).encode() + (
            answer.read()
        )


async def _serve(cloud: stub_cloud.StubCloud, nova: _Nova) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(nova, cloud), '127.0.0.1', 0, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    url = f'http://127.0.0.1:{port}'
    cloud.keystone.add_endpoint(
        'compute', f'{url}/v2.1', stub_cloud.REGION, name='nova'
    )
    served = {
        'url': url,
        'keystone_url': cloud.keystone_url,
        'projects': {
            user: cloud.project_id(user) for user in stub_cloud.USERS
        },
    }
    print(json.dumps(served), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until standard input is closed."""

    def end_with_parent() -> None:
        while os.read(0, 4096):
            pass
        # It has nothing to save.
        os._exit(0)

    # The validator of tokens would have a memcached to keep them in.
    logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
    with stub_cloud.StubCloud(cinder=None) as cloud:
        nova = _Nova(_stubs_answer(cloud))
        threading.Thread(target=end_with_parent, daemon=True).start()
        asyncio.run(_serve(cloud, nova))


class Neighbours:
    """Keystone and Nova, served by another process.

    :param url: Nova's address, without its version
    :param keystone_url: Keystone's address, without its version
    :param projects: the id of each user's project
    """

    def __init__(
        self, url: str, keystone_url: str, projects: dict[str, str]
    ) -> None:
        self.url = url
        self.keystone_url = keystone_url
        self._projects = projects

    def to_json(self) -> str:
        """All of it, for another process to use them, too."""
        return json.dumps(
            {
                'url': self.url,
                'keystone_url': self.keystone_url,
                'projects': self._projects,
            }
        )

    def project_id(self, user: str) -> str:
        """The id of the project that a user logs in to."""
        return self._projects[user]

    @property
    def endpoint(self) -> str:
        """Nova's address, with its version."""
        return f'{self.url}/v2.1'

    def _ask(self, path: str) -> Counts:
        # Not one of the clients that are measured, nor on their connections.
        connection = http.client.HTTPConnection(self.url[7:])
        with contextlib.closing(connection):
            connection.request('GET', path)
            answer = connection.getresponse()
            return Counts(**json.loads(answer.read()))

    def counts(self) -> Counts:
        """What they have been asked until now."""
        return self._ask('/_counts')

    def delay(self, seconds: float) -> None:
        """Let Nova take its time for each question from now on."""
        self._ask(f'/_delay/{seconds}')

    def add_services(self, count: int) -> None:
        """See that there are so many other services in the catalog, too."""
        self._ask(f'/_catalog/{count}')

    def auth(self, user: str = 'admin') -> v3.Password:
        """The credentials of a user, for a session."""
        return v3.Password(**self.credentials(user))

    def credentials(self, user: str = 'admin') -> dict[str, Any]:
        """The same, in the words of options."""
        return {
            'auth_url': f'{self.keystone_url}/v3',
            'username': user,
            'password': user,
            'project_name': stub_cloud.USERS[user][0],
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        }


@contextlib.contextmanager
def served() -> Iterator[Neighbours]:
    """Serve them from another process until the block is left.

    :raises OSError: they cannot be served
    """
    with subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.neighbours'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # It ends when its input does.
        with process.stdin:
            line = process.stdout.readline()
            if not line:
                raise OSError('Keystone and Nova are not served')
            yield Neighbours(**json.loads(line))


if __name__ == '__main__':
    main()
