# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A Cinder 29 and a Nova 34 in memory, one step at a time.

Only what attachments are about, but that as the real ones do it, odd corners
included: who may create a second attachment of a volume, what deleting one
does to the connection of a host and to the export of the whole volume, and
in which moments of its own Nova's word and Cinder's records differ.

What Nova does is a generator that stops after each call it makes, so that
anything else can happen in between.  :class:`World` has both, and everybody
who uses them; :class:`Connection` is what openstacksdk would be to the audit.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
import dataclasses
import datetime
import json
import re
from typing import Any
from typing import NamedTuple
from urllib import parse

from keystoneauth1 import exceptions as ksa_exceptions

#: A project that is not the one of the audit's own credentials.
PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'
ADMIN_PROJECT = '0123456789abcdef0123456789abcdef'
HOSTS = ('compute1', 'compute2')
START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

# cinder.volume.api.API.AVAILABLE_MIGRATION_STATUS
_NOT_MIGRATING = (None, 'deleting', 'error', 'success')
_MOVES = ('SHELVED_OFFLOADED', 'ACTIVE')

#: Where Nova's flow has stopped: whether Nova's API says nothing yet of what
#: Cinder has already been told. It does not stay so for long.
Flow = Generator[bool, None, None]


class Refused(Exception):
    """What a service answers instead of doing it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f'{status} {message}')
        self.status = status
        self.message = message


@dataclasses.dataclass
class Attachment:
    """A row of Cinder's ``volume_attachment``.

    :param connector: the host of the connector; None where there is none, and
        no ``connection_info`` either
    """

    id: str
    volume_id: str
    server: str | None
    status: str = 'reserved'
    host: str | None = None
    device: str | None = None
    attached_at: str | None = None
    connector: str | None = None


@dataclasses.dataclass
class Volume:
    """A row of Cinder's ``volumes``."""

    id: str
    multiattach: bool = False
    status: str = 'available'
    attach_status: str = 'detached'
    migration_status: str | None = None
    updated_at: str = ''
    #: how often its status was set
    changes: int = 0


