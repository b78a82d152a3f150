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
"""A guarded Cinder, and all that it leans on in the hands of a test.

The guard finds Nova by a region of the catalog of its own, in which there is
nothing but the trouble; whoever else talks to Nova finds it where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import concurrent.futures
import configparser
import contextlib
import http.client
import json
import pathlib
import threading
import time
from typing import Any
from typing import Literal
from typing import NamedTuple
import urllib.parse
import uuid

from attachguard.testing import embedded
from attachguard.testing import stub_cloud
from tests.chaos import certificates
from tests.chaos import trouble
from tests.chaos import usage

# Of the guard, in seconds: short, for each hanging fault costs it once.
NOVA_TIMEOUT = 1.5
# Of a single connect, read or TLS handshake: the last cannot be cut off.
READ_TIMEOUT = 2.0
# What a request may take beyond that: Cinder's own work on a busy machine.
MARGIN = 3.0
# Of the guard: half of the threads that serve its requests.
CONCURRENCY = 8
BREAKER_SECONDS = 1.0
# When a request counts as one that hangs.
_PATIENCE = 15.0
_REGION = 'Chaos'

Server = Literal['eventlet', 'threads']


class Answer(NamedTuple):
    """What came of a request.

    :param status: 0 where the connection ended without a whole answer
    :param headers: by their names in lower case
    :param seconds: from the connection to the last byte
    :param sent: when it was sent
    """

    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float
    sent: float = 0.0

    @property
    def reason(self) -> str | None:
        """The guard's code for why it said no."""
        if not isinstance(self.body, dict):
            return None
        for fault in self.body.values():
            if isinstance(fault, dict) and 'reason' in fault:
                return str(fault['reason'])
        return None


class Caller:
    """Somebody who calls Cinder, from any number of threads.

    :param scene: where
    :param user: the user who has logged in, by a token of their own
    :param service: whether a service token goes along
    """

    def __init__(
        self, scene: Scene, user: str = 'member', service: bool = False
    ) -> None:
        self._scene = scene
        url = urllib.parse.urlsplit(scene.cinder.url)
        self._address = url.hostname or '', url.port or 0
        self._root = f'{url.path}/{scene.stubs.project_id(user)}'
        self.token = scene.stubs.session(user).get_token() or ''
        self._headers = {
            'X-Auth-Token': self.token,
            'OpenStack-API-Version': 'volume 3.44',
            'Content-Type': 'application/json',
        }
        if service:
            token = scene.stubs.session('nova').get_token() or ''
            self._headers['X-Service-Token'] = token

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        within: float = _PATIENCE,
    ) -> Answer:
        """Make a request; what goes wrong with it is an answer, too."""
        start = time.monotonic()
        connection = http.client.HTTPConnection(*self._address, timeout=within)
        try:
            with contextlib.closing(connection):
                connection.request(
                    method,
                    self._root + path,
                    None if body is None else json.dumps(body),
                    self._headers,
                )
                found = connection.getresponse()
                raw = found.read()
        except (OSError, http.client.HTTPException) as exc:
            took = time.monotonic() - start
            return Answer(0, {}, repr(exc), took, start)
        took = time.monotonic() - start
        with contextlib.suppress(ValueError):
            raw = json.loads(raw)
        headers = {k.lower(): v for k, v in found.headers.items()}
        return Answer(found.status, headers, raw, took, start)

    def act(self, volume_id: str, name: str, **arguments: Any) -> Answer:
        """Call an action of a volume."""
        return self.send(
            'POST', f'/volumes/{volume_id}/action', {name: arguments}
        )

    def attach(self, volume_id: str, server_id: str | None = None) -> Answer:
        """Claim that a server has a volume.

        :param server_id: by default one that is nowhere
        """
        return self.act(
            volume_id,
            'os-attach',
            instance_uuid=server_id or str(uuid.uuid4()),
            mountpoint='/dev/vdb',
        )

    def raw_attach(
        self, volume_id: str, server_id: str | None = None
    ) -> bytes:
        """The same request, for a socket; no other follows it."""
        body = json.dumps(
            {
                'os-attach': {
                    'instance_uuid': server_id or str(uuid.uuid4()),
                    'mountpoint': '/dev/vdb',
                }
            }
        )
        headers = {
            **self._headers,
            'Host': 'cinder',
            'Connection': 'close',
            'Content-Length': str(len(body)),
        }
        lines = [f'{name}: {value}' for name, value in headers.items()]
        first = f'POST {self._root}/volumes/{volume_id}/action HTTP/1.1'
        return '\r\n'.join([first, *lines, '', body]).encode()


