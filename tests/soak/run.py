# SPDX-License-Identifier: Apache-2.0
"""A run on one server: Cinder under load, while Nova fails again and again.

The real Cinder with the guard runs on one of the servers that operators use.
Clients send requests of every kind, and Nova fails in one way after the other.
Each request is recorded where it enters the pipeline and where it leaves the
guard; at the end the records are compared with the requests and responses of
the clients, and memory, descriptors and threads with those of earlier.
"""

import collections
import dataclasses
import math
import pathlib
import statistics
import time
import typing
from typing import Any

import psutil

from tests.outage import cinder_servers
from tests.outage import faults
from tests.outage import faulty_server
from tests.outage import guarded_cloud
from tests.outage import process_usage
from tests.outage.process_usage import combine
from tests.outage.process_usage import Sample
from tests.outage.process_usage import Usage
from tests.soak import accounting
from tests.soak import load as clients_load
from tests.soak import recorder

_RULES = """# Replaced again and again.
"attachguard:service": "service_roles:service or role:service"
"""
_BROKEN_RULES = '"attachguard:service": "nova:nonsense"\n'

#: Options of the guard, in seconds.
NOVA_TIMEOUT = 3.0
BREAKER_SECONDS = 0.25
#: How long after a fault the guard may still respond as during it: the time of
#: a query, that of the circuit breaker, and some more for a slow machine.
SETTLING = NOVA_TIMEOUT + 16 * BREAKER_SECONDS + 1.0

FAULTS = {
    'refuse': faults.ALL['refuses'],
    'hang': faults.ALL['hangs-before-responding'],
    'reset': faults.ALL['resets-before-responding'],
    '503': faults.ALL['responds-503-retry-after-a-day'],
    'slow': faulty_server.Fault(delay=0.4),
    'drip': faults.ALL['drips-a-body'],
    'nonsense': faults.ALL['responds-200-with-garbage'],
}

#: Slower than the alert for slow decisions allows, within NOVA_TIMEOUT for the
#: two queries of one request; not in :func:`plan`, as it takes much time.
SLOWER = {'slower': faulty_server.Fault(delay=1.2)}

# So long that a query waits for its whole time.
_AT_LEAST = {'hang': NOVA_TIMEOUT + 0.5}
#: How much more two processes may use in the last quarter. A leak of 1 KiB in
#: each of 20 requests a second is 18 MiB in the 15 minutes between the
#: quarters, while the memory that the allocator keeps varies by some MiB.
#: Descriptors and
#: threads are those of pools, which are full by then: one that leaks in each
#: phase would be some 40.
LONG = Usage(megabytes=12, descriptors=12, sockets=math.inf, threads=12)
#: The same for a short run, during which pools and caches still fill.
SHORT = Usage(megabytes=150, descriptors=60, sockets=math.inf, threads=60)
#: From this duration on, in seconds, a run is long.
LONG_RUN = 300.0


class Phase(typing.NamedTuple):
    """A time during which Nova works, or fails in one way.

    :param fault: of :data:`FAULTS` or :data:`SLOWER`; None where Nova works
    """

    fault: str | None
    seconds: float


def plan(seconds: float = 0.0, each: float = 0.5) -> list[Phase]:
    """Plan rounds of all the faults; Nova works at their begin and their end.

    :param seconds: the duration of the run; at least one round
    :param each: of a fault, in seconds; at least as long as a query waits
        where Nova hangs
    """
    one = [
        Phase(None, 2.0),
        *(
            Phase(fault, max(each, _AT_LEAST.get(fault, 0)))
            for fault in FAULTS
        ),
        Phase(None, SETTLING + 2.0 + each),
    ]
    return one * max(1, int(seconds / sum(phase.seconds for phase in one)))


def _pass_through(nova: faulty_server.FaultyServer, phase: Phase) -> int:
    """Let Nova work or fail for the time of a phase.

    However slow the machine, each fault lasts until a query has met it;
    connections that are refused are not seen.

    :returns: number of queries meanwhile
    """
    before = nova.requests
    end = time.monotonic() + phase.seconds
    if phase.fault is None:
        nova.recover()
    else:
        nova.fail({**FAULTS, **SLOWER}[phase.fault])
    while time.monotonic() < end or (
        phase.fault not in (None, 'refuse')
        and nova.requests == before
        and time.monotonic() < end + 20.0
    ):
        time.sleep(0.05)
    return nova.requests - before


