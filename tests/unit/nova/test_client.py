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

"""Asking Nova, whatever comes back."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import socket
import threading
import time
import types
from typing import Any

from keystoneauth1 import access
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import noauth
from keystoneauth1 import session as ksa_session
from keystonemiddleware.auth_token import _user_plugin
from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.nova import client as nova_client
from attachguard.testing import server
from tests.unit import fakes

HAS_IT = {
    'volumeAttachment': {
        'id': fakes.VOLUME,
        'serverId': fakes.SERVER,
        'volumeId': fakes.VOLUME,
        'device': '/dev/vdb',
    }
}
GONE = {'itemNotFound': {'code': 404, 'message': 'not there'}}


class Compute:
    """A Nova that answers as it is told, and remembers who asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = HAS_IT
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.seen.append(environ)
        time.sleep(self.delay)
        body = self.body
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {'Content-Type': 'application/json', **self.headers}
        start_response(f'{self.status} Whatever', list(headers.items()))
        return [body]


@pytest.fixture
def compute() -> Compute:
    return Compute()


@pytest.fixture
def running(compute: Compute) -> Iterator[server.Server]:
    with server.serve(compute) as running:
        yield running


Make = Callable[..., nova_client.Nova]


@pytest.fixture
def make(running: server.Server) -> Make:
    def make(
        tell: Callable[[bool], None] = lambda is_open: None, **options: Any
    ) -> nova_client.Nova:
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[])
        opts.configure(
            conf,
            {
                'endpoint_override': running.url,
                'nova_timeout': '5',
                **{name: str(value) for name, value in options.items()},
            },
        )
        return nova_client.Nova(conf, tell)

    return make


def ask(asked: nova_client.Nova) -> bool:
    return asked.attached(noauth.NoAuth(), fakes.SERVER, fakes.VOLUME)


def test_one_question_is_one_request(
    make: Make, running: server.Server, compute: Compute
) -> None:
    asked = make()
    assert [ask(asked) for _ in range(5)] == [True] * 5
    assert [request.path for request in running.requests] == [
        f'/servers/{fakes.SERVER}/os-volume_attachments/{fakes.VOLUME}'
    ] * 5
    assert running.connections == 1
    # Below 2.89, where Nova answers while an attachment is being made.
    for environ in compute.seen:
        assert environ.get('HTTP_OPENSTACK_API_VERSION', '') in (
            '',
            'compute 2.1',
        )


def test_a_server_without_the_volume(make: Make, compute: Compute) -> None:
    compute.status, compute.body = 404, GONE
    assert ask(make()) is False


def test_attachment_ids_are_compared_where_nova_has_them(
    make: Make, compute: Compute
) -> None:
    asked = make()
    arguments = (noauth.NoAuth(), fakes.SERVER, fakes.VOLUME)
    compute.body = {
        'volumeAttachment': {
            'serverId': fakes.SERVER,
            'volumeId': fakes.VOLUME,
            'attachment_id': fakes.ATTACHMENT,
        }
    }
    assert asked.attachment_id(*arguments) == fakes.ATTACHMENT
    assert compute.seen[-1]['HTTP_OPENSTACK_API_VERSION'] == 'compute 2.89'
    compute.status, compute.body = 404, GONE
    assert asked.attachment_id(*arguments) is None


@pytest.mark.parametrize(
    ('task', 'at_rest'), [(None, True), ('migrating', False)]
)
def test_a_server_is_at_rest_when_nova_does_nothing_with_it(
    make: Make,
    running: server.Server,
    compute: Compute,
    task: str | None,
    at_rest: bool,
) -> None:
    compute.body = {
        'server': {'id': fakes.SERVER, 'OS-EXT-STS:task_state': task}
    }
    asked = make()
    assert asked.at_rest(noauth.NoAuth(), fakes.SERVER) is at_rest
    assert running.requests[-1].path == f'/servers/{fakes.SERVER}'
    compute.status, compute.body = 404, GONE
    assert asked.at_rest(noauth.NoAuth(), fakes.SERVER)


