# SPDX-License-Identifier: Apache-2.0

"""Both services, and what everybody does with them."""

from __future__ import annotations

from collections.abc import Callable
import datetime
from typing import NamedTuple

from tests.unit.audit.models import cinder
from tests.unit.audit.models import flows
from tests.unit.audit.models import nova

_START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)

#: A project that is not the one of the audit's own credentials.
PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'

#: Ids of servers that Nova does not have.
GONE = 'eeeeeeee-0000-4000-8000-000000000001'
CONTAINER = 'eeeeeeee-0000-4000-8000-000000000002'
NODE = 'eeeeeeee-0000-4000-8000-000000000003'
BRICK = 'eeeeeeee-0000-4000-8000-000000000004'


class Action(NamedTuple):
    """Something that somebody does.

    :param name: of :data:`ACTIONS`
    :param volume: the volume, by its place among those that exist; likewise
        the server and the host
    """

    name: str
    volume: int = 0
    server: int = 0
    host: int = 0


class Where(NamedTuple):
    """What an action is about."""

    world: World
    volume: cinder.Volume
    server: nova.Server | None
    host: str

    @property
    def cinder(self) -> cinder.Cinder:
        """Cinder."""
        return self.world.cinder

    @property
    def nova(self) -> flows.Nova:
        """Nova."""
        return self.world.nova

    @property
    def volume_id(self) -> str:
        """The volume's id."""
        return self.volume.id

    @property
    def server_id(self) -> str:
        """The server's id, or one that Nova does not have."""
        return self.server.id if self.server else GONE


class World:
    """Both services, and everybody who uses them."""

    def __init__(self) -> None:
        self.clock = _START
        self._ids = 0
        self.nova = flows.Nova(self._new_id, self._now)
        self.cinder = self.nova.cinder
        #: attachments of others than Nova, and the host that they rely on
        self.foreign: dict[str, str | None] = {}
        #: volumes that a repair has reserved
        self.reserved: set[str] = set()
        #: the projects that Keystone has
        self.projects = {PROJECT}
        #: whether an audit is running
        self.audited = False
        for multiattach in (False, True):
            volume = cinder.Volume(
                self._new_id(), multiattach, updated_at=self._now()
            )
            self.cinder.volumes[volume.id] = volume

    def _new_id(self) -> str:
        self._ids += 1
        return f'{self._ids:08x}-0000-4000-8000-000000000000'

    def _now(self) -> str:
        return self.clock.replace(tzinfo=None).isoformat()

    @property
    def servers(self) -> dict[str, nova.Server]:
        """The servers by id."""
        return self.nova.servers

    def intact(self) -> dict[str, nova.Need | str | None]:
        """Return what Nova and others rely on, and is right."""
        found: dict[str, nova.Need | str | None] = {}
        for key, need in self.nova.needs.items():
            item = self.cinder.attachments.get(key)
            if (
                item is not None
                and item.volume_id == need.volume_id
                and (item.status == 'attached' or not need.attached)
                and self._is_connected(need.volume_id, need.host)
            ):
                found[key] = need
        for key, host in self.foreign.items():
            item = self.cinder.attachments.get(key)
            if item is not None and self._is_connected(item.volume_id, host):
                found[key] = host
        return found

    def _is_connected(self, volume_id: str, host: str | None) -> bool:
        return host is None or (
            volume_id in self.cinder.exports
            and (volume_id, host) in self.cinder.connections
        )

    def act(self, action: Action) -> None:
        """Let somebody do something, if it is possible."""
        volumes = list(self.cinder.volumes.values())
        servers = [*self.servers.values()]
        where = Where(
            self,
            volumes[action.volume % len(volumes)],
            servers[action.server % len(servers)] if servers else None,
            nova.HOSTS[action.host % len(nova.HOSTS)],
        )
        reserved = where.volume_id in self.reserved
        if reserved and action.name in _ENDS_RESERVATION:
            return
        try:
            ACTIONS[action.name](where)
        except cinder.Refused:
            # It has changed nothing.
            pass

    def wait(self) -> None:
        """Let time pass."""
        self.clock += datetime.timedelta(minutes=20)
        self.nova.wait()

    def finish(self) -> None:
        """Finish everything, and repair everything that is down."""
        self.nova.finish()
        self.cinder.down = False

    def unused(self, volume: cinder.Volume) -> list[cinder.Attachment]:
        """Return the attachments of a volume that nobody relies on."""
        return [
            item
            for item in self.cinder.of(volume.id)
            if item.id not in self.nova.needs and item.id not in self.foreign
        ]

    def last_unused(self, volume: cinder.Volume) -> str:
        """Return the newest of them; 404 where there is none."""
        items = self.unused(volume)
        if not items:
            raise cinder.Refused(404, 'none')
        return items[-1].id

    def clean(self, volume: cinder.Volume) -> None:
        """Remove what is wrong with a volume, as a user can.

        From in-use, by os-attach and then os-detach.
        """
        self.cinder.down = False
        if volume.id in self.reserved:
            raise cinder.Refused(400, 'reserved')
        if (
            self.audited
            and not self.cinder.of(volume.id)
            and volume.status not in ('available', 'in-use')
        ):
            # Nothing can reserve a volume in the other statuses, between the
            # last check and the call.
            raise cinder.Refused(400, 'just now')
        for item in self.unused(volume):
            self.cinder.delete(item.id)
        if not self.cinder.of(volume.id):
            self.cinder.reset_status(volume.id, 'available', 'detached')


