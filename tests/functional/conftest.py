# SPDX-License-Identifier: Apache-2.0
"""The fixtures of the functional tests."""

from __future__ import annotations

from tests.functional.real.fixtures import cinder_pair
from tests.functional.real.fixtures import keystone_pair
from tests.functional.real.fixtures import nova_pair

__all__ = ['cinder_pair', 'keystone_pair', 'nova_pair']
