# SPDX-License-Identifier: Apache-2.0

"""The resource ``/servers/{id}/os-volume_attachments`` of the stub of Nova."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_nova import cinder_client
from attachguard.testing.stub_nova import records

_RULE = 'os-volumes-attachments'


def _attach_schema(version: service.Version) -> dict[str, typing.Any]:
    properties: dict[str, typing.Any] = {
        'volumeId': {'type': 'string', 'format': 'uuid'},
        'device': {
            'type': ['string', 'null'],
            'pattern': '(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*$',
        },
    }
    if version >= (2, 49):
        properties['tag'] = {
            'type': 'string',
            'minLength': 1,
            'maxLength': 60,
            'pattern': '^[^,/]*$',
        }
    if version >= (2, 79):
        properties['delete_on_termination'] = {'type': 'boolean'}
    return {
        'type': 'object',
        'properties': {
            'volumeAttachment': {
                'type': 'object',
                'properties': properties,
                'required': ['volumeId'],
                'additionalProperties': False,
            }
        },
        'required': ['volumeAttachment'],
        'additionalProperties': False,
    }


def _view(
    server: records.Server,
    attachment: records.Attachment,
    version: service.Version,
) -> dict[str, typing.Any]:
    view: dict[str, typing.Any] = {
        'volumeId': attachment.volume_id,
        'serverId': server.id,
        'device': attachment.device,
    }
    if version < (2, 89):
        view['id'] = attachment.volume_id
    if version >= (2, 70):
        view['tag'] = attachment.tag
    if version >= (2, 79):
        view['delete_on_termination'] = attachment.delete_on_termination
    if version >= (2, 89):
        view['attachment_id'] = attachment.attachment_id
        view['bdm_uuid'] = attachment.uuid
    return view


def _find(
    server: records.Server, volume_id: str, version: service.Version
) -> records.Attachment:
    attachment = server.attachments.get(volume_id)
    if attachment is None or (
        version >= (2, 89) and attachment.attachment_id is None
    ):
        raise service.Refused(
            404, f'Instance {server.id} is not attached to volume {volume_id}'
        )
    return attachment


class VolumeAttachmentApi:
    """Handles the requests for the volumes of a server.

    :param nova_records: the records of Nova
    :param cinder: makes the client of Cinder for a request
    """

    def __init__(
        self,
        nova_records: records.Records,
        cinder: Callable[[service.Request], cinder_client.CinderClient],
    ) -> None:
        self._records = nova_records
        self._cinder = cinder

    def index(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """List the volumes of a server."""
        server = self._records.find_server(
            request, server_id, 'reader', f'{_RULE}:index'
        )
        views = [
            _view(server, attachment, request.version)
            for attachment in server.attachments.values()
            if request.version < (2, 89)
            or attachment.attachment_id is not None
        ]
        return service.respond(200, {'volumeAttachments': views})

    def show(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> webob.Response:
        """Show a volume of a server."""
        server = self._records.find_server(
            request, server_id, 'reader', f'{_RULE}:show'
        )
        attachment = _find(server, volume_id, request.version)
        view = _view(server, attachment, request.version)
        return service.respond(200, {'volumeAttachment': view})

    def create(
        self, request: service.Request, server_id: str
    ) -> webob.Response:
        """Attach a volume to a server.

        As in Nova, the record exists before the request to Cinder, and gets
        the id of the attachment after Cinder's response.
        """
        arguments = service.validate(
            service.json_body(request), _attach_schema(request.version)
        )['volumeAttachment']
        volume_id = arguments['volumeId']
        server = self._records.find_server(
            request, server_id, 'member', f'{_RULE}:create'
        )
        cinder = self._cinder(request)
        volume = cinder.show_volume(volume_id)['volume']
        with self._records.lock:
            self._check_not_attached(server, volume)
            attachment = records.Attachment(
                volume_id,
                arguments.get('device') or server.next_device(),
                tag=arguments.get('tag'),
                delete_on_termination=arguments.get(
                    'delete_on_termination', False
                ),
            )
            server.attachments[volume_id] = attachment
        try:
            attachment.attachment_id = cinder.reserve(volume_id, server.id)
        except service.Refused:
            del server.attachments[volume_id]
            raise
        cinder.connect(server, attachment)
        if request.version >= (2, 101):
            return service.respond(202)
        view = _view(server, attachment, min(request.version, (2, 88)))
        return service.respond(200, {'volumeAttachment': view})

    def _check_not_attached(
        self, server: records.Server, volume: dict[str, typing.Any]
    ) -> None:
        """Check Nova's own records of a volume, deleted servers included."""
        holders = [
            holder.id
            for holder in self._records.servers.values()
            if volume['id'] in holder.attachments
        ]
        text = f'Invalid volume: volume {volume["id"]} '
        if holders and not volume['multiattach']:
            raise service.Refused(
                400,
                f'{text}is already attached to instances: {" ".join(holders)}',
            )
        if server.id in holders:
            raise service.Refused(400, f'{text}already attached')

    def delete(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> webob.Response:
        """Detach a volume from a server.

        Nova responds before its compute service calls Cinder. If Cinder then
        refuses, the record stays and the volume stays ``detaching``.
        """
        server = self._records.find_server(
            request, server_id, 'member', f'{_RULE}:delete'
        )
        cinder = self._cinder(request)
        cinder.show_volume(volume_id)
        attachment = _find(server, volume_id, (2, 1))
        if attachment.boot_index == 0:
            raise service.Refused(400, 'Cannot detach a root device volume')
        cinder.begin_detaching(volume_id)
        with contextlib.suppress(service.Refused):
            cinder.disconnect(attachment)
            del server.attachments[volume_id]
        return service.respond(202)
