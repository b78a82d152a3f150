# SPDX-License-Identifier: Apache-2.0

"""A stub of the Compute API: servers and their volumes."""

from __future__ import annotations

from attachguard.testing.stub_nova.api import StubNova
from attachguard.testing.stub_nova.records import Attachment
from attachguard.testing.stub_nova.records import Flavor
from attachguard.testing.stub_nova.records import Server

__all__ = ['Attachment', 'Flavor', 'Server', 'StubNova']