class Cinder:
    """The API, the database and a backend like LVM with LIO.

    :param new_id: makes ids
    :param now: the time
    :param nova: says by which attachment a server has a volume, as at 2.89
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        now: Callable[[], str],
        nova: Callable[[str, str], str],
    ) -> None:
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Attachment] = {}
        #: hosts that the backend lets at volumes
        self.connections: set[tuple[str, str]] = set()
        self.exports: set[str] = set()
        #: whether the volume service does not answer the API
        self.down = False
        self._new_id = new_id
        self._now = now
        self._nova = nova

    def of(self, volume_id: str) -> list[Attachment]:
        """The attachments of a volume."""
        return [
            item
            for item in self.attachments.values()
            if item.volume_id == volume_id
        ]

    def volume(self, volume_id: str) -> Volume:
        """A volume; 404 where there is none."""
        if volume_id not in self.volumes:
            raise Refused(404, f'Volume {volume_id} could not be found.')
        return self.volumes[volume_id]

    def attachment(self, attachment_id: str) -> Attachment:
        """An attachment; 404 where there is none."""
        if attachment_id not in self.attachments:
            raise Refused(404, 'Volume attachment could not be found')
        return self.attachments[attachment_id]

    def _set(self, volume: Volume, status: str) -> None:
        volume.status = status
        volume.updated_at = self._now()
        volume.changes += 1

    # cinder.volume.api

    def reserve(self, volume_id: str) -> None:
        """os-reserve."""
        volume = self.volume(volume_id)
        expected = ('available', 'in-use')[: 1 + volume.multiattach]
        if volume.status not in expected:
            raise Refused(400, 'Invalid volume: status')
        self._set(volume, 'attaching')

    def unreserve(self, volume_id: str) -> None:
        """os-unreserve."""
        volume = self.volume(volume_id)
        if volume.status == 'attaching':
            self._set(volume, 'in-use' if self.of(volume_id) else 'available')

    def begin_detaching(self, volume_id: str) -> None:
        """os-begin_detaching."""
        volume = self.volume(volume_id)
        if volume.migration_status not in _NOT_MIGRATING:
            return
        if (volume.status, volume.attach_status) != ('in-use', 'attached'):
            raise Refused(400, 'Invalid volume: status')
        self._set(volume, 'detaching')

    def roll_detaching(self, volume_id: str) -> None:
        """os-roll_detaching."""
        volume = self.volume(volume_id)
        if volume.status == 'detaching':
            self._set(volume, 'in-use')

    def attach(
        self,
        volume_id: str,
        server: str | None,
        host: str | None,
        device: str = '/dev/vdb',
    ) -> str | None:
        """os-attach.

        :returns: the attachment, where a new one was made
        """
        volume = self.volume(volume_id)
        self._ask_the_volume_service()
        if any(
            item.server == server if server else item.host == host
            for item in self.of(volume_id)
        ):
            self._set(volume, 'in-use')
            return None
        if (
            volume.status == 'in-use'
            and not volume.multiattach
            and not volume.migration_status
        ):
            raise Refused(400, 'volume is already attached')
        made = Attachment(self._new_id(), volume_id, server)
        self.attachments[made.id] = made
        self._attached(made, host, device, 'attached')
        return made.id

    def create(
        self, volume_id: str, server: str | None, connector: str | None = None
    ) -> str:
        """attachment-create."""
        volume = self.volume(volume_id)
        if 'error' in volume.status:
            raise Refused(400, 'Invalid volume: error')
        expected = ('available', 'downloading', 'in-use')
        if volume.status in expected[: 2 + volume.multiattach]:
            self._set(volume, 'reserved')
        elif (
            not server
            or volume.status not in ('in-use', 'reserved')
            or all(item.server != server for item in self.of(volume_id))
        ):
            raise Refused(400, 'Invalid volume: status')
        made = Attachment(self._new_id(), volume_id, server)
        self.attachments[made.id] = made
        if connector:
            self._connect(made, connector)
        return made.id

    def update(self, attachment_id: str, connector: str) -> None:
        """attachment-update."""
        item = self.attachment(attachment_id)
        volume = self.volume(item.volume_id)
        if 'error' in volume.status:
            raise Refused(409, 'error')
        others = self.of(item.volume_id)
        if (
            len(others) > 1
            and not volume.multiattach
            and any(other.connector for other in others)
        ):
            raise Refused(409, 'duplicate connectors detected')
        self._connect(item, connector)

    def complete(self, attachment_id: str) -> None:
        """os-complete of an attachment."""
        item = self.attachment(attachment_id)
        item.status = 'attached'
        volume = self.volume(item.volume_id)
        volume.attach_status = 'attached'
        self._set(volume, 'in-use')

    def delete(self, attachment_id: str, service: bool = False) -> None:
        """attachment-delete."""
        item = self.attachment(attachment_id)
        volume = self.volume(item.volume_id)
        if not service:
            self._deletion_allowed(item)
        if item.status != 'reserved':
            self._ask_the_volume_service()
            if item.connector:
                self._terminate(volume, item)
        self._finish_detach(volume, attachment_id)

    def detach(
        self,
        volume_id: str,
        attachment_id: str | None = None,
        service: bool = False,
    ) -> None:
        """os-detach."""
        volume = self.volume(volume_id)
        items = self.of(volume_id)
        if not service:
            if attachment_id:
                if attachment_id not in self.attachments:
                    raise Refused(409, 'in use by Nova')
                self._deletion_allowed(self.attachments[attachment_id])
            elif len(items) == 1:
                self._deletion_allowed(items[0])
            elif items:
                raise Refused(409, 'in use by Nova')
        self._ask_the_volume_service()
        if attachment_id is None:
            if len(items) > 1:
                raise Refused(400, 'More than one attachment')
            if not items:
                volume.attach_status = 'detached'
                self._set(volume, 'available')
                return
            attachment_id = items[0].id
        self._remove_export(volume_id)
        self._finish_detach(volume, attachment_id)

    def terminate_connection(self, volume_id: str, host: str) -> None:
        """os-terminate_connection of a user."""
        items = self.of(volume_id)
        if len(items) == 1:
            self._deletion_allowed(items[0])
        elif items:
            raise Refused(409, 'in use by Nova')
        self._ask_the_volume_service()
        self.connections.discard((volume_id, host))
        self.unreserve(volume_id)

    def initialize_connection(self, volume_id: str, host: str) -> None:
        """os-initialize_connection."""
        self.volume(volume_id)
        self._ask_the_volume_service()
        self.exports.add(volume_id)
        self.connections.add((volume_id, host))

    def reset_status(
        self,
        volume_id: str,
        status: str | None = None,
        attach_status: str | None = None,
    ) -> None:
        """os-reset_status."""
        volume = self.volume(volume_id)
        if status == 'deleting':
            raise Refused(400, 'Cannot reset-state to deleting')
        if status == 'in-use' and not self.of(volume_id):
            raise Refused(400, 'Cannot reset-state to in-use')
        if attach_status:
            volume.attach_status = attach_status
        self._set(volume, status or volume.status)
        if attach_status == 'detached':
            for item in self.of(volume_id):
                self._finish_detach(volume, item.id)

    def _deletion_allowed(self, item: Attachment) -> None:
        if not item.server or not item.connector:
            return
        try:
            by = self._nova(item.server, item.volume_id)
        except Refused as exc:
            if exc.status == 404:
                return
            raise Refused(500, str(exc)) from exc
        if by == item.id:
            raise Refused(409, 'in use by Nova')

    # cinder.volume.manager, cinder.volume.drivers.lvm and cinder.db

    def _ask_the_volume_service(self) -> None:
        if self.down:
            raise Refused(500, 'The volume service does not answer')

    def _connect(self, item: Attachment, host: str) -> None:
        self._ask_the_volume_service()
        self.exports.add(item.volume_id)
        self.connections.add((item.volume_id, host))
        item.connector = host
        self._attached(item, host, '/dev/vdb', 'attaching')

    def _attached(
        self, item: Attachment, host: str | None, device: str, status: str
    ) -> None:
        item.status, item.host, item.device = status, host, device
        item.attached_at = self._now()
        volume = self.volume(item.volume_id)
        volume.attach_status = status
        self._set(volume, 'in-use' if status == 'attached' else 'attaching')

    def _terminate(self, volume: Volume, item: Attachment) -> None:
        """Disconnect a host: LVM counts only where there is multiattach."""
        items = self.of(volume.id)
        same = [other for other in items if other.connector == item.connector]
        if volume.multiattach and len(same) > 1:
            return
        self.connections.discard((volume.id, item.connector or ''))
        if len(items) < 2:
            self._remove_export(volume.id)

    def _remove_export(self, volume_id: str) -> None:
        self.exports.discard(volume_id)
        self.connections = {
            pair for pair in self.connections if pair[0] != volume_id
        }

    def _finish_detach(self, volume: Volume, attachment_id: str) -> None:
        self.attachments.pop(attachment_id, None)
        states = sorted(
            item.status
            for item in self.of(volume.id)
            if not item.status.startswith('error')
        )
        volume.attach_status = states[0] if states else 'detached'
        if states or volume.migration_status in (None, 'success', 'error'):
            names = {'attached': 'in-use', 'detached': 'available'}
            self._set(
                volume,
                names.get(volume.attach_status, volume.attach_status),
            )


@dataclasses.dataclass
class Server:
    """A server of Nova's.

    :param volumes: its block devices: the attachment by which it has a volume
    :param busy: whether a flow is at work on it, or has died doing so
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
    """What Nova counts on: an attachment of a server that it has.

    :param host: which is connected to the volume, for the guest's sake
    :param attached: whether it has said so to Cinder
    """

    volume_id: str
    server: str
    host: str | None = None
    attached: bool = False


