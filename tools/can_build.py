# SPDX-License-Identifier: Apache-2.0

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
