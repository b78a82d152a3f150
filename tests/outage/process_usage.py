# SPDX-License-Identifier: Apache-2.0
"""What processes use of memory, threads and connections, over time."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import math
import time
import typing

import psutil

from tests.outage import background

_MIB = 1024 * 1024


class Usage(typing.NamedTuple):
    """What processes use together.

    :param megabytes: resident memory
    :param descriptors: open files and sockets
    :param sockets: TCP sockets
    :param threads: of the kernel; greenthreads are not among them
    """

    megabytes: float
    descriptors: float
    sockets: float
    threads: float

    def plus(self, **more: float) -> typing.Self:
        """Make a limit.

        :param more: what may be used more, by name; a number that is not
            named is not limited
        """
        return self._replace(
            **{
                name: getattr(self, name) + more.get(name, math.inf)
                for name in self._fields
            }
        )

    def above(self, limit: typing.Self) -> list[str]:
        """Compare with a limit.

        :returns: what is above the limit, in words
        """
        return [
            f'{name} is {value:.0f}, above {highest:.0f}'
            for name, value, highest in zip(
                self._fields, self, limit, strict=True
            )
            if value > highest
        ]


def combine(
    function: Callable[[tuple[float, ...]], float], usages: list[Usage]
) -> Usage:
    """Combine several measurements into one.

    :param function: combines all values of one number, like ``max``
    """
    return Usage(*map(function, zip(*usages, strict=True)))


def measure(*processes: psutil.Process) -> Usage:
    """Measure what processes use.

    :raises psutil.NoSuchProcess: one of them has ended
    """
    return combine(
        sum,
        [
            Usage(
                process.memory_info().rss / _MIB,
                process.num_fds(),
                # A socket that its peer has reset is not among them; it is
                # only memory until it is collected.
                len(process.net_connections('tcp')),
                process.num_threads(),
            )
            for process in processes
        ],
    )


class Sample(typing.NamedTuple):
    """What was used at a moment.

    :param at: seconds since the first measurement
    :param calm: whether Nova had no fault
    """

    at: float
    calm: bool
    pids: frozenset[int]
    usage: Usage


@contextlib.contextmanager
def monitoring(
    processes: Callable[[], list[psutil.Process]],
    interval: float,
    is_calm: Callable[[], bool] = lambda: True,
) -> Iterator[list[Sample]]:
    """Measure processes again and again while the context is open.

    :param processes: returns the processes
    :param interval: seconds between two measurements
    :param is_calm: returns whether Nova has no fault
    :returns: the list to which the samples are added
    """
    samples: list[Sample] = []
    began = time.monotonic()

    def sample() -> None:
        calm = is_calm()
        try:
            current = processes()
            usage = measure(*current)
        except psutil.NoSuchProcess:
            # The next measurement finds the processes that there are then.
            return
        pids = frozenset(process.pid for process in current)
        at = time.monotonic() - began
        samples.append(Sample(at, calm and is_calm(), pids, usage))

    sample()
    with background.repeating(sample, interval):
        yield samples


def highest(samples: list[Sample]) -> Usage:
    """The highest value of each number."""
    return combine(max, [sample.usage for sample in samples])
