# SPDX-License-Identifier: Apache-2.0

"""The inventory from the databases, with the schemas of Cinder and Nova.

Their own migrations make them, on MariaDB and PostgreSQL, running or started
for the tests. What is in a cloud of stubs is copied into the databases: so an
audit by the APIs and one by the databases have to find the same.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import json
import pathlib
import re
import socket
import textwrap
import time
from typing import Any
import uuid

import pytest
import sqlalchemy as sa

from attachguard.audit import engine as engines
from attachguard.audit.collect import databases
from attachguard.audit.collect import rest
from tests.functional.audit import Scene
from tests.functional.audit import scene
from tests.functional.real import cinder_db
from tests.functional.real import databases as servers
from tests.functional.real import nova_db
from tests.functional.test_audit import ONLY_IN_DATABASES
from tests.functional.test_audit import PRODUCED

__all__ = ['scene']

pytestmark = pytest.mark.newest

DOCUMENT = pathlib.Path(__file__).parents[2] / 'doc/source/admin/audit.rst'
CREATED = datetime.datetime(2024, 2, 29, 23, 59, 59)
NAMES = ('cinder', 'nova_api', 'nova_cell0', 'nova_cell1')

# Children first.
TABLES = {
    'cinder': ('volume_attachment', 'volumes'),
    'nova_cell1': ('block_device_mapping', 'instances'),
}
_VM_STATES = {
    'BUILD': 'building',
    'RESCUE': 'rescued',
    'SHUTOFF': 'stopped',
    'SOFT_DELETED': 'soft-delete',
}


@dataclasses.dataclass(frozen=True)
class Place:
    """The databases of a cloud, by their usual names."""

    urls: dict[str, str]
    engines: dict[str, sa.engine.Engine]
    tables: dict[str, sa.Table]

    @property
    def dialect(self) -> str:
        return self.engines['cinder'].dialect.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """The options of the audit."""
        return (
            f'--cinder-database={self.urls["cinder"]}',
            f'--nova-database={self.urls["nova_api"]}',
        )

    def lists(self, timeout: float = 60, **urls: Any) -> databases.Databases:
        """What the audit reads."""
        given = {
            'cinder': self.urls['cinder'],
            'nova_api': self.urls['nova_api'],
            **urls,
        }
        return databases.Databases(databases.Urls(**given), timeout)

    def run(self, name: str, *statements: str) -> None:
        """Run statements."""
        with self.engines[name].begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def insert(self, name: str, table: str, rows: list[Any]) -> None:
        """Insert rows into a table of a database."""
        if rows:
            with self.engines[name].begin() as connection:
                connection.execute(self.tables[table].insert(), rows)

    def clear(self) -> None:
        """Delete all rows that a test makes."""
        for name, tables in TABLES.items():
            self.run(name, *(f'DELETE FROM {table}' for table in tables))

    def copy(self, scene: Scene) -> None:
        """Copy what is in a cloud of stubs."""
        cinder, nova = scene.cloud.cinder, scene.cloud.nova
        volumes = [
            _volume(**vars(item), display_name=item.name)
            for item in cinder.volumes.values()
        ]
        for item in cinder.attachments.values():
            if item.volume_id not in cinder.volumes:
                volumes.append(_volume(id=item.volume_id, deleted=True))
        self.insert('cinder', 'volumes', volumes)
        self.insert(
            'cinder',
            'volume_attachment',
            [
                _attachment(
                    item.volume_id,
                    id=item.id,
                    instance_uuid=item.instance_uuid,
                    attached_host=item.host,
                    mountpoint=item.mountpoint,
                    attach_status=item.attach_status,
                    attach_time=_time(item.attach_time),
                )
                for item in cinder.attachments.values()
            ],
        )
        instances, mappings = [], []
        for server in nova.servers.values():
            instances.append(
                _instance(
                    uuid=server.id,
                    project_id=server.project_id,
                    host=server.host,
                    display_name=server.name,
                    vm_state=_VM_STATES.get(
                        server.status, server.status.lower()
                    ),
                    task_state=server.task_state,
                    deleted=int(server.deleted),
                    created_at=_time(server.created),
                    updated_at=_time(server.created),
                )
            )
            mappings += [
                _mapping(server.id, item.volume_id, item.attachment_id)
                for item in server.attachments.values()
            ]
        self.insert('nova_cell1', 'instances', instances)
        self.insert('nova_cell1', 'block_device_mapping', mappings)


def _time(value: Any) -> datetime.datetime | None:
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    return None if value is None else value.replace(tzinfo=None)


def _volume(**values: Any) -> dict[str, Any]:
    row = {
        'id': str(uuid.uuid4()),
        'project_id': 'p',
        'status': 'in-use',
        'attach_status': 'attached',
        'migration_status': None,
        'multiattach': False,
        'created_at': CREATED,
        'updated_at': CREATED,
        'deleted': False,
        'display_name': None,
    }
    row.update((key, values[key]) for key in row if key in values)
    for key in ('created_at', 'updated_at'):
        row[key] = _time(row[key])
    return {
        **row,
        'use_quota': True,
        'size': 1,
        'volume_type_id': str(uuid.uuid4()),
    }


def _attachment(volume_id: str, **values: Any) -> dict[str, Any]:
    return {
        'id': str(uuid.uuid4()),
        'volume_id': volume_id,
        'instance_uuid': None,
        'attached_host': 'compute1',
        'mountpoint': '/dev/vdb',
        'attach_status': 'attached',
        'attach_time': CREATED,
        'connection_info': '{"auth_password": "hush"}',
        'deleted': False,
        **values,
    }


def _instance(**values: Any) -> dict[str, Any]:
    return {
        'uuid': str(uuid.uuid4()),
        'project_id': 'p',
        'host': 'compute1',
        'vm_state': 'active',
        'task_state': None,
        'created_at': CREATED,
        'updated_at': CREATED,
        'deleted': 0,
        'hidden': False,
        **values,
    }


def _mapping(
    server_id: str, volume_id: str | None, attachment_id: str | None
) -> dict[str, Any]:
    return {
        'instance_uuid': server_id,
        'volume_id': volume_id,
        'attachment_id': attachment_id,
        'source_type': 'volume',
        'destination_type': 'volume',
        'connection_info': '{"auth_password": "hush"}',
        'deleted': 0,
    }


@contextlib.contextmanager
def _made(server: servers.Server) -> Iterator[Place]:
    suffix = uuid.uuid4().hex[:8]
    url = sa.engine.make_url(server.url)
    administrator = sa.create_engine(
        url, future=True, isolation_level='AUTOCOMMIT'
    )
    urls = {
        name: url.set(
            database=f'attachguard_{name}_{suffix}'
        ).render_as_string(hide_password=False)
        for name in NAMES
    }
    engines = {
        name: sa.create_engine(urls[name], future=True) for name in NAMES
    }
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(administrator.connect())
        for name in NAMES:
            database = engines[name].url.database
            connection.exec_driver_sql(f'CREATE DATABASE {database}')
            stack.callback(
                connection.exec_driver_sql, f'DROP DATABASE {database}'
            )
            stack.callback(engines[name].dispose)
        cinder_db.sync(urls['cinder'])
        nova_db.sync(
            urls['nova_api'],
            {'cell0': urls['nova_cell0'], 'cell1': urls['nova_cell1']},
        )
        tables: dict[str, sa.Table] = {}
        for name, found in TABLES.items():
            metadata = sa.MetaData()
            metadata.reflect(engines[name], only=found, resolve_fks=False)
            tables.update(metadata.tables)
        yield Place(urls, engines, tables)
    administrator.dispose()


@pytest.fixture(scope='module', params=list(servers.KINDS))
def made(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Databases with the schemas of the services' migrations."""
    with servers.required(request.param) as server, _made(server) as place:
        yield place


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """Empty ones."""
    made.clear()
    yield made
    made.clear()


