# SPDX-License-Identifier: Apache-2.0
"""Hands the source distribution to pbr.

Everything else is in ``pyproject.toml``. Without this file pbr's build
backend leaves ``requirements.txt`` out of the source distribution, and a
wheel that is built from one then depends on nothing.
"""

from __future__ import annotations

import setuptools

setuptools.setup(
    setup_requires=['pbr>=6.1.1'],
    pbr=True,
)
