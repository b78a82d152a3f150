# SPDX-License-Identifier: Apache-2.0

"""Cinder's check before an attachment is deleted (CVE-2023-2088)."""

from __future__ import annotations

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import session as ksa_session

from attachguard.testing import service
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records


class DeletionCheck:
    """Queries Nova before it lets a user delete an attachment.

    :param cinder_records: the records of Cinder
    """

    def __init__(self, cinder_records: records.Records) -> None:
        self._records = cinder_records
        self._session = ksa_session.Session(timeout=60)

    def run(
        self,
        request: service.Request,
        volume: records.Volume,
        attachment_id: str | None,
    ) -> None:
        """Allow the deletion, or refuse it.

        :param request: the request that deletes the attachment
        :param volume: the volume
        :param attachment_id: id of the attachment; ``None`` for the only one
        :raises Refused: 409, Nova uses the attachment; or Nova's error
        """
        if 'service' in request.caller.service_roles:
            return
        attachments = self._records.attachments_of(volume)
        if attachment_id is None:
            if not attachments:
                return
            if len(attachments) == 1:
                attachment_id = attachments[0].id
        attachment = self._records.attachments.get(attachment_id or '')
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
            if attachment.id != self._query_nova(
                request, server_id, volume.id
            ):
                return
        raise service.Refused(
            409,
            'ConflictNovaUsingAttachment: Detach volume from instance '
            f'{server_id} using the Compute API',
        )

    def _query_nova(
        self, request: service.Request, server_id: str, volume_id: str
    ) -> str | None:
        nova = adapter.Adapter(
            session=self._session,
            auth=request.environ.get('keystone.token_auth'),
            service_type='compute',
            default_microversion='2.89',
        )
        try:
            response = nova.get(
                f'/servers/{server_id}/os-volume_attachments/{volume_id}'
            )
        except ksa_exceptions.NotFound:
            return None
        except ksa_exceptions.HttpError as error:
            raise service.Refused(
                error.http_status, str(error.message)
            ) from error
        except ksa_exceptions.ClientException as error:
            raise errors.unexpected(type(error).__name__) from error
        attachment_id: str = response.json()['volumeAttachment'][
            'attachment_id'
        ]
        return attachment_id
