# SPDX-License-Identifier: Apache-2.0

"""A model of Nova: its flows, of which every step is a transition of its own.

A flow is a generator that stops after each call to Cinder and after each
change of Nova's own records, in the order of Nova 34: ``nova.compute.api``,
``nova.compute.manager``, ``nova.conductor.manager``,
``nova.virt.block_device``. While it stops, users can call Cinder.

Nova does one thing at a time with a server. What Nova tears by itself, without
any user, is left out:

- A failed build keeps the mapping of a volume whose attachment it deleted.
- A rebuild of a server from before Queens detaches its volumes for a moment.
- Cinder starts a migration, and Nova does something else with the server
  before Cinder tells it.
- When a server is deleted, its attachment is gone before its volume is: here
  both go at once.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any

from tests.model import cinder as cinder_
from tests.model.cinder import Caller
from tests.model.cinder import CinderError
from tests.model.cinder import NOVA

#: A flow stops here for less than the guard's "settle"; elsewhere, for as long
#: as it pleases.
QUICK = 'quick'

HOSTS = ('compute1', 'compute2')

Steps = Generator[str | None, None, None]


class Refused(Exception):
    """Nova refuses a call."""


class DriverError(Exception):
    """The hypervisor fails."""


@dataclasses.dataclass(eq=False)
class Mapping:
    """A block device mapping: Nova has the volume by the attachment."""

    volume_id: str
    attachment_id: str | None = None
    legacy: bool = False
    root: bool = False
    delete_on_termination: bool = False


@dataclasses.dataclass(eq=False)
class Server:
    """A server."""

    id: str
    project: str
    host: str | None = 'compute1'
    vm_state: str = 'active'
    task_state: str | None = None
    mappings: list[Mapping] = dataclasses.field(default_factory=list)
    #: the disks that its guest uses: from which host, and of which project
    guest: dict[cinder_.Disk, tuple[str, str]] = dataclasses.field(
        default_factory=dict
    )
    visible: bool = True
    gone: bool = False
    #: its build has failed
    failed: bool = False
    #: what is not in a cell yet
    requested: list[Mapping] = dataclasses.field(default_factory=list)
    old_host: str | None = None

    @property
    def idle(self) -> bool:
        """Whether Nova shows that it does nothing with it."""
        return self.task_state is None and self.vm_state != 'building'

    def mapping(self, volume_id: str) -> Mapping | None:
        """Its mapping of a volume."""
        for mapping in self.mappings:
            if mapping.volume_id == volume_id:
                return mapping
        return None


@dataclasses.dataclass(eq=False)
class Flow:
    """What Nova is doing, or Cinder where there is no server.

    :param fails_at: which of its uses of the hypervisor fails
    """

    name: str
    server: Server | None
    fails_at: int = 0
    steps: Iterator[Any] = iter(())
    quick: bool = False
    waits: bool = False
    #: something went wrong, and it cleans up
    failed: bool = False
    #: it may fail: a user's call was decided before its last step
    excused: bool = False

    def driver(self) -> None:
        """Use the hypervisor."""
        self.fails_at -= 1
        if self.fails_at == 0:
            self.failed = True
            raise DriverError()


class Nova:
    """Nova.

    :ivar unexpected: calls to Cinder that failed, and would not have failed
        without the users' calls
    """

    def __init__(self) -> None:
        self.cinder = cinder_.Cinder(self.attachment_id, self.new_id)
        self.servers: dict[str, Server] = {}
        self.flows: list[Flow] = []
        self.unexpected: list[str] = []
        self._ids = 0

    def new_id(self) -> str:
        """A new UUID, the same in each run."""
        self._ids += 1
        return f'00000000-0000-4000-8000-{self._ids:012x}'

    def attachment_id(
        self, caller: Caller, server_id: str, volume_id: str
    ) -> str | None:
        """What microversion 2.89 shows to a caller; None for a 404."""
        server = self.shown(server_id)
        if server is None:
            return None
        if not caller.admin and caller.project != server.project:
            return None
        mapping = server.mapping(volume_id)
        return mapping.attachment_id if mapping else None

    def shown(self, server_id: str) -> Server | None:
        """A server, as GET shows it; None for a 404."""
        server = self.servers.get(server_id)
        return server if server and server.visible else None

    # Running flows.

    def start(
        self, name: str, server: Server | None, steps: Any, fails_at: int = 0
    ) -> Flow | None:
        """Start a flow.

        :param steps: a function of the flow that returns its steps
        :returns: the flow, or None if Nova refuses it
        """
        flow = Flow(name, server, fails_at)
        try:
            flow.steps = steps(flow)
        except Refused:
            return None
        self.flows.append(flow)
        return flow if self.step(flow) else None

    def step(self, flow: Flow) -> bool:
        """Do the next step of a flow; False at its end."""
        self.cinder.now += 0.05
        try:
            flow.quick = next(flow.steps) == QUICK
        except (StopIteration, CinderError, Refused):
            self.flows.remove(flow)
            return False
        return True

    def drain(self) -> None:
        """Do everything that is left to do."""
        while self.flows:
            for flow in list(self.flows):
                if flow in self.flows:
                    self.step(flow)

    def flow_of(self, server: Server) -> Flow | None:
        """The flow that has the lock of a server."""
        for flow in self.flows:
            if flow.server is server and not flow.waits:
                return flow
        return None

    def _take(self, flow: Flow, server: Server, *states: str) -> None:
        """Check that Nova accepts the call, and does nothing else."""
        others = [f for f in self.flows if f.server is server and f != flow]
        if others or not server.idle or server.vm_state not in states:
            raise Refused(server.vm_state)

    def _call(self, flow: Flow, name: str, *args: Any) -> Any:
        """Call Cinder."""
        try:
            return getattr(self.cinder, name)(NOVA, *args)
        except CinderError as exc:
            excused = flow.failed or flow.excused
            if not excused and not self._excused(name, args[0]):
                self.unexpected.append(f'{flow.name}: {name}: {exc}')
            flow.failed = True
            raise

    def _excused(self, name: str, named: str) -> bool:
        """Whether a call may fail, because of what users do elsewhere."""
        attachment = self.cinder.attachments.get(named)
        volume_id = attachment.volume_id if attachment else named
        volume = self.cinder.volumes.get(volume_id)
        if volume is None:
            return False
        having = [s for s in self.servers.values() if s.mapping(volume_id)]
        return (
            volume.excused
            or volume.torn
            # Of a multiattach volume, Nova's own flows can collide.
            or (volume.multiattach and len(self.flows) > 1)
            # Cinder does neither while two servers have it.
            or (name in ('delete', 'reimage') and len(having) > 1)
            or not all(item.by_nova for item in self.cinder.of(volume_id))
        )

    def _clean(self, flow: Flow, name: str, *args: Any) -> None:
        """Call Cinder, and ignore what is gone."""
        flow.failed = True
        with contextlib.suppress(CinderError):
            self._call(flow, name, *args)

    def _connect(self, server: Server, mapping: Mapping) -> None:
        volume = self.cinder.volumes[mapping.volume_id]
        server.guest[volume.disk] = (server.host or '', volume.project)

    def _disconnect(self, server: Server, mapping: Mapping) -> None:
        volume = self.cinder.volumes.get(mapping.volume_id)
        if volume is not None:
            server.guest.pop(volume.disk, None)

    # Attaching and detaching.

    def _reserve(self, flow: Flow, volume_id: str, server: Server) -> str:
        """Create the first attachment, which other users can prevent."""
        flow.failed = True
        created: str = self._call(
            flow, 'attachment_create', volume_id, server.id
        )
        flow.failed = False
        return created

    def _check_not_attached(self, volume_id: str, server: Server) -> None:
        for other in self.servers.values():
            if other.mapping(volume_id) and (
                other is server
                or not self.cinder.volumes[volume_id].multiattach
            ):
                raise Refused('already attached')

    def attach(self, flow: Flow, server: Server, volume_id: str) -> Steps:
        """Attach a volume to a server, also to a shelved one."""
        self._take(flow, server, 'active', 'resized', 'shelved_offloaded')
        self._check_not_attached(volume_id, server)
        shelved = server.vm_state == 'shelved_offloaded'
        if shelved and self.cinder.volumes[volume_id].multiattach:
            raise Refused('multiattach')
        mapping = Mapping(volume_id)
        server.mappings.append(mapping)
        yield None
        try:
            attachment_id = self._reserve(flow, volume_id, server)
            yield None
            mapping.attachment_id = attachment_id
            yield None
            if shelved:
                self._call(flow, 'attachment_complete', attachment_id)
                return
        except CinderError:
            server.mappings.remove(mapping)
            return
        try:
            self._call(flow, 'attachment_update', attachment_id, server.host)
            yield None
            flow.driver()
            self._connect(server, mapping)
            yield None
            self._call(flow, 'attachment_complete', attachment_id)
        except (CinderError, DriverError):
            self._disconnect(server, mapping)
            yield None
            self._clean(flow, 'attachment_delete', attachment_id)
            yield None
            server.mappings.remove(mapping)

    def detach(self, flow: Flow, server: Server, mapping: Mapping) -> Steps:
        """Detach a volume."""
        self._take(flow, server, 'active', 'resized', 'shelved_offloaded')
        volume_id = mapping.volume_id
        if server.vm_state == 'shelved_offloaded':
            if mapping.legacy:
                self._call(flow, 'begin_detaching', volume_id)
                yield None
            yield from self._clean_up_locally(flow, server, [mapping])
            return
        self._call(flow, 'begin_detaching', volume_id)
        yield None
        try:
            flow.driver()
        except DriverError:
            self._call(flow, 'roll_detaching', volume_id)
            return
        self._disconnect(server, mapping)
        yield None
        yield from self._delete_attachment(flow, server, mapping)
        server.mappings.remove(mapping)

    def _delete_attachment(
        self, flow: Flow, server: Server, mapping: Mapping
    ) -> Steps:
        if mapping.legacy:
            volume_id = mapping.volume_id
            self._call(flow, 'terminate_connection', volume_id, server.host)
            yield None
            self._call(flow, 'detach', volume_id)
        else:
            self._call(flow, 'attachment_delete', mapping.attachment_id)
        yield None

    def _clean_up_locally(
        self, flow: Flow, server: Server, mappings: list[Mapping]
    ) -> Steps:
        """``_local_cleanup_bdm_volumes``."""
        for mapping in list(mappings):
            with contextlib.suppress(CinderError):
                if mapping.legacy:
                    self._call(flow, 'detach', mapping.volume_id)
                elif mapping.attachment_id:
                    self._call(
                        flow, 'attachment_delete', mapping.attachment_id
                    )
                self._delete_volume(flow, mapping)
            yield None if server.visible else QUICK
            server.mappings.remove(mapping)

    def _delete_volume(self, flow: Flow, mapping: Mapping) -> None:
        """Delete a volume with its server, as an administrator does."""
        if mapping.delete_on_termination:
            with contextlib.suppress(CinderError):
                self._call(flow, 'delete', mapping.volume_id)

    # Building and deleting.

    def build(
        self,
        flow: Flow,
        server: Server,
        volume_id: str | None,
        delete_on_termination: bool,
    ) -> Steps:
        """Build a server from a volume, or from an image in a new volume."""
        mapping = Mapping(
            volume_id or '',
            root=True,
            delete_on_termination=delete_on_termination,
        )
        if volume_id:
            mapping.attachment_id = self._reserve(flow, volume_id, server)
            yield QUICK
        server.requested.append(mapping)
        server.visible = True
        server.task_state = 'scheduling'
        yield None
        server.mappings.append(server.requested.pop())
        try:
            flow.driver()
        except DriverError:
            # No host is found; the attachment stays reserved.
            server.vm_state, server.task_state = 'error', None
            return
        yield None
        server.host, server.task_state = HOSTS[0], None
        yield None
        try:
            if not volume_id:
                yield from self._create_volume(flow, server, mapping)
            attachment_id = mapping.attachment_id
            self._call(flow, 'attachment_update', attachment_id, HOSTS[0])
            yield None
            self._call(flow, 'attachment_complete', attachment_id)
            yield None
            server.task_state = server.task_state or 'spawning'
            flow.driver()
        except (CinderError, DriverError):
            yield from self._abort_build(flow, server, mapping)
            return
        self._connect(server, mapping)
        yield None
        server.vm_state = 'active'
        if server.task_state != 'deleting':
            server.task_state = None

    def _create_volume(
        self, flow: Flow, server: Server, mapping: Mapping
    ) -> Steps:
        volume = self.cinder.create(server.project, from_image=True)
        # Another server can be built from it at the same time.
        volume.excused = True
        yield None
        for _ in self.cinder.downloaded(volume):
            yield None
        if volume.id not in self.cinder.volumes:
            flow.failed = True
            raise CinderError(404, 'not created')
        yield None
        attachment_id = self._reserve(flow, volume.id, server)
        yield None
        mapping.volume_id = volume.id
        mapping.attachment_id = attachment_id

    def _abort_build(
        self, flow: Flow, server: Server, mapping: Mapping
    ) -> Steps:
        yield None
        if mapping.attachment_id:
            self._clean(flow, 'attachment_delete', mapping.attachment_id)
        yield None
        if mapping.delete_on_termination:
            server.mappings.remove(mapping)
            self._delete_volume(flow, mapping)
        yield None
        server.vm_state, server.host, server.failed = 'error', None, True
        if server.task_state != 'deleting':
            server.task_state = None

    def delete(self, flow: Flow, server: Server) -> Steps:
        """Delete a server, whatever it does."""
        if server.task_state == 'deleting' or not server.visible:
            raise Refused('deleting')
        building = server.vm_state == 'building'
        if building and not server.host:
            for other in list(self.flows):
                if other.server is server and other is not flow:
                    self.flows.remove(other)
            if server.requested:
                server.visible = False
                server.mappings.append(server.requested.pop())
        else:
            server.task_state = 'deleting'
        flow.waits = True
        yield None if server.visible else QUICK
        while self.flow_of(server):
            yield None
        flow.waits = False
        if server.host:
            server.guest.clear()
            yield None
            for mapping in server.mappings:
                with contextlib.suppress(CinderError):
                    flow.failed = server.failed
                    yield from self._delete_attachment(flow, server, mapping)
                    self._delete_volume(flow, mapping)
        else:
            flow.failed = server.failed
            yield from self._clean_up_locally(flow, server, server.mappings)
        server.visible, server.gone = False, True
        server.mappings.clear()

    # Moving.

    def _exchange(self, flow: Flow, server: Server) -> Steps:
        """``_terminate_volume_connections``: reserved instead of attached."""
        for mapping in server.mappings:
            if mapping.legacy:
                self._call(
                    flow,
                    'terminate_connection',
                    mapping.volume_id,
                    server.host,
                )
                yield None
                continue
            new = self._call(
                flow, 'attachment_create', mapping.volume_id, server.id
            )
            yield None
            self._call(flow, 'attachment_delete', mapping.attachment_id)
            yield None
            mapping.attachment_id = new

    def _reconnect(self, flow: Flow, server: Server) -> Steps:
        """Connect reserved attachments to the server's host."""
        for mapping in server.mappings:
            named = mapping.attachment_id
            if mapping.legacy:
                self._call(
                    flow,
                    'initialize_connection',
                    mapping.volume_id,
                    server.host,
                )
                yield None
                continue
            self._call(flow, 'attachment_update', named, server.host)
            yield None
            self._call(flow, 'attachment_complete', named)
            yield None

    def _start_guest(self, server: Server) -> None:
        for mapping in server.mappings:
            self._connect(server, mapping)

    def _end_task(self, server: Server, vm_state: str) -> None:
        server.vm_state = vm_state
        if server.task_state != 'deleting':
            server.task_state = None

    def _guarded(self, server: Server, steps: Steps) -> Steps:
        """A flow that fails leaves the server in the state error."""
        try:
            yield from steps
        except CinderError:
            self._end_task(server, 'error')

    def shelve(self, flow: Flow, server: Server) -> Steps:
        """Shelve and offload a server."""
        self._take(flow, server, 'active')
        server.task_state = 'shelving'
        return self._guarded(server, self._shelve(flow, server))

    def _shelve(self, flow: Flow, server: Server) -> Steps:
        yield None
        server.guest.clear()
        yield from self._exchange(flow, server)
        self._end_task(server, 'shelved_offloaded')
        server.host = None

    def unshelve(self, flow: Flow, server: Server) -> Steps:
        """Unshelve a server, on another host."""
        self._take(flow, server, 'shelved_offloaded')
        server.task_state = 'spawning'
        return self._guarded(server, self._unshelve(flow, server))

    def _unshelve(self, flow: Flow, server: Server) -> Steps:
        yield None
        server.host = HOSTS[1]
        yield from self._reconnect(flow, server)
        try:
            flow.driver()
        except DriverError:
            yield from self._exchange(flow, server)
            self._end_task(server, 'shelved_offloaded')
            server.host = None
            return
        self._start_guest(server)
        yield None
        self._end_task(server, 'active')

    def resize(self, flow: Flow, server: Server, revert: bool) -> Steps:
        """Resize or migrate a server while it is off, or revert that."""
        self._take(flow, server, 'resized' if revert else 'active')
        server.task_state = 'resize_migrating'
        return self._guarded(server, self._resize(flow, server, revert))

    def _resize(self, flow: Flow, server: Server, revert: bool) -> Steps:
        yield None
        server.guest.clear()
        yield from self._exchange(flow, server)
        server.host = other_host(server)
        yield None
        yield from self._reconnect(flow, server)
        self._start_guest(server)
        yield None
        self._end_task(server, 'active' if revert else 'resized')

    def confirm(self, flow: Flow, server: Server) -> Steps:
        """Confirm a resize, which changes nothing in Cinder."""
        self._take(flow, server, 'resized')
        yield None
        self._end_task(server, 'active')

    def rebuild(self, flow: Flow, server: Server, evacuate: bool) -> Steps:
        """Rebuild a server; evacuated, on another host."""
        self._take(flow, server, 'active')
        if any(mapping.legacy for mapping in server.mappings):
            raise Refused('legacy')
        server.task_state = 'rebuilding'
        return self._guarded(server, self._rebuild(flow, server, evacuate))

    def _rebuild(self, flow: Flow, server: Server, evacuate: bool) -> Steps:
        if evacuate:
            server.guest.clear()
        yield None
        for mapping in server.mappings:
            old = mapping.attachment_id
            new = self._call(
                flow, 'attachment_create', mapping.volume_id, server.id
            )
            yield None
            self._disconnect(server, mapping)
            if mapping.root and not evacuate:
                mapping.attachment_id = new
                yield None
            self._call(flow, 'attachment_delete', old)
            yield None
            mapping.attachment_id = new
            if mapping.root and not evacuate:
                for _ in self._call(flow, 'reimage', mapping.volume_id):
                    yield None
        server.guest.clear()
        if evacuate:
            server.host = other_host(server)
        yield from self._reconnect(flow, server)
        self._start_guest(server)
        yield None
        self._end_task(server, 'active')

    def live_migrate(self, flow: Flow, server: Server) -> Steps:
        """Migrate a server while it runs."""
        self._take(flow, server, 'active')
        server.task_state = 'migrating'
        return self._guarded(server, self._live_migrate(flow, server))

    def _live_migrate(self, flow: Flow, server: Server) -> Steps:
        yield None
        source, target = server.host, other_host(server)
        old = {m: m.attachment_id for m in server.mappings}
        try:
            for mapping in server.mappings:
                volume_id = mapping.volume_id
                if mapping.legacy:
                    self._call(
                        flow, 'initialize_connection', volume_id, target
                    )
                    yield None
                    continue
                new = self._call(
                    flow, 'attachment_create', volume_id, server.id, target
                )
                yield None
                mapping.attachment_id = new
                yield None
            flow.driver()
            for mapping in server.mappings:
                if not mapping.legacy:
                    named = mapping.attachment_id
                    self._call(flow, 'attachment_complete', named)
                    yield None
            flow.driver()
        except (CinderError, DriverError):
            for mapping in server.mappings:
                if mapping.attachment_id != old[mapping]:
                    new = mapping.attachment_id
                    self._clean(flow, 'attachment_delete', new)
                    yield None
                    mapping.attachment_id = old[mapping]
            self._end_task(server, 'active')
            return
        server.host = target
        server.guest.clear()
        self._start_guest(server)
        yield None
        for mapping in server.mappings:
            if mapping.legacy:
                volume_id = mapping.volume_id
                self._call(flow, 'terminate_connection', volume_id, source)
            else:
                self._call(flow, 'attachment_delete', old[mapping])
            yield None
        self._end_task(server, 'active')

    def reboot(self, flow: Flow, server: Server) -> Steps:
        """Reboot a server, which removes what only one side has."""
        self._take(flow, server, 'active', 'error')
        if not server.host:
            raise Refused('no host')
        server.task_state = 'rebooting'
        yield None
        found = self.cinder.attachments
        for mapping in list(server.mappings):
            named = mapping.attachment_id
            if named and named not in found:
                self.unexpected.append('reboot removes a mapping')
                server.mappings.remove(mapping)
        known = {mapping.attachment_id for mapping in server.mappings}
        legacy = {m.volume_id for m in server.mappings if m.legacy}
        for item in list(found.values()):
            if (
                item.server_id == server.id
                and item.id not in known
                and item.volume_id not in legacy
            ):
                self._clean(flow, 'attachment_delete', item.id)
                yield None
        self._end_task(server, server.vm_state)

    # Swapping.

    def swap(
        self, flow: Flow, server: Server, mapping: Mapping, new_id: str
    ) -> Steps:
        """Exchange a volume for another, as an administrator can.

        That the copy of a volume takes longer than "settle" is not modelled:
        nothing shows then that Nova still works with the new volume.
        """
        self._take(flow, server, 'active', 'resized')
        if mapping.legacy:
            raise Refused('legacy')
        self._check_not_attached(new_id, server)
        self._call(flow, 'begin_detaching', mapping.volume_id)
        yield None
        yield from self._swap(flow, server, mapping, new_id, QUICK)

    def _swap(
        self,
        flow: Flow,
        server: Server,
        mapping: Mapping,
        new_id: str,
        pause: str | None,
    ) -> Steps:
        old_id = mapping.volume_id
        old, new = mapping.attachment_id, None
        try:
            new = self._reserve(flow, new_id, server)
            yield pause
            self._call(flow, 'attachment_update', new, server.host)
            yield pause
            flow.driver()
            self._disconnect(server, mapping)
            volume = self.cinder.volumes[new_id]
            server.guest[volume.disk] = (server.host or '', volume.project)
            yield pause
            self._call(flow, 'attachment_complete', new)
            yield pause
        except (CinderError, DriverError):
            self._clean(flow, 'roll_detaching', old_id)
            yield pause
            if new:
                self._clean(flow, 'attachment_delete', new)
            yield pause
            if pause is None:
                yield from self.cinder.migration_completion(
                    old_id, new_id, True
                )
            return
        self._call(flow, 'attachment_delete', old)
        yield pause
        if pause is None:
            yield from self.cinder.migration_completion(old_id, new_id, False)
            yield pause
        else:
            mapping.volume_id = new_id
        mapping.attachment_id = new

    def migrate_volume(
        self,
        flow: Flow,
        caller: Caller,
        server: Server,
        mapping: Mapping,
        retype: bool,
    ) -> Steps:
        """Retype or migrate a volume that is in use, as Cinder starts it."""
        self._take(flow, server, 'active', 'resized')
        volume_id = mapping.volume_id
        # Of a multiattach volume, Nova could attach it elsewhere meanwhile.
        if (
            mapping.legacy
            or self.cinder.volumes[volume_id].multiattach
            or len(self.cinder.of(volume_id)) != 1
        ):
            raise Refused('legacy, or multiattach')
        target = self.cinder.start_migration(caller, volume_id, retype)
        yield None
        self._call(flow, 'begin_detaching', volume_id)
        yield None
        yield from self._swap(flow, server, mapping, target.id, None)


def other_host(server: Server) -> str:
    """The host that a server is not on."""
    return HOSTS[1] if server.host == HOSTS[0] else HOSTS[0]
