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

"""HTTP that another thread can put an end to.

The time-outs of a socket bound one connect and one read, not what is made of
many: a server that sends a byte now and then keeps its client for ever, and a
thread with it.  So whoever waits for a :class:`Call` ends it when the time is
over: the connection in use is shut down, which wakes the thread that reads
from it.
"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import contextvars
import http.client
import socket
import threading
import time
import traceback
import types
from typing import Any
from typing import Self

from keystoneauth1 import session as ksa_session
import requests
import urllib3
from urllib3 import connection as urllib3_connection

_current: contextvars.ContextVar[Call | None] = contextvars.ContextVar(
    'attachguard_call', default=None
)

# Held for a few instructions, never while something is waited for.
_lock = threading.Lock()

_PIECE = 16 * 1024
_MOST_BEGINNINGS = 8


class Ended(Exception):
    """Nobody waits for the call any more."""


class TooLong(Exception):
    """An answer that is longer than it may be."""


class Call:
    """The requests that a thread makes for one purpose, as a context.

    Within it, the connections of an :class:`Adapter` are known to be its.
    """

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._ended

    def __enter__(self) -> Self:
        """Begin.

        :raises Ended: when nobody waits for it any more
        """
        if self._ended:
            raise Ended()
        _current.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        # Thread and connection live longer.
        _current.set(None)
        with _lock:
            self._connection = None

    def end(self) -> None:
        """Begin no other request, and break the one under way, if any.

        To be called by another thread.  Only looking up a name and connecting
        cannot be broken; the latter has a time-out of its own.
        """
        with _lock:
            self._ended = True
            used = self._connection
            # It may be in another's use by now.
            if used is None or used.call is not self or used.wire is None:
                return
            with contextlib.suppress(OSError, ValueError):
                used.wire.shutdown(socket.SHUT_RDWR)

    def uses(self, connection: _Connection) -> None:
        """Note the connection of the request that begins now.

        :raises Ended: when it must not
        """
        with _lock:
            if self._ended:
                raise Ended()
            self._connection = connection
            connection.call = self


def is_over() -> bool:
    """Whether nobody waits for the call that this thread makes."""
    call = _current.get()
    return call is not None and call.ended


class _Connection:
    """What a connection of urllib3 has to do to belong to a call."""

    call: Call | None = None
    # An answer without a length is read when "sock" is gone already.
    wire: socket.socket | None = None
    sock: Any

    def connect(self) -> None:
        self._begin()
        self.wire = None
        try:
            super().connect()  # type: ignore[misc]
        finally:
            with _lock:
                shaken, self.wire = self.wire, self.sock
            if shaken is not None:
                shaken.close()

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self._begin()
        return super().request(*args, **kwargs)  # type: ignore[misc]

    def _begin(self) -> None:
        call = _current.get()
        if call is not None:
            call.uses(self)


class _Answer(http.client.HTTPResponse):
    """An answer that begins at last.

    http.client reads as many "100 Continue" as there are, and a greenthread
    that finds something to read each time lets no other run.
    """

    _begun = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._begun += 1
        if self._begun > _MOST_BEGINNINGS:
            raise http.client.BadStatusLine('100 Continue, and no end of it')
        return super()._read_status()  # type: ignore[misc,no-any-return]


class _HTTPConnection(_Connection, urllib3_connection.HTTPConnection):
    response_class = _Answer


class _HTTPSConnection(_Connection, urllib3_connection.HTTPSConnection):
    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()
        with _lock:
            # TLS takes the socket away from its object, to shake hands.
            self.wire = sock.dup()
        if is_over():
            sock.close()
            raise Ended()
        return sock


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(ksa_session.TCPKeepAliveAdapter):
    """Pools of connections that know their call."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            'http': _HTTPPool,
            'https': _HTTPSPool,
        }


class Session(requests.Session):
    """What keystoneauth's session sends requests by.

    As requests' own, but that it ends with its :class:`Call`, reads answers
    up to a size, and does for a request what keystoneauth leaves to do: no
    cookies, redirects, proxies or ``.netrc``, which take longer than sending
    it and reading the answer.

    :param connections: to one server, how many are kept
    :param longest: bytes of an answer
    :param options: for keystoneauth's TLS adapter
    """

    def __init__(self, connections: int, longest: int, **options: Any) -> None:
        super().__init__()
        self._longest = longest
        self._adapter = _Adapter(pool_maxsize=connections, **options)
        # So that close() finds it.
        self.mount('https://', self._adapter)
        # A catalog names few servers, and who asks cannot add any.
        self._pools: dict[Any, urllib3.HTTPConnectionPool] = {}

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: str | bytes | None = None,
        timeout: float | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        allow_redirects: bool = False,
    ) -> requests.Response:
        """Send a request and read the answer to its end.

        :raises TooLong: when it has none in sight
        :raises Ended: when nobody waits for it any more
        :raises requests.exceptions.RequestException: when there is none
        """
        if allow_redirects:
            raise ValueError('keystoneauth follows redirects itself')
        scheme, _, host, path = url.split('/', 3)
        pool = self._pool(f'{scheme}//{host}', verify, cert)
        try:
            raw = pool.urlopen(
                method,
                '/' + path,
                body=data,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=timeout, read=timeout),
                preload_content=False,
                # None was asked for, and a little can become much.
                decode_content=False,
            )
            body = self._read(raw)
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            _let_go(exc)
            if isinstance(exc, urllib3.exceptions.SSLError):
                raise requests.exceptions.SSLError(exc) from exc
            # What is refused is a kind of what takes too long, to urllib3.
            if isinstance(
                exc, urllib3.exceptions.TimeoutError
            ) and not isinstance(exc, urllib3.exceptions.NewConnectionError):
                raise requests.exceptions.Timeout(exc) from exc
            raise requests.exceptions.ConnectionError(exc) from exc
        response = requests.Response()
        response.request = requests.PreparedRequest()
        response.request.method = method
        response.request.url = response.url = url
        response.status_code = raw.status
        response.reason = raw.reason or ''
        # As good: a mapping that minds no case, and no copy.
        response.headers = raw.headers  # type: ignore[assignment]
        response.encoding = 'utf-8'
        # requests offers no other way to say that the content is read.
        response._content = body
        return response

    def _pool(
        self,
        server: str,
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> urllib3.HTTPConnectionPool:
        key = (server, verify, cert)
        pool = self._pools.get(key)
        if pool is None:
            # Both are slow to find what they have found before.
            pool = self._adapter.poolmanager.connection_from_url(server)
            self._adapter.cert_verify(  # type: ignore[no-untyped-call]
                pool, server, verify, cert
            )
            self._pools[key] = pool
        return pool

    def _read(self, raw: urllib3.BaseHTTPResponse) -> bytes:
        body = bytearray()
        while piece := raw.read(_PIECE):
            body += piece
            if len(body) > self._longest:
                raw.close()
                raise TooLong(f'more than {self._longest} bytes')
            if is_over():
                raw.close()
                raise Ended()
            if len(piece) == _PIECE:
                # To a greenthread, what is there comes without a pause.
                time.sleep(0)
        return bytes(body)


def _let_go(exc: BaseException | None) -> None:
    """Let go of what failed, that is of its connection.

    Else the frames of the traceback hold it, and are held by it, until garbage
    is collected.
    """
    while exc is not None:
        traceback.clear_frames(exc.__traceback__)
        exc = exc.__cause__ or exc.__context__
