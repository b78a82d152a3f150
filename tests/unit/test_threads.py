# SPDX-License-Identifier: Apache-2.0

"""Calls in other threads."""

from __future__ import annotations

from collections.abc import Generator
import threading

import pytest

from attachguard import threads


def test_a_call_has_its_result_or_exception() -> None:
    assert threads.wait(threads.submit(lambda: 1), 60) == 1

    def fail() -> None:
        raise TimeoutError('its own')

    with pytest.raises(TimeoutError, match='its own'):
        threads.wait(threads.submit(fail), 60)


def test_a_call_that_takes_too_long_is_late() -> None:
    stop = threading.Event()
    future = threads.submit(stop.wait)
    with pytest.raises(threads.Late, match='within 0.01 s'):
        threads.wait(future, 0.01)
    stop.set()
    assert threads.wait(future, 60)


def test_several_generators_are_read_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)

    def read(name: str) -> Generator[str, None, None]:
        for number in range(5):
            both.wait()
            yield f'{name}{number}'

    found = list(threads.together(read('a'), read('b')))
    for name in 'ab':
        assert [item for item in found if item[0] == name] == [
            f'{name}{number}' for number in range(5)
        ]


def test_the_exception_of_a_generator_ends_all() -> None:
    ended = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    def fail() -> Generator[int, None, None]:
        yield 2
        raise OSError('broken')

    with pytest.raises(OSError, match='broken'):
        list(threads.together(endless(), fail()))
    assert ended.wait(60)


def test_a_reader_does_not_run_far_ahead() -> None:
    taken = 0
    full = threading.Event()

    def count() -> Generator[int, None, None]:
        nonlocal taken
        while True:
            taken += 1
            if taken == 4:
                full.set()
            yield taken

    items = threads.together(count())
    assert next(items) == 1
    assert full.wait(60)
    assert not threading.Event().wait(0.05)
    assert taken == 4
    items.close()
