# SPDX-License-Identifier: Apache-2.0
"""Measure the inventory of a large cloud by the databases, beside PyMySQL.

A running MariaDB gets the real schemas of Cinder and Nova, and rows of its
sequence engine: half of the volumes are attached, each to a server. Two
programs read them in turn, each in a process of its own: the part of the audit
that reads and compares both sides, and PyMySQL, which reads the same columns
of all rows with a cursor of the server, and discards them. Nothing is
inconsistent, so that the APIs would get no query.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import datetime
import hashlib
import os
import pathlib
import subprocess
import sys
import time

import pymysql
from pymysql import cursors
import sqlalchemy as sa

from benchmarks import report
from tests.functional.real import cinder_db
from tests.functional.real import nova_db

_ROOT = pathlib.Path(__file__).parents[1]

#: The bounds.
MOST_RATIO = 1.5
MOST_MEGABYTES = 400
MOST_SECONDS = 120

_PREFIX = 'attachguard_bench_'
_NAMES = ('cinder', 'nova_api', 'cell0', 'cell1')

# The columns that the audit reads, of the rows that are not deleted.
_PLAIN = {
    'cinder': (
        'SELECT id, project_id, status, migration_status, multiattach, '
        'created_at, updated_at FROM volumes WHERE NOT deleted',
        'SELECT id, volume_id, instance_uuid, attach_status, attached_host, '
        'mountpoint, attach_time FROM volume_attachment WHERE NOT deleted',
    ),
    'cell1': (
        'SELECT uuid, project_id, vm_state, task_state, host, created_at, '
        'updated_at FROM instances WHERE deleted = 0',
        'SELECT instance_uuid, volume_id, attachment_id '
        'FROM block_device_mapping WHERE deleted = 0',
    ),
}


def _uuid(kind: str) -> str:
    """SQL for the UUID of a number of the sequence, in a random order."""
    text = f"MD5(CONCAT('{kind}', seq))"
    for place in (21, 17, 13, 9):
        text = f"INSERT({text}, {place}, 0, '-')"
    return text


_ROWS = f"""
INSERT INTO {{cinder}}.volumes (id, project_id, host, size, status,
    attach_status, multiattach, bootable, use_quota, volume_type_id,
    created_at, updated_at, display_name, deleted)
SELECT {_uuid('v')} AS id, MD5(seq % 1000), 'host@lvm#pool', 10,
    IF(seq <= {{servers}}, 'in-use', 'available'),
    IF(seq <= {{servers}}, 'attached', 'detached'), 0, 0, 1, MD5('type'),
    '2026-01-01', '2026-02-01', CONCAT('volume ', seq), 0
FROM seq_1_to_{{volumes}} ORDER BY id;

INSERT INTO {{cinder}}.volume_attachment (id, volume_id, instance_uuid,
    attached_host, mountpoint, attach_time, attach_mode, attach_status,
    created_at, updated_at, connection_info, connector, deleted)
SELECT {_uuid('a')} AS id, {_uuid('v')}, {_uuid('s')},
    CONCAT('compute', seq % 2000), '/dev/vdb', '2026-02-01', 'rw', 'attached',
    '2026-02-01', '2026-02-01', REPEAT('x', 600), REPEAT('x', 300), 0
FROM seq_1_to_{{servers}} ORDER BY id;

INSERT INTO {{cell1}}.instances (uuid, project_id, host, node, vm_state,
    display_name, hostname, created_at, updated_at, deleted, hidden)
SELECT {_uuid('s')}, MD5(seq % 1000), CONCAT('compute', seq % 2000),
    CONCAT('compute', seq % 2000), 'active', CONCAT('server ', seq),
    CONCAT('server-', seq), '2026-01-01', '2026-02-01', 0, 0
FROM seq_1_to_{{servers}};

INSERT INTO {{cell1}}.block_device_mapping (uuid, instance_uuid, volume_id,
    attachment_id, source_type, destination_type, device_name,
    connection_info, created_at, updated_at, deleted)
SELECT {_uuid('b')}, {_uuid('s')}, {_uuid('v')}, {_uuid('a')}, 'volume',
    'volume', '/dev/vdb', REPEAT('x', 900), '2026-01-01', '2026-02-01', 0
