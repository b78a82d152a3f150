# SPDX-License-Identifier: Apache-2.0

"""A model of Cinder: what each call checks, and what it changes.

Sources, of Cinder 29: ``cinder.volume.api``, ``cinder.volume.manager``,
``cinder.db.api`` (``volume_attached``, ``volume_detached``) and
``cinder.transfer.api``. The driver is LVM with LIO targets: a host has access
to a volume, or not.

Cinder's own tears, which happen without any user, are left out: a retype back
to the former type, the upload of a volume that is in use, and an
os-reset_status by an administrator.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import uuid

NOT_MIGRATING = (None, 'deleting', 'error', 'success')


class CinderError(Exception):
    """Cinder responds with an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f'{status} {detail}')
        self.status = status


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who calls: a member of a project, an administrator, or a service."""

    project: str
    admin: bool = False
    service: bool = False


#: Nova, with a service token
NOVA = Caller('service', admin=True, service=True)


@dataclasses.dataclass(eq=False)
class Disk:
    """What a guest uses. Its record in Cinder changes in a migration."""

    access: set[str] = dataclasses.field(default_factory=set)
    exists: bool = True


@dataclasses.dataclass(eq=False)
class Volume:
    """A volume's record."""

    id: str
    project: str
    multiattach: bool = False
    status: str = 'available'
    attach_status: str = 'detached'
    migration_status: str | None = None
    previous_status: str | None = None
    changed: float = -1000.0
    disk: Disk = dataclasses.field(default_factory=Disk)
    #: a user's own calls, which are not guarded, make Nova's fail
    excused: bool = False
    retyped: bool = False
    #: Cinder made it available, and a server has it: its own fault
    torn: bool = False


@dataclasses.dataclass(eq=False)
class Attachment:
    """An attachment's record."""

    id: str
    volume_id: str
    server_id: str | None
    status: str = 'reserved'
    host: str | None = None
    connected: bool = False
    by_nova: bool = False
    #: from before the guard was there
    forged: bool = False


