# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A Cinder that fits into a test: volumes, and all that attaches them.

It is the application at the end of a pipeline, like Cinder's ``apiv3``: who
calls, it learns from what keystonemiddleware left in the environ. Before it
lets a user delete an attachment it asks Nova, as Cinder does since
CVE-2023-2088.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import datetime
import json
import threading
import typing
import urllib.parse
import uuid

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import session as ksa_session
import webob

from attachguard.testing import service

MIN_VERSION = (3, 0)
MAX_VERSION = (3, 71)
_NEW_ATTACH = (3, 27)
_NEW_ATTACH_COMPLETION = (3, 44)
_ATTACH_MODE = (3, 54)

_JSON = ('application/json', 'application/vnd.openstack.volume+json')
_NOT_FOUND = 'The resource could not be found.'

_FAULTS = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    409: 'conflictingRequest',
    413: 'overLimit',
    415: 'badMediaType',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}

#: ``cinder.objects.fields.VolumeStatus``
_STATUSES = (
    'creating',
    'available',
    'deleting',
    'error',
    'error_deleting',
    'error_managing',
    'managing',
    'attaching',
    'in-use',
    'detaching',
    'maintenance',
    'restoring-backup',
    'error_restoring',
    'reserved',
    'awaiting-transfer',
    'backing-up',
    'error_backing-up',
    'error_extending',
    'downloading',
    'uploading',
    'retyping',
    'extending',
)
_MIGRATION_STATUSES = (
    'migrating',
    'error',
    'success',
    'completing',
    'none',
    'starting',
)


#: What users may ask of a list of volumes; administrators may ask anything.
_FILTERS = {
    'all_tenants',
    'availability_zone',
    'bootable',
    'created_at',
    'group_id',
    'limit',
    'marker',
    'metadata',
    'migration_status',
    'name',
    'offset',
    'size',
    'sort',
    'sort_dir',
    'sort_key',
    'status',
    'updated_at',
}


def _object(
    properties: dict[str, typing.Any],
    required: Iterable[str] = (),
    **more: typing.Any,
) -> dict[str, typing.Any]:
    return {
        'type': 'object',
        'properties': properties,
        'required': list(required),
        'additionalProperties': False,
        **more,
    }


def _member(name: str, schema: dict[str, typing.Any]) -> dict[str, typing.Any]:
    return _object({name: schema}, [name])


def _one_of(*values: str) -> dict[str, typing.Any]:
    # Cinder compares in lower case and takes an empty value as none.
    return {
        'type': ['string', 'null'],
        'pattern': f'^(?i:{"|".join(values)}|)$',
    }


def _given(name: str) -> dict[str, typing.Any]:
    return {
        'required': [name],
        'properties': {name: {'type': 'string', 'minLength': 1}},
    }


_UUID = {'type': 'string', 'format': 'uuid'}
_CONNECTOR = {'type': ['object', 'string', 'null']}
_SIZE = {
    'type': ['integer', 'string'],
    'pattern': '^[0-9]+$',
    'minimum': 1,
    'minLength': 1,
}

_CREATE_VOLUME = _member(
    'volume',
    {
        'type': 'object',
        'properties': {
            'name': {'type': ['string', 'null'], 'maxLength': 255},
            'description': {'type': ['string', 'null'], 'maxLength': 255},
            'metadata': {'type': ['object', 'null']},
            'size': {**_SIZE, 'type': ['integer', 'string', 'null']},
        },
    },
)
_CREATE_VOLUME['properties']['OS-SCH-HNT:scheduler_hints'] = {
    'type': ['object', 'null']
}

_CREATE_ATTACHMENT = {
    'instance_uuid': _UUID,
    'connector': {'type': ['object', 'null']},
    'volume_uuid': _UUID,
}
_UPDATE_ATTACHMENT = _member(
    'attachment',
    _object(
        {'connector': {'type': 'object', 'minProperties': 1}}, ['connector']
    ),
)

