# SPDX-License-Identifier: Apache-2.0

"""The server of WSGI applications."""

from __future__ import annotations

from collections.abc import Iterable
import threading
import time
import typing

import pytest
import requests

from attachguard.testing import server

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types


def _hello(
    environ: wsgi_types.WSGIEnvironment,
    start_response: wsgi_types.StartResponse,
) -> Iterable[bytes]:
    start_response('202 Accepted', [('Content-Type', 'text/plain')])
    return [b'hello']


def test_requests_are_recorded() -> None:
    with server.serve(_hello) as served:
        requests.put(
            f'{served.url}/a/b?c=d',
            headers={'OpenStack-API-Version': 'compute 2.1', 'X-Other': 'x'},
            timeout=5,
        )
        (recorded,) = served.requests
        assert recorded[:2] == ('PUT', '/a/b?c=d')
        assert recorded.status == 202
        assert recorded.microversion == 'compute 2.1'
        assert 'X-Other' not in recorded.headers
        served.forget()
        assert served.requests == []


def test_the_history_is_limited() -> None:
    with server.serve(_hello, history=2) as served:
        for number in range(3):
            requests.get(f'{served.url}/{number}', timeout=5)
        assert [r.path for r in served.requests] == ['/1', '/2']


def test_connections_are_counted() -> None:
    with server.serve(_hello) as served:
        with requests.Session() as session:
            for _ in range(3):
                session.get(served.url, timeout=5)
        assert served.connections == 1
        requests.get(served.url, timeout=5)
        assert served.connections == 2


def test_requests_are_processed_concurrently() -> None:
    barrier = threading.Barrier(4, timeout=5)

    def wait_for_all(
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        barrier.wait()
        return _hello(environ, start_response)

    with server.serve(wait_for_all) as served:
        threads = [
            threading.Thread(
                target=requests.get, args=(served.url,), kwargs={'timeout': 5}
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=5)
        assert [r.status for r in served.requests] == [202] * 4


def test_stopping_is_fast_and_closes_the_port() -> None:
    with server.serve(_hello) as served:
        session = requests.Session()
        session.get(served.url, timeout=5)
        begin = time.monotonic()
    assert time.monotonic() - begin < 1
    with pytest.raises(requests.ConnectionError):
        session.get(served.url, timeout=5)


def test_the_port_can_be_chosen_and_is_in_use() -> None:
    with server.serve(_hello) as served:
        with pytest.raises(OSError, match='in use'):
            with server.serve(_hello, port=served.port):
                pass
