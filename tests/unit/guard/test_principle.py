# SPDX-License-Identifier: Apache-2.0
"""The decision, over the product of what its facts can be.

A world is what is true of one volume: Cinder's records, and Nova's, also what
the guard cannot see of them. The guard decides on the facts. The calls that it
allows are performed on the world, as Cinder performs them, and must not break
the principle: an ordinary caller's call passes only if, after it, the records
of Cinder and Nova agree.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import functools
import inspect
import itertools
from typing import Any

from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.guard import cinder
from attachguard.guard import decision
from attachguard.guard import default_rules
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import operations
from attachguard.guard import policy
from attachguard.guard import request
from attachguard.guard.decision import Verdict
from attachguard.nova import client as nova_client
from tests.unit import fakes

S1, S2 = fakes.SERVER, fakes.OTHER_SERVER
A, B = fakes.ATTACHMENT, 'cccccccc-2222-4222-8222-cccccccccccc'
#: an attachment that Cinder does not have
X = fakes.UNKNOWN_ID
#: by which a server from before the Queens release has the volume
NO_ID = ''

OLD = datetime.datetime(2026, 1, 1)
YOUNG = datetime.datetime(2999, 1, 1)


@dataclasses.dataclass(frozen=True)
class Server:
    """What is true of a server.

    :param state: gone, unseen (there is one, and Nova responds with 404),
        busy or idle
    :param by: the attachment by which Nova has the volume on it, or None
    :param making: Nova makes an attachment, and has not saved it
    """

    state: str = 'idle'
    by: str | None = None
    making: bool = False


@dataclasses.dataclass(frozen=True)
class World:
    """What is true of a volume.

    :param export: what its export is for
    :param sees: whether Nova shows the servers of every project
    """

    status: str = 'available'
    migration: str | None = None
    attachments: tuple[cinder.Attachment, ...] = ()
    servers: Mapping[str, Server] = dataclasses.field(default_factory=dict)
    young: bool = False
    sees: bool = True
    owner: str = fakes.PROJECT
    export: str = 'as before'
    #: Cinder makes a backup, though the status does not say so
    backup: bool = False

    def server(self, server_id: str | None) -> Server:
        return self.servers.get(server_id or '', Server('gone'))

    @property
    def is_worked_on(self) -> bool:
        """Cinder writes the volume's status, or deletes it, at an end."""
        return self.migration in ('migrating', 'target:x') or self.status in (
            'awaiting-transfer',
            'backing-up',
            'creating',
            'deleting',
            'retyping',
        )

    @property
    def is_live(self) -> bool:
        """A server has the volume, or may have it in a moment.

        One that no attachment names cannot be found: that is for the audit.
        """
        return any(
            self.may_use(item) or self.server(item.server_id).by is not None
            for item in self.attachments
        )

    def may_use(self, attachment: cinder.Attachment) -> bool:
        server = self.server(attachment.server_id)
        return (
            server.by in (attachment.id, NO_ID)
            or server.state in ('busy', 'unseen')
            or server.making
        )

    @property
    def agrees(self) -> bool:
        """Cinder's and Nova's records agree, with nothing in progress."""
        if self.is_worked_on or any(
            server.making or server.state in ('busy', 'unseen')
            for server in self.servers.values()
        ):
            return False
        for server_id in self.servers.keys() | {
            item.server_id for item in self.attachments if item.server_id
        }:
            by = self.server(server_id).by
            has = [i for i in self.attachments if i.server_id == server_id]
            if (by is not None) != (len(has) == 1):
                return False
            if has and (by not in (has[0].id, NO_ID)):
                return False
            if has and (has[0].status, self.status) != ('attached', 'in-use'):
                return False
        if self.attachments:
            return self.status != 'available'
        return self.status not in ('in-use', 'detaching')


def status_of(attachments: tuple[cinder.Attachment, ...]) -> str:
    """What Cinder makes of the attachments that are left."""
    found = {item.status for item in attachments}
    for status, of_volume in (
        ('attached', 'in-use'),
        ('attaching', 'attaching'),
        ('reserved', 'reserved'),
    ):
        if status in found:
            return of_volume
    return 'available'


