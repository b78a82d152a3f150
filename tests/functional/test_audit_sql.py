# SPDX-License-Identifier: Apache-2.0

"""Repair in Cinder's database, with its real schema, compared with Cinder.

On MariaDB and PostgreSQL, running or started for the tests, and on SQLite.
Where one of them is missing its tests are skipped, but not in CI.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import functools
import json
import pathlib
import re
import sqlite3
import subprocess
import threading
import time
from typing import Any
import uuid

import pytest
import sqlalchemy as sa

from attachguard.audit import engine
from attachguard.audit.repair import sql
from attachguard.audit.repair import sql_change
from tests.functional.real import cinder_db
from tests.functional.real import databases

TABLES = ('volumes', 'volume_attachment', 'volume_admin_metadata')
SERVER = '5a5a5a5a-1111-4111-8111-111111111111'
CREATED = datetime.datetime(2024, 2, 29, 23, 59, 59)
UPDATED = datetime.datetime(2024, 3, 1, 0, 0, 0, 123456)

#: Hostile names of hosts and mount points, which users can choose.
HOSTILE = (
    "'; DROP TABLE volume_attachment; --",
    "\\'; DROP TABLE volume_attachment; -- ",
    "\\",
    "''",
    '" OR 1=1 #',
    'a\n-- \nROLLBACK;\nDELETE FROM volume_attachment;\n\\! touch owned\n',
    '100%, %s %(x)s %%',
    ':id ::text :"x" $1 ?',
    '`id` /*! DROP TABLE volumes */',
    '\x1b[2J\r\t\x7f',
    'Gerät, 装置',
    '',
    ' x ',
)


@dataclasses.dataclass(frozen=True)
class Place:
    """A database with Cinder's schema.

    :param url: SQLAlchemy's
    :param client: runs a script in the dialect's own client, and returns its
        output
    """

    url: str
    client: Callable[[str], str]
    engine: sa.engine.Engine

    @functools.cached_property
    def tables(self) -> dict[str, sa.Table]:
        """The tables, as the database describes them."""
        metadata = sa.MetaData()
        metadata.reflect(self.engine, only=TABLES, resolve_fks=False)
        return dict(metadata.tables)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def insert(self, table: str, **values: Any) -> str:
        """Insert a row, with Cinder's values where none are given."""
        row = {
            'created_at': CREATED,
            'updated_at': UPDATED,
            'deleted': False,
            **values,
        }
        if table != 'volume_admin_metadata':
            row.setdefault('id', str(uuid.uuid4()))
        with self.engine.begin() as connection:
            connection.execute(self.tables[table].insert().values(**row))
        return str(row.get('id'))

    def volume(
        self,
        status: str | None = 'in-use',
        attach_status: str | None = 'attached',
        **values: Any,
    ) -> str:
        """Insert a volume."""
        return self.insert(
            'volumes',
            **{
                'status': status,
                'attach_status': attach_status,
                'volume_type_id': str(uuid.uuid4()),
                'size': 1,
                'use_quota': True,
                'multiattach': True,
                'display_name': "it's",
                **values,
            },
        )

    def attachment(
        self, volume_id: str, attach_status: str | None = 'attached', **v: Any
    ) -> str:
        """Insert an attachment."""
        return self.insert(
            'volume_attachment',
            **{
                'volume_id': volume_id,
                'attach_status': attach_status,
                'instance_uuid': SERVER,
                'attached_host': 'compute1',
                'mountpoint': '/dev/vdb',
                'attach_mode': 'rw',
                'attach_time': CREATED,
                'connection_info': '{"auth_password": "hush"}',
                'connector': '{"host": "compute1"}',
                **v,
            },
        )

    def run(self, *statements: str) -> None:
        """Run statements, each of one transaction."""
        with self.engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
                connection.commit()

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows, as the driver returns them."""
        with self.engine.connect() as connection:
            return {
                table: [
                    dict(row._mapping)
                    for row in connection.exec_driver_sql(
                        f'SELECT * FROM {table} ORDER BY id'
                    )
                ]
                for table in TABLES
            }

    def restore(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """Replace all rows by others that were read."""
        with self.engine.begin() as connection:
            for table in reversed(TABLES):
                connection.exec_driver_sql(f'DELETE FROM {table}')
            for table in TABLES:
                for row in rows[table]:
                    connection.execute(
                        sa.table(table, *map(sa.column, row))
                        .insert()
                        .values(**row)
                    )


def _client(*command: str) -> Callable[[str], str]:
    def run(script: str) -> str:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@contextlib.contextmanager
def _on(server: databases.Server) -> Iterator[Place]:
    name = f'attachguard_sql_{uuid.uuid4().hex[:8]}'
    url = sa.engine.make_url(server.url)
    administrator = sa.create_engine(
        url, future=True, isolation_level='AUTOCOMMIT'
    )
    url = url.set(database=name)
    engine = sa.create_engine(url, future=True)
    with administrator.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE {name}')
        try:
            yield Place(str(url), _client(*server.client, name), engine)
        finally:
            engine.dispose()
            connection.exec_driver_sql(f'DROP DATABASE {name}')
    administrator.dispose()


@contextlib.contextmanager
def _sqlite(path: pathlib.Path) -> Iterator[Place]:
    def run(script: str) -> str:
        with contextlib.closing(
            sqlite3.connect(path, isolation_level=None)
        ) as connection:
            connection.executescript(script)
        return ''

    engine = sa.create_engine(
        f'sqlite:///{path}', future=True, poolclass=sa.pool.NullPool
    )
    yield Place(f'sqlite:///{path}', run, engine)


@pytest.fixture(
    scope='module',
    params=[
        pytest.param('mysql', marks=pytest.mark.newest),
        pytest.param('postgresql', marks=pytest.mark.newest),
        'sqlite',
    ],
)
def synced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Databases with the schema that Cinder's migrations make."""
    with contextlib.ExitStack() as stack:
        if request.param == 'sqlite':
            path = tmp_path_factory.mktemp('sqlite') / 'cinder'
            place = stack.enter_context(_sqlite(path))
        else:
            server = stack.enter_context(databases.required(request.param))
            place = stack.enter_context(_on(server))
        cinder_db.sync(place.url)
        yield place


