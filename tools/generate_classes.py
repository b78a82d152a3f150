# SPDX-License-Identifier: Apache-2.0

"""Write the documentation's page about the classes of findings.

The texts are in :mod:`attachguard.audit.classes`.  ``make genconfig`` runs
this.
"""

from __future__ import annotations

import pathlib
import sys
import textwrap

from attachguard.audit import classes

PAGE = pathlib.Path(__file__).parents[1] / 'doc/source/reference/classes.rst'

_HEADER = """\
===================
Classes of findings
===================

.. Written by tools/generate_classes.py from attachguard/audit/classes.py.

For each finding, first compare the records: ``attachguard explain VOLUME``. It
prints what to do. ``attachguard repair --volume VOLUME`` shows the repair, and
with ``--yes`` it repairs; what it cannot do is marked *manually* below. Do not
use SQL or ``cinder reset-state`` instead, and do not reboot the server before
the finding is understood. :doc:`/admin/repair` has the details.
"""


def page() -> str:
    """The page's text."""
    parts = [_HEADER]
    for kind in classes.CLASSES.values():
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
