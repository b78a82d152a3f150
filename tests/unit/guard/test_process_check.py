# SPDX-License-Identifier: Apache-2.0

"""What the preflight shows of a running process."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import json
import socket
import time
from typing import Any
import weakref

import oslo_middleware
import pytest

from attachguard import cmd
from attachguard import wsgi_server
from attachguard.guard import healthcheck
from attachguard.guard import preflight
from attachguard.guard import process_check
from attachguard.nova import client as nova_client
from attachguard.testing import server
from tests.unit.guard.test_healthcheck import Nova

OK = preflight.Result.OK
UNKNOWN = preflight.Result.UNKNOWN
WRONG = preflight.Result.WRONG

Serve = Callable[[Any], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an application, and returns its URL."""
    with contextlib.ExitStack() as stack:

        def start(application: Any) -> str:
            running = stack.enter_context(server.serve(application))
            return f'{running.url}/healthcheck'

        yield start


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, 'WATCHED', weakref.WeakKeyDictionary())


def health(backends: str = 'attachguard', detailed: str = 'true') -> Any:
    return oslo_middleware.Healthcheck.app_factory(
        {},
        oslo_config_project='nobody',
        backends=backends,
        detailed=detailed,
    )


def respond(body: bytes, status: str = '200 OK') -> Any:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, [('Content-Type', 'application/json')])
        return [body]

    return application


@pytest.fixture
def nova() -> Nova:
    """A guard of this process."""
    nova = Nova(nova_client.Visibility.EVERY_PROJECT)
    healthcheck.watch(nova, enforce=True)
    return nova


def found(url: str) -> list[tuple[str, preflight.Result]]:
    return [(each.check, each.result) for each in process_check.run(url)]


def only(url: str) -> preflight.Finding:
    (finding,) = process_check.run(url)
    return finding


def test_a_guard_that_works(serve: Serve, nova: Nova) -> None:
    assert found(serve(health('disable_by_file,attachguard'))) == [
        ('running process', OK),
        ('visibility', OK),
        ('Nova', OK),
        # waitress does not tell.
        ('server', UNKNOWN),
    ]


def test_a_guard_that_only_logs(serve: Serve, nova: Nova) -> None:
    healthcheck.watch(nova, enforce=False)
    assert ('running process', UNKNOWN) in found(serve(health()))


@pytest.mark.parametrize(
    ('visibility', 'result'),
    [
        (nova_client.Visibility.CALLER, UNKNOWN),
        (nova_client.Visibility.UNCHECKED, UNKNOWN),
        (nova_client.Visibility.SOME_PROJECTS, WRONG),
    ],
)
def test_which_servers_nova_shows(
    serve: Serve,
    visibility: nova_client.Visibility,
    result: preflight.Result,
) -> None:
    nova = Nova(visibility)
    healthcheck.watch(nova, enforce=True)
    assert ('visibility', result) in found(serve(health()))


def test_a_nova_that_does_not_respond(serve: Serve, nova: Nova) -> None:
    nova.breaker.failed(0, 'ConnectTimeout: keystone', lambda: None)
    (finding,) = [
        each
        for each in process_check.run(serve(health()))
        if each.check == 'Nova'
    ]
    assert finding.result is WRONG
    assert 'ConnectTimeout: keystone' in finding.text


@pytest.mark.parametrize(
    ('threads', 'runs_threads', 'result', 'says'),
    [
        (1, True, OK, 'threads in a process: 1'),
        (1, False, WRONG, 'enable-threads'),
        (8, True, WRONG, 'nova_max_concurrency'),
        (32, True, OK, 'threads in a process: 32'),
    ],
)
def test_the_server(
    serve: Serve,
    nova: Nova,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    runs_threads: bool,
    result: preflight.Result,
    says: str,
) -> None:
    known = wsgi_server.Server('uWSGI', threads, runs_threads)
    monkeypatch.setattr(wsgi_server, 'detect', lambda: known)
    *_, finding = process_check.run(serve(health()))
    assert (finding.check, finding.result) == ('server', result)
    assert says in finding.text


def test_a_process_without_the_guard(serve: Serve) -> None:
    finding = only(serve(health()))
    assert finding.result is WRONG
    assert 'not loaded' in finding.text


def test_a_health_check_without_details(serve: Serve, nova: Nova) -> None:
    finding = only(serve(health(detailed='false')))
    assert finding.result is WRONG
    assert 'detailed = true' in finding.text


def test_a_health_check_without_the_backend(serve: Serve) -> None:
    finding = only(serve(health('disable_by_file')))
    assert finding.result is WRONG
    assert 'add attachguard to the backends' in finding.text


@pytest.mark.parametrize(
    'body',
    [b'', b'OK', b'[]', b'{}', b'{"detailed": true, "reasons": [1]}', b'"x"'],
)
def test_no_health_check(serve: Serve, body: bytes) -> None:
    finding = only(serve(respond(body, '404 Not Found')))
    assert finding.result is WRONG
    assert 'no health check of oslo.middleware' in finding.text


@pytest.mark.parametrize('details', ['{}', '[{}]', '[{"enforce": true}]', '3'])
def test_another_version(serve: Serve, details: str) -> None:
    reason = {'reason': 'attachguard: OK', 'details': details}
    body = json.dumps({'detailed': True, 'reasons': [reason]}).encode()
    *_, finding = process_check.run(serve(respond(body)))
    assert finding.result is WRONG


def test_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_check, '_TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as hangs:
        address = f'user:secret@127.0.0.1:{hangs.getsockname()[1]}'
        hung = only(f'http://{address}/healthcheck')
    assert hung.result is WRONG
    assert 'Timeout' in hung.text
    refused = only(f'http://{address}/healthcheck')
    assert 'ConnectionError' in refused.text
    assert 'secret' not in hung.text + refused.text


def test_a_response_that_does_not_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', [])
        for _ in range(100):
            time.sleep(0.05)
            yield b' '

    monkeypatch.setattr(process_check, '_TIMEOUT', 0.2)
    began = time.monotonic()
    finding = only(serve(application))
    # All of it would take five seconds, and urllib3 1.26 reads 64 bytes.
    assert time.monotonic() - began < 4
    assert finding.result is WRONG
    assert 'Timeout' in finding.text


@pytest.mark.parametrize(
    'url', ['', 'cinder:8776', 'file:///etc/passwd', 'http://[', 'http://']
)
def test_no_url(url: str) -> None:
    assert only(url).result is WRONG


def test_the_command(
    serve: Serve, nova: Nova, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(health())
    assert cmd.main(['preflight', '--url', url]) == 0
    assert 'the guard enforces its rules' in capsys.readouterr().out
    nova.breaker.failed(0, 'ConnectFailure', lambda: None)
    assert cmd.main(['preflight', '--url', url]) == 1
