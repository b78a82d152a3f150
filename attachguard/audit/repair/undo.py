# SPDX-License-Identifier: Apache-2.0

"""Undo a repair from its journal, as far as that is possible.

With the same care as the repair: nothing is changed that is not as the repair
left it, and nothing that Nova has.  Every call is recorded in a journal of
its own.  An attachment comes back with another id, and a connection to a host
does not come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
import functools
from typing import TYPE_CHECKING

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import rest
from attachguard.audit.collect import rows
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import sql_change
from attachguard.audit.repair import writer

if TYPE_CHECKING:
    from attachguard.audit.repair import sql


# Cinder lets administrators make this call, and attachguard lets services
# make the other ones for a server, both by default.
_RESET = 'os-reset_status'
_CREATE = 'attachment-create'
_COMPLETE = 'attachment-complete'


class Result(enum.Enum):
    """The result of undoing a step."""

    #: a dry run: it would be undone
    PLANNED = 'planned'
    #: it is as it was before, as far as possible
    UNDONE = 'undone'
    #: only a part of it is as it was before
    PARTLY = 'partly undone'
    #: there is nothing to undo
    NOTHING = 'nothing to undo'
    #: it is not as the repair left it, or unknown: nothing was changed
    REFUSED = 'refused'
    #: a service did not do it
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What happened to a step.

    :param number: the step's number in the journal
    :param volume_id: the volume
    :param call: what the repair did
    :param result: the result
    :param text: what was restored, what was not, or why nothing was
    """

    number: int
    volume_id: str
    call: str
    result: Result
    text: str