@pytest.fixture
def place(synced: Place) -> Place:
    """An empty one."""
    synced.restore({table: [] for table in TABLES})
    return synced


@pytest.fixture
def database(place: Place) -> Iterator[sql.Database]:
    with sql.Database(place.url) as database:
        yield database


def mode(place: Place, volume_id: str, **values: Any) -> None:
    place.insert(
        'volume_admin_metadata',
        **{
            'volume_id': volume_id,
            'key': 'attached_mode',
            'value': 'rw',
            **values,
        },
    )


# Creates a volume: its id, and the attachments to remove.
Scene = Callable[[Place], tuple[str, list[str]]]


def _of(
    *statuses: str | None, stay: tuple[str | None, ...] = (), **volume: Any
) -> Scene:
    """Return what creates a volume with attachments."""

    def make(place: Place) -> tuple[str, list[str]]:
        volume_id = place.volume(**volume)
        for status in stay:
            place.attachment(volume_id, status)
        # Some that are already deleted.
        place.attachment(volume_id, 'detached', deleted=True)
        mode(place, volume_id)
        mode(place, volume_id, key='readonly', value='True')
        mode(place, volume_id, deleted=True, deleted_at=CREATED)
        return volume_id, [place.attachment(volume_id, s) for s in statuses]

    return make


SCENES: dict[str, Scene] = {
    'the only one': _of('attached'),
    'one that is reserved': _of('reserved', status='reserved'),
    'one in error': _of('error_detaching', status='error_detaching'),
    'one of a volume in error': _of('attached', status='error'),
    'beside one attached': _of('attached', stay=('attached', 'reserved')),
    'beside one reserved': _of('attached', stay=('reserved',)),
    'beside some at work': _of('attached', stay=('reserved', 'attaching')),
    'beside one in error': _of('attached', stay=('error_attaching',)),
    'beside one of no status': _of('attached', stay=(None,)),
    'two': _of('attached', 'attaching', stay=('reserved',)),
    'after a migration': _of('attached', migration_status='success'),
    'after a failed migration': _of('attached', migration_status='error'),
    'in-use by none': _of(),
    'reserved for none': _of(status='reserved', attach_status='detached'),
    'attaching nothing': _of(status='attaching', attach_status='detached'),
    'detaching nothing': _of(status='detaching'),
    'available and attached': _of(status='available'),
    'in-use and detached': _of(attach_status='detached'),
    'of no attach_status': _of(attach_status=None),
    'never updated': _of('attached', updated_at=None),
}
GONE: dict[str, Scene] = {
    'of a deleted volume': _of(
        'attached', status='deleted', deleted=True, deleted_at=CREATED
    ),
    'two of a deleted volume': _of(
        'attached', 'reserved', status='deleted', deleted=True
    ),
}


