# SPDX-License-Identifier: Apache-2.0

"""A Nova 34 in memory, one call to Cinder at a time.

What Nova does is a generator, a :data:`Flow`, that stops after each call, so
that anything else can happen in between.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
import dataclasses

from tests.unit.audit.models import cinder

HOSTS = ('compute1', 'compute2')

#: Yields whether Nova's API hides what Cinder has already recorded. It does
#: not stay so for long.
Flow = Generator[bool, None, None]


@dataclasses.dataclass
class Server:
    """A server of Nova's.

    :param volumes: its block devices: the attachment by which it has a volume
    :param busy: whether a flow uses it, or was interrupted doing so
    """

    id: str
    host: str
    status: str = 'ACTIVE'
    task_state: str | None = None
    cell_down: bool = False
    volumes: dict[str, str | None] = dataclasses.field(default_factory=dict)
    busy: bool = False


@dataclasses.dataclass
class Need:
    """What Nova relies on: an attachment of a server that it has.

    :param host: which is connected to the volume for the guest
    :param attached: whether Nova has completed it in Cinder
    """

    volume_id: str
    server: str
    host: str | None = None
    attached: bool = False


class Core:
    """The API, the database, and how flows proceed.

    :param new_id: returns an id
    :param now: returns the time
    """

    def __init__(
        self, new_id: Callable[[], str], now: Callable[[], str]
    ) -> None:
        self.new_id = new_id
        self.now = now
        self.cinder = cinder.Cinder(new_id, now, self.attachment_id)
        self.servers: dict[str, Server] = {}
        #: by attachment
        self.needs: dict[str, Need] = {}
        self.flows: list[tuple[Flow, str]] = []
        #: flows whose result the API does not show yet
        self.hidden: list[Flow] = []
        #: whether such flows may begin
        self.may_hide = True
        self.down = False
        #: how requests of the audit for single servers fail
        self.refusing: str | None = None
        for host in HOSTS:
            self.add_server(host)

    def add_server(self, host: str) -> None:
        """Add a server."""
        server = Server(self.new_id(), host)
        self.servers[server.id] = server

    def attachment_id(self, server_id: str, volume_id: str) -> str:
        """Return by which attachment a server has a volume, as API 2.89."""
        if self.down:
            raise cinder.Refused(503, 'Nova is down')
        server = self.server(server_id)
        if server.cell_down:
            raise cinder.Refused(500, 'The cell does not respond')
        found = server.volumes.get(volume_id)
        if found is None:
            raise cinder.Refused(404, 'Instance is not attached to volume')
        return found

    def server(self, server_id: str) -> Server:
        """Return a server; 404 where there is none."""
        if server_id not in self.servers:
            raise cinder.Refused(404, f'Instance {server_id} not found.')
        return self.servers[server_id]

    def holder(self, volume: cinder.Volume) -> Server | None:
        """Return the server that has a volume."""
        return next(
            (s for s in self.servers.values() if s.volumes.get(volume.id)),
            None,
        )

    def begin(self, flow: Flow, server: Server, finish: bool = False) -> None:
        """Begin a flow, and finish it if wanted."""
        server.busy = True
        self.flows.append((flow, server.id))
        self.step(flow, server.id)
        while finish and (flow, server.id) in self.flows:
            self.step(flow, server.id)

    def step(self, flow: Flow, server_id: str) -> None:
        """Let a flow make its next call."""
        if flow in self.hidden:
            self.hidden.remove(flow)
        try:
            if next(flow):
                self.hidden.append(flow)
        except (StopIteration, cinder.Refused) as exc:
            self.flows.remove((flow, server_id))
            server = self.servers.get(server_id)
            if server is not None:
                server.busy = False
                if isinstance(exc, cinder.Refused) and server.task_state:
                    server.status, server.task_state = 'ERROR', None

    def step_one(self, place: int) -> None:
        """Let one of the flows make its next call, if there is any."""
        if self.flows:
            self.step(*self.flows[place])

    def crash(self) -> None:
        """Interrupt a flow, as a compute service that dies does."""
        for flow, server_id in self.flows:
            if flow not in self.hidden:
                flow.close()
                self.flows.remove((flow, server_id))
                server = self.servers.get(server_id)
                if server is not None:
                    # A server that is being built, or moved, stays so.
                    server.busy = server.task_state is not None
                return

    def wait(self) -> None:
        """Let time pass: nothing stays hidden for long."""
        self.down = False
        for flow, server_id in list(self.flows):
            while flow in self.hidden:
                self.step(flow, server_id)

    def finish(self) -> None:
        """Finish all flows, and repair everything that is down."""
        for flow, server_id in list(self.flows):
            while (flow, server_id) in self.flows:
                self.step(flow, server_id)
        self.down = False
        self.refusing = None
        for server in self.servers.values():
            server.cell_down = False
