# SPDX-License-Identifier: Apache-2.0

"""A service that hangs, or responds byte after byte, ends an audit."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import time
from typing import Any

import pytest

from attachguard.audit.collect import comparison
from attachguard.audit.collect import reader
from tests.functional.audit import Scene
from tests.functional.audit import scene
from tests.outage import faults
from tests.outage import faulty_server

__all__ = ['scene']

FAULTS = ('hangs-before-responding', 'drips-headers', 'drips-a-body')
# The faults last longer.
_IN_TIME = 60


@pytest.fixture
def fronts(scene: Scene) -> Iterator[dict[str, faulty_server.FaultyServer]]:
    """A server that can fail in front of each service."""
    cloud = scene.cloud
    with contextlib.ExitStack() as stack:
        found = {
            name: stack.enter_context(
                contextlib.closing(faulty_server.FaultyServer(server.port))
            )
            for name, server in (
                ('Keystone', cloud.keystone_server),
                ('Cinder', cloud.cinder_server),
                ('Nova', cloud.nova_server),
            )
        }
        cloud.register_cinder(f'{found["Cinder"].url}/v3')
        cloud.keystone.add_endpoint(
            'compute', f'{found["Nova"].url}/v2.1', name='nova'
        )
        scene.log_in('admin', auth_url=f'{found["Keystone"].url}/v3')
        yield found


def _audit(scene: Scene, name: str) -> str:
    """Audit a cloud of which a service fails; returns the standard error."""
    begin = time.monotonic()
    ran = scene.audit('--timeout', '1')
    assert time.monotonic() - begin < _IN_TIME
    assert ran.code == 1, ran.err
    assert f'no complete response from {name} within 1 s' in ran.err
    assert '--timeout' in ran.err
    return ran.err


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('name', ['Keystone', 'Cinder', 'Nova'])
def test_from_the_start(
    scene: Scene,
    fronts: dict[str, faulty_server.FaultyServer],
    name: str,
    fault: str,
) -> None:
    with fronts[name].failing(faults.PLAIN[fault]):
        assert 'error: ' in _audit(scene, name)


def _failing_after(
    monkeypatch: pytest.MonkeyPatch,
    of: Any,
    step: str,
    fail: Callable[[], object],
) -> None:
    original = getattr(of, step)

    def then_fail(*args: Any) -> Any:
        result = original(*args)
        fail()
        return result

    monkeypatch.setattr(of, step, then_fail)


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('name', ['Cinder', 'Nova'])
def test_while_the_lists_are_read(
    scene: Scene,
    fronts: dict[str, faulty_server.FaultyServer],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fault: str,
) -> None:
    assert scene.audit().code == 0
    _failing_after(
        monkeypatch,
        reader,
        '_rare_garbage_collection',
        lambda: fronts[name].fail(faults.PLAIN[fault]),
    )
    assert 'cannot be listed' in _audit(scene, name)


def test_while_suspects_are_read(
    scene: Scene,
    fronts: dict[str, faulty_server.FaultyServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(20):
        scene.forged()
    _failing_after(
        monkeypatch,
        comparison,
        'visibility_doubt',
        lambda: fronts['Nova'].fail(faults.PLAIN['drips-a-body']),
    )
    before = fronts['Nova'].requests
    # Each of the 20 is unknown, of which 3 have a query.
    _audit(scene, 'Nova')
    lists_and_checks = 8
    assert fronts['Nova'].requests - before <= lists_and_checks + 3
