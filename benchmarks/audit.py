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
"""What an audit of a whole cloud costs, beside reading the cloud's lists.

``python -m benchmarks.audit`` serves clouds of several sizes, one after the
other and from a process of their own, and reads each in turn barely
(:mod:`benchmarks.bare`) and with ``attachguard audit``, as a user would.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
import time
from typing import Any
import urllib.request

from benchmarks import report

_ROOT = pathlib.Path(__file__).parents[1]

#: The command. Each suspect is asked about once, so what is found counts when
#: another run has found it, and is listed anyway.
AUDIT = 'attachguard audit --state-file {state} --min-age 0s --all -f json'

# What --check holds the largest cloud to.
MOST_RATIO = 1.5
MOST_MEGABYTES = 400
# Requests beyond the pages: to log in, to find the services and their
# versions, and to ask where Nova runs servers.
MOST_SETTING_OUT = 20
# By how much more than its size the time for a larger cloud may grow.
MOST_GROWTH = 1.15

# How an audit ends that nothing has kept from its work: what it has found
# counts, or does not yet.
_DONE = (3, 0)


# What is planted to be left alone.
_FOREIGN = 'foreign'


class Failed(Exception):
    """What was measured is nothing to be compared."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run of a program took.

    :param cpu: seconds, of user and system together
    :param wall: seconds
    :param peak: megabytes of memory, at most; a process begins with what the
        one that started it had, which is why this module imports little
    :param pages: requests for pages
    :param beyond: all other requests
    """

    cpu: float
    wall: float
    peak: float
    pages: int
    beyond: int


def best(costs: Sequence[Cost]) -> Cost:
    """What is left of several runs when others' use of the machine is not.

    :returns: the least time, the most of everything else
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
    """What a cloud of one size took.

    :param suspects: with how many volumes something was wrong
    :param bare: reading its lists
    :param audit: the audit
    :param each: microseconds of CPU to read one volume, attachment or server
    """

    volumes: int
    servers: int
    suspects: int
    bare: Cost
    audit: Cost
    each: dict[str, float]

    @property
    def cpu_ratio(self) -> float:
        """How much more CPU time the audit takes than reading."""
        return self.audit.cpu / self.bare.cpu

    @property
    def wall_ratio(self) -> float:
        """How much longer the audit takes than reading."""
        return self.audit.wall / self.bare.wall

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **dataclasses.asdict(self),
            'cpu_ratio': self.cpu_ratio,
            'wall_ratio': self.wall_ratio,
        }