FROM seq_1_to_{{servers}}
"""  # noqa: S608


def generate(server: sa.engine.URL, volumes: int) -> None:
    """Make the databases, and fill them.

    :param server: a MariaDB, with an account that may create databases
    :param volumes: how many
    """
    drop(server)
    urls = {name: _url(server, name) for name in _NAMES}
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        for name in _NAMES:
            connection.exec_driver_sql(f'CREATE DATABASE {_PREFIX}{name}')
        report.progress('the schemas')
        cinder_db.sync(urls['cinder'])
        nova_db.sync(
            urls['nova_api'], {name: urls[name] for name in ('cell0', 'cell1')}
        )
        connection.exec_driver_sql(f'USE {_PREFIX}cinder')
        connection.exec_driver_sql('SET unique_checks = 0')
        connection.exec_driver_sql('SET foreign_key_checks = 0')
        names = {name: f'{_PREFIX}{name}' for name in _NAMES}
        for statement in _ROWS.split(';'):
            report.progress(' '.join(statement.split()[:3]))
            text = statement.format(
                volumes=volumes, servers=volumes // 2, **names
            )
            # The driver reads % as the start of a parameter.
            connection.exec_driver_sql(text.replace('%', '%%'))
    engine.dispose()


def drop(server: sa.engine.URL) -> None:
    """Drop the databases."""
    engine = sa.create_engine(server, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        for name in _NAMES:
            connection.exec_driver_sql(
                f'DROP DATABASE IF EXISTS {_PREFIX}{name}'
            )
    engine.dispose()


def _url(server: sa.engine.URL, name: str) -> str:
    url = server.set(database=f'{_PREFIX}{name}')
    return url.render_as_string(hide_password=False)


def read_plainly(server: sa.engine.URL) -> None:
    """Read the columns with PyMySQL alone, and discard them."""
    for name, queries in _PLAIN.items():
        url = server.set(database=f'{_PREFIX}{name}')
        _args, options = url.get_dialect()().create_connect_args(url)
        connection = pymysql.connect(**options, cursorclass=cursors.SSCursor)
        with connection, connection.cursor() as cursor:
            for query in queries:
                cursor.execute(query)
                while cursor.fetchmany(1000):
                    pass


def read_inventory(server: sa.engine.URL) -> None:
    """Read and compare both sides, as the audit does.

    :raises RuntimeError: it finds a suspect
    """
    from attachguard.audit import model
    from attachguard.audit.collect import comparison
    from attachguard.audit.collect import databases
    from attachguard.audit.collect import reader
    from attachguard.audit.collect import rest

    class Cloud:
        def project_id(self) -> str:
            return 'own'

        def projects(self) -> Iterator[rest.Page]:
            # Those of the volumes, as SQL makes them.
            ids = (str(number).encode() for number in range(1000))
            rows = [{'id': hashlib.md5(text).hexdigest()} for text in ids]  # noqa: S324
            yield rest.Page(rows, model.Evidence('', 200, ''))

    lists = databases.Databases(
        databases.Urls(_url(server, 'cinder'), _url(server, 'nova_api')), 120
    )
    tables = reader.open_tables()
    read = reader.Reader(
        Cloud(),  # type: ignore[arg-type]
        lists,
        tables,
        lambda _what, _count: None,
    )
    read.read()
    hosts = [f'compute{number}' for number in range(2000)]
    comparison.compare(tables, hosts, datetime.timedelta(hours=2))
    (suspects,) = tables.execute('SELECT count(*) FROM suspects').fetchone()
    if suspects:
        raise RuntimeError(f'{suspects} suspects in a consistent cloud')
    totals = read.totals
    if totals.attachments != totals.servers or not totals.volumes:
        raise RuntimeError(f'not everything was read: {totals}')


_PROGRAMS = {'plain': read_plainly, 'inventory': read_inventory}


def _run(name: str, url: str) -> tuple[float, float, float]:
    """Run a program, for its CPU time, wall time and memory peak."""
    begin = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, '-m', 'benchmarks.databases'),
            *('--url', url, '--read', name),
        ],
        cwd=_ROOT,
    )
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f'{name} exited with {process.returncode}')
    wall = time.monotonic() - begin
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def measure(
    url: str, volumes: int, repeat: int
) -> tuple[report.Table, list[report.Bound]]:
    """Measure both programs in turn; the lowest times count.

    :param volumes: how many there are, for the title
    """
    found: dict[str, list[tuple[float, float, float]]] = {
        name: [] for name in _PROGRAMS
    }
    for number in range(repeat):
        report.progress(f'run {number + 1} of {repeat}')
        for name, costs in found.items():
            costs.append(_run(name, url))
    best = {
        name: (
            min(cost[0] for cost in costs),
            min(cost[1] for cost in costs),
            max(cost[2] for cost in costs),
        )
        for name, costs in found.items()
    }
    table = report.Table(
        f'{volumes:,} volumes, {volumes // 2:,} attachments and servers',
        ['program', 'CPU, s', 'wall, s', 'peak, MB'],
        [
            [name, *(report.number(value) for value in cost)]
            for name, cost in best.items()
        ],
    )
    plain, ours = best['plain'], best['inventory']
    return table, [
        report.Bound('CPU / PyMySQL', ours[0] / plain[0], MOST_RATIO),
        report.Bound('wall time / PyMySQL', ours[1] / plain[1], MOST_RATIO),
        report.Bound('wall time: s', ours[1], MOST_SECONDS),
        report.Bound('peak memory: MB', ours[2], MOST_MEGABYTES),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate, measure, and drop; or read once, as a child does."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.databases', description=__doc__
    )
    parser.add_argument('--url', default='mysql+pymysql://root@127.0.0.1/')
    parser.add_argument('--volumes', type=int, default=1_000_000)
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--check', action='store_true')
    parser.add_argument('--read', choices=_PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    server = sa.engine.make_url(options.url)
    if options.read is not None:
        _PROGRAMS[options.read](server)
        return 0
    try:
        generate(server, options.volumes)
        table, bounds = measure(options.url, options.volumes, options.repeat)
    finally:
        drop(server)
    print(table.text())
    for bound in bounds:
        print(bound)
    return int(options.check and not all(bound.holds for bound in bounds))


if __name__ == '__main__':
    sys.exit(main())
