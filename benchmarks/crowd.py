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
"""Many who ask at once, on threads or on greenthreads.

Greenthreads are for a whole process, and have to come before anything else is
imported: so each crowd is a process of its own, which is told what to do on
its standard input, and says what came of it on its standard output.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from benchmarks import cost
    from benchmarks import neighbours

_ROOT = pathlib.Path(__file__).parents[1]

THREADS = 'threads'
GREENTHREADS = 'greenthreads'

#: Who can ask: a guard with a whole request, its part that asks Nova, and
#: clients that do nothing else.
GUARD = 'guard'
LOOKUP = 'lookup'
KEYSTONEAUTH = 'keystoneauth'

# How long each of a crowd takes to ask, when they all begin at once; it takes
# longer where others use the machine, too. And what Nova may take at most, or
# whoever asks gives up.
_TO_ASK = 0.004
_MOST_DELAY = 4.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What a crowd is to do.

    :param who: they take turns
    :param at_once: how many ask at the same time
    :param each: how often each of them asks in a turn
    :param delay: seconds that Nova takes
    :param rounds: how many turns
    """

    who: Sequence[str]
    at_once: int
    each: int
    delay: float
    rounds: int = 1


@dataclasses.dataclass(frozen=True)
class Turn:
    """What came of a turn: the one of them all with the highest rate.

    :param rate: questions answered per second
    :param half: the time that half of them took at most, in milliseconds
    :param p99: likewise of 99 of 100
    :param cpu: microseconds of CPU for each
    :param asked: requests to Nova for each, over all the turns
    :param connections: new ones to Nova, over all the turns
    :param failed: questions without an answer, over all the turns
    """

    who: str
    at_once: int
    delay: float
    rate: float
    half: float
    p99: float
    cpu: float
    asked: float
    connections: int
    failed: int


def gather(
    nearby: neighbours.Neighbours, on: str, jobs: Sequence[Job]
) -> list[Turn]:
    """Have a crowd ask.

    :param nearby: whom they ask
    :param on: :data:`THREADS` or :data:`GREENTHREADS`
    :returns: a turn for each of a job's ``who``, job by job
    """
    told = {
        'nearby': json.loads(nearby.to_json()),
        'jobs': [dataclasses.asdict(job) for job in jobs],
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, '-m', 'benchmarks.crowd', on],
        input=json.dumps(told),
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
        check=True,
    )
    return [Turn(**turn) for turn in json.loads(done.stdout)]


def _asker(nearby: neighbours.Neighbours, who: str, at_once: int) -> cost.Call:
    # Not before the monkey patching.
    from benchmarks import guarded

    if who == KEYSTONEAUTH:
        return _keystoneauth(nearby, at_once)
    guard = guarded.guard(
        nova_max_concurrency=at_once, **guarded.with_credentials(nearby)
    )
    if who == LOOKUP:
        return lambda: guard.nova.attached(
            None, guarded.new_id(), guarded.new_id()
        )
    path, body = guarded.attach(guarded.new_id(), guarded.new_id())
    environ = guarded.People(nearby).authenticated('POST', path, body)

    def send() -> None:
        # Another question each time, for equal ones may share an answer.
        path, body = guarded.attach(guarded.new_id(), guarded.new_id())
        path = f'/{guarded.PROJECT}{path}'
        guarded.send(guard, {**environ, 'PATH_INFO': path}, body)

    return send


def _keystoneauth(nearby: neighbours.Neighbours, at_once: int) -> cost.Call:
    from keystoneauth1 import session as ksa_session

    from benchmarks import guarded
    from benchmarks import neighbours

    session = ksa_session.Session(auth=nearby.auth())
    session.session.mount(
        'http://', ksa_session.TCPKeepAliveAdapter(pool_maxsize=at_once)
    )

    def ask() -> object:
        answer = session.get(
            neighbours.question(guarded.new_id(), guarded.new_id()),
            endpoint_filter={'service_type': 'compute'},
            headers={'OpenStack-API-Version': 'compute 2.1'},
        )
        return answer.json()['volumeAttachment']

    return ask


class _Crowd:
    """Threads that do the same at the same time."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._times: list[float] = []
        self.failed: list[Exception] = []

    def _work(self, barrier: threading.Barrier, each: int) -> None:
        barrier.wait()
        for __ in range(each):
            begin = time.perf_counter()
            try:
                self._ask()
            except Exception as exc:
                self.failed.append(exc)
            else:
                # Of a list it is atomic.
                self._times.append(time.perf_counter() - begin)

    def burst(self, at_once: int, each: int) -> tuple[float, float]:
        """Ask.

        :returns: seconds, and seconds of CPU
        """
        self._times.clear()
        self.failed.clear()
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
        took = time.perf_counter() - begin
        cpu = time.process_time() - cpu
        if self.failed:
            kinds = collections.Counter(map(repr, self.failed))
            print(f'not answered: {kinds.most_common(3)}', file=sys.stderr)
        return took, cpu

    def percentile(self, percent: float) -> float:
        """Of the times of the last burst, in milliseconds."""
        times = sorted(self._times)
        if not times:
            return float('nan')
        return 1000 * times[int(percent / 100 * (len(times) - 1))]


def _warm_up(
    nearby: neighbours.Neighbours, crowd: _Crowd, at_once: int, delay: float
) -> None:
    """Have each of a crowd open its connection.

    For that, all must have asked before the first has its answer.
    """
    delay = max(delay, at_once * _TO_ASK)
    while delay <= _MOST_DELAY:
        nearby.delay(delay)
        crowd.burst(at_once, 1)
        if nearby.counts().most >= at_once:
            return
        delay *= 2


def _do(nearby: neighbours.Neighbours, job: Job) -> list[Turn]:
    crowds = {who: _Crowd(_asker(nearby, who, job.at_once)) for who in job.who}
    for crowd in crowds.values():
        _warm_up(nearby, crowd, job.at_once, job.delay)
    nearby.delay(job.delay)
    turns: dict[str, list[Turn]] = {who: [] for who in job.who}
    asked = job.at_once * job.each
    for __ in range(job.rounds):
        for who, crowd in crowds.items():
            before = nearby.counts()
            took, cpu = crowd.burst(job.at_once, job.each)
            counts = nearby.counts().since(before)
            turns[who].append(
                Turn(
                    who,
                    job.at_once,
                    job.delay,
                    (asked - len(crowd.failed)) / took,
                    crowd.percentile(50),
                    crowd.percentile(99),
                    1e6 * cpu / asked,
                    counts.questions / asked,
                    counts.connections,
                    len(crowd.failed),
                )
            )
    return [
        dataclasses.replace(
            max(of, key=lambda turn: turn.rate),
            asked=sum(turn.asked for turn in of) / len(of),
            connections=sum(turn.connections for turn in of),
            failed=sum(turn.failed for turn in of),
        )
        for of in turns.values()
    ]


def main() -> None:
    """Do what standard input says."""
    if sys.argv[1] == GREENTHREADS:
        import eventlet

        eventlet.monkey_patch()
    from benchmarks import guarded
    from benchmarks import neighbours

    guarded.log_like_cinder()
    told = json.load(sys.stdin)
    nearby = neighbours.Neighbours(**told['nearby'])
    turns = [turn for job in told['jobs'] for turn in _do(nearby, Job(**job))]
    json.dump([dataclasses.asdict(turn) for turn in turns], sys.stdout)


if __name__ == '__main__':
    main()
