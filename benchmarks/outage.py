# SPDX-License-Identifier: Apache-2.0
"""Measure what an outage of Nova costs on the servers that operators use.

The real Cinder API with the guard runs on each server, as deployment tools
configure it. Nova or Keystone fails in one way after the other, while users,
Nova and a health probe call Cinder at a steady rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import json
import pathlib
import sys
import tempfile
import time
from typing import Any

from benchmarks import outage_load
from benchmarks import report
from tests.outage import background
from tests.outage import cinder_servers
from tests.outage import faults
from tests.outage import guarded_cloud

PAGE = pathlib.Path(__file__).parents[1] / 'doc/source/reference/outages.rst'
#: guarded calls in a second
RATES = (1.0, 5.0)
# If the circuit breaker opens again within ten seconds, it probes less often.
# Two of the ten pass until enough guarded calls in a row got a decision.
_BETWEEN = 8.5
# A flapping Nova hangs for so many seconds, then responds for as many.
_FLAP = 2.5

# Milliseconds, or twice as long as while Nova is well.
_UNGUARDED_P99 = 50.0

_Cloud = guarded_cloud.GuardedCloud
_Start = Callable[[_Cloud], contextlib.AbstractContextManager[None]]


def _nova(fault: str) -> _Start:
    return lambda cloud: cloud.nova.failing(faults.ALL[fault])


@contextlib.contextmanager
def _flapping(cloud: _Cloud) -> Iterator[None]:
    def hang() -> None:
        with cloud.nova.failing(faults.ALL['hangs-before-responding']):
            time.sleep(_FLAP)

    with background.repeating(hang, _FLAP):
        yield


@contextlib.contextmanager
def _keystone_hung(cloud: _Cloud) -> Iterator[None]:
    # Nova rejects the token that the guard has, so that it needs another.
    with (
        cloud.keystone.failing(faults.ALL['hangs-before-responding']),
        cloud.nova.failing(faults.ALL['always-responds-401']),
    ):
        yield


@dataclasses.dataclass(frozen=True)
class Situation:
    """A state of Nova and Keystone.

    :param seconds: how long it lasts
    :param start: brings it about, within a context
    :param is_outage: whether the circuit breaker opens
    """

    seconds: float
    start: _Start
    is_outage: bool = True


SITUATIONS = {
    'Nova well': Situation(
        _BETWEEN, lambda _cloud: contextlib.nullcontext(), is_outage=False
    ),
    'refused': Situation(6.0, _nova('refuses')),
    '500': Situation(_BETWEEN, _nova('responds-500'), is_outage=False),
    'hung': Situation(10.0, _nova('hangs-before-responding')),
    'hung for 60 s': Situation(60.0, _nova('hangs-before-responding')),
    'drips': Situation(8.0, _nova('drips-headers')),
    'Keystone hung': Situation(6.0, _keystone_hung),
    'flapping': Situation(15.0, _flapping),
}
_LONG = 'hung for 60 s'
_MOST = [name for name in SITUATIONS if name != _LONG]
#: the situations that are measured on each server
SHAPES: dict[str, Sequence[str]] = {
    'uwsgi-1x1': [*SITUATIONS],
    'uwsgi-5x1': [*SITUATIONS],
    'apache-4x1': [*SITUATIONS],
    'gunicorn-2x8': _MOST,
    'eventlet': _MOST,
    'uwsgi-1x1-no-eventlet': ('Nova well', 'hung'),
    'uwsgi-1x1-no-threads': ('Nova well', 'hung'),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    :param shape: name of the server
    :param situation: name of the situation
    :param rate: guarded calls in a second
    """

    shape: str
    situation: str
    rate: float
    measured: outage_load.Measured

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Row:
        """Load what ``dataclasses.asdict`` made of a row."""
        measured = dict(value['measured'])
        for kind in ('unguarded', 'service', 'guarded'):
            measured[kind] = outage_load.Times(**measured[kind])
        return cls(
            value['shape'],
            value['situation'],
            value['rate'],
            outage_load.Measured(**measured),
        )

    @property
    def key(self) -> tuple[str, float, int]:
        """What was measured, in the order of the table."""
        return self.shape, self.rate, [*SITUATIONS].index(self.situation)

    def cells(self) -> list[str]:
        """The cells of the table of its server."""
        found = self.measured
        return [
            self.situation,
            f'{self.rate:g}',
            str(found.unguarded),
            str(found.service),
            str(found.guarded),
            str(found.waited),
            str(found.probes_failed),
            f'{found.recovery:.1f}',
        ]

    def bounds(self, well: outage_load.Measured) -> Iterator[report.Bound]:
        """The limits, also on a machine that others use.

        :param well: the same server and rate, while Nova is well
        """
        found = self.measured
        name = f'{self.shape}, {self.situation}, {self.rate:g}/s'
        yield report.Bound(f'{name}: failed', found.errors, 0)
        yield report.Bound(
            f'{name}: probes failed in a row', found.probes_failed, 2
        )
        yield report.Bound(
            f'{name}: guarded calls that waited', found.waited, self._may_wait
        )
        if self.situation != 'flapping':
            late = 'no-threads' in self.shape
            yield report.Bound(
                f'{name}: seconds to recover',
                found.recovery,
                8.0 if late else 3.0,
            )
            yield report.Bound(
                f'{name}: waited after Nova returned',
                found.waited_after,
                0,
            )
        if self.situation.startswith('hung'):
            yield report.Bound(
                f'{name}: unguarded p99 ms',
                found.unguarded.p99,
                max(_UNGUARDED_P99, 2 * well.unguarded.p99),
            )

    @property
    def _may_wait(self) -> float:
        """The number of guarded calls that may wait for Nova.

        One of each process, and with threads those that begin before the
        first has waited for nova_timeout; when Nova flaps, one more for each
        time that it responded to a probe.
        """
        shape = cinder_servers.SHAPES[self.shape]
        times = 5 if self.situation == 'flapping' else 1
        if self.situation in ('Nova well', '500'):
            return 0
        at_once = 1.0 if shape.threads == 1 else 3 * self.rate
        return times * shape.processes * at_once


