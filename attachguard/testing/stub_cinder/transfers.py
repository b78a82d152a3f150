# SPDX-License-Identifier: Apache-2.0

"""The resource ``/volume-transfers`` of the stub of Cinder.

It is also at ``/os-volume-transfer``.
"""

from __future__ import annotations

import typing
import uuid

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import bodies
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records
from attachguard.testing.stub_cinder import schemas

_WITH_SNAPSHOTS = (3, 55)
_WITH_HISTORY = (3, 57)


class TransferApi:
    """Handles the requests for transfers of volumes to other projects.

    :param cinder_records: the records of Cinder
    """

    def __init__(self, cinder_records: records.Records) -> None:
        self._records = cinder_records

    def create(self, request: service.Request) -> webob.Response:
        """Offer an available volume to another project."""
        with_snapshots = request.version >= _WITH_SNAPSHOTS
        schema = schemas.create_transfer(with_snapshots=with_snapshots)
        arguments = bodies.validate(bodies.read(request), schema)['transfer']
        with self._records.lock:
            volume = self._records.find_volume(
                request.caller, arguments['volume_id']
            )
            request.authorize('member', 'volume:create_transfer')
            if volume.status != 'available':
                raise errors.invalid_volume('status must be available')
            volume.change(status='awaiting-transfer')
            transfer_id = str(uuid.uuid4())
            self._records.transfers[transfer_id] = volume
        path = f'{request.caller.project_id}/os-volume-transfer/{transfer_id}'
        view: dict[str, typing.Any] = {
            'id': transfer_id,
            'created_at': volume.updated_at,
            'name': arguments.get('name'),
            'volume_id': volume.id,
            'auth_key': uuid.uuid4().hex[:16],
            'links': [
                {'rel': 'self', 'href': f'{request.host_url}/v3/{path}'},
                {'rel': 'bookmark', 'href': f'{request.host_url}/{path}'},
            ],
        }
        if with_snapshots:
            view['no_snapshots'] = bodies.is_true(
                arguments.get('no_snapshots')
            )
        if request.version >= _WITH_HISTORY:
            view['destination_project_id'] = None
            view['source_project_id'] = volume.project_id
            view['accepted'] = False
        return service.respond(202, {'transfer': view})

    def delete(self, request: service.Request, id: str) -> webob.Response:
        """Withdraw an offer."""
        with self._records.lock:
            volume = self._records.transfers.get(id)
            if volume is None or not request.caller.can_access(
                volume.project_id
            ):
                raise service.Refused(
                    404, f'Transfer {id} could not be found.'
                )
            request.authorize('member', 'volume:delete_transfer')
            del self._records.transfers[id]
            volume.change(status='available')
        response = service.respond(202)
        response.content_type = 'text/html'
        return response
