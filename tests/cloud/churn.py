# SPDX-License-Identifier: Apache-2.0
"""Members who build, use and delete servers all the time, and nothing else."""

from __future__ import annotations

import collections
from collections.abc import Iterator
import contextlib
import random
import threading
import uuid

from tests.cloud import cloud as clouds
from tests.cloud import records
from tests.cloud import stage as stages

_MEMBERS = 3


class Churn:
    """Threads of members, each with servers and volumes of its own.

    :param cloud: the cloud, which runs
    :param seed: of the random choices
    """

    def __init__(self, cloud: clouds.Cloud, seed: int) -> None:
        self._cloud = cloud
        self._seed = seed
        self._over = threading.Event()
        self._lock = threading.Lock()
        #: how often what was done
        self.counts: collections.Counter[str] = collections.Counter()
        #: what went wrong in a thread
        self.errors: list[str] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the members work; at the end, they delete what they have."""
        members = [
            threading.Thread(target=self._live, args=(number,))
            for number in range(_MEMBERS)
        ]
        for member in members:
            member.start()
        try:
            yield
        finally:
            self._over.set()
            for member in members:
                member.join()

    def _live(self, number: int) -> None:
        stage = stages.Stage(self._cloud, f'req-{uuid.uuid4()}')
        mind = random.Random(f'{self._seed} {number}')
        try:
            stage.volume('data')
            while not self._over.is_set():
                self._use(stage, mind)
        except Exception as exc:
            self.errors.append(repr(exc))
            raise
        finally:
            stage.clear()

    def _use(self, stage: stages.Stage, mind: random.Random) -> None:
        """Build a server, perhaps on a volume, use it and delete it."""
        disk = {
            'uuid': stage.image.id,
            'source_type': 'image',
            'destination_type': 'volume',
            'boot_index': '0',
            'volume_size': 1,
            'delete_on_termination': True,
        }
        stage.server('vm', disks=[disk] if mind.random() < 0.5 else [])
        vm, data = stage.servers['vm'], stage.volumes['data']
        self._count('build')
        if mind.random() < 0.7:
            stage.add_volume('data', 'vm')
            self._count('attach')
        if mind.random() < 0.3:
            stage.admin.nova.servers.live_migrate(vm, None, 'auto')
            self._count('migrate')
            stage.wait_for_status('vm', 'ACTIVE')
        if stage.status('data') == 'in-use' and mind.random() < 0.5:
            stage.member.nova.volumes.delete_server_volume(vm, data)
            self._count('detach')
            stage.wait_for_status('data', 'available')
        stage.member.nova.servers.delete(vm)
        self._count('delete')
        stage.wait_for_status('vm', records.GONE)
        stage.wait_for_status('data', 'available')

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1
