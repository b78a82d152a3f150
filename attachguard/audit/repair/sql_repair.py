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

"""The last rung of a repair: SQL, for what Cinder's API has not mended.

What may be done is decided as for every other step, by a look at the volume
just before; the statements and their guards are
:mod:`attachguard.audit.repair.sql_change`'s.
"""

from __future__ import annotations

import dataclasses

from attachguard.audit import checks
from attachguard.audit import model
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import sql
from attachguard.audit.repair import sql_change

# Where an attachment is the trouble, and where the volume's own record is.
_ATTACHMENT = (
    'server-gone',
    'server-lacks-volume',
    'stuck-attachment',
    'volume-deleted',
)
_VOLUME = (
    'in-use-without-attachment',
    'status-mismatch',
    'stuck-attaching',
    'stuck-detaching',
    'stuck-reserved',
)


@dataclasses.dataclass(frozen=True)
class Mended:
    """What came of a finding.

    :param outcome: of the finding
    :param change: of the database; None where there is none
    """

    outcome: repairs.Outcome
    change: sql_change.Change | None = None


class SqlRepair:
    """Repairs in Cinder's database what the API has not mended.

    :param repair: what has tried it by the API
    :param database: Cinder's
    :param journal: where each change is written down before it is made; None
        to change nothing
    """

    def __init__(
        self,
        repair: repairs.Repair,
        database: sql.Database,
        journal: journals.Journal | None,
    ) -> None:
        self._repair = repair
        self._database = database
        self._journal = journal

    @staticmethod
    def is_for(outcome: repairs.Outcome) -> bool:
        """Whether a finding is one that only SQL can mend.

        :param outcome: of its repair by the API
        """
        return outcome.finding.kind == 'volume-deleted' or (
            outcome.result is repairs.Result.FAILED
            and outcome.finding.kind in _ATTACHMENT + _VOLUME
        )

    def mend(self, outcome: repairs.Outcome) -> Mended:
        """Plan the change of the database, and make it unless it is a dry run.

        :param outcome: of the repair by the API
        :raises attachguard.audit.repair.journal.JournalError: where the change
            cannot be written down; it is not made then
        :raises attachguard.audit.repair.sql.DatabaseError: where the database
            cannot be used
        """
        finding = outcome.finding
        case, still = self._repair.look(finding)
        if still is None:
            return Mended(self._repair.no_more(finding, case))
        why = _why_not(still, case)
        if why:
            return Mended(_outcome(finding, repairs.Result.BY_HAND, why))
        removed = (
            [finding.attachment_id]
            if finding.attachment_id is not None
            else []
        )
        try:
            change = self._database.plan(finding.volume_id, removed)
        except sql_change.Refused as exc:
            return Mended(_outcome(finding, repairs.Result.BY_HAND, str(exc)))
        if self._journal is None:
            return Mended(
                _outcome(
                    finding,
                    repairs.Result.PLANNED,
                    f'by SQL: {len(change.statements)} statements',
                ),
                change,
            )
        return self._execute(finding, case, change)

    def _execute(
        self,
        finding: checks.Finding,
        case: model.Case,
        change: sql_change.Change,
    ) -> Mended:
        assert self._journal is not None
        number = self._journal.act(
            {
                'role': 'step',
                'finding': finding.to_json(),
                'before': repairs.seen(case),
                'call': {'name': 'sql'},
                'sql': change.to_json(),
            }
        )
        try:
            self._database.execute(change)
        except sql_change.Refused as exc:
            self._journal.done(number, {'refused': str(exc)})
            return Mended(
                _outcome(finding, repairs.Result.FAILED, str(exc)), change
            )
        self._journal.done(number, {'rows': len(change.rows)})
        case, still = self._repair.look(finding)
        if still is not None:
            return Mended(
                _outcome(
                    finding,
                    repairs.Result.FAILED,
                    f'by SQL, and it is there again: {still.text}',
                ),
                change,
            )
        return Mended(
            _outcome(finding, repairs.Result.REPAIRED, 'by SQL'), change
        )


def _why_not(finding: checks.Finding, case: model.Case) -> str:
    """Why the database is left alone, where it is."""
    if finding.kind in _ATTACHMENT:
        server = case.servers.get(finding.server_id or '')
        if finding.server_id is not None and (
            server is None
            or server.presence
            not in (model.Presence.GONE, model.Presence.LACKS)
            or server.busy
        ):
            return f'Nova may have it on server {finding.server_id}'
        return ''
    for server in case.servers.values():
        if (
            server.presence not in (model.Presence.GONE, model.Presence.LACKS)
            or server.busy
        ):
            return f'Nova may have it on server {server.id}'
    if case.attachments or case.foreign:
        return 'the volume has attachments'
    return ''


def _outcome(
    finding: checks.Finding, result: repairs.Result, text: str
) -> repairs.Outcome:
    return repairs.Outcome(finding, result, text)
