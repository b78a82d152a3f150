# SPDX-License-Identifier: Apache-2.0

"""``attachguard paste``: put the filter into Cinder's paste file."""

from __future__ import annotations

import argparse
import os
import pathlib
import secrets
import shutil
import sys

from cliff import command

from attachguard import opts
from attachguard.guard import paste_edit


class Paste(command.Command):
    """Put the filter into the pipelines of Cinder's api-paste.ini.

    It is put right before the application, into each pipeline with authtoken.
    Comments and line breaks stay as they are. A file that has the filter is
    not changed, and one that does not have the usual form is refused. Without
    --in-place the result is printed.

    examples::

      attachguard paste --in-place /etc/cinder/api-paste.ini
      attachguard paste --in-place --remove /etc/cinder/api-paste.ini

    exit codes::

      0  the file has the filter, or with --remove does not have it
      1  the file is not changed; the reason is on standard error
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            'file',
            metavar='FILE',
            type=pathlib.Path,
            help="Cinder's api-paste.ini.",
        )
        parser.add_argument(
            '--in-place', action='store_true', help='Change the file.'
        )
        parser.add_argument(
            '--remove',
            action='store_true',
            help='Remove the filter. Its section stays if it has options.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Edit the file.

        :returns: the exit code
        """
        path: pathlib.Path = parsed_args.file
        edit = paste_edit.remove if parsed_args.remove else paste_edit.add
        try:
            # As it is, whatever its line breaks are.
            before = path.read_bytes().decode()
            after = edit(before)
            if parsed_args.in_place and after != before:
                _replace(path.resolve(), after.encode())
        except (OSError, UnicodeDecodeError, opts.ConfigError) as exc:
            print(f'error: {path}: {exc}', file=sys.stderr)
            return 1
        if not parsed_args.in_place:
            self.app.stdout.write(after)
        elif after == before:
            print(f'{path} is not changed', file=sys.stderr)
        else:
            print(f'{path} is changed; restart cinder-api', file=sys.stderr)
        return 0


def _replace(path: pathlib.Path, data: bytes) -> None:
    """Replace a file atomically, with its mode and owner."""
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(8)}.tmp')
    stat = path.stat()
    try:
        with temporary.open('xb') as file:
            os.fchown(file.fileno(), stat.st_uid, stat.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
