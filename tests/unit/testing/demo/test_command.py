# SPDX-License-Identifier: Apache-2.0

"""The command ``attachguard demo``, without its clouds."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import pathlib
import signal
import threading

import pytest

from attachguard import cmd
from attachguard.testing import embedded
from attachguard.testing.demo import cleanup
from attachguard.testing.demo import clouds
from attachguard.testing.demo import next_steps
from attachguard.testing.demo import report
from attachguard.testing.demo import story


class Clouds:
    """Records whether the clouds were stopped."""

    with_guard = without_guard = None
    stopped = False

    def __init__(self, directory: pathlib.Path) -> None:
        pass

    def __enter__(self) -> Clouds:
        return self

    def __exit__(self, *exc_info: object) -> None:
        Clouds.stopped = True


class Story:
    def __init__(self, cloud: object) -> None:
        pass

    def run(self) -> list[story.Step]:
        return []


@pytest.fixture(autouse=True)
def no_clouds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Clouds, 'stopped', False)
    monkeypatch.setattr(clouds, 'Clouds', Clouds)
    monkeypatch.setattr(story, 'Story', Story)
    monkeypatch.setattr(cleanup, 'run', lambda *args: None)
    monkeypatch.setattr(report, 'render', lambda *args: 'the report\n')
    monkeypatch.setattr(report, 'is_successful', lambda *args: True)
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '')
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.getsignal(number))
        yield


def test_the_report_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cmd.main(['demo']) == 0
    assert capsys.readouterr().out == 'the report\n'
    assert Clouds.stopped


def test_the_exit_code_is_1_if_a_claim_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, 'is_successful', lambda *args: False)
    assert cmd.main(['demo']) == 1


def test_the_exit_code_is_1_if_cinder_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(directory: pathlib.Path) -> None:
        raise embedded.CinderNotStarted('no such table')

    monkeypatch.setattr(clouds, 'Clouds', fail)
    assert cmd.main(['demo']) == 1
    assert 'no such table' in capsys.readouterr().err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_clouds(
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Even if a shell started the command with SIGINT ignored."""
    signal.signal(number, signal.SIG_IGN)

    def render(running: object) -> str:
        # The command waits for a signal when it has printed this.
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        return 'the commands\n'

    monkeypatch.setattr(next_steps, 'render', render)
    assert cmd.main(['demo', '--serve']) == 0
    assert capsys.readouterr().out == 'the report\nthe commands\n'
    assert Clouds.stopped