def but_times(
    before: dict[str, list[dict[str, Any]]],
    after: dict[str, list[dict[str, Any]]],
) -> dict[str, list[dict[str, Any]]]:
    """Return rows with "now" for times that are new."""
    for table in TABLES:
        assert len(before[table]) == len(after[table])
    return {
        table: [
            {
                name: 'now'
                if name in ('deleted_at', 'detach_time', 'updated_at')
                and value != old[name]
                else value
                for name, value in new.items()
            }
            for old, new in zip(before[table], after[table])
        ]
        for table in TABLES
    }


def test_the_result_is_that_of_cinder_itself(
    place: Place, database: sql.Database
) -> None:
    work = {name: make(place) for name, make in SCENES.items()}
    before = place.rows()
    cinder_db.detach(place.url, list(work.values()))
    theirs = but_times(before, place.rows())
    place.restore(before)
    assert place.rows() == before

    for volume_id, attachment_ids in work.values():
        database.execute(database.plan(volume_id, attachment_ids))
    ours = but_times(before, place.rows())

    names = {volume_id: name for name, (volume_id, _) in work.items()}
    for table in TABLES:
        assert len(ours[table]) == len(theirs[table])
        for mine, cinders in zip(ours[table], theirs[table]):
            key = 'id' if table == 'volumes' else 'volume_id'
            name = names[mine[key]]
            if table == 'volumes' and name == 'one of a volume in error':
                # Cinder overwrites a status that is not the attachments'.
                assert cinders['status'] == 'available'
                cinders = {**cinders, 'status': 'error'}
            assert mine == cinders, name
    assert ours != but_times(before, before)


def test_for_a_deleted_volume_the_result_is_that_of_its_deletion(
    place: Place, database: sql.Database
) -> None:
    work = {name: make(place) for name, make in GONE.items()}
    before = place.rows()
    cinder_db.destroy(place.url, [volume_id for volume_id, _ in work.values()])
    theirs = but_times(before, place.rows())
    place.restore(before)

    for volume_id, attachment_ids in work.values():
        database.execute(database.plan(volume_id, attachment_ids))
    ours = but_times(before, place.rows())

    assert ours['volumes'] == theirs['volumes']
    assert ours['volume_attachment'] == theirs['volume_attachment']
    # It is not changed: nothing reads it.
    assert ours['volume_admin_metadata'] == before['volume_admin_metadata']


def test_undo_restores_every_row(place: Place, database: sql.Database) -> None:
    work = [make(place) for make in {**SCENES, **GONE}.values()]
    if place.dialect == 'sqlite':
        # Times can have any form there.
        place.run(
            "UPDATE volume_attachment SET deleted_at = '2024-01-01', "
            "detach_time = '2024-01-01 01:02:03', "
            "updated_at = '2024-01-01T01:02:03.5' WHERE deleted = 0"
        )
    else:
        place.run(
            "UPDATE volume_attachment SET detach_time = '2024-01-01 01:02:03',"
            " updated_at = NULL WHERE attach_status = 'attached'"
        )
    before = place.rows()
    done = []
    for volume_id, attachment_ids in work:
        change = database.plan(volume_id, attachment_ids)
        database.execute(change)
        done.append(json.dumps(change.to_json()))
    assert place.rows() != before
    for written in done:
        database.undo(sql_change.Change.from_json(json.loads(written)))
    assert place.rows() == before


def without_references(place: Place, statement: str) -> None:
    """Run a statement that the schema forbids, as a manual purge may."""
    off, on = {
        'mysql': ('SET foreign_key_checks = 0', 'SET foreign_key_checks = 1'),
        'postgresql': (
            'SET session_replication_role = replica',
            'SET session_replication_role = DEFAULT',
        ),
        # Off by default.
        'sqlite': ('SELECT 1', 'SELECT 1'),
    }[place.dialect]
    place.run(off, statement, on)


def test_an_attachment_of_a_volume_without_a_row(
    place: Place, database: sql.Database
) -> None:
    volume_id = place.volume()
    attachment_id = place.attachment(volume_id)
    without_references(place, f"DELETE FROM volumes WHERE id = '{volume_id}'")
    before = place.rows()

    change = database.plan(volume_id, [attachment_id])
    database.execute(change)

    (row,) = place.rows()['volume_attachment']
    assert row['deleted']
    assert row['attach_status'] == 'attached'
    with pytest.raises(sql.Stale):
        database.execute(change)
    database.undo(change)
    assert place.rows() == before

    without_references(place, 'DELETE FROM volume_attachment')
    place.volume(id=volume_id)
    place.attachment(volume_id, id=attachment_id)
    with pytest.raises(sql.Stale, match='the volume'):
        database.execute(change)


