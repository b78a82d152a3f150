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

from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import writer

# Seconds between the checks of a repaired volume.
_WAITS = (0.5, 1.0, 2.0, 0.0)


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
    """

    finding: checks.Finding
    result: Result
    text: str


class Repair:
    """Repairs findings through Cinder's API.

    :param cloud: the cloud that was audited
    :param rules: which attachments are foreign
    :param journal: where each call is recorded before it is made; None for a
        dry run
    :param holders: returns the servers that have a volume, by Nova's list
    :param sleep: for tests
    """

    def __init__(
        self,
        cloud: api.Cloud,
        rules: foreign.Rules,
        journal: journal.Journal | None,
        holders: Callable[[str], Collection[str]],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud = cloud
        self._rules = rules
        self._writer = (
            None if journal is None else writer.Writer(cloud, journal)
        )
        self._holders = holders
        self._sleep = sleep

    def repair(self, finding: checks.Finding) -> Outcome:
        """Repair one finding, or return why it was not repaired.

        :param finding: from an audit
        :raises attachguard.audit.repair.journal.JournalError: a call cannot
            be recorded; it is not made then
        """
        case, current = self.recheck(finding)
        if case.unknown:
            return Outcome(finding, Result.UNKNOWN, case.unknown)
        if current is None:
            return self.not_found(finding, case)
        connected = is_connected(self._cloud, current.attachment_id)
        if connected is False and _names_host(current, case):
            return Outcome(
                finding,
                Result.BY_HAND,
                'the attachment names a host but was never connected to it. '
                'Nova does not do so; Zun does. Find out who attached it, and '
                'see --foreign',
            )
        planned = plan.make(current, case, connected)
        if not planned.steps:
            return Outcome(finding, Result.BY_HAND, planned.why_not)
        if (
            current.attachment_id is not None
            and connected is not False
            and may_disconnect_another(self._cloud, current, case)
        ):
            return Outcome(
                finding,
                Result.BY_HAND,
                'the attachment may be connected to a host where something '
                'other than Nova (for example Zun) has the volume too, and '
                'would lose its connection. Find out what does, and see '
                '--foreign',
            )
        if self._writer is None:
            return Outcome(finding, Result.PLANNED, _describe(planned.steps))
        results: list[str] = []
        for step in planned.steps:
            if results:
                case, current = self.recheck(finding)
                if current is None:
                    return self.not_found(finding, case)
            result = self._apply(self._writer, step, current, case)
            results.append(f'{step.call.name}: {result}')
            if result.status is writer.CallStatus.REFUSED:
                # Cinder, or the guard, reports that the volume is used. The
                # next step could get around that.
                return Outcome(finding, Result.UNKNOWN, '; '.join(results))
            case, repaired = self._verify(finding)
            if case.unknown:
                results.append(f'then: {case.unknown}')
                return Outcome(finding, Result.UNKNOWN, '; '.join(results))
            if repaired:
                status = _status(case) or 'deleted'
                return Outcome(
                    finding,
                    Result.REPAIRED,
                    f'{step.call.name}; the volume is {status}',
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
                _case, current = self.recheck(outcome.finding)
                if current is not None:
                    outcome = dataclasses.replace(
                        outcome,
                        result=Result.FAILED,
                        text=f'{outcome.text}; then found again: '
                        f'{current.text}',
                    )
            checked.append(outcome)
        return checked

    def recheck(
        self, finding: checks.Finding
    ) -> tuple[model.Case, checks.Finding | None]:
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
        return case, next(
            (f for f in checks.find(case) if f.key == finding.key), None
        )

    @staticmethod
    def not_found(finding: checks.Finding, case: model.Case) -> Outcome:
        """Return why a finding is not found again: it is gone, or unknown.

        :param finding: as the audit found it
        :param case: the volume as it is now
        """
        if case.unknown:
            return Outcome(finding, Result.UNKNOWN, case.unknown)
        if finding.attachment_id in [item.id for item in case.foreign]:
            return Outcome(finding, Result.CLEAR, 'the attachment is foreign')
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

    def _apply(
        self,
        calls: writer.Writer,
        step: plan.Step,
        finding: checks.Finding,
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
                if _status(now) != _status(case):
                    # Only the response was lost.
                    _unreserve(calls, reservation, finding, now)
            return writer.CallResult(
                result.status
                if result.status is writer.CallStatus.REFUSED
                else writer.CallStatus.FAILED,
                f'the volume cannot be reserved: {result}',
            )
        reserved = None
        try:
            reserved, _current = self.recheck(finding)
            why_not = changes(case, reserved)
            if why_not:
                return writer.CallResult(writer.CallStatus.FAILED, why_not)
            return calls.call(step.call, _record('step', finding, case))
        finally:
            # Also where the journal cannot be written any more: a volume that
            # stays reserved is of no use to anybody.
            now, _current = self.recheck(finding)
            if (
                reserved is None
                or now.unknown
                or _status(now) == _status(reserved)
            ):
                _unreserve(calls, reservation, finding, now)

    def _verify(self, finding: checks.Finding) -> tuple[model.Case, bool]:
        """Check the result of a step; Cinder may need a moment.

        :returns: the volume, and whether it is repaired; if that is unknown,
            it is not
        """
        for wait in _WAITS:
            case, current = self.recheck(finding)
            ids = [item.id for item in (*case.attachments, *case.foreign)]
            if finding.attachment_id is not None:
                repaired = finding.attachment_id not in ids
            else:
                repaired = self.not_found(finding, case).result is Result.CLEAR
            repaired = repaired and current is None and not case.unknown
            if repaired:
                break
            self._sleep(wait)
        return case, repaired


def is_connected(cloud: api.Cloud, attachment_id: str | None) -> bool | None:
    """Return whether an attachment has a connection to a host.

    :param cloud: the cloud
    :param attachment_id: the attachment, if there is one
    :returns: None where that is unknown. Cinder responds 400 where there is
        none and the volume is on NFS
    """
    if attachment_id is None:
        return None
    response = cloud.cinder('GET', f'/attachments/{attachment_id}')
    row = response.body.get('attachment')
    if response.status != 200 or not isinstance(row, dict):
        return None
    return bool(row.get('connection_info'))


def may_disconnect_another(
    cloud: api.Cloud, finding: checks.Finding, case: model.Case
) -> bool:
    """Return whether another attachment may have a connection of its own.

    No driver knows of such a one, as its record has no connector.

    :param cloud: the cloud
    :param finding: names the attachment that is to be removed
    :param case: the volume
    """
    return any(
        item.id != finding.attachment_id
        and item.host
        and case.servers[item.server_id or ''].presence is model.Presence.GONE
        and not is_connected(cloud, item.id)
        for item in case.attachments
    )


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
            dataclasses.asdict(item)
            for item in (*case.attachments, *case.foreign)
        ],
        'servers': {
            server.id: server.presence.value
            for server in case.servers.values()
        },
    }


def _record(
    role: str, finding: checks.Finding, case: model.Case
) -> dict[str, Any]:
    return {
        'role': role,
        'finding': finding.to_json(),
        'before': snapshot(case),
    }


def _unreserve(
    calls: writer.Writer,
    reservation: plan.Reservation,
    finding: checks.Finding,
    case: model.Case,
) -> None:
    call = reservation.unreserve
    try:
        calls.call(call, _record('release', finding, case))
    except journal.JournalError:
        calls.call_unrecorded(call)
        raise


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


def _status(case: model.Case) -> str | None:
    return None if case.volume is None else case.volume.status


def _concerned(
    finding: checks.Finding, case: model.Case
) -> list[model.Server]:
    """Return the servers whose state a finding depends on."""
    if finding.attachment_id is None:
        return list(case.servers.values())
    server = case.servers.get(finding.server_id or '')
    return [] if server is None else [server]


def _names_host(finding: checks.Finding, case: model.Case) -> bool:
    return any(
        item.id == finding.attachment_id and item.host
        for item in case.attachments
    )
