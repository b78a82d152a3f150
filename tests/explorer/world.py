# SPDX-License-Identifier: Apache-2.0
"""The servers and volumes of one sequence, and what is done with them."""

from __future__ import annotations

from concurrent import futures
import contextlib
import threading
import time
from typing import Any
import uuid

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.cloud import cloud as clouds
from tests.cloud import people
from tests.cloud import stage as stages
from tests.explorer import acts
from tests.explorer import calls
from tests.explorer import gate
from tests.explorer import sequences

_ATTACHMENTS = """
    SELECT a.id, a.volume_id, a.instance_uuid FROM volume_attachment a
    JOIN volumes v ON v.id = a.volume_id
    WHERE NOT a.deleted AND (v.id = %s OR v.migration_status = %s)
    ORDER BY a.created_at DESC, a.id
"""
_HIDDEN = 'SELECT id FROM volumes WHERE NOT deleted AND migration_status = %s'
_AGE = """
    UPDATE volumes SET created_at = created_at - INTERVAL 90 SECOND,
    updated_at = updated_at - INTERVAL 90 SECOND
    WHERE id = %s OR migration_status = %s
"""
# What may end by itself, and how often nothing may have changed: where
# something may end, longer.
_PASSING = (
    'attaching creating deleting detaching downloading reserved retyping'
).split()
_STILL, _STILL_PASSING = 4, 15
_PAUSE = 0.3
_PATIENCE = 90.0


def passes(status: int) -> bool:
    """Whether a call with this response has reached Cinder.

    500 is never the guard's, and Cinder has done something before it.
    """
    return status < 400 or status == 500


class Everybody:
    """Who has logged in, and what each sequence would look up again.

    :param cloud: the cloud
    """

    def __init__(self, cloud: clouds.Cloud) -> None:
        self._places = cloud.places
        self._sessions = {}
        for name in ('admin', 'member', 'other'):
            session = people.caller(self._places, name).session
            session.get_project_id()
            self._sessions[name] = session
        nova = self.caller('admin', '').nova
        self.image = nova.glance.find_image(clouds.IMAGE)
        self.flavors = {flavor.name: flavor for flavor in nova.flavors.list()}

    def caller(self, name: str, request_id: str) -> people.Caller:
        """One of them, whose calls have a global request id."""
        caller = people.caller(self._places, name).again(request_id)
        caller.session = self._sessions[name]
        return caller


