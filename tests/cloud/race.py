# SPDX-License-Identifier: Apache-2.0
"""Members who attach, detach, delete and forge while an operator repairs.

An administrator migrates their servers meanwhile.  All use the same few
servers and volumes and act at random, so that operations of several calls,
Nova's and the repair's, are interrupted by others.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import pathlib
import random
import threading
import time
from typing import Any
import uuid

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from attachguard.audit.report import content
from tests.cloud import cloud as clouds
from tests.cloud import people
from tests.cloud import records
from tests.cloud import stage as stages

_ATTACHING, _FORGING = 3, 2
_SERVERS = ('first', 'second')
_VOLUMES = {
    **{f'volume{number}': 'one' for number in range(8)},
    **{f'shared{number}': 'multiattach' for number in range(2)},
}
# How often a member detaches what is attached.
_DETACHED = 0.8
# How long a member waits for Nova, in seconds.
_PATIENCE = 10.0
_PAUSE = 0.2

_HELD = """
    SELECT b.attachment_id, b.volume_id, b.deleted, b.deleted_at
    FROM block_device_mapping b WHERE b.volume_id IN %s
"""
_ATTACHED = """
    SELECT a.id, a.attach_status, v.status
    FROM volume_attachment a JOIN volumes v ON v.id = a.volume_id
    WHERE NOT a.deleted AND v.id IN %s
