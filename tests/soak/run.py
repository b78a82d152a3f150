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
"""Is every request accounted for, on real servers, whatever Nova does?

Runs the real Cinder with the guard in its pipeline, on each of the servers
that operators use; lets clients of every kind loose on it; breaks the way to
Nova, in another manner every few seconds; and compares what was sent and
answered with what reached Cinder. Then it looks whether memory, descriptors
or threads have grown.

python -m tests.soak --minutes 30 --server all
python -m tests.soak --minutes 1 --server gunicorn --json soak.json
python -m tests.soak --minutes 0.5 --server eventlet --unguarded

The last takes the guard out, and must fail: forged attachments get through.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
import signal
import statistics
import sys
import tempfile
import threading
import time
from typing import Any

import prettytable

from attachguard.testing import stub_cloud
from tests.soak import accounting
from tests.soak import faults
from tests.soak import load as loads
from tests.soak import recorder
from tests.soak import servers
from tests.soak import watch

_PROGRESS_EVERY = 10.0
_NOVA_TIMEOUT = 3.0
# What the guard may still say of a trouble that is over: a question's whole
# time, how long it then leaves Nova alone, and some more for a slow machine.
_SETTLING = _NOVA_TIMEOUT + 2.0
# From where on growth can be told from warming up.
_LONG = 300.0
_MIB = 1024 * 1024

_RULES = """# Written anew again and again, to be read again.
"attachguard:service": "service_roles:service or role:service"
"""
_BROKEN_RULES = '"attachguard:service": "nova:nonsense"\n'


@dataclasses.dataclass
class Result:
    """What came of a run on one server."""

    server: str
    database: str
    seconds: float
    sent: list[accounting.Sent]
    met: collections.Counter[faults.Fault]
    samples: list[watch.Sample]
    findings: list[accounting.Finding]
    #: what is wrong beside single requests, in words
    wrong: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings and not self.wrong

    def outcomes(self) -> dict[tuple[str, str], list[float]]:
        """How long the requests took, by their kind and what came of them."""
        outcomes = collections.defaultdict(list)
        for one in self.sent:
            what = (one.kind.name, f'{one.outcome.value} {one.status}')
            outcomes[what].append(one.seconds)
        return dict(sorted(outcomes.items()))

    def usage(self) -> tuple[watch.Usage | None, watch.Usage | None]:
        """What the server took in the calm of the second and last quarter."""
        if not self.samples:
            return None, None
        return watch.median(self.samples, 1), watch.median(self.samples, 3)

    def as_dict(self) -> dict[str, Any]:
        """For a program to read."""
        return {
            'server': self.server,
            'database': self.database,
            'seconds': round(self.seconds, 1),
            'requests': len(self.sent),
            'outcomes': {
                f'{kind}: {outcome}': {
                    'requests': len(seconds),
                    'median': round(statistics.median(seconds), 4),
                    'longest': round(max(seconds), 4),
                }
                for (kind, outcome), seconds in self.outcomes().items()
            },
            'faults': {str(fault): count for fault, count in self.met.items()},
            'usage': [
                None if usage is None else usage._asdict()
                for usage in self.usage()
            ],
            'samples': [
                [round(sample.at, 1), sample.calm, *sample.usage]
                for sample in self.samples
            ],
            'wrong': [*map(str, self.findings), *self.wrong],
        }


class _Rules:
    """The guard's policy file, rewritten while it is in use."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._times = 0
        self.rewrite()

    def rewrite(self) -> None:
        """Write it anew; each fourth is broken, and changes nothing."""
        self._times += 1
        rules = _RULES if self._times % 4 else _BROKEN_RULES
        partial = self.path.with_suffix('.partial')
        partial.write_text(f'{rules}# {self._times}\n')
        partial.rename(self.path)


