# SPDX-License-Identifier: Apache-2.0
"""The refusals of a log, and the proposed policy lines, as one HTML page.

The page loads nothing and runs nothing.  Its content comes from a log, and so
partly from clients: Jinja escapes all of it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import hashlib
from importlib import metadata
from importlib import resources

import jinja2

from attachguard.decisions import proposal
from attachguard.decisions import refusals

#: The most groups on a page.
LIMIT = 5000


def render(found: refusals.Refusals, lines: Sequence[proposal.Line]) -> str:
    """Render the page.

    :param found: the refusals
    :param lines: the proposed policy lines
    :returns: HTML
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('attachguard.decisions'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    directory = resources.files('attachguard.decisions') / 'templates'
    style = (directory / 'refusals.css').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest())
    return environment.get_template('refusals.html').render(
        groups=found.groups[:LIMIT],
        total=sum(group.count for group in found.groups) + found.left_out,
        hidden=len(found.groups[LIMIT:]),
        left_out=found.left_out,
        lines=[(line, proposal.write([line])) for line in lines],
        style=style,
        style_hash=f'sha256-{digest.decode()}',
        version=metadata.version('attachguard'),
    )
