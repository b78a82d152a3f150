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
"""The policy file changes while callers are at the guard.

Whatever becomes of the file, each request is decided by the rules from before
or by those from after.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
import threading
import time

import pytest

from tests.chaos import scene as scenes

_OPEN = '{}\n'
_CLOSED = '"attachguard:os-roll_detaching": "!"\n'
# Its size alone tells that it is another one, whatever a clock says.
_CLOSED_DIFFERENTLY = '# Not today.\n' + _CLOSED


@pytest.fixture(scope='module', params=['threads', 'eventlet'])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[scenes.Scene, pathlib.Path]]:
    directory = tmp_path_factory.mktemp('cinder')
    path = directory / 'rules' / 'policy.yaml'
    path.parent.mkdir()
    path.write_text(_OPEN)
    with scenes.staged(directory, request.param, policy_file=path) as scene:
        yield scene, path
    assert not scene.tracebacks


class Load:
    """Callers whom one rule lets through or not, at work all the time."""

    def __init__(self, scene: scenes.Scene) -> None:
        self._scene = scene
        self._volume_id = scene.volume()
        self._over = threading.Event()
        self.answers: list[scenes.Answer] = []

    def ask(self) -> bool:
        """Whether the rule in force lets somebody through."""
        answer = self._scene.member.act(self._volume_id, 'os-roll_detaching')
        self.answers.append(answer)
        return answer.reason != 'policy'

    @contextlib.contextmanager
    def on(self) -> Iterator[Load]:
        """Go on while the context is open."""
        threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.05):
            self.ask()

    def wait_for(self, opened: bool) -> None:
        """Wait until the rules are these, for everybody.

        :param opened: whether they let through
        """
        give_up = time.monotonic() + 5
        while self.ask() is not opened:
            assert time.monotonic() < give_up
        for _ in range(5):
            assert self.ask() is opened


def _replace(path: pathlib.Path, text: str) -> None:
    new = path.with_suffix('.new')
    new.write_text(text)
    new.rename(path)


def _make_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture
def load(
    running: tuple[scenes.Scene, pathlib.Path],
) -> Iterator[Load]:
    scene, path = running
    if path.is_dir():
        path.rmdir()
    _replace(path, _CLOSED)
    with Load(scene).on() as load:
        load.wait_for(opened=False)
        yield load
    # No rule, and no file, is an error of the caller's or Cinder's.
    assert {answer.status for answer in load.answers} <= {202, 403}


def test_replaced_it_is_in_force_at_once(
    load: Load, running: tuple[scenes.Scene, pathlib.Path]
) -> None:
    _scene, path = running
    for text, opened in 2 * [
        (_OPEN, True),
        (_CLOSED, False),
        (_OPEN, True),
        (_CLOSED_DIFFERENTLY, False),
    ]:
        _replace(path, text)
        load.wait_for(opened)


def test_written_in_place_it_is_in_force_at_last(
    load: Load, running: tuple[scenes.Scene, pathlib.Path]
) -> None:
    _scene, path = running
    # As an editor does that knows nothing of renaming.
    with path.open('w') as file:
        for character in _OPEN + '# Everybody may.\n':
            file.write(character)
            file.flush()
            time.sleep(0.01)
    load.wait_for(opened=True)


@pytest.mark.parametrize(
    ('spoil', 'logged'),
    [
        pytest.param(
            lambda path: _replace(path, ''), 'it is empty', id='emptied'
        ),
        pytest.param(
            lambda path: path.write_text(''),
            'it is empty',
            id='emptied-in-place',
        ),
        pytest.param(
            lambda path: _replace(path, '"attachguard:os-att'),
            'it is not YAML',
            id='cut-off',
        ),
        pytest.param(
            lambda path: path.write_bytes(b'\xff\x00' * 100),
            'are not used',
            id='of-bytes',
        ),
        pytest.param(
            lambda path: _replace(path, '"attachguard:os-atach": "@"\n'),
            'there is no rule',
            id='with-an-unknown-rule',
        ),
        pytest.param(
            lambda path: _replace(
                path, '"attachguard:os-roll_detaching": "novva:attached"\n'
            ),
            'is no check',
            id='with-an-unknown-check',
        ),
        pytest.param(
            lambda path: _replace(path, '[' * 600),
            'are not used',
            id='nested-deeply',
        ),
        pytest.param(lambda path: path.unlink(), 'are not used', id='deleted'),
        pytest.param(_make_directory, 'are not used', id='a-directory'),
    ],
)
def test_spoilt_it_changes_nothing_until_it_is_mended(
    load: Load,
    running: tuple[scenes.Scene, pathlib.Path],
    spoil: object,
    logged: str,
) -> None:
    scene, path = running
    before = len(scene.log)
    assert callable(spoil)
    spoil(path)
    give_up = time.monotonic() + 10
    while logged not in scene.log[before:]:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    load.wait_for(opened=False)
    # Said once of what the file is, and of what it was on the way there; not
    # with every request.
    assert scene.log[before:].count('are not used') <= 2
    if path.is_dir():
        path.rmdir()
    _replace(path, _OPEN)
    load.wait_for(opened=True)
