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

"""The embedded Cinder, with both kinds of server."""

from __future__ import annotations

from concurrent import futures
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any
from typing import Literal

import cinderclient.exceptions
import pytest
import requests

from attachguard import testing
from attachguard.testing import embedded


def wait_for(cinder: Any, volume: Any) -> Any:
    """Wait until a volume is created."""
    deadline = time.monotonic() + 20
    while volume.status == 'creating' and time.monotonic() < deadline:
        time.sleep(0.05)
        volume = cinder.volumes.get(volume.id)
    return volume


def is_served(url: str) -> bool:
    try:
        requests.get(url, timeout=5)
    except requests.ConnectionError:
        return False
    return True


@pytest.mark.parametrize('server', ['eventlet', 'threads'])
def test_cinder_works_with_the_guard_and_stops(
    server: Literal['eventlet', 'threads'], tmp_path: pathlib.Path
) -> None:
    with testing.StubCloud(cinder=None) as cloud:
        with embedded.EmbeddedCinder(
            tmp_path,
            f'{cloud.keystone_url}/v3',
            server=server,
        ) as cinder:
            cloud.register_cinder(cinder.url)
            client = cloud.cinderclient('member', '3.54')
            volume = wait_for(client, client.volumes.create(1))
            assert volume.status == 'available'
            shared = wait_for(
                client, client.volumes.create(1, volume_type='multiattach')
            )
            assert shared.multiattach

            attachment = client.attachments.create(
                volume.id,
                {'host': 'here', 'initiator': 'iqn.2010-10.org:here'},
                None,
            )
            assert (
                attachment['connection_info']['driver_volume_type'] == 'iscsi'
            )
            client.attachments.complete(attachment['id'])
            assert client.volumes.get(volume.id).status == 'in-use'
            client.attachments.delete(attachment['id'])
            assert client.volumes.get(volume.id).status == 'available'

            # SQLite fails if two transactions wait for each other.
            with futures.ThreadPoolExecutor(8) as pool:
                for one in pool.map(client.volumes.create, [1] * 16):
                    assert wait_for(client, one).status == 'available'

            with pytest.raises(cinderclient.exceptions.Forbidden):
                client.volumes.attach(volume, volume.id, '/dev/vdb')
            assert client.volumes.get(volume.id).status == 'available'

            patched = 'INFO eventlet.wsgi.server' in (cinder.log.read_text())
            assert patched is (server == 'eventlet')
            started = time.monotonic()
        assert time.monotonic() - started < 5
        assert not is_served(cinder.url)


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