class Scene:
    """The cloud, made by :func:`staged`.

    :param stubs: Keystone and Nova
    :param cinder: Cinder with the guard
    :param nova: between the guard and Nova
    :param tls: the same with TLS
    :param keystone: before Keystone, for the guard's own credentials
    :param elsewhere: where nobody has any business
    """

    def __init__(
        self,
        stubs: stub_cloud.StubCloud,
        cinder: embedded.EmbeddedCinder,
        nova: trouble.Trouble,
        tls: trouble.Trouble,
        keystone: trouble.Trouble,
        elsewhere: trouble.Trouble,
    ) -> None:
        self.stubs = stubs
        self.cinder = cinder
        self.nova = nova
        self.tls = tls
        self.keystone = keystone
        self.elsewhere = elsewhere
        self._used: trouble.Trouble | None = None
        self.use(nova)

    def use(self, where: trouble.Trouble) -> None:
        """Have the guard ask Nova here; callers log in anew."""
        if where is self._used:
            return
        self._used = where
        self.stubs.keystone.add_endpoint(
            'compute', f'{where.url}/v2.1', _REGION, name='nova'
        )
        self.member = Caller(self)
        self.service = Caller(self, service=True)

    @property
    def pid(self) -> int:
        """Of the process of Cinder and the guard."""
        process = self.cinder._process
        assert process is not None
        return process.pid

    @property
    def log(self) -> str:
        """What that has logged so far."""
        return self.cinder.log.read_text(errors='replace')

    @property
    def tracebacks(self) -> list[str]:
        """Lines of the log with which one begins."""
        return [
            line
            for line in self.log.splitlines()
            if 'Traceback' in line
            # That headers end too early is worth one to urllib3.
            and 'urllib3.connection' not in line
        ]

    def volume(self) -> str:
        """Make a volume.

        :returns: its id
        """
        made = self.member.send('POST', '/volumes', {'volume': {'size': 1}})
        assert made.status == 202, made
        volume_id: str = made.body['volume']['id']
        self.wait_until_available(volume_id)
        return volume_id

    def show(self, volume_id: str) -> dict[str, Any]:
        """What Cinder says of a volume."""
        shown = self.member.send('GET', f'/volumes/{volume_id}')
        assert shown.status == 200, shown
        volume: dict[str, Any] = shown.body['volume']
        return volume

    def wait_until_available(self, volume_id: str) -> None:
        """Wait until a volume can be used."""
        give_up = time.monotonic() + 20
        while self.show(volume_id)['status'] != 'available':
            assert time.monotonic() < give_up, self.show(volume_id)
            time.sleep(0.05)

    def attached(self) -> tuple[str, str]:
        """Have a server have a volume, of which Cinder does not know yet.

        :returns: the ids of the volume and the server
        """
        volume_id = self.volume()
        project = self.stubs.project_id('member')
        server = self.stubs.nova.add_server(project)
        self.stubs.nova.add_attachment(server.id, volume_id)
        return volume_id, server.id

    def detach(self, volume_id: str) -> None:
        """As a service, so that nobody is asked."""
        answer = self.service.act(volume_id, 'os-detach')
        assert answer.status == 202, answer
        self.wait_until_available(volume_id)

    def warm_up(self, volume_id: str) -> None:
        """Have every thread and connection made that there will be."""
        for _ in range(2):
            answers = at_once(
                2 * CONCURRENCY, lambda _n: self.member.attach(volume_id)
            )
            assert {answer.status for answer in answers} <= {403, 503}
        assert self.member.attach(volume_id).status == 403


def at_once(many: int, call: Callable[[int], Answer]) -> list[Answer]:
    """Make so many calls, all at the same time."""
    with concurrent.futures.ThreadPoolExecutor(many) as threads:
        return list(threads.map(call, range(many)))