def soak(
    name: str,
    directory: pathlib.Path,
    seconds: float,
    *,
    rate: float = 20,
    clients: int = 8,
    seed: int = 0,
    guard: bool = True,
    database: str | None = None,
) -> Result:
    """Run on one server.

    :param name: of :data:`tests.soak.servers.SERVERS`
    :param directory: an empty one, for what it writes
    :param seconds: how long there is load
    :param guard: False to take the guard out of the pipeline
    :param database: SQLAlchemy's address of an empty one; SQLite by default
    :raises attachguard.testing.embedded.CinderNotStarted: the server did not
        come up
    """
    records = directory / 'records'
    records.touch()
    paste_ini = directory / 'api-paste.ini'
    servers.write_paste_ini(paste_ini, records, guard=guard)
    rules = _Rules(directory / 'policy.yaml')
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(stub_cloud.StubCloud(cinder=None))
        proxy = stack.enter_context(faults.Proxy(cloud.nova_server.port))
        cinder = stack.enter_context(
            servers.SERVERS[name](
                directory,
                f'{cloud.keystone_url}/v3',
                paste_ini=paste_ini,
                guard_options={
                    # Only the guard's way to Nova is a bad one.
                    'endpoint_override': proxy.url,
                    'nova_timeout': _NOVA_TIMEOUT,
                    'nova_breaker_seconds': 1.0,
                    'policy_file': rules.path,
                },
                cinder_options={
                    # So that the threads which carry out what the API asks
                    # for are all there soon.
                    'DEFAULT': {'executor_thread_pool_size': 8},
                    'database': {'connection': database} if database else {},
                },
                deadline=120,
            )
        )
        cloud.register_cinder(cinder.url)

        def nova_is_fine() -> float | None:
            since = proxy.calm_since()
            settled = since is not None and (
                since + _SETTLING <= time.monotonic() or since == first
            )
            return since if settled else None

        first = proxy.calm_since()
        load = loads.Load(
            cloud,
            cinder.url,
            nova_is_fine,
            clients=clients,
            rate=rate,
            seed=seed,
        )
        watching = watch.Watch(
            cinder.processes, lambda: nova_is_fine() is not None
        )
        began = time.monotonic()
        with watching, _progress(name, seconds, load, proxy, watching):
            try:
                load.start()
                phases = faults.plan(seconds, _NOVA_TIMEOUT, _SETTLING)
                # Without the guard, nobody asks.
                patience = 20.0 if guard else 0.0
                for _phase in faults.follow(proxy, phases, patience):
                    rules.rewrite()
            finally:
                load.stop()
        took = time.monotonic() - began
        # A request that is sent twice may still be under way.
        time.sleep(1)
        # Read first: nobody has sent what the next one asks.
        seen = recorder.read(records)
        seen += recorder.read_decisions(cinder.log)
        left = load.leftovers()
    tolerance = watch.LONG if seconds >= _LONG else watch.SHORT
    return Result(
        name,
        database.partition(':')[0] if database else 'sqlite',
        took,
        load.sent,
        proxy.met,
        watching.samples,
        accounting.audit(load.sent, seen),
        [
            *load.failures,
            *(f'left behind: {what}' for what in left),
            *watch.judge(watching.samples, tolerance),
        ],
    )