#: The volume actions: what each takes.
_ACTIONS: dict[str, dict[str, typing.Any]] = {
    'os-attach': _object(
        {
            'instance_uuid': _UUID,
            'mountpoint': {'type': 'string', 'minLength': 1, 'maxLength': 255},
            'host_name': {'type': 'string', 'maxLength': 255},
            'mode': {'type': 'string', 'enum': ['rw', 'ro']},
        },
        ['mountpoint'],
        anyOf=[{'required': ['instance_uuid']}, {'required': ['host_name']}],
    ),
    'os-detach': _object(
        {'attachment_id': {'anyOf': [_UUID, {'type': 'null'}]}},
        type=['object', 'null'],
    ),
    'os-reserve': {},
    'os-unreserve': {},
    'os-begin_detaching': {},
    'os-roll_detaching': {},
    'os-initialize_connection': _object(
        {'connector': {'type': ['object', 'string']}}, ['connector']
    ),
    'os-terminate_connection': _object(
        {'connector': _CONNECTOR}, ['connector']
    ),
    'os-force_detach': _object(
        {
            'connector': _CONNECTOR,
            'attachment_id': {'type': ['string', 'null']},
        }
    ),
    'os-reset_status': _object(
        {
            'status': _one_of(*_STATUSES),
            'attach_status': _one_of('attached', 'detached'),
            'migration_status': _one_of(*_MIGRATION_STATUSES),
        },
        anyOf=[
            _given('status'),
            _given('attach_status'),
            _given('migration_status'),
        ],
    ),
    'os-migrate_volume_completion': _object(
        {
            'new_volume': _UUID,
            'error': {'type': ['boolean', 'string', 'null']},
        },
        ['new_volume'],
    ),
    'os-extend': _object({'new_size': _SIZE}, ['new_size']),
}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')


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
    """A volume."""

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
    #: The part of its admin metadata that users see.
    admin_metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    created_at: str = dataclasses.field(default_factory=_now)
    updated_at: str = dataclasses.field(default_factory=_now)
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


_BASE = r'/v3(?:/(?P<project_id>[0-9a-f-]+))?'


