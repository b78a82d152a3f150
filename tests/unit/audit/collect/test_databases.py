# SPDX-License-Identifier: Apache-2.0

"""The rows of databases as those of the APIs, on SQLite.

MariaDB and PostgreSQL: ``tests/functional/test_audit_databases.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
import sqlite3
from typing import Any

import pytest

from attachguard.audit.collect import rest

pytest.importorskip('sqlalchemy')
databases = pytest.importorskip('attachguard.audit.collect.databases')

_SCHEMAS = {
    'cinder': """
CREATE TABLE volumes (id, project_id, status, attach_status, migration_status,
    multiattach, created_at, updated_at, deleted DEFAULT 0, display_name);
CREATE TABLE volume_attachment (id, volume_id, instance_uuid, attach_status,
    attached_host, mountpoint, attach_time, deleted DEFAULT 0);
""",
    'api': """
CREATE TABLE cell_mappings (id INTEGER PRIMARY KEY, uuid, name,
    database_connection);
""",
    'cell': """
CREATE TABLE instances (id INTEGER PRIMARY KEY, uuid, project_id, vm_state,
    task_state, host, created_at, updated_at, deleted DEFAULT 0, hidden,
    display_name);
CREATE TABLE block_device_mapping (instance_uuid, volume_id, attachment_id,
    deleted DEFAULT 0);
""",
}


class Files:
    """The databases, as files in a directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        for name, schema in _SCHEMAS.items():
            self.run(name, schema)
        self.map_cell('cell', self.url('cell'))

    def url(self, name: str) -> str:
        return f'sqlite:///{self._directory}/{name}'

    def run(self, name: str, script: str) -> None:
        with contextlib.closing(
            sqlite3.connect(self._directory / name)
        ) as connection:
            connection.executescript(script)

    def insert(self, database: str, table: str, /, **values: Any) -> None:
        with (
            contextlib.closing(
                sqlite3.connect(self._directory / database)
            ) as connection,
            connection,
        ):
            columns = ', '.join(values)
            places = ', '.join('?' * len(values))
            connection.execute(
                f'INSERT INTO {table} ({columns}) VALUES ({places})',
                tuple(values.values()),
            )

    def map_cell(self, name: str | None, url: str) -> None:
        self.run('api', 'DELETE FROM cell_mappings')
        self.insert(
            'api',
            'cell_mappings',
            name=name,
            uuid='the-uuid',
            database_connection=url,
        )

    def lists(self, **urls: Any) -> Any:
        given = {'cinder': self.url('cinder'), 'nova_api': self.url('api')}
        return databases.Databases(databases.Urls(**{**given, **urls}), 5)

    def error(self, **urls: Any) -> str:
        """Why they cannot be read."""
        with (
            pytest.raises(rest.CloudError) as caught,
            self.lists(**urls).reading(),
        ):
            pass
        assert 'hush' not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Files:
    return Files(tmp_path)


def rows(pages: Iterator[rest.Page]) -> list[dict[str, Any]]:
    return [row for page in pages for row in page.rows]


def test_an_attachment_has_what_the_api_shows_in_its_volume(
    files: Files,
) -> None:
    files.insert(
        'cinder',
        'volumes',
        id='v',
        project_id='p',
        status='in-use',
        multiattach=1,
        display_name='db',
        created_at='2024-01-01 00:00:00.000000',
    )
    for number, status in enumerate(('attached', 'attached', 'reserved')):
        files.insert(
            'cinder',
            'volume_attachment',
            id=f'a{number}',
            volume_id='v',
            instance_uuid='s',
            attach_status=status,
            attached_host='h',
            mountpoint='/dev/vdb',
            attach_time='2024-01-02 03:04:05.000000',
        )
    lists = files.lists()
    with lists.reading():
        (volume,) = rows(lists.volumes())
        attachments = rows(lists.attachments())
        one = rows(lists.attachments(attach_status='reserved'))
        none = rows(lists.attachments(instance_id='other'))
    assert volume == {
        'id': 'v',
        'os-vol-tenant-attr:tenant_id': 'p',
        'status': 'in-use',
        'migration_status': None,
        'multiattach': True,
        # It has not been updated since.
        'updated_at': '2024-01-01T00:00:00.000000',
        'name': 'db',
        'attachments': [],
    }
    assert attachments[0] == {
        'id': 'a0',
        'volume_id': 'v',
        'instance': 's',
        'status': 'attached',
        'host_name': 'h',
        'device': '/dev/vdb',
        'attached_at': '2024-01-02T03:04:05.000000',
    }
    assert [row['id'] for row in attachments] == ['a0', 'a1', 'a2']
    assert [row['id'] for row in one] == ['a2']
    assert none == []


