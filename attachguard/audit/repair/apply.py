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


"""The repair of findings, one after the other.

Each is looked at again just before anything is done, and again behind a hold
that keeps Nova away; each act is in the journal before it is made; and what
came of it is looked at afterwards, twice.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import enum
import time
from typing import Any

from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import plan as plans


class Result(enum.Enum):
    """What came of a finding."""

    #: a dry run: it would be repaired
    PLANNED = 'planned'
    #: it is repaired, and was looked at since
    REPAIRED = 'repaired'
    #: when looked at again, it was not there any more
    CLEAR = 'clear'
    #: nothing that is safe can be done by the API
    BY_HAND = 'by hand'
    #: not known, so that nothing was done
    UNKNOWN = 'unknown'
    #: Cinder did not do it, or it was there again
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a finding.

    :param finding: as it was found
    :param result: what came of it
    :param text: what was done, or why not
    """

    finding: checks.Finding
    result: Result
    text: str


class Repair:
    """Repairs findings by Cinder's API.

    :param cloud: whose findings they are
    :param rules: what is foreign
    :param journal: where each act is written down before it is made; None for
        a dry run
    :param holders: the servers that Nova lists with a volume
    :param sleep: for tests
    """

    def __init__(
        self,
        cloud: api.Cloud,
        rules: foreign.Rules,
        journal: journals.Journal | None,
        holders: Callable[[str], Collection[str]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud = cloud
        self._rules = rules
        self._journal = journal
        self._holders = holders
        self._sleep = sleep

    def repair(self, finding: checks.Finding) -> Outcome:
        """Repair one finding, or say why not.

        :param finding: which an audit has found
        :raises attachguard.audit.repair.journal.JournalError: where an act
            cannot be written down; it is not made then
        """
        case, still = self.look(finding)
        if case.unknown:
            return Outcome(finding, Result.UNKNOWN, case.unknown)
        if still is None:
            return self.no_more(finding, case)
        connected = self._connected(still.attachment_id)
        if connected is False and _names_host(still, case):
            return Outcome(
                finding,
                Result.BY_HAND,
                'the attachment names a host, and was never connected to it, '
                'as none of Nova does: ask who attached it (Zun does so), and '
                'see --foreign',
            )
        plan = plans.make(still, case, connected)
        if (
            plan.steps
            and still.attachment_id is not None
            and connected is not False
            and self._has_a_container(still, case)
        ):
            return Outcome(
                finding,
                Result.BY_HAND,
                'it may be connected to a host where something that is none '
                "of Nova's (Zun attaches so) has the volume, too, whose "
                'connection would go with it: ask who does, and see --foreign',
            )
        if not plan.steps:
            return Outcome(finding, Result.BY_HAND, plan.why_not)
        if self._journal is None:
            return Outcome(finding, Result.PLANNED, _say(plan.steps))
        tried: list[str] = []
        for step in plan.steps:
            if tried:
                case, still = self.look(finding)
                if still is None:
                    return self.no_more(finding, case)
            said = self._climb(step, still, case)
            tried.append(f'{step.call.name}: {said}')
            if said.startswith(_NO):
                # Cinder's own word, or the guard's, that something has it:
                # whatever was found here, it is not to be outwitted.
                return Outcome(finding, Result.UNKNOWN, '; '.join(tried))
            case, cured = self._verify(finding)
            if case.unknown:
                return Outcome(
                    finding,
                    Result.UNKNOWN,
                    f'{"; ".join(tried)}; and then: {case.unknown}',
                )
            if cured:
                return Outcome(
                    finding,
                    Result.REPAIRED,
                    f'{step.call.name}; the volume is '
                    f'{case.volume.status if case.volume else "gone"}',
                )
        return Outcome(finding, Result.FAILED, '; '.join(tried))

    def look_again(self, outcomes: Collection[Outcome]) -> list[Outcome]:
        """Look once more at what was repaired.

        :param outcomes: of a repair
        :returns: the same, but for those that are there again
        """
        again = []
        for outcome in outcomes:
            if outcome.result is Result.REPAIRED:
                _case, still = self.look(outcome.finding)
                if still is not None:
                    outcome = dataclasses.replace(
                        outcome,
                        result=Result.FAILED,
                        text=f'{outcome.text}, and then again: {still.text}',
                    )
            again.append(outcome)
        return again

    def look(
        self, finding: checks.Finding
    ) -> tuple[model.Case, checks.Finding | None]:
        """Look at the volume of a finding.

        :param finding: as it was found
        :returns: the volume, and the finding if it is still there
        """
        servers = set(self._holders(finding.volume_id))
        if finding.server_id is not None:
            servers.add(finding.server_id)
        case = case_builder.read_case(
            self._cloud, finding.volume_id, self._rules, sorted(servers)
        )
        return case, next(
            (f for f in checks.find(case) if f.key == finding.key), None
        )

    @staticmethod
    def no_more(finding: checks.Finding, case: model.Case) -> Outcome:
        """Why it is not found any more: it is gone, or not known.

        :param finding: as it was found
        :param case: the volume, as it is now
        """
        if case.unknown:
            return Outcome(finding, Result.UNKNOWN, case.unknown)
        if finding.attachment_id in [item.id for item in case.foreign]:
            return Outcome(finding, Result.CLEAR, 'it is foreign')
        for server in _concerned(finding, case):
            if server.presence is model.Presence.UNKNOWN:
                return Outcome(finding, Result.UNKNOWN, f'Nova: {server.why}')
            if server.busy:
                return Outcome(
                    finding,
                    Result.UNKNOWN,
                    f'Nova is at work on server {server.id} '
                    f'({server.task_state or server.status})',
                )
        return Outcome(finding, Result.CLEAR, 'it is not so any more')

    def _has_a_container(
        self, finding: checks.Finding, case: model.Case
    ) -> bool:
        """Whether another attachment may have a connection of its own.

        One that no driver knows of, as its record has no connector.
        """
        return any(
            item.id != finding.attachment_id
            and item.host
            and case.servers[item.server_id or ''].presence
            is model.Presence.GONE
            and not self._connected(item.id)
            for item in case.attachments
        )

    def _connected(self, attachment_id: str | None) -> bool | None:
        """Whether an attachment has a connection to a host.

        Cinder answers 400 where it has none and the volume lies on NFS.
        """
        if attachment_id is None:
            return None
        answer = self._cloud.cinder('GET', f'/attachments/{attachment_id}')
        row = answer.body.get('attachment')
        if answer.status != 200 or not isinstance(row, dict):
            return None
        return bool(row.get('connection_info'))

    def _climb(
        self, step: plans.Step, finding: checks.Finding, case: model.Case
    ) -> str:
        """Make one step, behind its hold.

        :returns: what came of it
        """
        if step.hold is None or step.release is None:
            return self._act(step.call, finding, case)
        said = self._act(step.hold, finding, case, 'hold')
        if said != _DONE:
            if said.startswith(_LOST):
                now, _still = self.look(finding)
                if _status(now) != _status(case):
                    # The answer was lost, and not the call.
                    self._release(step.release, finding, now)
            refused = _NO if said.startswith(_NO) else ''
            return f'{refused}Nova cannot be kept away: {said}'
        held = None
        try:
            held, _still = self.look(finding)
            why = _differs(case, held)
            said = (
                f'not tried, for {why}'
                if why
                else self._act(step.call, finding, case)
            )
        finally:
            # Also where nothing more can be written down: a volume that stays
            # held is of no use to anybody.
            now, _still = self.look(finding)
            if held is None or now.unknown or _status(now) == _status(held):
                self._release(step.release, finding, now)
        return said

    def _release(
        self, call: plans.Call, finding: checks.Finding, case: model.Case
    ) -> None:
        try:
            self._act(call, finding, case, 'release')
        except journals.JournalError:
            self._cloud.cinder(call.method, call.path, call.body, call.version)
            raise

    def _act(
        self,
        call: plans.Call,
        finding: checks.Finding,
        case: model.Case,
        role: str = 'step',
    ) -> str:
        """Make one call, between two lines in the journal."""
        assert self._journal is not None
        number = self._journal.act(
            {
                'role': role,
                'finding': finding.to_json(),
                'before': seen(case),
                'call': call.to_json(),
            }
        )
        answer = self._cloud.cinder(
            call.method, call.path, call.body, call.version
        )
        self._journal.done(number, {'answer': answer.evidence.to_json()})
        if answer.status is not None and answer.status < 300:
            return _DONE
        if answer.status in (403, 409):
            return f'{_NO}{answer.why}'
        if answer.status is None or answer.status >= 500:
            return f'{_LOST}{answer.why}'
        return answer.why

    def _verify(self, finding: checks.Finding) -> tuple[model.Case, bool]:
        """See what came of it; Cinder may take a moment.

        :returns: the volume, and whether it is cured. What is only not known
            any more is not
        """
        for wait in _WAITS:
            case, still = self.look(finding)
            ids = [item.id for item in (*case.attachments, *case.foreign)]
            if finding.attachment_id is not None:
                cured = finding.attachment_id not in ids
            else:
                cured = self.no_more(finding, case).result is Result.CLEAR
            cured = cured and still is None and not case.unknown
            if cured:
                break
            self._sleep(wait)
        return case, cured


_DONE = 'done'
_NO = 'refused: '
_LOST = 'no answer: '

# Seconds between looks at what was done.
_WAITS = (0.5, 1.0, 2.0, 0.0)


def _say(steps: Sequence[plans.Step]) -> str:
    """What would be done, and what if that is not enough."""
    return 'would ' + '; if that is not enough, '.join(
        f'{step.call.method} {step.call.path} ({step.call.name})'
        + ('' if step.hold is None else f', behind {step.hold.name}')
        for step in steps
    )


def _status(case: model.Case) -> str | None:
    return None if case.volume is None else case.volume.status


def _concerned(
    finding: checks.Finding, case: model.Case
) -> list[model.Server]:
    """The servers whose word a finding needs."""
    if finding.attachment_id is None:
        return list(case.servers.values())
    server = case.servers.get(finding.server_id or '')
    return [] if server is None else [server]


def _names_host(finding: checks.Finding, case: model.Case) -> bool:
    return any(
        item.id == finding.attachment_id and item.host
        for item in case.attachments
    )


def _differs(before: model.Case, now: model.Case) -> str:
    """Whether anything but the hold has changed."""
    if now.unknown or now.volume is None:
        return now.unknown or 'the volume is gone'
    if now.volume.status not in ('attaching', 'detaching'):
        # Cinder accepts os-begin_detaching, and does nothing, where a volume
        # has begun to migrate.
        return f'it is {now.volume.status}, and not held'
    if now.volume.busy:
        return 'Cinder is at work on it'
    if set(now.attachments) != set(before.attachments) or set(
        now.foreign
    ) != set(before.foreign):
        return 'its attachments have changed'
    for server_id, server in now.servers.items():
        known = before.servers.get(server_id)
        if (
            known is None
            or known.presence is not server.presence
            or server.busy
        ):
            return f"Nova's word about server {server_id} has changed"
    return ''


def seen(case: model.Case) -> Mapping[str, Any]:
    """What was there, for whoever wants it back.

    :param case: the volume
    :returns: for a journal
    """
    return {
        'volume': None
        if case.volume is None
        else dataclasses.asdict(case.volume),
        'attachments': [
            dataclasses.asdict(item)
            for item in (*case.attachments, *case.foreign)
        ],
        'servers': {
            server.id: server.presence.value
            for server in case.servers.values()
        },
    }
