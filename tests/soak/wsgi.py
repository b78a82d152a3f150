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
"""Cinder's API, for a WSGI server that loads it in each of its processes.

The scheduler and the volume service run in the same process, for there is no
message queue: each process is a whole Cinder, and they share the database. It
says in a file of its own that it is there; the last to do so tells the port.
"""

from __future__ import annotations

import os
import pathlib
import runpy

from tests.soak import _supervise

# Not every server sees to it that its workers end with it.
_supervise.die_with_parent()

_ROOT = pathlib.Path(__file__).parents[2]

# Not as a module of attachguard's: see there.
_cinder = runpy.run_path(str(_ROOT / 'attachguard/testing/_cinder_process.py'))
_cinder['prepare']('threads', os.environ['SOAK_CINDER_CONF'])
application = _cinder['load_application']()

_ready = pathlib.Path(os.environ['SOAK_READY'])
_ready.with_name(f'worker-{os.getpid()}').touch()
if len([*_ready.parent.glob('worker-*')]) >= int(os.environ['SOAK_PROCESSES']):
    _cinder['report'](int(os.environ['SOAK_PORT']), _ready)
