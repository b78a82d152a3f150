# SPDX-License-Identifier: Apache-2.0

"""How far a command is, on standard error."""

from __future__ import annotations

from collections.abc import Callable
import math
import os
import time
from typing import IO

# Seconds between two updates of the line on a terminal, and between two lines
# elsewhere.
_UPDATE = 0.1
_LINE = 30

# The steps that are shown: the last ones fit a line.
_STEPS = 3


class Progress:
    """Shows how far a command is.

    On a terminal it is one line, which is updated and goes away.  Elsewhere
    it is a line now and then.

    :param stream: where to
    :param clock: for tests, as ``sleep``
    """

    def __init__(
        self,
        stream: IO[str],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._sleep = sleep
        self._counts: dict[str, int] = {}
        self._terminal = stream.isatty()
        self._next = clock() + (0 if self._terminal else _LINE)
        self._shown = 0

    def __call__(self, step: str, count: int) -> None:
        """Count.

        :param step: what is counted, or done
        :param count: how many more; 0 where nothing is counted
        """
        self._counts[step] = self._counts.get(step, 0) + count
        if self._clock() >= self._next:
            self._show(
                ', '.join(
                    f'{step} {number:,}' if number else step
                    for step, number in list(self._counts.items())[-_STEPS:]
                )
            )

    def wait(self, what: str, seconds: float) -> None:
        """Wait, and show how long still.

        :param what: comes then
        """
        end = self._clock() + seconds
        if seconds:
            self._next = self._clock()
        while (left := end - self._clock()) > 0:
            if self._clock() >= self._next:
                self._show(f'{what} in {math.ceil(left)} s')
            self._sleep(min(left, 1))

    def clear(self) -> None:
        """Remove the line from a terminal, for other output."""
        if self._shown:
            self._stream.write(f'\r{" " * self._shown}\r')
            self._stream.flush()
            self._shown = 0

    def _show(self, text: str) -> None:
        self._next = self._clock() + (_UPDATE if self._terminal else _LINE)
        if not self._terminal:
            print(text, file=self._stream, flush=True)
            return
        text = text[: _columns(self._stream) - 1]
        # Spaces cover what is left of a longer line.
        self._stream.write(f'\r{text:<{self._shown}}')
        self._stream.flush()
        self._shown = len(text)


def _columns(stream: IO[str]) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