class Others:
    """Whoever has nothing to ask Nova, while the context is open.

    One looks at a volume and extends it, and a service attaches and detaches
    another one: the four calls go on, one after the other.

    :param scene: where
    :param pause: seconds between two calls of the same
    """

    def __init__(self, scene: Scene, pause: float = 0.1) -> None:
        self._scene = scene
        self._pause = pause
        self.volume_id = scene.volume()
        self.served_id = scene.volume()
        self._over = threading.Event()
        self.passed: list[Answer] = []
        self.served: list[Answer] = []

    @contextlib.contextmanager
    def about(self) -> Iterator[Others]:
        """Let them go about their business.

        What they were answered before is forgotten.
        """
        self.passed, self.served = [], []
        self._over.clear()
        if self._scene.show(self.served_id)['status'] != 'available':
            # As one leaves it who was given no answer.
            self.served_id = self._scene.volume()
        threads = [
            threading.Thread(target=self._pass, daemon=True),
            threading.Thread(target=self._serve, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _pass(self) -> None:
        member = self._scene.member
        path = f'/volumes/{self.volume_id}'
        while not self._over.wait(self._pause):
            shown = member.send('GET', path)
            self.passed.append(shown)
            if shown.status != 200:
                continue
            volume = shown.body['volume']
            # The real Cinder takes a moment to extend a volume.
            if volume['status'] == 'available':
                self.passed.append(
                    member.act(
                        self.volume_id,
                        'os-extend',
                        new_size=volume['size'] + 1,
                    )
                )

    def _serve(self) -> None:
        service = self._scene.service
        while not self._over.wait(self._pause):
            attached = service.attach(self.served_id)
            self.served.append(attached)
            if attached.status == 202:
                self.served.append(service.act(self.served_id, 'os-detach'))

    @property
    def failed(self) -> list[Answer]:
        """Who was not answered as ever."""
        return [
            answer
            for answer in self.passed + self.served
            if answer.status not in (200, 202)
        ]

    @property
    def slowest(self) -> float:
        """What the slowest of them took, in seconds."""
        return max(answer.seconds for answer in self.passed + self.served)


def stub_paste_ini(directory: pathlib.Path) -> pathlib.Path:
    """The shipped file, with the stub in the place of Cinder's API."""
    config = configparser.RawConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(embedded.sample_paste_ini())
    config.remove_section('app:apiv3')
    config['app:apiv3'] = {'use': 'egg:attachguard#stub-cinder'}
    path = directory / 'api-paste-stub.ini'
    with path.open('w') as file:
        config.write(file)
    return path


@contextlib.contextmanager
def staged(
    directory: pathlib.Path,
    server: Server,
    *,
    real: bool = False,
    credentials: str | None = None,
    **options: Any,
) -> Iterator[Scene]:
    """Start it all; end it all.

    :param directory: for what Cinder writes, and certificates
    :param server: what serves Cinder
    :param real: whether Cinder is the real one, or the stub
    :param credentials: whose the guard asks Nova with, not as the caller
    :param options: more options of the guard
    """
    good = certificates.Authority(directory, 'good')
    contexts = {
        'good': good.context(),
        'another-name': good.context('nova.invalid'),
        'expired': good.context(expired=True),
        'untrusted': certificates.Authority(directory, 'bad').context(),
    }
    with contextlib.ExitStack() as stack:
        stubs = stack.enter_context(stub_cloud.StubCloud(cinder=None))
        port = stubs.nova_server.port
        nova = stack.enter_context(trouble.Trouble(port))
        tls = stack.enter_context(trouble.Trouble(port, contexts))
        keystone = stack.enter_context(
            trouble.Trouble(stubs.keystone_server.port)
        )
        elsewhere = stack.enter_context(trouble.Trouble())
        for one in (nova, tls, keystone):
            one.elsewhere = elsewhere.url
        settings: dict[str, Any] = {
            'nova_timeout': NOVA_TIMEOUT,
            'nova_max_concurrency': CONCURRENCY,
            'nova_breaker_seconds': BREAKER_SECONDS,
            'timeout': READ_TIMEOUT,
            'region_name': _REGION,
            'cafile': good.path,
            **options,
        }
        if credentials is not None:
            settings.update(stubs.auth_settings(credentials))
            settings['auth_url'] = f'{keystone.url}/v3'
        cinder = stack.enter_context(
            embedded.EmbeddedCinder(
                directory,
                stubs.keystone_url,
                paste_ini=None if real else stub_paste_ini(directory),
                # Threads that come as they are needed would look like ours.
                cinder_options={'DEFAULT': {'executor_thread_pool_size': 4}},
                server=server,
                guard_options=settings,
            )
        )
        stubs.register_cinder(cinder.url)
        yield Scene(stubs, cinder, nova, tls, keystone, elsewhere)


def calm_usage(scene: Scene, volume_id: str) -> usage.Usage:
    """What the process has when all is well, and has been for a while."""
    scene.warm_up(volume_id)
    time.sleep(0.5)
    return usage.Usage.of(scene.pid)
