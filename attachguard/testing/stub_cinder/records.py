# SPDX-License-Identifier: Apache-2.0

"""The records of the stub of Cinder, and the changes that Cinder makes."""

from __future__ import annotations

import dataclasses
import datetime
import threading
import typing
import uuid

from attachguard.testing import service
from attachguard.testing.stub_cinder import errors


def _now() -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.strftime('%Y-%m-%dT%H:%M:%S.%f')


@dataclasses.dataclass
class Attachment:
    """An attachment of a volume."""

    volume_id: str
    instance_uuid: str | None = None
    attach_status: str = 'reserved'
    attach_mode: str | None = None
    host: str | None = None
    mountpoint: str | None = None
    attach_time: str | None = None
    connector: dict[str, typing.Any] | None = None
    connection_info: dict[str, typing.Any] = dataclasses.field(
        default_factory=dict
    )
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


@dataclasses.dataclass
class Volume:
    """A volume.

    ``admin_metadata`` is the part of Cinder's admin metadata that the API
    shows to users.
    """

    project_id: str
    user_id: str = ''
    name: str | None = None
    description: str | None = None
    size: int = 1
    status: str = 'available'
    attach_status: str = 'detached'
    migration_status: str | None = None
    multiattach: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    admin_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    created_at: str = dataclasses.field(default_factory=_now)
    updated_at: str = dataclasses.field(default_factory=_now)
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))

    def change(self, **values: typing.Any) -> None:
        """Change fields, and the time of the last change."""
        for name, value in values.items():
            setattr(self, name, value)
        self.updated_at = _now()


def connection(volume_id: str) -> dict[str, typing.Any]:
    """Make the connection information of a volume, as a driver does."""
    return {
        'driver_volume_type': 'iscsi',
        'target_discovered': False,
        'target_portal': '127.0.0.1:3260',
        'target_iqn': f'iqn.2010-10.org.openstack:volume-{volume_id}',
        'target_lun': 1,
        'volume_id': volume_id,
        'access_mode': 'rw',
        'encrypted': False,
        'qos_specs': None,
        'cacheable': False,
    }


