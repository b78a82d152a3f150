# SPDX-License-Identifier: Apache-2.0

"""The records of the stub of Nova."""

from __future__ import annotations

import dataclasses
import datetime
import string
import threading
import uuid

from attachguard.testing import service


@dataclasses.dataclass
class Attachment:
    """Nova's record of a volume of a server: a block device mapping.

    ``attachment_id`` is the id of Cinder's attachment. It is ``None`` while
    Nova attaches the volume, and for a volume attached before Queens.
    """

    volume_id: str
    device: str
    attachment_id: str | None = None
    tag: str | None = None
    delete_on_termination: bool = False
    boot_index: int | None = None
    uuid: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))


@dataclasses.dataclass
class Server:
    """A server, with its attachments by volume id.

    ``cell_down`` is true if Nova cannot reach the cell of the server.
    ``deleted`` is true if only administrators see it, in the list of deleted
    servers; its attachments are those that Nova has left there.
    """

    id: str
    name: str
    project_id: str
    user_id: str
    flavor: str = '1'
    image: str = ''
    status: str = 'ACTIVE'
    host: str = 'compute1'
    task_state: str | None = None
    cell_down: bool = False
    deleted: bool = False
    created: datetime.datetime = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc)
    )
    attachments: dict[str, Attachment] = dataclasses.field(
        default_factory=dict
    )

    def next_device(self) -> str:
        """Return the first device name that no attachment uses."""
        used = {attachment.device for attachment in self.attachments.values()}
        return next(
            device
            for letter in string.ascii_lowercase[1:]
            if (device := f'/dev/vd{letter}') not in used
        )


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int


class Records:
    """The servers and flavors, by id.

    :ivar lock: locked while an attachment is added
    """

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.flavors = {'1': Flavor('1', 'm1.tiny', 1, 512, 1)}
        self.lock = threading.Lock()

    def find_server(
        self, request: service.Request, server_id: str, role: str, rule: str
    ) -> Server:
        """Find a server that the caller of a request can access.

        :param request: the request
        :param server_id: id of the server
        :param role: the required role
        :param rule: name of the policy rule, without ``os_compute_api``
        :raises Refused: 404, there is none; 403, the role is missing
        """
        server = self.servers.get(server_id)
        if (
            server is None
            or server.deleted
            or not request.caller.can_access(server.project_id)
        ):
            raise service.Refused(
                404, f'Instance {server_id} could not be found.'
            )
        request.authorize(role, f'os_compute_api:{rule}')
        return server