MEANWHILE = {
    'an attachment is made': (
        lambda place, volume_id, _: place.attachment(volume_id, 'reserved')
    ),
    'the status changes': (
        "UPDATE volumes SET status = 'detaching' WHERE id = '{volume}'"
    ),
    'the attach_status changes': (
        "UPDATE volumes SET attach_status = NULL WHERE id = '{volume}'"
    ),
    'its time changes': (
        "UPDATE volumes SET updated_at = '2024-03-01 00:00:01' "
        "WHERE id = '{volume}'"
    ),
    'it is migrated': (
        "UPDATE volumes SET migration_status = 'starting' "
        "WHERE id = '{volume}'"
    ),
    'it is deleted': (
        "UPDATE volumes SET deleted = {true} WHERE id = '{volume}'"
    ),
    'the attachment is deleted': (
        "UPDATE volume_attachment SET deleted = {true} WHERE id = '{gone}'"
    ),
    'the attachment changes': (
        "UPDATE volume_attachment SET attach_status = 'detaching' "
        "WHERE id = '{gone}'"
    ),
    'it is of another server': (
        "UPDATE volume_attachment SET instance_uuid = NULL WHERE id = '{gone}'"
    ),
    'it is connected elsewhere': (
        "UPDATE volume_attachment SET attached_host = 'compute2' "
        "WHERE id = '{gone}'"
    ),
    'the one that stays changes': (
        "UPDATE volume_attachment SET attach_status = 'detaching' "
        "WHERE id = '{stays}'"
    ),
    'the one that stays has no status': (
        "UPDATE volume_attachment SET attach_status = NULL "
        "WHERE id = '{stays}'"
    ),
    'the one that stays is deleted': (
        "UPDATE volume_attachment SET deleted = {true} WHERE id = '{stays}'"
    ),
}


def change_meanwhile(
    place: Place, what: Any, volume_id: str, **ids: str
) -> None:
    if callable(what):
        what(place, volume_id, ids)
        return
    true = 'true' if place.dialect == 'postgresql' else '1'
    place.run(what.format(volume=volume_id, true=true, **ids))


@pytest.mark.parametrize('what', MEANWHILE.values(), ids=MEANWHILE.keys())
@pytest.mark.parametrize('stays', ['attached', 'reserved'])
def test_a_change_meanwhile_rolls_everything_back(
    place: Place, database: sql.Database, what: Any, stays: str
) -> None:
    volume_id = place.volume()
    ids = {
        'gone': place.attachment(volume_id),
        'stays': place.attachment(volume_id, stays),
    }
    mode(place, volume_id)
    change = database.plan(volume_id, [ids['gone']])
    change_meanwhile(place, what, volume_id, **ids)
    before = place.rows()

    with pytest.raises(sql.Stale, match='Nothing was changed') as caught:
        database.execute(change)

    assert volume_id in str(caught.value)
    assert place.rows() == before
    if stays == 'reserved':
        # Neither does the script, even if nobody compares the numbers of
        # rows: the volume's row changes, and the others depend on it.
        place.client(sql_change.script(change))
        assert place.rows() == before


@pytest.mark.parametrize('what', MEANWHILE.values(), ids=MEANWHILE.keys())
def test_a_change_before_undo_rolls_everything_back(
    place: Place, database: sql.Database, what: Any
) -> None:
    volume_id = place.volume()
    ids = {
        'gone': place.attachment(volume_id),
        'stays': place.attachment(volume_id),
    }
    change = database.plan(volume_id, [ids['gone']])
    database.execute(change)
    if what == MEANWHILE['the attachment is deleted']:
        # Purged.
        what = "DELETE FROM volume_attachment WHERE id = '{gone}'"
    change_meanwhile(place, what, volume_id, **ids)
    before = place.rows()

    with pytest.raises(sql.Stale, match='Nothing was changed'):
        database.undo(change)

    assert place.rows() == before


def test_another_attachment_is_refused(
    place: Place, database: sql.Database
) -> None:
    volume_id = place.volume()
    attachment_id = place.attachment(volume_id)
    for other, why in (
        (str(uuid.uuid4()), 'there is no attachment'),
        (place.attachment(place.volume()), 'is not of volume'),
        (place.attachment(volume_id, deleted=True), 'is already deleted'),
    ):
        with pytest.raises(sql_change.Refused, match=why):
            database.plan(volume_id, [attachment_id, other])


