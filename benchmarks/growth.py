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
"""How the cost of guarded requests grows.

``python -m benchmarks.growth`` sends guarded requests: by ever more at once,
with a Nova that is ever slower, with an ever longer catalog, and to ever more
processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import psutil

from benchmarks import asking
from benchmarks import cost
from benchmarks import crowd
from benchmarks import guarded
from benchmarks import neighbours
from benchmarks import report
from benchmarks import worker

_ROOT = pathlib.Path(__file__).parents[1]

_AT_ONCE = (1, 4, 16, 64, 128, 256)
_DELAYS = (0.0, 0.02, 0.1, 0.5, 1.0, 2.0)
_PROCESSES = (1, 2, 3, 4)
_DELAY = 0.02
# Of one address each; a cloud of five regions has a hundred soon.
_SERVICES = (0, 20, 100)

# For each process, and Nova's time that keeps two processors idle enough for
# four of them and whoever asks them.
_THREADS = 4
_SLOW = 0.1

# How much more CPU a request may take where there are more of them, or where
# Nova is slower. What is measured here is some milliseconds of each, among
# others' work.
MOST_GROWTH = 2.5
# How much of the rate each more process must add.
LEAST_SCALING = 0.8


@dataclasses.dataclass(frozen=True)
class Served:
    """What came of asking some processes.

    :param rate: requests answered per second
    :param cpu: microseconds of the processes' CPU for each
    :param asked: requests to Nova for each
    :param connections: to Nova, of all processes
    """

    processes: int
    rate: float
    cpu: float
    asked: float
    connections: int


@contextlib.contextmanager
def _serving(
    nearby: neighbours.Neighbours, processes: int
) -> Iterator[tuple[str, psutil.Process]]:
    """Serve a guard from processes behind one socket."""
    with tempfile.TemporaryDirectory() as directory:
        path = f'{directory}/socket'
        with subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                *('-m', 'gunicorn', '--log-level', 'warning'),
                *('--bind', f'unix:{path}'),
                *('--workers', str(processes)),
                *('--threads', str(_THREADS)),
                # None takes what another one could begin with at once.
                *('--worker-connections', str(_THREADS)),
                'benchmarks.worker:make()',
            ],
            cwd=_ROOT,
            env={**os.environ, worker.NEARBY: nearby.to_json()},
        ) as gunicorn:
            try:
                yield path, psutil.Process(gunicorn.pid)
            finally:
                gunicorn.terminate()


class _Client:
    """Sends guarded requests, each on a connection of its own."""

    def __init__(self, path: str, token: str) -> None:
        self._path = path
        self._token = token
        self.answered = 0
        self.failed: list[str] = []

    def send(self) -> str:
        """One request.

        :returns: the answer's first line
        """
        path, body = guarded.attach(guarded.new_id(), guarded.new_id())
        head = (
            f'POST /v3/{guarded.PROJECT}{path} HTTP/1.1\r\n'
            'Host: cinder\r\nConnection: close\r\n'
            f'X-Auth-Token: {self._token}\r\n'
            'OpenStack-API-Version: volume 3.44\r\n'
            'Content-Type: application/json\r\n'
            f'Content-Length: {len(body)}\r\n\r\n'
        )
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._path)
            connection.sendall(head.encode() + body)
            answer = b''
            while data := connection.recv(4096):
                answer += data
        return answer.partition(b'\r\n')[0].decode()

    def _keep_on(self, until: float) -> None:
        while time.monotonic() < until:
            answer = self.send()
            if ' 202 ' not in answer:
                self.failed.append(answer)
                return
            # Of an int it is not atomic, but there is one for each thread.
            self.answered += 1

    @classmethod
    def keep_on(
        cls, path: str, token: str, at_once: int, seconds: float
    ) -> int:
        """Send requests for a while, so many at once.

        :returns: how many were answered
        :raises RuntimeError: one did not pass
        """
        clients = [cls(path, token) for __ in range(at_once)]
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=client._keep_on, args=(until,))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            if client.failed:
                raise RuntimeError(client.failed[0])
        return sum(client.answered for client in clients)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(it.user + it.system for it in times))


def _by_processes(
    nearby: neighbours.Neighbours, token: str, count: int, seconds: float
) -> Served:
    before = nearby.counts()
    with _serving(nearby, count) as (path, master):
        client = _Client(path, token)
        give_up = time.monotonic() + 60
        while True:
            try:
                client.send()
                break
            except OSError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)
        at_once = count * _THREADS
        # Until each has the token, its credentials and its connections.
        nearby.delay(_SLOW)
        _Client.keep_on(path, token, 2 * at_once, 1 + seconds / 4)
        workers = master.children()
        warm, cpu, begin = nearby.counts(), _cpu(workers), time.monotonic()
        answered = _Client.keep_on(path, token, at_once, seconds)
        took = time.monotonic() - begin
        after = nearby.counts()
        cpu = _cpu(workers) - cpu
    return Served(
        count,
        answered / took,
        1e6 * cpu / answered,
        after.since(warm).questions / answered,
        after.since(before).connections,
    )


def _by_catalog(
    nearby: neighbours.Neighbours, services: int, rounds: int, seconds: float
) -> dict[str, float]:
    """What a guarded request takes, and those who ask have a longer catalog.

    :returns: microseconds of CPU, by whose token Nova is asked with
    """
    nearby.add_services(services)
    # They have it with their tokens.
    people = guarded.People(nearby)
    return cost.least(
        {
            name: asking.Asking(guarded.guard(**options), people).call()
            for name, options in (
                ('credentials', guarded.with_credentials(nearby)),
                ('caller', guarded.as_caller()),
            )
        },
        rounds,
        seconds,
    )


def measure(quick: bool = False) -> report.Report:
    """Measure all of it.

    :param quick: whether to see only that it runs
    """

    def job(at_once: int, delay: float) -> crowd.Job:
        # For a second and a half or so: some 500 of them are done in one.
        each = max(2, 800 // at_once)
        if delay:
            each = min(each, max(2, int(1.5 / delay)))
        return crowd.Job(
            (crowd.GUARD,), at_once, 2 if quick else each, delay, rounds=2
        )

    at_once = _AT_ONCE[:2] if quick else _AT_ONCE
    delays = _DELAYS[:2] if quick else _DELAYS
    processes = _PROCESSES[:2] if quick else _PROCESSES
    guarded.log_like_cinder()
    with neighbours.served() as nearby:
        crowds = {
            on: crowd.gather(
                nearby, on, [job(count, _DELAY) for count in at_once]
            )
            for on in (crowd.THREADS, crowd.GREENTHREADS)
        }
        slow = crowd.gather(
            nearby, crowd.THREADS, [job(64, delay) for delay in delays]
        )
        nearby.delay(0)
        catalogs = {
            str(count): _by_catalog(
                nearby, count, 1 if quick else 10, 0.01 if quick else 0.1
            )
            for count in _SERVICES
        }
        token = guarded.People(nearby).token('member')
        served = [
            _by_processes(nearby, token, count, 0.5 if quick else 5)
            for count in processes
        ]
    return _report(crowds, slow, served, catalogs)


def _report(
    crowds: Mapping[str, Sequence[crowd.Turn]],
    slow: Sequence[crowd.Turn],
    served: Sequence[Served],
    catalogs: Mapping[str, Mapping[str, float]],
) -> report.Report:
    results: dict[str, Any] = {
        'at_once': {
            on: [dataclasses.asdict(turn) for turn in turns]
            for on, turns in crowds.items()
        },
        'slow': [dataclasses.asdict(turn) for turn in slow],
        'processes': [dataclasses.asdict(it) for it in served],
        'catalogs': {name: dict(took) for name, took in catalogs.items()},
    }
    head = (
        'per second',
        'half, ms',
        '99%, ms',
        'CPU µs',
        'to Nova',
        'new connections',
        'failed',
    )
    tables = [
        report.Table(
            f'With more requests at once, on {on}',
            ('at once', *head),
            [(str(turn.at_once), *_cells(turn)) for turn in turns],
            f'Nova takes {1000 * _DELAY:.0f} ms, and as many questions may '
            'be under way as there are requests (nova_max_concurrency).',
        )
        for on, turns in crowds.items()
    ]
    tables += [
        report.Table(
            'With a slower Nova, for 64 requests at once on threads',
            ('Nova takes, ms', *head),
            [(f'{1000 * turn.delay:.0f}', *_cells(turn)) for turn in slow],
        ),
        report.Table(
            'With a longer catalog',
            (
                'other services in it',
                'with credentials, CPU µs',
                'as the caller, CPU µs',
            ),
            [
                (
                    name,
                    f'{took["credentials"]:,.0f}',
                    f'{took["caller"]:,.0f}',
                )
                for name, took in catalogs.items()
            ],
            'The catalog is in the token: where Nova is has to be found in '
            "each caller's. Each service has one endpoint here.",
        ),
        report.Table(
            'With more processes',
            (
                'processes',
                'per second',
                'of one',
                'CPU µs',
                'to Nova',
                'connections',
            ),
            [
                (
                    str(it.processes),
                    f'{it.rate:,.0f}',
                    f'{it.rate / served[0].rate:.2f}',
                    f'{it.cpu:,.0f}',
                    f'{it.asked:.2f}',
                    str(it.connections),
                )
                for it in served
            ],
            f"gunicorn's, of {_THREADS} threads each, behind one socket, with "
            'auth_token before the guard, over HTTP; '
            f'Nova takes {1000 * _SLOW:.0f} ms, and for each thread there is '
            'one client that asks on and on. Connections are those to Nova '
            'from the start, of all the processes.',
        ),
    ]
    return report.Report(
        results,
        tables,
        _bounds(crowds, slow, served),
        ('eventlet', 'gunicorn', 'python-novaclient', 'urllib3'),
    )


def _cells(turn: crowd.Turn) -> tuple[str, ...]:
    return (
        f'{turn.rate:,.0f}',
        f'{turn.half:,.0f}',
        f'{turn.p99:,.0f}',
        f'{turn.cpu:,.0f}',
        f'{turn.asked:.2f}',
        str(turn.connections),
        str(turn.failed),
    )


def _bounds(
    crowds: Mapping[str, Sequence[crowd.Turn]],
    slow: Sequence[crowd.Turn],
    served: Sequence[Served],
) -> list[report.Bound]:
    turns = [turn for of in crowds.values() for turn in of] + [*slow]
    first, last = served[0], served[-1]
    return [
        report.Bound(
            'requests to Nova for a question, at most',
            max([it.asked for it in turns] + [it.asked for it in served]),
            1,
        ),
        report.Bound(
            'new connections, once all have asked',
            max(turn.connections for turn in turns),
            0,
        ),
        report.Bound('not answered', sum(turn.failed for turn in turns), 0),
        *(
            report.Bound(
                f'{of[-1].at_once} at once, {on}: CPU / that of {few.at_once}',
                of[-1].cpu / few.cpu,
                MOST_GROWTH,
            )
            for on, of in crowds.items()
            for few in of[:1]
        ),
        report.Bound(
            f'Nova taking {slow[-1].delay:g} s: CPU / that of none',
            slow[-1].cpu / slow[0].cpu,
            MOST_GROWTH,
        ),
        report.Bound(
            f'{last.processes} processes: requests per second / as many '
            'times one',
            last.rate / first.rate / last.processes,
            least=LEAST_SCALING,
        ),
        report.Bound(
            f'{last.processes} processes: connections to Nova',
            last.connections,
            last.processes * _THREADS,
        ),
    ]


if __name__ == '__main__':
    sys.exit(report.main('growth', __doc__, measure))