def _rows(scene: Scene, *arguments: str) -> list[dict[str, Any]]:
    ran = scene.run('audit', '-f', 'json', '--all', *arguments)
    assert ran.code in (0, 1, 3), ran.err
    kept = (
        'Class',
        'What is wrong',
        'Volume',
        'Volume name',
        'Project',
        'Project name',
        'Server',
        'Server name',
        'Host',
        'Attachment',
        'Since',
        'What to do',
    )
    rows = [{key: row[key] for key in kept} for row in ran.rows]
    for row in rows:
        if row['Class'] == 'volume-deleted':
            # The APIs show since when only in the volume, which is gone.
            row['Since'] = None
    return sorted(rows, key=json.dumps)


def test_the_databases_show_what_the_apis_show(
    scene: Scene, place: Place
) -> None:
    made = {produce(scene).id: kind for kind, produce, _left in PRODUCED}
    for status in ('ACTIVE', 'BUILD', 'SHELVED_OFFLOADED', 'VERIFY_RESIZE'):
        server = scene.server(status=status)
        scene.attached(server)
        scene.record(scene.volume(), server.id, attach_status='reserved')
    scene.attached(scene.server(task_state='deleting'))
    scene.record(scene.volume(), None)
    place.copy(scene)

    # Once with the second check by the APIs, once with what was read.
    for mode in (['--once', '--settle=0s'], ['--state-file']):
        by_api, by_sql = (
            _rows(scene, *mode, *name, *arguments)
            for name, arguments in (
                ([str(scene.directory / 'api')] * (len(mode) == 1), ()),
                (
                    [str(scene.directory / 'sql')] * (len(mode) == 1),
                    place.arguments,
                ),
            )
        )
        more = [row for row in by_sql if row not in by_api]
        assert [row for row in by_api if row not in by_sql] == []
        # Only the databases show by which attachment Nova has each volume,
        # and what is left of deleted servers.
        assert {(row['Class'], made[row['Volume']]) for row in more} == {
            ('attachment-id-mismatch', 'attachment-id-mismatch'),
            (ONLY_IN_DATABASES, ONLY_IN_DATABASES),
        }
        assert {row['Class'] for row in by_sql} == set(made.values())