@dataclasses.dataclass(frozen=True)
class Call:
    """A call, and the attachment or server that it names."""

    name: str
    named: str | None = None

    @property
    def request(self) -> request.Request:
        operation = operations.OPERATIONS[self.name]
        if operation.server_source is operations.ServerSource.ATTACHMENT:
            return request.Request(operation, '', attachment_id=self.named)
        if operation.server_source is operations.ServerSource.GROUP:
            return request.Request(operation, '', group_id=fakes.GROUP)
        in_body = operation.server_source is operations.ServerSource.BODY
        return request.Request(
            operation,
            '',
            fakes.VOLUME,
            attachment_id=None if in_body else self.named,
            server_id=self.named if in_body else None,
        )

    def perform(self, world: World) -> World:
        """What is true after Cinder has performed it."""
        return getattr(self, '_' + self.name.replace('-', '_'), self._nothing)(
            world
        )

    def _nothing(self, world: World) -> World:
        return world

    def _add(self, world: World, status: str, of_volume: str) -> World:
        new = cinder.Attachment('new', fakes.VOLUME, self.named, status)
        return dataclasses.replace(
            world,
            attachments=(*world.attachments, new),
            status=of_volume,
            export='new',
        )

    def _os_attach(self, world: World) -> World:
        return self._add(world, 'attached', 'in-use')

    def _attachment_create(self, world: World) -> World:
        # In-use: a multiattach volume.
        can = world.status in ('available', 'in-use')
        return self._add(world, 'reserved', 'reserved') if can else world

    def _change(self, world: World, status: str, of_volume: str) -> World:
        return dataclasses.replace(
            world,
            attachments=tuple(
                dataclasses.replace(item, status=status, is_connected=True)
                if item.id == self.named
                else item
                for item in world.attachments
            ),
            status=of_volume,
        )

    def _attachment_update(self, world: World) -> World:
        return self._change(world, 'attaching', 'attaching')

    def _attachment_complete(self, world: World) -> World:
        return self._change(world, 'attached', 'in-use')

    def _attachment_delete(self, world: World) -> World:
        left = tuple(i for i in world.attachments if i.id != self.named)
        # Of a host that is chosen freely, for example that of a server.
        withdraws = any(
            item.is_connected and item.server_id is None
            for item in world.attachments
            if item.id == self.named
        )
        return dataclasses.replace(
            world,
            attachments=left,
            status=status_of(left),
            export='withdrawn' if withdraws else world.export,
        )

    def _os_detach(self, world: World) -> World:
        if self.named is None and len(world.attachments) > 1:
            return world
        left = tuple(
            item
            for item in world.attachments
            if item.id != (self.named or item.id)
        )
        status = 'in-use' if left else 'available'
        return dataclasses.replace(
            world, attachments=left, status=status, export='none'
        )

    def _export(self, world: World) -> World:
        return dataclasses.replace(world, export='changed')

    _os_initialize_connection = _os_terminate_connection = _export

    def _move(self, world: World, before: str, after: str) -> World:
        if world.status != before:
            return world
        return dataclasses.replace(world, status=after)

    def _os_begin_detaching(self, world: World) -> World:
        return self._move(world, 'in-use', 'detaching')

    def _os_roll_detaching(self, world: World) -> World:
        return self._move(world, 'detaching', 'in-use')

    def _os_reserve(self, world: World) -> World:
        world = self._move(world, 'in-use', 'attaching')
        return self._move(world, 'available', 'attaching')

    def _os_unreserve(self, world: World) -> World:
        after = 'in-use' if world.attachments else 'available'
        return self._move(world, 'attaching', after)

    def _os_reimage(self, world: World) -> World:
        return dataclasses.replace(world, status='available', export='other')

    def _transfer_create(self, world: World) -> World:
        if world.status != 'available':
            return world
        return dataclasses.replace(
            world, status='awaiting-transfer', owner='another'
        )

    def _group_delete(self, world: World) -> World:
        if any(item.status == 'attached' for item in world.attachments):
            return world
        return dataclasses.replace(
            world, attachments=(), status='available', export='none'
        )


