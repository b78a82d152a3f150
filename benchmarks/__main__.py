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
"""Runs the benchmarks, one after the other, each in a process of its own.

Each figure is taken in one run beside its peers, as a ratio or a count, so
that another machine says the same. What must hold is a bound, and named
TOO MUCH or TOO LITTLE where it does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import report

_ROOT = pathlib.Path(__file__).parents[1]

#: What there is, and what each takes.
NAMES = {
    'passing': 'what the guard costs requests that it lets pass; 1 minute',
    'asking': 'what it costs a guarded request, and Nova; 2 minutes',
    'growth': 'how that grows: more at once, a slow Nova, more processes; '
    '2 minutes',
    'audit': 'what an audit costs, beside reading the lists; 8 minutes',
}
SPEED = ('passing', 'asking', 'growth')

_QUICK = {
    name: ['--quick'] if name in SPEED else ['--volumes', '2000', '--repeat=1']
    for name in NAMES
}

_EXAMPLES = """\
examples:
  python -m benchmarks --check
      all of them; fail where a bound does not hold, as make bench does
  python -m benchmarks --only passing --only asking --json speed.json
      two of them, and keep the figures
  python -m benchmarks --only passing --quick
      see that it runs; what it says of times means nothing
  python -m benchmarks --from speed.json --write-docs
      write the tables and the plot of an earlier run into the documentation

One of them alone is a command, too: python -m benchmarks.growth --help
"""


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one of the benchmarks, which prints what it finds.

    :returns: the same, as it writes it with ``--json``
    :raises subprocess.CalledProcessError: it fails
    """
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'found.json')
        command = [sys.executable, '-m', f'benchmarks.{name}']
        subprocess.run(  # noqa: S603
            [*command, '--json', str(path), *(_QUICK[name] if quick else ())],
            cwd=_ROOT,
            check=True,
        )
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def broken(found: Mapping[str, Any]) -> list[str]:
    """The bounds that do not hold.

    :param found: of each benchmark, by its name
    """
    return [
        f'{name}: {bound["text"]}'
        for name, it in found.items()
        for bound in it['bounds']
        if not bound['holds']
    ]


def _parser() -> argparse.ArgumentParser:
    lines = [f'  {name:8}  {what}' for name, what in NAMES.items()]
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks',
        description=f'{__doc__}\nthe benchmarks:\n' + '\n'.join(lines),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--only',
        action='append',
        choices=NAMES,
        metavar='NAME',
        help='this one; may be given several times',
    )
    parser.add_argument(
        '--check', action='store_true', help='fail where a bound does not hold'
    )
    parser.add_argument(
        '--json', type=pathlib.Path, metavar='FILE', help='keep the figures'
    )
    parser.add_argument(
        '--from',
        dest='earlier',
        type=pathlib.Path,
        metavar='FILE',
        help='measure nothing; take the figures that a run has kept',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='see that it runs: the times mean nothing then',
    )
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help='write benchmarks/README.rst and doc/source/reference/speed.rst '
        'anew; needs ' + ', '.join(SPEED),
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them, and say what does not hold.

    :returns: the exit code: 1 where one fails, or with ``--check``, where a
        bound does not hold
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    names = [name for name in NAMES if name in (asked.only or NAMES)]
    if asked.earlier is not None:
        found = json.loads(asked.earlier.read_text())
        names = list(found)
    if asked.write_docs and not set(SPEED) <= set(names):
        parser.error(f'--write-docs needs all of {", ".join(SPEED)}')
    if asked.earlier is None:
        found = {}
        for name in names:
            print(f'=== {name}: {NAMES[name]}\n', flush=True)
            try:
                found[name] = run(name, quick=asked.quick)
            except subprocess.CalledProcessError as exc:
                print(f'{name} failed: {exc}', file=sys.stderr)
                return 1
            print()
    if asked.json is not None:
        report.write(asked.json, found)
    if asked.write_docs:
        # It draws, which nothing else here needs.
        from benchmarks import page

        page.write(found)
    bounds = [bound for it in found.values() for bound in it['bounds']]
    too_much = broken(found)
    print(f'{len(bounds) - len(too_much)} of {len(bounds)} bounds hold')
    for text in too_much:
        print(f'does not hold: {text}')
    return int(asked.check and bool(too_much))


if __name__ == '__main__':
    sys.exit(main())
