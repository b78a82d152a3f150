# SPDX-License-Identifier: Apache-2.0
"""HTML pages that load nothing, from the templates of a package.

The content of a page can come from users: Jinja escapes all of it, and the
page's Content-Security-Policy permits by their hashes only the style and the
script of attachguard.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Make the environment of the templates.

    :param package: its name; the templates are in its folder ``templates``
    :returns: with a filter ``hash``, for the Content-Security-Policy
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters['hash'] = _hash
    return made


def asset(package: str, name: str) -> str:
    """Read a style or a script.

    :param package: its name
    :param name: of the file, beside the templates
    """
    path = resources.files(package) / 'templates' / name
    return path.read_text(encoding='utf-8')


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f'sha256-{base64.b64encode(digest).decode()}'
