# SPDX-License-Identifier: Apache-2.0

"""URLs of databases that cannot be used.

What needs a database: ``tests/functional/test_audit_sql.py``.
"""

from __future__ import annotations

import pathlib
import traceback

import pytest

pytest.importorskip('sqlalchemy')
engine = pytest.importorskip('attachguard.audit.engine')
sql = pytest.importorskip('attachguard.audit.repair.sql')

SECRET = 'open%2Fsesame'


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
    with pytest.raises(engine.DatabaseError, match=why) as caught:
        sql.Database(url).__enter__()
    text = ''.join(traceback.format_exception_only(caught.type, caught.value))
    assert 'sesame' not in text
    assert caught.value.__suppress_context__ or not caught.value.__context__


def test_no_error_of_a_driver_contains_the_password() -> None:
    pytest.importorskip('pymysql')
    for query in (f'ssl_disabled=1&{SECRET}=1', 'ssl_disabled=1'):
        with pytest.raises(engine.DatabaseError, match='root:') as caught:
            sql.Database(
                f'mysql+pymysql://root:{SECRET}@127.0.0.1:1/cinder?{query}'
            ).__enter__()
        assert 'sesame' not in str(caught.value)


def test_a_file_that_is_not_a_database_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    other = tmp_path / 'other'
    other.write_text('no database at all, whatever its name may be\n' * 100)
    with pytest.raises(engine.DatabaseError, match='not a database'):
        sql.Database(f'sqlite:///{other}').__enter__()
