# SPDX-License-Identifier: Apache-2.0
"""The alerts, on a real Prometheus that scrapes real runs.

They fire on what is injected: an outage of Nova, a slow Nova, attacks, forged
attachments, an audit that fails, and one that does not run.  In a calm time
none fires.  For that, the rules are shortened: minutes are seconds, and a day
is a minute.

The calm half hour, with the rules as they are shipped, that a change of them
needs::

    ATTACHGUARD_CALM_MINUTES=30 python -m pytest tests/deploy/test_alerts.py \\
        -k calm
"""

from __future__ import annotations

import faulthandler
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import uuid

import pytest

from attachguard.testing import stub_cloud
from tests.deploy import conftest
from tests.deploy import monitoring
from tests.soak import run

pytestmark = pytest.mark.nightly

RULES = conftest.ROOT / 'deploy' / 'prometheus' / 'attachguard.rules.yml'
_SERVER = 'uwsgi-5x1'
_MINUTES = re.compile(r'(\[|for: |offset )(\d+)m\b')
_DAY = 60


def shorten(rules: str) -> str:
    """Turn the minutes of rules into seconds, and the day into a minute.

    :param rules: the text of their file
    """
    shortened = _MINUTES.sub(r'\1\2s', rules).replace('86400', str(_DAY))
    assert not re.search(r'\d[mhd]\b', shortened)
    return shortened


@pytest.fixture
def values(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> pathlib.Path:
    """Where the processes of cinder-api keep their values."""
    for program in monitoring.PROGRAMS:
        if not shutil.which(program):
            pytest.skip(f'{program} is not installed: see bindep.txt')
    directory = tmp_path / 'values'
    directory.mkdir()
    (tmp_path / 'cinder').mkdir()
    (tmp_path / 'short.yml').write_text(shorten(RULES.read_text()))
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', str(directory))
    # Of pytest, which ends a test that hangs.
    faulthandler.cancel_dump_traceback_later()
    return directory


def test_the_alerts_fire_on_faults_of_nova_and_on_attacks(
    tmp_path: pathlib.Path, values: pathlib.Path
) -> None:
    planned = [
        run.Phase(None, 25),
        *(run.Phase(fault, 20) for fault in ('refuse', 'hang', '503')),
        run.Phase(None, 25),
        # Until what was fast before is out of the window.
        run.Phase('slower', 60),
        run.Phase(None, run.SETTLING + 2),
    ]
    with monitoring.started(
        tmp_path, values, tmp_path / 'short.yml'
    ) as prometheus:
        result = run.soak(
            _SERVER, tmp_path / 'cinder', planned, 20, prometheus=True
        )
        fired = prometheus.fired()
    assert result.is_clean, result
    assert fired == {
        'AttachguardNovaDown',
        'AttachguardManyRefusals',
        'AttachguardSlow',
    }


def test_no_alert_fires_in_a_calm_time(
    tmp_path: pathlib.Path, values: pathlib.Path
) -> None:
    """A few requests a second, and one mistake a minute."""
    minutes = os.environ.get('ATTACHGUARD_CALM_MINUTES')
    planned = [run.Phase(None, 60 * float(minutes or 3))]
    rules = RULES if minutes else tmp_path / 'short.yml'
    with monitoring.started(tmp_path, values, rules) as prometheus:
        result = run.soak(
            _SERVER,
            tmp_path / 'cinder',
            planned,
            4,
            calm=True,
            prometheus=True,
        )
        fired = prometheus.fired()
        decided, refused = (
            prometheus.values(f'sum(attachguard_decisions_total{selected})')
            for selected in ('', '{verdict="refused"}')
        )
    assert result.is_clean, result
    # On a machine that is so busy that the clients wait, this one is right.
    waited = any(one.response.seconds > 1 for one in result.sent)
    assert fired <= ({'AttachguardSlow'} if waited else set())
    # There was something to fire on.
    assert max(decided) > 50
    assert max(refused) >= 1


def _audit(
    cloud: stub_cloud.StubCloud, directory: pathlib.Path, **settings: str
) -> int:
    """Run an audit of a cloud, with metrics.

    :returns: the exit code
    """
    login = {**cloud.auth_settings('admin'), **settings}
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('OS_', 'PROMETHEUS_'))
    }
    return subprocess.run(
        [
            f'{sys.prefix}/bin/attachguard',
            *('audit', '--once', '--settle=0s'),
            f'--prometheus={directory}/attachguard.prom',
        ],
        env={
            **environ,
            **{f'OS_{name.upper()}': v for name, v in login.items()},
        },
        stdout=subprocess.DEVNULL,
        timeout=60,
    ).returncode


def test_the_alerts_of_the_audit_fire(
    tmp_path: pathlib.Path, values: pathlib.Path
) -> None:
    with (
        stub_cloud.StubCloud() as cloud,
        monitoring.started(
            tmp_path, values, tmp_path / 'short.yml'
        ) as prometheus,
    ):
        cloud.nova.add_server(cloud.project_id('member'))
        volume = cloud.cinder.add_volume(cloud.project_id('member'))
        assert _audit(cloud, tmp_path) == 0
        time.sleep(5)
        assert prometheus.fired() == set()
        assert max(prometheus.values('attachguard_audit_success')) == 1

        cloud.cinder.add_attachment(volume.id, instance_uuid=str(uuid.uuid4()))
        assert _audit(cloud, tmp_path) == 3
        prometheus.wait_for_alerts('AttachguardFindings')

        assert _audit(cloud, tmp_path, password='wrong') == 1
        prometheus.wait_for_alerts('AttachguardAuditFailed')

        assert _audit(cloud, tmp_path) == 3
        prometheus.wait_for_alerts('AttachguardFindings')
        # The next one is missing.
        prometheus.wait_for_alerts(
            'AttachguardFindings', 'AttachguardAuditMissing'
        )
