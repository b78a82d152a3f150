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

"""Files that are there whole, or not at all.

Whoever reads a report, be it node_exporter or a web server, may do so at any
moment, and so may a disk run full.
"""

from __future__ import annotations

import os
import pathlib
import secrets


class NotWrittenError(Exception):
    """A file could not be written; what was there before still is."""


def replace(path: pathlib.Path, data: bytes, *, public: bool = False) -> None:
    """Write a file, in place of the one of that name if there is one.

    It is written under another name and, once it is on the disk, renamed.

    :param path: a file in a directory that exists
    :param data: all of it
    :param public: whether everybody on the machine may read it, whatever the
        umask; else only its owner and group, and less if the umask says so
    :raises NotWrittenError: if that did not work, with why
    """
    # What no *.prom and no *.html matches.
    beside = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.tmp')
    try:
        if path.is_symlink() or path.exists() and not path.is_file():
            # It would be replaced, too: /dev/stdout, say.
            raise NotWrittenError(f'{path}: there is one, and no plain file')
        # An open that follows nothing, and finds nothing.
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            with open(fd, 'wb') as file:
                if public:
                    os.fchmod(fd, 0o644)
                file.write(data)
                file.flush()
                os.fsync(fd)
            beside.rename(path)
        except BaseException:
            beside.unlink()
            raise
    except OSError as exc:
        raise NotWrittenError(f'{path}: {exc.strerror or exc}') from exc
