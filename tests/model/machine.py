# SPDX-License-Identifier: Apache-2.0

"""The states that users, Nova and time can bring about, step by step.

Two members, an administrator and Nova take turns. A user's call is decided by
the guard and then performed, and Nova does the next step of any of its flows:
so an order of steps is a race. In some calls Nova does one step between the
decision and the performance.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
import hashlib
from typing import Any
from typing import TypeVar

from hypothesis import strategies
from hypothesis.stateful import initialize
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine

from attachguard.guard import operations
from attachguard.guard.decision import Verdict
from attachguard.guard.request import Request
from tests.model import guard
from tests.model import nova as nova_
from tests.model.cinder import Attachment
from tests.model.cinder import Caller
from tests.model.cinder import CinderError
from tests.model.cinder import NOVA
from tests.model.cinder import Volume

_T = TypeVar('_T')

ALICE, BOB = Caller('alice'), Caller('bob')
ADMIN = Caller('operators', admin=True)

#: What users call, and the guard decides about.
CALLS = (
    *operations.VOLUME_ACTIONS.keys()
    - {'os-force_detach', 'os-reset_status', 'os-migrate_volume_completion'},
    'attachment-create',
    'attachment-update',
    'attachment-complete',
    'attachment-delete',
    'transfer-create',
)
#: What users call beside it.
OTHER_CALLS = ('delete', 'extend', 'accept', 'cancel')
FLOWS = (
    'attach',
    'build',
    'confirm',
    'delete',
    'detach',
    'evacuate',
    'live_migrate',
    'migrate_volume',
    'reboot',
    'rebuild',
    'resize',
    'revert',
    'shelve',
    'swap',
    'unshelve',
)
_FLOWS_OF = {
    'active': tuple(sorted({*FLOWS} - {'confirm', 'revert', 'unshelve'})),
    'shelved_offloaded': ('unshelve', 'attach', 'detach', 'build', 'delete'),
    'resized': ('confirm', 'revert', 'attach', 'detach', 'swap', 'delete'),
}
_HOSTS = (*nova_.HOSTS, 'elsewhere', 'bad')
_NO = (False,) * 9
_AT_REST = ('available', 'reserved', 'attaching', 'in-use')
_MAX_SERVERS = 5


class Choice:
    """Choices of items, all from one number, which hypothesis draws."""

    def __init__(self, number: int) -> None:
        self._number = number

    def of(self, items: Sequence[_T]) -> _T:
        """Choose an item."""
        self._number, index = divmod(self._number, len(items))
        return items[index]


# One turn for each piece of the bytes that hypothesis draws.
_PIECE = 6
_turns = strategies.binary(min_size=_PIECE, max_size=10 * _PIECE)
_QUIET = ('start', 'start', 'start', 'call', 'call', 'other_call', 'wait')
_BUSY = (*_QUIET, 'step', 'step', 'step', 'step', 'finish', 'call', 'call')


class Violation(AssertionError):
    """A state that must not be."""


class Machine(RuleBasedStateMachine):
    """Users, Nova and time.

    :cvar overrides: of the rules
    :cvar calls: what users call
    :cvar flows: what Nova does
    """

    overrides: dict[str, str] = {}
    calls: tuple[str, ...] = tuple(sorted(CALLS))
    other_calls = OTHER_CALLS
    flows = FLOWS
    callers = (ALICE, BOB, ALICE, ADMIN)
    sees_all = True
    pretends = False
    races = True
    #: whether volumes are created from images, and not ready at the start
    from_image = False
    max_volumes = 6
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.nova = nova_.Nova()
        self.cinder = self.nova.cinder
        self.guard = guard.Guard(
            self.nova, self.overrides, self.sees_all, self.pretends
        )
        self.log: list[str] = []
        self._names: dict[str, str] = {}
        self._turns = 0

    # The start.

    @initialize(legacy=strategies.booleans(), forged=strategies.booleans())
    def set_up(self, legacy: bool, forged: bool) -> None:
        """Three servers, some volumes, and what was there before."""
        servers = [self._server('alice') for _ in range(2)]
        servers.append(self._server('bob'))
        volumes = [self._volume('alice') for _ in range(3)]
        volumes.append(self._volume('bob'))
        volumes[0].multiattach = True
        self._run(self.nova.attach, servers[0], volumes[1].id)
        if legacy:
            self._attach_legacy(servers[1], volumes[2])
        elif forged:
            self.cinder.attach(NOVA, volumes[2].id, self.nova.new_id())
            self.cinder.of(volumes[2].id)[0].forged = True
        for volume in volumes if self.from_image else ():
            if volume.status == 'available':
                self._download(volume)
        self.cinder.now += 1000

    def _server(self, project: str) -> nova_.Server:
        server = nova_.Server(self.nova.new_id(), project)
        self.nova.servers[server.id] = server
        self._names[server.id] = f'server{len(self.nova.servers)}'
        return server

    def _volume(self, project: str) -> Volume:
        volume = self.cinder.create(project)
        self._names[volume.id] = f'volume{len(self._names)}'
        return volume

    def _download(self, volume: Volume) -> None:
        volume.status = 'downloading'
        self.nova.start(
            'download', None, lambda _: self.cinder.downloaded(volume)
        )

    def _run(self, steps: Callable[..., nova_.Steps], *args: Any) -> None:
        self.nova.start('', args[0], lambda flow: steps(flow, *args))
        self.nova.drain()

    def _attach_legacy(self, server: nova_.Server, volume: Volume) -> None:
        """As a server from before Queens has it."""
        self.cinder.initialize_connection(NOVA, volume.id, nova_.HOSTS[0])
        self.cinder.attach(NOVA, volume.id, server.id)
        server.mappings.append(nova_.Mapping(volume.id, legacy=True))
        server.guest[volume.disk] = (nova_.HOSTS[0], volume.project)

    def _say(self, *words: Any) -> None:
        Machine.steps += 1
        text = ' '.join(str(word) for word in words if word is not None)
        for id_, name in self._names.items():
            text = text.replace(id_, name)
        self.log.append(text)

    @rule(turns=_turns)
    def turns(self, turns: bytes) -> None:
        """Take some turns."""
        for start in range(0, len(turns) - _PIECE + 1, _PIECE):
            # Evenly spread: hypothesis prefers some bytes, zero above all.
            self._turns += 1
            piece = turns[start : start + _PIECE] + bytes(self._turns)
            digest = hashlib.blake2b(piece, digest_size=8)
            choice = Choice(int.from_bytes(digest.digest(), 'little'))
            name = choice.of(_BUSY if self.nova.flows else _QUIET)
            getattr(self, name)(choice)
            self.guests_have_their_disks()
            self.records_agree()

    # Nova.

    def step(self, choice: Choice) -> None:
        """Do the next step of a flow."""
        self._step(choice.of(self.nova.flows))

    def _step(self, flow: nova_.Flow) -> None:
        self._say('step', flow.name)
        self.nova.step(flow)

    def finish(self, choice: Choice) -> None:
        """A flow ends, while everything else stands still."""
        flow = choice.of(self.nova.flows)
        self._say('finish', flow.name)
        while flow in self.nova.flows and not flow.waits:
            self.nova.step(flow)

    def wait(self, choice: Choice) -> None:
        """Time passes, more than "settle"."""
        if not any(flow.quick for flow in self.nova.flows):
            self._say('wait')
            self.cinder.now += 2 * guard.SETTLE

    def start(self, choice: Choice) -> None:
        """A flow starts, by the wish of the servers' owner or an admin."""
        servers = [s for s in self.nova.servers.values() if s.visible]
        # Who attaches the hidden target of a migration needs no guard to fail.
        volumes = [
            item
            for item in self.cinder.volumes.values()
            if not (item.migration_status or '').startswith('target:')
        ]
        found = choice.of(servers) if servers else None
        state = found.vm_state if found else ''
        names = [n for n in self.flows if n in _FLOWS_OF.get(state, FLOWS)]
        name = choice.of(names or self.flows)
        chosen = choice.of(volumes) if volumes else None
        fails_at, flag = choice.of((0, 0, 1, 2)), choice.of((False, True))
        steps = self._steps(name, found, chosen, flag)
        if steps is None:
            return
        if name == 'build':
            found = self._server(chosen.project if chosen else 'alice')
            found.vm_state, found.host, found.visible = 'building', None, False
        self._say('start', name, found and found.id, chosen and chosen.id)
        running = self.nova.start(
            name,
            found,
            lambda flow: steps(flow, found),
            fails_at,
        )
        if name == 'build' and running is None and found:
            found.gone = True
        self.log[-1] += '' if running else ' (refused)'

    def _steps(
        self,
        name: str,
        server: nova_.Server | None,
        volume: Volume | None,
        flag: bool,
    ) -> Callable[..., nova_.Steps] | None:
        model = self.nova
        if name == 'build':
            named = volume.id if volume and flag else None
            if len(model.servers) >= _MAX_SERVERS or (
                named and any(s.mapping(named) for s in model.servers.values())
            ):
                return None
            return lambda flow, built: model.build(flow, built, named, flag)
        if server is None:
            return None
        if name in ('attach', 'swap') and volume is None:
            return None
        mapping = server.mappings[0] if server.mappings else None
        if flag and len(server.mappings) > 1:
            mapping = server.mappings[1]
        if name in ('detach', 'swap', 'migrate_volume'):
            if mapping is None:
                return None
            if name == 'detach':
                return lambda flow, _: model.detach(flow, server, mapping)
            if name == 'swap':
                return lambda flow, _: model.swap(
                    flow, server, mapping, volume.id if volume else ''
                )
            return lambda flow, _: model.migrate_volume(
                flow, ADMIN, server, mapping, flag
            )
        if name == 'attach':
            return lambda flow, _: model.attach(
                flow, server, volume.id if volume else ''
            )
        arguments = {
            'evacuate': (model.rebuild, True),
            'rebuild': (model.rebuild, False),
            'resize': (model.resize, False),
            'revert': (model.resize, True),
        }.get(name, (getattr(model, name, None),))
        method, *rest = arguments
        return lambda flow, _: method(flow, server, *rest)  # type: ignore

    # Users.

    def call(self, choice: Choice) -> None:
        """A user's call: the guard decides, and Cinder performs it."""
        caller = choice.of(self.callers)
        name = choice.of(self.calls)
        request, perform = self._request(name, choice)
        if request is None:
            return
        if name == 'os-attach' and caller.admin and self.nova.flows:
            # Only who restores records does this, and while Nova does nothing.
            return
        volume = self.cinder.volumes.get(request.volume_id or '')
        if caller.admin and volume and not self.cinder.of(volume.id):
            if volume.status in ('in-use', 'detaching'):
                # In use by nothing: the rules leave it to administrators.
                return
        decision = self.guard.decide(caller, request)
        self._say(
            caller.project,
            name,
            request.volume_id or request.attachment_id,
            request.server_id or request.host,
            decision.reason.value,
        )
        if decision.verdict is not Verdict.ALLOWED:
            self._check_may_refuse(caller, request)
            return
        between = self.races and self.nova.flows and choice.of((True, *_NO))
        if between:
            self._excuse()
            self._step(choice.of(self.nova.flows))
        before = self._consumers()
        try:
            steps = perform(caller)
        except CinderError as exc:
            self.log[-1] += f' ({exc})'
            return
        if steps is not None:
            self.nova.start(name, None, lambda flow: steps)
        self.log[-1] += ' (done)'
        if self._consumers() != before and not between:
            raise self._violation('a live volume has a second consumer')

    def _request(
        self, name: str, choice: Choice
    ) -> tuple[Request | None, Callable[[Caller], Any]]:
        model = self.cinder
        volumes, attachments = list(model.volumes), list(model.attachments)
        servers, host = [*self.nova.servers], choice.of(_HOSTS)
        operation = operations.OPERATIONS[name]
        if operation.server_source is operations.ServerSource.ATTACHMENT:
            if not attachments:
                return None, id
            named = choice.of(attachments)
            arguments = (host,) if name == 'attachment-update' else ()
            method = name.replace('-', '_')
            return Request(operation, '', attachment_id=named), (
                lambda caller: getattr(model, method)(
                    caller, named, *arguments
                )
            )
        if not volumes:
            return None, id
        volume_id = choice.of(volumes)
        request = functools.partial(Request, operation, '', volume_id)
        server_id = choice.of([*servers, None])
        if name == 'attachment-create':
            connector = choice.of((None, host))
            return request(
                server_id=server_id, has_connector=connector is not None
            ), (
                lambda caller: (
                    model.attachment_create(
                        caller, volume_id, server_id, connector
                    )
                    and None
                )
            )
        if name == 'os-attach':
            return request(server_id=server_id), (
                lambda caller: model.attach(caller, volume_id, server_id)
            )
        if name == 'os-detach':
            named_ = choice.of([None, *attachments, None])
            return request(named_), (
                lambda caller: model.detach(caller, volume_id, named_)
            )
        if name == 'transfer-create':
            return request(), lambda who: model.transfer_create(who, volume_id)
        method = name.removeprefix('os-')
        connected = name.endswith('_connection')
        return request(host=host if connected else None), (
            lambda caller: getattr(model, method)(
                caller, volume_id, *((host,) if connected else ())
            )
        )

    def other_call(self, choice: Choice) -> None:
        """A user's call that is not guarded."""
        if not self.other_calls:
            return
        caller = choice.of(self.callers)
        name = choice.of(self.other_calls)
        volumes = list(self.cinder.volumes.values())
        if len(volumes) < self.max_volumes:
            created = self._volume(caller.project)
            if choice.of((False, True)):
                self._download(created)
            return
        chosen = choice.of(volumes)
        self._say(caller.project, name, chosen.id)
        try:
            if name == 'delete' and not chosen.torn:
                self.cinder.delete(caller, chosen.id)
            elif name == 'extend':
                steps = self.cinder.extend(caller, chosen.id)
                self.nova.start('extend', None, lambda flow: steps)
            elif chosen.id in self.cinder.transfers:
                project = caller.project if name == 'accept' else None
                self.cinder.transfer_end(chosen.id, project)
        except CinderError as exc:
            self.log[-1] += f' ({exc})'

    def _excuse(self) -> None:
        """Nova may fail because of a call that was decided a step before."""
        for flow in self.nova.flows:
            flow.excused = True

    # What must hold.

    def _violation(self, what: str) -> Violation:
        self._say(what)
        return Violation('\n'.join(self.log[-40:]))

    def _live(self) -> set[str]:
        """The volumes that guests use."""
        disks = {d for s in self.nova.servers.values() for d in s.guest}
        volumes = self.cinder.volumes.values()
        return {item.id for item in volumes if item.disk in disks}

    def _consumers(self) -> set[str]:
        """The connected attachments of users, of volumes that guests use."""
        live = self._live()
        return {
            item.id
            for item in self.cinder.attachments.values()
            if item.connected and not item.by_nova and item.volume_id in live
        }

    def _check_may_refuse(self, caller: Caller, request: Request) -> None:
        """Check that a refused call is no harmless one of an owner."""
        model = self.cinder
        if request.attachment_id and request.volume_id is None:
            attachment = model.attachments[request.attachment_id]
            volume = model.volumes[attachment.volume_id]
            if attachment.server_id:
                return
        else:
            volume = model.volumes[request.volume_id or '']
            if request.attachment_id or request.server_id:
                return
        found = model.of(volume.id)
        name = request.operation.name
        if (
            caller.project != volume.project
            or any(item.server_id for item in found)
            or volume.migration_status is not None
            or volume.status not in _AT_REST
            or name in ('os-attach', 'os-reimage')
            or (name == 'transfer-create' and found)
            or (volume.status == 'in-use' and not found)
        ):
            return
        raise self._violation(f'refused: {name}')

    def guests_have_their_disks(self) -> None:
        """A disk that a guest uses is there, exported, and its project's."""
        if self.nova.unexpected:
            raise self._violation(f'Nova fails: {self.nova.unexpected}')
        owners = {v.disk: v for v in self.cinder.volumes.values()}
        for server in self.nova.servers.values():
            for disk, (host, project) in server.guest.items():
                if not disk.exists:
                    raise self._violation('a live volume is deleted')
                if host not in disk.access:
                    raise self._violation('a live volume is not exported')
                if owners[disk].project != project:
                    raise self._violation('a live volume is transferred')

    def records_agree(self) -> None:
        """When Nova does nothing, both sides have the same."""
        if self.nova.flows:
            return
        for volume in self.cinder.volumes.values():
            self._check_volume(volume)
        for server in self.nova.servers.values():
            for mapping in server.mappings:
                if mapping.volume_id and not server.failed:
                    self._check_mapping(server, mapping)

    def _check_volume(self, volume: Volume) -> None:
        found = self.cinder.of(volume.id)
        if volume.status in ('in-use', 'detaching') and not found:
            raise self._violation(f'{volume} is in use by nothing')
        if volume.status == 'available' and found and not volume.torn:
            raise self._violation(f'{volume} is available and attached')
        for item in found:
            if item.server_id is None or item.forged:
                continue
            server = self.nova.servers.get(item.server_id)
            mapping = server and server.mapping(volume.id)
            if not mapping or mapping.attachment_id not in (None, item.id):
                raise self._violation(f'only Cinder has {item}')

    def _check_mapping(
        self, server: nova_.Server, mapping: nova_.Mapping
    ) -> None:
        volume = self.cinder.volumes.get(mapping.volume_id)
        found: list[Attachment] = self.cinder.of(mapping.volume_id)
        own = [item for item in found if item.server_id == server.id]
        wanted = {
            'shelved_offloaded': ('reserved', 'attached'),
            'error': ('reserved', 'attached'),
        }.get(server.vm_state, ('attached',))
        if (
            volume is None
            or len(own) != 1
            or mapping.attachment_id not in (None, own[0].id)
            or own[0].status not in wanted
        ):
            raise self._violation(f'only Nova has {mapping}: {own}')
        status = {'attached': 'in-use', 'reserved': 'reserved'}
        if volume.status != status[own[0].status] and not (
            volume.excused or volume.multiattach or volume.torn
        ):
            raise self._violation(f'a wrong status: {volume}')
        volume.excused = False

    def teardown(self) -> None:
        """The end: Nova ends what it does, and owners can clean up."""
        self.nova.drain()
        self.guests_have_their_disks()
        self.records_agree()
        self.cinder.now += 2 * guard.SETTLE
        for item in list(self.cinder.attachments.values()):
            if item.forged:
                self._check_clean_up(item)

    def _check_clean_up(self, item: Attachment) -> None:
        """Check that the owner can clear what is forged, in two ways."""
        owner = Caller(self.cinder.volumes[item.volume_id].project)
        operation = operations.OPERATIONS['attachment-delete']
        delete = Request(operation, '', attachment_id=item.id)
        detach = Request(
            operations.OPERATIONS['os-detach'], '', item.volume_id
        )
        for request in (delete, detach):
            decision = self.guard.decide(owner, request)
            if decision.verdict is not Verdict.ALLOWED:
                raise self._violation(f'not cleared: {item} {decision}')


def variant(**attributes: Any) -> type[Machine]:
    """A machine with other attributes."""
    return type('Variant', (Machine,), attributes)
