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


"""What a repair did, taken back from its journal, as far as that can be.

With the same care as the repair: nothing is touched that is not as the repair
left it, nothing that Nova has, and all of it is written down in a journal of
its own.  What cannot be had again is said plainly: an attachment comes back
with another id, and a connection to a host does not come back at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
from typing import Any
from typing import TYPE_CHECKING

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import rest
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import plan as plans
from attachguard.audit.repair import sql_change

if TYPE_CHECKING:
    from attachguard.audit.repair import sql


class Result(enum.Enum):
    """What came of an act that was to be undone."""

    #: a dry run: it would be undone
    PLANNED = 'planned'
    #: it is as it was, as far as that can be
    UNDONE = 'undone'
    #: there is nothing to undo
    NOTHING = 'nothing to undo'
    #: it is not as the repair left it, or not known: not touched
    REFUSED = 'refused'
    #: a service did not do it
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of an act.

    :param number: of the act, in the journal
    :param volume_id: whose volume it was
    :param call: what the repair did
    :param result: what came of it
    :param text: what was brought back, what not, or why nothing
    """

    number: int
    volume_id: str
    call: str
    result: Result
    text: str


class Undo:
    """Takes back what is in a journal.

    :param cloud: the one of the repair
    :param journal: where to write down what is done now; None for a dry run
    :param database: Cinder's, for what was done by SQL
    """

    def __init__(
        self,
        cloud: api.Cloud,
        journal: journals.Journal | None,
        database: sql.Database | None = None,
    ) -> None:
        self._cloud = cloud
        self._database = database
        self._journal = journal
        # What was made anew: its id then, and now.
        self._restored: dict[str, str] = {}

    def undo(self, entries: list[journals.Entry]) -> Iterator[Outcome]:
        """Take back acts, the last one first.

        :param entries: of the journal of a repair
        :raises attachguard.audit.repair.journal.JournalError: where what is
            about to be done cannot be written down
        """
        for entry in reversed(entries):
            if entry.act.get('role', 'step') != 'step':
                continue
            if 'sql' in entry.act:
                yield self._undo_sql(entry)
            else:
                yield self._undo(entry)

    def _undo_sql(self, entry: journals.Entry) -> Outcome:
        try:
            change = sql_change.Change.from_json(entry.act['sql'])
        except ValueError as exc:
            raise journals.JournalError(
                f'Act {entry.number} of the journal: {exc}'
            ) from None

        def outcome(result: Result, text: str) -> Outcome:
            return Outcome(entry.number, change.volume_id, 'sql', result, text)

        if 'refused' in (entry.done or {}):
            return outcome(Result.NOTHING, 'the database was not changed')
        if self._database is None:
            return outcome(Result.REFUSED, 'it needs --database')
        if self._journal is None:
            return outcome(
                Result.PLANNED, f'by SQL: {len(change.inverse)} statements'
            )
        number = self._journal.act(
            {'undo': change.volume_id, 'sql': change.to_json()}
        )
        try:
            self._database.undo(change)
        except sql_change.Refused as exc:
            self._journal.done(number, {'refused': str(exc)})
            return outcome(Result.REFUSED, str(exc))
        self._journal.done(number, {'rows': len(change.rows)})
        return outcome(Result.UNDONE, 'by SQL')

    def _undo(self, entry: journals.Entry) -> Outcome:
        try:
            volume_id = str(entry.act['finding']['volume_id'])
            call = str(entry.act['call']['name'])
            before = entry.act['before']
            outcome = self._take_back(entry, volume_id, call, before)
        except (KeyError, TypeError, ValueError):
            raise journals.JournalError(
                f'Act {entry.number} of the journal is not complete'
            ) from None
        return Outcome(entry.number, volume_id, call, *outcome)

    def _take_back(
        self,
        entry: journals.Entry,
        volume_id: str,
        call: str,
        before: Mapping[str, Any],
    ) -> tuple[Result, str]:
        status = (entry.done or {}).get('answer', {}).get('status')
        if status is not None and status >= 300:
            return Result.NOTHING, f'Cinder had refused it (HTTP {status})'
        was = model.Volume(**before['volume'])
        gone = [model.Attachment(**item) for item in before['attachments']]
        case = case_builder.read_case(
            self._cloud,
            volume_id,
            foreign.Rules(),
            sorted({a.server_id for a in gone if a.server_id}),
        )
        if case.unknown:
            return Result.REFUSED, case.unknown
        if case.volume is None:
            return Result.REFUSED, 'the volume does not exist any more'
        for server in case.servers.values():
            if server.presence is model.Presence.UNKNOWN:
                return Result.REFUSED, f'Nova: {server.why}'
        now = [*case.attachments, *case.foreign]
        ids = {item.id for item in now}
        lost = [
            item
            for item in gone
            if item.id not in ids and item.id not in self._restored
        ]
        known = {item.id for item in gone} | {*self._restored.values()}
        if ids - known:
            return (
                Result.REFUSED,
                'the volume has attachments since that it did not have then',
            )
        if lost:
            return self._attach(lost, was, case)
        wanted = _status(was, case.volume)
        if not wanted:
            return Result.NOTHING, 'it is as it was before'
        if wanted.get('status') == 'in-use' and not now:
            return (
                Result.REFUSED,
                'Cinder makes no volume in-use that has no attachment',
            )
        if wanted.get('status') == 'available' and (
            now
            or any(
                s.presence is model.Presence.HAS for s in case.servers.values()
            )
        ):
            return (
                Result.REFUSED,
                'something has the volume, and others could attach it, too',
            )
        return self._set_status(wanted, case)

    def _set_status(
        self, wanted: Mapping[str, str], case: model.Case
    ) -> tuple[Result, str]:
        assert case.volume is not None
        text = ', '.join(f'{name} {value}' for name, value in wanted.items())
        text += f'; the volume was {case.volume.status}'
        if self._journal is None:
            return Result.PLANNED, text
        call = plans.action(case.volume_id, 'os-reset_status', wanted)
        answer = self._act(call, case)
        if answer.status is None or answer.status >= 300:
            return Result.FAILED, f'os-reset_status: {_why(answer)}'
        return Result.UNDONE, text

    def _attach(
        self,
        lost: list[model.Attachment],
        was: model.Volume,
        case: model.Case,
    ) -> tuple[Result, str]:
        """Make attachments that were deleted anew."""
        said = []
        for attachment in lost:
            if attachment.server_id is None:
                return Result.REFUSED, (
                    f'attachment {attachment.id} named no server, and cannot '
                    'be made again'
                )
            connection = (
                f', without its connection to {attachment.host}'
                if attachment.host
                else ''
            )
            said.append(
                f'attachment {attachment.id} to {attachment.server_id}, by '
                f'another id{connection}'
            )
            if self._journal is None:
                continue
            created = self._act(
                plans.Call(
                    'attachment-create',
                    'POST',
                    '/attachments',
                    {
                        'attachment': {
                            'volume_uuid': was.id,
                            'instance_uuid': attachment.server_id,
                        }
                    },
                ),
                case,
            )
            found = created.body.get('attachment')
            if created.status != 200 or not isinstance(found, dict):
                return Result.FAILED, f'attachment-create: {_why(created)}'
            self._restored[attachment.id] = str(found['id'])
            if attachment.status != 'attached':
                continue
            completed = self._act(
                plans.Call(
                    'attachment-complete',
                    'POST',
                    f'/attachments/{found["id"]}/action',
                    {'os-complete': None},
                    api.COMPLETE_VERSION,
                ),
                case,
            )
            if completed.status is None or completed.status >= 300:
                return Result.FAILED, (
                    f'attachment-complete: {_why(completed)}; attachment '
                    f'{found["id"]} stays reserved'
                )
        result = Result.PLANNED if self._journal is None else Result.UNDONE
        return result, '; '.join(said)

    def _act(self, call: plans.Call, case: model.Case) -> rest.Response:
        assert self._journal is not None
        number = self._journal.act(
            {'undo': case.volume_id, 'call': call.to_json()}
        )
        answer = self._cloud.cinder(
            call.method, call.path, call.body, call.version
        )
        self._journal.done(number, {'answer': answer.evidence.to_json()})
        return answer


def _status(was: model.Volume, now: model.Volume) -> dict[str, str]:
    """What to reset, of what the repair has changed.

    Never attach_status to detached, which drops attachments.
    """
    wanted = {}
    if now.status != was.status:
        wanted['status'] = was.status
    if was.attach_status == 'attached' and now.attach_status is None:
        wanted['attach_status'] = 'attached'
    return wanted


def _why(answer: rest.Response) -> str:
    text = answer.why
    if answer.status == 403:
        text += (
            ' (where attachguard stands before Cinder, nobody but Nova makes '
            'an attachment: it need not come back)'
        )
    return text
