# SPDX-License-Identifier: Apache-2.0
"""A server that fails in every way in which a server can fail.

It stands in front of a service and forwards requests to it.  While a fault
lasts, it does what the fault says to each connection, or sends what the fault
says instead of each response.  It works on sockets and knows nothing of the
service, so it can do what no HTTP server does: stop in the middle of a header,
reset a connection, send without end.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import http.client
import select
import socket
import ssl
import struct
import threading
import time

import requests

# The longest time that a hanging fault waits: longer than any test.
_FOREVER = 120.0
_CLOSED = select.POLLRDHUP | select.POLLHUP | select.POLLERR
# Headers of one hop, and those that are written again for each response.
_HOP = {
    'connection',
    'keep-alive',
    'transfer-encoding',
    'content-length',
    'content-encoding',
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to fail.

    :param respond: called instead of sending a response
    :param connect: called instead of reading a request
    :param listens: False where connections are refused
    :param context: name of the TLS context to use
    :param delay: seconds before a request is forwarded
    """

    respond: Callable[[Connection], None] | None = None
    connect: Callable[[Connection], None] | None = None
    listens: bool = True
    context: str = 'good'
    delay: float = 0.0


class Connection:
    """The connection of a client, as a fault uses it.

    Each method raises OSError when the client has closed the connection, or
    when the fault is over.

    :param server: the server that accepted it
    :param accepted: the socket
    """

    def __init__(self, server: FaultyServer, accepted: socket.socket) -> None:
        self.server = server
        self._socket = accepted
        self._reader = accepted.makefile('rb')
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Do the server's part of a TLS handshake."""
        self._reader.close()
        encrypted = context.wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False
        )
        self._socket = encrypted
        self._reader = encrypted.makefile('rb')
        encrypted.do_handshake()

    def send(self, data: bytes) -> None:
        """Send all of the data."""
        self._socket.sendall(data)

    def wait(self, seconds: float) -> None:
        """Send nothing for some time."""
        poll = select.poll()
        poll.register(self._socket.fileno(), _CLOSED)
        if poll.poll(1000 * seconds):
            raise ConnectionAbortedError

    def hang(self) -> None:
        """Send nothing until the client closes the connection."""
        self.wait(_FOREVER)
        raise ConnectionAbortedError

    def reset(self) -> None:
        """Send a RST, as a host does that has crashed and restarted."""
        # A reset that comes at once discards what was sent before.
        self.wait(0.05)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
        )
        self.close()

    def close(self) -> None:
        """Close it; a TLS session gets no closing alert."""
        self._reader.close()
        self._socket.close()

    def abort(self) -> None:
        """End what another thread is reading or sending."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def read_request(self) -> tuple[str, str, dict[str, str], bytes] | None:
        """Read a request.

        :returns: method, path, headers and body; None at the end of the
            connection
        """
        line = self._reader.readline().decode('latin-1')
        if not line:
            return None
        method, path, _version = line.split(' ')
        headers = dict(http.client.parse_headers(self._reader))
        body = self._reader.read(int(headers.get('Content-Length', 0)))
        return method, path, headers, body


class FaultyServer:
    """A server on its own port, in front of a service.

    :param upstream: port of the service on 127.0.0.1; None where there is
        none, and the server itself responds to all requests
    :param contexts: TLS contexts by name, for a server with TLS; the one for
        use without a fault is ``good``
    """

    def __init__(
        self,
        upstream: int | None = None,
        contexts: dict[str, ssl.SSLContext] | None = None,
    ) -> None:
        self._upstream = upstream
        self._contexts = contexts
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._faulty: set[Connection] = set()
        #: number of connections so far
        self.accepted = 0
        #: number of requests so far
        self.requests = 0
        #: monotonic time of the end of the last fault; None during a fault
        self.healthy_since: float | None = 0.0
        #: base URL to which faults redirect
        self.other_url = ''
        self.port = 0
        self._listener = self._bind()
        self._acceptor = self._listen()

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f'http{"s" if self._contexts else ""}://127.0.0.1:{self.port}'

    def close(self) -> None:
        """Close it, and all connections."""
        self._refuse()
        self._listener.close()
        self._abort(self._connections)

    @contextlib.contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Fail while the context is open."""
        self.fail(fault)
        try:
            yield
        finally:
            self.recover()

    def fail(self, fault: Fault) -> None:
        """Begin to fail, in this way instead of any other."""
        self.recover()
        self._set(fault)
        if not fault.listens:
            self._refuse()
        if fault.respond is None and not fault.delay:
            # A connection that is already open would not notice the fault.
            self._abort(self._connections)

    def recover(self) -> None:
        """End the fault, on the connections that it uses as well."""
        fault = self._fault
        if fault is None:
            return
        self._set(None)
        self._abort(self._faulty)
        if not fault.listens:
            self._acceptor = self._listen()

    def wait_until_released(self, seconds: float) -> int:
        """Wait until the clients have closed the connections with a fault.

        :returns: the number of those still open at the end of the time
        """
        give_up = time.monotonic() + seconds
        while self._faulty and time.monotonic() < give_up:
            time.sleep(0.02)
        return len(self._faulty)

    def _set(self, fault: Fault | None) -> None:
        with self._lock:
            self._fault = fault
            self.healthy_since = None if fault else time.monotonic()

    def _abort(self, connections: set[Connection]) -> None:
        with self._lock:
            aborted = list(connections)
        for connection in aborted:
            connection.abort()

    def _bind(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', self.port))
        self.port = listener.getsockname()[1]
        return listener

    def _listen(self) -> threading.Thread:
        self._listener.listen(512)
        acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), daemon=True
        )
        acceptor.start()
        return acceptor

    def _refuse(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        # A port that is bound without listening refuses connections, and
        # nobody else can take it.
        self._listener = self._bind()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _address = listener.accept()
            except OSError:
                return
            self.accepted += 1
            connection = Connection(self, accepted)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: Connection) -> None:
        # ValueError: another thread has ended the TLS session.
        with contextlib.suppress(
            OSError, ValueError, http.client.HTTPException
        ):
            self._serve_requests(connection)
        connection.close()
        with self._lock:
            self._connections.discard(connection)
            self._faulty.discard(connection)

    @contextlib.contextmanager
    def _current_fault(self, connection: Connection) -> Iterator[Fault]:
        """Find the fault, and note that it uses a connection."""
        with self._lock:
            fault = self._fault
            if fault is not None:
                self._faulty.add(connection)
        yield fault or Fault()
        with self._lock:
            self._faulty.discard(connection)

    def _serve_requests(self, connection: Connection) -> None:
        with self._current_fault(connection) as fault:
            if fault.connect is not None:
                fault.connect(connection)
                return
            if self._contexts is not None:
                connection.encrypt(self._contexts[fault.context])
        while (request := connection.read_request()) is not None:
            self.requests += 1
            with self._current_fault(connection) as fault:
                if fault.respond is not None:
                    fault.respond(connection)
                    continue
                connection.wait(fault.delay)
                connection.send(self._forward(*request))

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> bytes:
        if self._upstream is None:
            return response(200, b'{}')
        with requests.Session() as session:
            session.trust_env = False
            received = session.request(
                method,
                f'http://127.0.0.1:{self._upstream}{path}',
                data=body,
                headers=_without_hop_headers(headers),
                allow_redirects=False,
                timeout=30,
            )
        return response(
            received.status_code,
            received.content,
            _without_hop_headers(received.headers),
        )


def _without_hop_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k.lower() not in _HOP}


def response(
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> bytes:
    """Compose a response.

    :param headers: other headers than its type and length
    :param length: its Content-Length, if that is not the body's length
    """
    fields = {
        'Content-Type': 'application/json',
        **(headers or {}),
        'Content-Length': str(len(body) if length is None else length),
    }
    head = ''.join(f'{name}: {value}\r\n' for name, value in fields.items())
    reason = http.client.responses.get(status, 'Unknown')
    return f'HTTP/1.1 {status} {reason}\r\n{head}\r\n'.encode() + body
