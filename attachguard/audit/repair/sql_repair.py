# SPDX-License-Identifier: Apache-2.0

"""The last step of a repair: SQL, for what the API cannot repair.

As for every other step, the volume is read again just before.  The
statements and their guards are those of
:mod:`attachguard.audit.repair.sql_change`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.repair import apply
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import sql_change

if TYPE_CHECKING:
    from attachguard.audit.repair import sql

# Classes in which an attachment is wrong, and the volume's own record.
_ATTACHMENT = (*plan.ATTACHMENT_CLASSES, 'volume-deleted')
_VOLUME = (*plan.RECORD_CLASSES, 'stuck-attaching')


class SqlRepair:
    """Repairs in Cinder's database what the API could not repair.

    :param repair: the repair through the API
    :param database: Cinder's
    :param journal: where each change is recorded before it is made; None for
        a dry run
    """

    def __init__(
        self,
        repair: apply.Repair,
        database: sql.Database,
        journal: journal.Journal | None,
    ) -> None:
        self._repair = repair
        self._database = database
        self._journal = journal
        #: the changes that were planned, or made
        self.changes: list[sql_change.Change] = []

    @staticmethod
    def applies_to(outcome: apply.Outcome) -> bool:
        """Return whether only SQL can repair a finding.

        :param outcome: of its repair through the API
        """
        return outcome.finding.kind == 'volume-deleted' or (
            outcome.result is apply.Result.FAILED
            and outcome.finding.kind in _ATTACHMENT + _VOLUME
        )

    def repair(self, outcome: apply.Outcome) -> apply.Outcome:
        """Plan the change of the database, and make it unless it is a dry run.

        :param outcome: of the repair through the API
        :raises attachguard.audit.repair.journal.JournalError: the change
            cannot be recorded; it is not made then
        :raises attachguard.audit.engine.DatabaseError: the database cannot
            be used
        """
        case, current = self._repair.recheck(outcome.finding)
        if current is None:
            return apply.not_found(outcome.finding, case)
        result, text = self._change(current, case)
        return dataclasses.replace(outcome, result=result, text=text)

    def _change(
        self, finding: classes.Finding, case: model.Case
    ) -> tuple[apply.Result, str]:
        why_not = _why_not(finding, case)
        if why_not:
            return apply.Result.BY_HAND, why_not
        attachment_ids = filter(None, [finding.attachment_id])
        try:
            change = self._database.plan(
                finding.volume_id, list(attachment_ids)
            )
        except sql_change.Refused as exc:
            return apply.Result.BY_HAND, str(exc)
        self.changes.append(change)
        if self._journal is None:
            return (
                apply.Result.PLANNED,
                f'by SQL: {len(change.statements)} statements',
            )
        with self._journal.record(
            {
                'role': 'step',
                'finding': finding.to_json(),
                'before': apply.snapshot(case),
                'call': {'name': 'sql'},
                'sql': change.to_json(),
            }
        ) as done:
            try:
                self._database.execute(change)
            except sql_change.Refused as exc:
                done['refused'] = str(exc)
                return apply.Result.FAILED, str(exc)
            done['rows'] = len(change.rows)
        after, current = self._repair.recheck(finding)
        if current is not None:
            return (
                apply.Result.FAILED,
                f'by SQL; then found again: {current.text}',
            )
        checked = apply.not_found(finding, after)
        if checked.result is not apply.Result.CLEAR:
            return checked.result, f'by SQL; then: {checked.text}'
        return apply.Result.REPAIRED, 'by SQL'


def _why_not(finding: classes.Finding, case: model.Case) -> str:
    """Return why the database must not be changed; empty if it may be."""
    for server in case.servers.values():
        if plan.may_have_volume(server) and (
            finding.kind not in _ATTACHMENT or server.id == finding.server_id
        ):
            return f'Nova may have the volume on server {server.id}'
    if finding.kind in _ATTACHMENT:
        if finding.server_id in (None, *case.servers):
            return ''
        return f'the state of server {finding.server_id} is unknown'
    if case.attachments or case.foreign:
        return 'the volume has attachments'
    return ''
