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


"""``attachguard undo``: take back what a repair did."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from cliff import lister

from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import undo
from attachguard.cmd import base as commands
from attachguard.cmd import repair


class Undo(commands.DatabaseCommand, lister.Lister):
    """Take back what a repair did, from its journal.

    A dry run, unless told otherwise with --yes. The last act is taken back
    first. Nothing is touched that is not as the repair left it. An attachment
    comes back with another id, as Cinder gives it, and not with its
    connection to a host; where attachguard stands before Cinder, it refuses
    an attachment that Nova does not have, and then it does not come back at
    all.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the journal."""
        super().add_options(parser)
        parser.add_argument(
            'journal',
            metavar='JOURNAL',
            type=pathlib.Path,
            help='the file that "attachguard repair" has named',
        )
        parser.add_argument(
            '--yes',
            action='store_true',
            help='do it, and do not only say what would be done',
        )
        parser.add_argument(
            '--new-journal',
            metavar='FILE',
            type=pathlib.Path,
            help='where to write what is done now (default: a new file in '
            '$XDG_STATE_HOME/attachguard)',
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Take back.

        :returns: columns and rows, for cliff
        """
        self._code = commands.ERROR
        try:
            header, entries = journals.read(parsed_args.journal)
        except journals.JournalError as exc:
            raise commands.BadInput(str(exc)) from exc
        if header.get('what') != 'repair':
            raise commands.BadInput(
                f'{parsed_args.journal} is not of a repair, and only what a '
                'repair did can be undone'
            )
        cloud = self._cloud(parsed_args)
        cloud.log_in()
        if header.get('cloud') != cloud.identity:
            raise commands.BadInput(
                f'{parsed_args.journal} is of another cloud: '
                f'{header.get("cloud")}, and this is {cloud.identity}'
            )
        with self._database(parsed_args) as database:
            new = None
            if parsed_args.yes:
                new = repair.open_journal(
                    parsed_args.new_journal, 'undo', cloud
                )
                self._say(f'journal: {new.path}')
            try:
                outcomes = list(undo.Undo(cloud, new, database).undo(entries))
            finally:
                if new is not None:
                    new.close()
        if not parsed_args.yes:
            self._say('Nothing was changed: add --yes to undo.')
        results = {outcome.result for outcome in outcomes}
        if results & {undo.Result.FAILED, undo.Result.REFUSED}:
            self._code = commands.ERROR
        elif undo.Result.PLANNED in results:
            self._code = commands.FOUND
        elif undo.Result.UNDONE in results:
            self._code = commands.REPAIRED
        else:
            self._code = commands.CLEAN
        return (
            ('Act', 'Volume', 'What was done', 'Result', 'Text'),
            [
                (
                    outcome.number,
                    outcome.volume_id,
                    outcome.call,
                    outcome.result.value,
                    outcome.text,
                )
                for outcome in outcomes
            ],
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Take back, and print what came of it.

        :returns: the exit code
        """
        return super().run(parsed_args) or self._code
