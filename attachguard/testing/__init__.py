# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

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