class Action(NamedTuple):
    """Something that somebody does.

    :param name: of a method of :class:`World`, without its ``do_``
    :param volume: which one it is about, by its place among those there are,
        as ``server`` and ``host``
    """

    name: str
    volume: int = 0
    server: int = 0
    host: int = 0


#: Ids that are none of a server of Nova's.
GONE = 'eeeeeeee-0000-4000-8000-000000000001'
CONTAINER = 'eeeeeeee-0000-4000-8000-000000000002'
NODE = 'eeeeeeee-0000-4000-8000-000000000003'
BRICK = 'eeeeeeee-0000-4000-8000-000000000004'


class World:
    """Both services, and everybody who uses them."""

    def __init__(self) -> None:
        self.clock = START
        self._ids = 0
        self.cinder = Cinder(self.new_id, self.now, self.attachment_id)
        self.servers: dict[str, Server] = {}
        self.needs: dict[str, Need] = {}
        #: attachments of others than Nova, who count on them: what host
        self.foreign: dict[str, str | None] = {}
        self.flows: list[tuple[Flow, str]] = []
        #: flows that have Nova's API say nothing of what they have done
        self.blind: list[Flow] = []
        #: whether Nova may begin what makes it so
        self.may_be_blind = True
        #: volumes that the audit keeps others from
        self.held: set[str] = set()
        self.nova_down = False
        #: what Nova answers to the audit about single servers
        self.refusing: str | None = None
        #: whether an audit is going on
        self.audited = False
        for host in HOSTS:
            self._add_server(host)
        for multiattach in (False, True):
            volume = Volume(self.new_id(), multiattach, updated_at=self.now())
            self.cinder.volumes[volume.id] = volume

    def new_id(self) -> str:
        """An id; no two are the same."""
        self._ids += 1
        return f'{self._ids:08x}-0000-4000-8000-000000000000'

    def now(self) -> str:
        """The time, as Cinder writes it."""
        return self.clock.replace(tzinfo=None).isoformat()

    def attachment_id(self, server_id: str, volume_id: str) -> str:
        """Nova's answer to whether a server has a volume, at 2.89."""
        if self.nova_down:
            raise Refused(503, 'Nova is down')
        server = self.server(server_id)
        if server.cell_down:
            raise Refused(500, 'The cell does not answer')
        found = server.volumes.get(volume_id)
        if found is None:
            raise Refused(404, 'Instance is not attached to volume')
        return found

    def server(self, server_id: str) -> Server:
        """A server; 404 where there is none."""
        if server_id not in self.servers:
            raise Refused(404, f'Instance {server_id} could not be found.')
        return self.servers[server_id]

    def intact(self) -> dict[str, Need | str | None]:
        """What Nova and others count on, and rightly."""
        found: dict[str, Need | str | None] = {}
        for key, need in self.needs.items():
            item = self.cinder.attachments.get(key)
            if (
                item is not None
                and item.volume_id == need.volume_id
                and (item.status == 'attached' or not need.attached)
                and self._connected(need.volume_id, need.host)
            ):
                found[key] = need
        for key, host in self.foreign.items():
            item = self.cinder.attachments.get(key)
            if item is not None and self._connected(item.volume_id, host):
                found[key] = host
        return found

    def _connected(self, volume_id: str, host: str | None) -> bool:
        return host is None or (
            volume_id in self.cinder.exports
            and (volume_id, host) in self.cinder.connections
        )

    # What happens.

    def act(self, action: Action) -> None:
        """Let somebody do something, if it is possible."""
        volumes = list(self.cinder.volumes.values())
        volume = volumes[action.volume % len(volumes)]
        servers = [*self.servers.values()]
        server = servers[action.server % len(servers)] if servers else None
        try:
            getattr(self, f'do_{action.name}')(
                volume, server, HOSTS[action.host % len(HOSTS)]
            )
        except Refused:
            # Whoever it was has the answer, and nothing has changed.
            pass

    def wait(self) -> None:
        """Let time pass: nothing stays for long as only Cinder knows it."""
        self.clock += datetime.timedelta(minutes=20)
        self.nova_down = False
        for flow, server_id in list(self.flows):
            while flow in self.blind:
                self._step(flow, server_id)

    def rest(self) -> None:
        """Let everybody come to an end, and everything work again."""
        for flow, server_id in list(self.flows):
            while (flow, server_id) in self.flows:
                self._step(flow, server_id)
        self.nova_down = self.cinder.down = False
        self.refusing = None
        for server in self.servers.values():
            server.cell_down = False

    def _begin(self, flow: Flow, server: Server, finish: bool) -> None:
        server.busy = True
        self.flows.append((flow, server.id))
        self._step(flow, server.id)
        while finish and (flow, server.id) in self.flows:
            self._step(flow, server.id)

    def _step(self, flow: Flow, server_id: str) -> None:
        if flow in self.blind:
            self.blind.remove(flow)
        try:
            if next(flow):
                self.blind.append(flow)
        except (StopIteration, Refused) as exc:
            self.flows.remove((flow, server_id))
            server = self.servers.get(server_id)
            if server is not None:
                server.busy = False
                if isinstance(exc, Refused) and server.task_state:
                    server.status, server.task_state = 'ERROR', None

    def do_step(self, _v: Volume, _s: Server | None, _h: str) -> None:
        """Nova goes on with what it began first."""
        if self.flows:
            self._step(*self.flows[0])

    def do_step_last(self, _v: Volume, _s: Server | None, _h: str) -> None:
        """Nova goes on with what it began last."""
        if self.flows:
            self._step(*self.flows[-1])

    def do_crash(self, _v: Volume, _s: Server | None, _h: str) -> None:
        """A compute service dies in the middle of something."""
        for flow, server_id in self.flows:
            if flow not in self.blind:
                flow.close()
                self.flows.remove((flow, server_id))
                server = self.servers.get(server_id)
                if server is not None:
                    # An instance that is being built, or moved, stays so.
                    server.busy = server.task_state is not None
                return

    def _add_server(self, host: str, found: str | None = None) -> Server:
        server = Server(found or self.new_id(), host)
        self.servers[server.id] = server
        return server

    # Nova: nova.compute.api, nova.compute.manager, nova.virt.block_device

    def do_nova_attach(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """Nova begins to attach a volume."""
        self._nova_attach(volume, server, finish=False)

    def do_nova_attached(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """Nova attaches a volume."""
        self._nova_attach(volume, server, finish=True)

    def _nova_attach(
        self, volume: Volume, server: Server | None, finish: bool
    ) -> None:
        if (
            server is not None
            and not server.busy
            and server.status in _MOVES
            and volume.id not in server.volumes
        ):
            self._begin(self._attach(volume.id, server), server, finish)

    def _attach(self, volume_id: str, server: Server) -> Flow:
        cinder = self.cinder
        server.volumes[volume_id] = None
        yield False
        try:
            made = cinder.create(volume_id, server.id)
        except Refused:
            del server.volumes[volume_id]
            raise
        # It is Nova's own before Nova can say so.
        self.needs[made] = Need(volume_id, server.id)
        try:
            yield False
        except GeneratorExit:
            # Nobody knows of it any more.
            del self.needs[made]
            raise
        server.volumes[volume_id] = made
        yield False
        try:
            if server.status == 'ACTIVE':
                cinder.update(made, server.host)
                self.needs[made].host = server.host
                yield False
            cinder.complete(made)
            self.needs[made].attached = True
        except Refused:
            del self.needs[made]
            del server.volumes[volume_id]
            cinder.delete(made, service=True)
            raise

    def do_boot(self, volume: Volume, _s: Server | None, host: str) -> None:
        """Nova begins to make a server of a volume."""
        if self.may_be_blind and len(self.servers) < 3:
            server = Server(self.new_id(), host, 'BUILD', 'spawning')
            self._begin(self._boot(volume.id, server), server, finish=False)

    def _boot(self, volume_id: str, server: Server) -> Flow:
        made = self.cinder.create(volume_id, server.id)
        self.needs[made] = need = Need(volume_id, server.id)
        yield True
        server.volumes[volume_id] = made
        self.servers[server.id] = server
        yield False
        try:
            self.cinder.update(made, server.host)
            need.host = server.host
            yield False
            self.cinder.complete(made)
            need.attached = True
        except Refused:
            del self.needs[made]
            server.status, server.task_state = 'ERROR', None
            self.cinder.delete(made, service=True)
            raise
        yield False
        server.status, server.task_state = 'ACTIVE', None

    def _holder(self, volume: Volume) -> Server | None:
        return next(
            (s for s in self.servers.values() if s.volumes.get(volume.id)),
            None,
        )

    def do_nova_detach(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """Nova begins to detach a volume."""
        server = self._holder(volume)
        if server is not None and not server.busy and server.status in _MOVES:
            self._begin(self._detach(volume.id, server), server, finish=False)

    def _detach(self, volume_id: str, server: Server) -> Flow:
        self.cinder.begin_detaching(volume_id)
        yield False
        by = server.volumes[volume_id]
        assert by is not None
        self.needs.pop(by, None)
        yield False
        self.cinder.delete(by, service=True)
        yield False
        server.volumes.pop(volume_id, None)

    def do_nova_delete(
        self, _v: Volume, server: Server | None, host: str
    ) -> None:
        """Nova begins to delete a server; Cinder may not hear of it."""
        if server is not None and not server.busy:
            self._begin(
                self._delete(server, heard=host == HOSTS[0]),
                server,
                finish=False,
            )

    def _delete(self, server: Server, heard: bool) -> Flow:
        server.task_state = 'deleting'
        yield False
        for by in list(server.volumes.values()):
            if by is None:
                continue
            self.needs.pop(by, None)
            yield False
            if heard and by in self.cinder.attachments:
                self.cinder.delete(by, service=True)
                yield False
        del self.servers[server.id]
        if not self.servers:
            self._add_server(HOSTS[0])

    def do_migrate(self, _v: Volume, server: Server | None, host: str) -> None:
        """Nova begins to move a server to the other host."""
        if (
            server is not None
            and not server.busy
            and server.status == 'ACTIVE'
        ):
            there = HOSTS[server.host == HOSTS[0]]
            self._begin(
                self._migrate(server, there, works=host == HOSTS[0]),
                server,
                finish=False,
            )

    def _migrate(self, server: Server, there: str, works: bool) -> Flow:
        server.status, server.task_state = 'MIGRATING', 'migrating'
        old: dict[str, str] = {}
        try:
            for volume_id, by in list(server.volumes.items()):
                if by is None:
                    continue
                made = self.cinder.create(volume_id, server.id, there)
                self.needs[made] = Need(volume_id, server.id, there)
                old[volume_id] = by
                server.volumes[volume_id] = made
                yield False
            for volume_id in old:
                made = server.volumes[volume_id] or ''
                self.cinder.complete(made)
                self.needs[made].attached = True
                yield False
        except Refused:
            works = False
        if works:
            server.host = there
        for volume_id, by in old.items():
            self.needs.pop(
                by if works else server.volumes[volume_id] or '', None
            )
        for volume_id, by in old.items():
            gone = by if works else server.volumes[volume_id] or ''
            if gone in self.cinder.attachments:
                self.cinder.delete(gone, service=True)
            if not works:
                server.volumes[volume_id] = by
            yield False
        server.status, server.task_state = 'ACTIVE', None

    def do_shelve(self, _v: Volume, server: Server | None, host: str) -> None:
        """Nova begins to shelve a server, or to take it off the shelf."""
        if server is None or server.busy:
            return
        if server.status == 'ACTIVE':
            self._begin(self._shelve(server), server, finish=False)
        elif server.status == 'SHELVED_OFFLOADED':
            self._begin(self._unshelve(server, host), server, finish=False)

    def _shelve(self, server: Server) -> Flow:
        server.task_state = 'shelving_offloading'
        for volume_id, by in list(server.volumes.items()):
            if by is None:
                continue
            made = self.cinder.create(volume_id, server.id)
            self.needs[made] = Need(volume_id, server.id)
            yield False
            try:
                if by in self.cinder.attachments:
                    self.cinder.delete(by, service=True)
            except Refused:
                # It goes on with the old one, and forgets the new one.
                del self.needs[made]
                raise
            self.needs.pop(by, None)
            yield False
            server.volumes[volume_id] = made
        yield False
        server.status, server.task_state = 'SHELVED_OFFLOADED', None

    def _unshelve(self, server: Server, host: str) -> Flow:
        server.task_state = 'spawning'
        yield False
        server.host = host
        for by in filter(None, server.volumes.values()):
            if by not in self.cinder.attachments:
                continue
            need = self.needs.setdefault(
                by, Need(self.cinder.attachments[by].volume_id, server.id)
            )
            need.attached = False
            self.cinder.update(by, host)
            need.host = host
            yield False
            self.cinder.complete(by)
            need.attached = True
            yield False
        server.status, server.task_state = 'ACTIVE', None

    def do_retype(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """Cinder begins to move a volume in use to another backend."""
        server = self._holder(volume)
        if (
            server is not None
            and not server.busy
            and server.status == 'ACTIVE'
            and server.volumes.get(volume.id) in self.cinder.attachments
            and volume.migration_status in _NOT_MIGRATING
            and volume.status == 'in-use'
            and not volume.multiattach
        ):
            self._begin(self._retype(volume, server), server, finish=False)

    def _retype(self, volume: Volume, server: Server) -> Flow:
        cinder = self.cinder
        volume.migration_status = 'migrating'
        new = Volume(
            self.new_id(),
            migration_status=f'target:{volume.id}',
            updated_at=self.now(),
        )
        cinder.volumes[new.id] = new
        cinder.begin_detaching(volume.id)
        made = cinder.create(new.id, server.id)
        self.needs[made] = need = Need(new.id, server.id)
        yield False
        cinder.update(made, server.host)
        need.host = server.host
        yield False
        cinder.complete(made)
        need.attached = True
        yield False
        old = server.volumes[volume.id] or ''
        self.needs.pop(old, None)
        if old in cinder.attachments:
            cinder.delete(old, service=True)
        yield False
        # The records swap what they stand for, and then the attachments go to
        # the old name.
        new.status, new.migration_status = 'deleting', 'deleting'
        volume.status, volume.migration_status = 'in-use', 'success'
        volume.attach_status = 'attached'
        yield False
        item = cinder.attachments[made]
        item.volume_id = need.volume_id = volume.id
        cinder.connections.discard((new.id, server.host))
        cinder.connections.add((volume.id, server.host))
        cinder.exports.discard(new.id)
        cinder.exports.add(volume.id)
        yield False
        server.volumes[volume.id] = made
        del cinder.volumes[new.id]

    def do_cell_down(self, _v: Volume, server: Server | None, _h: str) -> None:
        """A cell does not answer any more, or does so again."""
        if server is not None:
            server.cell_down = not server.cell_down

    def do_nova_down(self, _v: Volume, _s: Server | None, _h: str) -> None:
        """Nova does not answer any more, or does so again."""
        self.nova_down = not self.nova_down

    def do_nova_refuses(
        self, volume: Volume, server: Server | None, host: str
    ) -> None:
        """Nova does not tell the audit about single servers any more."""
        self.refusing = {
            HOSTS[0]: '401',
            HOSTS[1]: 'proxy',
        }[host]

    def do_nova_fails(self, _v: Volume, _s: Server | None, host: str) -> None:
        """The same, with other answers."""
        self.refusing = {HOSTS[0]: '403', HOSTS[1]: '500'}[host]

    def do_volume_service(
        self, _v: Volume, _s: Server | None, _h: str
    ) -> None:
        """Cinder's volume service dies, or comes back."""
        self.cinder.down = not self.cinder.down

    # Users, past Nova.

    def do_os_attach(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """A user attaches a volume to a server that does not have it."""
        self.cinder.attach(volume.id, server.id if server else GONE, None)

    def do_os_attach_gone(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """A user attaches a volume to a server that there is not."""
        self.cinder.attach(volume.id, GONE, None)

    def do_forge_reserved(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """A user creates an attachment."""
        self.cinder.create(volume.id, server.id if server else GONE)

    def do_forge_connected(
        self, volume: Volume, server: Server | None, host: str
    ) -> None:
        """A user creates an attachment, with a host's connector."""
        self.cinder.create(volume.id, server.id if server else GONE, host)

    def do_forge(
        self, volume: Volume, server: Server | None, host: str
    ) -> None:
        """A user creates an attachment, with a connector, and completes."""
        server_id = server.id if server else GONE
        self.cinder.complete(self.cinder.create(volume.id, server_id, host))

    def do_forge_gone(
        self, volume: Volume, _s: Server | None, host: str
    ) -> None:
        """The same, with a server that there is not."""
        self.cinder.complete(self.cinder.create(volume.id, GONE, host))

    def do_forge_gone_connected(
        self, volume: Volume, _s: Server | None, host: str
    ) -> None:
        """The same, and it does not complete."""
        self.cinder.create(volume.id, GONE, host)

    def _nobodys(self, volume: Volume) -> Attachment:
        """An attachment of a volume that nobody counts on."""
        for item in reversed(self.cinder.of(volume.id)):
            if item.id not in self.needs and item.id not in self.foreign:
                return item
        raise Refused(404, 'none')

    def do_forged_update(
        self, volume: Volume, _s: Server | None, host: str
    ) -> None:
        """A user connects an attachment."""
        self.cinder.update(self._nobodys(volume).id, host)

    def do_forged_complete(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """A user completes an attachment."""
        self.cinder.complete(self._nobodys(volume).id)

    def do_forged_delete(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """A user deletes an attachment, which takes back a hold."""
        if volume.id in self.held:
            return
        self.cinder.delete(self._nobodys(volume).id)

    def do_reattached(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """A user cleans up, and attaches a volume as it should be."""
        self._clean(volume)
        self._nova_attach(volume, server, finish=True)

    def do_reattaching(
        self, volume: Volume, server: Server | None, _h: str
    ) -> None:
        """The same, and Nova is not done yet."""
        self._clean(volume)
        self._nova_attach(volume, server, finish=False)
        if self.flows:
            self._step(*self.flows[-1])

    def _clean(self, volume: Volume) -> None:
        self.cinder.down = False
        if volume.id in self.held:
            raise Refused(400, 'held')
        if (
            self.audited
            and not self.cinder.of(volume.id)
            and volume.status not in ('available', 'in-use')
        ):
            # There is no hold for the others, and a moment between the last
            # look and the act.
            raise Refused(400, 'just now')
        for item in self.cinder.of(volume.id):
            if item.id not in self.needs and item.id not in self.foreign:
                self.cinder.delete(item.id)
        if not self.cinder.of(volume.id):
            # As a user can: from in-use, by os-attach and then os-detach.
            self.cinder.reset_status(volume.id, 'available', 'detached')

    def do_forge_beside(
        self, volume: Volume, server: Server | None, host: str
    ) -> None:
        """A user has reserved a volume for a server that there is not.

        An operator resets it, Nova attaches it, and then the user connects
        the host for that other server, too.
        """
        self.cinder.create(volume.id, GONE)
        if volume.status == 'reserved' and volume.id not in self.held:
            self.cinder.reset_status(volume.id, 'available')
        self._nova_attach(volume, server, finish=True)
        self.cinder.create(volume.id, GONE, server.host if server else host)

    def do_reserve(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """os-reserve of a user."""
        self.cinder.reserve(volume.id)

    def do_begin_detaching(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """os-begin_detaching of a user."""
        self.cinder.begin_detaching(volume.id)

    def do_unreserve(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """os-unreserve of a user, who does not undo what an audit does."""
        if volume.id not in self.held:
            self.cinder.unreserve(volume.id)

    def do_roll_detaching(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """os-roll_detaching, likewise."""
        if volume.id not in self.held:
            self.cinder.roll_detaching(volume.id)

    # Others than Nova.

    def do_glance(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """Glance reads an image that is a volume."""
        made = self.cinder.create(volume.id, None, 'glance1')
        self.cinder.complete(made)
        self.foreign[made] = 'glance1'

    def do_ironic(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """Ironic gives a volume to a node."""
        self.cinder.reserve(volume.id)
        self.cinder.initialize_connection(volume.id, 'node1')
        made = self.cinder.attach(volume.id, NODE, None, 'ironic_mountpoint')
        if made:
            self.foreign[made] = 'node1'

    def do_zun(self, volume: Volume, _s: Server | None, host: str) -> None:
        """Zun gives a volume to a container on a host of Nova's."""
        if self.audited and volume.multiattach:
            # Nothing keeps it from that in the moment between the last look
            # and the act.
            return
        self.cinder.reserve(volume.id)
        made = self.cinder.attach(volume.id, CONTAINER, host)
        if made:
            self.cinder.initialize_connection(volume.id, host)
            self.foreign[made] = host

    def do_brick(self, volume: Volume, _s: Server | None, _h: str) -> None:
        """The brick client attaches a volume to a host of its own."""
        made = self.cinder.create(volume.id, BRICK, 'elsewhere')
        self.cinder.complete(made)
        self.foreign[made] = 'elsewhere'

    # Operators.

    def do_reset_available(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """An operator resets the status."""
        if volume.id not in self.held:
            self.cinder.reset_status(volume.id, 'available')

    def do_reset_error(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """The same, to error."""
        if volume.id not in self.held:
            self.cinder.reset_status(volume.id, 'error')

    def do_reset_detached(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """An operator drops the attachments."""
        if volume.id not in self.held:
            self.cinder.reset_status(volume.id, 'available', 'detached')

    def do_sql(self, volume: Volume, _s: Server | None, host: str) -> None:
        """An operator, or a crash, leaves a status without attachments."""
        if not self.cinder.of(volume.id) and volume.id not in self.held:
            volume.status = 'in-use' if host == HOSTS[0] else 'reserved'
            volume.attach_status = 'attached'

    def do_sql_attach_status(
        self, volume: Volume, _s: Server | None, _h: str
    ) -> None:
        """Only one of two columns is changed."""
        if volume.status in ('available', 'in-use'):
            volume.attach_status = (
                'attached' if volume.status == 'available' else 'detached'
            )


#: Everything that can happen.
ACTIONS = tuple(
    name.removeprefix('do_') for name in dir(World) if name.startswith('do_')
)


# What the APIs make of it.


class Response:
    """As much of ``requests.Response`` as is looked at."""

    def __init__(self, status: int, content: bytes) -> None:
        self.status_code = status
        self.headers = {'x-openstack-request-id': 'req-1'}
        self.raw = self
        self._content = content

    def read(self, _size: int, decode_content: bool) -> bytes:
        """Read the body."""
        return self._content


def _fault(status: int, message: str) -> Response:
    name = {
        400: 'badRequest',
        401: 'unauthorized',
        403: 'forbidden',
        404: 'itemNotFound',
        409: 'conflictingRequest',
        503: 'serviceUnavailable',
    }.get(status, 'computeFault')
    body = {name: {'code': status, 'message': message}}
    return Response(status, json.dumps(body).encode())


class Fault(NamedTuple):
    """What goes wrong with a request.

    :param kind: a status, ``proxy`` for a 404 that is none of the service's,
        ``timeout``, or ``kill``, which ends the audit itself
    :param late: whether the service has done what was asked
    """

    kind: str
    late: bool


#: Called before a request is performed, with it: what goes wrong with it.
Before = Callable[[str, str, str, Any], Fault | None]


class Adapter:
    """As much of an SDK's proxy of a service as the audit uses."""

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._service = service

    def get_endpoint(self) -> str:
        """Where the service is."""
        return f'https://{self._service}.example.com'

    def request(self, path: str, method: str, **options: Any) -> Response:
        """Ask for something."""
        return self._connection.request(self._service, path, method, options)


class _Config:
    name = 'envvars'

    def __init__(self) -> None:
        self.config = {'auth': {'auth_url': 'https://keystone.example.com'}}

    def get_region_name(self) -> str:
        return 'RegionOne'


class _Session:
    def get_token(self) -> str:
        return 'token'

    def get_project_id(self) -> str:
        return ADMIN_PROJECT


class Connection:
    """openstacksdk, to a :class:`World`.

    :param before: called before each request
    :param after: called after each request that was performed
    """

    def __init__(
        self,
        world: World,
        before: Before,
        after: Callable[[str, str, Any], None],
    ) -> None:
        self.config = _Config()
        self.session = _Session()
        self.block_storage = Adapter(self, 'block_storage')
        self.compute = Adapter(self, 'compute')
        self._world = world
        self._before = before
        self._after = after

    def request(
        self,
        service: str,
        path: str,
        method: str,
        options: dict[str, Any],
    ) -> Response:
        """Perform a request, or let it go wrong."""
        if 'headers' in options:
            raise AssertionError(f'headers of its own: {options["headers"]}')
        body = options.get('json')
        fault = self._before(service, method, path, body)
        refusing = self._world.refusing
        if refusing and re.match('/servers/(?!detail)', path):
            fault = fault or Fault(refusing, False)
        if fault is None or fault.late:
            if method == 'GET':
                answer = self._perform(service, path, method, body, options)
            else:
                answer = self._write(service, path, method, body, options)
            if fault is None:
                return answer
        if fault.kind in ('kill', 'stop'):
            raise KeyboardInterrupt
        if fault.kind == 'timeout':
            raise ksa_exceptions.ConnectTimeout('timed out')
        if fault.kind == 'proxy':
            return Response(404, b'<html>Not Found</html>')
        return _fault(int(fault.kind), 'it went wrong')

    def _write(
        self,
        service: str,
        path: str,
        method: str,
        body: Any,
        options: dict[str, Any],
    ) -> Response:
        answer = self._perform(service, path, method, body, options)
        self._after(method, path, body)
        return answer

    def _perform(
        self,
        service: str,
        path: str,
        method: str,
        body: Any,
        options: dict[str, Any],
    ) -> Response:
        parts = parse.urlsplit(path)
        query = dict(parse.parse_qsl(parts.query))
        version = tuple(map(int, options['microversion'].split('.')))
        found: dict[str, Any] | None
        try:
            if service == 'compute':
                found = _NovaView(self._world, version).get(parts.path, query)
            else:
                found = _CinderView(self._world).call(
                    method, parts.path, query, body
                )
        except Refused as exc:
            return _fault(exc.status, exc.message)
        if found is None:
            return Response(202, b'')
        return Response(200, json.dumps(found).encode())


def _page(
    rows: list[dict[str, Any]], query: dict[str, str], status: int
) -> tuple[list[dict[str, Any]], bool]:
    ids = [row['id'] for row in rows]
    if 'marker' in query:
        if query['marker'] not in ids:
            raise Refused(status, f'marker {query["marker"]} not found')
        rows = rows[ids.index(query['marker']) + 1 :]
    limit = int(query.get('limit', 1000))
    return rows[:limit], bool(rows) and len(rows) >= limit


class _NovaView:
    """The Compute API, of which nothing is asked but reads."""

    def __init__(self, world: World, version: tuple[int, ...]) -> None:
        self._world = world
        self._version = version

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        world = self._world
        if world.nova_down:
            raise Refused(503, 'Nova is down')
        if path == '/os-services':
            return {
                'services': [
                    {
                        'host': host,
                        'status': 'UNKNOWN'
                        if any(
                            s.cell_down
                            for s in world.servers.values()
                            if s.host == host
                        )
                        else 'enabled',
                    }
                    for host in HOSTS
                ]
            }
        if path == '/servers/detail':
            rows, more = _page(
                [self._server(s) for s in world.servers.values()], query, 400
            )
            links = {'servers_links': [{'rel': 'next'}]} if more else {}
            return {'servers': rows, **links}
        _, _, server_id, *rest = path.split('/')
        if not rest:
            return {'server': self._server(world.server(server_id))}
        volume_id = rest[-1]
        if self._version < (2, 89):
            raise AssertionError('no attachment id below 2.89')
        return {
            'volumeAttachment': {
                'volumeId': volume_id,
                'attachment_id': world.attachment_id(server_id, volume_id),
            }
        }

    def _server(self, server: Server) -> dict[str, Any]:
        if server.cell_down:
            return {
                'id': server.id,
                'status': 'UNKNOWN',
                'tenant_id': PROJECT,
            }
        return {
            'id': server.id,
            'status': server.status,
            'tenant_id': PROJECT,
            'OS-EXT-STS:task_state': server.task_state,
            'OS-EXT-SRV-ATTR:host': server.host,
            'os-extended-volumes:volumes_attached': [
                {'id': volume_id} for volume_id in server.volumes
            ],
        }


class _CinderView:
    """The Block Storage API, of an administrator without a service token."""

    def __init__(self, world: World) -> None:
        self._cinder = world.cinder

    def call(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> dict[str, Any] | None:
        cinder = self._cinder
        if method == 'GET':
            return self._get(path, query)
        if method == 'DELETE':
            cinder.delete(path.split('/')[2])
            return {'attachments': []}
        if path == '/attachments':
            asked = body['attachment']
            made = cinder.create(asked['volume_uuid'], asked['instance_uuid'])
            return {'attachment': self._attachment(cinder.attachments[made])}
        found = re.fullmatch(r'/(volumes|attachments)/([^/]+)/action', path)
        assert found
        ((name, asked),) = body.items()
        if name == 'os-complete':
            cinder.complete(found[2])
        else:
            getattr(self, '_' + name.removeprefix('os-'))(found[2], asked)
        return None

    def _reserve(self, volume_id: str, _asked: Any) -> None:
        self._cinder.reserve(volume_id)

    def _unreserve(self, volume_id: str, _asked: Any) -> None:
        self._cinder.unreserve(volume_id)

    def _begin_detaching(self, volume_id: str, _asked: Any) -> None:
        self._cinder.begin_detaching(volume_id)

    def _roll_detaching(self, volume_id: str, _asked: Any) -> None:
        self._cinder.roll_detaching(volume_id)

    def _detach(self, volume_id: str, asked: Any) -> None:
        self._cinder.detach(volume_id, asked.get('attachment_id'))

    def _reset_status(self, volume_id: str, asked: Any) -> None:
        self._cinder.reset_status(
            volume_id, asked.get('status'), asked.get('attach_status')
        )

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        cinder = self._cinder
        _, kind, *rest = path.split('/')
        if kind == 'attachments' and rest:
            item = cinder.attachment(rest[0])
            return {'attachment': self._attachment(item)}
        if kind == 'attachments':
            wanted = [
                item
                for item in cinder.attachments.values()
                if query.get('volume_id', item.volume_id) == item.volume_id
                and query.get('instance_id', item.server) == item.server
            ]
            rows, _more = _page(
                [self._attachment(item) for item in wanted], query, 404
            )
            return {'attachments': rows}
        if rest and rest[0] != 'detail':
            return {'volume': self._volume(cinder.volume(rest[0]))}
        rows, more = _page(list(self._volumes(query)), query, 404)
        links = {'volumes_links': [{'rel': 'next'}]} if more else {}
        return {'volumes': rows, **links}

    def _volumes(self, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        for volume in self._cinder.volumes.values():
            if all(
                query.get(name, getattr(volume, name)) == getattr(volume, name)
                for name in ('id', 'status', 'attach_status')
            ):
                yield self._volume(volume)

    def _volume(self, volume: Volume) -> dict[str, Any]:
        return {
            'id': volume.id,
            'status': volume.status,
            'multiattach': volume.multiattach,
            'migration_status': volume.migration_status,
            'created_at': volume.updated_at,
            'updated_at': volume.updated_at,
            'os-vol-tenant-attr:tenant_id': PROJECT,
            'os-vol-host-attr:host': 'cinder1@lvm#lvm',
            'attachments': [
                {
                    'attachment_id': item.id,
                    'server_id': item.server,
                    'host_name': item.host,
                    'device': item.device,
                    'attached_at': item.attached_at,
                }
                for item in self._cinder.of(volume.id)
                if item.status == 'attached'
            ],
        }

    def _attachment(self, item: Attachment) -> dict[str, Any]:
        return {
            'id': item.id,
            'status': item.status,
            'instance': item.server,
            'volume_id': item.volume_id,
            'connection_info': {'driver_volume_type': 'iscsi'}
            if item.connector
            else {},
        }
