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
"""What holds for every test: nothing leaves this machine.

A proxy or a cloud that the environment names would otherwise be used by the
clients under test, and a forgotten endpoint would only show as a slow test.
"""

from __future__ import annotations

from collections.abc import Iterator
import ipaddress
import os
import socket
from typing import Any

import pytest

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _refuse_remote(connection: socket.socket, address: Any) -> None:
    """Raise for an address that is not on this machine.

    :raises ConnectionRefusedError: it is not.
    """
    if connection.family == socket.AF_UNIX:
        return
    host = address[0]
    if host == 'localhost' or ipaddress.ip_address(host).is_loopback:
        return
    raise ConnectionRefusedError(f'tests stay on loopback: {address}')


def _local_connect(connection: socket.socket, address: Any) -> None:
    _refuse_remote(connection, address)
    _connect(connection, address)


def _local_connect_ex(connection: socket.socket, address: Any) -> int:
    _refuse_remote(connection, address)
    return _connect_ex(connection, address)


@pytest.fixture(autouse=True, scope='session')
def loopback_only() -> Iterator[None]:
    """Let this process connect to loopback addresses only."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, 'connect', _local_connect)
    patch.setattr(socket.socket, 'connect_ex', _local_connect_ex)
    yield
    patch.undo()


def pytest_configure() -> None:
    """Clear the environment that the tests and their processes inherit."""
    for name in list(os.environ):
        if name.startswith('OS_'):
            del os.environ[name]
    # The packaging tests need a proxy where there is one, so it stays.
    for name in ('NO_PROXY', 'no_proxy'):
        os.environ[name] = ','.join(
            filter(None, (os.environ.get(name), '127.0.0.1', 'localhost'))
        )