class Undo:
    """Undoes what is in a journal.

    :param cloud: the cloud of the repair
    :param journal: where to record what is done now; None for a dry run
    :param database: Cinder's, for what was done by SQL
    """

    def __init__(
        self,
        cloud: api.Cloud,
        journal: journal.Journal | None,
        database: sql.Database | None = None,
    ) -> None:
        self._cloud = cloud
        self._database = database
        self._writer = (
            None if journal is None else writer.Writer(cloud, journal)
        )
        # Attachments that were created again: the old id, and the new one.
        self._restored: dict[str, str] = {}

    @functools.cached_property
    def _roles(self) -> frozenset[str] | None:
        return self._cloud.roles()

    def undo(self, entries: list[journal.Entry]) -> Iterator[Outcome]:
        """Undo steps, the last one first.

        :param entries: from the journal of a repair
        :raises attachguard.audit.repair.journal.JournalError: an entry is
            incomplete, or what is to be done now cannot be recorded
        """
        for entry in reversed(entries):
            # Not those that reserved a volume, and unreserved it.
            if entry.act.get('role', 'step') == 'step':
                yield self._undo(_read(entry))

    def _undo(self, step: _Step) -> Outcome:
        if step.change is not None:
            result, text = self._undo_sql(step, step.change)
        elif 300 <= (step.status or 0) < 500:
            # After a 5xx, it may have been done.
            result = Result.NOTHING
            text = f'Cinder refused it (HTTP {step.status})'
        else:
            result, text = self._undo_call(step)
        return Outcome(step.number, step.volume_id, step.call, result, text)

    def _undo_sql(
        self, step: _Step, change: sql_change.Change
    ) -> tuple[Result, str]:
        if step.refused:
            return Result.NOTHING, 'the database was not changed'
        if self._database is None:
            return Result.REFUSED, 'it needs --database or --cinder-conf'
        if self._writer is None:
            return (
                Result.PLANNED,
                f'by SQL: {len(change.inverse.statements)} statements',
            )
        record = {'undo': change.volume_id, 'sql': change.to_json()}
        with self._writer.journal.record(record) as done:
            try:
                self._database.undo(change)
            except sql_change.Refused as exc:
                done['refused'] = str(exc)
                return Result.REFUSED, str(exc)
            done['rows'] = len(change.rows)
        return Result.UNDONE, 'by SQL'

    def _undo_call(self, step: _Step) -> tuple[Result, str]:
        was, attached = step.volume, step.attachments
        case = self._read(step)
        why_not = _why_not(case, was)
        if was is None or case.volume is None or why_not:
            return Result.REFUSED, why_not
        now = {item.id for item in case.all_attachments}
        if now - {a.id for a in attached} - {*self._restored.values()}:
            return Result.REFUSED, 'the volume has new attachments'
        lost = [
            item
            for item in attached
            if item.id not in now and item.id not in self._restored
        ]
        wanted = _status(was, case.volume)
        if not lost and not wanted:
            return Result.NOTHING, 'it is as it was before'
        why_not = _cannot_restore(lost, was, case)
        if not why_not and lost and case.volume.has_own_status:
            why_not = self._why_used(step.volume_id)
        if why_not:
            return Result.REFUSED, why_not
        text = '; '.join(filter(None, (_of_lost(lost), _of_status(wanted))))
        text += f'; the volume was {case.volume.status}'
        if self._writer is None:
            foreseen = _foresee(_calls(lost, was, case.volume), self._roles)
            return Result.PLANNED, f'{text}. {foreseen}'
        failure = self._restore_all(self._writer, lost, was, case.volume)
        if failure:
            return Result.FAILED, failure
        return self._verify(step, was, text)

    def _why_used(self, volume_id: str) -> str:
        """Return why a volume must not be available for a moment.

        Also a server can have it of which Cinder has no attachment, so all
        are listed.

        :returns: empty if no server has it, and Nova shows that of each
        """
        try:
            for page in self._cloud.servers():
                for row in page.rows:
                    server = rows.server(row, row['id'], volume_id)
                    if server.presence is model.Presence.HAS:
                        return f'server {server.id} has the volume in Nova'
                    if server.presence is model.Presence.UNKNOWN:
                        return f'Nova, of server {server.id}: {server.why}'
        except rest.CloudError as exc:
            return str(exc)
        return ''

    def _read(self, step: _Step) -> model.Case:
        return case_builder.read_case(
            self._cloud,
            step.volume_id,
            foreign.Rules(),
            sorted({a.server_id for a in step.attachments if a.server_id}),
        )

    def _restore_all(
        self,
        calls: writer.Writer,
        lost: list[model.Attachment],
        was: model.Volume,
        now: model.Volume,
    ) -> str:
        """Restore attachments, and then the statuses.

        :returns: why that failed; empty if it did not
        """
        if lost and now.has_own_status:
            # Cinder creates no attachment of it. It has none at present.
            failure = self._reset(calls, was.id, {'status': 'available'})
            if failure:
                return failure
        for attachment in lost:
            failure = self._restore(calls, attachment, was)
            if failure:
                return failure
        if lost:
            response, row = self._cloud.volume(was.id)
            if row is None:
                return f'the volume is unknown: {response.why}'
            now = rows.volume(row)
        wanted = _status(was, now)
        return self._reset(calls, was.id, wanted) if wanted else ''

    @staticmethod
    def _reset(
        calls: writer.Writer, volume_id: str, wanted: Mapping[str, str]
    ) -> str:
        result = calls.call(
            plan.action(volume_id, _RESET, wanted),
            {'undo': volume_id},
        )
        return '' if result.done else f'{_RESET}: {result}'

    def _verify(
        self, step: _Step, was: model.Volume, text: str
    ) -> tuple[Result, str]:
        """Compare the volume with what it was before the repair."""
        case = self._read(step)
        if case.unknown or case.volume is None:
            return Result.FAILED, f'{text}; then: {case.unknown or "deleted"}'
        differences = []
        if case.volume.status != was.status:
            differences.append(
                f'the volume is {case.volume.status}, and was {was.status}'
            )
        by_id = {item.id: item for item in case.all_attachments}
        for old in step.attachments:
            new = by_id.get(self._restored.get(old.id, old.id))
            if new is None or new.status != old.status:
                differences.append(
                    f'attachment {old.id} is '
                    f'{"lost" if new is None else new.status}, and was '
                    f'{old.status}'
                )
        if differences:
            return Result.PARTLY, f'{text}; but {"; ".join(differences)}'
        return Result.UNDONE, text

    def _restore(
        self,
        calls: writer.Writer,
        attachment: model.Attachment,
        was: model.Volume,
    ) -> str:
        """Create an attachment again.

        :returns: why that failed; empty if it did not
        """
        created = calls.call(
            plan.Call(
                _CREATE,
                'POST',
                '/attachments',
                {
                    'attachment': {
                        'volume_uuid': was.id,
                        'instance_uuid': attachment.server_id,
                    }
                },
            ),
            {'undo': was.id},
        )
        found = created.body.get('attachment')
        if not created.done or not isinstance(found, dict):
            return f'{_CREATE}: {_why(created)}'
        new_id = self._restored[attachment.id] = str(found['id'])
        if attachment.status != 'attached':
            return ''
        completed = calls.call(
            plan.Call(
                _COMPLETE,
                'POST',
                f'/attachments/{new_id}/action',
                {'os-complete': None},
                api.COMPLETE_VERSION,
            ),
            {'undo': was.id},
        )
        if completed.done:
            return ''
        return (
            f'{_COMPLETE}: {_why(completed)}; attachment {new_id} '
            'stays reserved'
        )


@dataclasses.dataclass(frozen=True)
class _Step:
    """A step of a repair, as read from its journal."""

    number: int
    volume_id: str
    call: str
    volume: model.Volume | None
    attachments: list[model.Attachment]
    #: of Cinder's response
    status: int | None
    #: of a change by SQL
    change: sql_change.Change | None
    refused: bool


