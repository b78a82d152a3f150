# SPDX-License-Identifier: Apache-2.0

"""The embedded Cinder when its parent is killed.

:mod:`tests.functional.test_guard` tests the rest of it.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import requests

from attachguard.testing import embedded


def is_served(url: str) -> bool:
    try:
        requests.get(url, timeout=5)
    except requests.ConnectionError:
        return False
    return True


_START_AND_WAIT = """
import sys
from attachguard.testing import embedded
cinder = embedded.EmbeddedCinder(
    sys.argv[1], 'http://127.0.0.1:1/v3', guard=False
)
cinder.start()
print(cinder.port, flush=True)
sys.stdin.read()
"""


def test_cinder_ends_with_a_killed_parent(tmp_path: pathlib.Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, '-c', _START_AND_WAIT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        url = f'http://127.0.0.1:{int(parent.stdout.readline())}/healthcheck'
        assert is_served(url)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(timeout=5)
        deadline = time.monotonic() + 10
        while is_served(url) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_served(url)
        # Another instance can use the directory.
        with embedded.EmbeddedCinder(
            tmp_path, 'http://127.0.0.1:1/v3', guard=False
        ) as cinder:
            assert is_served(cinder.url)
    finally:
        parent.kill()
        parent.communicate(timeout=10)
