# SPDX-License-Identifier: Apache-2.0

"""``attachguard repair``: repair what an audit finds."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import pathlib
import shlex
from typing import Any
from typing import TYPE_CHECKING

from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory
from attachguard.audit.collect import rest
from attachguard.audit.repair import apply
from attachguard.audit.repair import journal
from attachguard.audit.repair import sql_change
from attachguard.audit.repair import sql_repair
from attachguard.audit.report import content
from attachguard.cmd import base
from attachguard.cmd import database
from attachguard.cmd import options
from attachguard.cmd import selection
from attachguard.cmd import state

if TYPE_CHECKING:
    from attachguard.audit.repair import sql

# The repair stops after so many unknown findings in a row.
_MAX_UNKNOWN = 10

# The results that count for the limit: something was done, or would be.
_LIMITED = (
    apply.Result.PLANNED,
    apply.Result.REPAIRED,
    apply.Result.FAILED,
)


class Repair(
    selection.SelectingCommand, database.DatabaseCommand, base.ListCommand
):
    """Repair the volumes whose records in Cinder and Nova disagree.

    Without --yes this is a dry run, which lists what would be done. It audits
    first, as "attachguard audit" does and with the same state file, and
    repairs only confirmed findings. Each volume is read again just before it
    is changed, and checked afterwards. The first of these that works is used::

      DELETE /attachments/{id}   Cinder checks with Nova, and cleans up
      os-detach                  only if nothing else is attached
      os-reset_status            likewise; changes only records
      SQL                        only on request, if the API cannot repair it

    A volume is never changed if Nova has it, if its attachment is foreign, or
    if its state is unknown. Each change is recorded in a journal before it is
    made; "attachguard undo" reads it. The repair can be interrupted at any
    time (by Ctrl-C or SIGTERM) and run again.

    examples::

      attachguard repair --once
      attachguard repair --once --yes --limit 10
      attachguard repair --volume ID --sql --cinder-conf cinder.conf
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what may be done."""
        super().add_options(parser)
        group = parser.add_argument_group('what may be done')
        group.add_argument(
            '--yes',
            action='store_true',
            help='Repair. Without this option, only list what would be done.',
        )
        group.add_argument(
            '--limit',
            metavar='N',
            type=options.positive,
            default=50,
            help='Repair at most N findings (default: %(default)s).',
        )
        group.add_argument(
            '--fail-above',
            metavar='N',
            type=options.positive,
            help='If more than N findings are confirmed, repair nothing: a '
            'change of the cloud, and not many mistakes, may have caused '
            'them.',
        )
        group.add_argument(
            '--grace',
            metavar='DURATION',
            type=options.duration,
            default='5s',
            help='The time before repaired volumes are checked once more '
            '(default: %(default)s).',
        )
        group.add_argument(
            '--journal',
            metavar='FILE',
            type=pathlib.Path,
            help='Record the changes in this file, which must not exist '
            '(default: a new file in $XDG_STATE_HOME/attachguard).',
        )
        group.add_argument(
            '--sql',
            action='store_true',
            help='Instead of the list, print the SQL for what the API cannot '
            'repair, and its inverse. Needs a database to read from.',
        )
        group.add_argument(
            '--execute-sql',
            action='store_true',
            help='With --yes: execute that SQL, in one transaction for each '
            'volume.',
        )
        group.add_argument(
            '--trust-inventory',
            action='store_true',
            help='Repair although the inventory looks wrong. Check it '
            'yourself first.',
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command, and end with what was done, also after Ctrl-C.

        :returns: the exit code
        """
        self._journal: journal.Journal | None = None
        self._undo = ''
        self._outcomes: dict[str, apply.Outcome] = {}
        try:
            code: int = super().run(parsed_args)
            return code
        except KeyboardInterrupt:
            nothing = '' if self._journal else ': nothing was changed'
            self._print(f'interrupted{nothing}')
            raise
        finally:
            if self._journal is not None:
                self._sum_up(self._journal)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Audit, and repair.

        :returns: columns and rows, for cliff
        """
        self._changes: list[sql_change.Change] = []
        with_sql = parsed_args.sql or parsed_args.execute_sql
        if with_sql and not (parsed_args.database or parsed_args.cinder_conf):
            raise base.BadInput(
                "--sql and --execute-sql need Cinder's database: name it with "
                '--database or --cinder-conf'
            )
        cloud = self._log_in(parsed_args)
        with contextlib.ExitStack() as stack:
            # An error of the database is raised before anything is changed.
            opened = (
                stack.enter_context(self._database(parsed_args))
                if with_sql
                else None
            )
            read = stack.enter_context(self._inventory(cloud, parsed_args))
            # Nova is slow to list servers while a cell is down.
            self._check_inventory(read, parsed_args)
            audited = self._audit(cloud, read, parsed_args).run()
            found = [
                entry
                for entry in audited.entries
                if entry.state is content.State.FOUND
            ]
            pending = sum(audited.counts.pending.values())
            if pending:
                self._print(
                    f'{pending} unconfirmed findings are not repaired: run '
                    'the repair again later, or see --once'
                )
            outcomes: list[apply.Outcome] = []
            self._check(read, audited, parsed_args)
            if found:
                outcomes = self._repair_all(
                    cloud, read, found, opened, parsed_args
                )
        left = sum(audited.counts.found.values()) - len(outcomes)
        if left:
            self._print(
                f'{left} more findings are not repaired: run the repair again '
                f'(--limit is {parsed_args.limit})'
            )
        self.exit_code = _exit_code(
            {outcome.result for outcome in outcomes},
            left,
            bool(audited.counts.unknown or read.unchecked),
        )
        return (
            (
                *('Class', 'Result', 'Text', 'Volume', 'Volume name'),
                *('Attachment', 'Server', 'Server name', base.TO_DO),
            ),
            [
                (
                    outcome.finding.kind,
                    outcome.result.value,
                    outcome.text,
                    outcome.finding.volume_id,
                    outcome.finding.volume_name,
                    outcome.finding.attachment_id,
                    outcome.finding.server_id,
                    outcome.finding.server_name,
                    outcome.script,
                )
                for outcome in outcomes
            ],
        )

    def _check(
        self,
        read: inventory.Inventory,
        audited: runner.Audited,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Check that the inventory looks right, and the findings are few.

        :raises attachguard.audit.collect.rest.CloudError: they do not
        """
        found = sum(audited.counts.found.values())
        most = parsed_args.fail_above
        if most is not None and found > most:
            raise rest.CloudError(
                f'{found} findings are more than --fail-above {most}, so '
                'nothing is repaired: list them with "attachguard audit"'
            )
        read.check_cells()
        self._warn(read)
        if found:
            self._check_inventory(read, parsed_args)

    def _check_inventory(
        self, read: inventory.Inventory, parsed_args: argparse.Namespace
    ) -> None:
        """Check that nothing is known to be wrong with the inventory.

        :raises attachguard.audit.collect.rest.CloudError: there is
        """
        doubts = read.doubts
        if doubts and parsed_args.yes and not parsed_args.trust_inventory:
            raise rest.CloudError(
                'The inventory looks wrong, so nothing is repaired: '
                f'{"; ".join(doubts)}. If you have checked that it is right, '
                'add --trust-inventory'
            )

    def _repair_all(
        self,
        cloud: api.Cloud,
        read: inventory.Inventory,
        found: list[content.Entry],
        opened: sql.Database | None,
        parsed_args: argparse.Namespace,
    ) -> list[apply.Outcome]:
        with contextlib.ExitStack() as stack:
            if parsed_args.yes:
                self._journal = state.open_journal(
                    parsed_args.journal, 'repair', cloud
                )
                stack.enter_context(contextlib.closing(self._journal))
                self._print(f'journal: {self._journal.path}')
                self._undo = _undo(cloud, self._journal.path, parsed_args)
            repair = apply.Repair(
                cloud,
                read.rules,
                self._journal,
                read.cases.holders,
                self._shell(cloud, parsed_args),
            )
            outcomes = self._recorded(
                self._repair(repair, found, parsed_args.limit)
            )
            if opened is not None:
                by_sql = sql_repair.SqlRepair(
                    repair,
                    opened,
                    self._journal if parsed_args.execute_sql else None,
                )
                outcomes = self._recorded(
                    self._repair_by_sql(by_sql, outcomes)
                )
                self._changes = by_sql.changes
            if any(o.result is apply.Result.REPAIRED for o in outcomes):
                self._progress.wait(
                    'last check', parsed_args.grace.total_seconds()
                )
                outcomes = self._recorded(repair.recheck_repaired(outcomes))
        if not parsed_args.yes:
            self._print('Nothing was changed: add --yes to repair.')
        return outcomes

    def _recorded(
        self, outcomes: Iterable[apply.Outcome]
    ) -> list[apply.Outcome]:
        """Return the outcomes, and keep each for the summary."""
        done = []
        for outcome in outcomes:
            done.append(outcome)
            self._outcomes[outcome.finding.key] = outcome
        return done

    def _sum_up(self, written: journal.Journal) -> None:
        counts = collections.Counter(
            outcome.result.value for outcome in self._outcomes.values()
        )
        done = ', '.join(f'{n} {result}' for result, n in counts.items())
        self._print(f'{done or "0 repaired"}; journal: {written.path}')
        # Also what was interrupted before its result was known.
        if written.acts:
            self._print(f'to undo it: {self._undo}')

    def _repair(
        self,
        repair: apply.Repair,
        found: list[content.Entry],
        limit: int,
    ) -> Iterator[apply.Outcome]:
        """Repair one finding after the other, up to the limit."""
        unknown = 0
        for number, entry in enumerate(found, 1):
            outcome = repair.repair(entry.finding)
            self._print(
                f'{number}/{len(found)} {entry.finding.volume} '
                f'{entry.finding.kind}: {outcome.result.value}'
            )
            yield outcome
            limit -= outcome.result in _LIMITED
            if not limit:
                return
            unknown += 1
            if outcome.result is not apply.Result.UNKNOWN:
                unknown = 0
            if unknown == _MAX_UNKNOWN:
                self._print(f'stopped: {unknown} in a row are unknown')
                return

    def _repair_by_sql(
        self, by_sql: sql_repair.SqlRepair, outcomes: Iterable[apply.Outcome]
    ) -> Iterator[apply.Outcome]:
        """Repair, or plan to, what the API could not repair."""
        for outcome in outcomes:
            if by_sql.applies_to(outcome):
                outcome = by_sql.repair(outcome)
                self._print(
                    f'{outcome.finding.volume} {outcome.finding.kind}, by '
                    f'SQL: {outcome.result.value}'
                )
            yield outcome

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        """Print the list, or the SQL.

        :returns: the exit code
        """
        if not parsed_args.sql:
            code: int = super().produce_output(parsed_args, column_names, data)
            return code
        for change in self._changes:
            print(sql_change.script(change), file=self.app.stdout)
            # As a comment: it must not run where the rest is pasted.
            undo = sql_change.script(change, undo=True).splitlines()
            for line in ('To undo it:', *undo, ''):
                print(f'-- {line}'.rstrip(), file=self.app.stdout)
        return 0


def _undo(
    cloud: api.Cloud, path: pathlib.Path, parsed_args: argparse.Namespace
) -> str:
    """Return the command that undoes the repair."""
    words = ['attachguard', 'undo', *cloud.login, str(path), '--yes']
    more = ''
    if parsed_args.execute_sql and parsed_args.cinder_conf:
        words += ['--cinder-conf', str(parsed_args.cinder_conf.absolute())]
    elif parsed_args.execute_sql and not database.from_variable(parsed_args):
        # The URL contains a password.
        more = '  # with --database, as in this repair'
    return f'{shlex.join(words)}{more}'


def _exit_code(results: set[apply.Result], left: int, unknown: bool) -> int:
    if results & {apply.Result.FAILED, apply.Result.UNKNOWN}:
        return base.ERROR
    if left or results & {apply.Result.PLANNED, apply.Result.BY_HAND}:
        return base.FOUND
    if unknown:
        return base.ERROR
    return base.REPAIRED if apply.Result.REPAIRED in results else base.CLEAN