def _forge(at: Where, server_id: str | None, host: str) -> str:
    made = at.cinder.create(at.volume_id, server_id, host)
    at.cinder.complete(made)
    return made


def _reattach(at: Where, finish: bool) -> None:
    at.world.clean(at.volume)
    at.nova.attach(at.volume, at.server, finish)
    if not finish:
        at.nova.step_one(-1)


def _forge_beside(at: Where) -> None:
    # A user reserves a volume for a server that does not exist. An operator
    # resets it, Nova attaches it, and then the user connects the host for
    # that other server as well.
    at.cinder.create(at.volume_id, GONE)
    if (
        at.volume.status == 'reserved'
        and at.volume_id not in at.world.reserved
    ):
        at.cinder.reset_status(at.volume_id, 'available')
    at.nova.attach(at.volume, at.server, finish=True)
    host = at.server.host if at.server else at.host
    at.cinder.create(at.volume_id, GONE, host)


def _toggle_cell(at: Where) -> None:
    if at.server is not None:
        at.server.cell_down = not at.server.cell_down


def _toggle_nova(at: Where) -> None:
    at.nova.down = not at.nova.down


def _toggle_volume_service(at: Where) -> None:
    at.cinder.down = not at.cinder.down


def _refuse(at: Where, *faults: str) -> None:
    at.nova.refusing = faults[nova.HOSTS.index(at.host)]


def _attach_to_host(at: Where, server_id: str | None, host: str) -> None:
    at.world.foreign[_forge(at, server_id, host)] = host


def _ironic(at: Where) -> None:
    at.cinder.reserve(at.volume_id)
    at.cinder.initialize_connection(at.volume_id, 'node1')
    made = at.cinder.attach(at.volume_id, NODE, None, 'ironic_mountpoint')
    if made:
        at.world.foreign[made] = 'node1'


def _zun(at: Where) -> None:
    if at.world.audited and at.volume.multiattach:
        # Nothing prevents that between the last check and the call.
        return
    at.cinder.reserve(at.volume_id)
    made = at.cinder.attach(at.volume_id, CONTAINER, at.host)
    if made:
        at.cinder.initialize_connection(at.volume_id, at.host)
        at.world.foreign[made] = at.host


def _sql(at: Where) -> None:
    if not at.cinder.of(at.volume_id):
        first = at.host == nova.HOSTS[0]
        at.volume.status = 'in-use' if first else 'reserved'
        at.volume.attach_status = 'attached'


