# SPDX-License-Identifier: Apache-2.0
"""The ways in which a service fails, by name.

Each describes only what the failing service does.  What the guard does then is
stated by the tests.
"""

from __future__ import annotations

from collections.abc import Callable
import gzip

from tests.outage import faulty_server
from tests.outage.faulty_server import Connection
from tests.outage.faulty_server import Fault

# Each byte arrives well within the timeout of a single read.
_BETWEEN_BYTES = 0.25
_HUGE = 100 * 1024 * 1024
_HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
_CHUNKED = _HEAD + b'Transfer-Encoding: chunked\r\n\r\n'
_HALF = faulty_server.response(200, b'{"server": ', length=400)


def _send(
    data: bytes, then: Callable[[Connection], None] | None = None
) -> Fault:
    def respond(connection: Connection) -> None:
        connection.send(data)
        if then is not None:
            then(connection)

    return Fault(respond)


def _respond(
    status: int, body: bytes = b'{}', headers: dict[str, str] | None = None
) -> Fault:
    return _send(faulty_server.response(status, body, headers))


def _respond_in_html(status: int) -> Fault:
    return _respond(
        status, b'<html>An error</html>', {'Content-Type': 'text/html'}
    )


def _redirect(status: int, to_other: bool) -> Fault:
    def respond(connection: Connection) -> None:
        base = connection.server.other_url if to_other else ''
        headers = {'Location': f'{base}/v2.1/servers/another'}
        connection.send(faulty_server.response(status, b'{}', headers))

    return Fault(respond)


def _drip(data: bytes) -> Callable[[Connection], None]:
    def drip(connection: Connection) -> None:
        for byte in data:
            connection.send(bytes([byte]))
            connection.wait(_BETWEEN_BYTES)

    return drip


def _repeat(data: bytes) -> Callable[[Connection], None]:
    """Send the same again and again, without end."""
    many = data * (1 + 65536 // len(data))

    def repeat(connection: Connection) -> None:
        while True:
            connection.send(many)

    return repeat


def _send_huge_body(begin: bytes, repeated: bytes) -> Fault:
    head = faulty_server.response(200, begin, length=_HUGE)
    return _send(head, _repeat(repeated))


def _respond_without_tls(connection: Connection) -> None:
    connection.send(faulty_server.response(400, b'plain HTTP') * 20)
    connection.hang()


# Made here, so that no client has to wait for it.
_COMPRESSED = gzip.compress(b'{"server":"' + b'x' * _HUGE, 1)
# The begin of a TLS record, which never ends.
_HANDSHAKE = b'\x16\x03\x03\x3f\xff' + b'\x02' * 500
_TOMORROW = {'Retry-After': '99999'}

#: Faults of a service with or without TLS.
PLAIN: dict[str, Fault] = {
    'refuses': Fault(listens=False),
    'hangs-before-responding': _send(b'', Connection.hang),
    'hangs-in-the-status': _send(b'HTTP/1.', Connection.hang),
    'hangs-in-the-headers': _send(_HEAD[:-9], Connection.hang),
    'hangs-in-the-body': _send(_HALF, Connection.hang),
    'hangs-in-a-chunk': _send(_CHUNKED + b'40\r\n{"serv', Connection.hang),
    'drips-headers': _send(b'', _drip(_HEAD * 10)),
    'drips-a-body': _send(_HALF, _drip(b' ' * 200)),
    'drips-chunks': _send(_CHUNKED, _drip(b'1\r\n{\r\n' * 50)),
    'drips-whole-headers': _send(_HEAD, _drip(b'a: b\r\n' * 50)),
    'resets-before-responding': _send(b'', Connection.reset),
    'resets-in-the-headers': _send(_HEAD[:-9], Connection.reset),
    'resets-in-the-body': _send(_HALF, Connection.reset),
    'closes-before-responding': _send(b'', Connection.close),
    'truncates-the-body': _send(_HALF, Connection.close),
    'responds-500': _respond(500),
    'responds-502-in-html': _respond_in_html(502),
    'responds-503-retry-after-a-day': _respond(503, headers=_TOMORROW),
    'responds-429-retry-after-a-day': _respond(429, headers=_TOMORROW),
    'always-responds-401': _respond(
        401, headers={'WWW-Authenticate': 'Keystone uri="http://127.0.0.1:1"'}
    ),
    'always-responds-403': _respond(403),
    'responds-404-in-html': _respond_in_html(404),
    'responds-200-with-garbage': _respond(200, bytes(range(256)) * 8),
    'responds-200-without-a-body': _respond(200, b''),
    'responds-200-for-another-server': _respond(
        200, b'{"server": {"id": "x"}}'
    ),
    'responds-200-nested-deeply': _respond(
        200, b'{"server":' + b'[' * 100_000
    ),
    'responds-204': _respond(204, b''),
    'uses-another-protocol': _send(
        b'SSH-2.0-OpenSSH_9.6\r\n', Connection.hang
    ),
    'sends-100-MB-as-one-string': _send_huge_body(b'{"server":"', b'x'),
    'sends-100-MB-of-many-keys': _send_huge_body(
        b'{"server":{', b'"a":[{},0],'
    ),
    # Parsed, it takes half a gigabyte.
    'sends-8-MB-of-many-lists': _respond(
        200, b'{"server":[' + b'[],' * 2_600_000 + b'[]]}'
    ),
    'sends-100-MB-compressed': _respond(
        200, _COMPRESSED, {'Content-Encoding': 'gzip'}
    ),
    'sends-headers-without-end': _send(
        _HEAD, _repeat(b'X-More: and more\r\n')
    ),
    'sends-one-header-without-end': _send(
        _HEAD + b'X-More: ', _repeat(b'and more ')
    ),
    'sends-a-body-without-end': _send(_CHUNKED, _repeat(b'5\r\n{"a":\r\n')),
    'sends-100-Continue-without-end': _send(
        b'', _repeat(b'HTTP/1.1 100 Continue\r\n\r\n')
    ),
    'redirects-302': _redirect(302, to_other=False),
    'redirects-307-to-another-host': _redirect(307, to_other=True),
    'redirects-301-to-another-host': _redirect(301, to_other=True),
}

#: Faults of a service with TLS.
TLS: dict[str, Fault] = {
    'tls-untrusted': Fault(context='untrusted'),
    'tls-for-another-name': Fault(context='another-name'),
    'tls-expired': Fault(context='expired'),
    'tls-is-plain-http': Fault(connect=_respond_without_tls),
    'tls-hangs-in-the-handshake': Fault(connect=Connection.hang),
    'tls-drips-the-handshake': Fault(connect=_drip(_HANDSHAKE)),
    'tls-resets-in-the-handshake': Fault(connect=Connection.reset),
    'tls-drips-a-body': PLAIN['drips-a-body'],
}

ALL: dict[str, Fault] = {**PLAIN, **TLS}

#: Faults that no timeout of a socket ends, because each read succeeds in time.
#: With eventlet this is so for each read of a handshake, too, and a connection
#: whose handshake failed stays open until Python collects it.
ENDLESS = {
    'drips-headers',
    'drips-whole-headers',
    'sends-100-Continue-without-end',
    'tls-hangs-in-the-handshake',
    'tls-drips-the-handshake',
    'tls-is-plain-http',
}