def test_the_summary_and_the_page_name_the_databases(
    scene: Scene, place: Place
) -> None:
    place.copy(scene)
    page = scene.directory / 'page.html'
    ran = scene.audit(*place.arguments, '--html', str(page))
    assert (ran.code, ran.rows) == (0, [])
    assert 'Inventory from the databases' in ran.err
    for name in ('cinder', 'nova_cell0', 'nova_cell1'):
        database = place.engines[name].url.database
        assert f'{database} (' in ran.err
        assert f'{database} (' in page.read_text()
    scene.cloud.cinder_server.forget()
    assert scene.audit(*place.arguments).code == 0
    # The lists cost the APIs nothing.
    assert scene.cloud.cinder_server.requests == []


def test_the_progress_moves_while_a_database_is_read(
    scene: Scene, place: Place
) -> None:
    for _ in range(3):
        scene.attached(scene.server())
    place.copy(scene)
    seen: collections.Counter[tuple[str, int]] = collections.Counter()

    def show(_self: Any, step: str, count: int) -> None:
        seen[step, count] += 1

    scene.monkeypatch.setattr(
        'attachguard.cmd.progress.Progress.__call__', show
    )
    scene.monkeypatch.setattr('attachguard.audit.collect.rest.PAGE_SIZE', 1)
    assert scene.audit(*place.arguments).code == 0
    for what in ('volumes', 'attachments', 'servers'):
        assert seen[what, 1] == 4


@pytest.mark.parametrize('by', ['volume', 'server'])
def test_one_volume_is_audited_by_the_databases(
    scene: Scene, place: Place, by: str
) -> None:
    server = scene.server()
    volume = scene.volume()
    scene.record(volume, server.id)
    place.copy(scene)
    narrow = {'volume': volume.id, 'server': server.id}[by]
    found = scene.found(*place.arguments, f'--{by}', narrow)
    assert found == [('server-lacks-volume', volume.id)]