class Cinder:
    """Cinder.

    :param nova_attachment: what Nova 2.89 responds to a caller: the id of the
        attachment by which a server has a volume; None for a 404
    """

    def __init__(
        self,
        nova_attachment: Callable[[Caller, str, str], str | None],
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.now = 0.0
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Attachment] = {}
        self.transfers: set[str] = set()
        self._nova_attachment = nova_attachment
        self._new_id = new_id

    # What is there.

    def of(self, volume_id: str) -> list[Attachment]:
        """The attachments of a volume."""
        found = self.attachments.values()
        return [item for item in found if item.volume_id == volume_id]

    def _volume(self, caller: Caller, volume_id: str) -> Volume:
        volume = self.volumes.get(volume_id)
        if volume is None or not sees(caller, volume):
            raise CinderError(404, 'volume')
        return volume

    def _attachment(self, caller: Caller, attachment_id: str) -> Attachment:
        attachment = self.attachments.get(attachment_id)
        if attachment is None:
            raise CinderError(404, 'attachment')
        self._volume(caller, attachment.volume_id)
        return attachment

    def _save(self, volume: Volume, **values: str | None) -> None:
        if any(getattr(volume, name) != values[name] for name in values):
            volume.changed = self.now
        for name, value in values.items():
            setattr(volume, name, value)

    def _update(
        self, volume: Volume, expected: tuple[str, ...], status: str
    ) -> bool:
        """``conditional_update`` of the status."""
        if volume.status not in expected:
            return False
        volume.previous_status = volume.status
        volume.status, volume.changed = status, self.now
        return True

    def _detached(self, volume: Volume, attachment_id: str) -> None:
        """``volume_detached``."""
        self.attachments.pop(attachment_id, None)
        found = sorted(
            item.status
            for item in self.of(volume.id)
            if not item.status.startswith('error_')
        )
        attach_status = found[0] if found else 'detached'
        names = {'attached': 'in-use', 'detached': 'available'}
        # The time of the change is kept.
        volume.attach_status = attach_status
        if (
            attach_status != 'detached'
            or (not volume.migration_status and volume.status != 'uploading')
            or volume.migration_status in ('success', 'error')
        ):
            volume.status = names.get(attach_status, attach_status)

    def _attached(
        self, volume: Volume, attachment: Attachment, mark: bool
    ) -> None:
        """``volume_attached``."""
        attachment.status = 'attached' if mark else 'attaching'
        status = 'in-use' if mark else 'attaching'
        self._save(volume, status=status, attach_status=attachment.status)

    def _check_deletion(
        self,
        caller: Caller,
        volume: Volume,
        attachment_id: str | None,
    ) -> None:
        """``attachment_deletion_allowed``."""
        if caller.service:
            return
        found = self.of(volume.id)
        if attachment_id is None:
            if not found:
                return
            attachment = found[0] if len(found) == 1 else None
        else:
            attachment = self.attachments.get(attachment_id)
        if attachment is None:
            raise CinderError(409, 'in use by Nova')
        if attachment.volume_id != volume.id:
            raise CinderError(400, 'mismatched volume and attachment')
        if not attachment.server_id or not attachment.connected:
            return
        named = self._nova_attachment(caller, attachment.server_id, volume.id)
        if named == attachment.id:
            raise CinderError(409, 'in use by Nova')

    # Actions of a volume.

    def attach(
        self, caller: Caller, volume_id: str, server_id: str | None
    ) -> None:
        """os-attach."""
        volume = self._volume(caller, volume_id)
        for item in self.of(volume_id):
            if item.server_id == server_id:
                self._save(volume, status='in-use')
                return
        if (
            volume.status == 'in-use'
            and not volume.multiattach
            and not volume.migration_status
        ):
            raise CinderError(400, 'already attached')
        attachment = self._add(caller, volume, server_id)
        self._attached(volume, attachment, True)

    def detach(
        self, caller: Caller, volume_id: str, attachment_id: str | None = None
    ) -> None:
        """os-detach."""
        volume = self._volume(caller, volume_id)
        self._check_deletion(caller, volume, attachment_id)
        if attachment_id is None:
            found = self.of(volume_id)
            if len(found) > 1:
                raise CinderError(400, 'more than one attachment')
            if not found:
                self._save(
                    volume, status='available', attach_status='detached'
                )
                return
            attachment_id = found[0].id
        if attachment_id in self.attachments:
            volume.disk.access.clear()
        self._detached(volume, attachment_id)

    def reserve(self, caller: Caller, volume_id: str) -> None:
        """os-reserve."""
        volume = self._volume(caller, volume_id)
        expected = ('available', 'in-use') if volume.multiattach else ()
        if not self._update(volume, expected or ('available',), 'attaching'):
            raise CinderError(400, f'status {volume.status}')

    def unreserve(self, caller: Caller, volume_id: str) -> None:
        """os-unreserve."""
        volume = self._volume(caller, volume_id)
        status = 'in-use' if self.of(volume_id) else 'available'
        self._update(volume, ('attaching',), status)

    def begin_detaching(self, caller: Caller, volume_id: str) -> None:
        """os-begin_detaching."""
        volume = self._volume(caller, volume_id)
        if (
            volume.attach_status == 'attached'
            and volume.migration_status in NOT_MIGRATING
            and self._update(volume, ('in-use',), 'detaching')
        ):
            return
        if volume.migration_status in NOT_MIGRATING:
            raise CinderError(400, f'status {volume.status}')

    def roll_detaching(self, caller: Caller, volume_id: str) -> None:
        """os-roll_detaching."""
        volume = self._volume(caller, volume_id)
        self._update(volume, ('detaching',), 'in-use')

    def initialize_connection(
        self, caller: Caller, volume_id: str, host: str
    ) -> None:
        """os-initialize_connection; the driver rejects the host "bad"."""
        volume = self._volume(caller, volume_id)
        if host == 'bad':
            volume.disk.access.clear()
            raise CinderError(500, 'rejected connector')
        volume.disk.access.add(host)

    def terminate_connection(
        self, caller: Caller, volume_id: str, host: str
    ) -> None:
        """os-terminate_connection."""
        volume = self._volume(caller, volume_id)
        self._check_deletion(caller, volume, None)
        self._terminate(volume, host)
        self.unreserve(caller, volume_id)

    def _terminate(self, volume: Volume, host: str) -> bool:
        """The driver's ``terminate_connection``: is the export shared?"""
        found = [item for item in self.of(volume.id) if item.connected]
        if volume.multiattach and sum(i.host == host for i in found) > 1:
            return True
        volume.disk.access.discard(host)
        return len(self.of(volume.id)) > 1

    def reimage(self, caller: Caller, volume_id: str) -> Iterator[None]:
        """os-reimage: the call, and after a step the end of the work."""
        volume = self._volume(caller, volume_id)
        if len(self.of(volume_id)) > 1:
            raise CinderError(409, 'more than one attachment')
        expected: tuple[str, ...] = ('available', 'error')
        if caller.service:
            expected += ('reserved',)
        if not self._update(volume, expected, 'downloading'):
            raise CinderError(400, f'status {volume.status}')
        return self._download(volume, volume.previous_status or '')

    def _download(self, volume: Volume, status: str) -> Iterator[None]:
        # It takes longer than a flow of Nova can.
        for _ in range(4):
            yield
        if volume.id in self.volumes:
            self._save(volume, status=status)

    # Attachments.

    def _add(
        self, caller: Caller, volume: Volume, server_id: str | None
    ) -> Attachment:
        attachment = Attachment(
            self._new_id(), volume.id, server_id, by_nova=caller.service
        )
        self.attachments[attachment.id] = attachment
        return attachment

    def attachment_create(
        self,
        caller: Caller,
        volume_id: str,
        server_id: str | None,
        host: str | None = None,
    ) -> str:
        """Create an attachment, and connect it if a host is given."""
        volume = self._volume(caller, volume_id)
        if 'error' in volume.status:
            raise CinderError(400, f'status {volume.status}')
        expected: tuple[str, ...] = ('available', 'downloading')
        if volume.multiattach:
            expected += ('in-use',)
        previous = volume.previous_status
        reserved = self._update(volume, expected, 'reserved')
        # Unlike the other calls, it does not save the previous status.
        volume.previous_status = previous
        if not reserved and not (
            server_id
            and volume.status in ('in-use', 'reserved')
            and any(i.server_id == server_id for i in self.of(volume_id))
        ):
            raise CinderError(400, f'status {volume.status}')
        attachment = self._add(caller, volume, server_id)
        if host:
            self._connect(volume, attachment, host)
        return attachment.id

    def _connect(
        self, volume: Volume, attachment: Attachment, host: str
    ) -> None:
        volume.disk.access.add(host)
        attachment.host, attachment.connected = host, True
        self._attached(volume, attachment, False)

    def attachment_update(
        self, caller: Caller, attachment_id: str, host: str
    ) -> None:
        """Connect an attachment to a host."""
        attachment = self._attachment(caller, attachment_id)
        volume = self.volumes[attachment.volume_id]
        if 'error' in volume.status:
            raise CinderError(409, f'status {volume.status}')
        found = self.of(volume.id)
        if (
            len(found) > 1
            and not volume.multiattach
            and any(item.connected for item in found)
        ):
            raise CinderError(409, 'duplicate connectors')
        self._connect(volume, attachment, host)

    def attachment_complete(self, caller: Caller, attachment_id: str) -> None:
        """Mark an attachment as attached."""
        attachment = self._attachment(caller, attachment_id)
        attachment.status = 'attached'
        volume = self.volumes[attachment.volume_id]
        self._save(volume, status='in-use', attach_status='attached')

    def attachment_delete(self, caller: Caller, attachment_id: str) -> None:
        """Delete an attachment."""
        attachment = self._attachment(caller, attachment_id)
        volume = self.volumes[attachment.volume_id]
        self._check_deletion(caller, volume, attachment_id)
        if (
            attachment.status != 'reserved'
            and attachment.host
            and not self._terminate(volume, attachment.host)
        ):
            volume.disk.access.clear()
        self._detached(volume, attachment_id)

    # Transfers.

    def transfer_create(self, caller: Caller, volume_id: str) -> None:
        """Offer a volume to another project."""
        volume = self._volume(caller, volume_id)
        if not self._update(volume, ('available',), 'awaiting-transfer'):
            raise CinderError(400, f'status {volume.status}')
        self.transfers.add(volume_id)

    def transfer_end(self, volume_id: str, project: str | None) -> None:
        """Accept a transfer for a project, or cancel it."""
        volume = self.volumes[volume_id]
        if self._update(volume, ('awaiting-transfer',), 'available'):
            volume.project = project or volume.project
        elif project:
            raise CinderError(400, f'status {volume.status}')
        self.transfers.discard(volume_id)

    # What is not guarded.

    def create(self, project: str, from_image: bool = False) -> Volume:
        """Create a volume; from an image, it is not ready yet."""
        volume = Volume(self._new_id(), project, changed=self.now)
        self.volumes[volume.id] = volume
        if from_image:
            volume.status = 'downloading'
        return volume

    def downloaded(self, volume: Volume) -> Iterator[None]:
        """The end of the creation from an image."""
        for _ in self._download(volume, 'available'):
            yield
            volume.torn = volume.status != 'downloading'

    def delete(self, caller: Caller, volume_id: str) -> None:
        """Delete a volume."""
        volume = self._volume(caller, volume_id)
        if (
            volume.attach_status == 'attached'
            or volume.migration_status not in NOT_MIGRATING
            or volume.status not in ('available', 'error')
        ):
            raise CinderError(400, f'status {volume.status}')
        self.destroy(volume)

    def destroy(self, volume: Volume) -> None:
        """Delete a volume's disk and records."""
        volume.disk.exists = False
        volume.disk.access.clear()
        del self.volumes[volume.id]
        self.transfers.discard(volume.id)
        for item in self.of(volume.id):
            del self.attachments[item.id]

    def extend(self, caller: Caller, volume_id: str) -> Iterator[None]:
        """Extend a volume: the call, and after a step the end of it."""
        volume = self._volume(caller, volume_id)
        if not self._update(volume, ('available', 'in-use'), 'extending'):
            raise CinderError(400, f'status {volume.status}')
        volume.excused = True
        return self._extended(volume)

    def _extended(self, volume: Volume) -> Iterator[None]:
        yield
        if volume.id in self.volumes:
            status = 'in-use' if self.of(volume.id) else 'available'
            self._save(volume, status=status)

    def start_migration(
        self, caller: Caller, volume_id: str, retype: bool
    ) -> Volume:
        """Retype or migrate a volume that is in use.

        :returns: the hidden target, which Nova attaches then
        """
        volume = self._volume(caller, volume_id)
        if (
            volume.status != 'in-use'
            or volume.migration_status not in NOT_MIGRATING
            or volume.retyped
        ):
            raise CinderError(400, f'status {volume.status}')
        volume.previous_status = 'in-use'
        volume.excused = volume.retyped = True
        self._save(
            volume,
            status='retyping' if retype else 'in-use',
            migration_status='migrating',
        )
        target = self.create(volume.project)
        target.multiattach = volume.multiattach
        target.migration_status = f'target:{volume_id}'
        target.excused = True
        return target

    def migration_completion(
        self, volume_id: str, target_id: str, error: bool
    ) -> Iterator[None]:
        """os-migrate_volume_completion, as Nova calls it at the end."""
        volume = self.volumes[volume_id]
        target = self.volumes[target_id]
        status = volume.previous_status or ''
        if error:
            self.destroy(target)
            self._save(volume, status=status, migration_status='error')
            return
        self._save(volume, migration_status='completing')
        if volume.status != 'available':
            for item in self.of(volume_id):
                self.detach(NOVA, volume_id, item.id)
        yield
        volume.disk, target.disk = target.disk, volume.disk
        volume.attach_status, target.attach_status = (
            target.attach_status,
            volume.attach_status,
        )
        self._save(volume, status=status, migration_status='success')
        self._save(target, status='deleting', migration_status='deleting')
        yield
        for item in self.of(target_id):
            item.volume_id = volume_id
        self.destroy(target)


def sees(caller: Caller, volume: Volume) -> bool:
    """Whether Cinder shows a volume to a caller."""
    return caller.admin or caller.project == volume.project
