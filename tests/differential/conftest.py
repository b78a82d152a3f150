# SPDX-License-Identifier: Apache-2.0

"""Options of these tests.

A finding names the seed and the index of its request. To repeat it alone::

    pytest tests/differential -k generated --seed S --first INDEX --requests 1
"""

from __future__ import annotations

import pytest

_OPTIONS = {
    '--requests': (2000, 'how many requests to generate'),
    '--first': (0, 'the index of the first one'),
    '--seed': (20140731, 'of the requests'),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the generated requests."""
    group = parser.getgroup('differential')
    for name, (default, text) in _OPTIONS.items():
        group.addoption(
            name,
            default=default,
            type=int,
            help=f'{text} (default: %(default)s)',
        )
