# SPDX-License-Identifier: Apache-2.0
"""The service gets SIGTERM while callers wait for Nova."""

from collections.abc import Iterator
import concurrent.futures
import pathlib
import signal
import time

import pytest

from tests.chaos import chaos_cloud
from tests.outage import cinder_servers
from tests.outage import faults

_CALLERS = 20
# A server waits for its callers, who wait for Nova; waitress then waits up to
# five seconds for its threads.
_STOPS_WITHIN = chaos_cloud.NOVA_TIMEOUT + 5.0 + chaos_cloud.MARGIN


# SIGTERM ends the process as it ends uWSGI and mod_wsgi: Python waits for its
# threads and runs its exit handlers. The volume service and the scheduler are
# not started, because Python would wait for their threads, too.
_ORDERLY = """
import runpy, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
main = runpy.run_path(sys.argv[1])['main']
main.__globals__['_start_services'] = lambda: None
main(*sys.argv[2:])
"""


class _OrderlyCinder(cinder_servers.Cinder):
    """Cinder on threads, which ends in good order."""

    def _command(self, ready: pathlib.Path) -> list[str]:
        python, *options, script, _server, port, conf = super()._command(ready)
        arguments = ['-c', _ORDERLY, script, 'threads', port, conf]
        return [python, *options, *arguments]


@pytest.fixture
def cloud(
    server: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[chaos_cloud.Cloud]:
    orderly = cinder_servers.Shape('waitress', 1, 16, _OrderlyCinder)
    monkeypatch.setitem(cinder_servers.SHAPES, 'orderly-threads', orderly)
    with chaos_cloud.start(tmp_path, server) as cloud:
        yield cloud


@pytest.mark.parametrize(
    ('server', 'fault'),
    [
        ('orderly-threads', None),
        ('orderly-threads', 'hangs-before-responding'),
        # Python would wait for a thread that is no daemon.
        ('orderly-threads', 'drips-headers'),
        ('eventlet', None),
        ('eventlet', 'drips-headers'),
    ],
)
def test_the_process_ends_and_no_response_is_cut_off(
    cloud: chaos_cloud.Cloud, server: str, fault: str | None
) -> None:
    if fault is not None:
        cloud.nova.fail(faults.ALL[fault])
    before = cloud.nova.requests
    process = cloud.cinder.process
    with concurrent.futures.ThreadPoolExecutor(_CALLERS) as threads:
        futures = [threads.submit(cloud.attach) for _ in range(_CALLERS)]
        give_up = time.monotonic() + 20
        while cloud.nova.requests == before:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(_STOPS_WITHIN + 10)
        seconds = time.monotonic() - start
        responses = [future.result() for future in futures]
    assert seconds < _STOPS_WITHIN
    for response in responses:
        if response.status == 0:
            assert 'IncompleteRead' not in response.body
        else:
            # Parsed, so that it is complete.
            assert isinstance(response.body, dict), response
