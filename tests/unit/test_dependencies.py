# SPDX-License-Identifier: Apache-2.0

"""What the package requires without extras, and what its page says of it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
import pathlib
import re

from packaging import requirements
from packaging import utils

_ROOT = pathlib.Path(__file__).parents[2]
_PAGE = _ROOT / 'doc/source/install/index.rst'


def _required(distribution: str) -> Iterator[str]:
    """The packages that one requires on this Python, without extras."""
    for line in metadata.requires(distribution) or []:
        requirement = requirements.Requirement(line)
        marker = requirement.marker
        if marker is None or marker.evaluate({'extra': ''}):
            yield utils.canonicalize_name(requirement.name)


def _closure(distribution: str) -> set[str]:
    """The packages that pip installs with one."""
    found: set[str] = set()
    to_do = [distribution]
    while to_do:
        new = set(_required(to_do.pop())) - found
        found |= new
        to_do += new
    return found


def test_everything_required_comes_with_cinder() -> None:
    """The tests run with every supported release of Cinder."""
    required = _closure('attachguard')
    assert {'keystonemiddleware', 'python-novaclient'} <= required
    assert required <= _closure('cinder')


def test_the_page_lists_what_is_required() -> None:
    listed = re.findall(
        r'^   \* - ``(\S+)``\n     - ([\d.]+)$', _PAGE.read_text(), re.M
    )
    required = [
        requirements.Requirement(line.partition('#')[0])
        for line in (_ROOT / 'requirements.txt').read_text().splitlines()
        if line.partition('#')[0].strip()
    ]
    assert [f'{name}>={version}' for name, version in listed] == [
        str(requirement) for requirement in required
    ]
