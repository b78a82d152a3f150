# SPDX-License-Identifier: Apache-2.0
"""The refusals of a log, and the proposed policy lines, as one HTML page.

The page loads nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from attachguard import html_page
from attachguard.decisions import proposal
from attachguard.decisions import refusals

#: The most groups on a page.
LIMIT = 5000

_PACKAGE = 'attachguard.decisions'


def render(found: refusals.Refusals, lines: Sequence[proposal.Line]) -> str:
    """Render the page.

    :param found: the refusals
    :param lines: the proposed policy lines
    :returns: HTML
    """
    template = html_page.environment(_PACKAGE).get_template('refusals.html')
    return template.render(
        groups=found.groups[:LIMIT],
        total=sum(group.count for group in found.groups) + found.left_out,
        hidden=len(found.groups[LIMIT:]),
        left_out=found.left_out,
        lines=[(line, proposal.write([line])) for line in lines],
        style=html_page.asset(_PACKAGE, 'refusals.css'),
        version=metadata.version('attachguard'),
    )
