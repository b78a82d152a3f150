# SPDX-License-Identifier: Apache-2.0

"""``attachguard undo``: undo a repair."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from typing import Any

from attachguard.audit.repair import journal
from attachguard.audit.repair import undo
from attachguard.cmd import base
from attachguard.cmd import database
from attachguard.cmd import state


class Undo(database.DatabaseCommand, base.ListCommand):
    """Undo a repair, from its journal.

    Without --yes this is a dry run, which also says what Cinder or attachguard
    would refuse to these credentials, and as whom it works. The last change is
    undone first. Nothing is changed that is not as the repair left it.

    Cinder gives a restored attachment a new id, and its connection to a host
    does not come back. Where attachguard guards Cinder, only a user with the
    roles admin and service restores an attachment.

    examples::

      attachguard undo repair-20260102T030405.678901Z.jsonl
      attachguard undo JOURNAL --yes
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the journal."""
        super().add_options(parser)
        parser.add_argument(
            'journal',
            metavar='JOURNAL',
            type=pathlib.Path,
            help='The journal that "attachguard repair" has written.',
        )
        parser.add_argument(
            '--yes',
            action='store_true',
            help='Undo. Without this option, only list what would be done.',
        )
        parser.add_argument(
            '--new-journal',
            metavar='FILE',
            type=pathlib.Path,
            help='Record the changes in this file, which must not exist '
            '(default: a new file in $XDG_STATE_HOME/attachguard).',
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Undo.

        :returns: columns and rows, for cliff
        """
        path = parsed_args.journal
        try:
            header, entries = journal.read(path)
        except journal.JournalError as exc:
            raise base.BadInput(str(exc)) from exc
        if header.get('what') != 'repair':
            raise base.BadInput(
                f'{path} is not of a repair: only a repair can be undone'
            )
        cloud = self._log_in(parsed_args)
        if header.get('cloud') != cloud.identity:
            raise base.BadInput(
                f'{path} is of another cloud: {header.get("cloud")}, and this '
                f'is {cloud.identity}'
            )
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(self._database(parsed_args))
            new = None
            if parsed_args.yes:
                new = state.open_journal(
                    parsed_args.new_journal, 'undo', cloud
                )
                stack.enter_context(contextlib.closing(new))
                self._print(f'journal: {new.path}')
            outcomes = list(undo.Undo(cloud, new, opened).undo(entries))
        if not parsed_args.yes:
            self._print('Nothing was changed: add --yes to undo.')
        results = {outcome.result for outcome in outcomes}
        if results & {
            undo.Result.FAILED,
            undo.Result.PARTLY,
            undo.Result.REFUSED,
        }:
            self.exit_code = base.ERROR
        elif undo.Result.PLANNED in results:
            self.exit_code = base.FOUND
        elif undo.Result.UNDONE in results:
            self.exit_code = base.REPAIRED
        else:
            self.exit_code = base.CLEAN
        return (
            ('What was done', 'Act', 'Volume', 'Result', 'Text'),
            [
                (
                    outcome.call,
                    outcome.number,
                    outcome.volume_id,
                    outcome.result.value,
                    outcome.text,
                )
                for outcome in outcomes
            ],
        )