def measure(
    shape: str, situations: Sequence[str], rates: Sequence[float]
) -> Iterator[Row]:
    """Run one server, and measure it.

    :param shape: name of the server
    :param situations: names of the situations, in their order
    :param rates: guarded calls in a second
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        guarded_cloud.start(
            pathlib.Path(directory),
            shape,
            services=False,
            credentials='admin',
            # The defaults, whatever the tests use.
            nova_timeout=2.0,
            nova_breaker_seconds=1.0,
        ) as cloud,
    ):
        for rate in rates:
            with outage_load.Load(cloud, rate) as load:
                after_outage = False
                for name in _at(rate, situations):
                    is_outage = SITUATIONS[name].is_outage
                    if after_outage and is_outage:
                        time.sleep(_BETWEEN)
                    after_outage = is_outage
                    measured = _go_through(cloud, load, name)
                    yield Row(shape, name, rate, measured)


def _at(rate: float, situations: Sequence[str]) -> list[str]:
    """The long situation only at the highest rate, in place of the short."""
    without = 'hung' if rate == RATES[-1] and _LONG in situations else _LONG
    return [name for name in situations if name != without]


def _go_through(
    cloud: _Cloud, load: outage_load.Load, name: str
) -> outage_load.Measured:
    situation = SITUATIONS[name]
    load.wait_for_guarded()
    begin = time.monotonic()
    with situation.start(cloud):
        time.sleep(situation.seconds)
        end = time.monotonic()
    load.wait_until_recovered()
    until = time.monotonic()
    # Calls that are under way have responses by now, or soon.
    time.sleep(outage_load.PROBE_TIMEOUT)
    return outage_load.evaluate(list(load.calls), begin, end, until)


_HEAD = """\
===================
Outages, in numbers
===================

.. This file is written by: python -m benchmarks.outage --write-docs

The real Cinder API with the guard, on servers that are configured as
deployment tools configure them, while Nova or Keystone fails. Times are in
milliseconds (median / 99th percentile), for calls that are sent at fixed
times: 10 unguarded calls (``GET`` of a volume) in a second, one of a service
(an attachment is created, or deleted), and one or five guarded ones
(``os-attach``). The titles have the numbers of processes and of threads in
each. :doc:`/admin/nova-outages` explains what the guard does.

