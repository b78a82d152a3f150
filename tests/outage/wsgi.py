# SPDX-License-Identifier: Apache-2.0
"""The WSGI application of Cinder, as uWSGI, Apache and gunicorn load it.

By default the scheduler and the volume service run in the same process,
because there is no message queue: each process is a complete Cinder, and they
share the database.  Each process creates a file when it is ready; the last one
reports the port.
"""

import os
import pathlib
import runpy

_ROOT = pathlib.Path(__file__).parents[2]

if os.environ.get('TEST_WITHOUT_EVENTLET'):
    runpy.run_path(str(_ROOT / 'tests/outage/without_eventlet.py'))

# Not imported as a module of attachguard, for the reason that it states.
_cinder = runpy.run_path(str(_ROOT / 'attachguard/testing/_cinder_process.py'))
_cinder['prepare'](
    'threads',
    os.environ['TEST_CINDER_CONF'],
    services=os.environ['TEST_SERVICES'] == '1',
)
application = _cinder['load_application']()

_ready = pathlib.Path(os.environ['TEST_READY_FILE'])
_ready.with_name(f'worker-{os.getpid()}').touch()
if len([*_ready.parent.glob('worker-*')]) >= int(os.environ['TEST_PROCESSES']):
    _cinder['report'](int(os.environ['TEST_PORT']), _ready)