class Records:
    """The volumes and attachments, by id.

    :ivar lock: locked by each request that changes the records
    """

    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Attachment] = {}
        #: the volumes that are offered to other projects, by transfer
        self.transfers: dict[str, Volume] = {}
        self.lock = threading.RLock()

    def find_volume(self, caller: service.Caller, volume_id: str) -> Volume:
        """Find a volume that a caller can access.

        :raises Refused: 404, there is none
        """
        volume = self.volumes.get(volume_id)
        if volume is None or not caller.can_access(volume.project_id):
            raise service.Refused(
                404, f'Volume {volume_id} could not be found.'
            )
        return volume

    def find_attachment(
        self, caller: service.Caller, attachment_id: str
    ) -> Attachment:
        """Find an attachment that a caller can access.

        :raises Refused: 404, there is none
        """
        attachment = self.attachments.get(attachment_id)
        volume = attachment and self.volumes.get(attachment.volume_id)
        if attachment is None or not (
            volume and caller.can_access(volume.project_id)
        ):
            raise service.Refused(
                404,
                'Volume attachment could not be found with filter: '
                f'attachment_id = {attachment_id}.',
            )
        return attachment

    def attachments_of(self, volume: Volume) -> list[Attachment]:
        """List the attachments of a volume."""
        return [
            attachment
            for attachment in self.attachments.values()
            if attachment.volume_id == volume.id
        ]

    def add_attachment(
        self, volume: Volume, **values: typing.Any
    ) -> Attachment:
        """Add an attachment, by default an attached one.

        :param volume: the volume, whose status is updated
        :param values: fields of the attachment
        """
        attachment = Attachment(
            volume.id,
            **{
                'attach_status': 'attached',
                'attach_mode': 'rw',
                'mountpoint': '/dev/vdb',
                'attach_time': _now(),
                **values,
            },
        )
        self.attachments[attachment.id] = attachment
        self._update_status(volume)
        return attachment

    def delete_attachment(self, volume: Volume, attachment_id: str) -> None:
        """Delete an attachment, if it exists, and update its volume."""
        self.attachments.pop(attachment_id, None)
        volume.admin_metadata.pop('attached_mode', None)
        self._update_status(volume)

    def _update_status(self, volume: Volume) -> None:
        """Derive the status of a volume from its attachments.

        The first of attached, attaching, detaching and reserved takes
        precedence.
        """
        states = sorted(
            attachment.attach_status
            for attachment in self.attachments_of(volume)
            if not attachment.attach_status.startswith('error')
        )
        state = states[0] if states else 'detached'
        volume.change(
            attach_status=state,
            status={'attached': 'in-use', 'detached': 'available'}.get(
                state, state
            ),
        )

    def attach(
        self,
        volume: Volume,
        server_id: str | None,
        host: str | None,
        mountpoint: str,
        mode: str,
    ) -> None:
        """Attach a volume, as os-attach does.

        :param volume: the volume
        :param server_id: id of the server
        :param host: name of the host, where there is no server
        :param mountpoint: device of the volume in the server
        :param mode: ``rw`` or ``ro``
        :raises Refused: 400 or 500, the volume is in the wrong state
        """
        if volume.status == 'maintenance':
            raise errors.invalid_volume(
                'The volume cannot be attached in maintenance mode.'
            )
        volume.admin_metadata.setdefault('readonly', 'False')
        if any(
            attachment.attach_status == 'attached'
            and (
                attachment.instance_uuid == server_id
                if server_id
                else attachment.host == host
            )
            for attachment in self.attachments_of(volume)
        ):
            # Cinder 29 intends to return the existing attachment, and fails
            # because of the admin metadata that it loaded before.
            raise errors.unexpected('RuntimeError')
        if (
            volume.status == 'in-use'
            and not volume.multiattach
            and not volume.migration_status
        ):
            raise service.Refused(
                400,
                'Error attaching volume - InvalidVolume: Invalid volume: '
                'volume is already attached and multiple attachments are not '
                'enabled',
            )
        volume.admin_metadata['attached_mode'] = mode
        self.add_attachment(
            volume,
            instance_uuid=server_id,
            host=host,
            mountpoint=mountpoint,
            attach_mode=mode,
        )

    def reserve(self, volume: Volume, server_id: str | None) -> Attachment:
        """Reserve a volume, as attachment-create does.

        :param volume: the volume
        :param server_id: id of the server
        :returns: the new attachment
        :raises Refused: 400, the volume is in the wrong state
        """
        if 'error' in volume.status:
            raise errors.invalid_volume(
                'Volume attachments can not be created if the volume is in '
                f'an error state. The Volume {volume.id} currently has a '
                f'status of: {volume.status} '
            )
        expected = ['available', 'downloading']
        if volume.multiattach:
            expected.append('in-use')
        if volume.status in expected:
            volume.change(status='reserved')
        elif not (
            server_id
            and volume.status in ('in-use', 'reserved')
            and any(
                attachment.instance_uuid == server_id
                for attachment in self.attachments_of(volume)
            )
        ):
            raise errors.invalid_volume(
                f'Volume {volume.id} status must be {" or ".join(expected)} '
                f'to reserve, but the current status is {volume.status}.'
            )
        attachment = Attachment(volume.id, server_id)
        self.attachments[attachment.id] = attachment
        return attachment

    def connect(
        self, attachment: Attachment, connector: dict[str, typing.Any]
    ) -> None:
        """Connect an attachment, as attachment-update does.

        :param attachment: the attachment
        :param connector: describes the host
        """
        mode = attachment.attach_mode
        if mode in (None, 'null'):
            mode = connector.get('mode', 'rw')
        attachment.attach_mode = mode
        attachment.attach_status = 'attaching'
        attachment.attach_time = _now()
        attachment.host = connector.get('host', '')
        attachment.mountpoint = connector.get('mountpoint', 'na')
        attachment.connector = connector
        attachment.connection_info = {
            **connection(attachment.volume_id),
            'attachment_id': attachment.id,
            'enforce_multipath': connector.get('enforce_multipath', False),
        }
        volume = self.volumes[attachment.volume_id]
        volume.change(status='attaching', attach_status='attaching')
