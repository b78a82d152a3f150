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

"""HTTP that another thread can put an end to."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import gzip
import socket
import threading
import time
import traceback
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import session as ksa_session
import pytest
import requests

from attachguard.nova import transport
from attachguard.testing import server

LONGEST = 1000


class Service:
    """Sends so many bytes, in pieces, when it may."""

    def __init__(self) -> None:
        self.length = 10
        self.headers: list[tuple[str, str]] = []
        self.seen: list[dict[str, Any]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        self.seen.append(
            {**environ, 'body': environ['wsgi.input'].read().decode()}
        )
        self.go.wait(5)
        length = [('Content-Length', str(self.length))]
        start_response('200 OK', length + self.headers)
        for _ in range(self.length):
            yield b'x'


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def running(service: Service) -> Iterator[server.Server]:
    with server.serve(service) as running:
        yield running


@pytest.fixture
def session() -> transport.Session:
    return transport.Session(4, LONGEST)


def get(
    session: transport.Session, running: server.Server, path: str = '/a'
) -> requests.Response:
    return session.request('GET', running.url + path, headers={}, timeout=5)


def soon(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_answer_is_as_requests_gives_it(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    service.headers = [('X-Compute-Request-Id', 'req-1'), ('Vary', 'a')]
    answer = get(session, running, '/a?b=%2F&c')
    assert answer.status_code == 200
    assert answer.text == 'x' * 10
    assert answer.headers['x-compute-request-id'] == 'req-1'
    assert answer.url == answer.request.url == running.url + '/a?b=%2F&c'
    assert answer.request.method == 'GET'
    (seen,) = service.seen
    assert (seen['PATH_INFO'], seen['QUERY_STRING']) == ('/a', 'b=%2F&c')


def test_keystoneauth_can_post_by_it(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    # As it does for a token.
    by = ksa_session.Session(session=session)
    by.post(running.url + '/tokens', json={'a': 1}, authenticated=False)
    (seen,) = service.seen
    assert seen['body'] == '{"a": 1}'
    assert seen['CONTENT_TYPE'] == 'application/json'


def test_a_connection_serves_one_request_after_the_other(
    session: transport.Session, running: server.Server
) -> None:
    for _ in range(5):
        with transport.Call():
            get(session, running)
    assert running.connections == 1


@pytest.mark.parametrize('length', [LONGEST + 1, 200_000])
def test_an_answer_has_an_end(
    session: transport.Session,
    running: server.Server,
    service: Service,
    length: int,
) -> None:
    service.length = length
    with pytest.raises(transport.TooLong, match=str(LONGEST)):
        get(session, running)


def test_an_answer_can_be_as_long_as_it_may(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    service.length = LONGEST
    assert len(get(session, running).content) == LONGEST


def test_nobody_is_sent_elsewhere(
    session: transport.Session, running: server.Server
) -> None:
    with pytest.raises(ValueError, match='redirects'):
        session.request('GET', running.url, headers={}, allow_redirects=True)


def test_what_goes_wrong_has_keystoneauths_names(
    session: transport.Session,
) -> None:
    by = ksa_session.Session(session=session)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        url = f'http://127.0.0.1:{listener.getsockname()[1]}/'
        with pytest.raises(ksa_exceptions.ConnectTimeout):
            by.get(url, authenticated=False, timeout=0.2)
        # Nor is what answers in the clear taken for TLS.
        threading.Thread(target=_answer, args=(listener,)).start()
        with pytest.raises(ksa_exceptions.SSLError):
            by.get(url.replace('http:', 'https:'), authenticated=False)
    with pytest.raises(ksa_exceptions.ConnectFailure):
        by.get(url, authenticated=False)


def _send(listener: socket.socket, data: bytes) -> None:
    connection, _address = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(data)
        connection.recv(1)


def _sent(session: transport.Session, data: bytes) -> requests.Response:
    """What is made of an answer that is written by hand."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=_send, args=(listener, data))
        thread.start()
        port = listener.getsockname()[1]
        try:
            return session.request(
                'GET', f'http://127.0.0.1:{port}/', headers={}, timeout=5
            )
        finally:
            session.close()
            thread.join(5)