def test_files_and_templates_name_the_databases(
    scene: Scene, place: Place
) -> None:
    place.copy(scene)
    url = place.engines['nova_cell1'].url
    cinder, nova = scene.directory / 'cinder.conf', scene.directory / 'nova'
    cinder.write_text(f'[database]\nconnection = {place.urls["cinder"]}\n')
    nova.write_text(
        f'[api_database]\nconnection = {place.urls["nova_api"]}\n'
        f'[database]\nconnection = {place.urls["nova_cell0"]}\n'
    )
    files = ('--cinder-conf', str(cinder), '--nova-conf', str(nova))
    host = '{hostname}' if url.host else ''
    template = f'{{scheme}}://{{username}}@{host}/{url.database}?{{query}}'
    change = "UPDATE cell_mappings SET database_connection = '{}' "
    change += "WHERE name = 'cell1'"
    place.run('nova_api', change.format(template))
    try:
        assert scene.audit(*files).code == 0
        without = scene.audit(*place.arguments)
        named = scene.audit(
            *place.arguments,
            f'--nova-cell-database=cell1={place.urls["nova_cell1"]}',
        )
    finally:
        place.run('nova_api', change.format(place.urls['nova_cell1']))
    assert without.code == 1
    assert 'error: cell cell1: its URL is a template' in without.err
    assert '--nova-cell-database cell1=URL' in without.err
    assert named.code == 0


def _listed(lists: databases.Databases) -> dict[str, list[str]]:
    with lists.reading():
        return {
            what: [
                row['id']
                for page in getattr(lists, what)()
                for row in page.rows
            ]
            for what in ('volumes', 'attachments', 'servers')
        }


def test_what_is_deleted_or_hidden_is_left_out(place: Place) -> None:
    volume, gone = _volume(), _volume(deleted=True)
    place.insert('cinder', 'volumes', [volume, gone])
    kept = _attachment(volume['id'])
    place.insert(
        'cinder',
        'volume_attachment',
        [kept, _attachment(volume['id'], deleted=True)],
    )
    server = _instance()
    place.insert(
        'nova_cell1',
        'instances',
        [server, _instance(deleted=7), _instance(hidden=True)],
    )
    with place.engines['nova_cell1'].connect() as connection:
        ids = connection.execute(sa.text('SELECT uuid FROM instances'))
        mappings = [
            _mapping(server_id, volume['id'], kept['id'])
            for (server_id,) in ids
        ]
    mappings.append({**_mapping(server['uuid'], 'v', 'a'), 'deleted': 7})
    # An ephemeral disk.
    mappings.append(_mapping(server['uuid'], None, None))
    place.insert('nova_cell1', 'block_device_mapping', mappings)

    lists = place.lists()
    assert _listed(lists) == {
        'volumes': [volume['id']],
        'attachments': [kept['id']],
        'servers': [server['uuid']],
    }
    with lists.reading():
        (row,) = (row for page in lists.servers() for row in page.rows)
    assert row['os-extended-volumes:volumes_attached'] == [
        {'id': volume['id'], 'attachment_id': kept['id']}
    ]


def test_what_deleted_servers_have_left_is_listed(place: Place) -> None:
    kept, shared = _volume(), _volume(multiattach=True)
    gone = _volume(deleted=True)
    place.insert('cinder', 'volumes', [kept, shared, gone])
    dead, live, hidden = (
        _instance(deleted=7),
        _instance(),
        _instance(hidden=True),
    )
    place.insert('nova_cell1', 'instances', [dead, live, hidden])
    again = {**_mapping(dead['uuid'], kept['id'], None), 'deleted': 9}
    place.insert(
        'nova_cell1',
        'block_device_mapping',
        [
            *(
                _mapping(dead['uuid'], volume['id'], None)
                for volume in (kept, shared, gone)
            ),
            again,
            _mapping(dead['uuid'], None, None),
            _mapping(live['uuid'], kept['id'], None),
            _mapping(hidden['uuid'], kept['id'], None),
        ],
    )
    lists = place.lists()
    with lists.reading():
        rows = [row for page in lists.leftovers() for row in page.rows]
    (row,) = rows
    assert (row['volume'], row['server']) == (kept['id'], dead['uuid'])
    assert row['cell'].endswith('(cell cell1)')