@pytest.mark.parametrize(
    'found',
    [
        {},
        {'id': fakes.SERVER},
        {'id': fakes.OTHER_SERVER, 'OS-EXT-STS:task_state': None},
    ],
)
def test_a_server_of_which_nova_does_not_say_it_is_unknown(
    make: Make, compute: Compute, found: dict[str, Any]
) -> None:
    compute.body = {'server': found}
    with pytest.raises(nova_client.Unknown):
        make().at_rest(noauth.NoAuth(), fakes.SERVER)


@pytest.mark.parametrize(
    ('status', 'credentials', 'outage'),
    [
        (401, {}, False),
        (403, {}, False),
        (500, {}, True),
        (429, {}, True),
        # Not the caller's token, but the operator's.
        (403, {'auth_type': 'none'}, True),
    ],
)
def test_a_refusal_of_the_callers_token_is_no_outage(
    make: Make,
    running: server.Server,
    compute: Compute,
    status: int,
    credentials: dict[str, str],
    outage: bool,
) -> None:
    compute.status = status
    with pytest.raises(nova_client.Unknown) as caught:
        ask(make(**credentials))
    assert caught.value.outage is outage


@pytest.mark.parametrize(
    ('status', 'body'),
    [
        # Not Nova's: a proxy's, or an endpoint that is something else.
        (404, b'<html>not found</html>'),
        (404, {'message': 'The resource could not be found.', 'code': '404'}),
        (404, b''),
        *[(status, b'{}') for status in (201, 204, 300, 301, 302, 307)],
        *[(status, GONE) for status in (400, 401, 403, 409, 413, 429)],
        *[(status, b'x') for status in (500, 502, 503, 504)],
        (200, b''),
        (200, b'[]'),
        (200, b'{'),
        (200, b'null'),
        (200, b'<html>'),
        (200, b'\xff\xfe'),
        (200, b'[' * 20_000),
        (200, {}),
        (200, {'volumeAttachment': None}),
        (200, {'volumeAttachment': {}}),
        (200, {'volumeAttachment': 'yes'}),
        (
            200,
            {
                'volumeAttachment': {
                    'serverId': fakes.OTHER_SERVER,
                    'volumeId': fakes.VOLUME,
                }
            },
        ),
        (200, b'"' + b'x' * 1_000_000 + b'"'),
    ],
)
def test_every_other_answer_is_unknown(
    make: Make,
    running: server.Server,
    compute: Compute,
    status: int,
    body: Any,
) -> None:
    compute.status, compute.body = status, body
    compute.headers = {
        'Location': f'{running.url}/elsewhere',
        'Retry-After': '99999',
    }
    with pytest.raises(nova_client.Unknown) as caught:
        ask(make())
    assert caught.value.why
    assert len(compute.seen) == 1


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server in which something goes wrong below HTTP."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(10)
        stop = threading.Event()

        def run() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    connection, _address = listener.accept()
                    with connection:
                        serve(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f'http://127.0.0.1:{listener.getsockname()[1]}'
        finally:
            stop.set()
            listener.close()


def drip(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
    with contextlib.suppress(OSError):
        for _ in range(50):
            time.sleep(0.1)
            connection.sendall(b' ')


def drip_a_header(connection: socket.socket) -> None:
    connection.recv(4096)
    with contextlib.suppress(OSError):
        for byte in b'HTTP/1.1 200 OK\r\nX-Long: ' + b'x' * 50:
            time.sleep(0.1)
            connection.sendall(bytes([byte]))


def hang(connection: socket.socket) -> None:
    connection.recv(4096)
    time.sleep(3)


def reset(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0'
    )


def truncate(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{')


def babble(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b'220 this is no HTTP\r\n\r\n')


@pytest.mark.parametrize(
    'trouble', [drip, drip_a_header, hang, reset, truncate, babble]
)
def test_trouble_is_unknown_within_the_deadline(
    make: Make, trouble: Callable[[socket.socket], None]
) -> None:
    with listening(trouble) as url:
        asked = make(endpoint_override=url, nova_timeout=1)
        start = time.monotonic()
        with pytest.raises(nova_client.Unknown):
            ask(asked)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize('body', [b'<html>', b'', {}, [], GONE])
def test_an_answer_without_a_row_is_named_so(
    make: Make, compute: Compute, body: Any
) -> None:
    compute.body = body
    with pytest.raises(
        nova_client.Unknown, match='HTTP 200 without'
    ) as caught:
        ask(make())
    # Not itself, which nobody could let go of.
    assert caught.value.__cause__ is None


def test_nobody_there_is_unknown(make: Make) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(nova_client.Unknown, match='ConnectFailure'):
        ask(make(endpoint_override=f'http://127.0.0.1:{port}'))


def test_no_more_questions_than_allowed_are_under_way(
    make: Make, compute: Compute
) -> None:
    compute.delay = 1
    asked = make(nova_max_concurrency=2)
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(asked)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(compute.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    start = time.monotonic()
    with pytest.raises(nova_client.Unknown, match='nova_max_concurrency'):
        ask(asked)
    assert time.monotonic() - start < 0.5
    for thread in threads:
        thread.join(5)
    assert answers == [True, True]
    compute.delay = 0
    assert ask(asked)


def test_too_many_questions_are_no_outage(
    make: Make, compute: Compute
) -> None:
    # Or a caller who asks much at once would get through where an outage
    # lets through.
    compute.delay = 1
    asked = make(nova_max_concurrency=1)
    thread = threading.Thread(target=ask, args=(asked,))
    thread.start()
    _soon(lambda: compute.seen)
    with pytest.raises(nova_client.Unknown) as caught:
        ask(asked)
    assert (caught.value.outage, caught.value.reason) == (False, 'nova-busy')
    thread.join(10)


class Token(noauth.NoAuth):
    """The plugin of a caller with a token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    @property
    def user(self) -> Any:
        return types.SimpleNamespace(auth_token=self.token)

    def get_headers(self, session: Any, **kwargs: Any) -> Any:
        return {'X-Auth-Token': self.token}


def _soon(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_identical_questions_at_once_are_one_for_each_token(
    make: Make, compute: Compute
) -> None:
    compute.delay = 0.3
    asked = make(nova_max_concurrency=32)
    answers: list[bool] = []

    def one(token: str, volume_id: str) -> None:
        answers.append(asked.attached(Token(token), fakes.SERVER, volume_id))

    compute.body = {
        'volumeAttachment': {
            'serverId': fakes.SERVER,
            'volumeId': fakes.VOLUME,
        }
    }
    threads = [
        threading.Thread(target=one, args=(token, fakes.VOLUME))
        for token in ('one', 'two')
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == [True] * 20
    tokens = [environ['HTTP_X_AUTH_TOKEN'] for environ in compute.seen]
    # The first of each, and then one for all the others.
    assert sorted(tokens) == ['one'] * 2 + ['two'] * 2


def test_who_has_no_token_shares_nothing(make: Make, compute: Compute) -> None:
    compute.delay = 0.2
    asked = make()
    threads = [threading.Thread(target=ask, args=(asked,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(compute.seen) == 5


class Raw:
    """A server that sends what it is told to, byte after byte."""

    def __init__(self, send: list[bytes], pause: float = 0.0) -> None:
        self._send = send
        self._pause = pause
        self.connections = 0
        self.gone = threading.Event()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'http://127.0.0.1:{self._listener.getsockname()[1]}'
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.recv(65536)
                try:
                    for piece in self._send:
                        connection.sendall(piece)
                        time.sleep(self._pause)
                    connection.settimeout(10)
                    if not connection.recv(1):
                        self.gone.set()
                except OSError:
                    self.gone.set()

    def close(self) -> None:
        self._listener.close()


HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'


@pytest.mark.parametrize(
    ('send', 'pause'),
    [
        ([], 0.0),
        ([bytes([byte]) for byte in HEAD * 50], 0.05),
        ([b'HTTP/1.1 200 OK\r\n', *[b'A: b\r\n'] * 90], 0.05),
        ([HEAD + b'Content-Length: 500\r\n\r\n', *[b' '] * 400], 0.05),
        (
            [
                HEAD + b'Transfer-Encoding: chunked\r\n\r\n',
                *[b'1\r\n \r\n'] * 200,
            ],
            0.05,
        ),
        ([HEAD + b'\r\n', *[b' '] * 400], 0.05),
    ],
    ids=['nothing', 'head', 'headers', 'body', 'chunks', 'no-length'],
)
def test_a_connection_that_nobody_waits_for_is_cut(
    make: Make, send: list[bytes], pause: float
) -> None:
    raw = Raw(send, pause)
    asked = make(endpoint_override=raw.url, nova_timeout=0.4, timeout=60)
    with pytest.raises(nova_client.Unknown, match='nova_timeout'):
        ask(asked)
    # Far sooner than the socket would time out, or the server be done.
    assert raw.gone.wait(2)
    _soon(lambda: asked._questions._free._value == 16)
    raw.close()


def test_nova_is_left_alone_when_it_does_not_answer(
    make: Make, compute: Compute, running: server.Server
) -> None:
    compute.status = 503
    told: list[bool] = []
    asked = make(told.append, nova_breaker_seconds=0.5)
    for _ in range(5):
        with pytest.raises(nova_client.Unknown, match='HTTP 503'):
            ask(asked)
    for _ in range(5):
        with pytest.raises(nova_client.Unknown) as caught:
            ask(asked)
        assert caught.value.reason == 'nova-down'
        assert caught.value.outage
    assert len(compute.seen) == 5
    compute.status = 200
    time.sleep(0.6)
    assert ask(asked)
    assert ask(asked)
    assert told == [True, False]


@pytest.mark.parametrize(
    ('status', 'credentials'),
    [(500, {}), (500, {'auth_type': 'none'}), (401, {}), (403, {})],
)
def test_what_a_caller_can_bring_about_does_not_count(
    make: Make,
    compute: Compute,
    status: int,
    credentials: dict[str, str],
) -> None:
    asked = make(**credentials)
    compute.status = status
    for _ in range(10):
        with pytest.raises(nova_client.Unknown):
            ask(asked)
    compute.status = 200
    assert ask(asked)


@pytest.mark.parametrize(
    ('status', 'body'),
    [(200, b'<html>'), (200, {}), (302, b''), (429, b''), (504, b'')],
)
def test_what_is_not_novas_counts(
    make: Make, compute: Compute, status: int, body: Any
) -> None:
    asked = make()
    compute.status, compute.body = status, body
    for _ in range(10):
        with pytest.raises(nova_client.Unknown):
            ask(asked)
    assert len(compute.seen) == 5


def _endpoint(region: str, interface: str, host: str) -> dict[str, str]:
    return {
        'id': f'{region}-{interface}',
        'region': region,
        'region_id': region,
        'interface': interface,
        'url': f'http://{host}.{region}/v2.1',
    }


CATALOG = [
    {
        'type': type_,
        'name': name,
        'id': name,
        'endpoints': [
            _endpoint(region, interface, f'{name}-{interface}')
            for region in ('one', 'two')
            for interface in interfaces
        ],
    }
    for type_, name, interfaces in (
        ('block-storage', 'cinder', ('public', 'internal')),
        ('compute', 'nova', ('public', 'internal')),
        ('compute', 'other', ('public', 'admin')),
        ('identity', 'keystone', ('public',)),
    )
]


@pytest.mark.parametrize('service_type', ['compute', 'volume', 'placement'])
@pytest.mark.parametrize('service_name', [None, 'other', 'nowhere'])
@pytest.mark.parametrize('region_name', [None, 'two', 'three'])
@pytest.mark.parametrize(
    'interface', [['internal', 'public'], ['admin'], ['public'], 'internal']
)
def test_nova_is_where_keystoneauth_would_find_it(
    service_type: str,
    service_name: str | None,
    region_name: str | None,
    interface: Any,
) -> None:
    user = access.create(
        body={'token': {'methods': [], 'user': {}, 'catalog': CATALOG}},
        auth_token='token',
    )
    caller = _user_plugin.UserAuthPlugin(user, None)
    wanted = {
        'service_type': service_type,
        'service_name': service_name,
        'region_name': region_name,
        'interface': interface,
    }
    session = ksa_session.Session()
    nova_client._caller.set(caller)
    found: list[Any] = []
    for auth in (caller, nova_client._AsCaller()):
        try:
            found.append(auth.get_endpoint(session, **wanted))
        except ksa_exceptions.CatalogException:
            found.append(None)
    nova_client._caller.set(None)
    theirs, ours = found
    assert ours == theirs


def test_a_callers_token_without_nova_is_no_outage(make: Make) -> None:
    class NoCatalog(Token):
        def get_endpoint(self, *args: Any, **kwargs: Any) -> Any:
            return None

    asked = make(endpoint_override='')
    with pytest.raises(
        nova_client.Unknown, match='EndpointNotFound'
    ) as caught:
        asked.attached(NoCatalog('x'), fakes.SERVER, fakes.VOLUME)
    assert not caught.value.outage
    assert asked.breaker.open_for is None


def test_an_answer_that_names_its_request_is_understood(
    make: Make, compute: Compute
) -> None:
    compute.headers = {'x-compute-request-id': 'req-1', 'Vary': 'a'}
    assert ask(make())


def test_a_question_given_up_counts_until_it_is_over(
    make: Make, compute: Compute
) -> None:
    compute.delay = 1
    asked = make(
        nova_max_concurrency=1, nova_timeout=0.2, nova_breaker_failures=0
    )
    with pytest.raises(nova_client.Unknown, match='nova_timeout'):
        ask(asked)
    with pytest.raises(nova_client.Unknown, match='nova_max_concurrency'):
        ask(asked)
    compute.delay = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(nova_client.Unknown):
            assert ask(asked)
            break
        time.sleep(0.05)
    else:
        pytest.fail('the question is never over')


def test_a_burst_opens_a_connection_each_and_keeps_them(
    make: Make, running: server.Server, compute: Compute
) -> None:
    asked = make(nova_max_concurrency=16)

    def burst() -> None:
        threads = [
            threading.Thread(target=ask, args=(asked,)) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    compute.delay = 0.2
    burst()
    opened = running.connections
    assert opened <= 16
    burst()
    assert running.connections <= 16


def test_without_a_token_and_without_credentials_there_is_no_question(
    make: Make, compute: Compute
) -> None:
    with pytest.raises(nova_client.Unknown, match='auth_type'):
        make().attached(None, fakes.SERVER, fakes.VOLUME)
    assert compute.seen == []


def test_each_question_is_asked_as_its_own_caller(
    make: Make, compute: Compute
) -> None:
    class Caller(noauth.NoAuth):
        def __init__(self, token: str) -> None:
            super().__init__()
            self.token = token

        def get_headers(self, session: Any, **kwargs: Any) -> Any:
            return {'X-Auth-Token': self.token}

    asked = make(nova_max_concurrency=20)
    compute.status, compute.body = 404, GONE
    compute.delay = 0.05
    threads = [
        threading.Thread(
            target=asked.attached,
            args=(
                Caller(f'token-{n}'),
                f'{n:08}-1111-4111-8111-111111111111',
                fakes.VOLUME,
            ),
        )
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(compute.seen) == 20
    for environ in compute.seen:
        number = int(environ['PATH_INFO'].split('/')[2][:8])
        assert environ['HTTP_X_AUTH_TOKEN'] == f'token-{number}'