def _sql_attach_status(at: Where) -> None:
    if at.volume.status in ('available', 'in-use'):
        at.volume.attach_status = (
            'attached' if at.volume.status == 'available' else 'detached'
        )


# What users and operators do not do while a repair has reserved a volume.
_ENDS_RESERVATION = (
    'forged_delete',
    'unreserve',
    'roll_detaching',
    'reset_available',
    'reset_error',
    'reset_detached',
    'sql',
)

#: Everything that can happen.
ACTIONS: dict[str, Callable[[Where], object]] = {
    # Nova: "attached" is finished at once.
    'nova_attach': lambda at: at.nova.attach(at.volume, at.server),
    'nova_attached': lambda at: at.nova.attach(
        at.volume, at.server, finish=True
    ),
    'nova_detach': lambda at: at.nova.detach(at.volume),
    'nova_delete': lambda at: at.nova.delete(
        at.server, cinder_responds=at.host == nova.HOSTS[0]
    ),
    'boot': lambda at: at.nova.boot(at.volume, at.host),
    'migrate': lambda at: at.nova.migrate(
        at.server, works=at.host == nova.HOSTS[0]
    ),
    'shelve': lambda at: at.nova.shelve(at.server, at.host),
    'retype': lambda at: at.nova.retype(at.volume),
    'step': lambda at: at.nova.step_one(0),
    'step_last': lambda at: at.nova.step_one(-1),
    'crash': lambda at: at.nova.crash(),
    # What fails, or works again.
    'cell_down': _toggle_cell,
    'nova_down': _toggle_nova,
    'nova_refuses': lambda at: _refuse(at, '401', 'proxy'),
    'nova_fails': lambda at: _refuse(at, '403', '500'),
    'volume_service': _toggle_volume_service,
    # Users, without Nova.
    'os_attach': lambda at: at.cinder.attach(at.volume_id, at.server_id, None),
    'os_attach_gone': lambda at: at.cinder.attach(at.volume_id, GONE, None),
    'forge_reserved': lambda at: at.cinder.create(at.volume_id, at.server_id),
    'forge_connected': lambda at: at.cinder.create(
        at.volume_id, at.server_id, at.host
    ),
    'forge_gone_connected': lambda at: at.cinder.create(
        at.volume_id, GONE, at.host
    ),
    'forge': lambda at: _forge(at, at.server_id, at.host),
    'forge_gone': lambda at: _forge(at, GONE, at.host),
    'forge_beside': _forge_beside,
    'forged_update': lambda at: at.cinder.update(
        at.world.last_unused(at.volume), at.host
    ),
    'forged_complete': lambda at: at.cinder.complete(
        at.world.last_unused(at.volume)
    ),
    'forged_delete': lambda at: at.cinder.delete(
        at.world.last_unused(at.volume)
    ),
    'reattached': lambda at: _reattach(at, finish=True),
    'reattaching': lambda at: _reattach(at, finish=False),
    'reserve': lambda at: at.cinder.reserve(at.volume_id),
    'begin_detaching': lambda at: at.cinder.begin_detaching(at.volume_id),
    'unreserve': lambda at: at.cinder.unreserve(at.volume_id),
    'roll_detaching': lambda at: at.cinder.roll_detaching(at.volume_id),
    # Other services than Nova.
    'glance': lambda at: _attach_to_host(at, None, 'glance1'),
    'ironic': _ironic,
    'zun': _zun,
    'brick': lambda at: _attach_to_host(at, BRICK, 'elsewhere'),
    # Operators, or a crash.
    'reset_available': lambda at: at.cinder.reset_status(
        at.volume_id, 'available'
    ),
    'reset_error': lambda at: at.cinder.reset_status(at.volume_id, 'error'),
    'reset_detached': lambda at: at.cinder.reset_status(
        at.volume_id, 'available', 'detached'
    ),
    'sql': _sql,
    'sql_attach_status': _sql_attach_status,
}
