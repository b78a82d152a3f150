# SPDX-License-Identifier: Apache-2.0


"""The classes of inconsistency: a pure function for each.

A class checks one :class:`~attachguard.audit.model.Case`.  It finds nothing in
what is not known, and nothing while Cinder or Nova is doing something with the
volume or the server: their records rightly differ then.  What has not changed
for ``stuck_after`` is no such thing any more.

Where no class finds anything, the owner of the volume can attach, detach or
delete it, as its status says: ``tests/unit/audit/test_table.py`` goes through
all combinations of statuses, attachments and what Nova has.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
from typing import Any

from attachguard import messages
from attachguard.audit import model


@dataclasses.dataclass(frozen=True)
class Finding:
    """An inconsistency.

    :param kind: the name of its :class:`Class`
    :param volume_id: a UUID
    :param attachment_id: of the attachment that is wrong; None where it is the
        volume as a whole
    :param server_id: of the server that it is about, if any
    :param project_id: of the volume, where it is known
    :param text: what was found, in a sentence
    :param since: when it began, by Cinder's own record, ISO 8601
    :param evidence: the calls that show it
    :param volume_name: where it is known, as ``server_name``
    :param host: where the attachment is connected; else where Nova runs the
        server
    """

    kind: str
    volume_id: str
    attachment_id: str | None
    server_id: str | None
    project_id: str | None
    text: str
    since: str | None = None
    evidence: tuple[model.Evidence, ...] = ()
    volume_name: str | None = None
    server_name: str | None = None
    host: str | None = None

    @property
    def key(self) -> str:
        """The identity of the finding, the same in each audit."""
        return ' '.join(
            (
                self.kind,
                self.volume_id,
                self.attachment_id or '-',
                self.server_id or '-',
            )
        )

    @property
    def volume(self) -> str:
        """The volume, for people."""
        name = f' ({self.volume_name})' if self.volume_name else ''
        return f'{self.volume_id}{name}'

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal."""
        return {
            **dataclasses.asdict(self),
            'evidence': [item.to_json() for item in self.evidence],
        }


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a class finds in a case.

    :param text: a sentence
    :param attachment: that is wrong; None where it is the volume as a whole
    :param server_id: of the server that it is about, if no attachment names it
    """

    text: str
    attachment: model.Attachment | None = None
    server_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Class:
    """A class of inconsistency.

    :param name: stable, for programs
    :param what: what is inconsistent
    :param how: how it comes about
    :param repair: what repairs it
    :param check: finds it in a case
    """

    name: str
    what: str
    how: str
    repair: str
    check: Callable[[model.Case], Iterator[Problem]]

    @property
    def runbook(self) -> str:
        """Where the documentation says what to do."""
        return messages.runbook('reference/classes', self.name)


def find(case: model.Case) -> list[Finding]:
    """Find everything that is wrong with a volume.

    :param case: of the volume, with foreign attachments set apart
    :returns: none where something needed is not known, or busy
    """
    busy = case.volume is not None and case.volume.busy
    if case.unknown or busy and not case.is_old:
        return []
    return [
        _finding(kind.name, case, problem)
        for kind in CLASSES.values()
        for problem in kind.check(case)
    ]


def _finding(kind: str, case: model.Case, problem: Problem) -> Finding:
    attachment_id, server_id, since = None, problem.server_id, None
    host = None
    if problem.attachment is not None:
        attachment_id = problem.attachment.id
        server_id = problem.attachment.server_id
        since = problem.attachment.attached_at
        host = problem.attachment.host
    if since is None and case.volume is not None:
        since = case.volume.updated_at
    server = case.servers.get(server_id or '')
    return Finding(
        kind,
        case.volume_id,
        attachment_id,
        server_id,
        case.project_id,
        problem.text,
        since,
        case.evidence,
        volume_name=case.volume.name if case.volume else None,
        server_name=server.name if server else None,
        host=host or (server.host if server else None),
    )


def server_gone(case: model.Case) -> Iterator[Problem]:
    """An attachment names a server that does not exist."""
    for volume, attachment, server in _idle_pairs(case):
        if server.presence is model.Presence.GONE:
            yield Problem(
                f'the volume is {volume.status} in Cinder, with an attachment '
                f'({attachment.status}) to server {server.id}; Nova has no '
                'such server',
                attachment,
            )


def server_lacks_volume(case: model.Case) -> Iterator[Problem]:
    """An attachment is attached to a server that does not have the volume."""
    for volume, attachment, server in _lacking(case):
        if attachment.status == 'attached':
            yield Problem(
                f'the volume is {volume.status} in Cinder, attached to server '
                f'{server.id}; Nova has no such attachment',
                attachment,
            )


def stuck_attachment(case: model.Case) -> Iterator[Problem]:
    """An unfinished attachment of a server that does not have the volume."""
    for _volume, attachment, server in _lacking(case):
        if attachment.status != 'attached':
            yield Problem(
                f'the attachment to server {server.id} is {attachment.status} '
                'in Cinder; Nova has no such attachment, and the server is '
                'idle',
                attachment,
            )
    for attachment in case.foreign:
        if (
            attachment.server_id is None
            and attachment.status != 'attached'
            and case.is_old
        ):
            since = case.volume.updated_at if case.volume else None
            yield Problem(
                f'an attachment to no server is {attachment.status} in '
                f'Cinder, and the volume has not changed since '
                f'{model.utc(since)}',
                attachment,
            )


def stuck_operation(case: model.Case) -> Iterator[Problem]:
    """Cinder or Nova has been doing something for too long."""
    volume = case.volume
    if volume is not None and volume.busy:
        migration = volume.migration_status
        yield Problem(
            f'the volume is {volume.status} in Cinder'
            + (f', with the migration status {migration}' if migration else '')
            + f', and nothing has changed since {model.utc(volume.updated_at)}'
        )
    for server in case.servers.values():
        if server.task_state and case.has_passed(server.updated):
            yield Problem(
                f'Nova is {server.task_state} server {server.id}, and nothing '
                f'has changed since {model.utc(server.updated)}',
                server_id=server.id,
            )


def multi_owner(case: model.Case) -> Iterator[Problem]:
    """Two servers write to a volume that only one may have."""
    volume = case.volume
    owners = [
        server
        for server in case.servers.values()
        if server.presence is model.Presence.HAS
    ]
    if volume is not None and not volume.multiattach and len(owners) > 1:
        # The one that Cinder does not have there comes first.
        owners.sort(key=lambda server: bool(case.of(server.id)))
        yield Problem(
            'the volume is not multiattach, and Nova has it on the servers '
            + ' and '.join(server.id for server in owners)
            + ': both guests write to it, and damage it. Stop one at once',
            server_id=owners[0].id,
        )


def wrong_server(case: model.Case) -> Iterator[Problem]:
    """Cinder has Nova's attachment for another server."""
    for server in _holders(case):
        for attachment in case.attachments:
            if attachment.id == server.attachment_id and (
                attachment.server_id != server.id
            ):
                yield Problem(
                    f'Nova has the volume on server {server.id} by attachment '
                    f'{attachment.id}, which names {attachment.server_id} in '
                    'Cinder',
                    server_id=server.id,
                )


