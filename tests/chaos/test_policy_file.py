# SPDX-License-Identifier: Apache-2.0
"""The policy file changes under load: each request is decided by its rules
from before or from after the change.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import time

import pytest

from tests.chaos import chaos_cloud
from tests.outage import background
from tests.outage.guarded_cloud import Response

_OPEN = '{}\n'
_CLOSED = '"attachguard:os-roll_detaching": "!"\n'
# Of another size, so that the change is noticed whatever the clock says.
_STILL_CLOSED = '# Closed.\n' + _CLOSED

_NOT_LOADED = 'Policy file not loaded'


class Load:
    """Callers whose requests one rule of the policy file allows or not."""

    def __init__(self, cloud: chaos_cloud.Cloud, path: pathlib.Path) -> None:
        self._cloud = cloud
        self.path = path
        self._volume_id = cloud.create_volume()
        self.responses: list[Response] = []

    def is_allowed(self) -> bool:
        """Send a request, and see whether the rule allows it."""
        response = self._cloud.member.act(self._volume_id, 'os-roll_detaching')
        self.responses.append(response)
        return response.reason != 'policy'

    def wait_until(self, allowed: bool) -> None:
        """Wait until the rule allows requests, or does not."""
        give_up = time.monotonic() + 5
        while self.is_allowed() is not allowed:
            assert time.monotonic() < give_up
        for _ in range(5):
            assert self.is_allowed() is allowed


def _replace(path: pathlib.Path, text: str) -> None:
    if path.is_dir():
        path.rmdir()
    new = path.with_suffix('.new')
    new.write_text(text)
    new.rename(path)


def _make_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture
def load(cloud: chaos_cloud.Cloud) -> Iterator[Load]:
    path = cloud.cinder.directory / 'rules' / 'policy.yaml'
    _replace(path, _CLOSED)
    load = Load(cloud, path)
    with background.repeating(load.is_allowed, 0.05, threads=4):
        load.wait_until(allowed=False)
        yield load
        _replace(path, _OPEN)
        load.wait_until(allowed=True)
    # No change of the file is an error for a caller.
    assert {each.status for each in load.responses} <= {202, 403}


def test_a_replaced_file_is_used(load: Load) -> None:
    for text, allowed in 2 * [
        (_OPEN, True),
        (_CLOSED, False),
        (_OPEN, True),
        (_STILL_CLOSED, False),
    ]:
        _replace(load.path, text)
        load.wait_until(allowed)


def test_a_file_that_is_written_in_place_is_used_when_complete(
    load: Load,
) -> None:
    with load.path.open('w') as file:
        for character in _OPEN + '# Open.\n':
            file.write(character)
            file.flush()
            time.sleep(0.01)
    load.wait_until(allowed=True)


@pytest.mark.parametrize(
    'damage',
    [
        pytest.param(lambda path: _replace(path, ''), id='emptied'),
        pytest.param(lambda path: path.write_text(''), id='emptied-in-place'),
        pytest.param(lambda path: _replace(path, '"attach'), id='cut-off'),
        pytest.param(
            lambda path: _replace(path, '"attachguard:os-atach": "@"\n'),
            id='with-an-unknown-rule',
        ),
        pytest.param(
            lambda path: path.write_bytes(b'\xff\x00' * 100), id='of-bytes'
        ),
        pytest.param(
            lambda path: _replace(path, '[' * 600), id='nested-deeply'
        ),
        pytest.param(pathlib.Path.unlink, id='deleted'),
        pytest.param(_make_directory, id='a-directory'),
    ],
)
def test_a_damaged_file_is_not_used(
    cloud: chaos_cloud.Cloud,
    load: Load,
    damage: Callable[[pathlib.Path], object],
) -> None:
    before = len(cloud.log)
    damage(load.path)
    give_up = time.monotonic() + 10
    while _NOT_LOADED not in cloud.log[before:]:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    load.wait_until(allowed=False)
    # One error for each state of the file, not for each request.
    assert cloud.log[before:].count(_NOT_LOADED) <= 2
