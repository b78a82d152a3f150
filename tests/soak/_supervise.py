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
"""Run a command for as long as standard input is open.

python _supervise.py COMMAND ARGUMENT ...

Has to be the first of its process group, all of which it kills then. The
kernel closes standard input even for a parent that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(command: list[str]) -> None:
    """Run it; end with its status."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
    )

    def kill_with_parent() -> None:
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=kill_with_parent, daemon=True).start()
    os._exit(child.wait() & 0xFF)


if __name__ == '__main__':
    main(sys.argv[1:])
