# SPDX-License-Identifier: Apache-2.0
"""What the configuration says of the computes, without importing Nova."""

from __future__ import annotations

#: The option ``compute_driver``; Nova looks below ``nova.virt`` only, and
#: :mod:`tests.cloud.compute` puts its module there.
NAME = 'attachguard.Driver'

#: The computes: two, so that servers can move.
HOSTS = ('compute1', 'compute2')

#: A server with this in its name is not built.
UNBUILDABLE = 'unbuildable'

#: A server with this in its name takes some time to move, and its volumes to
#: be swapped, in seconds.
SLOW_TO_MOVE = 'slow-to-move'
MOVING_TIME = 6.0