class World(stages.Stage):
    """A stage for one sequence.

    :param cloud: the cloud
    :param listener: tells of Nova's calls
    :param everybody: who has logged in
    :param servers: by name, those that the last sequence left
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        listener: gate.Listener,
        everybody: Everybody,
        servers: dict[str, str],
    ) -> None:
        self._everybody = everybody
        super().__init__(cloud, f'req-{uuid.uuid4()}')
        self.servers |= servers
        self._listener = listener
        #: with other global request ids than what Nova does
        self.members = {
            name: everybody.caller(name, f'req-{uuid.uuid4()}')
            for name in ('member', 'other')
        }
        #: every call and its status
        self.made: list[tuple[calls.Call, int]] = []
        #: those and Nova's, in the order of their ends
        self.log: list[str] = []
        #: attachments of nobody that were made while a server had the volume
        self.intruders: set[str] = set()
        self._lock = threading.Lock()
        self._due: list[sequences.Burst] = []
        self._moments = [0, 0]
        self._busy = 0

    def caller(self, name: str) -> people.Caller:
        """A user, whose calls have this stage's request id."""
        return self._everybody.caller(name, self.request_id)

    @property
    def image(self) -> Any:
        """The image to build from."""
        return self._everybody.image

    def flavor(self, name: str) -> Any:
        """A flavor, for novaclient."""
        return self._everybody.flavors[name]

    @property
    def passed(self) -> set[str]:
        """The kinds of calls that may have had an effect."""
        return {call.what for call, status in self.made if passes(status)}

    def play(self, sequence: sequences.Sequence) -> None:
        """Make what a sequence needs, and run it.

        :param sequence: the sequence
        """
        scene = acts.SCENES[sequence.scene]
        #: the project that has the volume
        self.owner = self.members[scene.owner].project_id
        for name in ('server', 'second'):
            needed = name == 'server' or 'attach to second' in scene.acts
            if needed and name not in self.servers:
                self.server(name)
        owner = self.caller(scene.owner)
        self.volume('data', by=owner, volume_type=scene.volume_type)
        found = self.admin.nova.servers.get(self.servers['server'])
        self._host = getattr(found, 'OS-EXT-SRV-ATTR:host')
        self._listener.hearers[self.request_id] = self._hear
        try:
            with futures.ThreadPoolExecutor() as self._pool:
                for number, name in enumerate(scene.acts):
                    self._play_act(
                        name,
                        [b for b in sequence.bursts if b.act == number],
                    )
        finally:
            del self._listener.hearers[self.request_id]

    def _play_act(self, name: str, bursts: list[sequences.Burst]) -> None:
        with self._lock:
            self._moments = [-1, 0]
            self._due = [burst for burst in bursts if burst.moment]
        for burst in bursts:
            if not burst.moment:
                self._perform(burst)
        # What a member has done can be in its way: there may be no server.
        with contextlib.suppress(
            cinder_exceptions.ClientException,
            nova_exceptions.ClientException,
            KeyError,
        ):
            acts.ACTS[name].run(self)
        self.rest()
        with self._lock:
            left, self._due = self._due, []
        for burst in left:
            self._perform(burst)
        if left:
            self.rest()

    def _hear(self, call: str, status: int | None) -> None:
        with self._lock:
            self.log.append(f'Nova: {call} {status or "begins"}')
            self._busy += 1
            side = status is not None
            self._moments[side] += 2
            moment = self._moments[side]
            now = [burst for burst in self._due if burst.moment == moment]
            self._due = [b for b in self._due if b.moment != moment]
        try:
            for burst in now:
                self._perform(burst)
        finally:
            with self._lock:
                self._busy -= 1

    def _perform(self, burst: sequences.Burst) -> None:
        """Make the calls at the same time."""
        data = self.volumes['data']
        target = f'target:{data}'
        if burst.later:
            self.cloud.mariadb.write('cinder', _AGE, [data, target])
        hidden, found = self.cloud.mariadb.read(
            ('cinder', _HIDDEN, [target]),
            ('cinder', _ATTACHMENTS, [data, target]),
        )
        with self._lock:
            self._busy += len(burst.calls)
        made = []
        for call in burst.calls:
            volume = hidden[0][0] if call.hidden and hidden else data
            attachments = [row for row in found if row[1] == volume]
            made.append(
                self._pool.submit(self._call, call, volume, attachments)
            )
        if burst.held:
            futures.wait(made)
            # What Cinder does after its response.
            time.sleep(_PAUSE)

    def _call(
        self, call: calls.Call, volume: str, attachments: list[Any]
    ) -> None:
        try:
            self._call_now(call, volume, attachments)
        except Exception as exc:
            self.log.append(f'{call}: {exc!r}')
            raise
        finally:
            with self._lock:
                self._busy -= 1

    def _call_now(
        self, call: calls.Call, volume: str, attachments: list[Any]
    ) -> None:
        ids = [row[0] for row in attachments] or [str(uuid.uuid4())]
        connector = dict(calls.CONNECTORS[call.connector])
        caller = self.members[call.who]
        if call.what == 'os-retype':
            # Nova does most of it, with the same global request id.
            caller = self.caller(call.who)
        aim = calls.Aim(
            caller,
            self.members['other' if call.who == 'member' else 'member'],
            volume,
            ids[call.pick % len(ids)],
            self.servers.get('built', self.servers['server']),
            self.image.id,
            {**connector, 'host': connector['host'] or self._host},
        )
        response = calls.CALLS[call.what](aim)
        with self._lock:
            self.made.append((call, response.status_code))
            self.log.append(f'{call}: {response.status_code}')
            if (
                response.ok
                and call.what == 'attachment-create:no-server'
                and any(server for *_ids, server in attachments)
            ):
                made = response.json()['attachment']
                info = made.get('connection_info') or {}
                self.intruders.add(made.get('id') or info['attachment_id'])

    def rest(self) -> None:
        """Wait until nothing moves any more."""
        deadline = time.monotonic() + _PATIENCE
        before: Any = None
        still = 0
        while time.monotonic() < deadline:
            looked = self.look()
            now = looked, len(self.log)
            servers = looked.servers.values()
            # Nova shows "deleted" a moment before it deletes its records.
            moves = self._busy or any(
                task or status in ('BUILD', 'deleted')
                for status, task in servers
            )
            still = 0 if moves or now != before else still + 1
            passes = any(s in _PASSING for s in looked.volumes.values())
            if still >= (_STILL_PASSING if passes else _STILL):
                return
            before = now
            time.sleep(_PAUSE)

    def delete_failed(self) -> bool:
        """Delete the servers that are in error, as somebody has to.

        :returns: whether there was one
        """
        servers = self.look().servers.items()
        failed = [
            server for server, (status, _) in servers if status == 'ERROR'
        ]
        for server in failed:
            self.admin.nova.servers.delete(server)
        if failed:
            self.rest()
        return bool(failed)

    def leave(self) -> dict[str, str]:
        """Clear up.

        :returns: the servers that the next sequence can use
        """
        kept = {}
        for name, server in self.servers.items():
            if name != 'built' and self._is_as_new(server):
                kept[name] = server
            else:
                with contextlib.suppress(nova_exceptions.ClientException):
                    self.admin.nova.servers.delete(server)
        self.servers.clear()
        self.clear()
        return kept

    def _is_as_new(self, server: str) -> bool:
        """Whether a server has nothing, once all is detached."""
        if self.look().servers[server] != ('ACTIVE', None):
            return False
        volumes = self.admin.nova.volumes
        mappings = volumes.get_server_volumes(server)
        for mapping in mappings:
            with contextlib.suppress(nova_exceptions.ClientException):
                volumes.delete_server_volume(server, mapping.volumeId)
        if mappings:
            self.rest()
        return not volumes.get_server_volumes(server)
