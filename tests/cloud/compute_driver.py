# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""What the configuration says of the computes, without importing Nova."""

from __future__ import annotations

#: The option ``compute_driver``; Nova looks below ``nova.virt`` only, and
#: :mod:`tests.cloud.compute` puts its module there.
NAME = 'attachguard.Driver'

#: The computes: two, so that servers can move.
HOSTS = ('compute1', 'compute2')

#: A server with this in its name is not built.
UNBUILDABLE = 'unbuildable'

#: A server with this in its name takes some time to move, in seconds.
SLOW_TO_MOVE = 'slow-to-move'
MOVING_TIME = 6.0