def test_an_answer_begins_at_last(session: transport.Session) -> None:
    again = b'HTTP/1.1 100 Continue\r\n\r\n'
    real = b'HTTP/1.1 204 No Content\r\n\r\n'
    assert _sent(session, again + real).status_code == 204
    with pytest.raises(requests.ConnectionError, match='no end of it'):
        _sent(session, again * 100 + real)


def test_an_answer_is_not_unpacked(session: transport.Session) -> None:
    packed = gzip.compress(b' ' * 100_000)
    answer = _sent(
        session,
        b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n'
        b'Content-Length: %d\r\n\r\n%b' % (len(packed), packed),
    )
    assert answer.content == packed


def test_what_fails_lets_go_of_its_connection(
    session: transport.Session,
) -> None:
    with pytest.raises(requests.RequestException) as caught:
        _sent(session, b'nonsense')
    cause: BaseException | None = caught.value.__cause__
    seen = 0
    while cause is not None:
        for frame, _line in traceback.walk_tb(cause.__traceback__):
            if frame.f_code.co_filename != transport.__file__:
                assert frame.f_locals == {}, frame
                seen += 1
        cause = cause.__cause__ or cause.__context__
    assert seen


def _answer(listener: socket.socket) -> None:
    # The connection of the request before is still in the queue.
    for _ in range(2):
        connection, _address = listener.accept()
        with connection:
            connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n')


def test_a_call_that_is_ended_wakes_its_thread(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    service.go.clear()
    call = transport.Call()
    raised: list[Exception] = []

    def ask() -> None:
        try:
            with call:
                get(session, running)
        except requests.RequestException as exc:
            raised.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    soon(lambda: service.seen)
    call.end()
    thread.join(2)
    assert not thread.is_alive()
    assert raised
    service.go.set()


def test_a_handshake_is_broken_off_too(session: transport.Session) -> None:
    gone = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        with connection, contextlib.suppress(OSError):
            # The head of a record, and a byte of it now and then.
            connection.sendall(b'\x16\x03\x03\x3f\xff')
            while connection.send(b'\x02'):
                time.sleep(0.05)
        gone.set()

    call = transport.Call()
    with socket.create_server(('127.0.0.1', 0)) as listener:
        url = f'https://127.0.0.1:{listener.getsockname()[1]}/'
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        raised: list[Exception] = []

        def ask() -> None:
            try:
                with call:
                    session.request('GET', url, headers={}, timeout=60)
            except requests.RequestException as exc:
                raised.append(exc)

        thread = threading.Thread(target=ask)
        thread.start()
        soon(lambda: call._connection and call._connection.wire)
        time.sleep(0.1)
        call.end()
        thread.join(5)
    assert not thread.is_alive()
    assert raised
    assert gone.wait(5)


def test_a_call_that_is_ended_begins_nothing(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    call = transport.Call()
    with call:
        get(session, running)
        call.end()
        assert transport.is_over()
        with pytest.raises(transport.Ended):
            get(session, running)
    with pytest.raises(transport.Ended), call:
        pass
    assert not transport.is_over()
    assert len(service.seen) == 1


def test_the_end_of_a_call_harms_no_other(
    session: transport.Session, running: server.Server
) -> None:
    late = transport.Call()
    with late:
        get(session, running)
    late.end()
    with transport.Call():
        get(session, running)
    # It is the very connection that the other has used.
    assert running.connections == 1


def test_the_end_of_a_call_spares_the_connection_that_went_on(
    session: transport.Session, running: server.Server, service: Service
) -> None:
    first = transport.Call()
    with first:
        get(session, running)
        # Within it, another thread has taken the connection over.
        service.go.clear()
        answers: list[requests.Response] = []

        def other() -> None:
            with transport.Call():
                answers.append(get(session, running))

        thread = threading.Thread(target=other)
        thread.start()
        soon(lambda: len(service.seen) == 2)
        first.end()
        service.go.set()
        thread.join(5)
    assert [answer.status_code for answer in answers] == [200]
    assert running.connections == 1
