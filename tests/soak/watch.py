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
"""What a server's processes take: memory, descriptors, threads.

"No growth" is said of the calm phases: the last quarter of a run against its
second. The first is for pools and caches to fill, and what a fault ties up is
given back when it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import statistics
import threading
import time
import types
import typing

import psutil

_EVERY = 0.5
_MIB = 1024 * 1024


class Usage(typing.NamedTuple):
    """What all processes of a server take together."""

    rss: float
    fds: float
    threads: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a server took at some moment.

    :param at: seconds since the run began
    :param calm: whether nothing went wrong then
    """

    at: float
    calm: bool
    pids: frozenset[int]
    usage: Usage


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """By how much the calm of the last quarter may exceed the second's.

    :param rss_share: of the memory
    :param rss_mib: or so much, if that is more
    """

    rss_share: float
    rss_mib: float
    fds: int
    threads: int


#: A leak of 1 KiB in each of 20 requests a second is 18 MiB in the 15 minutes
#: from the middle of the one quarter to that of the other. Freed memory that
#: the allocator keeps wanders by some MiB. Descriptors and threads are those
#: of pools, which are full by then but for a rare crowd: one leaked in each
#: phase would be some 40.
LONG = Tolerance(rss_share=0.04, rss_mib=12, fds=12, threads=12)
#: Pools and caches still fill: only what runs away is found.
SHORT = Tolerance(rss_share=0.5, rss_mib=100, fds=60, threads=400)


def measure(processes: Iterable[psutil.Process]) -> Usage:
    """What processes take together.

    :raises psutil.NoSuchProcess: one has ended
    """
    rss = fds = threads = 0
    for process in processes:
        with process.oneshot():
            rss += process.memory_info().rss
            fds += process.num_fds()
            threads += process.num_threads()
    return Usage(rss, fds, threads)


class Watch:
    """Looks at a server twice a second while the context is open.

    :param processes: tells its processes
    :param is_calm: tells whether nothing goes wrong
    """

    def __init__(
        self,
        processes: Callable[[], list[psutil.Process]],
        is_calm: Callable[[], bool],
    ) -> None:
        self._processes = processes
        self._is_calm = is_calm
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name='watch')
        self.samples: list[Sample] = []

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(_EVERY):
            calm = self._is_calm()
            try:
                processes = self._processes()
                usage = measure(processes)
            except psutil.NoSuchProcess:
                # Seen by the next look, which has other processes.
                continue
            pids = frozenset(process.pid for process in processes)
            self.samples.append(
                Sample(
                    time.monotonic() - began,
                    calm and self._is_calm(),
                    pids,
                    usage,
                )
            )


def median(samples: list[Sample], quarter: int) -> Usage | None:
    """What was taken in the calm phases of a quarter.

    :param quarter: 0 to 3
    :returns: None where it has no calm
    """
    end = samples[-1].at
    chosen = [
        sample.usage
        for sample in samples
        if sample.calm and min(3, int(4 * sample.at / end)) == quarter
    ]
    if not chosen:
        return None
    return Usage(*map(statistics.median, zip(*chosen, strict=True)))


def judge(samples: list[Sample], tolerance: Tolerance) -> list[str]:
    """What has grown, or ended.

    :returns: what is wrong, in words; empty where nothing is
    """
    if not samples:
        return ['the server was never seen']
    wrong = []
    if len({sample.pids for sample in samples}) > 1:
        wrong.append('processes of the server ended or began')
    # A short run may have no calm in the second.
    before = median(samples, 1) or median(samples, 0)
    after = median(samples, 3)
    if before is None or after is None:
        return [*wrong, 'no calm to compare']
    limits = Usage(
        before.rss
        + max(tolerance.rss_share * before.rss, tolerance.rss_mib * _MIB),
        before.fds + tolerance.fds,
        before.threads + tolerance.threads,
    )
    for name, was, is_, limit in zip(
        Usage._fields, before, after, limits, strict=True
    ):
        if is_ > limit:
            wrong.append(
                f'{name} grew from {was:.0f} to {is_:.0f}, beyond {limit:.0f}'
            )
    return wrong
