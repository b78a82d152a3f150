# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Cinder's database, on SQLite with Cinder's own models.

On MariaDB and PostgreSQL, and beside Cinder itself:
``tests/functional/test_audit_sql.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
import importlib
import pathlib
import shutil
import sqlite3
import traceback
from typing import Any

import pytest

from attachguard.audit.repair import sql_change
from tests.unit import fakes

sa = pytest.importorskip('sqlalchemy')
sql = pytest.importorskip('attachguard.audit.repair.sql')

GONE = 'd1d1d1d1-aaaa-4aaa-8aaa-d1d1d1d1d1d1'
STAYS = 'd2d2d2d2-aaaa-4aaa-8aaa-d2d2d2d2d2d2'
SECRET = 'open%2Fsesame'


def models() -> Any:
    """Cinder's, where its releases have had them."""
    for name in ('cinder.db.models', 'cinder.db.sqlalchemy.models'):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip('Cinder is not installed')


@pytest.fixture(scope='module')
def empty(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp('cinder') / 'empty'
    engine = sa.create_engine(f'sqlite:///{path}', future=True)
    metadata = models().BASE.metadata
    # Not all of them are for SQLite.
    tables = [metadata.tables[name] for name in sql_change.COLUMNS]
    metadata.create_all(engine, tables=tables)
    engine.dispose()
    return path


@pytest.fixture
def path(empty: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A volume attached twice."""
    path = tmp_path / 'cinder.sqlite'
    shutil.copy(empty, path)
    run(
        path,
        'INSERT INTO volumes (id, status, attach_status, volume_type_id, '
        "use_quota, deleted, updated_at) VALUES ('"
        f"{fakes.VOLUME}', 'in-use', 'attached', 'x', 1, 0, '2024-03-01')",
        *(
            'INSERT INTO volume_attachment (id, volume_id, attach_status, '
            f"deleted, connector) VALUES ('{name}', '{fakes.VOLUME}', "
            f"'attached', 0, 'hush')"
            for name in (GONE, STAYS)
        ),
        'INSERT INTO volume_admin_metadata (volume_id, "key", value, deleted)'
        f" VALUES ('{fakes.VOLUME}', 'attached_mode', 'rw', 0)",
    )
    return path


@pytest.fixture
def database(path: pathlib.Path) -> Iterator[Any]:
    with sql.Database(f'sqlite:///{path}') as database:
        yield database


def run(path: pathlib.Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ('attachment_id', 'volume_id', 'why'),
    [
        (fakes.SERVER, fakes.VOLUME, 'no attachment'),
        (GONE, fakes.OTHER_SERVER, 'not of volume'),
    ],
)
def test_an_attachment_of_another_volume_is_refused(
    database: Any, attachment_id: str, volume_id: str, why: str
) -> None:
    with pytest.raises(sql_change.Refused, match=why):
        database.plan(volume_id, [attachment_id])


def test_a_deleted_attachment_is_refused(
    path: pathlib.Path, database: Any
) -> None:
    run(path, f"UPDATE volume_attachment SET deleted = 1 WHERE id = '{GONE}'")
    with pytest.raises(sql_change.Refused, match=f'{GONE} is already deleted'):
        database.plan(fakes.VOLUME, [STAYS, GONE])


def test_a_change_for_another_kind_of_database_is_refused(
    database: Any,
) -> None:
    written = database.plan(fakes.VOLUME, [GONE]).to_json()
    change = sql_change.Change.from_json({**written, 'dialect': 'mysql'})
    with pytest.raises(sql_change.Refused, match='MariaDB or MySQL.*SQLite'):
        database.execute(change)


def test_a_locked_database_is_an_error_and_nothing_is_changed(
    path: pathlib.Path,
) -> None:
    with sql.Database(f'sqlite:///{path}?timeout=0.1') as database:
        change = database.plan(fakes.VOLUME, [GONE])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute('BEGIN IMMEDIATE')
        with pytest.raises(
            sql.DatabaseError, match='locked. Nothing was changed'
        ):
            database.execute(change)
        connection.close()
        database.execute(change)


def test_the_result_of_a_failed_commit_is_unknown(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Any) -> None:
        raise sa.exc.OperationalError('COMMIT', {}, Exception('gone away'))

    change = database.plan(fakes.VOLUME, [GONE])
    engine = sa.create_engine('sqlite://', future=True)
    with engine.connect() as connection:
        # SQLAlchemy 1.4 has two classes.
        monkeypatch.setattr(type(connection), 'commit', fail)
    with pytest.raises(sql.DatabaseError, match='gone away.*is unknown'):
        database.execute(change)


@pytest.mark.parametrize(
    ('url', 'why'),
    [
        ('', 'be parsed'),
        (SECRET, 'be parsed'),
        (f'root:{SECRET}@localhost/cinder', 'be parsed'),
        (
            f'mysql+pymysql://root:{SECRET}@localhost:port/x',
            'be parsed',
        ),
        (f'mysql+pymysql://root:p@{SECRET}@localhost/x', 'be parsed'),
        (f'nonsense://root:{SECRET}@localhost/cinder', 'has no kind'),
        (f'oracle://root:{SECRET}@localhost/cinder', 'must be MariaDB'),
        (f'mysql+mysqldb://root:{SECRET}@localhost/x', 'mysqldb is not insta'),
        (f'postgresql+pg8000://root:{SECRET}@h/x', 'pg8000 is not installed'),
        (f'sqlite:////no/such/file?password={SECRET}', 'no such file'),
        ('sqlite://', 'no such file'),
    ],
)
def test_an_unusable_url_is_an_error(url: str, why: str) -> None:
    with pytest.raises(sql.DatabaseError, match=why) as caught:
        sql.Database(url).__enter__()
    text = ''.join(traceback.format_exception_only(caught.value))
    assert 'sesame' not in text
    assert caught.value.__suppress_context__ or not caught.value.__context__


def test_no_error_of_a_driver_contains_the_password() -> None:
    pytest.importorskip('pymysql')
    for query in (f'ssl_disabled=1&{SECRET}=1', 'ssl_disabled=1'):
        with pytest.raises(sql.DatabaseError, match='root:') as caught:
            sql.Database(
                f'mysql+pymysql://root:{SECRET}@127.0.0.1:1/cinder?{query}'
            ).__enter__()
        assert 'sesame' not in str(caught.value)


def test_a_file_that_is_not_a_database_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    other = tmp_path / 'other'
    other.write_text('no database at all, whatever its name may be\n' * 100)
    with pytest.raises(sql.DatabaseError, match='not a database'):
        sql.Database(f'sqlite:///{other}').__enter__()
