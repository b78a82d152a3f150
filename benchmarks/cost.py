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
"""How much a call takes: in CPU time, and in bytecodes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import sys
import time
import types
from typing import Any

Call = Callable[[], object]


def _batch(call: Call, times: int) -> float:
    # Of the process: some of the calls have others' threads work for them.
    begin = time.process_time()
    for __ in range(times):
        call()
    return time.process_time() - begin


def least(
    calls: Mapping[str, Call], rounds: int = 20, seconds: float = 0.01
) -> dict[str, float]:
    """The CPU time of calls, beside each other.

    They take turns, so that each sees the same of what else goes on, and of
    each the least of all rounds counts.

    :param rounds: how often each has its turn
    :param seconds: how long a turn takes, about
    :returns: microseconds for each call, by name
    """
    times = {}
    for name, call in calls.items():
        call()
        count, took = 1, _batch(call, 1)
        while took < seconds / 4:
            count *= 2
            took = _batch(call, count)
        times[name] = max(1, int(count * seconds / took))
    found = dict.fromkeys(calls, float('inf'))
    for __ in range(rounds):
        for name, call in calls.items():
            took = _batch(call, times[name])
            found[name] = min(found[name], 1e6 * took / times[name])
    return found


def bytecodes(call: Call, without: Collection[types.CodeType] = ()) -> int:
    """How many bytecodes a call executes.

    What is written in C counts as the one bytecode that calls it.

    :param call: a function; its own bytecodes do not count
    :param without: the code of functions that do not count either
    """
    code = getattr(call, '__code__', None)
    skipped = {*without, code}
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

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
