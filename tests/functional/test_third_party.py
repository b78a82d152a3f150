# SPDX-License-Identifier: Apache-2.0

"""Tests of other people, as the documentation shows them.

The page has this file's examples: each is run in a pytest of its own.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

_PAGE = pathlib.Path(__file__).parents[2] / 'doc/source/reference/testing.rst'
_EXAMPLES = re.findall(
    r'^\.\. code-block:: python\n   :caption: (\S+)\n((?:\n|   .*\n)+)',
    _PAGE.read_text(),
    re.M,
)


@pytest.mark.parametrize(
    ('name', 'code'),
    _EXAMPLES,
    ids=[name for name, _code in _EXAMPLES],
)
def test_an_example_of_the_page_passes(
    tmp_path: pathlib.Path, name: str, code: str
) -> None:
    (tmp_path / name).write_text(re.sub('^   ', '', code, flags=re.M))
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', name],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '1 passed' in done.stdout


def test_there_are_examples() -> None:
    assert len(_EXAMPLES) == 3