class Cloud:
    """A cloud that is served by a process of its own.

    :param url: where it counts requests
    :param environment: how to log in to it
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
            # This environment's attachguard, and this checkout's.
            'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': str(_ROOT),
            'no_proxy': '127.0.0.1',
        }

    def ask(self, path: str) -> Any:
        """Ask for its counts, or for what is planted in it."""
        with urllib.request.urlopen(self._url + path) as answer:  # noqa: S310
            return json.load(answer)

    def _requests(self) -> dict[str, int]:
        return {
            kind: sum(counts.values())
            for kind, counts in self.ask('/_counts').items()
        }

    def run(
        self, command: Sequence[str], codes: Sequence[int]
    ) -> tuple[Cost, str]:
        """Run a program against it, and measure that.

        :param codes: how it may exit
        :returns: what it took, and what it printed
        :raises Failed: it exits in another way
        """
        before = self._requests()
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
            raise Failed(f'{command[0]} exited with {process.returncode}')
        after = self._requests()
        made = {kind: after[kind] - before[kind] for kind in after}
        cost = Cost(
            usage.ru_utime + usage.ru_stime,
            wall,
            usage.ru_maxrss / 1024,
            made['pages'],
            made['single'] + made['other'],
        )
        return cost, printed


@contextlib.contextmanager
def serving(volumes: int, servers: int, suspects: int) -> Iterator[Cloud]:
    """Serve a cloud until the block is left."""
    command = [sys.executable, '-m', 'benchmarks.clouds']
    for name, value in (
        ('volumes', volumes),
        ('servers', servers),
        ('suspects', suspects),
    ):
        command += [f'--{name}', str(value)]
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
    ) as process:
        # It ends when its input does.
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin:
            line = process.stdout.readline()
            if not line:
                raise Failed('no cloud is served')
            served = json.loads(line)
            yield Cloud(served['url'], served['environment'])


# What tells one finding from another: class, volume, attachment and server.
_Key = tuple[str, str, str | None, str | None]


def _planted(item: dict[str, Any]) -> _Key:
    return (
        item['kind'],
        item['volume_id'],
        item['attachment_id'],
        item['server_id'],
    )


def _found(row: dict[str, Any]) -> _Key:
    # Those that are listed as foreign have no class.
    kind = row.get('Class', _FOREIGN)
    return kind, row['Volume'], row['Attachment'], row['Server']


def compare(printed: str, planted: set[_Key]) -> None:
    """Hold what was found against what there is to be found.

    :raises Failed: it is not the same
    """
    found = {_found(row) for row in json.loads(printed)}
    wrong = [('not found', key) for key in planted - found]
    wrong += [('not there', key) for key in found - planted]
    if wrong:
        lines = [f'{what}: {key}' for what, key in wrong]
        raise Failed(
            f'{len(planted)} planted, {len(found)} found:\n'
            + '\n'.join(sorted(lines)[:20])
        )


def measure(
    volumes: int,
    servers: int,
    suspects: int,
    repeat: int,
    command: str,
    *,
    list_foreign: bool,
) -> Result:
    """Measure with a cloud of one size.

    :param volumes: in the cloud
    :param servers: in the cloud
    :param suspects: volumes with which something is wrong
    :param repeat: how many times to measure
    :param command: the audit
    :param list_foreign: whether to see that it recognises what is foreign,
        too, which takes one run more
    :raises Failed: it does not find what is planted
    """
    bare: list[Cost] = []
    audit: list[Cost] = []
    each: dict[str, list[float]] = {}
    with (
        serving(volumes, servers, suspects) as cloud,
        tempfile.TemporaryDirectory() as directory,
    ):
        planted = {_planted(item) for item in cloud.ask('/_planted')}
        foreign = {key for key in planted if key[0] == _FOREIGN}
        state = shlex.quote(f'{directory}/state.json')
        words = shlex.split(command.format(state=state))
        for __ in range(repeat):
            # In turn, so that both see the same of what else goes on.
            cost, printed = cloud.run(
                [sys.executable, '-m', 'benchmarks.bare'], [0]
            )
            bare.append(cost)
            for name, read in json.loads(printed).items():
                each.setdefault(name, []).append(
                    1e6 * read['cpu'] / read['count']
                )
            cost, printed = cloud.run(words, _DONE)
            audit.append(cost)
            compare(printed, planted - foreign)
        if list_foreign:
            cost, printed = cloud.run([*words, '--foreign'], _DONE)
            compare(printed, foreign)
    return Result(
        volumes,
        servers,
        len(planted),
        best(bare),
        best(audit),
        {name: min(times) for name, times in each.items()},
    )


def bounds(results: Sequence[Result]) -> list[report.Bound]:
    """What must hold.

    :param results: by size, the smallest first
    """
    large = results[-1]
    found = [
        report.Bound('audit / reading, CPU', large.cpu_ratio, MOST_RATIO),
        report.Bound('audit / reading, wall', large.wall_ratio, MOST_RATIO),
        report.Bound('peak memory, MB', large.audit.peak, MOST_MEGABYTES),
    ]
    found += [
        report.Bound(
            f'requests beyond the pages, {result.volumes:,} volumes',
            result.audit.beyond,
            result.suspects + MOST_SETTING_OUT,
        )
        for result in results
    ]
    found += [
        report.Bound(
            f'pages, {result.volumes:,} volumes',
            result.audit.pages,
            result.bare.pages,
        )
        for result in results
    ]
    if len(results) > 1:
        small = results[0]
        size = (large.volumes + large.servers) / (
            small.volumes + small.servers
        )
        found += [
            report.Bound(
                f'growth of CPU time, {size:.1f} times the size',
                large.audit.cpu / small.audit.cpu,
                size * MOST_GROWTH,
            ),
            report.Bound(
                f'growth of memory, {size:.1f} times the size',
                large.audit.peak / small.audit.peak,
                size**0.5,
            ),
        ]
    return found


def table(results: Sequence[Result]) -> str:
    """The results, for people."""
    rows = [
        (
            'volumes',
            'servers',
            'wrong',
            'reading',
            'audit',
            'ratio',
            'reading',
            'audit',
            'ratio',
            'peak',
            'pages',
            'beyond',
        ),
        (
            '',
            '',
            '',
            'CPU s',
            'CPU s',
            '',
            'wall s',
            'wall s',
            '',
            'MB',
            '',
            '',
        ),
    ]
    rows += [
        (
            f'{result.volumes:,}',
            f'{result.servers:,}',
            f'{result.suspects:,}',
            f'{result.bare.cpu:.2f}',
            f'{result.audit.cpu:.2f}',
            f'{result.cpu_ratio:.2f}',
            f'{result.bare.wall:.2f}',
            f'{result.audit.wall:.2f}',
            f'{result.wall_ratio:.2f}',
            f'{result.audit.peak:.0f}',
            f'{result.audit.pages:,}',
            f'{result.audit.beyond:,}',
        )
        for result in results
    ]
    return report.layout(rows)


def versions() -> dict[str, str]:
    """What it was measured with."""
    return report.versions(
        ('keystoneauth1', 'openstacksdk', 'requests', 'urllib3')
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, and say what came of it.

    :returns: the exit code: 1 where an audit does not find what there is, or
        with ``--check``, where it takes too much
    """
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.audit', description=__doc__
    )
    parser.add_argument(
        '--volumes',
        type=int,
        nargs='+',
        default=[100_000, 1_000_000],
        metavar='N',
        help='sizes to measure with; half as many servers',
    )
    parser.add_argument(
        '--suspects',
        type=int,
        metavar='N',
        help='volumes with which something is wrong; by default one of 5,000',
    )
    parser.add_argument(
        '--repeat', type=int, default=3, metavar='N', help='take the best of N'
    )
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE')
    parser.add_argument(
        '--check', action='store_true', help='fail where it takes too much'
    )
    parser.add_argument('--command', default=AUDIT, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    results: list[Result] = []
    try:
        for volumes in sorted(asked.volumes):
            suspects = asked.suspects
            if suspects is None:
                # Some of each kind, at least.
                suspects = max(volumes // 5_000, 40)
            results.append(
                measure(
                    volumes,
                    volumes // 2,
                    suspects,
                    asked.repeat,
                    asked.command,
                    list_foreign=not results,
                )
            )
    except Failed as exc:
        print(exc, file=sys.stderr)
        return 1
    print(table(results))
    print(
        '\nto read one, µs of CPU: '
        + ', '.join(
            f'{name} {cost:.1f}' for name, cost in results[-1].each.items()
        )
    )
    print(', '.join(f'{name} {value}' for name, value in versions().items()))
    held = bounds(results)
    print()
    for bound in held:
        print(bound)
    if asked.json is not None:
        report.write(
            asked.json,
            {
                'versions': versions(),
                'results': [result.to_json() for result in results],
                'bounds': [bound.to_json() for bound in held],
            },
        )
    return int(asked.check and not all(bound.holds for bound in held))


if __name__ == '__main__':
    sys.exit(main())