def test_volumes_that_need_no_row_are_counted(files: Files) -> None:
    for volume_id, status, migration in (
        ('idle', 'available', None),
        ('after a migration', 'available', 'success'),
        ('migrating', 'available', 'migrating'),
        ('busy', 'backing-up', None),
        ('waiting', 'reserved', None),
        ('broken', 'error', None),
    ):
        files.insert(
            'cinder',
            'volumes',
            id=volume_id,
            status=status,
            attach_status='attached' if volume_id == 'idle' else 'detached',
            migration_status=migration,
        )
    lists = files.lists()
    with lists.reading():
        pages = list(lists.volumes())
        mismatched = rows(
            lists.volumes(status='available', attach_status='attached')
        )
    found = [row['id'] for page in pages for row in page.rows]
    assert sorted(found) == ['busy', 'migrating', 'waiting']
    assert sum(page.more for page in pages) == 3
    assert [row['id'] for row in mismatched] == ['idle']


def test_a_server_has_its_volumes_by_their_attachments(files: Files) -> None:
    files.insert(
        'cell',
        'instances',
        uuid='s',
        project_id='p',
        vm_state='stopped',
        task_state='deleting',
        host='h',
        display_name='web',
        updated_at='2024-01-02 03:04:05.000000',
    )
    files.insert('cell', 'instances', uuid='without volumes')
    for volume_id, attachment_id in (('v', 'a'), ('v', None), (None, None)):
        files.insert(
            'cell',
            'block_device_mapping',
            instance_uuid='s',
            volume_id=volume_id,
            attachment_id=attachment_id,
        )
    lists = files.lists()
    with lists.reading():
        pages = list(lists.servers())
    found = [row for page in pages for row in page.rows]
    (volumes, more) = (
        server.pop('os-extended-volumes:volumes_attached') for server in found
    )
    for server in found:
        assert server == {
            'id': 's',
            'tenant_id': 'p',
            'status': 'SHUTOFF',
            'OS-EXT-STS:task_state': 'deleting',
            'updated': '2024-01-02T03:04:05.000000',
            'OS-EXT-SRV-ATTR:host': 'h',
            'name': 'web',
        }
    assert sorted(volumes + more, key=str) == [
        {'id': 'v', 'attachment_id': 'a'},
        {'id': 'v', 'attachment_id': None},
    ]
    # Two servers.
    assert sum(len(page.rows) + page.more for page in pages) == 2


def test_only_what_keeps_a_volume_from_being_attached_is_left(
    files: Files,
) -> None:
    for volume_id, values in (
        ('v', {}),
        ('old', {'multiattach': None}),
        ('shared', {'multiattach': 1}),
        ('gone', {'deleted': 1}),
    ):
        files.insert(
            'cinder', 'volumes', id=volume_id, **{'multiattach': 0, **values}
        )
    for server_id, deleted in (('dead', 7), ('live', 0)):
        files.insert('cell', 'instances', uuid=server_id, deleted=deleted)
    mappings: list[tuple[str | None, str | None]] = [
        ('dead', 'v'),
        ('dead', 'old'),
        ('dead', 'shared'),
        ('dead', 'gone'),
        ('dead', None),
        ('live', 'v'),
        (None, 'v'),
        # Its record is not there any more.
        ('archived', 'v'),
    ]
    for holder, held in mappings:
        files.insert(
            'cell',
            'block_device_mapping',
            instance_uuid=holder,
            volume_id=held,
        )
    files.insert(
        'cell',
        'block_device_mapping',
        instance_uuid='dead',
        volume_id='v',
        deleted=9,
    )
    lists = files.lists()
    with lists.reading():
        found = rows(lists.leftovers())
    assert [(row['server'], row['volume']) for row in found] == [
        ('dead', 'v'),
        ('dead', 'old'),
        ('archived', 'v'),
    ]
    assert {row['cell'] for row in found} == {lists.source.split(', ')[-1]}


