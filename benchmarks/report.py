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
"""What the benchmarks share: bounds, tables, versions, and a command line.

It imports nothing that is not needed to start and report: what is measured
in a process begins with the memory that the one before it had.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from importlib import metadata
import json
import pathlib
import platform
import sys
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bound:
    """Something that holds, or does not.

    :param text: what
    :param value: what was measured
    :param most: what it may be
    :param least: what it must be
    """

    text: str
    value: float
    most: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it does."""
        if self.most is not None and not self.value <= self.most:
            return False
        return self.least is None or self.value >= self.least

    def __str__(self) -> str:
        bound, limit, said = self.most, 'of', 'TOO MUCH'
        if bound is None or self.least is not None and self.value < self.least:
            bound, limit, said = self.least, 'of at least', 'TOO LITTLE'
        return (
            f'{"ok" if self.holds else said:10}  {self.text}: '
            f'{_number(self.value)} {limit} {_number(bound)}'
        )

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**dataclasses.asdict(self), 'holds': self.holds}


def _number(value: float | None) -> str:
    assert value is not None
    if value == int(value):
        return f'{value:,.0f}'
    return f'{value:,.2f}' if value >= 0.1 else f'{value:.4f}'


def layout(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Rows of cells, aligned.

    :param left: how many columns, from the left, hold words
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        )
        for row in rows
    )


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, for people.

    :param name: what it shows, as a title
    :param head: of the columns; the first holds words
    :param rows: the cells, as texts
    :param note: how to read it
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''

    def text(self) -> str:
        """For a terminal, with its title."""
        lines = layout([self.head, *self.rows], 1).splitlines()
        return '\n'.join([self.name, '', *(line.rstrip() for line in lines)])

    def rst(self) -> str:
        """For a page, without its title."""
        rows = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rule = '  '.join('=' * width for width in widths)
        lines = [line.rstrip() for line in layout(rows, 1).splitlines()]
        return '\n'.join([rule, lines[0], rule, *lines[1:], rule])


@dataclasses.dataclass(frozen=True)
class Report:
    """What one of the benchmarks has found.

    :param results: the numbers, as JSON has them
    :param tables: the same, for people
    :param bounds: what must hold
    :param packages: whose versions matter
    """

    results: dict[str, Any]
    tables: Sequence[Table]
    bounds: Sequence[Bound]
    packages: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            'versions': versions(self.packages),
            'results': self.results,
            'tables': [dataclasses.asdict(table) for table in self.tables],
            'bounds': [bound.to_json() for bound in self.bounds],
        }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """What it was measured with."""
    return {
        'Python': platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def write(path: pathlib.Path, found: dict[str, Any]) -> None:
    """Write what was found into a file, as JSON."""
    path.write_text(json.dumps(found, indent=2) + '\n')


def main(
    name: str,
    doc: str | None,
    measure: Callable[[bool], Report],
    arguments: list[str] | None = None,
) -> int:
    """The command line of one of the benchmarks.

    :param name: of its module
    :param doc: of its module
    :param measure: does it; told whether to be quick about it
    :returns: the exit code: 1 with ``--check`` where a bound does not hold
    """
    parser = argparse.ArgumentParser(
        prog=f'python -m benchmarks.{name}',
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--json', type=pathlib.Path, metavar='FILE')
    parser.add_argument(
        '--check', action='store_true', help='fail where a bound does not hold'
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='see that it runs: the times mean nothing then',
    )
    asked = parser.parse_args(arguments)
    found = measure(asked.quick)
    for table in found.tables:
        print(table.text())
        if table.note:
            print(f'\n{table.note}')
        print()
    measured_with = versions(found.packages)
    print(', '.join(f'{name} {it}' for name, it in measured_with.items()))
    print()
    for bound in found.bounds:
        print(bound)
    sys.stdout.flush()
    if asked.json is not None:
        write(asked.json, found.to_json())
    return int(asked.check and not all(bound.holds for bound in found.bounds))
