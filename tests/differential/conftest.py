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
