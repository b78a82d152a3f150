# SPDX-License-Identifier: Apache-2.0

"""Stubs of Keystone, Nova and Cinder for functional tests.

The real clients and the real keystonemiddleware work with them. Functional
tests compare each stub with the real service. :class:`StubCloud` starts all
of them.
"""

from __future__ import annotations

from attachguard.testing.server import serve
from attachguard.testing.stub_cinder import StubCinder
from attachguard.testing.stub_cloud import StubCloud
from attachguard.testing.stub_keystone import StubKeystone
from attachguard.testing.stub_nova import StubNova

__all__ = ['StubCinder', 'StubCloud', 'StubKeystone', 'StubNova', 'serve']