"""


class Race:
    """A race on one cloud, without the guard.

    :param cloud: the cloud, which runs
    :param journal: where the repair writes what it does
    :param seed: of the random choices
    """

    def __init__(
        self, cloud: clouds.Cloud, journal: pathlib.Path, seed: int
    ) -> None:
        self._cloud = cloud
        self._path = journal
        self._seed = seed
        self._rounds = 0
        self.stage = stages.Stage(cloud, f'req-{uuid.uuid4()}')
        self._over = threading.Event()
        self._lock = threading.Lock()
        #: how often what was done, and what came of it
        self.counts: collections.Counter[str] = collections.Counter()
        #: what the repair did not manage
        self.failed: list[str] = []
        #: what went wrong in a thread
        self.errors: list[str] = []
        self._operator = self.stage.caller('admin')
        self._connection = api.Cloud(self.stage.admin.sdk)
        self._connection.log_in()
        self._journal = journals.Journal(journal, {'what': 'repair'})

    def prepare(self) -> None:
        """Make the servers and volumes."""
        for name in _SERVERS:
            self.stage.server(name)
        for name, volume_type in _VOLUMES.items():
            self.stage.volume(name, volume_type=volume_type)

    def close(self) -> None:
        """Delete them."""
        self._journal.close()
        self.stage.clear()

    def run(self, seconds: float) -> None:
        """Run everybody for a while.

        :param seconds: how long
        """
        self._rounds += 1
        self._over.clear()
        members = [
            threading.Thread(target=self._live, args=(number, act))
            for number, act in enumerate(
                [
                    *[self._attach] * _ATTACHING,
                    *[self._forge] * _FORGING,
                    self._delete,
                    self._migrate,
                ]
            )
        ]
        for member in members:
            member.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self.repair()
        finally:
            self._over.set()
            for member in members:
                member.join()

    def repair(self) -> list[repairs.Outcome]:
        """Audit and repair once, as ``attachguard repair --once --yes``.

        :returns: what came of each finding
        """
        with inventories.Inventory(self._connection) as inventory:
            audited = runner.Audit(
                self._connection,
                inventory,
                runner.Selection(),
                None,
                datetime.timedelta(),
            ).run()
            repair = repairs.Repair(
                self._connection,
                inventory.rules,
                self._journal,
                inventory.cases.holders,
            )
            outcomes = [
                repair.repair(entry.finding)
                for entry in audited.entries
                if entry.state is content.State.FOUND
            ]
            outcomes = repair.recheck_repaired(outcomes)
        self._count('audits')
        for outcome in outcomes:
            self._count(f'repair: {outcome.result.value}')
            if outcome.result is repairs.Result.FAILED:
                self.failed.append(f'{outcome.finding.kind}: {outcome.text}')
        return outcomes

    def come_to_rest(self) -> None:
        """Wait for Nova, and repair until there is nothing to repair.

        What is to be done by hand is done so.
        """
        stages.wait_for('nothing comes to rest', self._is_at_rest)
        for _attempt in range(5):
            outcomes = self.repair()
            for outcome in outcomes:
                attachment = outcome.finding.attachment_id
                if outcome.result is repairs.Result.BY_HAND and attachment:
                    self.stage.admin.cinder.attachments.delete(attachment)
            if not outcomes:
                return

    def acts(self) -> Iterator[tuple[str, datetime.datetime, str, int]]:
        """What the repair did.

        :returns: of each call its name, when it was made, the attachment that
            it deletes, if any, and the HTTP status
        """
        _header, entries = journals.read(self._path)
        for entry in entries:
            call = entry.act['call']
            body = (call['body'] or {}).get(call['name']) or {}
            yield (
                call['name'],
                datetime.datetime.fromisoformat(entry.act['at']),
                call['path'].rpartition('/')[2]
                if call['method'] == 'DELETE'
                else body.get('attachment_id', ''),
                (entry.done or {})['answer']['status'],
            )

    def held(self) -> list[tuple[str, str, bool, datetime.datetime | None]]:
        """Every attachment that Nova has, or ever had.

        :returns: of each its id, that of the volume, whether Nova has it now,
            and when it was detached
        """
        (rows,) = self._cloud.mariadb.read(
            ('nova_cell1', _HELD, [list(self.stage.volumes.values())])
        )
        return [
            (
                attachment,
                volume,
                not deleted,
                at and at.replace(tzinfo=datetime.UTC),
            )
            for attachment, volume, deleted, at in rows
        ]

    def attached(self) -> dict[str, tuple[str, str]]:
        """Cinder's attachments: id to their status, and the volume's."""
        (rows,) = self._cloud.mariadb.read(
            ('cinder', _ATTACHED, [list(self.stage.volumes.values())])
        )
        return {row[0]: (row[1], row[2]) for row in rows}

    # What members do

    def _live(
        self,
        number: int,
        act: Callable[[people.Caller, random.Random], None],
    ) -> None:
        # The clients are no more to be shared by threads than the generator.
        caller = self.stage.caller('member')
        mind = random.Random(f'{self._seed} {self._rounds} {number}')
        try:
            while not self._over.is_set():
                act(caller, mind)
                time.sleep(mind.uniform(0, _PAUSE))
        except Exception as exc:
            self.errors.append(repr(exc))
            raise

    def _attach(self, caller: people.Caller, mind: random.Random) -> None:
        """Attach a volume through Nova, and detach it again most times."""
        server = self.stage.servers[mind.choice(_SERVERS)]
        volume = self._volume(mind)
        volumes = caller.nova.volumes
        with self._counting('attach'):
            volumes.create_server_volume(server, volume)
        if not self._nova_has(server, volume):
            return
        self._await(lambda: self._nova_has(server, volume) == 'attached')
        time.sleep(mind.uniform(0, _PAUSE))
        if mind.random() < _DETACHED:
            with self._counting('detach'):
                volumes.delete_server_volume(server, volume)
            self._await(lambda: not self._nova_has(server, volume))

    def _delete(self, caller: people.Caller, mind: random.Random) -> None:
        """Create a server, attach a volume to it, and delete the server."""
        name = str(uuid.uuid4())
        try:
            server = self.stage.server(name, by=caller)
        except stages.NeverHappened:
            self._count('server not built')
            server = self.stage.servers[name]
        volume = self._volume(mind)
        with self._counting('attach'):
            caller.nova.volumes.create_server_volume(server, volume)
        time.sleep(mind.uniform(0, 5 * _PAUSE))
        with self._counting('delete the server'):
            caller.nova.servers.delete(server)
        self._await(lambda: self.stage.status(name) == records.GONE)

    def _migrate(self, _caller: people.Caller, mind: random.Random) -> None:
        """Migrate a server while it runs, as an administrator."""
        name = mind.choice(_SERVERS)
        server = self.stage.servers[name]
        with self._counting('migrate'):
            self._operator.nova.servers.live_migrate(server, None, 'auto')
        self._await(lambda: self.stage.status(name) == 'ACTIVE')

    def _forge(self, caller: people.Caller, mind: random.Random) -> None:
        """Do what Cinder lets a member do, and should not."""
        volume = self._volume(mind)
        server = mind.choice(
            [*map(self.stage.servers.get, _SERVERS), str(uuid.uuid4())]
        )
        host = mind.choice([None, 'compute1', 'compute2'])
        volumes, attachments = caller.cinder.volumes, caller.cinder.attachments
        connector = host and {'host': host, 'initiator': 'iqn.test:1'}

        def attachment() -> None:
            made = attachments.create(volume, connector, server)
            found = made.get('id') or made['connection_info']['attachment_id']
            if mind.random() < 0.7:
                attachments.complete(found)

        ways: list[tuple[str, Callable[[], Any]]] = [
            ('os-attach', lambda: volumes.attach(volume, server, '/dev/vdb')),
            ('attachment', attachment),
            ('attachment', attachment),
            ('os-reserve', lambda: volumes.reserve(volume)),
            ('os-begin_detaching', lambda: volumes.begin_detaching(volume)),
        ]
        what, forge = mind.choice(ways)
        with self._counting(f'forge by {what}'):
            forge()
        # Or there would be nothing left to attach.
        time.sleep(mind.uniform(0, 5 * _PAUSE))

    def _volume(self, mind: random.Random) -> str:
        return self.stage.volumes[mind.choice(list(_VOLUMES))]

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    @contextlib.contextmanager
    def _counting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (
            cinder_exceptions.ClientException,
            nova_exceptions.ClientException,
        ) as exc:
            self._count(f'{what}: {exc.code}')
        else:
            self._count(what)

    # What is in the databases

    def _await(self, look: Callable[[], Any]) -> None:
        """Wait for a result, but not longer than the race lasts."""
        with contextlib.suppress(stages.NeverHappened):
            stages.wait_for(
                '', lambda: look() or self._over.is_set(), _PATIENCE
            )

    def _nova_has(self, server: str, volume: str) -> str | None:
        """Whether Nova has a volume, and what Cinder has of it."""
        (rows,) = self._cloud.mariadb.read(
            (
                'nova_cell1',
                'SELECT attachment_id FROM block_device_mapping WHERE NOT '
                'deleted AND instance_uuid = %s AND volume_id = %s',
                [server, volume],
            )
        )
        if not rows:
            return None
        return self.attached().get(rows[0][0], ('unknown',))[0]

    def _is_at_rest(self) -> bool:
        before = self.stage.look()
        time.sleep(_PATIENCE / 5)
        now = self.stage.look()
        return before == now and now.are_at_rest(())
