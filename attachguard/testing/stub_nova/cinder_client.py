# SPDX-License-Identifier: Apache-2.0

"""Nova's client of Cinder."""

from __future__ import annotations

import contextlib
import typing

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import session as ksa_session

from attachguard.testing import service
from attachguard.testing.stub_nova import errors
from attachguard.testing.stub_nova import records


class CinderClient:
    """Makes the calls to Cinder that ``nova.volume.cinder`` makes.

    Each method raises :class:`~attachguard.testing.service.Refused` if Cinder
    responds with an error.

    :param session: the keystoneauth session
    :param auth: the keystoneauth plugin of the user, with or without Nova's
        service token
    """

    def __init__(self, session: ksa_session.Session, auth: typing.Any) -> None:
        self._adapter = adapter.Adapter(
            session=session,
            auth=auth,
            service_type='volumev3',
            interface='public',
            user_agent='nova',
        )

    def _call(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        version: str = '3.44',
    ) -> typing.Any:
        try:
            response = self._adapter.request(
                path,
                method,
                json=body,
                headers={
                    'Accept': 'application/json',
                    'OpenStack-API-Version': f'volume {version}',
                },
            )
        except ksa_exceptions.HttpError as error:
            status = error.http_status
            if status in (400, 403, 404):
                raise service.Refused(
                    status, f'{_message(error)} (HTTP {status})'
                ) from None
            raise errors.unexpected(type(error).__name__) from error
        except ksa_exceptions.ClientException as error:
            raise errors.unexpected(type(error).__name__) from error
        return response.json() if response.content else None

    def show_volume(self, volume_id: str) -> typing.Any:
        """Show a volume."""
        try:
            return self._call('GET', f'/volumes/{volume_id}', version='3.0')
        except service.Refused as refused:
            if refused.status == 404:
                refused.message = f'Volume {volume_id} could not be found.'
            raise

    def reserve(self, volume_id: str, server_id: str) -> str:
        """Create an attachment.

        :returns: its id
        """
        response = self._call(
            'POST',
            '/attachments',
            {
                'attachment': {
                    'volume_uuid': volume_id,
                    'instance_uuid': server_id,
                    'connector': None,
                }
            },
        )
        attachment_id: str = response['attachment']['id']
        return attachment_id

    def connect(
        self, server: records.Server, attachment: records.Attachment
    ) -> None:
        """Do the part of an attach that runs on the compute host.

        After a failure, the attachment and its record are deleted.
        """
        connector = {
            'host': server.host,
            'ip': '127.0.0.1',
            'initiator': f'iqn.1993-08.org.debian:01:{server.host}',
            'multipath': False,
            'os_type': 'linux',
            'platform': 'x86_64',
            'mountpoint': attachment.device,
        }
        path = f'/attachments/{attachment.attachment_id}'
        try:
            self._call('PUT', path, {'attachment': {'connector': connector}})
            self._call('POST', f'{path}/action', {'os-complete': None})
        except service.Refused:
            with contextlib.suppress(service.Refused):
                self.disconnect(attachment)
            del server.attachments[attachment.volume_id]

    def begin_detaching(self, volume_id: str) -> None:
        """Set the status of a volume to detaching."""
        self._call(
            'POST',
            f'/volumes/{volume_id}/action',
            {'os-begin_detaching': None},
            version='3.0',
        )

    def disconnect(self, attachment: records.Attachment) -> None:
        """Delete an attachment."""
        self._call('DELETE', f'/attachments/{attachment.attachment_id}')

    def delete_volume(self, volume_id: str) -> None:
        """Delete a volume."""
        self._call('DELETE', f'/volumes/{volume_id}', version='3.0')


def _message(error: ksa_exceptions.HttpError) -> str:
    if error.response is not None:
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            (fault,) = error.response.json().values()
            return str(fault.get('message'))
    return str(error.message)