unguarded, service
    From the third second of an outage on. In a process with one thread, the
    first guarded call of an outage blocks the others for ``nova_timeout``, two
    seconds.
waited
    The number of guarded calls that queried, and took more than a second.
probes
    The number of health probes that failed in a row. There is one in a second,
    and it waits for one second.
recovery
    Seconds from Nova's return until every guarded call got a decision.

Compare the times with those of *Nova well* on the same server: other programs
may have used the machine, too.

Nova *refused* connections, *hung*, *drips* (it sends a byte of its headers
every 0.25 s), responds with *500*, or is *flapping* (it hangs for 2.5 s and
responds for 2.5 s, in turn). *Keystone hung* when the guard needs a new token.
"""
_COLUMNS = (
    'situation',
    'guarded/s',
    'unguarded',
    'service',
    'guarded',
    'waited',
    'probes',
    'recovery',
)


def page(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """Write the page of the documentation.

    :param rows: the rows of the servers that are measured
    :param versions: what was measured
    """
    parts = [_HEAD]
    for shape in SHAPES:
        cells = [
            row.cells()
            for row in sorted(rows, key=lambda row: row.key)
            if row.shape == shape
        ]
        if not cells:
            continue
        found = cinder_servers.SHAPES[shape]
        title = (
            f'{found.text}: {found.processes} × {found.threads}'
            if shape != 'eventlet'
            else found.text
        )
        table = report.Table(
            f'{shape}',
            _COLUMNS,
            cells,
        )
        parts.append(f'{title}\n{"=" * len(title)}\n\n{table.rst()}\n')
    measured = report.Report([], [], dict(versions)).measured_with
    return '\n'.join([*parts, measured, ''])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.outage', description=__doc__
    )
    parser.add_argument(
        '--shape',
        action='append',
        choices=SHAPES,
        help='measure only this server; can be repeated',
    )
    parser.add_argument(
        '--situation',
        action='append',
        choices=SITUATIONS,
        help='measure only this situation; can be repeated',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='exit with 1 when a bound is exceeded',
    )
    parser.add_argument(
        '--json',
        type=pathlib.Path,
        metavar='FILE',
        help='add the results to this file, in place of those of the same '
        'situations; without --shape, measure the servers that it lacks',
    )
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help='write doc/source/reference/outages.rst, with the servers that '
        'are measured',
    )
    return parser


def _load(path: pathlib.Path | None) -> list[Row]:
    if path is None or not path.exists():
        return []
    return [Row.from_json(value) for value in json.loads(path.read_text())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and check the bounds.

    :returns: the exit code
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    rows = _load(options.json)
    known = {row.shape for row in rows}
    for shape in options.shape or [
        each for each in SHAPES if each not in known
    ]:
        report.progress(shape)
        missing = cinder_servers.SHAPES[shape].missing
        if missing:
            print(f'{shape} not measured, missing: {missing}')
            continue
        situations = [
            name
            for name in SHAPES[shape]
            if name in (options.situation or SITUATIONS)
        ]
        for row in measure(shape, situations, RATES):
            print(' | '.join([shape, *row.cells()]), flush=True)
            rows = [each for each in rows if each.key != row.key] + [row]
        if options.json is not None:
            values = [dataclasses.asdict(row) for row in rows]
            options.json.write_text(json.dumps(values, indent=1) + '\n')
    if options.write_docs:
        PAGE.write_text(page(rows, report.versions(_PACKAGES)))
    well = {
        (row.shape, row.rate): row.measured
        for row in rows
        if row.situation == 'Nova well'
    }
    bounds = [
        bound
        for row in rows
        if (row.shape, row.rate) in well
        for bound in row.bounds(well[row.shape, row.rate])
    ]
    exceeded = [bound for bound in bounds if not bound.holds]
    print(f'{len(bounds) - len(exceeded)} of {len(bounds)} bounds hold')
    for bound in exceeded:
        print(bound)
    return int(options.check and bool(exceeded))


_PACKAGES = (
    'cinder',
    'keystoneauth1',
    'python-novaclient',
    'pyuwsgi',
    'gunicorn',
)


if __name__ == '__main__':
    sys.exit(main())
