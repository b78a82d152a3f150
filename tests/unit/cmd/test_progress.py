# SPDX-License-Identifier: Apache-2.0

"""How far a command is, on a terminal and elsewhere, by a clock of our own."""

from __future__ import annotations

import io
import re

import pytest

from attachguard.cmd import progress


class Stream(io.StringIO):
    """A stream that is a terminal, or is not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def updates(self) -> list[str]:
        """What the line of a terminal has shown, one after the other."""
        return [text.strip() for text in self.getvalue().split('\r')[1:]]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def make(terminal: bool) -> tuple[progress.Progress, Stream, Clock]:
    stream, clock = Stream(terminal), Clock()
    return progress.Progress(stream, clock, clock.sleep), stream, clock


def test_on_a_terminal_one_line_is_updated_while_the_counts_move() -> None:
    show, stream, clock = make(terminal=True)
    for _page in range(3):
        show('volumes', 1000)
        clock.sleep(1.5)
    show('comparing', 0)
    assert stream.updates == [
        'volumes 1,000',
        'volumes 2,000',
        'volumes 3,000',
        'volumes 3,000, comparing',
    ]
    assert '\n' not in stream.getvalue()


def test_a_fast_service_does_not_make_a_terminal_flicker() -> None:
    show, stream, clock = make(terminal=True)
    for _page in range(1000):
        show('volumes', 1000)
        clock.sleep(0.001)
    assert 5 <= len(stream.updates) <= 11


def test_only_the_last_steps_are_shown_and_they_fit_a_line() -> None:
    show, stream, clock = make(terminal=True)
    for step in ('volumes', 'attachments', 'servers', 'suspects', 'checking'):
        show(step, 123_456_789)
        clock.sleep(1)
    shown = 'servers 123,456,789, suspects 123,456,789, checking 123,456,789'
    assert stream.updates[-1] == shown
    assert len(shown) < 80
    show('x' * 200, 1)
    assert len(stream.getvalue().split('\r')[-1]) < 80


def test_other_output_starts_on_an_empty_line() -> None:
    show, stream, _clock = make(terminal=True)
    show.clear()
    assert stream.getvalue() == ''
    show('volumes', 1)
    show.clear()
    assert re.search('\rvolumes 1\r {9}\r$', stream.getvalue())


def test_a_shorter_text_leaves_nothing_of_a_longer_one() -> None:
    show, stream, _clock = make(terminal=True)
    show.wait('second check', 10)
    lines = stream.getvalue().split('\r')
    assert lines[1] == 'second check in 10 s'
    assert lines[2] == 'second check in 9 s '


@pytest.mark.parametrize('seconds', [3, 2.4])
def test_a_wait_counts_down_by_the_second(seconds: float) -> None:
    show, stream, clock = make(terminal=True)
    show.wait('suspects: 4; second check', seconds)
    assert stream.updates == [
        f'suspects: 4; second check in {left} s' for left in (3, 2, 1)
    ]
    assert clock.now == pytest.approx(100 + seconds)


def test_elsewhere_there_is_a_line_now_and_then() -> None:
    show, stream, clock = make(terminal=False)
    for _page in range(100):
        clock.sleep(1)
        show('volumes', 1000)
    assert stream.getvalue().splitlines() == [
        'volumes 30,000',
        'volumes 60,000',
        'volumes 90,000',
    ]


def test_elsewhere_a_wait_is_announced_at_once() -> None:
    show, stream, _clock = make(terminal=False)
    show.wait('second check', 60)
    assert stream.getvalue().splitlines() == [
        'second check in 60 s',
        'second check in 30 s',
    ]


def test_no_wait_is_not_announced() -> None:
    show, stream, _clock = make(terminal=False)
    show.wait('second check', 0)
    show('volumes', 1)
    assert stream.getvalue() == ''