def test_the_printed_sql_lets_nova_attach_the_volume_again(
    scene: Scene, place: Place
) -> None:
    volume, server = scene.volume(), scene.server(deleted=True)
    live = scene.server()
    healthy = scene.attached(live)
    left = scene.cloud.nova.add_attachment(server.id, volume.id)
    place.copy(scene)
    cell = place.urls['nova_cell1']
    # This is what Nova looks at before it attaches a volume.
    assert nova_db.holders(cell, volume.id) == [server.id]

    (row,) = scene.audit(*place.arguments).rows
    assert (row['Class'], row['Volume']) == ('nova-leftover', volume.id)
    assert row['Server'] == server.id
    explained = scene.run('explain', volume.id, *place.arguments, '-f', 'json')
    assert explained.code == 3
    assert explained.rows['What to do'] == [row['What to do']]
    (statement,) = (
        line.removeprefix('#   ')
        for line in row['What to do'].splitlines()
        if line.startswith('#   ')
    )
    change = "UPDATE instances SET deleted = {} WHERE uuid = '{}'"
    # Nova has the server again, so that nothing may be removed.
    place.run('nova_cell1', change.format(0, server.id), statement)
    assert nova_db.holders(cell, volume.id) == [server.id]
    place.run('nova_cell1', change.format(7, server.id), statement)
    assert nova_db.holders(cell, volume.id) == []
    assert nova_db.holders(cell, healthy.id) == [live.id]
    assert left.volume_id in server.attachments
    del server.attachments[volume.id]
    assert scene.found(*place.arguments) == []


@pytest.mark.parametrize('status', [403, 503])
def test_a_leftover_that_nova_does_not_confirm_is_unknown(
    scene: Scene, place: Place, status: int
) -> None:
    volume, server = scene.volume(), scene.server(deleted=True)
    scene.cloud.nova.add_attachment(server.id, volume.id)
    place.copy(scene)
    scene.cloud.nova.faults.add(status, None, f'uuid={server.id}')
    ran = scene.audit(*place.arguments)
    assert (ran.code, ran.rows) == (1, [])
    assert f'unknown: volume {volume.id}' in ran.err
    scene.cloud.nova.faults.clear()
    # The replica is late: Nova has removed it in the meantime.
    del server.attachments[volume.id]
    assert scene.audit(*place.arguments).code == 0
    # Or it has restored the server.
    server.deleted = False
    assert scene.audit(*place.arguments).code == 0


def test_states_have_the_names_of_the_api(place: Place) -> None:
    expected = nova_db.statuses()
    instances = [_instance(uuid=state, vm_state=state) for state in expected]
    place.insert('nova_cell1', 'instances', instances)
    place.insert(
        'nova_cell1',
        'block_device_mapping',
        [_mapping(state, 'volume', None) for state in expected],
    )
    lists = place.lists()
    with lists.reading():
        found = {
            row['id']: row['status']
            for page in lists.servers()
            for row in page.rows
        }
    assert found == expected
    assert 'shelved_offloaded' in found


