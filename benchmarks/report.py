# SPDX-License-Identifier: Apache-2.0
"""Bounds, tables and reports, shared by all benchmarks.

This module imports only the standard library. The audit benchmark measures
the memory of child processes, and on Linux a child starts with the memory
peak of its parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from importlib import metadata
import platform
import sys
import time
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bound:
    """A limit on a measured value.

    :param text: what is measured
    :param value: the measured value
    :param most: the highest allowed value
    :param exactly: whether it is the only allowed value
    """

    text: str
    value: float
    most: float
    exactly: bool = False

    @property
    def holds(self) -> bool:
        """True if the value is within the limit. NaN never is."""
        if self.exactly:
            return self.value == self.most
        return self.value <= self.most

    @property
    def limit(self) -> str:
        """The limit in words."""
        kind = 'exactly' if self.exactly else 'at most'
        return f'{kind} {number(self.most)}'

    def __str__(self) -> str:
        state = 'ok' if self.holds else 'EXCEEDED'
        return f'{state:8}  {self.text}: {number(self.value)} ({self.limit})'


def number(value: float) -> str:
    """Format a number, with more digits for a small one."""
    if float(value).is_integer():
        return f'{value:,.0f}'
    return f'{value:,.2f}' if value >= 0.1 else f'{value:.4f}'


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results.

    :param name: its title
    :param head: the titles of the columns; the first column holds names
    :param rows: the cells
    :param note: how to read it
    """

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''

    def text(self) -> str:
        """Format the table for a terminal."""
        rows = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            '  '.join(
                cell.rjust(width) if index else cell.ljust(width)
                for index, (cell, width) in enumerate(
                    zip(row, widths, strict=True)
                )
            )
            for row in rows
        ]
        note = f'\n\n{self.note}' if self.note else ''
        return '\n'.join([self.name, '', *lines]) + note

    def rst(self) -> str:
        """Format the table as a Sphinx ``list-table`` with its note."""
        lines = [f'.. list-table:: {self.name}', '   :header-rows: 1', '']
        for row in [self.head, *self.rows]:
            marks = ['   * -', *['     -'] * (len(row) - 1)]
            lines += [
                f'{mark} {cell}'.rstrip()
                for mark, cell in zip(marks, row, strict=True)
            ]
        note = f'\n\n{self.note}' if self.note else ''
        return '\n'.join(lines) + note


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of one benchmark.

    :param tables: the results
    :param bounds: the limits
    :param versions: the versions of Python and of the packages measured
    """

    tables: Sequence[Table]
    bounds: Sequence[Bound]
    versions: dict[str, str]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        """Load what ``dataclasses.asdict`` made of a report."""
        return cls(
            [Table(**table) for table in value['tables']],
            [Bound(**bound) for bound in value['bounds']],
            value['versions'],
        )

    @property
    def measured_with(self) -> str:
        """A sentence with the versions."""
        versions = ', '.join(map(' '.join, self.versions.items()))
        return f'Measured with {versions}.'

    def text(self) -> str:
        """Format the report for a terminal."""
        parts = [table.text() for table in self.tables]
        parts += [
            '\n'.join(map(str, self.bounds)),
            self.measured_with,
        ]
        return '\n\n'.join(parts)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Read the versions of Python and of packages."""
    return {
        'Python': platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def progress(text: str) -> None:
    """Print a line of progress, with the time, to standard error."""
    print(f'[{time.strftime("%H:%M:%S")}] {text}', file=sys.stderr, flush=True)


_HEAD = """\
=====
Speed
=====

.. This file is written by: python -m benchmarks --write-docs

What the guard adds to a request, and what an audit of a whole cloud takes.
Times depend on the machine. Ratios and counts depend little on it: each ratio
compares two programs in the same run, in which they take turns, and uses the
lowest time of each. ``benchmarks/README.rst`` describes the method. ``make
bench`` measures again, and fails when a bound is exceeded.
"""


def page(found: Mapping[str, Report], titles: Mapping[str, str]) -> str:
    """Write the page of the documentation.

    :param found: the report of each benchmark, by name
    :param titles: the title of each benchmark's section
    """
    bounds = Table(
        'Bounds',
        ('measured', 'value', 'bound'),
        [
            (bound.text, number(bound.value), bound.limit)
            for name in titles
            for bound in found[name].bounds
        ],
    )
    parts = [_HEAD, bounds.rst()]
    for name, title in titles.items():
        parts.append(f'\n{title}\n{"=" * len(title)}')
        parts += [f'\n{table.rst()}' for table in found[name].tables]
        parts.append(f'\n{found[name].measured_with}')
    return '\n'.join(parts) + '\n'
