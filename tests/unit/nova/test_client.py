# SPDX-License-Identifier: Apache-2.0

"""Queries to Nova, and every kind of response."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import socket
import threading
import time
from typing import Any

from keystoneauth1 import fixture
from keystoneauth1 import noauth
from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard import threads
from attachguard.nova import client as nova_client
from attachguard.testing import server
from tests.unit import fakes


def found(task: Any = None, vm: Any = 'active', **more: Any) -> Any:
    """Nova's response about a server that has the volume."""
    return {
        'server': {
            'id': fakes.SERVER,
            'OS-EXT-STS:task_state': task,
            'OS-EXT-STS:vm_state': vm,
            'os-extended-volumes:volumes_attached': [{'id': fakes.VOLUME}],
            **more,
        }
    }


GONE = {'itemNotFound': {'code': 404, 'message': 'not there'}}


class Compute:
    """A Nova that sends the given response, and records the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = found()
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.seen: list[dict[str, Any]] = []
        #: sets the response to a request
        self.choose: Callable[[Any], None] = lambda environ: None

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.seen.append(environ)
        self.choose(environ)
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
def make(running: server.Server) -> Iterator[Make]:
    made: list[nova_client.Nova] = []

    def make(
        on_change: Callable[[bool], None] = lambda is_open: None,
        **options: Any,
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
        made.append(nova_client.Nova(conf, on_change))
        return made[-1]

    yield make
    for nova in made:
        # So that no probe in the background goes on.
        nova.breaker.succeeded()


def query(
    nova: nova_client.Nova, auth: Any = None, project_id: str | None = None
) -> bool:
    queries = nova.queries(auth or noauth.NoAuth(), project_id)
    server = queries.server(fakes.SERVER)
    return server is not None and fakes.VOLUME in server.volume_ids


def test_one_query_is_one_request(
    make: Make, running: server.Server, compute: Compute
) -> None:
    nova = make()
    assert [query(nova) for _ in range(5)] == [True] * 5
    assert [request.path for request in running.requests] == [
        f'/servers/{fakes.SERVER}'
    ] * 5
    assert running.connections == 1
    # It has the volume also while the attachment is being made.
    for environ in compute.seen:
        assert environ.get('HTTP_OPENSTACK_API_VERSION', '') in (
            '',
            'compute 2.1',
        )


def test_a_server_that_is_not_there(make: Make, compute: Compute) -> None:
    compute.status, compute.body = 404, GONE
    assert make().queries(noauth.NoAuth()).server(fakes.SERVER) is None


def test_a_query_can_be_started_before_its_result_is_needed(
    make: Make, running: server.Server
) -> None:
    queries = make().queries(noauth.NoAuth())
    queries.start(fakes.SERVER)
    assert queries.server(fakes.SERVER) is not None
    assert queries.count == len(running.requests) == 1


def test_the_attachment_id_of_a_server(make: Make, compute: Compute) -> None:
    nova = make()
    queries = nova.queries(noauth.NoAuth())
    arguments = (fakes.SERVER, fakes.VOLUME)
    compute.body = {
        'volumeAttachment': {
            'serverId': fakes.SERVER,
            'volumeId': fakes.VOLUME,
            'attachment_id': fakes.ATTACHMENT,
        }
    }
    assert queries.attachment_id(*arguments) == fakes.ATTACHMENT
    assert compute.seen[-1]['HTTP_OPENSTACK_API_VERSION'] == 'compute 2.89'
    compute.status, compute.body = 404, GONE
    assert queries.attachment_id(*arguments) is None


@pytest.mark.parametrize(
    ('task', 'vm', 'is_busy'),
    [
        (None, 'active', False),
        (None, 'shelved_offloaded', False),
        ('migrating', 'active', True),
        ('scheduling', 'building', True),
        (None, 'building', True),
    ],
)
def test_a_server_is_busy_while_nova_builds_it_or_has_a_task(
    make: Make, compute: Compute, task: str | None, vm: str, is_busy: bool
) -> None:
    compute.body = found(task, vm)
    server = make().queries(noauth.NoAuth()).server(fakes.SERVER)
    assert server is not None
    assert server.is_busy is is_busy


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
        (200, {'server': None}),
        (200, {'server': {}}),
        (200, {'server': 'yes'}),
        (200, {'server': {'id': fakes.SERVER}}),
        (200, found(id=fakes.OTHER_SERVER)),
        (200, found(**{'os-extended-volumes:volumes_attached': None})),
        (200, found(**{'os-extended-volumes:volumes_attached': [{}]})),
        (200, b'"' + b'x' * 1_000_000 + b'"'),
    ],
)
def test_every_other_response_is_unknown(
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
        query(make())
    assert caught.value.detail
    assert len(compute.seen) == 1


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that fails below HTTP."""
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
    'fail', [drip, drip_a_header, hang, reset, truncate, babble]
)
def test_a_failure_is_unknown_within_the_deadline(
    make: Make, fail: Callable[[socket.socket], None]
) -> None:
    with listening(fail) as url:
        nova = make(endpoint_override=url, nova_timeout=1)
        start = time.monotonic()
        with pytest.raises(nova_client.Unknown):
            query(nova)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize('body', [b'<html>', b'', {}, [], GONE])
