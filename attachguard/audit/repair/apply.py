# SPDX-License-Identifier: Apache-2.0

"""Repair findings, one after the other.

Each volume is read again just before anything is changed, again while it is
reserved, and twice afterwards.  Each call is recorded in the journal before
it is made.
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

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import rest
from attachguard.audit.repair import advice
from attachguard.audit.repair import decide
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import writer

# Seconds between the checks of a repaired volume.
_WAITS = (0.5, 1.0, 2.0, 0.0)
# Seconds before each try to change a volume that is reserved: together longer
# than the option "settle" of the guard, as the reservation has changed it.
_TRIES = (0.0, 5.0, 10.0, 20.0)


_REFUSED = (writer.CallStatus.REFUSED, writer.CallStatus.UNVERIFIED)


class Result(enum.Enum):
    """The result of the repair of a finding."""

    #: a dry run: it would be repaired
    PLANNED = 'planned'
    #: it is repaired, which was checked
    REPAIRED = 'repaired'
    #: when the volume was read again, nothing was wrong
    CLEAR = 'clear'
    #: nothing that is safe can be done through the API
    BY_HAND = 'by hand'
    #: the state is unknown, so nothing was done
    UNKNOWN = 'unknown'
    #: Cinder did not do it, or the finding is back
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What happened to a finding.

    :param finding: as the audit found it
    :param result: the result
    :param text: what was done, or why nothing was
    :param script: what a person can do then, if anything
    """

    finding: classes.Finding
    result: Result
    text: str
    script: str = ''


