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
"""What can go wrong with a service, by names that read in a table.

Each is what the other end does, and says nothing of the guard: what that has
to make of them is what the tests are for.
"""

from __future__ import annotations

import gzip
import itertools

from tests.chaos import trouble

# Each byte comes well within the timeout of a single read.
_EACH = 0.25
_HUGE = 100 * 1024 * 1024
_HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
_CHUNKED = _HEAD + b'Transfer-Encoding: chunked\r\n\r\n'


def _then_hang(data: bytes) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        connection.send(data)
        connection.hang()

    return trouble.Fault(answer)


def _then_reset(data: bytes) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        connection.send(data)
        # Else what was sent goes with the connection.
        connection.check(0.05)
        connection.reset()

    return trouble.Fault(answer)


def _then_close(data: bytes) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        connection.send(data)
        raise trouble.Gone

    return trouble.Fault(answer)


def _drips(at_once: bytes, slowly: bytes) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        connection.send(at_once)
        connection.drip(slowly, _EACH)

    return trouble.Fault(answer)


def _says(
    status: int, body: bytes = b'{}', headers: dict[str, str] | None = None
) -> trouble.Fault:
    said = trouble.answer(status, body, headers)
    return trouble.Fault(lambda connection: connection.send(said))


def _sends(begin: bytes, again: bytes, end: bytes) -> trouble.Fault:
    many = again * (1 + 65536 // len(again))
    times = _HUGE // len(many)

    def answer(connection: trouble.Connection) -> None:
        length = len(begin) + times * len(many) + len(end)
        connection.send(trouble.answer(200, begin, length=length))
        # Never the whole of it: this is the process of the test.
        for _ in range(times):
            connection.send(many)
        connection.send(end)

    return trouble.Fault(answer)


def _for_ever(head: bytes, again: bytes) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        connection.send(head)
        many = again * (1 + 65536 // len(again))
        while True:
            connection.send(many)

    return trouble.Fault(answer)


def _redirects(status: int, elsewhere: bool) -> trouble.Fault:
    def answer(connection: trouble.Connection) -> None:
        base = connection.trouble.elsewhere if elsewhere else ''
        headers = {'Location': f'{base}/v2.1/servers/another'}
        connection.send(trouble.answer(status, b'{}', headers))

    return trouble.Fault(answer)


# Before anybody waits for it.
_COMPRESSED = gzip.compress(b'{"volumeAttachment":"' + b'x' * _HUGE, 1)

# Eight megabytes that become half a gigabyte when they are understood.
_LISTS = b'{"volumeAttachment":[' + b'[],' * 2_600_000 + b'[]]}'


def _drip_for_ever(connection: trouble.Connection) -> None:
    for byte in itertools.cycle(b'\x16\x03\x03\x3f\xff' + b'\x02' * 100):
        connection.drip(bytes([byte]), _EACH)


def _no_tls(connection: trouble.Connection) -> None:
    connection.send(trouble.answer(400, b'<html>plain HTTP</html>') * 20)
    connection.hang()


#: What a service does to a connection, or in the place of an answer.
PLAIN: dict[str, trouble.Fault] = {
    'refuses': trouble.Fault(listens=False),
    'hangs-before-answering': _then_hang(b''),
    'hangs-in-the-status': _then_hang(b'HTTP/1.'),
    'hangs-in-the-headers': _then_hang(_HEAD[:-9]),
    'hangs-in-the-body': _then_hang(
        trouble.answer(200, b'{"volumeAttachment": ', length=400)
    ),
    'hangs-in-a-chunk': _then_hang(_CHUNKED + b'40\r\n{"volume'),
    'drips-headers': _drips(b'', _HEAD * 10),
    'drips-a-body': _drips(
        trouble.answer(200, b'', length=400), b'{"volumeAttachment": ' * 10
    ),
    'drips-chunks': _drips(_CHUNKED, b'1\r\n{\r\n' * 50),
    'drips-whole-headers': _drips(_HEAD, b'a: b\r\n' * 50),
    'resets-before-answering': _then_reset(b''),
    'resets-in-the-headers': _then_reset(_HEAD[:-9]),
    'resets-in-the-body': _then_reset(
        trouble.answer(200, b'{"volumeAttachment": ', length=400)
    ),
    'closes-before-answering': _then_close(b''),
    'truncates-the-body': _then_close(
        trouble.answer(200, b'{"volumeAttachment": ', length=400)
    ),
    'says-500': _says(500),
    'says-502-in-html': _says(
        502, b'<html>Bad Gateway</html>', {'Content-Type': 'text/html'}
    ),
    'says-503-come-back-tomorrow': _says(
        503, headers={'Retry-After': '99999'}
    ),
    'says-429-come-back-tomorrow': _says(
        429, headers={'Retry-After': '99999'}
    ),
    'says-401-for-ever': _says(
        401, headers={'WWW-Authenticate': 'Keystone uri="http://127.0.0.1:1"'}
    ),
    'says-403-for-ever': _says(403),
    'says-404-in-html': _says(
        404, b'<html>no such page</html>', {'Content-Type': 'text/html'}
    ),
    'says-200-with-garbage': _says(200, bytes(range(256)) * 8),
    'says-200-with-nothing': _says(200, b''),
    'says-200-with-another-row': _says(
        200, b'{"volumeAttachment": {"serverId": "x", "volumeId": "y"}}'
    ),
    'says-200-nested-deeply': _says(
        200, b'{"volumeAttachment":' + b'[' * 100_000
    ),
    'says-204': _says(204, b''),
    'speaks-another-protocol': _then_hang(b'SSH-2.0-OpenSSH_9.6\r\n'),
    'sends-100-MB-as-one-string': _sends(
        b'{"volumeAttachment":"', b'x', b'"}'
    ),
    'sends-100-MB-of-many-keys': _sends(
        b'{"volumeAttachment":{', b'"a":[{},0],', b'"a":0}}'
    ),
    'sends-8-MB-of-many-lists': _says(200, _LISTS),
    'sends-100-MB-compressed': trouble.Fault(
        lambda connection: connection.send(
            trouble.answer(200, _COMPRESSED, {'Content-Encoding': 'gzip'})
        )
    ),
    'sends-headers-for-ever': _for_ever(_HEAD, b'X-More: and more\r\n'),
    'sends-one-header-for-ever': _for_ever(_HEAD + b'X-More: ', b'and more '),
    'sends-a-body-for-ever': _for_ever(_CHUNKED, b'5\r\n{"a":\r\n'),
    'sends-100-Continue-for-ever': _for_ever(
        b'', b'HTTP/1.1 100 Continue\r\n\r\n'
    ),
    'redirects-302': _redirects(302, elsewhere=False),
    'redirects-307-elsewhere': _redirects(307, elsewhere=True),
    'redirects-301-elsewhere': _redirects(301, elsewhere=True),
}

#: What is wrong with the TLS of one that has it.
TLS: dict[str, trouble.Fault] = {
    'tls-untrusted': trouble.Fault(context='untrusted'),
    'tls-of-another-name': trouble.Fault(context='another-name'),
    'tls-expired': trouble.Fault(context='expired'),
    'tls-is-plain-http': trouble.Fault(connection=_no_tls),
    'tls-hangs-in-the-handshake': trouble.Fault(
        connection=trouble.Connection.hang
    ),
    'tls-drips-the-handshake': trouble.Fault(connection=_drip_for_ever),
    'tls-resets-in-the-handshake': trouble.Fault(
        connection=trouble.Connection.reset
    ),
    'tls-drips-a-body': PLAIN['drips-a-body'],
}

ALL: dict[str, trouble.Fault] = {**PLAIN, **TLS}
