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
"""Runs Cinder's API as a server that ends in good order when it is told to.

``python orderly.py FILE ARGUMENT ...``, in the place of the FILE that the
embedded Cinder runs: SIGTERM leaves it as SystemExit does, as uWSGI and
mod_wsgi leave theirs, so that Python waits for its threads and whatever else
wants to be waited for.  The volume service and the scheduler are not started:
they would be waited for, too.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from typing import Any


def _leave(*_args: Any) -> None:
    sys.exit(0)


def main(path: str, *arguments: str) -> None:
    """Run what there is to run, without the services."""
    spec = importlib.util.spec_from_file_location('cinder_process', path)
    assert spec is not None
    assert spec.loader is not None
    process = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(process)
    process._start_services = lambda: None  # type: ignore[attr-defined]
    process.main(*arguments)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, _leave)
    main(*sys.argv[1:])
