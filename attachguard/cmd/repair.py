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


"""``attachguard repair``: set right what an audit finds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import datetime
import pathlib
import time
from typing import Any
from typing import TYPE_CHECKING

from cliff import lister

from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from attachguard.audit.collect import rest
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import sql_change
from attachguard.audit.report import content
from attachguard.cmd import base as commands

if TYPE_CHECKING:
    from attachguard.audit.repair import sql
    from attachguard.audit.repair import sql_repair


# So many findings in a row that nothing could be said of: then it stops.
_PATIENCE = 10

# What counts for the limit: where something was done, or would be.
_COUNTED = (
    repairs.Result.PLANNED,
    repairs.Result.REPAIRED,
    repairs.Result.FAILED,
)


class Repair(
    commands.SelectingCommand, commands.DatabaseCommand, lister.Lister
):
    """Repair the volumes whose records in Cinder and Nova disagree.

    A dry run, unless told otherwise with --yes: it lists what it would do.
    Audits first, as "attachguard audit" does, with the same state file, so
    that it repairs only what an audit has seen before. Each volume is looked
    at again just before anything is done, and again afterwards. The gentlest
    step that works is taken:

      DELETE /attachments/{id}   Cinder asks Nova once more, and cleans up
      os-detach                  only where nothing else is attached
      os-reset_status            likewise; changes records alone
      SQL                        only on request, for what the API cannot mend

    What Nova has is never touched, nor is what is foreign, nor what could not
    be found out. Each act is in a journal before it is made, from which
    "attachguard undo" works. It can be stopped at any moment, and run again.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what may be done."""
        super().add_options(parser)
        how = parser.add_argument_group('what may be done')
        how.add_argument(
            '--yes',
            action='store_true',
            help='do it, and do not only say what would be done',
        )
        how.add_argument(
            '--limit',
            metavar='N',
            type=_limit,
            default=50,
            help='repair so many findings at most (default: %(default)s)',
        )
        how.add_argument(
            '--grace',
            metavar='DURATION',
            type=commands.duration,
            default=commands.duration('5s'),
            help='how long to wait before what was repaired is looked at once '
            'more (default: 5s)',
        )
        how.add_argument(
            '--journal',
            metavar='FILE',
            type=pathlib.Path,
            help='where to write what was there before each act (default: a '
            'new file in $XDG_STATE_HOME/attachguard)',
        )
        how.add_argument(
            '--sql',
            action='store_true',
            help='print, instead of the list, the SQL for what the API cannot '
            'mend, and its inverse; it needs a database to look into',
        )
        how.add_argument(
            '--execute-sql',
            action='store_true',
            help='run that SQL, in one transaction for each volume (with '
            '--yes)',
        )
        how.add_argument(
            '--trust-inventory',
            action='store_true',
            help='repair although the inventory looks wrong; only after you '
            'have looked yourself',
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Audit, and repair.

        :returns: columns and rows, for cliff
        """
        self._code = commands.ERROR
        self._changes: list[sql_change.Change] = []
        selection = self._selection(parsed_args)
        if (parsed_args.sql or parsed_args.execute_sql) and not (
            parsed_args.database or parsed_args.cinder_conf
        ):
            raise commands.BadInput(
                "--sql and --execute-sql need Cinder's database: name it with "
                '--database or --cinder-conf'
            )
        cloud = self._cloud(parsed_args)
        cloud.log_in()
        outcomes: list[repairs.Outcome] = []
        with contextlib.ExitStack() as stack:
            # Whether it can be used is better known before anything is done.
            database = (
                stack.enter_context(self._database(parsed_args))
                if parsed_args.sql or parsed_args.execute_sql
                else None
            )
            inventory = stack.enter_context(
                self._inventory(cloud, parsed_args)
            )
            audited = self._audit(
                cloud, inventory, selection, parsed_args
            ).run()
            found = [
                entry
                for entry in audited.entries
                if entry.state is content.State.FOUND
            ]
            pending = sum(audited.counts.pending.values())
            if pending:
                self._say(
                    f'{pending} seen for the first time, and left alone: run '
                    'this again later, or see --once'
                )
            if found:
                self._check(inventory, parsed_args)
                outcomes = self._repair(
                    cloud, inventory, found, database, parsed_args
                )
        left = sum(audited.counts.found.values()) - len(outcomes)
        if left:
            self._say(
                f'{left} more were found, and left alone: run this again '
                f'(--limit is {parsed_args.limit})'
            )
        self._code = _code(outcomes, left, audited, parsed_args.yes)
        return (
            ('Class', 'Volume', 'Attachment', 'Server', 'Result', 'Text'),
            [
                (
                    outcome.finding.kind,
                    outcome.finding.volume_id,
                    outcome.finding.attachment_id,
                    outcome.finding.server_id,
                    outcome.result.value,
                    outcome.text,
                )
                for outcome in outcomes
            ],
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Repair, and print what came of it.

        :returns: the exit code
        """
        return super().run(parsed_args) or self._code

    def _check(
        self,
        inventory: inventories.Inventory,
        parsed_args: argparse.Namespace,
    ) -> None:
        inventory.check_cells()
        doubts = inventory.doubts
        for doubt in doubts:
            self._say(f'warning: {doubt}')
        if doubts and parsed_args.yes and not parsed_args.trust_inventory:
            raise rest.CloudError(
                'The inventory looks wrong, so nothing is repaired: '
                f'{"; ".join(doubts)}. If you have looked, and it is right, '
                'add --trust-inventory'
            )

    def _repair(
        self,
        cloud: api.Cloud,
        inventory: inventories.Inventory,
        found: list[content.Entry],
        database: sql.Database | None,
        parsed_args: argparse.Namespace,
    ) -> list[repairs.Outcome]:
        journal = None
        if parsed_args.yes:
            journal = open_journal(parsed_args.journal, 'repair', cloud)
            self._say(f'journal: {journal.path}')
        try:
            repair = repairs.Repair(
                cloud, inventory.rules, journal, inventory.holders
            )
            outcomes = list(self._each(repair, found, parsed_args.limit))
            if database is not None:
                # What needs SQLAlchemy is there if the database is.
                from attachguard.audit.repair import sql_repair

                last = sql_repair.SqlRepair(
                    repair,
                    database,
                    journal if parsed_args.execute_sql else None,
                )
                outcomes = list(self._by_sql(last, outcomes))
            if any(o.result is repairs.Result.REPAIRED for o in outcomes):
                time.sleep(parsed_args.grace.total_seconds())
                outcomes = repair.look_again(outcomes)
        finally:
            if journal is not None:
                journal.close()
        if not parsed_args.yes:
            self._say('Nothing was changed: add --yes to repair.')
        return outcomes

    def _by_sql(
        self, last: sql_repair.SqlRepair, outcomes: list[repairs.Outcome]
    ) -> Iterator[repairs.Outcome]:
        """Mend, or plan to, what the API has not mended."""
        for outcome in outcomes:
            if last.is_for(outcome):
                mended = last.mend(outcome)
                outcome = mended.outcome
                self._say(
                    f'{outcome.finding.volume_id} {outcome.finding.kind}, by '
                    f'SQL: {outcome.result.value}'
                )
                if mended.change is not None:
                    self._changes.append(mended.change)
            yield outcome

    def produce_output(
        self, parsed_args: argparse.Namespace, *what: Any
    ) -> int:
        """Print the list, or the SQL.

        :returns: the exit code
        """
        if not parsed_args.sql:
            code: int = super().produce_output(parsed_args, *what)
            return code
        for change in self._changes:
            print(sql_change.script(change), file=self.app.stdout)
            print(
                _as_comment(sql_change.script(change, undo=True)),
                file=self.app.stdout,
            )
        return 0

    def _each(
        self,
        repair: repairs.Repair,
        found: list[content.Entry],
        limit: int,
    ) -> Iterator[repairs.Outcome]:
        """Repair one after the other, while there are not too many."""
        silent = 0
        for number, entry in enumerate(found, 1):
            outcome = repair.repair(entry.finding)
            self._say(
                f'{number}/{len(found)} {entry.finding.volume_id} '
                f'{entry.finding.kind}: {outcome.result.value}'
            )
            yield outcome
            limit -= outcome.result in _COUNTED
            if not limit:
                return
            silent = (
                silent + 1 if outcome.result is repairs.Result.UNKNOWN else 0
            )
            if silent == _PATIENCE:
                self._say(f'stopped: {silent} in a row could not be found out')
                return


def _as_comment(script: str) -> str:
    """The inverse, which must not run where the rest is pasted."""
    lines = ['To undo it:', *script.splitlines()]
    return ''.join(f'-- {line}'.rstrip() + '\n' for line in lines)


def open_journal(
    path: pathlib.Path | None, what: str, cloud: api.Cloud
) -> journals.Journal:
    """Begin a journal.

    :param path: of the file; None for a new one where state is kept
    :param what: is written down: ``repair`` or ``undo``
    :param cloud: where it is done
    :raises attachguard.audit.repair.journal.JournalError: where it cannot be
        made
    """
    if path is None:
        now = datetime.datetime.now(datetime.UTC)
        path = (
            commands.state_directory()
            / f'{what}-{now:%Y%m%dT%H%M%S.%f}Z.jsonl'
        )
    return journals.Journal(
        path, {'what': what, 'cloud': cloud.identity, 'started': model.stamp()}
    )


def _limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no number of findings: write 1 or more'
        )
    return int(text)


def _code(
    outcomes: list[repairs.Outcome],
    left: int,
    audited: runner.Audited,
    done: bool,
) -> int:
    results = {outcome.result for outcome in outcomes}
    if results & {repairs.Result.FAILED, repairs.Result.UNKNOWN}:
        return commands.ERROR
    open_ = {repairs.Result.PLANNED, repairs.Result.BY_HAND}
    if left or results & open_:
        return commands.FOUND
    if audited.counts.unknown:
        return commands.ERROR
    repaired = done and repairs.Result.REPAIRED in results
    return commands.REPAIRED if repaired else commands.CLEAN