def wrong_host(case: model.Case) -> Iterator[Problem]:
    """The attachment is connected to another host than the server's."""
    for _volume, attachment, server in _idle_pairs(case):
        if (
            server.presence is model.Presence.HAS
            and server.attachment_id in (None, attachment.id)
            and attachment.status == 'attached'
            and server.host
            and attachment.host != server.host
            # Elsewhere, hypervisors connect by other names than Nova's.
            and attachment.host in (case.hosts or ())
        ):
            yield Problem(
                f'the attachment of server {server.id} is connected to '
                f'{attachment.host} in Cinder; Nova runs the server on '
                f'{server.host}',
                server_id=server.id,
            )


def nova_duplicate(case: model.Case) -> Iterator[Problem]:
    """Nova has a volume twice on a server."""
    for server in _holders(case):
        if server.mappings > 1:
            yield Problem(
                f'Nova has the volume {server.mappings} times on server '
                f'{server.id}',
                server_id=server.id,
            )


def nova_leftover(case: model.Case) -> Iterator[Problem]:
    """Nova has a volume on a server that is deleted.

    It then refuses to attach the volume, unless it is multiattach.
    """
    if case.volume is None or case.volume.multiattach:
        return
    for server in case.servers.values():
        if server.presence is model.Presence.GONE and server.leftovers:
            yield Problem(
                f'Nova still has the volume on server {server.id}, which is '
                'deleted, and so attaches it to no other server of its cell',
                server_id=server.id,
            )


def in_use_without_attachment(case: model.Case) -> Iterator[Problem]:
    """A volume is in-use without an attachment."""
    if (
        case.status == 'in-use'
        and not case.attachments
        and not case.foreign
        and not any(
            server.presence in (model.Presence.HAS, model.Presence.UNKNOWN)
            or server.busy
            for server in case.servers.values()
        )
    ):
        yield Problem('the volume is in-use in Cinder, without an attachment')