def violation(before: World, after: World) -> str | None:
    """What a call broke."""
    for item in before.attachments:
        if before.may_use(item) and item not in after.attachments:
            return 'it changes an attachment that a server may use'
    new = set(after.attachments) - set(before.attachments)
    if before.backup and after.owner != before.owner:
        return 'it gives away what Cinder makes a backup of'
    if before.is_live:
        if after.export == 'withdrawn':
            return 'it withdraws the export of a used volume'
        if new and not after.agrees:
            return 'it makes a consumer beside a server'
        if not after.agrees and (after.export, after.owner) != (
            before.export,
            before.owner,
        ):
            return 'it changes the export or the owner of a used volume'
        if after.status not in (before.status, status_of(after.attachments)):
            return 'it changes the status of a used volume'
        if after.status == 'available' != before.status:
            return 'it makes a used volume available'
    if before.is_worked_on and (
        (before.status, before.attachments)
        != (after.status, after.attachments)
    ):
        return 'it changes a volume on which Cinder works'
    if any(item.server_id for item in new) and not after.agrees:
        return 'it makes a record of an attachment that Nova does not have'
    in_transfer = after.status == 'awaiting-transfer'
    if before.agrees and not (after.agrees or in_transfer):
        return 'the records do not agree any more'
    return None


def passes(world: World, call: Call, is_admin: bool) -> bool:
    """Whether the table of the design lets a call pass."""
    rows = {item.id: item for item in world.attachments}
    named = rows.get(call.named or '')

    def is_settled(item: cinder.Attachment) -> bool:
        """Nova's record will not appear, and is not hidden.

        At the end of a swap, that of a connected attachment appears late.
        """
        gone = world.server(item.server_id).state in ('gone', 'unseen')
        if world.young and (
            item.status in BEING_ATTACHED or item.is_connected and not gone
        ):
            return False
        return world.sees or not item.is_connected or not gone

    def is_unused(item: cinder.Attachment, by_this: bool = False) -> bool:
        if item.server_id is None:
            return True
        server = world.server(item.server_id)
        if server.by is None or server.state == 'unseen':
            return server.state != 'busy' and is_settled(item)
        other = rows.get(server.by)
        return (
            by_this
            and server.state == 'idle'
            and other not in (None, item)
            and other.status == 'attached'
        )

    no_server_has_it = all(map(is_unused, world.attachments))
    unknown_use = not rows and world.status in ('in-use', 'detaching')
    clears = call.name in (
        'os-detach',
        'os-unreserve',
        'os-begin_detaching',
        'os-terminate_connection',
    )
    is_free = (
        no_server_has_it
        and not world.is_worked_on
        and (is_admin and clears or not unknown_use)
    )
    if call.name == 'os-attach':
        return (
            is_admin
            and world.server(call.named) == Server('idle', NO_ID)
            and not (rows or world.is_worked_on)
        )
    if call.name == 'attachment-create':
        return call.named is None and is_free
    if call.name == 'os-reimage':
        return False
    if call.name in ('attachment-update', 'attachment-complete'):
        return named is not None and not named.server_id and is_free
    if call.name == 'attachment-delete':
        return (
            named is not None
            and is_unused(named, by_this=True)
            and (named.server_id or not named.is_connected or no_server_has_it)
            and not world.is_worked_on
        )
    if call.name == 'os-detach':
        return is_free and (call.named is None or named is not None)
    if call.name == 'os-roll_detaching':
        servers = [i.server_id for i in world.attachments if i.server_id]
        return not world.is_worked_on and (
            not servers
            or not world.young
            and all(world.server(i).state != 'busy' for i in servers)
        )
    if call.name == 'transfer-create':
        return not (rows or world.is_worked_on or world.backup)
    if call.name == 'group-delete':
        # The group has this volume alone.
        return (
            not rows and world.status == 'available' and not world.is_worked_on
        )
    return is_free


class Facts:
    """What the guard reads of a world: Cinder, and Nova."""

    count, seconds, deadline = 0, 0.0, float('inf')

    def __init__(self, world: World) -> None:
        self._world = world
        self._attached = frozenset(
            item.id for item in world.attachments if item.status == 'attached'
        )

    def check_volume(self, volume_id: str) -> Mapping[str, str]:
        return {}

    check_attachment = check_volume

    def check_group(self, groups: str, group_id: str) -> Mapping[str, str]:
        return {}

    def group_volumes(self, group_id: str) -> tuple[cinder.Volume, ...]:
        return (self.volume(fakes.VOLUME),)

    def volume(self, volume_id: str) -> cinder.Volume:
        world = self._world
        changed = YOUNG if world.young else OLD
        return cinder.Volume(
            fakes.VOLUME,
            world.owner,
            world.status,
            world.migration,
            changed,
            self._attached,
        )

    def has_backup_in_progress(self, volume_id: str) -> bool:
        return self._world.backup

    def attachment(self, attachment_id: str) -> cinder.Attachment:
        for item in self._world.attachments:
            if item.id == attachment_id:
                return item
        raise cinder.NotShown(None)

    def attachments(self, volume_id: str) -> tuple[cinder.Attachment, ...]:
        return self._world.attachments

    own_attachment = attachment
    own_attachments = attachments

    def api_headers(self) -> Mapping[str, str] | None:
        return {}

    def start(self, server_id: str) -> None:
        """Nothing to wait for."""

    def server(self, server_id: str) -> nova_client.Server | None:
        server = self._world.server(server_id)
        if server.state in ('gone', 'unseen'):
            return None
        has = () if server.by is None else (fakes.VOLUME,)
        return nova_client.Server(
            server_id, server.state == 'busy', frozenset(has)
        )

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        return self._world.server(server_id).by or None

    def sees_every_project(self) -> bool:
        return self._world.sees