def test_a_change_of_another_kind_of_database_is_refused(
    place: Place, database: sql.Database
) -> None:
    change = database.plan(place.volume())
    (other, *_more) = set(sql_change.DIALECTS) - {database.dialect}
    change = dataclasses.replace(change, dialect=other)
    with pytest.raises(sql_change.Refused, match='the change is for'):
        database.execute(change)


def test_a_locked_database_is_an_error_and_nothing_is_changed(
    place: Place,
) -> None:
    if place.dialect != 'sqlite':
        pytest.skip('the others wait for long')
    volume_id = place.volume()
    before = place.rows()
    with sql.Database(f'{place.url}?timeout=0.1') as database:
        change = database.plan(volume_id)
        with place.engine.connect() as connection:
            connection.exec_driver_sql('BEGIN IMMEDIATE')
            with pytest.raises(
                engine.DatabaseError, match='locked. Nothing was changed'
            ):
                database.execute(change)
        assert place.rows() == before
        database.execute(change)


def test_the_result_of_a_failed_commit_is_unknown(
    place: Place, database: sql.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Any) -> None:
        raise sa.exc.OperationalError('COMMIT', {}, Exception('gone away'))

    change = database.plan(place.volume())
    with place.engine.connect() as connection:
        # SQLAlchemy 1.4 has two classes.
        monkeypatch.setattr(type(connection), 'commit', fail)
    with pytest.raises(engine.DatabaseError, match='gone away.*is unknown'):
        database.execute(change)


def test_nothing_is_executed_twice(
    place: Place, database: sql.Database
) -> None:
    volume_id = place.volume()
    attachment_id = place.attachment(volume_id)
    change = database.plan(volume_id, [attachment_id])
    before = place.rows()
    with pytest.raises(sql.Stale):
        database.undo(change)
    assert place.rows() == before
    database.execute(change)
    after = place.rows()
    with pytest.raises(sql.Stale):
        database.execute(change)
    assert place.rows() == after
    database.undo(change)
    assert place.rows() == before


def test_an_attachment_being_inserted_is_waited_for(
    place: Place, database: sql.Database
) -> None:
    """It is not visible before, and committed once the lock is acquired."""
    volume_id = place.volume()
    change = database.plan(volume_id)
    caught: list[BaseException] = []

    def execute() -> None:
        try:
            database.execute(change)
        except Exception as exc:
            caught.append(exc)

    thread = threading.Thread(target=execute)
    with place.engine.connect() as connection:
        if place.dialect == 'sqlite':
            connection.exec_driver_sql('BEGIN IMMEDIATE')
        connection.exec_driver_sql(
            'INSERT INTO volume_attachment (id, volume_id, attach_status, '
            f"deleted) VALUES ('{uuid.uuid4()}', '{volume_id}', 'reserved', "
            + ('false)' if place.dialect == 'postgresql' else '0)')
        )
        thread.start()
        time.sleep(0.3)
        waited = thread.is_alive()
        connection.commit()
    thread.join(10)

    assert waited
    (stale,) = caught
    assert isinstance(stale, sql.Stale)
    (volume,) = place.rows()['volumes']
    assert volume['status'] == 'in-use'


def counts(output: str) -> list[int]:
    """Return the numbers of rows that a client reports."""
    return [
        int(next(filter(None, match.groups()), '0'))
        for match in re.finditer(
            r'^UPDATE (\d+)$|^\((\d+) rows?\)$'
            r'|Query OK, (\d+) rows? affected.*\nRows matched'
            r'|^(\d+) rows? in set|^(?:Empty set)',
            output,
            re.MULTILINE,
        )
    ]


@pytest.mark.parametrize(
    'scene', [*SCENES.values(), *GONE.values()], ids=[*SCENES, *GONE]
)
def test_the_script_does_what_execute_does(
    place: Place, database: sql.Database, scene: Scene
) -> None:
    volume_id, attachment_ids = scene(place)
    before = place.rows()
    change = database.plan(volume_id, attachment_ids)
    database.execute(change)
    after = place.rows()
    database.undo(change)
    assert place.rows() == before

    output = place.client(sql_change.script(change))
    assert place.rows() == after
    undone = place.client(sql_change.script(change, undo=True))
    assert place.rows() == before

    if place.dialect != 'sqlite':
        assert counts(output) == [s.rows for s in change.statements]
        assert counts(undone) == [s.rows for s in change.inverse.statements]


