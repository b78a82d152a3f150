# SPDX-License-Identifier: Apache-2.0

"""The real Cinder lists only volumes that can be inconsistent.

An audit has to find the same as one that reads every volume, in all
combinations of what Cinder and Nova say of a volume.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import itertools
import json
import logging
import pathlib
import sqlite3
from typing import Any
from typing import NamedTuple
import uuid

import pytest

from attachguard.audit import classes
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from attachguard.testing import embedded
from attachguard.testing import StubCloud
from tests.functional.audit import Scene
from tests.unit.audit import test_table as table

pytestmark = pytest.mark.newest

LONG_AGO = '2025-11-01 00:00:00.000000'
MIGRATION_STATUSES = (
    *('', 'none', 'success', 'error'),
    *('starting', 'migrating', 'completing', 'deleting'),
    f'target:{uuid.uuid4()}',
)


class State(NamedTuple):
    """What both services say of a volume.

    :param attached: the attach_status of each attachment
    :param nova: a key of ``table.NOVA`` for each server; an attachment names
        the server at its position
    :param host: to which the attachments are connected
    """

    status: str
    attached: tuple[str, ...]
    attach_status: str | None
    nova: tuple[str, ...]
    migration_status: str | None = None
    multiattach: bool = False
    host: str = 'compute1'


def states() -> Iterator[State]:
    """All combinations of the table, and more than one of some things."""
    for status, attached, attach_status, nova in table.combinations():
        if attached == 'detaching':
            # Cinder responds with 500 to a list that contains it.
            continue
        yield State(
            status,
            () if attached is None else (attached,),
            attach_status,
            () if nova == 'no server' else (nova,),
        )
    for status, migration_status in itertools.product(
        ('available', 'error', 'in-use'), MIGRATION_STATUSES
    ):
        yield State(status, (), None, (), migration_status)
        yield State(status, ('attached',), None, ('has it',), migration_status)
    for status, multiattach in itertools.product(
        ('available', 'creating', 'error', 'in-use', 'reserved'),
        (False, True),
    ):
        for count in range(3):
            yield State(
                status,
                ('attached',) * count,
                None,
                ('has it', 'has it'),
                None,
                multiattach,
            )
        yield State(
            status, ('attached',), None, ('has it',), None, False, 'compute2'
        )


@dataclasses.dataclass
class Cinder:
    """The database of a real Cinder."""

    connection: sqlite3.Connection
    type_id: str
    project_id: str

    def insert(self, table_name: str, **values: Any) -> None:
        """Insert a row."""
        names = ', '.join(values)
        places = ', '.join('?' * len(values))
        self.connection.execute(
            f'INSERT INTO {table_name} ({names}) VALUES ({places})',
            list(values.values()),
        )

    def add_volume(self, status: str, **values: Any) -> str:
        """Add a volume that has not changed for long."""
        volume_id = str(uuid.uuid4())
        row = {
            'id': volume_id,
            'status': status,
            'project_id': self.project_id,
            'attach_status': 'detached',
            'host': 'embedded@nostorage#pool',
            'size': 1,
            'use_quota': True,
            'volume_type_id': self.type_id,
            'created_at': LONG_AGO,
            'updated_at': LONG_AGO,
            'deleted': False,
        }
        self.insert('volumes', **{**row, **values})
        return volume_id

    def add_attachment(
        self, volume_id: str, server_id: str, attach_status: str, host: str
    ) -> str:
        """Add an attachment."""
        attachment_id = str(uuid.uuid4())
        self.insert(
            'volume_attachment',
            id=attachment_id,
            volume_id=volume_id,
            instance_uuid=server_id,
            attach_status=attach_status,
            attached_host=host,
            mountpoint='/dev/vdb',
            attach_time=LONG_AGO,
            created_at=LONG_AGO,
            deleted=False,
        )
        return attachment_id


@pytest.fixture(scope='module')
def cloud(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[StubCloud, Cinder]]:
    """The real Cinder, with the stubs of the other services."""
    directory = pathlib.Path(tmp_path_factory.mktemp('cinder'))
    with (
        StubCloud(cinder=None) as stubs,
        embedded.EmbeddedCinder(
            directory, stubs.keystone_url, guard=False
        ) as cinder,
        contextlib.closing(
            sqlite3.connect(directory / 'cinder.sqlite', timeout=30)
        ) as connection,
    ):
        stubs.register_cinder(cinder.url)
        (type_id,) = connection.execute(
            "SELECT id FROM volume_types WHERE name = '__DEFAULT__'"
        ).fetchone()
        yield stubs, Cinder(connection, type_id, stubs.project_id('member'))


@pytest.fixture
def scene(
    cloud: tuple[StubCloud, Cinder],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """An empty cloud."""
    stubs, cinder = cloud
    scene = Scene(stubs, tmp_path, capsys, monkeypatch)
    scene.log_in('admin')
    # Of thousands of requests, the logs take long.
    logging.disable(logging.INFO)
    yield scene
    logging.disable(logging.NOTSET)
    stubs.nova.servers.clear()
    with cinder.connection:
        for name in ('volume_attachment', 'volumes'):
            cinder.connection.execute(f'DELETE FROM {name}')


def _make(stubs: StubCloud, cinder: Cinder, state: State) -> str:
    """Make a volume in a state, with its servers; returns its id."""
    volume_id = cinder.add_volume(
        state.status,
        attach_status=state.attach_status
        or ('attached' if 'attached' in state.attached else 'detached'),
        migration_status=state.migration_status,
        multiattach=state.multiattach,
    )
    for nova, attached in itertools.zip_longest(state.nova, state.attached):
        server_id = str(uuid.uuid4())
        attachment_id: str | None = str(uuid.uuid4())
        if attached is not None:
            attachment_id = cinder.add_attachment(
                volume_id, server_id, attached, state.host
            )
        if nova in (None, 'gone'):
            continue
        shelved = nova == 'has it, shelved'
        stubs.nova.add_server(
            stubs.project_id('other'),
            server_id=server_id,
            status='SHELVED_OFFLOADED' if shelved else 'ACTIVE',
        )
        if nova == 'lacks it':
            continue
        if nova == 'has it by another id':
            attachment_id = str(uuid.uuid4())
        elif nova == 'has it without an id':
            attachment_id = None
        stubs.nova.add_attachment(
            server_id, volume_id, attachment_id=attachment_id
        )
    return volume_id


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each page of volumes that is read."""
    pages: list[int] = []
    call = rest.Service.call

    def count(service: Any, *args: Any, **options: Any) -> rest.Response:
        response = call(service, *args, **options)
        if args[1].startswith('/volumes/detail?'):
            pages.append(len(response.body['volumes']))
        return response

    monkeypatch.setattr(rest.Service, 'call', count)
    return pages


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read each single resource once: the second audit only reads lists."""
    call = rest.Service.call
    known: dict[tuple[Any, ...], rest.Response] = {}

    def remember(service: Any, *args: Any, **options: Any) -> rest.Response:
        if '?' in args[1]:
            return call(service, *args, **options)
        if args not in known:
            known[args] = call(service, *args, **options)
        return known[args]

    monkeypatch.setattr(rest.Service, 'call', remember)


def _audit(scene: Scene, name: str) -> list[dict[str, Any]]:
    """Audit; returns what was found, in a stable order."""
    state = scene.directory / name
    ran = scene.run(
        *('audit', '-f', 'json', '--all', '--state-file', str(state))
    )
    assert ran.code in (0, 3), ran.err
    kept = ('Class', 'What is wrong', 'Volume', 'Server', 'Attachment')
    rows = [{key: row[key] for key in kept} for row in ran.rows]
    return sorted(rows, key=json.dumps)


def _list_every_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an audit read the volumes of every status, in one list."""
    monkeypatch.setattr(api, '_LISTED', ({},))


