# SPDX-License-Identifier: Apache-2.0

"""Calls in other threads."""

from __future__ import annotations

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
