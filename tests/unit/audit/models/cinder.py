# SPDX-License-Identifier: Apache-2.0

"""A Cinder 29 in memory, with a backend like LVM with LIO.

Only what concerns attachments: who may create a second attachment of a
volume, and what deleting one does to the connection of a host and to the
export of the whole volume.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

# cinder.volume.api.API.AVAILABLE_MIGRATION_STATUS
NOT_MIGRATING = (None, 'deleting', 'error', 'success')


class Refused(Exception):
    """A service responds with an error, and changes nothing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f'{status} {message}')
        self.status = status
        self.message = message


@dataclasses.dataclass
class Attachment:
    """A row of Cinder's ``volume_attachment``.

    :param connector: the host of the connector; None where there is neither
        connector nor ``connection_info``
    """

    id: str
    volume_id: str
    server: str | None
    status: str = 'reserved'
    host: str | None = None
    device: str | None = None
    attached_at: str | None = None
    connector: str | None = None


@dataclasses.dataclass
class Volume:
    """A row of Cinder's ``volumes``."""

    id: str
    multiattach: bool = False
    status: str = 'available'
    attach_status: str = 'detached'
    migration_status: str | None = None
    updated_at: str = ''
    #: how many times its status was set
    changes: int = 0


class Cinder:
    """The API, the database and the backend.

    :param new_id: returns an id
    :param now: returns the time
    :param nova: returns the attachment by which a server has a volume, as
        Nova's API 2.89
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        now: Callable[[], str],
        nova: Callable[[str, str], str],
    ) -> None:
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Attachment] = {}
        #: volumes, and hosts that are connected to them
        self.connections: set[tuple[str, str]] = set()
        self.exports: set[str] = set()
        #: whether the volume service is down
        self.down = False
        self._new_id = new_id
        self._now = now
        self._nova = nova

    def of(self, volume_id: str) -> list[Attachment]:
        """The attachments of a volume."""
        return [
            item
            for item in self.attachments.values()
            if item.volume_id == volume_id
        ]

    def volume(self, volume_id: str) -> Volume:
        """A volume; 404 where there is none."""
        if volume_id not in self.volumes:
            raise Refused(404, f'Volume {volume_id} could not be found.')
        return self.volumes[volume_id]

    def attachment(self, attachment_id: str) -> Attachment:
        """An attachment; 404 where there is none."""
        if attachment_id not in self.attachments:
            raise Refused(404, 'Volume attachment could not be found')
        return self.attachments[attachment_id]

    def _set(self, volume: Volume, status: str) -> None:
        volume.status = status
        volume.updated_at = self._now()
        volume.changes += 1

    # cinder.volume.api

    def reserve(self, volume_id: str) -> None:
        """os-reserve."""
        volume = self.volume(volume_id)
        expected = ('available', 'in-use')[: 1 + volume.multiattach]
        if volume.status not in expected:
            raise Refused(400, 'Invalid volume: status')
        self._set(volume, 'attaching')

    def unreserve(self, volume_id: str) -> None:
        """os-unreserve."""
        volume = self.volume(volume_id)
        if volume.status == 'attaching':
            self._set(volume, 'in-use' if self.of(volume_id) else 'available')

    def begin_detaching(self, volume_id: str) -> None:
        """os-begin_detaching."""
        volume = self.volume(volume_id)
        if volume.migration_status not in NOT_MIGRATING:
            return
        if (volume.status, volume.attach_status) != ('in-use', 'attached'):
            raise Refused(400, 'Invalid volume: status')
        self._set(volume, 'detaching')

    def roll_detaching(self, volume_id: str) -> None:
        """os-roll_detaching."""
        volume = self.volume(volume_id)
        if volume.status == 'detaching':
            self._set(volume, 'in-use')

    def attach(
        self,
        volume_id: str,
        server: str | None,
        host: str | None,
        device: str = '/dev/vdb',
    ) -> str | None:
        """os-attach.

        :returns: the attachment, where a new one was made
        """
        volume = self.volume(volume_id)
        self._call_volume_service()
        if any(
            item.server == server if server else item.host == host
            for item in self.of(volume_id)
        ):
            self._set(volume, 'in-use')
            return None
        if (
            volume.status == 'in-use'
            and not volume.multiattach
            and not volume.migration_status
        ):
            raise Refused(400, 'volume is already attached')
        made = Attachment(self._new_id(), volume_id, server)
        self.attachments[made.id] = made
        self._attached(made, host, device, 'attached')
        return made.id

    def create(
        self, volume_id: str, server: str | None, connector: str | None = None
    ) -> str:
        """attachment-create."""
        volume = self.volume(volume_id)
        if 'error' in volume.status:
            raise Refused(400, 'Invalid volume: error')
        expected = ('available', 'downloading', 'in-use')
        if volume.status in expected[: 2 + volume.multiattach]:
            self._set(volume, 'reserved')
        elif (
            not server
            or volume.status not in ('in-use', 'reserved')
            or all(item.server != server for item in self.of(volume_id))
        ):
            raise Refused(400, 'Invalid volume: status')
        made = Attachment(self._new_id(), volume_id, server)
        self.attachments[made.id] = made
        if connector:
            self._connect(made, connector)
        return made.id

    def update(self, attachment_id: str, connector: str) -> None:
        """attachment-update."""
        item = self.attachment(attachment_id)
        volume = self.volume(item.volume_id)
        if 'error' in volume.status:
            raise Refused(409, 'error')
        others = self.of(item.volume_id)
        if (
            len(others) > 1
            and not volume.multiattach
            and any(other.connector for other in others)
        ):
            raise Refused(409, 'duplicate connectors detected')
        self._connect(item, connector)

    def complete(self, attachment_id: str) -> None:
        """os-complete of an attachment."""
        item = self.attachment(attachment_id)
        item.status = 'attached'
        volume = self.volume(item.volume_id)
        volume.attach_status = 'attached'
        self._set(volume, 'in-use')

    def delete(self, attachment_id: str, service: bool = False) -> None:
        """attachment-delete."""
        item = self.attachment(attachment_id)
        volume = self.volume(item.volume_id)
        if not service:
            self._deletion_allowed(item)
        if item.status != 'reserved':
            self._call_volume_service()
            if item.connector:
                self._terminate(volume, item)
        self._finish_detach(volume, attachment_id)

    def detach(
        self,
        volume_id: str,
        attachment_id: str | None = None,
        service: bool = False,
    ) -> None:
        """os-detach."""
        volume = self.volume(volume_id)
        items = self.of(volume_id)
        if not service:
            if attachment_id:
                if attachment_id not in self.attachments:
                    raise Refused(409, 'in use by Nova')
                self._deletion_allowed(self.attachments[attachment_id])
            elif len(items) == 1:
                self._deletion_allowed(items[0])
            elif items:
                raise Refused(409, 'in use by Nova')
        self._call_volume_service()
        if attachment_id is None:
            if len(items) > 1:
                raise Refused(400, 'More than one attachment')
            if not items:
                volume.attach_status = 'detached'
                self._set(volume, 'available')
                return
            attachment_id = items[0].id
        self._remove_export(volume_id)
        self._finish_detach(volume, attachment_id)

    def initialize_connection(self, volume_id: str, host: str) -> None:
        """os-initialize_connection."""
        self.volume(volume_id)
        self._call_volume_service()
        self.exports.add(volume_id)
        self.connections.add((volume_id, host))

    def reset_status(
        self,
        volume_id: str,
        status: str | None = None,
        attach_status: str | None = None,
    ) -> None:
        """os-reset_status."""
        volume = self.volume(volume_id)
        if status == 'deleting':
            raise Refused(400, 'Cannot reset-state to deleting')
        if status == 'in-use' and not self.of(volume_id):
            raise Refused(400, 'Cannot reset-state to in-use')
        if attach_status:
            volume.attach_status = attach_status
        self._set(volume, status or volume.status)
        if attach_status == 'detached':
            for item in self.of(volume_id):
                self._finish_detach(volume, item.id)

    def _deletion_allowed(self, item: Attachment) -> None:
        if not item.server or not item.connector:
            return
        try:
            by = self._nova(item.server, item.volume_id)
        except Refused as exc:
            if exc.status == 404:
                return
            raise Refused(500, str(exc)) from exc
        if by == item.id:
            raise Refused(409, 'in use by Nova')

    # cinder.volume.manager, cinder.volume.drivers.lvm and cinder.db

    def _call_volume_service(self) -> None:
        if self.down:
            raise Refused(500, 'The volume service does not respond')

    def _connect(self, item: Attachment, host: str) -> None:
        self._call_volume_service()
        self.exports.add(item.volume_id)
        self.connections.add((item.volume_id, host))
        item.connector = host
        self._attached(item, host, '/dev/vdb', 'attaching')

    def _attached(
        self, item: Attachment, host: str | None, device: str, status: str
    ) -> None:
        item.status, item.host, item.device = status, host, device
        item.attached_at = self._now()
        volume = self.volume(item.volume_id)
        volume.attach_status = status
        self._set(volume, 'in-use' if status == 'attached' else 'attaching')

    def _terminate(self, volume: Volume, item: Attachment) -> None:
        """Disconnect a host: LVM counts only for multiattach volumes."""
        items = self.of(volume.id)
        same = [other for other in items if other.connector == item.connector]
        if volume.multiattach and len(same) > 1:
            return
        self.connections.discard((volume.id, item.connector or ''))
        if len(items) < 2:
            self._remove_export(volume.id)

    def _remove_export(self, volume_id: str) -> None:
        self.exports.discard(volume_id)
        self.connections = {
            pair for pair in self.connections if pair[0] != volume_id
        }

    def _finish_detach(self, volume: Volume, attachment_id: str) -> None:
        self.attachments.pop(attachment_id, None)
        states = sorted(
            item.status
            for item in self.of(volume.id)
            if not item.status.startswith('error')
        )
        volume.attach_status = states[0] if states else 'detached'
        if states or volume.migration_status in (None, 'success', 'error'):
            names = {'attached': 'in-use', 'detached': 'available'}
            self._set(
                volume,
                names.get(volume.attach_status, volume.attach_status),
            )
