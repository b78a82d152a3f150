# SPDX-License-Identifier: Apache-2.0

"""Files that are replaced atomically.

Their readers, such as node_exporter or a web server, never see half a file.
"""

from __future__ import annotations

import os
import pathlib
import secrets


class NotWrittenError(Exception):
    """A file could not be written; an existing one is unchanged."""


def replace(path: pathlib.Path, data: bytes, *, public: bool = False) -> None:
    """Create or replace a file.

    It is written under another name, synced, and renamed.

    :param path: of the file; its directory exists
    :param data: its new content
    :param public: readable for every user, whatever the umask; else for its
        owner and group only, as the umask allows
    :raises NotWrittenError: if that fails, with the cause
    """
    # No *.prom and no *.html matches it.
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.tmp')
    try:
        if path.is_symlink() or path.exists() and not path.is_file():
            # The rename would replace a device, such as /dev/stdout.
            raise NotWrittenError(f'{path} exists, and is no plain file')
        # Follows no link, and opens no existing file.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        try:
            with open(fd, 'wb') as file:
                if public:
                    os.fchmod(fd, 0o644)
                file.write(data)
                file.flush()
                os.fsync(fd)
            temporary.rename(path)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as exc:
        raise NotWrittenError(f'{path}: {exc.strerror or exc}') from exc
