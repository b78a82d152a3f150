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

"""Write the documentation's page about the classes of findings.

The texts are in :mod:`attachguard.audit.checks`.  ``make genconfig`` runs
this.
"""

from __future__ import annotations

import pathlib
import sys
import textwrap

from attachguard.audit import checks

PAGE = pathlib.Path(__file__).parents[1] / 'doc/source/reference/classes.rst'

_HEADER = """\
===================
Classes of findings
===================

.. Written by tools/generate_classes.py from attachguard/audit/checks.py.
"""


def page() -> str:
    """The page's text."""
    parts = [_HEADER]
    for kind in checks.CLASSES.values():
        parts.append(f'{kind.name}\n{"=" * len(kind.name)}\n')
        for term, text in (
            ('', kind.what),
            ('How it comes about: ', kind.how),
            ('What repairs it: ', kind.repair),
        ):
            parts.append(
                textwrap.fill(
                    term + text,
                    79,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                + '\n'
            )
    return '\n'.join(parts)


def main() -> int:
    """Write the page.

    :returns: the exit code
    """
    PAGE.write_text(page())
    return 0


if __name__ == '__main__':
    sys.exit(main())