@pytest.mark.nightly
def test_nothing_is_lost_by_listing_fewer_volumes(
    cloud: tuple[StubCloud, Cinder],
    scene: Scene,
    remembered: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubs, cinder = cloud
    stubs.nova.add_server(stubs.project_id('other')).host = 'compute2'
    with cinder.connection:
        made = {_make(stubs, cinder, state): state for state in states()}
    found = _audit(scene, 'found')
    with monkeypatch.context() as changed:
        _list_every_volume(changed)
        before = _audit(scene, 'before')
    assert {row['Class'] for row in before} == set(classes.CLASSES) - {
        'duplicate',
        'no-project',
        'nova-duplicate',
        'nova-leftover',
        'volume-deleted',
        'volume-gone',
        'wrong-server',
    }
    lost = [(made[row['Volume']], row) for row in before if row not in found]
    more = [(made[row['Volume']], row) for row in found if row not in before]
    assert (lost, more) == ([], [])


def test_half_the_pages_are_read_where_half_the_volumes_are_available(
    cloud: tuple[StubCloud, Cinder],
    scene: Scene,
    counted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubs, cinder = cloud
    monkeypatch.setattr(rest, 'PAGE_SIZE', 10)
    with cinder.connection:
        for _ in range(100):
            attached = State('in-use', ('attached',), None, ('has it',))
            _make(stubs, cinder, attached)
            _make(stubs, cinder, State('available', (), None, ()))
    assert _audit(scene, 'found') == []
    # Full pages and an empty one; five more lists, and two of mismatches; and
    # the count with one volume.
    assert (len(counted), sum(counted)) == (11 + 5 + 2 + 1, 100 + 1)
    counted.clear()
    _list_every_volume(monkeypatch)
    assert _audit(scene, 'before') == []
    assert (len(counted), sum(counted)) == (21 + 2 + 1, 200 + 1)