def test_pages_are_bounded_and_everything_is_counted(place: Place) -> None:
    volumes = [_volume() for _ in range(2100)]
    idle = [
        _volume(status='available', attach_status='detached')
        for _ in range(300)
    ]
    place.insert('cinder', 'volumes', volumes + idle)
    attachments = [_attachment(row['id']) for row in volumes]
    place.insert('cinder', 'volume_attachment', attachments)
    servers = [_instance() for _ in range(1002)]
    place.insert('nova_cell1', 'instances', servers)
    place.insert(
        'nova_cell1',
        'block_device_mapping',
        [
            _mapping(server['uuid'], str(number), None)
            for server in servers[:1001]
            for number in range(3)
        ],
    )
    lists = place.lists()
    with lists.reading():
        pages = [(len(page.rows), page.more) for page in lists.volumes()]
        first = next(lists.attachments(limit='10'))
        again = next(lists.attachments())
        cells = [(len(page.rows), page.more) for page in lists.servers()]
    assert pages == [(1000, 0), (1000, 0), (100, 0), (0, 300)]
    assert (len(first.rows), len(again.rows)) == (10, 1000)
    # The first cell is empty. A server is listed once for each volume.
    assert cells[:2] == [(0, 0), (0, 0)]
    assert [rows for rows, _more in cells[2:]] == [1000, 1000, 1000, 3, 0]
    assert sum(rows + more for rows, more in cells) == 1002


def test_a_snapshot_is_consistent(place: Place) -> None:
    lists = place.lists()
    with lists.reading():
        volume, server = _volume(), _instance()
        place.insert('cinder', 'volumes', [volume])
        place.insert('nova_cell1', 'instances', [server])
        place.insert(
            'nova_cell1',
            'block_device_mapping',
            [_mapping(server['uuid'], volume['id'], None)],
        )
        seen = [
            (len(page.rows), page.more)
            for what in (lists.volumes, lists.servers)
            for page in what()
        ]
    assert set(seen) == {(0, 0)}
    assert _listed(lists)['servers'] == [server['uuid']]


def test_nothing_can_be_written(place: Place) -> None:
    place.insert('cinder', 'volumes', [_volume()])
    snapshot = databases.Snapshot(
        'Cinder', engines.Engine(place.urls['cinder']), 60, (), ''
    )
    writes: Any = sa.text(
        {
            'mysql': 'DELETE FROM volumes',
            'postgresql': 'SELECT id FROM volumes FOR UPDATE',
        }[place.dialect]
    )
    with pytest.raises(rest.CloudError, match='(?i)read.only transaction'):
        with snapshot:
            snapshot.read(writes)
    assert _listed(place.lists())['volumes']


def _documented(place: Place) -> Iterator[tuple[str, str]]:
    """The statements of the documentation, each with its database."""
    text = DOCUMENT.read_text()
    first, second = (
        textwrap.dedent(block.partition('\n\n')[2].partition('\n\n')[0])
        for block in re.split('code-block:: p?sql', text)[1:]
    )
    if place.dialect == 'mysql':
        for statement in filter(str.strip, first.split(';')):
            for name in NAMES:
                where = name.replace('_cell0', '').replace('_cell1', '')
                if f'ON {where}.' in statement:
                    database = place.engines[name].url.database
                    yield (
                        name,
                        statement.replace(f'ON {where}.', f'ON {database}.'),
                    )
            if 'ON ' not in statement:
                yield 'cinder', statement
        return
    for part in f'\\connect cinder\n{second}'.split('\\connect ')[1:]:
        where, _newline, statements = part.partition('\n')
        for statement in filter(str.strip, statements.split(';')):
            for name in NAMES:
                if re.fullmatch(rf'{where}(_cell.)?', name):
                    yield name, statement


@pytest.fixture
def account(place: Place) -> Iterator[dict[str, str]]:
    """The URLs of the documented account."""
    user = f'attachguard_{uuid.uuid4().hex[:8]}'
    quoted = f"{user}@'%%'" if place.dialect == 'mysql' else user
    place_of = {
        name: engine.url.set(username=user, password='p@ss').render_as_string(
            hide_password=False
        )
        for name, engine in place.engines.items()
    }
    try:
        for name, statement in _documented(place):
            place.run(
                name,
                re.sub(r"\battachguard\b(@'%')?", quoted, statement)
                .replace('PASSWORD \'PASSWORD', "PASSWORD 'p@ss")
                .replace("BY 'PASSWORD", "BY 'p@ss"),
            )
        yield place_of
    finally:
        if place.dialect == 'postgresql':
            for name in NAMES:
                place.run(name, f'DROP OWNED BY {user}')
            place.run('cinder', f'DROP ROLE {user}')
        else:
            place.run('cinder', f'DROP USER {quoted}')