def stuck_attaching(case: model.Case) -> Iterator[Problem]:
    """A volume waits for an attachment that nothing makes, or that failed."""
    yield from _waiting(case, 'attaching')
    for server in _holders(case):
        for attachment in case.of(server.id):
            if server.attachment_id in (
                None,
                attachment.id,
            ) and _is_unfinished(case, attachment, server):
                yield Problem(
                    f'the volume is {case.status} in Cinder, and its '
                    f'attachment {attachment.status}; Nova has it on server '
                    f'{server.id}, which is idle',
                    server_id=server.id,
                )
                break


def _is_unfinished(
    case: model.Case, attachment: model.Attachment, server: model.Server
) -> bool:
    """Whether nothing will complete the attachment that Nova has."""
    if attachment.status == 'reserved' and (
        server.status in (None, *model.SHELVED)
    ):
        return False
    return attachment.status != 'attached' and (
        case.is_old or attachment.status == case.status == 'attaching'
    )


def stuck_reserved(case: model.Case) -> Iterator[Problem]:
    """A volume is reserved without a reason."""
    yield from _waiting(case, 'reserved')


def _waiting(case: model.Case, status: str) -> Iterator[Problem]:
    done = {a.server_id for a in case.attachments if a.status == 'attached'}
    if (
        case.status == status
        and _settled(case)
        and not any(
            a.status in ('attaching', 'reserved') for a in case.attachments
        )
        and all(server.id in done for server in _holders(case))
    ):
        yield Problem(
            f'the volume is {status} in Cinder, and no attachment is being '
            'made'
        )


def stuck_detaching(case: model.Case) -> Iterator[Problem]:
    """A volume waits for a detach that nothing does."""
    if case.status != 'detaching' or not _settled(case):
        return
    holders = _holders(case)
    attached = [s for s in holders if case.of(s.id)]
    text = 'the volume is detaching in Cinder; Nova has it on '
    if attached:
        server_id = attached[0].id
        yield Problem(
            f'{text}server {server_id}, which is idle', server_id=server_id
        )
    elif not holders:
        yield Problem(f'{text}no server')


def status_mismatch(case: model.Case) -> Iterator[Problem]:
    """Status, attach_status and attachments of a volume disagree."""
    volume = case.volume
    if volume is None or not _settled(case):
        return
    attached = [a for a in case.attachments if a.status == 'attached']
    wrong = volume.status == 'available' or (
        volume.has_own_status and not volume.busy
    )
    if not attached and (
        wrong or volume.status == 'attaching' and case.is_old
    ):
        for server in _holders(case):
            if server.status in model.SHELVED and any(
                a.status == 'reserved' for a in case.of(server.id)
            ):
                yield Problem(
                    f'the volume is {volume.status} in Cinder, and reserved '
                    f'for server {server.id}, which is shelved'
                )
                return
    if attached and wrong:
        yield Problem(
            f'the volume is {volume.status} in Cinder, and attached to '
            + ', '.join(a.server_id or a.host or 'no server' for a in attached)
        )
    elif (volume.status, volume.attach_status) in (
        ('available', 'attached'),
        ('in-use', 'detached'),
    ) and bool(case.attachments) == (volume.status == 'in-use'):
        yield Problem(
            f'status {volume.status} and attach_status {volume.attach_status} '
            'disagree in Cinder'
        )


def missing_in_cinder(case: model.Case) -> Iterator[Problem]:
    """Nova has a volume attached, and Cinder has no attachment for it."""
    if (
        case.volume is None
        or not case.is_old
        and case.status
        in (
            'attaching',
            'detaching',
            'reserved',
        )
    ):
        # Cinder is about to have one, or has just deleted it.
        return
    known = {attachment.id for attachment in case.attachments}
    for server in _holders(case):
        if not case.of(server.id) and server.attachment_id not in known:
            yield Problem(
                f'Nova has the volume on server {server.id}; Cinder has no '
                f'such attachment, and the volume is {case.status}',
                server_id=server.id,
            )


def volume_gone(case: model.Case) -> Iterator[Problem]:
    """Nova has a volume that Cinder does not have."""
    if case.volume is None:
        for server in _holders(case):
            yield Problem(
                f'Nova has the volume on server {server.id}; Cinder has no '
                'such volume',
                server_id=server.id,
            )


def volume_deleted(case: model.Case) -> Iterator[Problem]:
    """Cinder has an attachment of a volume that it does not have."""
    if case.volume is None:
        for attachment in case.attachments:
            yield Problem(
                f'Cinder has the attachment {attachment.status}, and no such '
                'volume',
                attachment,
            )


