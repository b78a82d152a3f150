# SPDX-License-Identifier: Apache-2.0
"""Prometheus: promtool checks the rules, and runs their tests."""

from __future__ import annotations

import pathlib
import re
import shutil

import pytest
import yaml

from attachguard.guard.decision import Reason
from tests.deploy import conftest

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
    tests = (RECIPE / 'attachguard.rules.test.yml').read_text()
    for rule in alerts:
        name = rule['alert']
        assert tests.count(f'alertname: {name}') == 2
        page, _hash, anchor = rule['annotations']['runbook'].partition('#')
        assert anchor == name.lower()
        text = (conftest.ROOT / page).read_text()
        assert f'\n{name}\n{"=" * len(name)}\n' in text


def test_the_rules_name_reasons_that_exist() -> None:
    known = {reason.value for reason in Reason}
    named = re.findall(r'reason=~"([^"]+)"', RULES.read_text())
    assert named
    for names in named:
        assert set(names.split('|')) <= known
