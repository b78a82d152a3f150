# SPDX-License-Identifier: Apache-2.0

"""The resource ``/attachments`` of the stub of Cinder."""

from __future__ import annotations

import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import bodies
from attachguard.testing.stub_cinder import deletion_check
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records
from attachguard.testing.stub_cinder import schemas

_NEW_ATTACH = (3, 27)
_NEW_ATTACH_COMPLETION = (3, 44)
_ATTACH_MODE = (3, 54)


def _require(request: service.Request, version: service.Version) -> None:
    if request.version < version:
        raise errors.not_found()


def _summary(attachment: records.Attachment) -> dict[str, typing.Any]:
    return {
        'id': attachment.id,
        'status': attachment.attach_status,
        'instance': attachment.instance_uuid,
        'volume_id': attachment.volume_id,
    }


def _view(attachment: records.Attachment) -> dict[str, typing.Any]:
    return {
        **_summary(attachment),
        'attached_at': attachment.attach_time or '',
        'detached_at': '',
        'attach_mode': attachment.attach_mode,
        'connection_info': attachment.connection_info,
    }


class AttachmentApi:
    """Handles the requests for attachments. A test can replace a method.

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

    def index(self, request: service.Request) -> webob.Response:
        """List a page of attachments without their connections."""
        views = [_summary(attachment) for attachment in self._select(request)]
        return service.respond(200, {'attachments': views})

    def detail(self, request: service.Request) -> webob.Response:
        """List a page of attachments with their connections."""
        views = [_view(attachment) for attachment in self._select(request)]
        return service.respond(200, {'attachments': views})

    def _select(self, request: service.Request) -> list[records.Attachment]:
        _require(request, _NEW_ATTACH)
        query = request.GET
        caller = request.caller
        all_projects = caller.is_admin and 'all_tenants' in query
        volumes = self._records.volumes
        attachments = [
            a
            for a in self._records.attachments.values()
            if (
                all_projects
                or volumes[a.volume_id].project_id == caller.project_id
            )
            and query.get('volume_id', a.volume_id) == a.volume_id
            and query.get('instance_id', a.instance_uuid) == a.instance_uuid
            and query.get('attach_status', a.attach_status) == a.attach_status
            and (not caller.is_admin or query.get('id', a.id) == a.id)
        ]
        return bodies.page(request, attachments, 'attachments')[0]

    def show(self, request: service.Request, id: str) -> webob.Response:
        """Show an attachment."""
        _require(request, _NEW_ATTACH)
        attachment = self._records.find_attachment(request.caller, id)
        return service.respond(200, {'attachment': _view(attachment)})

    def create(self, request: service.Request) -> webob.Response:
        """Reserve a volume; with a connector, also connect it."""
        _require(request, _NEW_ATTACH)
        schema = schemas.create_attachment(
            with_mode=request.version >= _ATTACH_MODE
        )
        arguments = bodies.validate(bodies.read(request), schema)['attachment']
        with self._records.lock:
            volume = self._records.find_volume(
                request.caller, arguments['volume_uuid']
            )
            request.authorize('member', 'volume:attachment_create')
            attachment = self._records.reserve(
                volume, arguments.get('instance_uuid')
            )
            # Cinder's response shows the attachment before the connection.
            view = _view(attachment)
            if arguments.get('connector'):
                self._records.connect(attachment, arguments['connector'])
                view['connection_info'] = attachment.connection_info
            attachment.attach_mode = arguments.get('mode', 'null')
            view['attach_mode'] = attachment.attach_mode
        return service.respond(200, {'attachment': view})

    def update(self, request: service.Request, id: str) -> webob.Response:
        """Connect an attachment."""
        _require(request, _NEW_ATTACH)
        connector = bodies.validate(
            bodies.read(request), schemas.UPDATE_ATTACHMENT
        )['attachment']['connector']
        with self._records.lock:
            attachment = self._records.find_attachment(request.caller, id)
            if 'host' not in connector:
                # Cinder uses the host in the name of a lock.
                raise service.Refused(500, 'Unable to update the attachment.')
            request.authorize('member', 'volume:attachment_update')
            volume = self._records.volumes[attachment.volume_id]
            self._check_update(volume)
            view = _view(attachment)
            self._records.connect(attachment, connector)
            view['connection_info'] = attachment.connection_info
        return service.respond(200, {'attachment': view})

    def _check_update(self, volume: records.Volume) -> None:
        if 'error' in volume.status:
            raise service.Refused(
                409,
                'Volume attachments can not be updated if the volume is in '
                f'an error state. The Volume {volume.id} currently has a '
                f'status of: {volume.status} ',
            )
        attachments = self._records.attachments_of(volume)
        if (
            len(attachments) > 1
            and not volume.multiattach
            and any(other.connection_info for other in attachments)
        ):
            raise service.Refused(
                409,
                'ResourceConflict: duplicate connectors detected on volume '
                f'{volume.id}',
            )

    def complete(self, request: service.Request, id: str) -> webob.Response:
        """Set an attachment to attached and its volume to in-use."""
        body = bodies.read(request)
        name = bodies.action_name(body)
        if name != 'os-complete':
            raise errors.no_such_action(name)
        _require(request, _NEW_ATTACH_COMPLETION)
        bodies.validate(body, schemas.member('os-complete', {}))
        with self._records.lock:
            attachment = self._records.find_attachment(request.caller, id)
            request.authorize('member', 'volume:attachment_complete')
            attachment.attach_status = 'attached'
            volume = self._records.volumes[attachment.volume_id]
            volume.change(status='in-use', attach_status='attached')
        return bodies.empty(204)

    def delete(self, request: service.Request, id: str) -> webob.Response:
        """Delete an attachment; return the other ones of its volume."""
        _require(request, _NEW_ATTACH)
        attachment = self._records.find_attachment(request.caller, id)
        request.authorize('member', 'volume:attachment_delete')
        volume = self._records.volumes[attachment.volume_id]
        self._check.run(request, volume, id)
        with self._records.lock:
            self._records.delete_attachment(volume, id)
        views = [
            _summary(other) for other in self._records.attachments_of(volume)
        ]
        return service.respond(200, {'attachments': views})