def no_project(case: model.Case) -> Iterator[Problem]:
    """The project of a volume is deleted."""
    if case.volume is not None and case.project.exists is False:
        yield Problem(
            f'Keystone has no project {case.volume.project_id}, which the '
            f'volume belongs to; it is {case.volume.status} in Cinder'
        )


def attachment_id_mismatch(case: model.Case) -> Iterator[Problem]:
    """Nova has a volume by another attachment than the one Cinder has."""
    for server in _holders(case):
        ids = [a.id for a in case.of(server.id)]
        if ids and server.attachment_id not in (None, *ids):
            yield Problem(
                f'Nova has the volume on server {server.id} by attachment '
                f'{server.attachment_id}; Cinder by {", ".join(sorted(ids))}',
                server_id=server.id,
            )


def duplicate(case: model.Case) -> Iterator[Problem]:
    """A server has a volume by one attachment, and Cinder has more."""
    for server in _holders(case):
        same = case.of(server.id)
        if server.attachment_id not in [a.id for a in same]:
            # Nova's attachment is not known: any of them may be the one.
            continue
        for attachment in same:
            if attachment.id != server.attachment_id:
                yield Problem(
                    f'Cinder has attachment {attachment.id} '
                    f'({attachment.status}) of server {server.id} in addition '
                    f'to {server.attachment_id}, which Nova has',
                    attachment,
                )


def _idle_pairs(
    case: model.Case,
) -> Iterator[tuple[model.Volume, model.Attachment, model.Server]]:
    """The attachments of a volume whose server is known and idle."""
    volume = case.volume
    if volume is None:
        return
    others = {
        server.attachment_id: server.id
        for server in case.servers.values()
        if server.presence is model.Presence.HAS
    }
    for attachment in case.attachments:
        if others.get(attachment.id, attachment.server_id) != (
            attachment.server_id
        ):
            # It is Nova's, of another server: see wrong_server.
            continue
        server = case.servers.get(attachment.server_id or '')
        if (
            server is not None
            and server.presence is not model.Presence.UNKNOWN
            and not server.busy
        ):
            yield volume, attachment, server


def _lacking(
    case: model.Case,
) -> Iterator[tuple[model.Volume, model.Attachment, model.Server]]:
    """Those whose server does not have the volume."""
    return (
        item
        for item in _idle_pairs(case)
        if item[2].presence is model.Presence.LACKS
    )


def _holders(case: model.Case) -> list[model.Server]:
    """The idle servers that have the volume."""
    return [
        server
        for server in case.servers.values()
        if server.presence is model.Presence.HAS and not server.busy
    ]


def _settled(case: model.Case) -> bool:
    """Whether the status of a volume can be judged.

    Not if it depends on what is foreign, unknown or busy, nor if an attachment
    is wrong: then the status follows from that.
    """
    return not (
        case.foreign
        or case.unknown_servers
        or any(server.busy for server in case.servers.values())
        or any(
            server.presence is not model.Presence.HAS
            for _volume, _attachment, server in _idle_pairs(case)
        )
    )


_FORGED = (
    "A user's own os-attach, or a user's own attachment that was created and "
    'completed without Nova'
)

