# SPDX-License-Identifier: Apache-2.0
"""Look for disagreements: ``python -m tests.explorer --minutes 30``."""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
import time

from tests.cloud import cloud as clouds
from tests.explorer import acts
from tests.explorer import calls
from tests.explorer import explorer
from tests.explorer import sequences


def main() -> int:
    """Do what the command line says.

    :returns: exit code: 1 if a disagreement was found
    """
    parser = argparse.ArgumentParser(
        prog='python -m tests.explorer', description=__doc__
    )
    add = parser.add_argument
    add('--minutes', type=float, default=5.0)
    add('--seed', type=int, help='of the first sequence; random by default')
    add('--sequences', type=int, help='how many at most')
    add('--without-guard', action='store_true')
    add('--open', action='append', default=[], metavar='RULE')
    add('--scene', action='append', choices=acts.SCENES)
    add('--call', action='append', choices=calls.CALLS)
    add('--first', action='store_true', help='stop at a disagreement')
    add('--keep', action='store_true', help='use a cloud that runs')
    add(
        '--directory',
        type=pathlib.Path,
        default=pathlib.Path('.cloud/explorer'),
        help='where the cloud lives (default: %(default)s)',
    )
    args = parser.parse_args()
    seed = random.randrange(10**6) if args.seed is None else args.seed
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f'{time.monotonic() - started:6.1f} s  {what}', flush=True)

    progress(f'seed {seed}')
    choice = sequences.Choice(
        args.scene or sequences.Choice.scenes,
        args.call or sequences.Choice.calls,
    )
    cloud = clouds.Cloud(args.directory, progress)
    try:
        if not args.keep:
            cloud.down()
        explorer.start(cloud, not args.without_guard, args.open)
        explore = explorer.Explorer(cloud, choice, progress)
        report = explore.run(seed, args.minutes, args.sequences, args.first)
    finally:
        if not args.keep:
            cloud.down()
    for what, number in sorted(report.calls.items()):
        print(f'{number:6} {what}')
    print(report)
    return 1 if report.by_calls else 0


if __name__ == '__main__':
    sys.exit(main())
