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
"""A Cinder and a Nova in memory, and everybody who uses them.

They behave as Cinder 29 and Nova 34 in what concerns attachments, also in
those moments in which their records differ.
"""

from tests.unit.audit.models.connection import Adapter
from tests.unit.audit.models.connection import Before
from tests.unit.audit.models.connection import Connection
from tests.unit.audit.models.connection import Fault
from tests.unit.audit.models.connection import PROJECT
from tests.unit.audit.models.nova import HOSTS
from tests.unit.audit.models.nova import Server
from tests.unit.audit.models.world import Action
from tests.unit.audit.models.world import ACTIONS
from tests.unit.audit.models.world import GONE
from tests.unit.audit.models.world import World

__all__ = [
    'ACTIONS',
    'Action',
    'Adapter',
    'Before',
    'Connection',
    'Fault',
    'GONE',
    'HOSTS',
    'PROJECT',
    'Server',
    'World',
]