def test_the_projects_of_all_volumes_are_listed_once(files: Files) -> None:
    for volume_id, project_id, deleted in (
        ('a', 'p', 0),
        ('b', 'p', 0),
        ('c', 'q', 0),
        ('d', 'r', 1),
    ):
        files.insert(
            'cinder',
            'volumes',
            id=volume_id,
            project_id=project_id,
            status='available',
            deleted=deleted,
        )
    lists = files.lists()
    with lists.reading():
        owners = rows(lists.owners())
        volumes = rows(lists.volumes(project_id='p'))
    assert sorted(row['id'] for row in owners) == ['p', 'q']
    assert [row['id'] for row in volumes] == ['a', 'b']


@pytest.mark.parametrize(
    'template',
    [
        '{scheme}:///{path}/cell',
        'sqlite:///{path}/cell',
        '{scheme}:///{path}/{query}',
    ],
)
def test_a_template_is_filled_in_as_nova_does(
    files: Files, tmp_path: pathlib.Path, template: str
) -> None:
    files.map_cell('cell', template)
    # The URL's path is read without the first slashes.
    default = f'sqlite:///{tmp_path}?cell'
    expected = f'cell cell: sqlite:///{str(tmp_path)[1:]}/cell: no such file'
    assert expected in files.error(nova=default)


@pytest.mark.parametrize(
    ('url', 'why'),
    [
        ('{scheme}://nova:hush@db/cell', 'its URL is a template, which needs'),
        ('mysql+nodriver://nova:hush@db/cell', 'has no kind of database'),
        ('nonsense hush', 'cannot be parsed'),
        ('sqlite:////no/such/file', 'no such file'),
        ('', 'cannot be parsed'),
    ],
)
@pytest.mark.parametrize('name', ['cell1', None])
def test_an_unusable_cell_is_named_with_the_option(
    files: Files, url: str, why: str, name: str | None
) -> None:
    files.map_cell(name, url)
    error = files.error()
    known = name or 'the-uuid'
    assert error.startswith(f'cell {known}: ')
    assert why in error
    assert f'--nova-cell-database {known}=URL' in error
    # By either name, it can be given.
    for given in {known, 'the-uuid'}:
        with files.lists(cells={given: files.url('cell')}).reading():
            pass


@pytest.mark.parametrize('template', ['{nonsense}', '{', '{0}', '{scheme.x}'])
def test_an_invalid_template_is_an_error(files: Files, template: str) -> None:
    files.map_cell('cell', f'mysql://nova:hush@{template}/cell')
    error = files.error(nova='mysql://nova:hush@db/nova')
    assert 'its URL is not a valid template' in error


def test_other_databases_are_errors(files: Files) -> None:
    assert 'nova_api has no cell x; its cells: cell' in files.error(
        cells={'x': files.url('cell')}
    )
    files.run('api', 'DELETE FROM cell_mappings')
    assert 'nova_api has no cell at all' in files.error()
    assert 'no such table: cell_mappings' in files.error(
        nova_api=files.url('cinder')
    )
    wrong = files.error(cinder=files.url('cell'))
    assert wrong.startswith('Cinder: sqlite:///')
    assert 'no such table: volumes' in wrong
    assert 'needs SELECT on volumes, volume_attachment' in wrong


def test_the_source_names_each_database(files: Files) -> None:
    lists = files.lists()
    with lists.reading():
        pass
    assert lists.source.startswith('the databases ')
    assert '/cinder (Cinder), ' in lists.source
    assert lists.source.endswith('/cell (cell cell)')