def states(mine: str, other: str) -> Iterator[Server]:
    """What can be true of a server of an attachment."""
    yield Server('gone')
    yield Server('unseen', mine)
    yield Server('idle', making=True)
    for state, by in itertools.product(
        ('idle', 'busy'), (None, mine, other, NO_ID)
    ):
        yield Server(state, by)


ROW = functools.partial(cinder.Attachment, volume_id=fakes.VOLUME)


def records() -> Iterator[
    tuple[tuple[cinder.Attachment, ...], dict[str, Server]]
]:
    """The attachments of a volume, and what is true of their servers."""
    for server in (*states(X, X), Server('unseen')):
        yield (), {S1: server}
    every = ('reserved', 'attaching', 'attached', 'error_attaching')
    flags = (False, True)
    for status, connected in itertools.product(every, flags):
        nobodys = ROW(
            id=A, server_id=None, status=status, is_connected=connected
        )
        yield (nobodys,), {}
        yield (dataclasses.replace(nobodys, server_id='a node'),), {}
        mine = dataclasses.replace(nobodys, server_id=S1)
        for server in states(A, X):
            yield (mine,), {S1: server}
    pairs = [('attached', 'attached'), ('attached', 'reserved')]
    for (first, second), connected in itertools.product(pairs, flags):
        one = ROW(id=A, server_id=S1, status=first, is_connected=connected)
        two = ROW(id=B, server_id=None, status=second, is_connected=True)
        other = dataclasses.replace(two, server_id=S2)
        for server in states(A, B):
            yield (two, one), {S1: server}
            yield (one, dataclasses.replace(two, server_id=S1)), {S1: server}
            for also in (Server(), Server('idle', B)):
                yield (one, other), {S1: server, S2: also}


VOLUMES = (
    *itertools.product(
        ('available', 'reserved', 'attaching', 'in-use', 'detaching'), [None]
    ),
    ('awaiting-transfer', None),
    ('backing-up', None),
    ('creating', None),
    ('deleting', None),
    ('retyping', None),
    ('in-use', 'migrating'),
    ('available', 'target:x'),
    ('in-use', 'success'),
)


def worlds() -> Iterator[World]:
    for (rows, servers), volume, young, sees in itertools.product(
        records(), VOLUMES, (False, True), (False, True)
    ):
        world = World(*volume, rows, servers, young, sees)
        if can_be(world):
            yield world
    for status in ('available', 'in-use'):
        yield World(status, backup=True)


WITHOUT_ATTACHMENT = ('awaiting-transfer', 'creating')
# The number of attachments makes no difference to these.
WITH_ONE = ('available', 'attaching', 'deleting', 'retyping')
BEING_ATTACHED = ('reserved', 'attaching')


def can_be(world: World) -> bool:
    """Whether this is a world of its own, in which Nova works as it does."""
    if world.attachments and world.status in WITHOUT_ATTACHMENT:
        return False
    if len(world.attachments) > 1 and world.status in WITH_ONE:
        return False
    # Cinder begins to detach only what is attached.
    if world.status == 'detaching' and world.attachments:
        if not any(i.status == 'attached' for i in world.attachments):
            return False
    states = {server.state for server in world.servers.values()}
    hidden = states & {'gone', 'unseen'}
    for server_id, server in world.servers.items():
        rows = [i for i in world.attachments if i.server_id == server_id]
        for row in rows:
            is_young = world.young and row.status in BEING_ATTACHED
            if server.making and not is_young:
                return False
            # Cinder writes it where Nova could not connect the volume.
            if row.status == 'error_attaching' and server.by is not None:
                return False
            # One that was never connected: a limit of the guard, see
            # attachguard.guard.facts.
            if server.state == 'unseen' and not (row.is_connected or is_young):
                return False
    # The guard reads these, but they make no difference to it.
    if not hidden and not all(i.is_connected for i in world.attachments):
        return False
    if world.young and not (
        world.status == 'detaching'
        or any(i.status in BEING_ATTACHED for i in world.attachments)
    ):
        return False
    return not ('unseen' in states if world.sees else not hidden)


