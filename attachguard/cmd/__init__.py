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

"""The command ``attachguard``, for operators.

Its commands are found by the entry-point group ``attachguard.cli``, so that
another package can add one.
"""

from __future__ import annotations

import argparse
from collections import abc
from importlib import metadata
import sys
from typing import Any
import warnings

from cliff import app
from cliff import commandmanager

_DESCRIPTION = """\
Keeps forged volume attachments out of Cinder, and finds those that are there.

The guard itself is no command: it is a filter in cinder-api's pipeline. See
etc/api-paste.ini.sample for where it goes. The commands are for what an
operator does around it; begin with:

    attachguard demo            what the guard is for, on a real Cinder API
    attachguard preflight       whether this cloud is ready for it
    attachguard audit           which volumes are inconsistent already
    attachguard explain VOLUME  what is the matter with one, and what to do
    attachguard help COMMAND    what a command does, and its options
"""

_EPILOG = """\
exit codes:
  0  the command did what it promises
  1  it did not; standard error says why
  2  the command line is wrong
Those of audit, explain, repair and undo tell more: see their --help.
"""


class Shell(app.App):
    """The application that the commands live in."""

    def __init__(self) -> None:
        super().__init__(
            description=_DESCRIPTION,
            version=metadata.version('attachguard'),
            command_manager=commandmanager.CommandManager('attachguard.cli'),
            # "attachguard demo --help" is about the demo.
            deferred_help=True,
        )

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        """Add the exit codes, and keep the text's own line breaks."""
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
    # futurist imports it wherever it is installed; nobody here asked for it.
    warnings.filterwarnings('ignore', r'\s*Eventlet is deprecated')
    # cliff would open a shell of its own; a newcomer wants to be told.
    return Shell().run(arguments or ['help'])