class Repair:
    """Repairs findings through Cinder's API.

    :param cloud: the cloud that was audited
    :param rules: which attachments are foreign
    :param journal: where each call is recorded before it is made; None for a
        dry run
    :param holders: returns the servers that have a volume, by Nova's list
    :param shell: how to write commands for a person
    :param sleep: for tests
    """

    def __init__(
        self,
        cloud: api.Cloud,
        rules: foreign.Rules,
        journal: journal.Journal | None,
        holders: Callable[[str], Collection[str]],
        shell: advice.Shell = advice.PLAIN,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud = cloud
        self._rules = rules
        self._writer = (
            None if journal is None else writer.Writer(cloud, journal)
        )
        self._holders = holders
        self._shell = shell
        self._sleep = sleep

    def repair(self, finding: classes.Finding) -> Outcome:
        """Repair one finding, or return why it was not repaired.

        :param finding: from an audit
        :raises attachguard.audit.repair.journal.JournalError: a call cannot
            be recorded; it is not made then
        """
        case, current = self.recheck(finding)
        if current is None:
            return not_found(finding, case)
        if case.unknown_servers:
            return _unknown_server(finding, case)
        before = case
        planned = decide.plan_of(self._cloud, current, case)
        if not planned.steps:
            return Outcome(
                finding,
                Result.BY_HAND,
                planned.why_not,
                advice.script(planned, case, self._shell),
            )
        if self._writer is None:
            return Outcome(finding, Result.PLANNED, _describe(planned.steps))
        results: list[str] = []
        for step in planned.steps:
            if results:
                case, current = self.recheck(finding)
                if current is None:
                    return not_found(finding, case)
                if case.unknown_servers:
                    return _unknown_server(finding, case)
                # It was planned for the volume as it was before: it may drop
                # an attachment that was made since.
                anew = decide.plan_of(self._cloud, current, case)
                if step not in anew.steps:
                    results.append('the volume has changed, repair it again')
                    break
            result = self._apply(self._writer, step, current, case)
            results.append(f'{step.call.name}: {result}')
            if result.status in _REFUSED:
                # Cinder, or the guard, reports that the volume is used, or
                # may be. The next step could get around that.
                return Outcome(finding, Result.UNKNOWN, '; '.join(results))
            case, repaired = self._verify(finding)
            if case.unknown:
                results.append(f'then: {case.unknown}')
                return Outcome(finding, Result.UNKNOWN, '; '.join(results))
            if repaired:
                return self._finish(
                    self._writer, finding, step.call.name, before, case
                )
        return Outcome(finding, Result.FAILED, '; '.join(results))

    def recheck_repaired(self, outcomes: Collection[Outcome]) -> list[Outcome]:
        """Check once more what was repaired.

        :param outcomes: of repairs
        :returns: the same, with those failed whose finding is back
        """
        checked = []
        for outcome in outcomes:
            if outcome.result is Result.REPAIRED:
                case, current = self.recheck(outcome.finding)
                if current is not None:
                    outcome = dataclasses.replace(
                        outcome,
                        result=Result.FAILED,
                        text=f'{outcome.text}; then found again: '
                        f'{current.text}',
                    )
                elif case.unknown:
                    outcome = dataclasses.replace(
                        outcome,
                        result=Result.UNKNOWN,
                        text=f'{outcome.text}; then: {case.unknown}',
                    )
            checked.append(outcome)
        return checked

    def recheck(
        self, finding: classes.Finding
    ) -> tuple[model.Case, classes.Finding | None]:
        """Read the volume of a finding again.

        :param finding: as the audit found it
        :returns: the volume, and the finding if it is still found
        """
        servers = set(self._holders(finding.volume_id))
        if finding.server_id is not None:
            servers.add(finding.server_id)
        case = case_builder.read_case(
            self._cloud, finding.volume_id, self._rules, sorted(servers)
        )
        if not case.servers and not case.unknown:
            # That no server has it is as true as Nova's list, of which Nova
            # could not respond with a change since.
            case = dataclasses.replace(case, unknown=self._why_silent())
        return case, next(
            (f for f in classes.find(case) if f.key == finding.key), None
        )

    def _why_silent(self) -> str:
        """Return why Nova does not respond now; empty if it does."""
        try:
            self._cloud.compute_hosts()
        except rest.CloudError as exc:
            return str(exc)
        return ''

    def _apply(
        self,
        calls: writer.Writer,
        step: plan.Step,
        finding: classes.Finding,
        case: model.Case,
    ) -> writer.CallResult:
        """Apply one step, while the volume is reserved if it has to be."""
        reservation = step.reservation
        if reservation is None:
            return calls.call(step.call, _record('step', finding, case))
        # The journal calls reservations "hold": old ones have to be readable.
        result = calls.call(
            reservation.reserve, _record('hold', finding, case)
        )
        if not result.done:
            if result.status is writer.CallStatus.NO_RESPONSE:
                now, _current = self.recheck(finding)
                if now.status != case.status:
                    # Only the response was lost.
                    self._unreserve(calls, reservation, finding, now)
            return writer.CallResult(
                result.status
                if result.status in _REFUSED
                else writer.CallStatus.FAILED,
                f'the volume cannot be reserved: {result}',
            )
        reserved = None
        try:
            for wait in _TRIES:
                self._sleep(wait)
                reserved, _current = self.recheck(finding)
                why_not = changes(case, reserved)
                if why_not:
                    return writer.CallResult(writer.CallStatus.FAILED, why_not)
                result = calls.call(step.call, _record('step', finding, case))
                if result.status is not writer.CallStatus.UNVERIFIED:
                    break
            return result
        finally:
            # Also where the journal cannot be written any more: a volume that
            # stays reserved is of no use to anybody.
            now, _current = self.recheck(finding)
            if (
                reserved is None
                or now.unknown
                or now.status == reserved.status
            ):
                self._unreserve(calls, reservation, finding, now)

    def _finish(
        self,
        calls: writer.Writer,
        finding: classes.Finding,
        done: str,
        before: model.Case,
        case: model.Case,
    ) -> Outcome:
        """Put back the volume's own status, and report what was repaired.

        :param done: what was done
        :param before: the volume before that
        :param case: the volume after it
        """
        was, volume = before.volume, case.volume
        if (
            was is not None
            and volume is not None
            and was.has_own_status
            and volume.status == 'available'
        ):
            case = self._put_back(calls, finding, was, case)
            if case.status != was.status:
                return Outcome(
                    finding,
                    Result.FAILED,
                    f'{done}; but the volume was {was.status}, and is '
                    f'{case.status or "unknown"} now: undo restores it',
                )
        return Outcome(
            finding,
            Result.REPAIRED,
            f'{done}; the volume is {case.status or "deleted"}',
        )

    def _put_back(
        self,
        calls: writer.Writer,
        finding: classes.Finding,
        was: model.Volume,
        case: model.Case,
    ) -> model.Case:
        """Set the status that Cinder has overwritten, unless it is in use.

        :returns: the volume afterwards
        """
        reservation = plan.by_reserving(was)
        reserved = calls.call(
            reservation.reserve, _record('hold', finding, case)
        )
        if reserved.status not in (
            writer.CallStatus.DONE,
            writer.CallStatus.NO_RESPONSE,
        ):
            # Nova, or somebody else, attaches it.
            return self.recheck(finding)[0]
        try:
            now, _current = self.recheck(finding)
            if now.status == 'attaching' and not (
                now.attachments or now.foreign
            ):
                calls.call(
                    plan.set_status(was.id, was.status),
                    _record('status', finding, case),
                )
        finally:
            now, _current = self.recheck(finding)
            if now.unknown or now.status == 'attaching':
                self._unreserve(calls, reservation, finding, now)
                now, _current = self.recheck(finding)
        return now

    def _unreserve(
        self,
        calls: writer.Writer,
        reservation: plan.Reservation,
        finding: classes.Finding,
        case: model.Case,
    ) -> None:
        call = reservation.unreserve
        for wait in _TRIES:
            self._sleep(wait)
            try:
                result = calls.call(call, _record('release', finding, case))
            except journal.JournalError:
                calls.call_unrecorded(call)
                raise
            if result.status in (
                writer.CallStatus.DONE,
                writer.CallStatus.FAILED,
            ):
                return

    def _verify(self, finding: classes.Finding) -> tuple[model.Case, bool]:
        """Check the result of a step; Cinder may need a moment.

        :returns: the volume, and whether it is repaired; if that is unknown,
            it is not
        """
        for wait in _WAITS:
            case, current = self.recheck(finding)
            ids = [item.id for item in case.all_attachments]
            if finding.attachment_id is not None:
                repaired = finding.attachment_id not in ids
            else:
                repaired = not_found(finding, case).result is Result.CLEAR
            repaired = repaired and current is None and not case.unknown
            if repaired:
                break
            self._sleep(wait)
        return case, repaired


def _unknown_server(finding: classes.Finding, case: model.Case) -> Outcome:
    server = case.unknown_servers[0]
    return Outcome(
        finding,
        Result.UNKNOWN,
        f'Nova, of server {server.id}: {server.why}',
    )


def not_found(finding: classes.Finding, case: model.Case) -> Outcome:
    """Return why a finding is not found again: it is gone, or unknown.

    :param finding: as the audit found it
    :param case: the volume as it is now
    """
    if case.unknown:
        return Outcome(finding, Result.UNKNOWN, case.unknown)
    if finding.attachment_id in [item.id for item in case.foreign]:
        return Outcome(finding, Result.CLEAR, 'the attachment is foreign')
    if finding.kind == 'no-project' and case.project.why:
        why = f'Keystone: {case.project.why}'
        return Outcome(finding, Result.UNKNOWN, why)
    for server in _concerned(finding, case):
        if server.presence is model.Presence.UNKNOWN:
            return Outcome(finding, Result.UNKNOWN, f'Nova: {server.why}')
        if server.busy:
            return Outcome(
                finding,
                Result.UNKNOWN,
                f'Nova is busy with server {server.id} '
                f'({server.task_state or server.status})',
            )
    return Outcome(finding, Result.CLEAR, 'nothing is wrong now')


def changes(before: model.Case, reserved: model.Case) -> str:
    """Return why a step is not safe any more, for all that has changed.

    :param before: the volume before it was reserved
    :param reserved: the volume since then
    :returns: empty if nothing but the reservation has changed
    """
    if reserved.unknown or reserved.volume is None:
        return reserved.unknown or 'the volume is deleted'
    if reserved.volume.status not in ('attaching', 'detaching'):
        # Cinder accepts os-begin_detaching, and does nothing, once a volume
        # has begun to migrate.
        return f'the volume is {reserved.volume.status}, and not reserved'
    if reserved.volume.busy:
        return 'Cinder is busy with the volume'
    if set(reserved.attachments) != set(before.attachments) or set(
        reserved.foreign
    ) != set(before.foreign):
        return 'its attachments have changed'
    for server_id, server in reserved.servers.items():
        known = before.servers.get(server_id)
        if (
            known is None
            or known.presence is not server.presence
            or server.busy
        ):
            return f'the state of server {server_id} has changed'
    return ''


def snapshot(case: model.Case) -> Mapping[str, Any]:
    """Return what a journal stores of a volume, for undo.

    :param case: the volume
    """
    return {
        'volume': None
        if case.volume is None
        else dataclasses.asdict(case.volume),
        'attachments': [
            dataclasses.asdict(item) for item in case.all_attachments
        ],
        'servers': {
            server.id: server.presence.value
            for server in case.servers.values()
        },
    }


def _record(
    role: str, finding: classes.Finding, case: model.Case
) -> dict[str, Any]:
    return {
        'role': role,
        'finding': finding.to_json(),
        'before': snapshot(case),
    }


def _describe(steps: Sequence[plan.Step]) -> str:
    """Return what would be done, and what next if that is not enough."""
    return 'would ' + '; if that is not enough, '.join(
        f'{step.call.method} {step.call.path} ({step.call.name})'
        + (
            f', reserved by {step.reservation.reserve.name}'
            if step.reservation
            else ''
        )
        for step in steps
    )


def _concerned(
    finding: classes.Finding, case: model.Case
) -> list[model.Server]:
    """Return the servers whose state a finding depends on."""
    if finding.attachment_id is None:
        return list(case.servers.values())
    server = case.servers.get(finding.server_id or '')
    return [] if server is None else [server]
