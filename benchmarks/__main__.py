# SPDX-License-Identifier: Apache-2.0
"""Measure what the guard and the audit cost, beside their peers.

Each benchmark compares with its peers in the same run, so that the result is a
ratio or a count, which depends little on the machine. A bound limits each
important result.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile

from benchmarks import report

_ROOT = pathlib.Path(__file__).parents[1]

PAGE = _ROOT / 'doc/source/reference/speed.rst'

#: The benchmarks in the order in which they run, with their sections' titles.
TITLES = {
    'pass-through': 'Requests without a query to Nova',
    'query': 'Guarded requests',
    'audit': 'The audit',
}

_HELP = """\
benchmarks:
  pass-through  requests that the guard forwards without a query to Nova,
                beside the filters of oslo.middleware; 1 minute
  query         guarded requests, beside a plain GET by requests; 64 at once,
                beside keystoneauth; 2 minutes
  audit         an audit of up to a million volumes, beside a program that
                only reads the lists; 5 minutes
"""

_EXAMPLES = """\
examples:
  python -m benchmarks --check
      run all benchmarks; fail when a bound is exceeded, as "make bench" does
  python -m benchmarks --only query --check
      run one benchmark
  python -m benchmarks --only pass-through --quick
      check that a benchmark works; the times are meaningless
  python -m benchmarks --json speed.json
  python -m benchmarks --from speed.json --write-docs
      run all benchmarks and save the results; write the page from them

exit codes: 0 success; 1 a benchmark failed or, with --check, a bound is
exceeded; 2 a wrong option

Use an idle machine with two CPUs. Ratios of CPU time tolerate some other
load, wall times do not.
"""


def run(name: str, *, quick: bool) -> report.Report:
    """Run a benchmark in a process of its own, and print its report.

    :raises subprocess.CalledProcessError: it fails
    """
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'found.json')
        subprocess.run(  # noqa: S603
            [
                *(sys.executable, '-m', 'benchmarks', '--only', name),
                *('--json', str(path), *(['--quick'] if quick else [])),
            ],
            cwd=_ROOT,
            check=True,
        )
        return load(path)[name]


def measure(name: str, *, quick: bool) -> report.Report:
    """Run a benchmark in this process, and print its report."""
    # Another benchmark's imports would add to the memory of child processes.
    module = importlib.import_module(f'benchmarks.{name.replace("-", "_")}')
    report.progress(f'benchmark {name}')
    found: report.Report = module.measure(quick)
    print(f'{found.text()}\n', flush=True)
    return found


def load(path: pathlib.Path) -> dict[str, report.Report]:
    """Load saved results.

    :returns: the report of each benchmark, by name
    """
    return {
        name: report.Report.from_json(value)
        for name, value in json.loads(path.read_text()).items()
    }


def save(path: pathlib.Path, found: Mapping[str, report.Report]) -> None:
    """Save results as JSON."""
    values = {name: dataclasses.asdict(it) for name, it in found.items()}
    path.write_text(json.dumps(values, indent=2) + '\n')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks',
        description=f'{__doc__}\n{_HELP}',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--only',
        action='append',
        choices=TITLES,
        metavar='NAME',
        help='run only this benchmark; can be repeated',
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
        help='save the results to this file',
    )
    parser.add_argument(
        '--from',
        dest='saved',
        type=pathlib.Path,
        metavar='FILE',
        help='load saved results; run nothing',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='check that the benchmarks work; the times are meaningless',
    )
    parser.add_argument(
        '--write-docs',
        action='store_true',
        help='write doc/source/reference/speed.rst; needs the results of all '
        'benchmarks',
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, and check the bounds.

    :returns: the exit code
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    names = [name for name in TITLES if name in (options.only or TITLES)]
    if options.saved is not None:
        found = load(options.saved)
        names = list(found)
    if options.write_docs and set(names) != set(TITLES):
        parser.error(f'--write-docs needs all of {", ".join(TITLES)}')
    if options.saved is None:
        try:
            start = measure if len(names) == 1 else run
            found = {name: start(name, quick=options.quick) for name in names}
        except subprocess.CalledProcessError as exc:
            print(f'a benchmark failed: {exc}', file=sys.stderr)
            return 1
    if options.json is not None:
        save(options.json, found)
    if options.write_docs:
        PAGE.write_text(report.page(found, TITLES))
    bounds = [bound for it in found.values() for bound in it.bounds]
    exceeded = [bound for bound in bounds if not bound.holds]
    if options.check:
        print(f'{len(bounds) - len(exceeded)} of {len(bounds)} bounds hold')
        for bound in exceeded:
            print(bound)
    return int(options.check and bool(exceeded))


if __name__ == '__main__':
    sys.exit(main())
