# SPDX-License-Identifier: Apache-2.0
"""The cost of a call, in CPU time and in bytecodes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import sys
import threading
import time
import types
from typing import Any

Call = Callable[[], object]


def _cpu_seconds(call: Call, times: int) -> float:
    # Of the whole process, because some calls use other threads.
    begin = time.process_time()
    for __ in range(times):
        call()
    return time.process_time() - begin


def least(
    calls: Mapping[str, Call], rounds: int = 20, seconds: float = 0.01
) -> dict[str, float]:
    """Measure the CPU time of several calls.

    The calls take turns, so that other load on the machine affects all of
    them. The result of each call is its lowest round.

    :param rounds: the number of turns of each call
    :param seconds: the approximate length of a turn
    :returns: microseconds of CPU for each call, by name
    """
    times = {}
    for name, call in calls.items():
        call()
        count, took = 1, _cpu_seconds(call, 1)
        while took < seconds / 4:
            count *= 2
            took = _cpu_seconds(call, count)
        times[name] = max(1, int(count * seconds / took))
    lowest = dict.fromkeys(calls, float('inf'))
    for __ in range(rounds):
        for name, call in calls.items():
            took = _cpu_seconds(call, times[name])
            lowest[name] = min(lowest[name], 1e6 * took / times[name])
    return lowest


def bytecodes(call: Call, without: Collection[types.CodeType] = ()) -> int:
    """Count the bytecodes that a call executes.

    Those of the threads that it starts count, too. A function that is written
    in C counts as the one bytecode that calls it.

    :param call: a function; its own bytecodes are not counted
    :param without: the code of other functions that are not counted
    """
    skipped = {*without, getattr(call, '__code__', None)}
    count = 0

    def trace(frame: types.FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        if frame.f_code in skipped:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        if event == 'opcode':
            count += 1
        return trace

    before, before_in_threads = sys.gettrace(), threading.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        threading.settrace(before_in_threads)
    return count
