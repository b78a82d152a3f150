# SPDX-License-Identifier: Apache-2.0
"""Every request is accounted for, on each of the servers.

The half hour on each server that a larger change needs::

    ATTACHGUARD_SOAK_MINUTES=30 python -m pytest -s tests/soak/test_soak.py

``ATTACHGUARD_SOAK_SERVERS`` names the servers, with commas between them.

With ``ATTACHGUARD_SOAK_DATABASE``, SQLAlchemy's URL of an empty database,
Cinder uses that instead of SQLite.
"""

import faulthandler
import os
import pathlib

import pytest

from tests.outage import cinder_servers
from tests.soak import accounting
from tests.soak import run

_IN_GATE = ('uwsgi-1x1', 'uwsgi-5x1')
_SERVERS = [
    pytest.param(name, marks=[] if name in _IN_GATE else [pytest.mark.nightly])
    for name in os.environ.get(
        'ATTACHGUARD_SOAK_SERVERS', ','.join(cinder_servers.SHAPES)
    ).split(',')
    # Waitress is in the chaos tests. Without threads between two requests,
    # Cinder's other services do not run.
    if name not in ('threads', 'uwsgi-1x1-no-threads')
]


@pytest.mark.slow
@pytest.mark.parametrize('server', _SERVERS)
def test_every_request_is_accounted_for(
    server: str, tmp_path: pathlib.Path
) -> None:
    shape = cinder_servers.SHAPES[server]
    if shape.missing:
        pytest.skip(f'missing: {shape.missing}')
    # A process with one thread then works for half of the time.
    rate = min(20.0, 10.0 * shape.processes * shape.threads)
    planned = run.plan()
    minutes = os.environ.get('ATTACHGUARD_SOAK_MINUTES')
    if minutes:
        # Of pytest, which ends a test that hangs.
        faulthandler.cancel_dump_traceback_later()
        planned = run.plan(60 * float(minutes), each=5.0)
    database = os.environ.get('ATTACHGUARD_SOAK_DATABASE')
    result = run.soak(server, tmp_path, planned, rate, database=database)
    print(result)
    assert result.is_clean, result
    # Fewer requests would prove nothing.
    assert len(result.sent) > 100
    assert {one.outcome for one in result.sent} == {*accounting.Outcome}
    assert {*run.FAULTS} - {*result.queries} <= {'refuse'}


@pytest.mark.nightly
def test_a_missing_guard_is_noticed(tmp_path: pathlib.Path) -> None:
    calm = [run.Phase(None, 6.0)]
    result = run.soak('eventlet', tmp_path, calm, 60, guard=False)
    forged = [
        finding
        for finding in result.findings
        if finding.wrong is accounting.Wrong.OUTCOME
        and finding.kind.startswith('forged')
    ]
    assert forged
    assert any('left behind: attachment' in what for what in result.wrong)
