# SPDX-License-Identifier: Apache-2.0

"""The resource ``/volumes`` of the stub of Cinder."""

from __future__ import annotations

from collections import abc
import typing
import uuid

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import bodies
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records
from attachguard.testing.stub_cinder import schemas

#: The query parameters that a user can filter a list with; an administrator
#: can use any.
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
_DELETABLE = (
    'available',
    'error',
    'error_restoring',
    'error_extending',
    'error_managing',
)


def _matches(
    query: abc.Mapping[str, str], column: str, value: str | None
) -> bool:
    """Whether a value matches the filters for its column.

    ``column=value`` is for the whole value, and ``column~=value`` for a part.
    """
    part = query.get(f'{column}~')
    return query.get(column, value) == value and (
        part is None or (value is not None and part in value)
    )


class VolumeApi:
    """Handles the requests for volumes.

    :param cinder_records: the records of Cinder
    """

    def __init__(self, cinder_records: records.Records) -> None:
        self._records = cinder_records

    def create(self, request: service.Request) -> webob.Response:
        """Create a volume, which is available immediately."""
        arguments = bodies.validate(
            bodies.read(request), schemas.CREATE_VOLUME
        )['volume']
        request.authorize('member', 'volume:create')
        if arguments.get('size') is None:
            raise service.Refused(
                400,
                'Invalid input received: Invalid volume size provided for '
                'create request: None (size argument must be an integer (or '
                'string representation of an integer) and greater than zero).',
            )
        volume = records.Volume(
            request.caller.project_id,
            user_id=request.caller.user_id,
            name=arguments.get('name') or arguments.get('display_name'),
            description=arguments.get('description'),
            size=int(arguments['size']),
            metadata=dict(arguments.get('metadata') or {}),
        )
        self._records.volumes[volume.id] = volume
        view = self._view(request, volume)
        view['status'] = 'creating'
        view['updated_at'] = None
        # Cinder's extensions do not change the response to a create request.
        view = {k: v for k, v in view.items() if not k.startswith('os-vol')}
        return service.respond(202, {'volume': view})

    def index(self, request: service.Request) -> webob.Response:
        """List the ids and names of a page of volumes."""
        volumes, more = self._select(request)
        views = [
            {
                'id': volume.id,
                'name': volume.name,
                'links': self._links(request, volume.id),
            }
            for volume in volumes
        ]
        return service.respond(200, {'volumes': views, **more})

    def detail(self, request: service.Request) -> webob.Response:
        """List a page of volumes with all their properties."""
        volumes, more = self._select(request)
        views = [self._view(request, volume) for volume in volumes]
        return service.respond(200, {'volumes': views, **more})

    def show(self, request: service.Request, id: str) -> webob.Response:
        """Show a volume."""
        volume = self._records.find_volume(request.caller, id)
        request.authorize('reader', 'volume:get')
        return service.respond(200, {'volume': self._view(request, volume)})

    def delete(self, request: service.Request, id: str) -> webob.Response:
        """Delete a volume that has no attachments."""
        with self._records.lock:
            volume = self._records.find_volume(request.caller, id)
            request.authorize('member', 'volume:delete')
            if (
                self._records.attachments_of(volume)
                or volume.status not in _DELETABLE
            ):
                raise errors.invalid_volume(
                    f'Volume status must be {" or ".join(_DELETABLE)} and '
                    'must not be migrating, attached, belong to a group, '
                    'have snapshots, awaiting a transfer, or be '
                    'disassociated from snapshots after volume transfer.'
                )
            del self._records.volumes[id]
        return service.respond(202)

    def _select(
        self, request: service.Request
    ) -> tuple[list[records.Volume], dict[str, typing.Any]]:
        request.authorize('reader', 'volume:get_all')
        query = request.GET
        self._check_filters(request)
        project: str | None = request.caller.project_id
        columns: tuple[str, ...] = ('name', 'status', 'migration_status')
        if request.caller.is_admin:
            columns += ('id', 'attach_status')
        if request.caller.is_admin and 'all_tenants' in query:
            project = query.get('project_id')
        volumes = [
            volume
            for volume in reversed(self._records.volumes.values())
            if project in (None, volume.project_id)
            and (
                request.caller.is_admin
                or not (volume.migration_status or '').startswith('target:')
            )
            and all(
                _matches(query, column, getattr(volume, column))
                for column in columns
            )
        ]
        page, more = bodies.page(request, volumes, 'volumes')
        if request.version >= (3, 45) and bodies.is_true(
            query.get('with_count')
        ):
            more['count'] = len(volumes)
        return page, more

    def _check_filters(self, request: service.Request) -> None:
        known = _FILTERS
        if request.version >= (3, 45):
            known |= {'with_count'}
        unknown = ', '.join(sorted({*request.GET} - known))
        if (
            unknown
            and request.version >= (3, 31)
            and not request.caller.is_admin
        ):
            raise service.Refused(
                400, f'Invalid filters {unknown} are found in query options.'
            )

    def _links(
        self, request: service.Request, id: str
    ) -> list[dict[str, str]]:
        root = request.host_url
        path = f'{request.caller.project_id}/volumes/{id}'
        return [
            {'rel': 'self', 'href': f'{root}/v3/{path}'},
            {'rel': 'bookmark', 'href': f'{root}/{path}'},
        ]

    def _view(
        self, request: service.Request, volume: records.Volume
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
                        attachment.host if caller.has_role('service') else None
                    ),
                    'device': attachment.mountpoint,
                    'attached_at': attachment.attach_time,
                }
                for attachment in self._records.attachments_of(volume)
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
