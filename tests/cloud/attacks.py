# SPDX-License-Identifier: Apache-2.0
"""Attacks that a filter might not recognise, as they are sent on the wire.

They are those of ``tests/differential`` that a real WSGI server, middleware or
database could read in another way. ``attacks.yaml`` has all but those that
need to be computed. No client would send most of them.

Also what several tests need to send calls, and to read a refusal.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import http.client
import pathlib
import threading
from typing import Any

import requests
import yaml

_JSON = 'application/json'
_ATTACH = (
    '{"os-attach": {"instance_uuid": "<server>", "mountpoint": "/dev/vdb"}}'
)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A request; by default, os-attach of a volume to a server.

    :param name: what is unusual in it
    :param forges: whether Cinder performs it, where no filter refuses it
    :param method: the HTTP method
    :param path: the request's target; ``<volume>`` and the like stand for ids
    :param body: likewise
    :param headers: instead of the usual ones; None leaves a header out
    :param chunked: whether the body is sent in chunks, without a length
    """

    name: str
    forges: bool
    method: str = 'POST'
    path: str = '/v3/<project>/volumes/<volume>/action'
    body: str | bytes = _ATTACH
    headers: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    chunked: bool = False


def send(
    attack: Attack, address: str, token: str, ids: Mapping[str, str]
) -> tuple[int, bytes]:
    """Send an attack.

    :param attack: what to send
    :param address: host and port of Cinder's API
    :param token: of the caller
    :param ids: the ids of project, volume, server and so on, by name
    :returns: status and body of the response
    """
    words = _words(ids)
    body = attack.body
    if isinstance(body, str):
        body = _fill(body, words).encode()
    else:
        for name, value in words.items():
            body = body.replace(f'<{name}>'.encode(), value.encode())
    headers: dict[str, str | None] = {
        'X-Auth-Token': token,
        'Content-Type': _JSON,
        'Accept': _JSON,
        'OpenStack-API-Version': 'volume 3.70',
        'Content-Length': str(len(body)),
    }
    if attack.chunked:
        headers['Content-Length'] = None
        headers['Transfer-Encoding'] = 'chunked'
        half = len(body) // 2
        body = b''.join(
            b'%x\r\n%s\r\n' % (len(piece), piece)
            for piece in (body[:half], body[half:], b'')
        )
    headers |= attack.headers
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.putrequest(
            attack.method,
            _fill(attack.path, words),
            skip_accept_encoding=True,
        )
        for header, text in headers.items():
            if text is not None:
                connection.putheader(header, text)
        connection.endheaders()
        connection.send(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _fill(text: str, words: Mapping[str, str]) -> str:
    for name, value in words.items():
        text = text.replace(f'<{name}>', value)
    return text


def _words(ids: Mapping[str, str]) -> dict[str, str]:
    words = dict(ids)
    for name, value in ids.items():
        words[name.upper()] = value.upper()
        words[f'bare {name}'] = value.replace('-', '')
    return words


def _load(section: str) -> list[Attack]:
    path = pathlib.Path(__file__).with_suffix('.yaml')
    found = yaml.safe_load(path.read_text())[section]
    return [
        Attack(name, forges=section == 'performed', **fields)
        for name, fields in found.items()
    ]


def _computed() -> list[Attack]:
    deep = '{"a":' * 60 + '1' + '}' * 60
    return [
        Attack('much white space', True, body=' ' * 60_000 + _ATTACH),
        Attack(
            'a huge number',
            False,
            body=_ATTACH.replace('"<server>"', '1' * 5000),
        ),
        Attack(
            'deep nesting', False, body=_ATTACH.replace('"/dev/vdb"', deep)
        ),
        Attack(
            'very deep nesting', False, body='{"os-attach":' + '[' * 50_000
        ),
        *(
            Attack(
                f'in {coding}',
                False,
                body=_ATTACH.encode(coding),
                headers={'Content-Type': f'{_JSON}; charset={coding}'},
            )
            for coding in ('utf-16', 'utf-32')
        ),
    ]


#: Forgeries of an attachment of a free volume.
ATTACKS = (*_load('performed'), *_load('rejected'), *_computed())
#: Calls that would take a volume from the server that has it, or change what
#: Cinder records of it.
PULLS = _load('pulls')


def reason(response: requests.Response) -> str | None:
    """Why the guard refused; None where it did not, but perhaps Cinder."""
    if response.ok:
        return None
    (fault,) = response.json().values()
    why: str | None = fault.get('reason')
    return why


@contextlib.contextmanager
def hammering(
    call: Callable[[], Any], threads: int = 8
) -> Iterator[collections.Counter[Any]]:
    """Repeat a call in several threads during the ``with`` block.

    :param call: returns what to count, such as the status of the response
    :returns: how often it returned what
    """
    counted: collections.Counter[Any] = collections.Counter()
    lock = threading.Lock()
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            result = call()
            with lock:
                counted[result] += 1

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield counted
    finally:
        over.set()
        for worker in workers:
            worker.join()
