# SPDX-License-Identifier: Apache-2.0
"""A burst of simultaneous requests on threads."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import threading
import time

from benchmarks import cost
from benchmarks import report
from benchmarks import services

# The seconds that one thread needs to send a request, when all begin at the
# same time, and the longest useful delay of a response.
_TO_SEND = 0.004
_MOST_DELAY = 4.0


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one client.

    :param rate: successful requests per second, in the fastest round
    :param p99: the 99th percentile of the times of a request in that round, in
        milliseconds
    :param cpu: microseconds of CPU for each request in that round
    :param sent: requests to the client's server for each request, in all
        rounds
    :param connections: new connections in all rounds
    :param failed: failed requests in all rounds
    """

    rate: float
    p99: float
    cpu: float
    sent: float
    connections: int
    failed: int


class _Burst:
    """Threads that repeat a call and start at the same time."""

    def __init__(self, call: cost.Call) -> None:
        self._call = call
        self._times: list[float] = []
        self._errors: list[Exception] = []

    def _work(self, barrier: threading.Barrier, each: int) -> None:
        barrier.wait()
        for __ in range(each):
            begin = time.perf_counter()
            try:
                self._call()
            except Exception as exc:
                self._errors.append(exc)
            else:
                self._times.append(time.perf_counter() - begin)

    def run(self, at_once: int, each: int) -> Result:
        """Run it once; requests to the server are not counted."""
        self._times.clear()
        self._errors.clear()
        barrier = threading.Barrier(at_once + 1)
        threads = [
            threading.Thread(target=self._work, args=(barrier, each))
            for __ in range(at_once)
        ]
        for thread in threads:
            thread.start()
        barrier.wait()
        begin, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        cpu = time.process_time() - cpu
        if self._errors:
            report.progress(f'failed: {self._errors[:3]}')
        times = sorted(self._times)
        return Result(
            len(times) / seconds,
            1000 * times[len(times) * 99 // 100] if times else float('nan'),
            1e6 * cpu / (at_once * each),
            0.0,
            0,
            len(self._errors),
        )


def _open_connections(
    nearby: services.Services, burst: _Burst, at_once: int
) -> None:
    """Let each thread open a connection.

    All of them must have sent a request before the first response arrives.
    """
    delay = at_once * _TO_SEND
    while delay <= _MOST_DELAY:
        nearby.delay(delay)
        burst.run(at_once, 1)
        if nearby.counts().most >= at_once:
            return
        delay *= 2


def measure(
    nearby: services.Services,
    calls: Mapping[str, cost.Call],
    at_once: int,
    each: int,
    delay: float,
    rounds: int,
) -> dict[str, Result]:
    """Run a burst of each call; they take turns.

    :param calls: what sends one request to Nova, by name
    :param at_once: the number of threads
    :param each: the number of calls of each thread in a round
    :param delay: the seconds by which Nova delays a response
    """
    bursts = {name: _Burst(call) for name, call in calls.items()}
    for burst in bursts.values():
        _open_connections(nearby, burst, at_once)
    nearby.delay(delay)
    found: dict[str, list[Result]] = {name: [] for name in calls}
    for __ in range(rounds):
        for name, burst in bursts.items():
            before = nearby.counts()
            result = burst.run(at_once, each)
            counts = nearby.counts().since(before)
            found[name].append(
                dataclasses.replace(
                    result,
                    sent=counts.queries / (at_once * each),
                    connections=counts.connections,
                )
            )
    nearby.delay(0)
    return {
        name: dataclasses.replace(
            max(results, key=lambda result: result.rate),
            sent=sum(result.sent for result in results) / rounds,
            connections=sum(result.connections for result in results),
            failed=sum(result.failed for result in results),
        )
        for name, results in found.items()
    }