@pytest.mark.parametrize('value', HOSTILE)
def test_no_value_is_executed(
    place: Place,
    database: sql.Database,
    value: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    volume_id = place.volume()
    named = {'attached_host': value, 'mountpoint': value}
    gone = place.attachment(volume_id, instance_uuid=value[:36], **named)
    place.attachment(volume_id, 'reserved', **named)
    place.volume()
    mode(place, volume_id, value=value)
    before = place.rows()

    change = database.plan(volume_id, [gone])
    script = sql_change.script(change)
    undo = sql_change.script(change, undo=True)
    assert re.fullmatch(r'[ -~\n]*', script + undo)
    database.execute(change)
    after = place.rows()
    database.undo(change)
    assert place.rows() == before
    place.client(script)
    assert place.rows() == after
    place.client(undo)
    assert place.rows() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('value', HOSTILE)
def test_a_literal_has_its_value(place: Place, value: str) -> None:
    text = sql_change.literal(place.dialect, value)
    with place.engine.connect() as connection:
        assert (
            connection.execution_options(no_parameters=True)
            .exec_driver_sql(f'SELECT {text}')
            .scalar()
            == value
        )


def account(place: Place, grants: str) -> tuple[str, str]:
    """Create an account; return its URL, and what removes it."""
    name = f'agsql_{uuid.uuid4().hex[:8]}'
    url = sa.engine.make_url(place.url).set(
        username=name, password='p@ss word'
    )
    # str() of SQLAlchemy 2.0 hides the password.
    text = url.render_as_string(hide_password=False)
    if place.dialect == 'mysql':
        hosts = [f"'{name}'@'{host}'" for host in ('localhost', '127.0.0.1')]
        for user in hosts:
            place.run(f"CREATE USER {user} IDENTIFIED BY 'p@ss word'")
            if grants:
                place.run(f'GRANT {grants} ON {url.database}.* TO {user}')
        return text, 'DROP USER ' + ', '.join(hosts)
    place.run(f"CREATE ROLE {name} LOGIN PASSWORD 'p@ss word'")
    if grants:
        place.run(f'GRANT {grants} ON ALL TABLES IN SCHEMA public TO {name}')
    return text, f'DROP OWNED BY {name}; DROP ROLE {name}'


@pytest.mark.parametrize('grants', ['', 'SELECT', 'SELECT, UPDATE'])
def test_an_account_needs_only_select_and_update(
    place: Place, grants: str
) -> None:
    if place.dialect == 'sqlite':
        pytest.skip('SQLite has no accounts')
    volume_id = place.volume()
    url, remove = account(place, grants)
    before = place.rows()
    error = ''
    try:
        with sql.Database(url) as database:
            database.execute(database.plan(volume_id))
    except engine.DatabaseError as exc:
        error = str(exc)
    finally:
        for statement in remove.split('; '):
            place.run(statement)

    assert 'p@ss' not in error
    assert (place.rows() == before) == bool(error)
    assert bool(error) == ('UPDATE' not in grants)
    if grants == 'SELECT':
        assert 'The account needs SELECT and UPDATE on volumes' in error


def test_a_wrong_password_is_not_printed(place: Place) -> None:
    if place.dialect != 'mysql':
        pytest.skip('the others need no password here')
    url = place.url.replace('root@', 'root:hush%2Fhush@')
    with pytest.raises(engine.DatabaseError, match='Access denied') as caught:
        sql.Database(url).__enter__()
    assert 'hush' not in str(caught.value)


def test_another_database_is_refused(place: Place) -> None:
    renamed = 'ALTER TABLE volume_attachment RENAME {}'
    place.run(renamed.format('COLUMN attached_host TO its_host'))
    try:
        with pytest.raises(engine.DatabaseError, match='lacks attached_host'):
            sql.Database(place.url).__enter__()
    finally:
        place.run(renamed.format('COLUMN its_host TO attached_host'))
    place.run(renamed.format('TO attachments'))
    try:
        with pytest.raises(
            engine.DatabaseError, match='no table volume_attachment'
        ):
            sql.Database(place.url).__enter__()
    finally:
        place.run('ALTER TABLE attachments RENAME TO volume_attachment')


def test_no_secret_of_a_connection_is_recorded(
    place: Place, database: sql.Database
) -> None:
    volume_id = place.volume()
    attachment_id = place.attachment(volume_id)
    change = database.plan(volume_id, [attachment_id])
    assert 'hush' not in json.dumps(change.to_json())
