# SPDX-License-Identifier: Apache-2.0
"""What an audit of a whole cloud costs, beside reading the cloud's lists.

A process serves a cloud (:mod:`benchmarks.cloud`). A plain reader
(:mod:`benchmarks.plain_reading`) and ``attachguard audit`` read it in turn.
Each run of the audit has to find all that is inconsistent, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any
import urllib.request

from benchmarks import report
from benchmarks import services

_ROOT = pathlib.Path(__file__).parents[1]

#: The bounds, for the largest cloud.
MOST_RATIO = 1.5
MOST_MEGABYTES = 400
#: The requests beyond the pages, without those for each suspect: to log in, to
#: discover the services and their versions, and to list the compute hosts.
MOST_FIXED_REQUESTS = 20
#: To confirm a suspect, and to find out what repairs it.
MOST_REQUESTS = 2
#: The growth of the CPU time, divided by the growth of the cloud.
MOST_GROWTH = 1.15

# The exit codes of a successful audit: findings, or none that is confirmed.
_DONE = (3, 0)

_FOREIGN = 'foreign'
_MODULE = (sys.executable, '-m')

# A finding: class, volume, attachment and server.
_Key = tuple[str, str, str | None, str | None]


class Failed(Exception):
    """A run that cannot be compared."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one run of a program, or the best of several.

    :param cpu: seconds of user and system time
    :param wall: seconds
    :param peak: the highest memory usage in megabytes
    :param pages: requests for pages of lists
    :param beyond: all other requests
    """

    cpu: float
    wall: float
    peak: float
    pages: int
    beyond: int


def best(costs: Sequence[Cost]) -> Cost:
    """The lowest times, and the highest of all other values.

    Other load on the machine only adds time.
    """
    return Cost(
        min(cost.cpu for cost in costs),
        min(cost.wall for cost in costs),
        max(cost.peak for cost in costs),
        max(cost.pages for cost in costs),
        max(cost.beyond for cost in costs),
    )


@dataclasses.dataclass(frozen=True)
class Result:
    """The costs for a cloud of one size.

    :param suspects: the number of volumes with a finding
    :param reading: the plain reader's cost
    :param audit: the audit's cost
    """

    volumes: int
    servers: int
    suspects: int
    reading: Cost
    audit: Cost


class Cloud:
    """A cloud that another process serves.

    :param url: the address of its counts
    :param environment: the variables to log in with
    """

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self._url = url
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith('OS_')
        }
        programs = pathlib.Path(sys.executable).parent
        self._environment |= {
            **environment,
            # The attachguard of this environment and this checkout.
            'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': str(_ROOT),
            'no_proxy': '127.0.0.1',
        }

    def get(self, path: str) -> Any:
        """Get ``/counts`` or ``/planted``."""
        with urllib.request.urlopen(self._url + path) as response:  # noqa: S310
            return json.load(response)

    def run(
        self, command: Sequence[str], codes: Sequence[int]
    ) -> tuple[Cost, str]:
        """Run a program, and measure it.

        :param codes: the exit codes of success
        :returns: the cost, and the standard output
        :raises Failed: another exit code
        """
        before = self.get('/counts')
        with tempfile.TemporaryFile('w+') as output:
            begin = time.monotonic()
            process = subprocess.Popen(  # noqa: S603
                command, stdout=output, env=self._environment, cwd=_ROOT
            )
            __, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            printed = output.read()
        if process.returncode not in codes:
            raise Failed(f'{command} exited with {process.returncode}')
        after = self.get('/counts')
        cost = Cost(
            usage.ru_utime + usage.ru_stime,
            wall,
            usage.ru_maxrss / 1024,
            after['pages'] - before['pages'],
            after['beyond'] - before['beyond'],
        )
        return cost, printed


@contextlib.contextmanager
def serving(pairs: int, suspects: int) -> Iterator[Cloud]:
    """Serve a cloud until the block is left.

    :raises OSError: it does not start
    """
    arguments = (str(pairs), str(suspects))
    with services.running('benchmarks.cloud', *arguments) as started:
        yield Cloud(**started)


def compare(printed: str, planted: set[_Key]) -> None:
    """Compare the findings of an audit with those that were planted.

    :param printed: the audit's output, as JSON
    :raises Failed: they differ
    """
    found = {
        (
            # The foreign attachments are listed without a class.
            row.get('Class', _FOREIGN),
            row['Volume'],
            row['Attachment'],
            row['Server'],
        )
        for row in json.loads(printed)
    }
    wrong = [f'not found: {key}' for key in planted - found]
    wrong += [f'not planted: {key}' for key in found - planted]
    if wrong:
        raise Failed('\n'.join(sorted(wrong)[:20]))


def measure_size(pairs: int, suspects: int, repeat: int) -> Result:
    """Measure with a cloud of one size.

    :param pairs: the number of servers, and half the number of volumes
    :param suspects: the number of volumes with a finding
    :param repeat: the number of runs
    :raises Failed: a run fails, or finds anything but what is planted
    """
    reading: list[Cost] = []
    audit: list[Cost] = []
    with (
        serving(pairs, suspects) as cloud,
        tempfile.TemporaryDirectory() as directory,
    ):
        planted = {tuple(item.values()) for item in cloud.get('/planted')}
        foreign = {key for key in planted if key[0] == _FOREIGN}
        reader = [*_MODULE, 'benchmarks.plain_reading']
        # One run has to be enough to confirm a finding.
        command = [
            *('attachguard', 'audit', '--all', '--min-age', '0s'),
            *('--state-file', f'{directory}/state.json', '-f', 'json'),
        ]
        for number in range(repeat):
            report.progress(
                f'{2 * pairs:,} volumes, run {number + 1} of {repeat}'
            )
            reading.append(cloud.run(reader, [0])[0])
            cost, printed = cloud.run(command, _DONE)
            audit.append(cost)
            compare(printed, planted - foreign)
        if 2 * pairs <= _SIZES[0]:
            cost, printed = cloud.run([*command, '--foreign'], _DONE)
            compare(printed, foreign)
    return Result(2 * pairs, pairs, len(planted), best(reading), best(audit))


_SIZES = (100_000, 1_000_000)
_REPEAT = 2


def measure(quick: bool = False) -> report.Report:
    """Run the benchmark.

    :param quick: use small clouds; the figures are meaningless
    :raises Failed: an audit fails, or finds anything but what is planted
    """
    sizes = (1_000, 4_000) if quick else _SIZES
    return evaluate(
        [
            measure_size(
                size // 2, max(size // 5_000, 40), 1 if quick else _REPEAT
            )
            for size in sizes
        ]
    )


def evaluate(results: Sequence[Result]) -> report.Report:
    """Make the report.

    :param results: by size, the smallest first
    """
    table = report.Table(
        'An audit, beside a plain reader of all lists',
        (
            'volumes',
            'servers',
            'findings',
            'reader CPU s',
            'audit CPU s',
            'ratio',
            'reader wall s',
            'audit wall s',
            'ratio',
            'peak MB',
            'pages',
            'other requests',
        ),
        [
            (
                f'{result.volumes:,}',
                f'{result.servers:,}',
                f'{result.suspects:,}',
                f'{result.reading.cpu:.2f}',
                f'{result.audit.cpu:.2f}',
                f'{result.audit.cpu / result.reading.cpu:.2f}',
                f'{result.reading.wall:.2f}',
                f'{result.audit.wall:.2f}',
                f'{result.audit.wall / result.reading.wall:.2f}',
                f'{result.audit.peak:.0f}',
                f'{result.audit.pages:,}',
                f'{result.audit.beyond:,}',
            )
            for result in results
        ],
        'Wall time includes the time in which the pages are written.',
    )
    small, large = results[0], results[-1]
    size = (large.volumes + large.servers) / (small.volumes + small.servers)
    bounds = [
        report.Bound(
            'audit / plain reader: CPU',
            large.audit.cpu / large.reading.cpu,
            MOST_RATIO,
        ),
        report.Bound(
            'audit / plain reader: wall time',
            large.audit.wall / large.reading.wall,
            MOST_RATIO,
        ),
        report.Bound('peak memory: MB', large.audit.peak, MOST_MEGABYTES),
        report.Bound(
            f'growth of CPU time, {size:.1f} times the size',
            large.audit.cpu / small.audit.cpu,
            size * MOST_GROWTH,
        ),
        report.Bound(
            f'growth of peak memory, {size:.1f} times the size',
            large.audit.peak / small.audit.peak,
            size**0.5,
        ),
    ]
    for result in results:
        bounds += [
            report.Bound(
                f'{result.volumes:,} volumes: other requests',
                result.audit.beyond,
                MOST_REQUESTS * result.suspects + MOST_FIXED_REQUESTS,
            ),
            report.Bound(
                f'{result.volumes:,} volumes: pages',
                result.audit.pages,
                result.reading.pages,
            ),
        ]
    return report.Report(
        [table],
        bounds,
        report.versions(('keystoneauth1', 'openstacksdk', 'requests')),
    )