@dataclasses.dataclass
class Result:
    """The result of a run.

    :param queries: number of queries that met each fault
    :param findings: what is wrong with single requests
    :param wrong: what else is wrong, in words
    """

    server: str
    seconds: float
    sent: list[accounting.Sent]
    queries: collections.Counter[str | None]
    samples: list[Sample]
    findings: list[accounting.Finding]
    wrong: list[str]

    @property
    def is_clean(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings and not self.wrong

    def __str__(self) -> str:
        outcomes = collections.Counter(
            f'{one.kind.name}: {one.outcome} {one.response.status}'
            for one in self.sent
        )
        slowest = max(one.response.seconds for one in self.sent)
        lines = [
            f'{self.server}: {len(self.sent)} requests in {self.seconds:.0f} '
            f's, the slowest took {slowest:.1f} s',
            *(f'{count:6} {what}' for what, count in sorted(outcomes.items())),
        ]
        lines.append(f'Queries to Nova by fault: {dict(self.queries)}')
        for quarter in 1, 3:
            usage = self.samples and median(self.samples, quarter)
            lines.append(f'Usage in quarter {quarter + 1}: {usage}')
        counts = collections.Counter(each.wrong for each in self.findings)
        wrong = [
            *(f'{count} requests: {what}' for what, count in counts.items()),
            *map(str, self.findings[:20]),
            *self.wrong[:20],
        ]
        return '\n'.join([*lines, *(f'WRONG: {what}' for what in wrong)])


def _write_rules(path: pathlib.Path, times: int) -> None:
    """Replace the policy file; each fourth is broken, and not used."""
    rules = _BROKEN_RULES if times % 4 == 3 else _RULES
    partial = path.with_suffix('.partial')
    partial.write_text(f'{rules}# {times}\n')
    partial.rename(path)


def soak(
    server: str,
    directory: pathlib.Path,
    planned: list[Phase],
    rate: float,
    *,
    guard: bool = True,
    database: str | None = None,
    calm: bool = False,
    **options: Any,
) -> Result:
    """Run on one server.

    :param server: of :data:`tests.outage.cinder_servers.SHAPES`
    :param directory: an empty one, for what it writes
    :param planned: when Nova fails, and how
    :param rate: requests in a second
    :param guard: False to remove the guard from the pipeline
    :param database: SQLAlchemy's URL of a database; SQLite by default
    :param calm: True if nobody attacks
    :param options: more options of the guard
    :raises attachguard.testing.embedded.CinderNotStarted: the server did not
        start
    """
    records = directory / 'records'
    records.touch()
    rules = directory / 'policy.yaml'
    _write_rules(rules, 0)
    starting = guarded_cloud.start(
        directory,
        server,
        paste_ini=guarded_cloud.write_paste_ini(
            directory / 'api-paste.ini',
            lambda ini: recorder.add_recorders(ini, records, guard=guard),
        ),
        cinder_options={
            # A pool that still grows would look like a leak.
            'DEFAULT': {'executor_thread_pool_size': 8},
            'database': {'connection': database} if database else {},
        },
        nova_timeout=NOVA_TIMEOUT,
        settle=0,
        nova_breaker_seconds=BREAKER_SECONDS,
        policy_file=rules,
        **options,
    )
    queries: collections.Counter[str | None] = collections.Counter()
    with starting as cloud:

        def works_since() -> float | None:
            since = cloud.nova.healthy_since
            if since is None or since + SETTLING > time.monotonic():
                return None
            return since

        load = clients_load.Load(cloud, works_since, rate, calm=calm)
        began = time.monotonic()
        with process_usage.monitoring(
            cloud.cinder.processes, 0.5, lambda: works_since() is not None
        ) as samples:
            try:
                load.start()
                for times, phase in enumerate(planned, 1):
                    _write_rules(rules, times)
                    # Shown by pytest -s.
                    print(
                        f'{server}: {time.monotonic() - began:.0f} s, '
                        f'{len(load.sent)} requests, {len(load.failures)} '
                        f'failures; next fault of Nova: {phase.fault}',
                        flush=True,
                    )
                    queries[phase.fault] += _pass_through(cloud.nova, phase)
            finally:
                load.stop()
        seconds = time.monotonic() - began
        # A request that was sent twice may still be under way.
        time.sleep(0.5)
        # Before the next requests, which are in no list of sent ones.
        seen = recorder.read(records)
        seen += recorder.read_decisions(cloud.cinder.log)
        leftovers = [f'left behind: {what}' for what in load.leftovers()]
        processes = cloud.cinder.processes()
    _gone, alive = psutil.wait_procs(processes, timeout=10)
    return Result(
        server,
        seconds,
        load.sent,
        queries,
        samples,
        accounting.audit(load.sent, seen),
        [
            *load.failures,
            *leftovers,
            *(f'left behind: {process}' for process in alive),
            *check_growth(samples, _tolerance(server, seconds)),
        ],
    )


def _tolerance(server: str, seconds: float) -> Usage:
    more_processes = max(1, cinder_servers.SHAPES[server].processes / 2)
    limit = LONG if seconds >= LONG_RUN else SHORT
    return Usage(*(more_processes * value for value in limit))


def median(samples: list[Sample], quarter: int) -> Usage | None:
    """The usage in a quarter of a run, while Nova worked.

    :param quarter: 0 to 3
    :returns: None where Nova never worked in this quarter
    """
    end = samples[-1].at
    usages = [
        sample.usage
        for sample in samples
        if sample.calm and min(3, int(4 * sample.at / end)) == quarter
    ]
    return combine(statistics.median, usages) if usages else None


def check_growth(samples: list[Sample], tolerance: Usage) -> list[str]:
    """Compare the last quarter of a run with the second, while Nova works.

    Pools and caches fill in the first quarter, and what a fault occupies is
    released when it is over.

    :returns: what is wrong, in words
    """
    if not samples:
        return ['the server was never measured']
    wrong = []
    if len({sample.pids for sample in samples}) > 1:
        wrong.append('processes of the server ended or began')
    # In the second quarter of a short run Nova may never have worked.
    before = median(samples, 1) or median(samples, 0)
    after = median(samples, 3)
    if before is None or after is None:
        return [*wrong, 'Nova did not work at the begin or at the end']
    return wrong + after.above(combine(sum, [before, tolerance]))
