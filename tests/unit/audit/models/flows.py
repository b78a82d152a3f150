# SPDX-License-Identifier: Apache-2.0

"""What Nova does with volumes.

As nova.compute.api, nova.compute.manager and nova.virt.block_device do it.
Each flow yields after each call, True while Nova's API hides its result.
"""

from __future__ import annotations

from tests.unit.audit.models import cinder
from tests.unit.audit.models import nova
from tests.unit.audit.models.nova import Flow
from tests.unit.audit.models.nova import Need
from tests.unit.audit.models.nova import Server

_ATTACHABLE = ('SHELVED_OFFLOADED', 'ACTIVE')


class Nova(nova.Core):
    """Nova, with what it does."""

    def attach(
        self,
        volume: cinder.Volume,
        server: Server | None,
        finish: bool = False,
    ) -> None:
        """Attach a volume."""
        if (
            server is not None
            and not server.busy
            and server.status in _ATTACHABLE
            and volume.id not in server.volumes
        ):
            self.begin(self._attach(volume.id, server), server, finish)

    def _attach(self, volume_id: str, server: Server) -> Flow:
        server.volumes[volume_id] = None
        yield False
        try:
            made = self.cinder.create(volume_id, server.id)
        except cinder.Refused:
            del server.volumes[volume_id]
            raise
        # Nova relies on it before its API shows it.
        self.needs[made] = Need(volume_id, server.id)
        try:
            yield False
        except GeneratorExit:
            # It is forgotten.
            del self.needs[made]
            raise
        server.volumes[volume_id] = made
        yield False
        try:
            if server.status == 'ACTIVE':
                self.cinder.update(made, server.host)
                self.needs[made].host = server.host
                yield False
            self.cinder.complete(made)
            self.needs[made].attached = True
        except cinder.Refused:
            del self.needs[made]
            del server.volumes[volume_id]
            self.cinder.delete(made, service=True)
            raise

    def boot(self, volume: cinder.Volume, host: str) -> None:
        """Boot a server from a volume."""
        if self.may_hide and len(self.servers) < 3:
            server = Server(self.new_id(), host, 'BUILD', 'spawning')
            self.begin(self._boot(volume.id, server), server)

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
        except cinder.Refused:
            del self.needs[made]
            server.status, server.task_state = 'ERROR', None
            self.cinder.delete(made, service=True)
            raise
        yield False
        server.status, server.task_state = 'ACTIVE', None

    def detach(self, volume: cinder.Volume) -> None:
        """Detach a volume."""
        server = self.holder(volume)
        if (
            server is not None
            and not server.busy
            and server.status in _ATTACHABLE
        ):
            self.begin(self._detach(volume.id, server), server)

    def _detach(self, volume_id: str, server: Server) -> Flow:
        self.cinder.begin_detaching(volume_id)
        yield False
        by = server.volumes[volume_id] or ''
        self.needs.pop(by, None)
        yield False
        self.cinder.delete(by, service=True)
        yield False
        server.volumes.pop(volume_id, None)

    def delete(self, server: Server | None, cinder_responds: bool) -> None:
        """Delete a server."""
        if server is not None and not server.busy:
            self.begin(self._delete(server, cinder_responds), server)

    def _delete(self, server: Server, cinder_responds: bool) -> Flow:
        server.task_state = 'deleting'
        yield False
        for by in filter(None, list(server.volumes.values())):
            self.needs.pop(by, None)
            yield False
            if cinder_responds and by in self.cinder.attachments:
                self.cinder.delete(by, service=True)
                yield False
        del self.servers[server.id]
        if not self.servers:
            self.add_server(nova.HOSTS[0])

    def migrate(self, server: Server | None, works: bool) -> None:
        """Live-migrate a server to the other host."""
        if (
            server is not None
            and not server.busy
            and server.status == 'ACTIVE'
        ):
            self.begin(self._migrate(server, works), server)

    def _migrate(self, server: Server, works: bool) -> Flow:
        there = nova.HOSTS[server.host == nova.HOSTS[0]]
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
        except cinder.Refused:
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

    def shelve(self, server: Server | None, host: str) -> None:
        """Shelve a server, or unshelve it."""
        if server is None or server.busy:
            return
        if server.status == 'ACTIVE':
            self.begin(self._shelve(server), server)
        elif server.status == 'SHELVED_OFFLOADED':
            self.begin(self._unshelve(server, host), server)

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
            except cinder.Refused:
                # It keeps the old one, and forgets the new one.
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
            volume_id = self.cinder.attachments[by].volume_id
            need = self.needs.setdefault(by, Need(volume_id, server.id))
            need.attached = False
            self.cinder.update(by, host)
            need.host = host
            yield False
            self.cinder.complete(by)
            need.attached = True
            yield False
        server.status, server.task_state = 'ACTIVE', None

    def retype(self, volume: cinder.Volume) -> None:
        """Let Cinder move a volume in use to another backend."""
        server = self.holder(volume)
        if (
            server is not None
            and not server.busy
            and server.status == 'ACTIVE'
            and server.volumes.get(volume.id) in self.cinder.attachments
            and volume.migration_status in cinder.NOT_MIGRATING
            and volume.status == 'in-use'
            and not volume.multiattach
        ):
            self.begin(self._retype(volume, server), server)

    def _retype(self, volume: cinder.Volume, server: Server) -> Flow:
        volume.migration_status = 'migrating'
        new = cinder.Volume(
            self.new_id(),
            migration_status=f'target:{volume.id}',
            updated_at=self.now(),
        )
        self.cinder.volumes[new.id] = new
        self.cinder.begin_detaching(volume.id)
        made = self.cinder.create(new.id, server.id)
        self.needs[made] = need = Need(new.id, server.id)
        yield False
        self.cinder.update(made, server.host)
        need.host = server.host
        yield False
        self.cinder.complete(made)
        need.attached = True
        yield False
        old = server.volumes[volume.id] or ''
        self.needs.pop(old, None)
        if old in self.cinder.attachments:
            self.cinder.delete(old, service=True)
        yield False
        # The two records swap their ids, and then the attachments follow.
        new.status, new.migration_status = 'deleting', 'deleting'
        volume.status, volume.migration_status = 'in-use', 'success'
        volume.attach_status = 'attached'
        yield False
        item = self.cinder.attachments[made]
        item.volume_id = need.volume_id = volume.id
        self.cinder.connections.discard((new.id, server.host))
        self.cinder.connections.add((volume.id, server.host))
        self.cinder.exports.discard(new.id)
        self.cinder.exports.add(volume.id)
        yield False
        server.volumes[volume.id] = made
        del self.cinder.volumes[new.id]