def _read(entry: journal.Entry) -> _Step:
    done = entry.done or {}
    try:
        before = entry.act['before']
        sql = entry.act.get('sql')
        return _Step(
            entry.number,
            str(entry.act['finding']['volume_id']),
            str(entry.act['call']['name']),
            model.Volume(**before['volume']) if before['volume'] else None,
            [model.Attachment(**item) for item in before['attachments']],
            done.get('answer', {}).get('status'),
            None if sql is None else sql_change.Change.from_json(sql),
            'refused' in done,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise journal.JournalError(
            f'Entry {entry.number} of the journal is incomplete: {exc!r}'
        ) from None


def _why_not(case: model.Case, was: model.Volume | None) -> str:
    """Return why nothing can be undone; empty if something can."""
    if case.unknown:
        return case.unknown
    if was is None or case.volume is None:
        return 'the volume is deleted'
    for server in case.unknown_servers:
        return f'Nova: {server.why}'
    return ''


def _cannot_restore(
    lost: list[model.Attachment], was: model.Volume, case: model.Case
) -> str:
    """Return what Cinder would refuse, or would do harm."""
    now = case.volume
    if now is None:
        return 'the volume is deleted'
    held = any(
        server.presence is model.Presence.HAS
        for server in case.servers.values()
    )
    for attachment in lost:
        if attachment.server_id is None:
            return (
                f'attachment {attachment.id} named no server, and cannot be '
                'created again'
            )
    left = bool(case.attachments or case.foreign)
    if lost and held and not was.multiattach:
        return 'Nova has attached the volume since'
    if lost and (now.busy or now.has_own_status and left):
        return f'Cinder creates no attachment while it is {now.status}'
    if was.status == 'in-use' != now.status and not (left or lost):
        return 'Cinder sets no volume to in-use that has no attachment'
    if was.status == 'available' != now.status and held:
        return 'the volume is attached, and others could attach it too'
    return ''


def _of_lost(lost: list[model.Attachment]) -> str:
    return '; '.join(
        f'attachment {item.id} to {item.server_id}, with another id'
        + (f', without its connection to {item.host}' if item.host else '')
        + (
            f', reserved and not {item.status}'
            if item.status not in ('attached', 'reserved')
            else ''
        )
        for item in lost
    )


def _of_status(wanted: Mapping[str, str]) -> str:
    return ', '.join(f'{name} {value}' for name, value in wanted.items())


def _status(was: model.Volume, now: model.Volume) -> dict[str, str]:
    """Return what to reset, of what the repair has changed.

    Never attach_status to detached, which drops attachments.
    """
    wanted = {}
    if now.status != was.status:
        wanted['status'] = was.status
    if was.attach_status == 'attached' and now.attach_status is None:
        wanted['attach_status'] = 'attached'
    return wanted


def _calls(
    lost: list[model.Attachment], was: model.Volume, now: model.Volume
) -> list[str]:
    """Return the calls that an undo makes, or may have to make."""
    calls = []
    if not lost or now.has_own_status or was.status != _given_by(lost):
        calls.append(_RESET)
    if lost:
        calls.append(_CREATE)
    if any(item.status == 'attached' for item in lost):
        calls.append(_COMPLETE)
    return calls


def _given_by(attachments: list[model.Attachment]) -> str:
    """Return the status that attachments give a volume when restored."""
    attached = any(item.status == 'attached' for item in attachments)
    return 'in-use' if attached else 'reserved'


def _foresee(calls: list[str], roles: frozenset[str] | None) -> str:
    """Return what is refused to whom, by the default rules.

    :param calls: which are made
    :param roles: of the credentials; None where they are not known
    """
    by_cinder = [call for call in calls if call == _RESET]
    by_guard = [call for call in calls if call != _RESET]
    needed = ['admin'] + ['service'] * bool(by_guard)
    who = f'a user with the role{"s" * bool(by_guard)} {" and ".join(needed)}'
    if roles is None:
        return f'It works as {who}; the roles of these credentials are unknown'
    refused = []
    if by_cinder and 'admin' not in roles:
        refused.append(f'Cinder refuses {_RESET}')
    if by_guard and 'service' not in roles:
        refused.append(
            f'attachguard, where it guards Cinder, refuses '
            f'{" and ".join(by_guard)}'
        )
    mine = f'these credentials (roles {", ".join(sorted(roles)) or "none"})'
    if not refused:
        return f'By the default rules, nothing of this is refused to {mine}'
    return (
        f'By the default rules, to {mine}, {", and ".join(refused)}. It works '
        f'as {who}'
    )


def _why(result: writer.CallResult) -> str:
    if result.status is writer.CallStatus.REFUSED:
        return (
            f'{result} (where attachguard guards Cinder, only services create '
            'attachments of servers: undo it as a user with the roles admin '
            'and service)'
        )
    return str(result)
