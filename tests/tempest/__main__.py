# SPDX-License-Identifier: Apache-2.0
"""Run Tempest without the guard and with it, and compare test by test.

tests/tempest/selection.yaml lists the tests, those that are left out and those
that must differ, each with its reason. Exit code 0: exactly those differ, each
because the guard refused the call that is named there. 1: another test
differs, or a test fails in both runs, or the cloud does not start. The output
names the problems, and the logs are kept.

A test that differs unexpectedly shows a defect of the guard, or it does what
the guard forbids: the output lists what was refused, and tempest-enforced.log
has the traceback.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import pathlib
import sys
import time

from tests.cloud import backends
from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import processes
from tests.tempest import compare
from tests.tempest import run as runs
from tests.tempest import selection as selections

_ROOT = pathlib.Path(__file__).parents[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m tests.tempest',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--smoke',
        action='store_true',
        help='only the tests that make guarded calls themselves, and few of '
        'those that make Nova do so: some minutes instead of half an hour',
    )
    which.add_argument(
        '--only',
        metavar='REGEX',
        help='only the tests in whose names this is found',
    )
    parser.add_argument(
        '--directory',
        type=pathlib.Path,
        default=_ROOT / '.cloud' / 'tempest',
        help='where the cloud lives; one that runs there is used '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--keep-cloud',
        action='store_true',
        help='leave the cloud running, for the next time',
    )
    parser.add_argument(
        '--concurrency',
        type=int,
        default=2,
        metavar='N',
        help='how many tests are run at the same time (default: %(default)s)',
    )
    return parser.parse_args()


def _report(comparison: compare.Comparison) -> Iterator[str]:
    """What came of it, but for the problems."""
    yield ''
    yield f'{"":18} passed  failed  skipped  minutes'
    for name, run in (
        ('without the guard', comparison.without),
        ('with the guard', comparison.guarded),
    ):
        passed, failed, skipped = (
            run.count(result)
            for result in (
                compare.Result.PASSED,
                compare.Result.FAILED,
                compare.Result.SKIPPED,
            )
        )
        yield (
            f'{name:18} {passed:6}  {failed:6}  {skipped:7}  '
            f'{run.seconds / 60:7.1f}'
        )
    yield ''
    expected = {entry.test: entry for entry in comparison.expected}
    for test, before, after in comparison.pairs():
        if before is not after:
            yield f'differs: {test}: {before.value}, {after.value}'
            if test in expected:
                yield f'    {expected[test].why}'
    yield ''
    refused: dict[tuple[str, str, str], int] = {}
    for call in comparison.guarded.calls:
        if call.verdict != 'allowed':
            key = (call.test or 'not a test', call.operation, call.reason)
            refused[key] = refused.get(key, 0) + 1
    for (test, operation, reason), count in sorted(refused.items()):
        yield f'not let through: {count} x {operation} of {test}: {reason}'
    yield ''


def main() -> int:
    """Do what the command line says.

    :returns: exit code: 1 if something differs, or fails, that is not to
    """
    args = _arguments()
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f'{time.monotonic() - started:6.1f} s  {what}', flush=True)

    selection = selections.load()
    cloud = clouds.Cloud(args.directory, progress)
    runner = runs.Runner(cloud, args.concurrency, progress)
    try:
        cloud.up(modes.UNGUARDED)
        tests, unused = selection.choose(runner.tests())
        if args.smoke:
            tests = selections.matching(selection.smoke, tests)
        elif args.only:
            tests = selections.matching([args.only], tests)
        without, guarded = (
            runner.run(mode, tests)
            for mode in (modes.UNGUARDED, modes.ENFORCED)
        )
    except (backends.Missing, processes.Failed, ModuleNotFoundError) as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        kept = args.directory.with_name(f'{args.directory.name}-kept')
        cloud.keep(kept)
        if not args.keep_cloud:
            cloud.down()
    whole = not (args.smoke or args.only)
    names = {runs.name(test) for test in tests}
    comparison = compare.Comparison(
        without,
        guarded,
        [e for e in selection.differences if whole or e.test in names],
    )
    problems = [
        *comparison.problems(),
        *(f'excluded, and not there: {tests}' for tests in unused),
    ]
    for line in _report(comparison):
        print(line)
    for problem in problems:
        print(f'WRONG: {problem}')
    print(f'The logs are in {kept / "log"}.')
    print(f'{len(tests)} tests, each in two runs.')
    print(f'{comparison.passed()} passed, {len(problems)} failed')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