RULES = {rule.name: rule.check_str for rule in default_rules.list_rules()}

ROLL = operations.VOLUME_ACTIONS['os-roll_detaching']
LEFT_TO_CINDER = frozenset(
    ('os-force_detach', 'os-reset_status', 'os-migrate_volume_completion')
)


def calls(world: World) -> Iterator[Call]:
    for name, operation in operations.OPERATIONS.items():
        source = operation.server_source
        if name in LEFT_TO_CINDER:
            continue
        if source is operations.ServerSource.ATTACHMENT:
            for item in world.attachments:
                yield Call(name, item.id)
        elif source is operations.ServerSource.BODY:
            yield Call(name)
            yield Call(name, S1)
        else:
            yield Call(name)
    yield Call('os-detach', A)
    if len(world.attachments) > 1:
        yield Call('os-detach', B)


@pytest.fixture(scope='module')
def rules() -> policy.Policy:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    opts.configure(conf, {})
    return policy.Policy(conf)


def caller(*roles: str) -> identity.Caller:
    return identity.identify(
        fakes.environ('POST', '/', roles=roles), 'keystone'
    )


MEMBER, ADMIN = caller('member', 'reader'), caller('admin', 'member')
SERVICE = caller('service')


def decide(
    rules: policy.Policy, who: identity.Caller, world: World, call: Call
) -> decision.Decision:
    read = Facts(world)
    return decision.decide(
        rules, who, facts.Facts(call.request, who, read, read, 30.0)
    )


@pytest.fixture(autouse=True)
def fast_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """oslo.policy reads the signature of a check each time, which is slow."""
    read = functools.cache(inspect.getfullargspec)
    monkeypatch.setattr(inspect, 'getfullargspec', read)


def alike(call: Call) -> tuple[Any, ...]:
    """What the guard knows of a call; one with an equal rule is like it."""
    asked = call.request
    return (
        RULES[asked.rule],
        asked.operation.server_source,
        asked.server_id,
        asked.attachment_id,
    )


@pytest.mark.slow
def test_what_passes_keeps_the_records_and_what_should_pass_does(
    rules: policy.Policy,
) -> None:
    wrong: dict[str, list[Any]] = collections.defaultdict(list)
    cases = 0
    for world in worlds():
        found: dict[Any, bool] = {}
        for call in calls(world):
            # Only these rules read a role of an ordinary caller.
            reads_role = call.name == 'os-attach' or not world.attachments
            for who in (MEMBER, ADMIN) if reads_role else (MEMBER,):
                key = (*alike(call), who is ADMIN)
                if key not in found:
                    decided = decide(rules, who, world, call)
                    found[key] = decided.verdict is Verdict.ALLOWED
                    cases += 1
                allowed = found[key]
                if allowed != passes(world, call, who is ADMIN):
                    wrong[f'{call.name}: allowed={allowed}'].append(world)
                if allowed and (why := violation(world, call.perform(world))):
                    wrong[f'{call.name}: {why}'].append((world, call))
    # The first few: each is long.
    assert [(why, w[0]) for why, w in wrong.items()][:3] == []
    assert cases > 30_000


@pytest.mark.parametrize(
    'name',
    # os-roll_detaching alone can only put a status right.
    sorted(operations.OPERATIONS.keys() - LEFT_TO_CINDER - {ROLL.name}),
)
def test_each_operation_can_break_the_principle(name: str) -> None:
    assert any(
        violation(world, call.perform(world))
        for world in worlds()
        for call in calls(world)
        if call.name == name
    )


def test_a_service_passes_in_every_world(rules: policy.Policy) -> None:
    for world in itertools.islice(worlds(), 0, None, 100):
        for call in calls(world):
            decided = decide(rules, SERVICE, world, call)
            assert decided.verdict is Verdict.ALLOWED
            assert decided.service
