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
"""Writes what was measured into the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib import axes
from matplotlib import figure

from benchmarks import crowd
from benchmarks import report

_ROOT = pathlib.Path(__file__).parents[1]
README = _ROOT / 'benchmarks' / 'README.rst'
PAGE = _ROOT / 'doc' / 'source' / 'reference' / 'speed.rst'
PLOT = PAGE.with_suffix('.svg')

#: What follows this in the README is written here.
MARK = '.. What follows is written by: python -m benchmarks --write-docs\n'

_HEAD = """\
=====
Speed
=====

What the guard costs a request, and Nova. Everything on this page is measured
and written by ``python -m benchmarks --write-docs``, with

{versions}.

The times are of one machine; the ratios and the
counts are what to look at. Each is taken beside its peers in one run: they
take turns, and of each the least counts. ``benchmarks/README.rst`` says how,
and what ``make bench`` holds it to.

* A request that is none of the guard's business costs {bytecodes} bytecodes
  and {passing:.2f} µs: {of_cheapest:.1%} of what the cheapest filter of
  oslo.middleware adds, and {of_cinder:.3%} of the time that Cinder takes for
  ``GET /v3/``.
* A guarded request costs one request to Nova, on a connection that is there
  already, beside what it asks Cinder; the first one of a process costs a token
  more where credentials are configured. A service's costs Nova nothing.
* All of it takes {guarded:.2f} times the CPU of the mere ``GET`` by
  ``requests``, with configured credentials, and {calling:.2f} times as the
  caller.
* It keeps nothing that two processes share: with more of them, as many more
  requests are answered.
"""

_GROWTH = """\
.. image:: speed.svg
   :alt: CPU for each request with more at once; the time of a request with a
      slower Nova; requests per second with more processes.
   :width: 100%
"""


def _heading(text: str, line: str) -> str:
    return f'{text}\n{line * len(text)}\n'


def _tables(found: Mapping[str, Any], names: Iterable[str]) -> str:
    parts = []
    for name in names:
        for it in found[name]['tables']:
            table = report.Table(**it)
            parts += [_heading(table.name, '-'), f'{table.rst()}\n']
            if table.note:
                parts.append(f'{textwrap.fill(table.note, 79)}\n')
    return '\n'.join(parts)


def _versions(found: Mapping[str, Any]) -> str:
    versions = {
        name: value
        for it in found.values()
        for name, value in it['versions'].items()
    }
    return ', '.join(f'{name} {it}' for name, it in versions.items())


def readme(found: Mapping[str, Any]) -> str:
    """What the README says after the mark.

    :param found: of each benchmark, by its name
    """
    parts = []
    for name in ('passing', 'asking', 'growth'):
        parts.append(_heading(name, '~'))
        for it in found[name]['tables']:
            table = report.Table(**it)
            text = table.text().split('\n\n', 1)[1]
            parts.append(f'{table.name}::\n')
            parts.append('\n'.join(f'    {line}' for line in text.split('\n')))
            parts.append('')
            if table.note:
                parts.append(f'{textwrap.fill(table.note, 79)}\n')
        for bound in found[name]['bounds']:
            it = {key: bound[key] for key in bound if key != 'holds'}
            parts.append(f'* {" ".join(str(report.Bound(**it)).split())}')
        measured_with = f'Measured with {_versions({name: found[name]})}.'
        parts += ['', textwrap.fill(measured_with, 79), '']
    return '\n'.join(parts)


def page(found: Mapping[str, Any]) -> str:
    """The page of the documentation."""
    passing, asking = found['passing']['results'], found['asking']['results']
    guard = passing['added']['attachguard']
    least = min(
        took
        for name, took in passing['added'].items()
        if name.startswith('oslo.middleware ')
    )
    cpu = asking['cpu']
    plain = cpu['requests.Session, GET']
    head = _HEAD.format(
        versions=textwrap.fill(_versions(found), 79),
        bytecodes=passing['bytecodes']['attachguard'],
        passing=guard,
        of_cheapest=guard / least,
        of_cinder=guard / passing['cinder']['GET /v3/'],
        guarded=cpu['guarded request, with credentials'] / plain,
        calling=cpu['guarded request, as the caller'] / plain,
    )
    return '\n'.join(
        [
            head,
            _heading('A request that passes', '='),
            _tables(found, ['passing']),
            _heading('A guarded request', '='),
            _tables(found, ['asking']),
            _heading('How it grows', '='),
            _GROWTH,
            _tables(found, ['growth']),
        ]
    )


def plot(results: Mapping[str, Any]) -> figure.Figure:
    """Draw how the cost grows.

    :param results: of the benchmark that measures it
    """
    drawn = figure.Figure(figsize=(11, 3.4), layout='constrained')
    of_crowd, of_nova, of_processes = drawn.subplots(1, 3)
    for on, style in ((crowd.THREADS, 'o-'), (crowd.GREENTHREADS, 's--')):
        turns = results['at_once'][on]
        of_crowd.plot(
            [turn['at_once'] for turn in turns],
            [turn['cpu'] / 1000 for turn in turns],
            style,
            label=on,
        )
    of_crowd.set_xscale('log', base=2)
    of_crowd.xaxis.set_major_formatter('{x:.0f}')
    _label(of_crowd, 'requests at once', 'CPU for each, ms')

    slow = results['slow']
    delays = [turn['delay'] for turn in slow]
    for key, style, text in (('p99', 'o-', '99%'), ('half', 's--', 'half')):
        times = [turn[key] / 1000 for turn in slow]
        of_nova.plot(delays, times, style, label=f'{text} of the requests')
    of_nova.plot(delays, delays, ':', color='grey', label='Nova alone')
    _label(of_nova, 'Nova takes, s', 'a request takes, s')

    served = results['processes']
    counts = [it['processes'] for it in served]
    of_processes.plot(counts, [it['rate'] for it in served], 'o-')
    of_processes.plot(
        counts,
        [served[0]['rate'] * count for count in counts],
        ':',
        color='grey',
        label='as many times one',
    )
    of_processes.set_xticks(counts)
    _label(of_processes, 'processes', 'requests per second')
    return drawn


def _label(drawn: axes.Axes, x: str, y: str) -> None:
    drawn.set_xlabel(x)
    drawn.set_ylabel(y)
    drawn.set_ylim(bottom=0)
    drawn.grid(alpha=0.3)
    drawn.legend(fontsize='small')


def write(found: Mapping[str, Any]) -> None:
    """Write all of it."""
    text, mark, __ = README.read_text().partition(MARK)
    README.write_text(f'{text}{mark}\n{readme(found)}')
    PAGE.write_text(page(found))
    # The same figures give the same file, letters that can be searched.
    with mpl.rc_context(
        {'svg.fonttype': 'none', 'svg.hashsalt': 'attachguard'}
    ):
        plot(found['growth']['results']).savefig(PLOT, metadata={'Date': None})
