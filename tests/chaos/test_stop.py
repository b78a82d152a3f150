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
"""The service is told to stop while callers wait for Nova."""

from __future__ import annotations

from collections.abc import Iterator
import concurrent.futures
import contextlib
import functools
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from attachguard.testing import embedded
from tests.chaos import faults
from tests.chaos import scene as scenes

_ORDERLY = pathlib.Path(__file__).with_name('orderly.py')
_CALLERS = 20
# A server that waits for its callers waits for Nova, and then for itself:
# waitress, for up to five seconds.
_ENDS = scenes.NOVA_TIMEOUT + 5.0 + scenes.MARGIN


@contextlib.contextmanager
def _orderly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    popen = subprocess.Popen

    def start(command: list[str], **kwargs: object) -> object:
        at = command.index(str(embedded._PROCESS))
        command = [*command[:at], str(_ORDERLY), *command[at:]]
        return popen(command, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, 'Popen', start)
        yield


@pytest.fixture
def scene(
    server: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[scenes.Scene]:
    with contextlib.ExitStack() as stack:
        if server == 'threads-in-order':
            stack.enter_context(_orderly(monkeypatch))
        kind: scenes.Server = 'eventlet' if server == 'eventlet' else 'threads'
        yield stack.enter_context(scenes.staged(tmp_path, kind))


def _read_all(port: int, request: bytes) -> bytes:
    """What comes back until the connection ends, however it does."""
    answer = b''
    try:
        with socket.create_connection(('127.0.0.1', port), 30) as caller:
            caller.sendall(request)
            while more := caller.recv(65536):
                answer += more
    except ConnectionError:
        pass
    return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b'\r\n\r\n')
    lengths = [
        int(line.split(b':')[1])
        for line in head.lower().split(b'\r\n')
        if line.startswith(b'content-length:')
    ]
    return bool(end) and lengths == [len(body)]


@pytest.mark.parametrize(
    ('server', 'fault'),
    [
        ('threads', 'drips-headers'),
        ('threads-in-order', None),
        ('threads-in-order', 'hangs-before-answering'),
        ('threads-in-order', 'drips-headers'),
        ('eventlet', None),
        ('eventlet', 'drips-headers'),
    ],
)
def test_it_ends_in_time_and_no_answer_is_cut_off(
    scene: scenes.Scene, fault: str | None
) -> None:
    volume_id = scene.volume()
    scene.warm_up(volume_id)
    requests = [scene.member.raw_attach(volume_id) for _ in range(_CALLERS)]
    if fault is not None:
        scene.nova.begin(faults.ALL[fault])
    asked = scene.nova.requests
    call = functools.partial(_read_all, scene.cinder.port)
    with concurrent.futures.ThreadPoolExecutor(_CALLERS) as threads:
        answers = threads.map(call, requests)
        give_up = time.monotonic() + 20
        while scene.nova.requests == asked:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        start = time.monotonic()
        process = scene.cinder._process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDS + 10)
        finally:
            process.kill()
            took = time.monotonic() - start
            found = list(answers)
    assert took < _ENDS
    for answer in found:
        assert answer == b'' or _is_whole(answer), answer
