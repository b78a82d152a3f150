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
"""The WSGI application of Cinder, as uWSGI and gunicorn load it.

The scheduler and the volume service run in the same process, because there is
no message queue: each process is a complete Cinder, and they share the
database.  Each process creates a file when it is ready; the last one reports
the port.
"""

import os
import pathlib
import runpy

_ROOT = pathlib.Path(__file__).parents[2]

# Not imported as a module of attachguard, for the reason that it states.
_cinder = runpy.run_path(str(_ROOT / 'attachguard/testing/_cinder_process.py'))
_cinder['prepare']('threads', os.environ['TEST_CINDER_CONF'])
application = _cinder['load_application']()

_ready = pathlib.Path(os.environ['TEST_READY_FILE'])
_ready.with_name(f'worker-{os.getpid()}').touch()
if len([*_ready.parent.glob('worker-*')]) >= int(os.environ['TEST_PROCESSES']):
    _cinder['report'](int(os.environ['TEST_PORT']), _ready)