#: The classes by name, the most specific first.
CLASSES: dict[str, Class] = {
    kind.name: kind
    for kind in (
        Class(
            'multi-owner',
            'Several servers have a volume that is not multiattach: their '
            'guests write to one disk, and damage it.',
            'An operator who reset the state of a volume that was attached, '
            'after which it was attached to another server.',
            'Manually: stop one of the servers at once, and find out which '
            'of them has the right data.',
            multi_owner,
        ),
        Class(
            'stuck-operation',
            'Cinder works on the volume, or Nova on its server, and nothing '
            'has changed for --stuck-after.',
            'A service that was restarted while it worked.',
            'Manually: check that nothing works on it, and reset the status. '
            'What is wrong beside that is found, too.',
            stuck_operation,
        ),
        Class(
            'server-gone',
            'Cinder has an attachment to a server that does not exist.',
            f'{_FORGED}; or the server was deleted while Cinder, or its '
            'volume service, did not respond.',
            'Deleting the attachment: Cinder checks it with Nova once more, '
            'and removes what its driver has exported.',
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
            'A server create or attach that failed before Nova could delete '
            'the attachment that it had reserved.',
            'Deleting the attachment.',
            stuck_attachment,
        ),
        Class(
            'in-use-without-attachment',
            'The volume is in-use, and Cinder has no attachment of it.',
            'Manual SQL; a crash of Cinder between two writes.',
            'os-detach without an attachment, which only sets the status.',
            in_use_without_attachment,
        ),
        Class(
            'stuck-attaching',
            'The volume is attaching, and Nova does not attach it. Or the '
            'attachment that Nova uses does not have the status attached.',
            "A user's own os-reserve; a compute node that died while it "
            'attached, or never received the message to do so.',
            'os-unreserve, unless Nova has it on a server that it is not '
            'attached to in Cinder; else manually: a new attachment for the '
            'server, which keeps its disk.',
            stuck_attaching,
        ),
        Class(
            'stuck-reserved',
            'The volume is reserved, and Cinder has no attachment of it.',
            'Manual SQL; a crash of Cinder between two writes.',
            'os-reset_status.',
            stuck_reserved,
        ),
        Class(
            'stuck-detaching',
            'The volume is detaching, and Nova does not detach it.',
            "A user's own os-begin_detaching, or a detach that the guest or "
            'the hypervisor refused.',
            'os-roll_detaching where Nova has the volume; os-detach where no '
            'server has it.',
            stuck_detaching,
        ),
        Class(
            'status-mismatch',
            'Status, attach_status and attachments of the volume disagree, as '
            'in an error status while a server has it: it cannot be detached.',
            'An extend, backup or migration that failed; an operator who '
            'reset the state of a volume that was attached; manual SQL.',
            'os-reset_status to what the attachments imply, which deletes '
            'none of them.',
            status_mismatch,
        ),
        Class(
            'wrong-server',
            'In Cinder, the attachment that Nova uses names another server.',
            'Manual SQL; a restored database.',
            'Manually: a new attachment for the server, which keeps its disk.',
            wrong_server,
        ),
        Class(
            'wrong-host',
            'The attachment is connected to another compute host than the '
            'one of the server.',
            'A live migration that was rolled back by half.',
            'Manually: a new attachment for the server, which keeps its disk. '
            'Not a hard reboot, or another migration.',
            wrong_host,
        ),
        Class(
            'nova-duplicate',
            'Nova has the volume twice on a server.',
            'Two attaches at the same moment; manual SQL.',
            "Manually: SQL in Nova's database, which is printed.",
            nova_duplicate,
        ),
        Class(
            'nova-leftover',
            'Nova has the volume on a server that is deleted, and so refuses '
            'to attach it to another server of that cell. Only an audit by '
            'the databases (--nova-database or --nova-conf) finds it.',
            'A server that was deleted while Nova attached the volume to it; '
            'a server that was deleted by manual SQL; a restored database.',
            "Manually: SQL in the database of Nova's cell, which is printed.",
            nova_leftover,
        ),
        Class(
            'duplicate',
            'Cinder has several attachments of the volume for one server, and '
            'Nova has it by one of them.',
            'A migration that failed half-way; an attachment forged in '
            'addition to a real one.',
            'Deleting the ones that Nova does not have; manually, while the '
            'server is stopped, one that is connected to its host.',
            duplicate,
        ),
        Class(
            'missing-in-cinder',
            'Nova has the volume on a server, and Cinder has no attachment '
            'for it: another server can attach it, too, and damage it.',
            'An operator who reset the attach_status of a volume in use; a '
            'detach that failed in Nova.',
            'Manually: a new attachment for the server (nova-manage '
            'volume_attachment refresh), which keeps its disk. Not a hard '
            'reboot, in which Nova drops the disk.',
            missing_in_cinder,
        ),
        Class(
            'volume-gone',
            'Nova has a volume on a server, and Cinder has no such volume.',
            'An operator who reset and deleted a volume in use.',
            'Manually: a hard reboot of the server, in which Nova drops it, '
            'if it is not the root disk, and Cinder has all its other disks.',
            volume_gone,
        ),
        Class(
            'attachment-id-mismatch',
            'Nova has the volume by another attachment than Cinder has for '
            'the server: after the next detach it stays in-use.',
            'A restored database; an attachment forged after the real one was '
            'deleted.',
            'Manually, while the server is stopped: deleting the attachment, '
            'and a new one for the server, which keeps its disk.',
            attachment_id_mismatch,
        ),
        Class(
            'volume-deleted',
            'An attachment of a volume that is deleted.',
            'An attachment made while the volume was being deleted; manual '
            'SQL.',
            'SQL only (attachguard repair --sql): Cinder does not delete an '
            'attachment whose volume it cannot find.',
            volume_deleted,
        ),
        Class(
            'no-project',
            'Keystone has the project of the volume no more: except '
            'administrators, nobody sees, uses or deletes it.',
            'A project that was deleted before its volumes: Keystone does '
            'not inform Cinder.',
            'Manually: a transfer to another project, or deletion.',
            no_project,
        ),
    )
}