@contextlib.contextmanager
def _progress(
    name: str,
    seconds: float,
    load: loads.Load,
    proxy: faults.Proxy,
    watching: watch.Watch,
) -> Iterator[None]:
    """Say how it goes on standard error."""
    end = threading.Event()
    began = time.monotonic()

    def run() -> None:
        while not end.wait(_PROGRESS_EVERY):
            usage = watching.samples[-1].usage if watching.samples else None
            taken = (
                f'{usage.rss / _MIB:.0f} MiB, {usage.fds:.0f} descriptors, '
                f'{usage.threads:.0f} threads'
                if usage
                else 'not seen yet'
            )
            print(
                f'{name}: {time.monotonic() - began:.0f}/{seconds:.0f} s, '
                f'{len(load.sent)} requests, Nova {proxy.fault}, {taken}, '
                f'{len(load.failures)} failures',
                file=sys.stderr,
                flush=True,
            )

    thread = threading.Thread(target=run, name='progress', daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def show(result: Result) -> str:
    """The tables of a run, and what is wrong."""
    kinds = prettytable.PrettyTable(
        ['kind', 'outcome', 'requests', 'median ms', 'longest']
    )
    kinds.align = 'r'
    kinds.align['kind'] = kinds.align['outcome'] = 'l'
    for (kind, outcome), seconds in result.outcomes().items():
        kinds.add_row(
            [
                kind,
                outcome,
                len(seconds),
                f'{1000 * statistics.median(seconds):.0f}',
                f'{1000 * max(seconds):.0f}',
            ]
        )
    usage = prettytable.PrettyTable(['calm of', 'MiB', 'fds', 'threads'])
    for quarter, taken in zip(
        ('second quarter', 'last quarter'), result.usage(), strict=True
    ):
        if taken is not None:
            usage.add_row(
                [
                    quarter,
                    f'{taken.rss / _MIB:.1f}',
                    f'{taken.fds:.0f}',
                    f'{taken.threads:.0f}',
                ]
            )
    met = ', '.join(
        f'{fault} {count}' for fault, count in sorted(result.met.items())
    )
    lines = [
        f'{result.server} on {result.database}: {len(result.sent)} requests '
        f'in {result.seconds:.0f} s, {len(result.findings)} not accounted for',
        str(kinds),
        f'Questions to Nova, by what it was like: {met}',
        str(usage),
    ]
    summary = collections.Counter(finding.wrong for finding in result.findings)
    for wrong, count in summary.most_common():
        lines.append(f'WRONG: {count} requests: {wrong.value}')
    lines += [f'WRONG: {finding}' for finding in result.findings[:20]]
    lines += [f'WRONG: {what}' for what in result.wrong[:20]]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command.

    :returns: 0 where nothing is wrong, else 1
    """
    parser = argparse.ArgumentParser(
        prog='python -m tests.soak',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--minutes',
        type=float,
        default=30.0,
        help='of load, on each server (30); below 5, memory is judged loosely',
    )
    parser.add_argument(
        '--server',
        choices=[*servers.SERVERS, 'all'],
        default='all',
        help='all, one after the other, is the default',
    )
    parser.add_argument(
        '--rate',
        type=float,
        default=20.0,
        help='requests in a second, at most (20)',
    )
    parser.add_argument(
        '--clients', type=int, default=8, help='at the same time (8)'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of what the clients do (0)'
    )
    parser.add_argument(
        '--database',
        choices=['mariadb', 'sqlite'],
        help="this machine's MariaDB, where root may log in to it without a "
        'password, is the default; else SQLite, in a file',
    )
    parser.add_argument(
        '--unguarded',
        action='store_true',
        help='without the guard, to see that this is noticed',
    )
    parser.add_argument('--json', type=pathlib.Path, help='write a file, too')
    parser.add_argument(
        '--keep',
        type=pathlib.Path,
        help='directory for logs and records, which are thrown away else',
    )
    options = parser.parse_args(arguments)
    # So that the database goes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = [*servers.SERVERS]
    if options.server != 'all':
        names = [options.server]
    results = []
    for name in names:
        results.append(_soak(name, options))
        print(show(results[-1]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps([result.as_dict() for result in results], indent=1)
        )
    return 0 if all(result.is_clean for result in results) else 1


def _soak(name: str, options: argparse.Namespace) -> Result:
    with contextlib.ExitStack() as stack:
        if options.keep:
            directory = options.keep.resolve() / name
            directory.mkdir(parents=True)
        else:
            directory = pathlib.Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix='attachguard-soak-')
                )
            )
        database = None
        if options.database != 'sqlite':
            database = stack.enter_context(servers.mariadb())
        if database is None and options.database == 'mariadb':
            raise SystemExit('There is no MariaDB that lets root in.')
        return soak(
            name,
            directory,
            60 * options.minutes,
            rate=options.rate,
            clients=options.clients,
            seed=options.seed,
            guard=not options.unguarded,
            database=database,
        )
