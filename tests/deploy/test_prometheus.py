# SPDX-License-Identifier: Apache-2.0
"""Prometheus: promtool checks the rules, and runs their tests."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from attachguard import messages
from attachguard.guard.decision import Reason
from tests.deploy import conftest
from tests.deploy import monitoring

pytestmark = pytest.mark.nightly

RECIPE = conftest.ROOT / 'deploy' / 'prometheus'
RULES = RECIPE / 'attachguard.rules.yml'


@pytest.mark.parametrize(
    ('what', 'name'),
    [
        ('check', 'attachguard.rules.yml'),
        ('test', 'attachguard.rules.test.yml'),
    ],
)
def test_promtool_accepts_the_rules(
    tmp_path: pathlib.Path, what: str, name: str
) -> None:
    if not shutil.which('promtool'):
        pytest.skip('promtool is not installed: see bindep.txt')
    assert 'SUCCESS' in conftest.run(['promtool', what, 'rules', name], RECIPE)


def test_each_alert_has_a_test_and_a_section_of_the_runbook() -> None:
    alerts = [
        rule
        for group in yaml.safe_load(RULES.read_text())['groups']
        for rule in group['rules']
    ]
    tests = yaml.safe_load(
        (RECIPE / 'attachguard.rules.test.yml').read_text()
    )['tests']
    # In a calm hour, and with every fault.
    for test in tests[:2]:
        assert sorted(
            item['alertname'] for item in test['alert_rule_test']
        ) == sorted(rule['alert'] for rule in alerts)
    for rule in alerts:
        name = rule['alert']
        runbook = messages.runbook('admin/alerts', name.lower())
        assert rule['annotations']['runbook'] == runbook
        text = (conftest.ROOT / runbook.partition('#')[0]).read_text()
        assert f'\n{name}\n{"=" * len(name)}\n' in text
        details = rule['annotations'].get('details')
        assert details == {
            'AttachguardCannotVerify': messages.runbook(
                'admin/runbook', '{{ $labels.reason }}'
            ),
            'AttachguardFindings': messages.runbook(
                'reference/classes', '{{ $labels.class }}'
            ),
        }.get(name)


def test_the_rules_name_reasons_that_exist() -> None:
    known = {reason.value for reason in Reason}
    named = re.findall(r'reason=~"([^"]+)"', RULES.read_text())
    assert named
    for names in named:
        assert set(names.split('|')) <= known


# A process of cinder-api that decides twice, with a second in between: a
# counter that appears has not increased.
_DECIDES = """
import sys
import time
from oslo_config import cfg
from attachguard import opts
from attachguard.guard import decision_log
from attachguard.guard.decision import Verdict

conf = cfg.ConfigOpts()
conf([], default_config_files=[])
opts.configure(conf, {'prometheus': 'true'})
log = decision_log.DecisionLog(conf)
for reason in sys.argv[1:]:
    verdict = Verdict.ALLOWED if reason == 'policy' else Verdict.UNKNOWN
    for _time in range(2):
        log.record(decision_log.Event(verdict, reason, operation='os-detach'))
        time.sleep(4)
"""


def test_prometheus_scrapes_the_guard_and_fires(
    tmp_path: pathlib.Path,
) -> None:
    """The real server: no alert in a calm time, one after a failure."""
    for program in monitoring.PROGRAMS:
        if not shutil.which(program):
            pytest.skip(f'{program} is not installed: see bindep.txt')
    values = tmp_path / 'values'
    values.mkdir()

    def decide(*reasons: str) -> None:
        subprocess.run(
            [sys.executable, '-c', _DECIDES, *reasons],
            env={**os.environ, 'PROMETHEUS_MULTIPROC_DIR': str(values)},
            check=True,
        )

    with monitoring.started(tmp_path, values, RULES) as prometheus:
        decide('policy')
        assert prometheus.alerts() == set()
        decide('guard-failed')
        assert prometheus.alerts() == {'AttachguardFailed'}
