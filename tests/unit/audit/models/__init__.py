# SPDX-License-Identifier: Apache-2.0
"""A Cinder and a Nova in memory, and everybody who uses them.

They behave as Cinder 29 and Nova 34 in what concerns attachments, also in
those moments in which their records differ.
"""

from tests.unit.audit.models.connection import Adapter
from tests.unit.audit.models.connection import Before
from tests.unit.audit.models.connection import Connection
from tests.unit.audit.models.connection import Fault
from tests.unit.audit.models.nova import HOSTS
from tests.unit.audit.models.nova import Server
from tests.unit.audit.models.world import Action
from tests.unit.audit.models.world import ACTIONS
from tests.unit.audit.models.world import GONE
from tests.unit.audit.models.world import PROJECT
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
