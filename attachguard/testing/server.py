# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Serve a WSGI application on loopback, and see what was asked of it.

For tests that want real HTTP: sockets, keep-alive and timeouts behave as they
do in a cloud, and what went over the wire can be asserted.
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

#: Request headers that are kept with each recorded request.
RECORDED_HEADERS = (
    'OpenStack-API-Version',
    'X-OpenStack-Nova-API-Version',
    'X-Auth-Token',
    'X-Service-Token',
    'X-OpenStack-Request-ID',
    'User-Agent',
)


class Recorded(typing.NamedTuple):
    """One request that was answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int

    @property
    def microversion(self) -> str | None:
        """The ``OpenStack-API-Version`` that the client asked for."""
        return self.headers.get('OpenStack-API-Version')


class Server:
    """A WSGI application being served; made by :func:`serve`."""

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
            # select() ends at the descriptor 1023 of the whole process.
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
        """The requests answered so far, oldest first; bounded."""
        return list(self._history)

    def forget(self) -> None:
        """Drop the recorded requests."""
        self._history.clear()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and wait, not long, for the threads."""
        # Only the thread that runs the loop may touch its map. When it is
        # awake already, it closes the trigger before this has pulled it.
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
    """Serve ``application`` over HTTP/1.1 until the block is left.

    :param application: the WSGI application
    :param host: address to listen on
    :param port: port to listen on; 0 for any free one
    :param threads: how many requests are worked on at the same time
    :param history: how many requests are remembered
    :returns: a context manager that yields a :class:`Server`
    :raises OSError: the address is in use
    """
    server = Server(application, host, port, threads, history)
    server.start()
    try:
        yield server
    finally:
        server.stop()
