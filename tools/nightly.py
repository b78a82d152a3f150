# SPDX-License-Identifier: Apache-2.0
"""Run the parts of ``make nightly``, and print a table of their results.

Each part is the target ``nightly-PART`` of the Makefile. Its output goes to
``.nightly/PART.log``. A part that fails does not stop the others.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import dataclasses
import pathlib
import re
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).parents[1]
_LOGS = _ROOT / '.nightly'

# "2 failed, 398 passed, 31 warnings in 93.23s", as pytest prints it. Tempest
# does not print the time.
_SUMMARY = re.compile(
    r'^(?:=+ )?((?:\d+ \w+, )*\d+ \w+)(?: in [\d.]+s.*)?$', re.M
)
_COUNT = re.compile(r'(\d+) (passed|failed|skipped|errors?)')
_COLUMNS = '{:<14} {:>8} {:>8} {:>8} {:>8}  {}'


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one part.

    :param part: its name
    :param seconds: how long it took
    :param counts: the number of tests that passed, failed and were skipped
    :param status: exit status of make
    """

    part: str
    seconds: float
    counts: Mapping[str, int]
    status: int

    def row(self) -> str:
        """The part's line of the table."""
        return _COLUMNS.format(
            self.part,
            round(self.seconds),
            *(self.counts[name] for name in ('passed', 'failed', 'skipped')),
            'ok' if self.status == 0 else f'FAILED, see {_log(self.part)}',
        )


def _log(part: str) -> pathlib.Path:
    return (_LOGS / f'{part}.log').relative_to(_ROOT)


def count(output: str) -> collections.Counter[str]:
    """Add up the results of every run of pytest in an output.

    :param output: the output
    :returns: the number of tests by ``passed``, ``failed`` and ``skipped``;
        errors are failures
    """
    counts: collections.Counter[str] = collections.Counter()
    for summary in _SUMMARY.findall(output):
        for number, name in _COUNT.findall(summary):
            key = 'failed' if name.startswith('error') else name
            counts[key] += int(number)
    return counts


def run(part: str) -> Result:
    """Run one part, with its output in its log file.

    :param part: its name
    """
    log = _ROOT / _log(part)
    began = time.monotonic()
    with log.open('wb') as output:
        done = subprocess.run(
            ['make', f'nightly-{part}'],  # noqa: S607
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return Result(
        part,
        time.monotonic() - began,
        count(log.read_text(errors='replace')),
        done.returncode,
    )


def main(parts: list[str]) -> int:
    """The command.

    :param parts: the parts to run, in this order
    :returns: 0 if every part succeeded, else 1
    """
    _LOGS.mkdir(exist_ok=True)
    results = []
    for part in parts:
        print(f'{part}: running, see {_log(part)}', flush=True)
        results.append(run(part))
    print(
        _COLUMNS.format(
            'part', 'seconds', 'passed', 'failed', 'skipped', 'result'
        )
    )
    for result in results:
        print(result.row())
    return int(any(result.status for result in results))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