def test_a_response_without_a_row_is_unknown(
    make: Make, compute: Compute, body: Any
) -> None:
    compute.body = body
    with pytest.raises(
        nova_client.Unknown, match='HTTP 200 without'
    ) as caught:
        query(make())
    # Not itself, which would be a reference cycle.
    assert caught.value.__cause__ is None


def test_a_refused_connection_is_unknown(make: Make) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(nova_client.Unknown, match='ConnectFailure'):
        query(make(endpoint_override=f'http://127.0.0.1:{port}'))


def test_the_number_of_queries_at_a_time_is_limited(
    make: Make, compute: Compute
) -> None:
    compute.delay = 0.5
    nova = make(nova_max_concurrency=2)
    results: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda name: results.append(query(nova, None, name)),
            args=(name,),
        )
        for name in ('one', 'two')
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 5
    while len(compute.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    start = time.monotonic()
    with pytest.raises(nova_client.Busy) as caught:
        query(nova)
    # Otherwise a caller with many queries could use an outage of its own.
    assert not caught.value.outage
    assert time.monotonic() - start < 0.5
    for thread in threads:
        thread.join(5)
    assert results == [True, True]
    compute.delay = 0
    assert query(nova)


class Token(noauth.NoAuth):
    """The plugin of a caller with a token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def get_headers(self, session: Any, **kwargs: Any) -> Any:
        return {'X-Auth-Token': self.token}


def test_no_query_is_sent_while_the_circuit_breaker_is_open(
    make: Make, compute: Compute, running: server.Server
) -> None:
    compute.status = 503
    changes: list[bool] = []
    nova = make(changes.append, nova_breaker_seconds=0.5)
    for _ in range(5):
        with pytest.raises(nova_client.Unknown, match='HTTP 503'):
            query(nova)
    for _ in range(5):
        with pytest.raises(nova_client.Down) as caught:
            query(nova)
        assert caught.value.outage
    assert len(compute.seen) == 5
    compute.status = 200
    time.sleep(0.6)
    assert query(nova)
    assert query(nova)
    assert changes == [True, False]


@pytest.mark.parametrize('credentials', [{}, {'auth_type': 'none'}])
@pytest.mark.parametrize(
    ('status', 'body'),
    [(s, GONE) for s in (302, 400, 401, 403, 409, 413, 429, 500)]
    + [(404, b'<html>'), (200, b'<html>'), (200, {})],
)
def test_what_is_no_outage_does_not_open_the_breaker(
    make: Make,
    compute: Compute,
    status: int,
    body: Any,
    credentials: dict[str, str],
) -> None:
    nova = make(nova_breaker_failures=2, **credentials)
    compute.status, compute.body = status, body
    for _ in range(3):
        with pytest.raises(nova_client.Unknown) as caught:
            query(nova)
        assert not caught.value.outage
    assert nova.breaker.open_for is None


@pytest.mark.parametrize('status', [502, 503, 504])
def test_a_gateway_without_nova_is_an_outage(
    make: Make, compute: Compute, status: int
) -> None:
    nova = make(nova_breaker_failures=2)
    compute.status = status
    for _ in range(3):
        with pytest.raises(nova_client.Unknown) as caught:
            query(nova)
        assert caught.value.outage
    assert len(compute.seen) == 2


@pytest.mark.parametrize('fault', ['refused', 'hang'])
def test_a_failure_below_http_is_an_outage(make: Make, fault: str) -> None:
    with listening(hang) as url:
        if fault == 'refused':
            url = 'http://127.0.0.1:9'
        nova = make(
            endpoint_override=url, nova_timeout=0.3, nova_breaker_failures=1
        )
        with pytest.raises(nova_client.Unknown) as caught:
            query(nova)
    assert caught.value.outage
    assert nova.breaker.open_for is not None


def test_a_callers_token_without_nova_is_no_outage(make: Make) -> None:
    class NoCatalog(Token):
        def get_endpoint(self, *args: Any, **kwargs: Any) -> Any:
            return None

    nova = make(endpoint_override='')
    with pytest.raises(
        nova_client.Unknown, match='EndpointNotFound'
    ) as caught:
        query(nova, NoCatalog('x'))
    assert not caught.value.outage
    assert nova.breaker.open_for is None


def test_a_burst_opens_a_connection_each_and_keeps_them(
    make: Make, running: server.Server, compute: Compute
) -> None:
    nova = make(nova_max_concurrency=16)

    def burst() -> None:
        threads = [
            threading.Thread(target=query, args=(nova, None, str(n % 2)))
            for n in range(16)
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


def test_without_token_and_credentials_there_is_no_query(
    make: Make, compute: Compute
) -> None:
    with pytest.raises(nova_client.Unknown, match='auth_type'):
        make().queries(None).server(fakes.SERVER)
    assert compute.seen == []


def test_each_query_is_made_as_its_own_caller(
    make: Make, compute: Compute
) -> None:
    nova = make(nova_max_concurrency=40)
    compute.status, compute.body = 404, GONE
    compute.delay = 0.05
    threads = [
        threading.Thread(
            target=nova.queries(Token(f'token-{n}')).server,
            args=(f'{n:08}-1111-4111-8111-111111111111',),
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


def test_a_timed_out_query_keeps_its_place_until_it_has_ended(
    make: Make, compute: Compute
) -> None:
    compute.delay = 0.6
    nova = make(
        nova_max_concurrency=1, nova_timeout=0.2, nova_breaker_failures=0
    )
    with pytest.raises(nova_client.Unknown, match='nova_timeout|timed out'):
        query(nova)
    compute.delay = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(nova_client.Unknown):
            assert query(nova)
            break
        time.sleep(0.02)
    else:
        pytest.fail('the place is never free')


def test_the_queries_of_one_request_share_the_time(
    make: Make, compute: Compute
) -> None:
    compute.delay = 0.6
    nova = make(nova_timeout=1, nova_breaker_failures=0)
    queries = nova.queries(noauth.NoAuth())
    assert queries.server(fakes.SERVER)
    with pytest.raises(nova_client.Unknown, match='nova_timeout'):
        queries.server(fakes.SERVER)
    time.sleep(0.01)  # A wait may end a little before its timeout.
    with pytest.raises(nova_client.Unknown, match='no time is left') as caught:
        queries.server(fakes.SERVER)
    assert not caught.value.outage
    assert queries.count == 3
    assert 0.9 <= queries.seconds < 3


@pytest.mark.parametrize('before', ['other-queries', 'reads-of-cinder'])
def test_a_query_that_had_little_time_shows_no_outage(
    make: Make, compute: Compute, before: str
) -> None:
    """Otherwise a caller could cause one, with a volume of many servers."""
    compute.delay = 1.3
    nova = make(nova_timeout=2, nova_breaker_failures=1)
    queries = nova.queries(noauth.NoAuth())
    if before == 'other-queries':
        assert queries.server(fakes.SERVER)
    else:
        # For so long, Cinder reads.
        time.sleep(compute.delay)
    with pytest.raises(nova_client.Unknown, match='nova_timeout') as caught:
        queries.server(fakes.SERVER)
    assert not caught.value.outage
    assert nova.breaker.open_for is None


def test_the_body_of_a_response_has_a_total_time(make: Make) -> None:
    """A thread does not stay with a server that sends byte after byte."""
    done = threading.Event()

    def drip_until_closed(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
        try:
            for _ in range(500):
                time.sleep(0.02)
                connection.sendall(b' ')
        except OSError:
            done.set()

    with listening(drip_until_closed) as url:
        nova = make(endpoint_override=url, nova_timeout=0.4)
        with pytest.raises(nova_client.Unknown):
            query(nova)
        assert done.wait(5)


def test_a_response_has_a_maximum_size(make: Make, compute: Compute) -> None:
    compute.body = {**found(), 'padding': 'x' * 1024 * 1024}
    with pytest.raises(nova_client.Unknown, match='1048576 bytes') as caught:
        query(make())
    # The owner of a server can make it long, by metadata.
    assert not caught.value.outage


def test_cookies_of_one_caller_are_not_sent_for_another(
    make: Make, compute: Compute
) -> None:
    compute.headers = {'Set-Cookie': 'session=secret'}
    nova = make()
    query(nova)
    query(nova)
    assert 'HTTP_COOKIE' not in compute.seen[-1]


KEYSTONE = {
    'auth_type': 'v3password',
    'username': 'cinder',
    'password': 'secret',
    'user_domain_id': 'default',
    'project_name': 'service',
    'project_domain_id': 'default',
}


@pytest.mark.parametrize('path', ['', '/', '/v3', '/identity/v3'])
def test_auth_url_may_lack_a_path(
    make: Make, running: server.Server, compute: Compute, path: str
) -> None:
    """``auth_url = http://host:5000`` works as one with a path does."""
    token = fixture.V3Token()
    token.set_project_scope()
    compute.status = 201
    compute.body = token
    compute.headers = {'X-Subject-Token': 'token'}
    nova = make(auth_url=f'{running.url}{path}', **KEYSTONE)
    with pytest.raises(nova_client.Unknown, match='HTTP 201'):
        query(nova)
    posted = [
        request.path
        for request in running.requests
        if request.path.endswith('/auth/tokens')
    ]
    assert posted == [f'{path.removesuffix("/v3").rstrip("/")}/v3/auth/tokens']
    assert compute.seen[-1]['HTTP_X_AUTH_TOKEN'] == 'token'


def test_a_proxy_of_the_environment_is_used(
    make: Make,
    running: server.Server,
    compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('http_proxy', running.url)
    monkeypatch.setenv('no_proxy', '')
    nova = make(endpoint_override='http://nova.invalid:8774/v2.1')
    assert query(nova)
    assert len(running.requests) == 1
    monkeypatch.setenv('no_proxy', 'nova.invalid')
    with pytest.raises(nova_client.Unknown):
        query(nova)


@pytest.mark.parametrize('name', ['REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'])
def test_a_ca_bundle_of_the_environment_is_used(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv('REQUESTS_CA_BUNDLE', raising=False)
    monkeypatch.setenv(name, '/nonexistent/bundle.pem')
    nova = make(endpoint_override='https://127.0.0.1:9/v2.1')
    with pytest.raises(
        nova_client.Unknown, match='nonexistent/bundle.pem|OSError'
    ):
        query(nova)


SERVERS = '/servers?all_tenants=1&limit=1'
FORBIDDEN = {'forbidden': {'code': 403, 'message': 'Policy does not allow'}}


class TestVisibility:
    """Whether Nova shows the servers of every project."""

    @pytest.fixture(autouse=True)
    def no_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(threads, 'start', lambda run: run())

    @pytest.mark.parametrize(
        ('status', 'body', 'sees'),
        [(200, {'servers': []}, True), (403, FORBIDDEN, False)],
    )
    def test_is_checked_once_in_a_while(
        self,
        make: Make,
        compute: Compute,
        running: server.Server,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        status: int,
        body: Any,
        sees: bool,
    ) -> None:
        nova = make(auth_type='none')
        assert nova.visibility is nova_client.Visibility.UNCHECKED
        assert compute.seen == []
        compute.status, compute.body = status, body
        now = time.monotonic()
        for later, checks in ((0, 1), (299, 1), (301, 2), (599, 2)):
            monkeypatch.setattr(time, 'monotonic', lambda: now + later)  # noqa: B023
            queries = [nova.queries(None) for _ in range(3)]
            assert [item.sees_every_project() for item in queries] == (
                [sees] * 3
            )
            assert [item.path for item in running.requests] == (
                [SERVERS] * checks
            )
        warned = caplog.text.count('Give their user the role admin')
        assert warned == (not sees)

    def test_can_change(
        self,
        make: Make,
        compute: Compute,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nova = make(auth_type='none')
        compute.status, compute.body = 403, {'servers': [], **FORBIDDEN}
        assert not nova.queries(None).sees_every_project()
        compute.status = 200
        now = time.monotonic()
        monkeypatch.setattr(time, 'monotonic', lambda: now + 301)
        assert nova.queries(None).sees_every_project()
        assert nova.visibility is nova_client.Visibility.EVERY_PROJECT

    def test_of_some_projects_leaves_the_caller_to_see_the_server(
        self, make: Make, compute: Compute
    ) -> None:
        nova = make(auth_type='none')

        def choose(environ: Any) -> None:
            # As to a user with the role service only.
            if environ.get('HTTP_X_AUTH_TOKEN') == 'token':
                compute.status, compute.body = 200, found()
            elif 'all_tenants' in environ['QUERY_STRING']:
                compute.status, compute.body = 403, FORBIDDEN
            else:
                compute.status, compute.body = 404, GONE

        compute.choose = choose
        assert query(nova, Token('token'))
        assert nova.visibility is nova_client.Visibility.SOME_PROJECTS
        # Nobody else sees it.
        assert not query(nova, Token('another'))

    def test_of_some_projects_leaves_the_caller_to_see_the_attachment(
        self, make: Make, compute: Compute
    ) -> None:
        nova = make(auth_type='none')

        def choose(environ: Any) -> None:
            if environ.get('HTTP_X_AUTH_TOKEN') == 'token':
                row = {
                    'serverId': fakes.SERVER,
                    'volumeId': fakes.VOLUME,
                    'attachment_id': fakes.ATTACHMENT,
                }
                compute.status, compute.body = 200, {'volumeAttachment': row}
            elif 'all_tenants' in environ['QUERY_STRING']:
                compute.status, compute.body = 403, FORBIDDEN
            else:
                compute.status, compute.body = 404, GONE

        compute.choose = choose
        # None would mean that Nova has not saved an id yet.
        queries = nova.queries(Token('token'))
        assert (
            queries.attachment_id(fakes.SERVER, fakes.VOLUME)
            == fakes.ATTACHMENT
        )

    # 401: a token that Nova rejects; 403 without Nova's fault: a proxy's.
    @pytest.mark.parametrize('status', [401, 403, 500])
    def test_is_unknown_if_nova_does_not_say(
        self, make: Make, compute: Compute, status: int
    ) -> None:
        nova = make(auth_type='none')
        compute.status = status
        with pytest.raises(nova_client.Unknown, match=f'HTTP {status}'):
            nova.queries(None).sees_every_project()

    @pytest.mark.parametrize('status', [401, 403])
    def test_is_unknown_if_keystone_refuses_the_credentials(
        self,
        make: Make,
        compute: Compute,
        running: server.Server,
        caplog: pytest.LogCaptureFixture,
        status: int,
    ) -> None:
        nova = make(auth_url=f'{running.url}/v3', **KEYSTONE)
        compute.status, compute.body = status, FORBIDDEN
        with pytest.raises(nova_client.Unknown, match=f'HTTP {status}'):
            nova.queries(None).sees_every_project()
        assert nova.visibility is nova_client.Visibility.UNCHECKED
        assert 'role admin' not in caplog.text

    def test_of_a_caller_is_never_every_project(
        self, make: Make, compute: Compute
    ) -> None:
        queries = make().queries(noauth.NoAuth())
        assert not queries.sees_every_project()
        assert compute.seen == []


@pytest.mark.parametrize('regions', [['one'], ['one', 'two']])
@pytest.mark.parametrize('chosen', [{}, {'region_name': 'one'}])
def test_several_regions_are_reported_if_none_is_chosen(
    make: Make,
    running: server.Server,
    compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    regions: list[str],
    chosen: dict[str, str],
) -> None:
    # The check in the background ends before the next.
    monkeypatch.setattr(threads, 'start', lambda run: run())
    token = fixture.V3Token()
    token.set_project_scope()
    service = token.add_service('compute')
    for region in regions:
        service.add_endpoint('public', running.url, region=region)
    compute.status = 201
    compute.body = {**token, 'servers': []}
    compute.headers = {'X-Subject-Token': 'token'}
    nova = make(
        auth_url=f'{running.url}/v3',
        endpoint_override='',
        **KEYSTONE,
        **chosen,
    )
    several = sorted(regions) if len(regions) > 1 and not chosen else []
    assert nova.unchosen_regions() == several
    # The token is kept, and Nova responds with 200.
    compute.status = 200
    assert nova.queries(None).sees_every_project()
    assert ('regions=one,two' in caplog.text) == bool(several)
