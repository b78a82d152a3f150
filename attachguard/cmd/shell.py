# SPDX-License-Identifier: Apache-2.0

"""The command ``attachguard``, for operators.

Its subcommands are the entry points of the group ``attachguard.cli``, so that
another package can add one.
"""

from __future__ import annotations

import argparse
from collections import abc
from importlib import metadata
import logging
import sys
import time
from typing import Any
import warnings

from cliff import app
from cliff import commandmanager

_DESCRIPTION = """\
Stop users from forging volume attachments in Cinder, and find forged ones.

The guard itself is a filter in the pipeline of cinder-api: see
etc/api-paste.ini.sample. These commands are for operators. Start with:

    attachguard demo            show what the guard does, on a real Cinder API
    attachguard paste FILE      put the filter into api-paste.ini
    attachguard preflight       check whether this cloud is ready for the guard
    attachguard learn LOG       list whom the guard refuses, or would refuse
    attachguard audit           list the volumes that are inconsistent now
    attachguard explain VOLUME  show what is wrong with one, and how to fix it
    attachguard help COMMAND    show what a command does, and its options
"""

_EPILOG = """\
exit codes:
  0  the command succeeded
  1  the command failed; the reason is on standard error
  2  the command line is wrong
  130  the command was interrupted, by Ctrl-C or SIGTERM
audit, explain, repair and undo have more exit codes: see their --help.
"""


INTERRUPTED = 130


class Shell(app.App):
    """The application that runs the commands."""

    def __init__(self) -> None:
        super().__init__(
            description=_DESCRIPTION,
            version=metadata.version('attachguard'),
            command_manager=commandmanager.CommandManager('attachguard.cli'),
            # "attachguard demo --help" shows the help of the command demo.
            deferred_help=True,
        )

    def configure_logging(self) -> None:
        """Add the handlers of logs; the times in a file are in UTC."""
        super().configure_logging()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                formatter = logging.Formatter(
                    self.LOG_FILE_MESSAGE_FORMAT, '%Y-%m-%dT%H:%M:%SZ'
                )
                formatter.converter = time.gmtime
                handler.setFormatter(formatter)

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        """Add the exit codes, and keep the line breaks of the texts."""
        return super().build_option_parser(
            description,
            version,
            {
                'prog': 'attachguard',
                'epilog': _EPILOG,
                'formatter_class': argparse.RawDescriptionHelpFormatter,
                **(argparse_kwargs or {}),
            },
        )


def main(argv: abc.Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments; by default those of the process
    :returns: the exit code
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # futurist imports eventlet wherever it is installed.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    # Without arguments, cliff would start its interactive mode.
    try:
        return Shell().run(arguments or ['help'])
    except KeyboardInterrupt:
        # Before or after the command itself.
        return INTERRUPTED
