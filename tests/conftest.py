# SPDX-License-Identifier: Apache-2.0
"""The environment of all tests.

The tests do not depend on the environment in which they are started. They
connect to loopback addresses only.
"""

from __future__ import annotations

from collections.abc import Iterator
import ipaddress
import logging
import os
import pathlib
import signal
import socket
from typing import Any

import pytest

_ROOT = pathlib.Path(__file__).parents[1]

#: The proxies of the environment, which only pip uses.
PROXIES: dict[str, str] = {}

# A background query can end after its test, whose captured streams are closed.
logging.raiseExceptions = False

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _refuse_remote(connection: socket.socket, address: Any) -> None:
    """Check that an address is on this machine.

    :raises ConnectionRefusedError: it is not
    """
    if connection.family == socket.AF_UNIX:
        return
    host = address[0]
    if host == 'localhost' or ipaddress.ip_address(host).is_loopback:
        return
    raise ConnectionRefusedError(f'tests connect to loopback only: {address}')


def _local_connect(connection: socket.socket, address: Any) -> None:
    _refuse_remote(connection, address)
    _connect(connection, address)


def _local_connect_ex(connection: socket.socket, address: Any) -> int:
    _refuse_remote(connection, address)
    return _connect_ex(connection, address)


@pytest.fixture(autouse=True, scope='session')
def loopback_only() -> Iterator[None]:
    """Allow connections to loopback addresses only."""
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, 'connect', _local_connect)
    patch.setattr(socket.socket, 'connect_ex', _local_connect_ex)
    yield
    patch.undo()


def pytest_configure() -> None:
    """Clean the environment, before any test module is imported.

    The processes that the tests start inherit it.
    """
    for name in list(os.environ):
        if name.lower().endswith('_proxy'):
            PROXIES[name] = os.environ.pop(name)
        elif name.startswith('OS_'):
            del os.environ[name]
    # They import this checkout, from whatever directory they are started.
    os.environ['PYTHONPATH'] = os.pathsep.join(
        filter(None, [str(_ROOT), os.environ.get('PYTHONPATH')])
    )
    # A shell that starts the tests in the background ignores SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
