# SPDX-License-Identifier: Apache-2.0
"""The page about trouble names tests that there are, and all of the faults."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.outage import faults

# Each test waits for the collection of tests/chaos.
pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).parents[2]
_PAGE = _ROOT / 'doc/source/reference/trouble.rst'


class _Named(NamedTuple):
    """A test, or all those of a class, in any case or in one."""

    file: str
    name: str
    case: str


def _named() -> set[_Named]:
    found = re.findall(
        r'``(test_\w+\.py)::([\w:]+)(?:\[([\w-]+)\])?``', _PAGE.read_text()
    )
    return {_Named(*match) for match in found}


@pytest.fixture(scope='module')
def collected() -> list[str]:
    listed = subprocess.run(
        [
            sys.executable,
            '-m',
            'pytest',
            '--collect-only',
            '-p',
            'no:cacheprovider',
            '-o',
            'addopts=',
            '-q',
            'tests/chaos',
        ],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    tests = [line for line in listed.stdout.splitlines() if '::' in line]
    assert tests
    return tests


def _is(test: str, named: _Named) -> bool:
    path, _, rest = test.partition('::')
    name, _, case = rest.partition('[')
    return (
        path == f'tests/chaos/{named.file}'
        and f'::{named.name}::' in f'::{name}::'
        and (not named.case or f'-{named.case}-' in f'-{case.rstrip("]")}-')
    )


def test_each_test_that_is_named_exists(collected: list[str]) -> None:
    missing = [
        named
        for named in _named()
        if not any(_is(test, named) for test in collected)
    ]
    assert not missing


def test_each_test_that_exists_is_named(collected: list[str]) -> None:
    named = _named()
    missing = [
        test for test in collected if not any(_is(test, one) for one in named)
    ]
    assert not missing


def test_each_fault_is_named() -> None:
    assert faults.ALL.keys() <= {named.case for named in _named()}
