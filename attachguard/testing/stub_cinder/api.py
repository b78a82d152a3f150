# SPDX-License-Identifier: Apache-2.0

"""The WSGI application of the stub of Cinder."""

from __future__ import annotations

import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import attachments
from attachguard.testing.stub_cinder import deletion_check
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records
from attachguard.testing.stub_cinder import transfers
from attachguard.testing.stub_cinder import volume_actions
from attachguard.testing.stub_cinder import volumes

_JSON = ('application/json', 'application/vnd.openstack.volume+json')
_BASE = r'/v3(?:/(?P<project_id>[0-9a-f-]+))?'
_TRANSFERS = f'{_BASE}/(?:volume-transfers|os-volume-transfer)'


class StubCinder(service.MicroversionService):
    """A WSGI application that behaves like Cinder's Block Storage API.

    It is the last application of a pipeline, like Cinder's ``apiv3``. It reads
    the caller from ``cinder.context``, which Cinder's keystonecontext sets, or
    else from the headers that keystonemiddleware sets. Like Cinder since
    CVE-2023-2088, it queries Nova before it lets a user delete an attachment.

    :ivar volumes: the volumes by id
    :ivar attachments: the attachments by id
    :ivar faults: the faults and delays that a test adds, a
        :class:`~attachguard.testing.fault_injection.Faults`
    :ivar volume_api: the handlers of ``/volumes``
    :ivar volume_actions: the handlers of the volume actions
    :ivar attachment_api: the handlers of ``/attachments``
    :ivar transfer_api: the handlers of ``/volume-transfers``
    """

    min_version = (3, 0)
    max_version = (3, 71)
    routes = (
        service.Route('GET', '/', 'list_versions'),
        service.Route('GET', '/v3', 'show_version'),
        service.Route('GET', f'{_BASE}/volumes', 'volume_api.index'),
        service.Route('POST', f'{_BASE}/volumes', 'volume_api.create'),
        service.Route('GET', f'{_BASE}/volumes/detail', 'volume_api.detail'),
        service.Route('GET', f'{_BASE}/volumes/{{id}}', 'volume_api.show'),
        service.Route(
            'DELETE', f'{_BASE}/volumes/{{id}}', 'volume_api.delete'
        ),
        service.Route(
            'POST', f'{_BASE}/volumes/{{id}}/action', 'volume_actions.perform'
        ),
        service.Route('GET', f'{_BASE}/attachments', 'attachment_api.index'),
        service.Route('POST', f'{_BASE}/attachments', 'attachment_api.create'),
        service.Route(
            'GET', f'{_BASE}/attachments/detail', 'attachment_api.detail'
        ),
        service.Route(
            'GET', f'{_BASE}/attachments/{{id}}', 'attachment_api.show'
        ),
        service.Route(
            'PUT', f'{_BASE}/attachments/{{id}}', 'attachment_api.update'
        ),
        service.Route(
            'DELETE', f'{_BASE}/attachments/{{id}}', 'attachment_api.delete'
        ),
        service.Route(
            'POST',
            f'{_BASE}/attachments/{{id}}/action',
            'attachment_api.complete',
        ),
        service.Route('GET', f'{_BASE}/backups/detail', 'list_backups'),
        service.Route('POST', _TRANSFERS, 'transfer_api.create'),
        service.Route('DELETE', f'{_TRANSFERS}/{{id}}', 'transfer_api.delete'),
    )

    def __init__(self) -> None:
        super().__init__()
        self._records = records.Records()
        self.volumes = self._records.volumes
        self.attachments = self._records.attachments
        check = deletion_check.DeletionCheck(self._records)
        self.volume_api = volumes.VolumeApi(self._records)
        self.volume_actions = volume_actions.VolumeActions(
            self._records, check
        )
        self.attachment_api = attachments.AttachmentApi(self._records, check)
        self.transfer_api = transfers.TransferApi(self._records)

    @classmethod
    def app_factory(
        cls, global_conf: dict[str, str], **local_conf: str
    ) -> StubCinder:
        """Make a stub for PasteDeploy: ``paste.app_factory``.

        :param global_conf: not used
        :param local_conf: not used
        """
        return cls()

    def add_volume(
        self, project_id: str, **values: typing.Any
    ) -> records.Volume:
        """Add a volume.

        :param project_id: id of its project
        :param values: other fields of :class:`Volume`
        :returns: the volume
        """
        volume = records.Volume(project_id, **values)
        self.volumes[volume.id] = volume
        return volume

    def add_attachment(
        self, volume_id: str, **values: typing.Any
    ) -> records.Attachment:
        """Add an attached attachment; Nova is not informed.

        :param volume_id: id of the volume, whose status is updated
        :param values: other fields of :class:`Attachment`
        :returns: the attachment
        """
        return self._records.add_attachment(self.volumes[volume_id], **values)

    def remove_attachment(self, attachment_id: str) -> None:
        """Remove an attachment; Nova is not informed.

        :param attachment_id: id of the attachment, whose volume is updated
        """
        attachment = self.attachments[attachment_id]
        self._records.delete_attachment(
            self.volumes[attachment.volume_id], attachment_id
        )

    def attachments_of(
        self, volume: records.Volume
    ) -> list[records.Attachment]:
        """List the attachments of a volume, in every state.

        :param volume: the volume
        """
        return self._records.attachments_of(volume)

    def respond_to(self, request: service.Request) -> webob.Response:
        if request.script_name + request.path_info == '/v3':
            # Cinder's router redirects before any other step.
            redirect = service.respond(302)
            redirect.headers['Content-Type'] = 'text/plain'
            redirect.location = f'{request.path_url}/'
            return redirect
        return super().respond_to(request)

    def prepare(
        self, request: service.Request, params: dict[str, typing.Any]
    ) -> None:
        context = request.environ.get('cinder.context')
        request.caller = (
            service.Caller.from_request(request)
            if context is None
            else service.Caller.from_context(context)
        )
        self._read_version(request)
        if request.body and request.content_type not in ('', *_JSON):
            raise service.Refused(415, 'Unsupported Content-Type')
        project_id = params.pop('project_id', None)
        if project_id not in (None, request.caller.project_id):
            raise service.Refused(400, 'Malformed request url')

    def _read_version(self, request: service.Request) -> None:
        header = request.headers.get('OpenStack-API-Version')
        if header is None:
            request.version = self.min_version
            return
        value = next((h for h in header.split(',') if 'volume' in h), '')
        parts = value.split()
        if len(parts) != 2:
            raise errors.unexpected('ValueError')
        self.set_version(request, parts[1])

    def finish(
        self, request: service.Request, response: webob.Response
    ) -> None:
        super().finish(request, response)
        # Not in a response that is no JSON.
        if hasattr(request, 'caller') and response.content_type != 'text/html':
            response.headers['x-compute-request-id'] = response.headers[
                'x-openstack-request-id'
            ]
        # Cinder sends no version header for its former APIs.
        version = getattr(request, 'version', (2, 0))
        if version != (2, 0):
            response.headers['OpenStack-API-Version'] = (
                f'volume {service.format_version(version)}'
            )
            response.headers['Vary'] = 'OpenStack-API-Version'

    def list_backups(self, request: service.Request) -> webob.Response:
        """List the backups: it makes none."""
        request.authorize('reader', 'backup:get_all')
        return service.respond(200, {'backups': []})

    def list_versions(self, request: service.Request) -> webob.Response:
        """List the versions of the API."""
        return service.respond(300, self._versions(request))

    def show_version(self, request: service.Request) -> webob.Response:
        """Show the version of the API."""
        return service.respond(200, self._versions(request))

    def _versions(self, request: service.Request) -> dict[str, typing.Any]:
        media_type = 'application/vnd.openstack.volume+json;version=3'
        version = {
            'id': 'v3.0',
            'status': 'CURRENT',
            'version': service.format_version(self.max_version),
            'min_version': service.format_version(self.min_version),
            'updated': '2023-08-31T00:00:00Z',
            'links': [
                {
                    'rel': 'describedby',
                    'type': 'text/html',
                    'href': 'https://docs.openstack.org/',
                },
                {'rel': 'self', 'href': f'{request.host_url}/v3/'},
            ],
            'media-types': [{'base': 'application/json', 'type': media_type}],
        }
        return {'versions': [version]}
