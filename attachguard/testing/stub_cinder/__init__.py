# SPDX-License-Identifier: Apache-2.0

"""A stub of the Block Storage API: volumes and their attachments."""

from __future__ import annotations

from attachguard.testing.stub_cinder.api import StubCinder
from attachguard.testing.stub_cinder.records import Attachment
from attachguard.testing.stub_cinder.records import Volume

__all__ = ['Attachment', 'StubCinder', 'Volume']
