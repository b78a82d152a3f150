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
"""A server that goes wrong on demand, byte by byte.

It stands in front of a service, and passes on what it is asked, until it is
told of a fault; then it does to each connection, or in the place of each
answer, what the fault says.  It knows sockets and nothing of the service, so
that it can do what no HTTP server can be brought to do: to stop in the middle
of a header, to reset, to send for ever.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import http.client
import re
import select
import socket
import ssl
import struct
import threading
import time
import types
from typing import Self

# What a fault that waits for ever waits at most: longer than any test.
_FOR_EVER = 120.0
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
# Of one hop, or said anew when an answer is passed on.
_HOP = {'connection', 'keep-alive', 'transfer-encoding', 'content-length'}


class Gone(Exception):
    """The peer has closed the connection, or the fault is over."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    :param answer: what is done in the place of an answer
    :param connection: what is done in the place of reading anything
    :param listens: False where connections are refused
    :param path: regular expression searched in the path; others are answered
    :param context: another certificate, by the name of a trouble's
    """

    answer: Callable[[Connection], None] | None = None
    connection: Callable[[Connection], None] | None = None
    listens: bool = True
    path: str = ''
    context: str = 'good'


class Connection:
    """One connection of a client, in the hands of a fault.

    :param trouble: the server that it was made to
    :param raw: as it was accepted
    """

    def __init__(self, trouble: Trouble, raw: socket.socket) -> None:
        self.trouble = trouble
        self._raw = raw
        self._socket = raw
        # Whoever sends for ever has to look up from it now and then.
        raw.settimeout(0.5)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Be a TLS server from here on.

        :raises OSError: the client does not like it
        """
        self._raw.settimeout(10)
        self._socket = context.wrap_socket(self._raw, server_side=True)
        self._raw = self._socket
        self._socket.settimeout(0.5)

    def send(self, data: bytes) -> None:
        """Send all of it, or as much as the peer takes while it is there.

        :raises Gone: it is not any more
        """
        view = memoryview(data)
        while view:
            self.check()
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                continue
            except (OSError, ValueError):
                raise Gone from None

    def check(self, wait: float = 0.0) -> None:
        """Go on only while the peer is there, and the fault not over.

        :param wait: for so many seconds
        :raises Gone: it is not
        """
        give_up = time.monotonic() + wait
        over = self.trouble.over
        poll = select.poll()
        poll.register(self._raw.fileno(), _GONE)
        while True:
            left = give_up - time.monotonic()
            if over.is_set() or poll.poll(1000 * max(0.0, min(left, 0.05))):
                raise Gone
            if left <= 0:
                return

    def hang(self) -> None:
        """Do nothing.

        :raises Gone: at last
        """
        self.check(_FOR_EVER)
        raise Gone

    def drip(self, data: bytes, each: float) -> None:
        """Send one byte after the other.

        :param each: seconds between two of them
        """
        for byte in data:
            self.send(bytes([byte]))
            self.check(each)

    def reset(self) -> None:
        """Break the connection with a RST, as a host that crashed does."""
        self._raw.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
        )
        self.close()
        raise Gone

    def close(self) -> None:
        """Close it; a TLS session is not ended in good order."""
        self._socket.close()

    def abort(self) -> None:
        """Wake up whoever reads or sends, from another thread."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)

    def read_request(self) -> tuple[str, str, dict[str, str], bytes] | None:
        """Read a request: method, path, headers, body.

        :returns: None at the end of the connection
        """
        data = b''
        while b'\r\n\r\n' not in data:
            more = self._receive()
            if not more:
                return None
            data += more
        head, body = data.split(b'\r\n\r\n', 1)
        first, *lines = head.decode('latin-1').split('\r\n')
        method, path, _version = first.split(' ')
        headers = dict(line.split(': ', 1) for line in lines)
        missing = int(headers.get('Content-Length', 0)) - len(body)
        while missing > 0:
            more = self._receive()
            if not more:
                return None
            body += more
            missing -= len(more)
        return method, path, headers, body

    def _receive(self) -> bytes:
        while True:
            try:
                return self._socket.recv(65536)
            except TimeoutError:
                if self.trouble.stopped:
                    return b''
            except (OSError, ValueError):
                return b''


class Trouble:
    """A server on a port of its own, with a service behind it.

    :param upstream: port of the service on 127.0.0.1; None where there is
        none, and every request met is one too many
    :param contexts: of a server that speaks TLS, by name; the good one is
        ``good``
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
        self._busy: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self.over = threading.Event()
        self.stopped = False
        #: connections so far
        self.accepted = 0
        #: requests so far
        self.requests = 0
        #: where a fault redirects to
        self.elsewhere = ''
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""
        return f'http{"s" if self._contexts else ""}://127.0.0.1:{self.port}'

    @property
    def busy(self) -> int:
        """How many connections a fault is at work on.

        One that is kept after a whole answer is not among them.
        """
        return len(self._busy)

    def __enter__(self) -> Self:
        self._bind()
        self._listen()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.stopped = True
        self.over.set()
        self._refuse()
        assert self._listener is not None
        self._listener.close()
        self.drop()
        for thread in list(self._threads):
            thread.join(5)

    def begin(self, fault: Fault) -> None:
        """Go wrong from now on.

        What was open before is closed: who is kept alive would otherwise
        never see that the port is closed or the certificate another.
        """
        self._switch(fault)
        if not fault.listens:
            self._refuse()
        self.drop()

    def cure(self) -> None:
        """Be in order again, at once and for everybody."""
        refused = self._fault is not None and not self._fault.listens
        self._switch(None)
        self.drop()
        if refused:
            self._listen()

    def _switch(self, fault: Fault | None) -> None:
        self._fault = fault
        # Each has the event of its own time.
        self.over.set()
        self.over = threading.Event()

    def drop(self) -> None:
        """Close every connection, as a service does that restarts."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    def wait_until_left(self, seconds: float) -> int:
        """Wait until every client has closed its connections.

        :returns: how many have not, in the end
        """
        give_up = time.monotonic() + seconds
        while self.busy and time.monotonic() < give_up:
            time.sleep(0.02)
        return self.busy

    def _bind(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener

    def _listen(self) -> None:
        assert self._listener is not None
        self._listener.listen(512)
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), daemon=True
        )
        self._acceptor.start()

    def _refuse(self) -> None:
        # Bound without listening, the port refuses, and is nobody else's.
        if self._acceptor is None or self._listener is None:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._acceptor = None
        self._listener.close()
        self._bind()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                raw, _address = listener.accept()
            except OSError:
                return
            self.accepted += 1
            connection = Connection(self, raw)
            thread = threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            )
            with self._lock:
                self._connections.add(connection)
                self._threads.add(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            self._talk(connection)
        except (Gone, OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
                self._busy.discard(connection)
                self._threads.discard(threading.current_thread())

    def _talk(self, connection: Connection) -> None:
        fault = self._fault
        if fault is not None and fault.connection is not None:
            self._busy.add(connection)
            fault.connection(connection)
            return
        if self._contexts is not None:
            context = 'good' if fault is None else fault.context
            self._busy.add(connection)
            connection.encrypt(self._contexts[context])
            self._busy.discard(connection)
        while (request := connection.read_request()) is not None:
            self.requests += 1
            fault = self._fault
            if (
                fault is not None
                and fault.answer is not None
                and re.search(fault.path, request[1])
            ):
                self._busy.add(connection)
                fault.answer(connection)
                self._busy.discard(connection)
            else:
                connection.send(self._relay(*request))

    def _relay(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> bytes:
        if self._upstream is None:
            return answer(200, b'{}')
        service = http.client.HTTPConnection(
            '127.0.0.1', self._upstream, timeout=30
        )
        with contextlib.closing(service):
            service.request(
                method,
                path,
                body or None,
                {k: v for k, v in headers.items() if k.lower() not in _HOP},
            )
            found = service.getresponse()
            content = found.read()
            kept = {
                name: value
                for name, value in found.getheaders()
                if name.lower() not in _HOP
            }
        return answer(found.status, content, kept)


def answer(
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> bytes:
    """Put an answer together.

    :param status: its status
    :param body: what follows its headers
    :param headers: beside its length and type
    :param length: what it says, if not the body's length
    """
    said = {
        'Content-Type': 'application/json',
        **(headers or {}),
        'Content-Length': str(len(body) if length is None else length),
    }
    head = ''.join(f'{name}: {value}\r\n' for name, value in said.items())
    reason = http.client.responses.get(status, 'Unknown')
    return f'HTTP/1.1 {status} {reason}\r\n{head}\r\n'.encode() + body