def test_the_documented_rights_suffice(
    place: Place, account: dict[str, str]
) -> None:
    volume, server = _volume(), _instance()
    attachment = _attachment(volume['id'])
    place.insert('cinder', 'volumes', [volume])
    place.insert('cinder', 'volume_attachment', [attachment])
    place.insert('nova_cell1', 'instances', [server])
    mapping = _mapping(server['uuid'], volume['id'], attachment['id'])
    place.insert('nova_cell1', 'block_device_mapping', [mapping])
    lists = place.lists(
        cinder=account['cinder'],
        nova_api=account['nova_api'],
        cells={name: account[f'nova_{name}'] for name in ('cell0', 'cell1')},
    )
    assert _listed(lists) == {
        'volumes': [volume['id']],
        'attachments': [attachment['id']],
        'servers': [server['uuid']],
    }
    with lists.reading():
        assert [list(lists.owners()), list(lists.leftovers())]


@pytest.mark.parametrize(
    ('table', 'name', 'error'),
    [
        ('volume_attachment', 'cinder', 'Cinder: .* SELECT on volumes, volum'),
        ('cell_mappings', 'nova_api', 'nova_api: .* SELECT on cell_mappings'),
        ('instances', 'nova_cell1', 'cell cell1: .* SELECT on instances'),
    ],
)
def test_a_missing_right_is_named(
    place: Place, account: dict[str, str], table: str, name: str, error: str
) -> None:
    user = sa.engine.make_url(account[name]).username
    database = place.engines[name].url.database
    place.run(
        name,
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}@'%%'"
        if place.dialect == 'mysql'
        else f'REVOKE ALL ON {table} FROM {user}',
    )
    if place.dialect == 'mysql':
        # It has still to be able to use the database.
        place.run(name, f"GRANT CREATE ON {database}.* TO {user}@'%%'")
    urls: dict[str, dict[str, Any]] = {
        'cinder': {'cinder': account['cinder']},
        'nova_api': {'nova_api': account['nova_api']},
        'nova_cell1': {'cells': {'cell1': account['nova_cell1']}},
    }
    with (
        pytest.raises(rest.CloudError, match=error) as caught,
        place.lists(**urls[name]).reading(),
    ):
        pass
    assert 'p@ss' not in str(caught.value)
    assert 'p%40ss' not in str(caught.value)


def test_other_databases_are_refused(scene: Scene, place: Place) -> None:
    for wrong, expected in (
        ('--cinder-database={nova_api}', 'error: Cinder: '),
        ('--nova-database={cinder}', 'error: nova_api: '),
        ('--nova-cell-database=cell1={cinder}', 'error: cell cell1: '),
        ('--nova-cell-database=cell7={cinder}', 'nova_api has no cell cell7'),
        ('--nova-cell-database=cell1=nonsense', 'error: cell cell1: '),
    ):
        ran = scene.audit(*place.arguments, wrong.format(**place.urls))
        assert (ran.code, ran.out) == (1, ''), ran
        assert expected in ran.err


def test_a_database_that_does_not_answer_ends_the_audit(
    place: Place,
) -> None:
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = (
            sa.engine.make_url(place.urls['cinder'])
            .set(username='c', password='hush', host='127.0.0.1')
            .set(port=silent.getsockname()[1], query={})
            .render_as_string(hide_password=False)
        )
        started = time.monotonic()
        with pytest.raises(rest.CloudError, match='^Cinder: ') as caught:
            with place.lists(timeout=1, cinder=url).reading():
                pass
    assert time.monotonic() - started < 20
    assert 'hush' not in str(caught.value)
