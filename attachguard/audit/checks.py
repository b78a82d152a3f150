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


"""What is wrong with a volume: a small pure function for each class.

A class looks at one :class:`~attachguard.audit.model.Case` and says what it
finds.  It says nothing about what is not known, and nothing while Cinder or
Nova is at work on the volume or the server: their records differ then, and
rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
from typing import Any

from attachguard.audit import model


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    :param kind: name of its :class:`Class`
    :param volume_id: a UUID
    :param attachment_id: of the attachment that is wrong; None where it is the
        volume as a whole
    :param server_id: of the server that it is about, if any
    :param project_id: whose volume it is, where that is known
    :param text: what was found, in a sentence
    :param since: when it came about by Cinder's own record, ISO 8601
    :param evidence: the calls that say so
    """

    kind: str
    volume_id: str
    attachment_id: str | None
    server_id: str | None
    project_id: str | None
    text: str
    since: str | None = None
    evidence: tuple[model.Evidence, ...] = ()

    @property
    def key(self) -> str:
        """What makes it the same finding in another audit."""
        return ' '.join(
            (
                self.kind,
                self.volume_id,
                self.attachment_id or '-',
                self.server_id or '-',
            )
        )

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal or a report."""
        return {
            **dataclasses.asdict(self),
            'evidence': [item.to_json() for item in self.evidence],
        }


@dataclasses.dataclass(frozen=True)
class Class:
    """A class of findings.

    :param name: stable, for programs
    :param what: what it means
    :param how: how it comes about
    :param repair: what repairs it
    :param judge: finds it in a case
    """

    name: str
    what: str
    how: str
    repair: str
    judge: Callable[[model.Case], Iterator[Finding]]


def find(case: model.Case) -> list[Finding]:
    """Everything that is wrong with a volume.

    :param case: what is known of it, with what is foreign set apart
    :returns: none where something needed is not known, or at work
    """
    if case.unknown or case.volume is not None and case.volume.busy:
        return []
    return [
        finding for kind in CLASSES.values() for finding in kind.judge(case)
    ]


def _finding(
    case: model.Case,
    kind: str,
    text: str,
    *,
    attachment: model.Attachment | None = None,
    server_id: str | None = None,
) -> Finding:
    since = attachment.attached_at if attachment is not None else None
    if since is None and case.volume is not None:
        since = case.volume.updated_at
    return Finding(
        kind,
        case.volume_id,
        None if attachment is None else attachment.id,
        server_id if attachment is None else attachment.server_id,
        case.project_id,
        text,
        since,
        case.evidence,
    )


def _named(
    case: model.Case,
) -> Iterator[tuple[model.Attachment, model.Server]]:
    """The attachments whose server is known and at rest."""
    for attachment in case.attachments:
        if attachment.server_id is None:
            continue
        server = case.servers.get(attachment.server_id)
        if (
            server is not None
            and server.presence is not model.Presence.UNKNOWN
            and not server.busy
        ):
            yield attachment, server


def server_gone(case: model.Case) -> Iterator[Finding]:
    """An attachment names a server that there is not."""
    if case.volume is None:
        return
    for attachment, server in _named(case):
        if server.presence is model.Presence.GONE:
            yield _finding(
                case,
                'server-gone',
                f'Cinder has the volume {case.volume.status}, '
                f'{attachment.status} to server {server.id}, which Nova does '
                'not know',
                attachment=attachment,
            )


def server_lacks_volume(case: model.Case) -> Iterator[Finding]:
    """An attachment is attached to a server that does not have the volume."""
    if case.volume is None:
        return
    for attachment, server in _named(case):
        if (
            server.presence is model.Presence.LACKS
            and attachment.status == 'attached'
        ):
            yield _finding(
                case,
                'server-lacks-volume',
                f'Cinder has the volume {case.volume.status}, attached to '
                f'server {server.id}; Nova has no such attachment',
                attachment=attachment,
            )


def stuck_attachment(case: model.Case) -> Iterator[Finding]:
    """An attachment on its way to a server that does not have the volume."""
    if case.volume is None:
        return
    for attachment, server in _named(case):
        if (
            server.presence is model.Presence.LACKS
            and attachment.status != 'attached'
        ):
            yield _finding(
                case,
                'stuck-attachment',
                f'the attachment to server {server.id} is {attachment.status} '
                'in Cinder; Nova has no such attachment and is doing nothing '
                'with the server',
                attachment=attachment,
            )


def in_use_without_attachment(case: model.Case) -> Iterator[Finding]:
    """A volume is in-use by nothing."""
    if (
        case.volume is not None
        and case.volume.status == 'in-use'
        and not case.attachments
        and not case.foreign
        and not _held(case)
    ):
        yield _finding(
            case,
            'in-use-without-attachment',
            'Cinder has the volume in-use, and no attachment of it',
        )


def stuck_attaching(case: model.Case) -> Iterator[Finding]:
    """A volume waits for an attachment that nobody makes, or that failed."""
    yield from _waiting(case, 'attaching')
    if case.volume is None or case.volume.status != 'attaching':
        return
    for server in _holders(case):
        if any(
            a.status == 'attaching' and server.attachment_id in (None, a.id)
            for a in case.of(server.id)
        ):
            yield _finding(
                case,
                'stuck-attaching',
                f'the volume is attaching in Cinder, and Nova has it on '
                f'server {server.id}, and is doing nothing with it',
                server_id=server.id,
            )


def stuck_reserved(case: model.Case) -> Iterator[Finding]:
    """A volume is reserved for nothing."""
    yield from _waiting(case, 'reserved')


def _waiting(case: model.Case, status: str) -> Iterator[Finding]:
    if (
        case.volume is not None
        and case.volume.status == status
        and not _expected(case)
        and not any(_wrong(case))
    ):
        yield _finding(
            case,
            f'stuck-{status}',
            f'the volume is {status} in Cinder, and no attachment is being '
            'made',
        )


def stuck_detaching(case: model.Case) -> Iterator[Finding]:
    """A volume waits for a detach that nobody does."""
    if (
        case.volume is None
        or case.volume.status != 'detaching'
        or not _settled(case)
        or any(_wrong(case))
    ):
        return
    holders = _holders(case)
    attached = [s for s in holders if case.of(s.id)]
    if attached:
        yield _finding(
            case,
            'stuck-detaching',
            'the volume is detaching in Cinder; Nova has it on server '
            f'{attached[0].id}, at rest',
            server_id=attached[0].id,
        )
    elif not holders:
        yield _finding(
            case,
            'stuck-detaching',
            'the volume is detaching in Cinder; Nova has it on no server',
        )


def status_mismatch(case: model.Case) -> Iterator[Finding]:
    """Status, attach_status and attachments of a volume disagree."""
    volume = case.volume
    if volume is None or not _settled(case) or any(_wrong(case)):
        return
    attached = any(a.status == 'attached' for a in case.attachments)
    if volume.status == 'available' and attached:
        yield _finding(
            case,
            'status-mismatch',
            'Cinder has the volume available, and attached to '
            + ', '.join(
                a.server_id or a.host or 'no server'
                for a in case.attachments
                if a.status == 'attached'
            ),
        )
    elif (volume.status, volume.attach_status) in (
        ('available', 'attached'),
        ('in-use', 'detached'),
    ) and bool(case.attachments) == (volume.status == 'in-use'):
        yield _finding(
            case,
            'status-mismatch',
            f'status {volume.status} and attach_status {volume.attach_status} '
            'disagree in Cinder',
        )


def missing_in_cinder(case: model.Case) -> Iterator[Finding]:
    """Nova has a volume attached of which Cinder knows no attachment."""
    if case.volume is None or case.volume.status in (
        'attaching',
        'detaching',
        'reserved',
    ):
        # Cinder is about to have one, or has just not any more.
        return
    for server in _holders(case):
        if not case.of(server.id):
            yield _finding(
                case,
                'missing-in-cinder',
                f'Nova has the volume on server {server.id}; Cinder has no '
                f'such attachment, and the volume {case.volume.status}',
                server_id=server.id,
            )


def volume_gone(case: model.Case) -> Iterator[Finding]:
    """Nova has a volume that Cinder does not have any more."""
    if case.volume is not None:
        return
    for server in _holders(case):
        yield _finding(
            case,
            'volume-gone',
            f'Nova has the volume on server {server.id}; Cinder has no such '
            'volume',
            server_id=server.id,
        )


def volume_deleted(case: model.Case) -> Iterator[Finding]:
    """An attachment has outlived its volume."""
    if case.volume is not None:
        return
    for attachment in case.attachments:
        yield _finding(
            case,
            'volume-deleted',
            f'Cinder has the attachment {attachment.status}, and no such '
            'volume',
            attachment=attachment,
        )


def attachment_id_mismatch(case: model.Case) -> Iterator[Finding]:
    """Nova has a volume by another attachment than the one Cinder has."""
    for server in _holders(case):
        ids = [a.id for a in case.of(server.id)]
        if ids and server.attachment_id not in (None, *ids):
            yield _finding(
                case,
                'attachment-id-mismatch',
                f'Nova has the volume on server {server.id} by attachment '
                f'{server.attachment_id}; Cinder by {", ".join(sorted(ids))}',
                server_id=server.id,
            )


def duplicate(case: model.Case) -> Iterator[Finding]:
    """A server has a volume by one attachment, and Cinder has more."""
    for server in _holders(case):
        same = case.of(server.id)
        if server.attachment_id not in [a.id for a in same]:
            # Which of them is Nova's is not known: none can be the spare one.
            continue
        for attachment in same:
            if attachment.id != server.attachment_id:
                yield _finding(
                    case,
                    'duplicate',
                    f'Cinder has attachment {attachment.id} '
                    f'({attachment.status}) of server {server.id} beside '
                    f'{server.attachment_id}, the one that Nova has',
                    attachment=attachment,
                )


def _holders(case: model.Case) -> list[model.Server]:
    return [
        server
        for server in case.servers.values()
        if server.presence is model.Presence.HAS and not server.busy
    ]


def _held(case: model.Case) -> bool:
    """Whether Nova has the volume, or might, on any server."""
    return any(
        server.presence in (model.Presence.HAS, model.Presence.UNKNOWN)
        or server.busy
        for server in case.servers.values()
    )


def _settled(case: model.Case) -> bool:
    """Whether the volume's status is Nova's business, and Nova at rest."""
    return not case.foreign and not any(
        server.presence is model.Presence.UNKNOWN or server.busy
        for server in case.servers.values()
    )


def _expected(case: model.Case) -> bool:
    """Whether somebody might be making an attachment of the volume."""
    done = {a.server_id for a in case.attachments if a.status == 'attached'}
    return (
        not _settled(case)
        or any(a.status in ('attaching', 'reserved') for a in case.attachments)
        or any(server.id not in done for server in _holders(case))
    )


def _wrong(case: model.Case) -> Iterator[Finding]:
    """What is wrong with the attachments: the root of what the status says."""
    yield from server_gone(case)
    yield from server_lacks_volume(case)
    yield from stuck_attachment(case)


_FORGED = (
    "A user's own os-attach, or an attachment created and completed, of which "
    'Nova was never told'
)

#: The classes, by name, the most telling first.
CLASSES: dict[str, Class] = {
    kind.name: kind
    for kind in (
        Class(
            'server-gone',
            'Cinder has an attachment to a server that does not exist.',
            f'{_FORGED}; or the server was deleted while Cinder, or its '
            'volume service, did not answer.',
            'Deleting the attachment: Cinder asks Nova once more, and removes '
            'what its driver has exported.',
            server_gone,
        ),
        Class(
            'server-lacks-volume',
            'Cinder has the volume attached to a server that exists, and Nova '
            'has no such attachment.',
            f'{_FORGED}; or a detach that reached Nova and not Cinder.',
            'Deleting the attachment.',
            server_lacks_volume,
        ),
        Class(
            'stuck-attachment',
            'An attachment is reserved, attaching, detaching or in error in '
            'Cinder, and Nova has no such attachment.',
            'A server create or attach that failed before Nova could take '
            'back what it had reserved.',
            'Deleting the attachment.',
            stuck_attachment,
        ),
        Class(
            'in-use-without-attachment',
            'The volume is in-use, and Cinder has no attachment of it.',
            'SQL by hand; a crash of Cinder between the two records.',
            'os-detach without an attachment, which only sets the status.',
            in_use_without_attachment,
        ),
        Class(
            'stuck-attaching',
            'The volume is attaching, and nobody attaches it.',
            "A user's own os-reserve; a compute node that died while it "
            'attached.',
            'os-unreserve where Nova has it on no server that it is not '
            'attached to; else by hand: completing the attachment, and then a '
            'hard reboot of the server.',
            stuck_attaching,
        ),
        Class(
            'stuck-reserved',
            'The volume is reserved, and Cinder has no attachment for which.',
            'SQL by hand; a crash of Cinder between the two records.',
            'os-reset_status.',
            stuck_reserved,
        ),
        Class(
            'stuck-detaching',
            'The volume is detaching, and Nova is doing nothing with the '
            'server.',
            "A user's own os-begin_detaching, or a detach that the guest or "
            'the hypervisor refused.',
            'os-roll_detaching where Nova has the volume; os-detach where '
            'nothing has it.',
            stuck_detaching,
        ),
        Class(
            'status-mismatch',
            'Status, attach_status and attachments of the volume disagree.',
            'An operator who reset the state of a volume that was attached; '
            'SQL by hand.',
            'os-reset_status to what the attachments say, which drops none of '
            'them.',
            status_mismatch,
        ),
        Class(
            'duplicate',
            'Cinder has several attachments of the volume for one server, and '
            'Nova has it by one of them.',
            'A migration that failed half-way; an attachment forged beside a '
            'real one.',
            'Deleting those that Nova does not have it by; not one that is '
            'connected to the host where the server runs.',
            duplicate,
        ),
        Class(
            'missing-in-cinder',
            'Nova has the volume on a server, and Cinder has no attachment '
            'for it: others can attach it, too, and damage it.',
            'An operator who reset the attach_status of a volume in use; a '
            'detach that failed in Nova.',
            'By hand: a hard reboot of the server, with which Nova drops what '
            'Cinder does not have.',
            missing_in_cinder,
        ),
        Class(
            'volume-gone',
            'Nova has a volume on a server that Cinder does not have any '
            'more.',
            'An operator who reset and deleted a volume in use.',
            'By hand: a hard reboot of the server, with which Nova drops it.',
            volume_gone,
        ),
        Class(
            'attachment-id-mismatch',
            'Nova has the volume by another attachment than Cinder has for '
            'the server: the next detach leaves it in-use for ever.',
            'A restored database; an attachment forged after the real one was '
            'deleted.',
            'By hand, with the server stopped: deleting the attachment, and '
            'then nova-manage volume_attachment refresh.',
            attachment_id_mismatch,
        ),
        Class(
            'volume-deleted',
            'An attachment of a volume that is deleted.',
            'An attachment made while the volume was being deleted; SQL by '
            'hand.',
            'SQL only (attachguard repair --sql): Cinder does not delete an '
            'attachment whose volume it cannot find.',
            volume_deleted,
        ),
    )
}
