# SPDX-License-Identifier: Apache-2.0

"""The volume actions of the stub of Cinder."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import bodies
from attachguard.testing.stub_cinder import deletion_check
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records
from attachguard.testing.stub_cinder import schemas

_REIMAGE = (3, 68)
_ADMIN_ACTIONS = ('force_detach', 'reset_status', 'migrate_volume_completion')


def _authorize(request: service.Request, name: str) -> None:
    if name in _ADMIN_ACTIONS:
        rule = f'volume_extension:volume_admin_actions:{name}'
        request.authorize('admin', rule)
    elif name == 'extend':
        request.authorize('member', 'volume:extend')
    else:
        rule = f'volume_extension:volume_actions:{name}'
        request.authorize('member', rule)


@dataclasses.dataclass(frozen=True)
class Action:
    """A volume action.

    :param request: the request
    :param volume: the volume
    :param arguments: the arguments of the action
    """

    request: service.Request
    volume: records.Volume
    arguments: typing.Any


class VolumeActions:
    """Performs the volume actions: one method for each action.

    The method has the name of the action without ``os-``. A test can replace
    it. It gets an :class:`Action`, and returns the response, or ``None`` for
    an empty one with status 202. It raises
    :class:`~attachguard.testing.service.Refused` for an error.

    :param cinder_records: the records of Cinder
    :param check: checks the deletion of attachments
    """

    def __init__(
        self,
        cinder_records: records.Records,
        check: deletion_check.DeletionCheck,
    ) -> None:
        self._records = cinder_records
        self._check = check

    def perform(self, request: service.Request, id: str) -> webob.Response:
        """Perform the action that a request names.

        :param request: the request
        :param id: id of the volume
        """
        body = bodies.read(request)
        action = bodies.action_name(body)
        if action not in schemas.ACTIONS:
            raise errors.no_such_action(action)
        name = action.removeprefix('os-')
        if name == 'reimage' and request.version < _REIMAGE:
            raise errors.not_found()
        schema = schemas.member(action, schemas.ACTIONS[action])
        arguments = bodies.validate(body, schema)[action]
        method: Callable[..., webob.Response | None] = getattr(self, name)
        with self._records.lock:
            volume = self._records.find_volume(request.caller, id)
            _authorize(request, name)
            response = method(Action(request, volume, arguments))
        return response or bodies.empty(202)

    def attach(self, action: Action) -> None:
        """Attach the volume, without any check by Nova."""
        self._records.attach(
            action.volume,
            action.arguments.get('instance_uuid'),
            action.arguments.get('host_name'),
            action.arguments['mountpoint'],
            action.arguments.get('mode', 'rw'),
        )

    def detach(self, action: Action) -> None:
        """Delete an attachment of the volume."""
        if action.arguments is None:
            # Cinder's schema accepts null; its code fails.
            raise errors.unexpected('AttributeError')
        self._detach(
            action.request,
            action.volume,
            action.arguments.get('attachment_id'),
        )

    def _detach(
        self,
        request: service.Request,
        volume: records.Volume,
        attachment_id: str | None,
    ) -> None:
        self._check.run(request, volume, attachment_id)
        if volume.status == 'maintenance':
            raise errors.invalid_volume(
                'The volume cannot be detached in maintenance mode.'
            )
        attachments = self._records.attachments_of(volume)
        if attachment_id is None:
            if len(attachments) > 1:
                raise service.Refused(
                    400,
                    'Error detaching volume - InvalidVolume: Invalid volume: '
                    'Detach volume failed: More than one attachment, but no '
                    'attachment_id provided.',
                )
            attachment_id = attachments[0].id if attachments else ''
        self._records.delete_attachment(volume, attachment_id)

    def reserve(self, action: Action) -> None:
        """Set the status to attaching."""
        expected = ['available', 'in-use'][: 1 + action.volume.multiattach]
        if action.volume.status not in expected:
            raise errors.invalid_volume(
                f'Volume status must be {" or ".join(expected)} to reserve, '
                f'but the status is {action.volume.status}.'
            )
        action.volume.change(status='attaching')

    def unreserve(self, action: Action) -> None:
        """Undo a reservation."""
        if action.volume.status == 'attaching':
            attachments = self._records.attachments_of(action.volume)
            action.volume.change(
                status='in-use' if attachments else 'available'
            )

    def begin_detaching(self, action: Action) -> None:
        """Set the status to detaching."""
        volume = action.volume
        if (volume.status, volume.attach_status) != ('in-use', 'attached'):
            raise errors.invalid_volume(
                "Unable to detach volume. Volume status must be 'in-use' and "
                "attach_status must be 'attached' to detach."
            )
        volume.change(status='detaching')

    def roll_detaching(self, action: Action) -> None:
        """Undo begin_detaching."""
        if action.volume.status == 'detaching':
            action.volume.change(status='in-use')

    def initialize_connection(self, action: Action) -> webob.Response:
        """Return connection information."""
        connector = action.arguments['connector']
        if not isinstance(connector, dict):
            raise errors.unexpected('AttributeError')
        data = records.connection(action.volume.id)
        connection_info = {
            'driver_volume_type': data.pop('driver_volume_type'),
            'data': data,
            'enforce_multipath': connector.get('enforce_multipath', False),
        }
        return service.respond(200, {'connection_info': connection_info})

    def terminate_connection(self, action: Action) -> None:
        """Check the deletion, and undo a reservation."""
        self._check.run(action.request, action.volume, None)
        self.unreserve(action)

    def force_detach(self, action: Action) -> None:
        """Terminate the connection and detach."""
        self.terminate_connection(action)
        self._detach(
            action.request,
            action.volume,
            action.arguments.get('attachment_id'),
        )

    def reset_status(self, action: Action) -> None:
        """Set the status, attach status and migration status."""
        values: dict[str, str | None] = {
            name: value.lower()
            for name, value in action.arguments.items()
            if value
        }
        volume = action.volume
        attachments = self._records.attachments_of(volume)
        if values.get('status') == 'deleting':
            raise service.Refused(400, 'Cannot reset-state to deleting')
        if values.get('status') == 'in-use' and not attachments:
            raise service.Refused(
                400,
                'Cannot reset-state to in-use because volume does not have '
                'any attachments.',
            )
        if values.get('migration_status') == 'none':
            values['migration_status'] = None
        volume.change(**values)
        if values.get('attach_status') == 'detached':
            for attachment in attachments:
                self._records.delete_attachment(volume, attachment.id)

    def migrate_volume_completion(self, action: Action) -> webob.Response:
        """Move the attachments to the new volume."""
        new = self._records.find_volume(
            action.request.caller, action.arguments['new_volume']
        )
        if not bodies.is_true(action.arguments.get('error')):
            for attachment in self._records.attachments_of(action.volume):
                self._detach(action.request, action.volume, attachment.id)
                self._records.attach(
                    new,
                    attachment.instance_uuid,
                    attachment.host,
                    attachment.mountpoint or '',
                    attachment.attach_mode or 'rw',
                )
        return service.respond(200, {'save_volume_id': new.id})

    def reimage(self, action: Action) -> None:
        """Overwrite the volume, which is available immediately afterwards."""
        reserved = bodies.is_true(action.arguments.get('reimage_reserved'))
        expected = ['available', 'error', 'reserved'][: 2 + reserved]
        volume = action.volume
        if volume.status not in expected:
            raise errors.invalid_volume(
                f'Volume {volume.id} status must be '
                f'{" or ".join(expected)}, but current status is '
                f'{volume.status}.'
            )
        volume.change(status='available')

    def extend(self, action: Action) -> None:
        """Enlarge an available volume."""
        volume = action.volume
        size = int(action.arguments['new_size'])
        if volume.status != 'available' or size <= volume.size:
            raise service.Refused(
                400,
                f'New size for extend must be greater than {volume.size}, '
                'and the volume available.',
            )
        volume.size = size
