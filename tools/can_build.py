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

"""Say by the exit code whether this Python is of a version, such as 3.11, and
can build modules in C.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import sysconfig


def main(version: str) -> int:
    """The command.

    :returns: 0 if it is and it can, else 1
    """
    headers = pathlib.Path(sysconfig.get_path('include'))
    able = (
        version == f'{sys.version_info.major}.{sys.version_info.minor}'
        and shutil.which('cc') is not None
        and (headers / 'Python.h').is_file()
    )
    return 0 if able else 1


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