class StubCinder(service.Service):
    """A WSGI application that answers as Cinder's Block Storage API does.

    Its state is in ``volumes`` and ``attachments``, by id, for tests to look
    at and to set up.
    """

    routes = (
        service.Route('GET', '/', 'versions'),
        service.Route('GET', '/v3', 'show_version'),
        service.Route('GET', f'{_BASE}/volumes', 'list_volumes'),
        service.Route('POST', f'{_BASE}/volumes', 'create_volume'),
        service.Route('GET', f'{_BASE}/volumes/detail', 'list_details'),
        service.Route('GET', f'{_BASE}/volumes/{{id}}', 'show_volume'),
        service.Route('DELETE', f'{_BASE}/volumes/{{id}}', 'delete_volume'),
        service.Route('POST', f'{_BASE}/volumes/{{id}}/action', 'act'),
        service.Route('GET', f'{_BASE}/attachments', 'list_attachments'),
        service.Route('POST', f'{_BASE}/attachments', 'create_attachment'),
        service.Route(
            'GET', f'{_BASE}/attachments/detail', 'list_attachment_details'
        ),
        service.Route('GET', f'{_BASE}/attachments/{{id}}', 'show_attachment'),
        service.Route(
            'PUT', f'{_BASE}/attachments/{{id}}', 'update_attachment'
        ),
        service.Route(
            'DELETE', f'{_BASE}/attachments/{{id}}', 'delete_attachment'
        ),
        service.Route(
            'POST', f'{_BASE}/attachments/{{id}}/action', 'complete_attachment'
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Attachment] = {}
        self._lock = threading.RLock()
        self._session = ksa_session.Session(timeout=60)

    @classmethod
    def app_factory(
        cls, global_conf: dict[str, str], **local_conf: str
    ) -> StubCinder:
        """Make one for PasteDeploy: ``paste.app_factory``."""
        return cls()

    # What tests set up.

    def add_volume(self, project_id: str, **values: typing.Any) -> Volume:
        """Add a volume.

        :param project_id: id of its project
        :param values: other fields of :class:`Volume`
        :returns: the volume
        """
        volume = Volume(project_id, **values)
        self.volumes[volume.id] = volume
        return volume

    def add_attachment(
        self, volume_id: str, **values: typing.Any
    ) -> Attachment:
        """Add a finished attachment, without a word to Nova.

        :param volume_id: id of the volume, which is ``in-use`` from then on
        :param values: other fields of :class:`Attachment`
        :returns: the attachment
        """
        attachment = Attachment(
            volume_id,
            **{
                'attach_status': 'attached',
                'attach_mode': 'rw',
                'mountpoint': '/dev/vdb',
                'attach_time': _now(),
                **values,
            },
        )
        self.attachments[attachment.id] = attachment
        self._derive_status(self.volumes[volume_id])
        return attachment

    # What becomes of a volume: the only place that changes its status.

    def _attachments_of(self, volume: Volume) -> list[Attachment]:
        return [
            attachment
            for attachment in self.attachments.values()
            if attachment.volume_id == volume.id
        ]

    def _derive_status(self, volume: Volume) -> None:
        """Let a volume follow from its attachments.

        The foremost of attached, attaching, detaching and reserved wins.
        """
        states = sorted(
            attachment.attach_status
            for attachment in self._attachments_of(volume)
            if not attachment.attach_status.startswith('error')
        )
        volume.attach_status = states[0] if states else 'detached'
        volume.status = {'attached': 'in-use', 'detached': 'available'}.get(
            volume.attach_status, volume.attach_status
        )
        volume.updated_at = _now()

    def _attach(
        self,
        volume: Volume,
        server_id: str | None,
        host: str | None,
        mountpoint: str,
        mode: str,
    ) -> None:
        if volume.status == 'maintenance':
            raise _invalid_volume(
                'The volume cannot be attached in maintenance mode.'
            )
        volume.admin_metadata.setdefault('readonly', 'False')
        known = [
            attachment
            for attachment in self._attachments_of(volume)
            if attachment.attach_status == 'attached'
            and (
                attachment.instance_uuid == server_id
                if server_id
                else attachment.host == host
            )
        ]
        if known:
            # Cinder 29 means to answer with the attachment that there is, and
            # stumbles over the admin metadata it loaded before.
            raise service.Refused(
                500, _unexpected(RuntimeError('admin_metadata'))
            )
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
            volume.id,
            instance_uuid=server_id,
            host=host,
            mountpoint=mountpoint,
            attach_mode=mode,
        )

    def _drop(self, volume: Volume, attachment_id: str) -> None:
        self.attachments.pop(attachment_id, None)
        volume.admin_metadata.pop('attached_mode', None)
        self._derive_status(volume)

    def _detach(
        self,
        request: service.Request,
        volume: Volume,
        attachment_id: str | None,
    ) -> None:
        self._check_deletion(request, volume, attachment_id)
        if volume.status == 'maintenance':
            raise _invalid_volume(
                'The volume cannot be detached in maintenance mode.'
            )
        attachments = self._attachments_of(volume)
        if attachment_id is None:
            if len(attachments) > 1:
                raise service.Refused(
                    400,
                    'Error detaching volume - InvalidVolume: Invalid volume: '
                    'Detach volume failed: More than one attachment, but no '
                    'attachment_id provided.',
                )
            attachment_id = attachments[0].id if attachments else ''
        self._drop(volume, attachment_id)

    def _reserve(self, volume: Volume, server_id: str | None) -> Attachment:
        if 'error' in volume.status:
            raise _invalid_volume(
                'Volume attachments can not be created if the volume is in '
                f'an error state. The Volume {volume.id} currently has a '
                f'status of: {volume.status} '
            )
        expected = ['available', 'downloading']
        if volume.multiattach:
            expected.append('in-use')
        if volume.status in expected:
            volume.status = 'reserved'
        elif not (
            server_id
            and volume.status in ('in-use', 'reserved')
            and any(
                attachment.instance_uuid == server_id
                for attachment in self._attachments_of(volume)
            )
        ):
            raise _invalid_volume(
                f'Volume {volume.id} status must be {" or ".join(expected)} '
                f'to reserve, but the current status is {volume.status}.'
            )
        attachment = Attachment(volume.id, server_id)
        self.attachments[attachment.id] = attachment
        return attachment

    def _connect(
        self, attachment: Attachment, connector: dict[str, typing.Any]
    ) -> None:
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
            **self._connection(attachment.volume_id),
            'attachment_id': attachment.id,
            'enforce_multipath': connector.get('enforce_multipath', False),
        }
        volume = self.volumes[attachment.volume_id]
        volume.status = volume.attach_status = 'attaching'

    def _connection(self, volume_id: str) -> dict[str, typing.Any]:
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

    def _check_deletion(
        self,
        request: service.Request,
        volume: Volume,
        attachment_id: str | None,
    ) -> None:
        """Refuse to a user what Nova says a server has.

        :raises Refused: 409, Nova has it; or what Nova answered
        """
        if 'service' in request.caller.service_roles:
            return
        attachments = self._attachments_of(volume)
        if attachment_id is None:
            if not attachments:
                return
            if len(attachments) == 1:
                attachment_id = attachments[0].id
        attachment = self.attachments.get(attachment_id or '')
        server_id: str | None = ''
        if attachment is not None:
            if attachment.volume_id != volume.id:
                raise service.Refused(
                    400,
                    'Invalid input received: Mismatched volume and attachment',
                )
            server_id = attachment.instance_uuid
            if not server_id or not attachment.connection_info:
                return
            if attachment.id != self._ask_nova(request, server_id, volume.id):
                return
        raise service.Refused(
            409,
            'ConflictNovaUsingAttachment: Detach volume from instance '
            f'{server_id} using the Compute API',
        )

    def _ask_nova(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> str | None:
        nova = adapter.Adapter(
            session=self._session,
            auth=request.environ.get('keystone.token_auth'),
            service_type='compute',
            default_microversion='2.89',
        )
        try:
            answer = nova.get(
                f'/servers/{server_id}/os-volume_attachments/{volume_id}'
            )
        except ksa_exceptions.NotFound:
            return None
        except ksa_exceptions.HttpError as error:
            raise service.Refused(
                error.http_status, str(error.message)
            ) from error
        except ksa_exceptions.ClientException as error:
            raise service.Refused(500, _unexpected(error)) from error
        attachment_id: str = answer.json()['volumeAttachment']['attachment_id']
        return attachment_id

    # What it answers.

    def error(self, status: int, message: str) -> webob.Response:
        kind = _FAULTS.get(status, 'computeFault')
        return service.respond(
            status, {kind: {'code': status, 'message': message}}
        )

    def answer(self, request: service.Request) -> webob.Response:
        if request.script_name + request.path_info == '/v3':
            # Cinder's router, which knows nothing of the rest.
            redirect = service.respond(302)
            redirect.headers['Content-Type'] = 'text/plain'
            redirect.location = f'{request.path_url}/'
            return redirect
        return super().answer(request)

    def admit(
        self, request: service.Request, params: dict[str, typing.Any]
    ) -> None:
        request.caller = service.Caller.of(request)
        request.version = self._read_version(request)
        if request.body and request.content_type not in ('', *_JSON):
            raise service.Refused(415, 'Unsupported Content-Type')
        project_id = params.pop('project_id', None)
        if project_id not in (None, request.caller.project_id):
            raise service.Refused(400, 'Malformed request url')

    def _read_version(self, request: service.Request) -> service.Version:
        header = request.headers.get('OpenStack-API-Version')
        if header is None:
            return MIN_VERSION
        wanted = next((h for h in header.split(',') if 'volume' in h), '')
        words = wanted.split()
        if len(words) != 2:
            raise service.Refused(500, _unexpected(ValueError(header)))
        if words[1] == 'latest':
            return MAX_VERSION
        found = service.parse_version(words[1])
        if found is None:
            raise service.Refused(
                400,
                f'API Version String {words[1]} is of invalid format. Must '
                'be of format MajorNum.MinorNum.',
            )
        # The answer names what was asked for, supported or not.
        request.version = found
        if not MIN_VERSION <= found <= MAX_VERSION:
            raise service.Refused(
                406,
                f'Version {words[1]} is not supported by the API. Minimum is '
                '3.0 and maximum is 3.71.',
            )
        return found

    def finish(self, request: service.Request, answer: webob.Response) -> None:
        super().finish(request, answer)
        if hasattr(request, 'caller'):
            answer.headers['x-compute-request-id'] = answer.headers[
                'x-openstack-request-id'
            ]
        # Cinder says nothing of the versions of its former APIs.
        version = getattr(request, 'version', (2, 0))
        if version != (2, 0):
            answer.headers['OpenStack-API-Version'] = (
                f'volume {version[0]}.{version[1]}'
            )
            answer.headers['Vary'] = 'OpenStack-API-Version'

    def versions(self, request: service.Request) -> webob.Response:
        """Answer version discovery."""
        return self._versions(request, 300)

    def show_version(self, request: service.Request) -> webob.Response:
        """Answer version discovery at ``/v3/``."""
        return self._versions(request, 200)

    def _versions(
        self, request: service.Request, status: int
    ) -> webob.Response:
        root = request.host_url
        return service.respond(
            status,
            {
                'versions': [
                    {
                        'id': 'v3.0',
                        'status': 'CURRENT',
                        'version': '3.71',
                        'min_version': '3.0',
                        'updated': '2023-08-31T00:00:00Z',
                        'links': [
                            {
                                'rel': 'describedby',
                                'type': 'text/html',
                                'href': 'https://docs.openstack.org/',
                            },
                            {'rel': 'self', 'href': f'{root}/v3/'},
                        ],
                        'media-types': [
                            {
                                'base': 'application/json',
                                'type': (
                                    'application/vnd.openstack.volume+json;'
                                    'version=3'
                                ),
                            }
                        ],
                    }
                ]
            },
        )

    def _allow(self, request: service.Request, role: str, rule: str) -> None:
        if not request.caller.may(role):
            raise service.Refused(
                403, f"Policy doesn't allow {rule} to be performed."
            )

    def _volume(self, request: service.Request, volume_id: str) -> Volume:
        volume = self.volumes.get(volume_id)
        if volume is None or not (
            request.caller.is_admin
            or request.caller.project_id == volume.project_id
        ):
            raise service.Refused(
                404, f'Volume {volume_id} could not be found.'
            )
        return volume

    # Volumes.

    def create_volume(self, request: service.Request) -> webob.Response:
        """Create a volume, which is available at once."""
        asked = _validated(_body(request), _CREATE_VOLUME)['volume']
        self._allow(request, 'member', 'volume:create')
        if asked.get('size') is None:
            raise service.Refused(
                400,
                'Invalid input received: Invalid volume size provided for '
                'create request: None (size argument must be an integer (or '
                'string representation of an integer) and greater than zero).',
            )
        volume = self.add_volume(
            request.caller.project_id,
            user_id=request.caller.user_id,
            name=asked.get('name') or asked.get('display_name'),
            description=asked.get('description'),
            size=int(asked['size']),
            metadata=dict(asked.get('metadata') or {}),
        )
        view = self._detail(request, volume)
        view['status'] = 'creating'
        view['updated_at'] = None
        # What Cinder's extensions add, they add to volumes that are shown.
        view = {k: v for k, v in view.items() if not k.startswith('os-vol')}
        return service.respond(202, {'volume': view})

    def _selected(
        self, request: service.Request
    ) -> tuple[list[Volume], dict[str, typing.Any]]:
        self._allow(request, 'reader', 'volume:get_all')
        wanted = request.GET
        self._check_filters(request)
        project: str | None = request.caller.project_id
        columns: tuple[str, ...] = ('name', 'status')
        if request.caller.is_admin:
            columns += ('id', 'attach_status')
        if request.caller.is_admin and 'all_tenants' in wanted:
            project = wanted.get('project_id')
        volumes = [
            volume
            for volume in reversed(self.volumes.values())
            if project in (None, volume.project_id)
            and all(
                wanted.get(column, getattr(volume, column))
                == getattr(volume, column)
                for column in columns
            )
        ]
        more: dict[str, typing.Any] = {}
        if request.version >= (3, 45) and _true(wanted.get('with_count')):
            more['count'] = len(volumes)
        page, following = _page(request, volumes)
        if following:
            more['volumes_links'] = following
        return page, more

    def _check_filters(self, request: service.Request) -> None:
        known = _FILTERS
        if request.version >= (3, 45):
            known |= {'with_count'}
        unknown = ', '.join(sorted({*request.GET} - known))
        if (
            unknown
            and request.version >= (3, 31)
            and (not request.caller.is_admin)
        ):
            raise service.Refused(
                400, f'Invalid filters {unknown} are found in query options.'
            )

    def list_volumes(self, request: service.Request) -> webob.Response:
        """Answer a page of the volumes, by name and id."""
        volumes, more = self._selected(request)
        return service.respond(
            200,
            {
                'volumes': [
                    {
                        'id': volume.id,
                        'name': volume.name,
                        'links': self._links(request, volume.id),
                    }
                    for volume in volumes
                ],
                **more,
            },
        )

    def list_details(self, request: service.Request) -> webob.Response:
        """Answer a page of the volumes with all that is known of them."""
        volumes, more = self._selected(request)
        return service.respond(
            200,
            {
                'volumes': [self._detail(request, v) for v in volumes],
                **more,
            },
        )

    def show_volume(self, request: service.Request, id: str) -> webob.Response:
        """Answer one volume."""
        volume = self._volume(request, id)
        self._allow(request, 'reader', 'volume:get')
        return service.respond(200, {'volume': self._detail(request, volume)})

    def delete_volume(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Delete a volume, unless something is attached to it."""
        with self._lock:
            volume = self._volume(request, id)
            self._allow(request, 'member', 'volume:delete')
            if self._attachments_of(volume) or volume.status not in (
                'available',
                'error',
                'error_restoring',
                'error_extending',
                'error_managing',
            ):
                raise _invalid_volume(
                    'Volume status must be available or error or '
                    'error_restoring or error_extending or error_managing '
                    'and must not be migrating, attached, belong to a group, '
                    'have snapshots, awaiting a transfer, or be '
                    'disassociated from snapshots after volume transfer.'
                )
            del self.volumes[id]
        return service.respond(202)

    def _links(
        self, request: service.Request, id: str
    ) -> list[dict[str, str]]:
        root = request.host_url
        path = f'{request.caller.project_id}/volumes/{id}'
        return [
            {'rel': 'self', 'href': f'{root}/v3/{path}'},
            {'rel': 'bookmark', 'href': f'{root}/{path}'},
        ]

    def _detail(
        self, request: service.Request, volume: Volume
    ) -> dict[str, typing.Any]:
        caller = request.caller
        version = request.version
        view: dict[str, typing.Any] = {
            'id': volume.id,
            'status': volume.status,
            'size': volume.size,
            'availability_zone': 'nova',
            'created_at': volume.created_at,
            'updated_at': volume.updated_at,
            'name': volume.name,
            'description': volume.description,
            'volume_type': '__DEFAULT__',
            'snapshot_id': None,
            'source_volid': None,
            'metadata': {**volume.metadata, **volume.admin_metadata},
            'links': self._links(request, volume.id),
            'user_id': volume.user_id,
            'bootable': 'false',
            'encrypted': False,
            'replication_status': None,
            'consistencygroup_id': None,
            'multiattach': volume.multiattach,
            'attachments': [
                {
                    'id': volume.id,
                    'attachment_id': attachment.id,
                    'volume_id': volume.id,
                    'server_id': attachment.instance_uuid,
                    'host_name': (
                        attachment.host
                        if caller.is_admin or 'service' in caller.roles
                        else None
                    ),
                    'device': attachment.mountpoint,
                    'attached_at': attachment.attach_time,
                }
                for attachment in self._attachments_of(volume)
                if attachment.attach_status == 'attached'
            ],
            'os-vol-tenant-attr:tenant_id': volume.project_id,
        }
        if caller.is_admin:
            view['migration_status'] = volume.migration_status
            view['os-vol-host-attr:host'] = 'stub@backend#pool'
            view['os-vol-mig-status-attr:migstat'] = volume.migration_status
            view['os-vol-mig-status-attr:name_id'] = None
            if version >= (3, 21):
                view['provider_id'] = None
            if version >= (3, 61):
                view['cluster_name'] = None
        if version >= (3, 13):
            view['group_id'] = None
        if version >= (3, 48):
            view['shared_targets'] = False
            view['service_uuid'] = str(
                uuid.uuid5(uuid.NAMESPACE_DNS, 'cinder-volume')
            )
        if version >= (3, 63):
            view['volume_type_id'] = str(
                uuid.uuid5(uuid.NAMESPACE_DNS, '__DEFAULT__')
            )
        if version >= (3, 65):
            view['consumes_quota'] = True
        return view

    # Volume actions.

    def act(self, request: service.Request, id: str) -> webob.Response:
        """Perform one of the volume actions."""
        body = _body(request)
        name = _action(body)
        if name not in _ACTIONS:
            raise _no_such_action(name)
        asked = _validated(body, _member(name, _ACTIONS[name]))[name]
        with self._lock:
            volume = self._volume(request, id)
            handler = getattr(self, '_do_' + name.removeprefix('os-'))
            answer: webob.Response | None = handler(request, volume, asked)
        return answer or _empty(202)

    def _allow_action(self, request: service.Request, name: str) -> None:
        self._allow(
            request, 'member', f'volume_extension:volume_actions:{name}'
        )

    def _allow_admin_action(self, request: service.Request, name: str) -> None:
        self._allow(
            request, 'admin', f'volume_extension:volume_admin_actions:{name}'
        )

    def _do_attach(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'attach')
        self._attach(
            volume,
            asked.get('instance_uuid'),
            asked.get('host_name'),
            asked['mountpoint'],
            asked.get('mode', 'rw'),
        )

    def _do_detach(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        if asked is None:
            # Cinder's schema takes null, and its code does not.
            raise service.Refused(500, _unexpected(AttributeError()))
        self._allow_action(request, 'detach')
        self._detach(request, volume, asked.get('attachment_id'))

    def _do_reserve(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'reserve')
        expected = ['available', 'in-use'][: 1 + volume.multiattach]
        if volume.status not in expected:
            raise _invalid_volume(
                f'Volume status must be {" or ".join(expected)} to reserve, '
                f'but the status is {volume.status}.'
            )
        volume.status = 'attaching'

    def _do_unreserve(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'unreserve')
        if volume.status == 'attaching':
            volume.status = (
                'in-use' if self._attachments_of(volume) else 'available'
            )

    def _do_begin_detaching(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'begin_detaching')
        if (volume.status, volume.attach_status) != ('in-use', 'attached'):
            raise _invalid_volume(
                "Unable to detach volume. Volume status must be 'in-use' and "
                "attach_status must be 'attached' to detach."
            )
        volume.status = 'detaching'

    def _do_roll_detaching(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'roll_detaching')
        if volume.status == 'detaching':
            volume.status = 'in-use'

    def _do_initialize_connection(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> webob.Response:
        self._allow_action(request, 'initialize_connection')
        connector = asked['connector']
        if not isinstance(connector, dict):
            raise service.Refused(500, _unexpected(AttributeError()))
        info = self._connection(volume.id)
        kind = info.pop('driver_volume_type')
        return service.respond(
            200,
            {
                'connection_info': {
                    'driver_volume_type': kind,
                    'data': info,
                    'enforce_multipath': connector.get(
                        'enforce_multipath', False
                    ),
                }
            },
        )

    def _do_terminate_connection(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_action(request, 'terminate_connection')
        self._check_deletion(request, volume, None)
        self._do_unreserve(request, volume, asked)

    def _do_force_detach(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_admin_action(request, 'force_detach')
        self._do_terminate_connection(request, volume, asked)
        self._detach(request, volume, asked.get('attachment_id'))

    def _do_reset_status(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow_admin_action(request, 'reset_status')
        wanted = {
            name: value.lower() for name, value in asked.items() if value
        }
        if wanted.get('status') == 'deleting':
            raise service.Refused(400, 'Cannot reset-state to deleting')
        if wanted.get('status') == 'in-use' and not self._attachments_of(
            volume
        ):
            raise service.Refused(
                400,
                'Cannot reset-state to in-use because volume does not have '
                'any attachments.',
            )
        if wanted.get('migration_status') == 'none':
            volume.migration_status = None
        elif 'migration_status' in wanted:
            volume.migration_status = wanted['migration_status']
        volume.status = wanted.get('status', volume.status)
        volume.attach_status = wanted.get(
            'attach_status', volume.attach_status
        )
        if wanted.get('attach_status') == 'detached':
            for attachment in self._attachments_of(volume):
                self._drop(volume, attachment.id)

    def _do_migrate_volume_completion(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> webob.Response:
        self._allow_admin_action(request, 'migrate_volume_completion')
        new = self._volume(request, asked['new_volume'])
        if not _true(asked.get('error')):
            for attachment in self._attachments_of(volume):
                self._detach(request, volume, attachment.id)
                self._attach(
                    new,
                    attachment.instance_uuid,
                    attachment.host,
                    attachment.mountpoint or '',
                    attachment.attach_mode or 'rw',
                )
        return service.respond(200, {'save_volume_id': new.id})

    def _do_extend(
        self, request: service.Request, volume: Volume, asked: typing.Any
    ) -> None:
        self._allow(request, 'member', 'volume:extend')
        size = int(asked['new_size'])
        if volume.status != 'available' or size <= volume.size:
            raise service.Refused(
                400,
                f'New size for extend must be greater than {volume.size}, '
                'and the volume available.',
            )
        volume.size = size

    # Attachments.

    def _require(
        self, request: service.Request, version: service.Version
    ) -> None:
        if request.version < version:
            raise service.Refused(404, _NOT_FOUND)

    def _attachment(
        self, request: service.Request, attachment_id: str
    ) -> Attachment:
        attachment = self.attachments.get(attachment_id)
        if attachment is None or not (
            request.caller.is_admin
            or request.caller.project_id
            == self.volumes[attachment.volume_id].project_id
        ):
            raise service.Refused(
                404,
                'Volume attachment could not be found with filter: '
                f'attachment_id = {attachment_id}.',
            )
        return attachment

    def _summary(self, attachment: Attachment) -> dict[str, typing.Any]:
        return {
            'id': attachment.id,
            'status': attachment.attach_status,
            'instance': attachment.instance_uuid,
            'volume_id': attachment.volume_id,
        }

    def _view(self, attachment: Attachment) -> dict[str, typing.Any]:
        return {
            **self._summary(attachment),
            'attached_at': attachment.attach_time or '',
            'detached_at': '',
            'attach_mode': attachment.attach_mode,
            'connection_info': attachment.connection_info,
        }

    def _selected_attachments(
        self, request: service.Request
    ) -> list[Attachment]:
        self._require(request, _NEW_ATTACH)
        wanted = request.GET
        caller = request.caller
        every = caller.is_admin and 'all_tenants' in wanted
        attachments = [
            a
            for a in self.attachments.values()
            if (
                every
                or self.volumes[a.volume_id].project_id == caller.project_id
            )
            and wanted.get('volume_id', a.volume_id) == a.volume_id
            and wanted.get('instance_id', a.instance_uuid) == a.instance_uuid
            and wanted.get('attach_status', a.attach_status) == a.attach_status
        ]
        return _page(request, attachments)[0]

    def list_attachments(self, request: service.Request) -> webob.Response:
        """Answer a page of the attachments."""
        return service.respond(
            200,
            {
                'attachments': [
                    self._summary(attachment)
                    for attachment in self._selected_attachments(request)
                ]
            },
        )

    def list_attachment_details(
        self, request: service.Request
    ) -> webob.Response:
        """Answer a page of the attachments with their connections."""
        return service.respond(
            200,
            {
                'attachments': [
                    self._view(attachment)
                    for attachment in self._selected_attachments(request)
                ]
            },
        )

    def show_attachment(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Answer one attachment."""
        self._require(request, _NEW_ATTACH)
        attachment = self._attachment(request, id)
        return service.respond(200, {'attachment': self._view(attachment)})

    def create_attachment(self, request: service.Request) -> webob.Response:
        """Reserve a volume, and connect it where a connector is given."""
        self._require(request, _NEW_ATTACH)
        properties: dict[str, typing.Any] = dict(_CREATE_ATTACHMENT)
        if request.version >= _ATTACH_MODE:
            properties['mode'] = {'type': 'string', 'enum': ['rw', 'ro']}
        schema = _member('attachment', _object(properties, ['volume_uuid']))
        asked = _validated(_body(request), schema)['attachment']
        with self._lock:
            volume = self._volume(request, asked['volume_uuid'])
            self._allow(request, 'member', 'volume:attachment_create')
            attachment = self._reserve(volume, asked.get('instance_uuid'))
            # The answer speaks of the moment before the connection.
            view = self._view(attachment)
            if asked.get('connector'):
                self._connect(attachment, asked['connector'])
                view['connection_info'] = attachment.connection_info
            attachment.attach_mode = asked.get('mode', 'null')
            view['attach_mode'] = attachment.attach_mode
        return service.respond(200, {'attachment': view})

    def update_attachment(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Connect an attachment."""
        self._require(request, _NEW_ATTACH)
        asked = _validated(_body(request), _UPDATE_ATTACHMENT)['attachment']
        with self._lock:
            attachment = self._attachment(request, id)
            if 'host' not in asked['connector']:
                # Cinder names a lock after it.
                raise service.Refused(500, 'Unable to update the attachment.')
            self._allow(request, 'member', 'volume:attachment_update')
            volume = self.volumes[attachment.volume_id]
            if 'error' in volume.status:
                raise service.Refused(
                    409,
                    'Volume attachments can not be updated if the volume is '
                    f'in an error state. The Volume {volume.id} currently '
                    f'has a status of: {volume.status} ',
                )
            others = self._attachments_of(volume)
            if (
                len(others) > 1
                and not volume.multiattach
                and any(other.connection_info for other in others)
            ):
                raise service.Refused(
                    409,
                    'ResourceConflict: duplicate connectors detected on '
                    f'volume {volume.id}',
                )
            view = self._view(attachment)
            self._connect(attachment, asked['connector'])
            view['connection_info'] = attachment.connection_info
        return service.respond(200, {'attachment': view})

    def complete_attachment(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Mark an attachment, and its volume, as attached."""
        body = _body(request)
        name = _action(body)
        if name != 'os-complete':
            raise _no_such_action(name)
        self._require(request, _NEW_ATTACH_COMPLETION)
        _validated(body, _member('os-complete', {}))
        with self._lock:
            attachment = self._attachment(request, id)
            self._allow(request, 'member', 'volume:attachment_complete')
            attachment.attach_status = 'attached'
            volume = self.volumes[attachment.volume_id]
            volume.status, volume.attach_status = 'in-use', 'attached'
        return _empty(204)

    def delete_attachment(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Delete an attachment; answers those that the volume still has."""
        self._require(request, _NEW_ATTACH)
        attachment = self._attachment(request, id)
        self._allow(request, 'member', 'volume:attachment_delete')
        volume = self.volumes[attachment.volume_id]
        self._check_deletion(request, volume, id)
        with self._lock:
            self._drop(volume, id)
        return service.respond(
            200,
            {
                'attachments': [
                    self._summary(other)
                    for other in self._attachments_of(volume)
                ]
            },
        )


def _empty(status: int) -> webob.Response:
    answer = service.respond(status)
    answer.headers['Content-Type'] = 'application/json'
    return answer


def _true(value: object) -> bool:
    return str(value).lower() in ('1', 't', 'true', 'on', 'y', 'yes')


def _unexpected(error: Exception) -> str:
    return (
        'The server has either erred or is incapable of performing the '
        f'requested operation. ({type(error).__name__})'
    )


def _invalid_volume(reason: str) -> service.Refused:
    return service.Refused(400, f'Invalid volume: {reason}')


def _no_such_action(name: str | None) -> service.Refused:
    return service.Refused(
        400,
        f'There is no such action: {name}. Verify the request body and '
        'Content-Type header and try again.',
    )


def _body(request: service.Request) -> typing.Any:
    """Read a body as Cinder does: without a content type there is none."""
    if not request.body or not request.headers.get('Content-Type'):
        return None
    try:
        return json.loads(request.body)
    except ValueError:
        raise service.Refused(400, 'Malformed request body') from None


def _action(body: typing.Any) -> str | None:
    if body is None:
        return None
    if not isinstance(body, dict):
        if isinstance(body, list | str) and len(body) != 1:
            raise service.Refused(400, 'Malformed request body')
        raise service.Refused(404, _NOT_FOUND)
    if len(body) != 1:
        raise service.Refused(400, 'Malformed request body')
    return str(next(iter(body)))


def _validated(body: typing.Any, schema: dict[str, typing.Any]) -> typing.Any:
    if body is None:
        raise service.Refused(500, _unexpected(KeyError('body')))
    return service.validate(body, schema)


_Item = typing.TypeVar('_Item', Volume, Attachment)


def _page(
    request: service.Request, items: list[_Item]
) -> tuple[list[_Item], list[dict[str, str]]]:
    """Cut a list to the page that was asked for.

    :returns: the page, and the link to the next one
    """
    wanted = request.GET
    try:
        limit = min(int(wanted.get('limit', 1000)), 1000)
        offset = int(wanted.get('offset', 0))
    except ValueError as error:
        raise service.Refused(400, str(error)) from None
    if limit < 0 or offset < 0:
        raise service.Refused(400, 'limit param must be an integer')
    if 'marker' in wanted:
        ids = [item.id for item in items]
        if wanted['marker'] not in ids:
            raise service.Refused(
                404, f'Volume {wanted["marker"]} could not be found.'
            )
        items = items[ids.index(wanted['marker']) + 1 :]
    page = items[offset:][:limit]
    if 'limit' not in wanted or len(page) < limit or not page:
        return page, []
    query = wanted.copy()
    query['marker'] = page[-1].id
    href = f'{request.path_url}?{urllib.parse.urlencode(query)}'
    return page, [{'rel': 'next', 'href': href}]
