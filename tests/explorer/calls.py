# SPDX-License-Identifier: Apache-2.0
"""What a member calls, at any moment."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import requests

from tests.cloud import people

#: How a member connects: ``server`` is as the server's host, and the driver
#: rejects what has no initiator.
CONNECTORS = {
    'own': {'host': 'elsewhere', 'initiator': 'iqn.test:elsewhere'},
    'server': {'host': '', 'initiator': 'iqn.test:server'},
    'rejected': {'host': 'elsewhere'},
}


@dataclasses.dataclass(frozen=True)
class Call:
    """One call, chosen before it is known what there is.

    :param who: name of the member
    :param what: of :data:`CALLS`
    :param pick: which attachment it names, from the youngest on
    :param connector: of :data:`CONNECTORS`
    :param hidden: whether it names the hidden target of a migration
    """

    who: str
    what: str
    pick: int
    connector: str
    hidden: bool

    def __str__(self) -> str:
        hidden = ', hidden target' if self.hidden else ''
        return (
            f'{self.who}: {self.what} (attachment {self.pick}, '
            f'{self.connector} connector{hidden})'
        )


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a call names when it is made: ids, and who takes part in it."""

    caller: people.Caller
    receiver: people.Caller
    volume: str
    attachment: str
    server: str
    image: str
    connector: dict[str, str]

    def send(
        self, method: str, path: str, body: Any = None
    ) -> requests.Response:
        """Make a request about the volume or attachment."""
        ids = {'volume': self.volume, 'attachment': self.attachment}
        return self.caller.send(method, path.format_map(ids), body)

    def act(self, action: str, **fields: Any) -> requests.Response:
        """Call an action of the volume."""
        return self.send('POST', '/volumes/{volume}/action', {action: fields})

    def create(self, **fields: Any) -> requests.Response:
        """Create an attachment."""
        body = {'attachment': {'volume_uuid': self.volume, **fields}}
        return self.send('POST', '/attachments', body)

    def transfer(self) -> requests.Response:
        """Offer the volume, and have the other project accept it."""
        body = {'transfer': {'volume_id': self.volume, 'name': 'explorer'}}
        offered = self.send('POST', '/volume-transfers', body)
        if not offered.ok:
            return offered
        offer = offered.json()['transfer']
        path = f'/volume-transfers/{offer["id"]}'
        key = {'accept': {'auth_key': offer['auth_key']}}
        accepted = self.receiver.send('POST', f'{path}/accept', key)
        if not accepted.ok:
            self.send('DELETE', path)
        return accepted


_ATTACHMENT = '/attachments/{attachment}'

#: By their names: where the guard has one, by its name.
CALLS: dict[str, Callable[[Aim], requests.Response]] = {
    'attachment-create': lambda aim: aim.create(instance_uuid=aim.server),
    'attachment-create:no-server': lambda aim: aim.create(
        connector=aim.connector
    ),
    'attachment-update': lambda aim: aim.send(
        'PUT', _ATTACHMENT, {'attachment': {'connector': aim.connector}}
    ),
    'attachment-complete': lambda aim: aim.send(
        'POST', f'{_ATTACHMENT}/action', {'os-complete': {}}
    ),
    'attachment-delete': lambda aim: aim.send('DELETE', _ATTACHMENT),
    'os-attach': lambda aim: aim.act(
        'os-attach', instance_uuid=aim.server, mountpoint='/dev/vdb'
    ),
    'os-detach': lambda aim: aim.act('os-detach'),
    'os-detach of an attachment': lambda aim: aim.act(
        'os-detach', attachment_id=aim.attachment
    ),
    'os-begin_detaching': lambda aim: aim.act('os-begin_detaching'),
    'os-roll_detaching': lambda aim: aim.act('os-roll_detaching'),
    'os-reserve': lambda aim: aim.act('os-reserve'),
    'os-unreserve': lambda aim: aim.act('os-unreserve'),
    'os-initialize_connection': lambda aim: aim.act(
        'os-initialize_connection', connector=aim.connector
    ),
    'os-terminate_connection': lambda aim: aim.act(
        'os-terminate_connection', connector=aim.connector
    ),
    'os-reimage': lambda aim: aim.act('os-reimage', image_id=aim.image),
    'transfer-create': lambda aim: aim.transfer(),
    'delete': lambda aim: aim.send('DELETE', '/volumes/{volume}'),
    'os-retype': lambda aim: aim.act(
        'os-retype', new_type='two', migration_policy='on-demand'
    ),
}
