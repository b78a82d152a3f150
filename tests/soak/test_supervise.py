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
"""That no server outlives who started it."""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import signal
import subprocess
import sys

import psutil
import pytest

_SUPERVISE = pathlib.Path(__file__).with_name('_supervise.py')
# As a server with a process of its own: it tells both.
_SERVER = """
import os, subprocess, sys
child = subprocess.Popen(['sleep', '600'])
print(os.getpid(), child.pid, flush=True)
sys.exit(child.wait())
"""


@pytest.fixture
def supervised() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(_SUPERVISE), sys.executable, '-c', _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


def _processes(supervised: subprocess.Popen[str]) -> list[psutil.Process]:
    assert supervised.stdout is not None
    return [
        *map(psutil.Process, map(int, supervised.stdout.readline().split()))
    ]


def test_it_ends_with_standard_input(
    supervised: subprocess.Popen[str],
) -> None:
    processes = _processes(supervised)
    assert supervised.stdin is not None
    supervised.stdin.close()
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    assert supervised.wait(timeout=5) == -signal.SIGKILL


def test_it_ends_with_who_watches_over_it(
    supervised: subprocess.Popen[str],
) -> None:
    server, child = _processes(supervised)
    supervised.kill()
    assert psutil.wait_procs([server], timeout=5)[1] == []
    # What a server has started sees to that itself.
    child.kill()


def test_its_status_is_told(supervised: subprocess.Popen[str]) -> None:
    _server, child = _processes(supervised)
    child.kill()
    assert supervised.wait(timeout=5) == -signal.SIGKILL & 0xFF
