# SPDX-License-Identifier: Apache-2.0

"""Serve a WSGI application on loopback and record its requests.

It is for tests that need real HTTP, with sockets, keep-alive and timeouts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import threading
import typing

from waitress import channel
from waitress import server as waitress_server
from waitress import wasyncore

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

#: The request headers that are recorded.
RECORDED_HEADERS = (
    'OpenStack-API-Version',
    'X-OpenStack-Nova-API-Version',
    'X-Auth-Token',
    'X-Service-Token',
    'X-OpenStack-Request-ID',
    'User-Agent',
)


class Recorded(typing.NamedTuple):
    """A request and the status of its response.

    ``path`` includes the query string. ``headers`` has those of
    :data:`RECORDED_HEADERS` that the request has.
    """

    method: str
    path: str
    headers: dict[str, str]
    status: int

    @property
    def microversion(self) -> str | None:
        """The header ``OpenStack-API-Version`` of the request."""
        return self.headers.get('OpenStack-API-Version')


class Server:
    """Serves a WSGI application; made by :func:`serve`.

    :ivar host: the address that it listens on
    :ivar port: the port that it listens on
    :ivar connections: number of connections accepted so far
    """

    def __init__(
        self,
        application: wsgi_types.WSGIApplication,
        host: str,
        port: int,
        threads: int,
        history: int,
    ) -> None:
        self._application = application
        self._history: collections.deque[Recorded] = collections.deque(
            maxlen=history
        )
        self.connections = 0
        self._server = waitress_server.create_server(
            self._record,
            map={},
            host=host,
            port=port,
            threads=threads,
            ident='attachguard.testing',
            # select() does not support descriptors above 1023.
            asyncore_use_poll=True,
        )
        self._server.channel_class = self._accepted
        self.host = host
        self.port = int(self._server.effective_port)
        self._thread = threading.Thread(
            target=self._server.run, name=f'serve-{self.port}', daemon=True
        )

    @property
    def url(self) -> str:
        """The address of the application, without a trailing slash."""
        return f'http://{self.host}:{self.port}'

    @property
    def requests(self) -> list[Recorded]:
        """The last recorded requests, oldest first."""
        return list(self._history)

    def forget(self) -> None:
        """Delete the recorded requests."""
        self._history.clear()

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def stop(self) -> None:
        """Close the connections and wait a few seconds for the threads."""
        # Only the thread of the loop can change its map. If it is already
        # awake, it closes the trigger first.
        with contextlib.suppress(OSError):
            self._server.trigger.pull_trigger(
                lambda: wasyncore.close_all(self._server._map)
            )
        self._thread.join(timeout=5)
        self._server.task_dispatcher.shutdown(timeout=1)

    def _accepted(self, *args: object, **kwargs: object) -> object:
        self.connections += 1
        return channel.HTTPChannel(*args, **kwargs)

    def _record(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        path = environ['SCRIPT_NAME'] + environ['PATH_INFO']
        if environ['QUERY_STRING']:
            path += '?' + environ['QUERY_STRING']
        headers = {}
        for name in RECORDED_HEADERS:
            value = environ.get('HTTP_' + name.upper().replace('-', '_'))
            if value is not None:
                headers[name] = value

        def recording(
            status: str,
            response_headers: list[tuple[str, str]],
            exc_info: typing.Any = None,
            /,
        ) -> Callable[[bytes], object]:
            self._history.append(
                Recorded(
                    environ['REQUEST_METHOD'],
                    path,
                    headers,
                    int(status.split(' ', 1)[0]),
                )
            )
            return start_response(status, response_headers, exc_info)

        return self._application(environ, recording)


@contextlib.contextmanager
def serve(
    application: wsgi_types.WSGIApplication,
    host: str = '127.0.0.1',
    port: int = 0,
    *,
    threads: int = 16,
    history: int = 10000,
) -> Iterator[Server]:
    """Serve an application over HTTP/1.1 until the context ends.

    :param application: the WSGI application
    :param host: address to listen on
    :param port: port to listen on; 0 for any free port
    :param threads: number of requests that are processed concurrently
    :param history: number of requests that are recorded
    :returns: a context manager that yields a :class:`Server`
    :raises OSError: the port is in use
    """
    server = Server(application, host, port, threads, history)
    server.start()
    try:
        yield server
    finally:
        server.stop()
