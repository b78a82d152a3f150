# SPDX-License-Identifier: Apache-2.0

"""Holds Nova's calls to Cinder: a filter, and who listens to it.

The filter says of each call that it begins, and that it has been performed,
and waits for an answer both times.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import io
import json
import pathlib
import re
import socket
import socketserver
import threading
from typing import Any

#: In the cloud's directory: the socket, and what the volume driver writes.
SOCKET = 'gate'
EXPORTS = 'exports.log'

_ATTACHMENTS = {
    'POST': 'attachment-create',
    'PUT': 'attachment-update',
    'DELETE': 'attachment-delete',
}
_ACTION = re.compile(rb'\s*\{\s*"(os-[a-z_]+)"')
# How long a call may be held, in seconds.
_TIMEOUT = 60.0


def factory(
    global_conf: dict[str, str], path: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the filter, for paste."""

    def tell(request_id: str, call: str, status: int | None) -> None:
        # Nobody listens where no explorer runs.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX) as connection,
        ):
            connection.settimeout(_TIMEOUT)
            connection.connect(path)
            event = json.dumps([request_id, call, status])
            connection.sendall(f'{event}\n'.encode())
            connection.recv(1)

    def filter_app(app: Callable[..., Any]) -> Callable[..., Any]:
        def held(environ: dict[str, Any], start: Any) -> Any:
            method = environ['REQUEST_METHOD']
            if method == 'GET' or 'HTTP_X_SERVICE_TOKEN' not in environ:
                return app(environ, start)
            request_id = environ.get('HTTP_X_OPENSTACK_REQUEST_ID', '')
            call = _name(environ)
            statuses = []

            def started(line: str, *args: Any) -> Any:
                statuses.append(int(line[:3]))
                return start(line, *args)

            tell(request_id, call, None)
            body = list(app(environ, started))
            tell(request_id, call, statuses[-1])
            return body

        return held

    return filter_app


def _name(environ: dict[str, Any]) -> str:
    """The guard's name of a call, or the method."""
    method = str(environ['REQUEST_METHOD'])
    if environ['PATH_INFO'].endswith('/action'):
        body = environ['wsgi.input'].read(int(environ['CONTENT_LENGTH'] or 0))
        environ['wsgi.input'] = io.BytesIO(body)
        found = _ACTION.match(body)
        return found[1].decode() if found else method
    if '/attachments' in environ['PATH_INFO']:
        return _ATTACHMENTS[method]
    return method


class Listener:
    """Listens to the filter; a call goes on when its hearer returns.

    :param path: the socket
    """

    def __init__(self, path: pathlib.Path) -> None:
        #: by global request id, what to call with a name and a status, which
        #: is None before the call
        self.hearers: dict[str, Callable[[str, int | None], None]] = {}
        hearers = self.hearers

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request_id, call, status = json.loads(self.rfile.readline())
                if request_id in hearers:
                    hearers[request_id](call, status)
                with contextlib.suppress(OSError):
                    self.wfile.write(b'\n')

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

        path.unlink(missing_ok=True)
        self._server = Server(str(path), Handler)
        threading.Thread(
            target=self._server.serve_forever, daemon=True
        ).start()

    def close(self) -> None:
        """Let all calls go."""
        self._server.shutdown()
        self._server.server_close()
