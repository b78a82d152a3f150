# SPDX-License-Identifier: Apache-2.0
"""``make unit-optimised`` runs these tests without the package's asserts."""

from __future__ import annotations

import pytest


def test_python_o_keeps_the_assertions_of_tests() -> None:
    """pytest rewrites them, so that they are no assert statements."""
    with pytest.raises(AssertionError):
        assert not pytest
