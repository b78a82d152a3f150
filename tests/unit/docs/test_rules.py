# SPDX-License-Identifier: Apache-2.0
"""The pages document every rule, check and reason, as the code has them."""

from __future__ import annotations

import pathlib
import re

from oslo_config import cfg
import pytest
import yaml

from attachguard import opts
from attachguard.audit import classes as audit_checks
from attachguard.guard import checks
from attachguard.guard import decision
from attachguard.guard import decision_log
from attachguard.guard import default_rules
from attachguard.guard import faults
from attachguard.guard import policy

_SOURCE = pathlib.Path(__file__).parents[3] / 'doc' / 'source'
_BLOCK = re.compile(r'^\.\. code-block:: yaml\n\n((?:(?:   .*)?\n)+)', re.M)
_LITERAL = re.compile(r'``([^`]+)``')

_PAGES = (*_SOURCE.glob('admin/*.rst'), _SOURCE / 'configuration/policy.rst')
_BLOCKS = [
    pytest.param(block, id=f'{page.stem}-{number}')
    for page in _PAGES
    for number, block in enumerate(_BLOCK.findall(page.read_text()))
]


@pytest.mark.parametrize('block', _BLOCKS)
def test_rules_that_a_page_shows_can_be_used(
    block: str, tmp_path: pathlib.Path
) -> None:
    rules = yaml.safe_load(block)
    if all(name.startswith('volume') for name in rules):
        # Cinder's own.
        assert list(rules) == ['volume_extension:volume_actions:attach']
        return
    path = tmp_path / 'rules.yaml'
    # As a reader does.
    path.write_text(block.replace('<id>', '1234'))
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {'policy_file': str(path)})
    policy.Policy(conf)


def test_each_rule_has_a_row() -> None:
    text = (_SOURCE / 'reference/operations.rst').read_text()
    rules = {
        rule.name.removeprefix(default_rules.PREFIX)
        for rule in default_rules.list_rules()
    }
    assert rules - {'service'} - set(_LITERAL.findall(text)) == set()


def test_each_check_and_value_is_documented() -> None:
    text = (_SOURCE / 'configuration/policy.rst').read_text()
    found = re.findall(r'^   \* - ``([a-z]+:[^`]+)``', text, re.M)
    assert sorted(found) == sorted(checks.CHECKS)
    values = re.findall(r'``%\((\w+)\)s``', text)
    assert sorted(values) == sorted(policy.Target.KEYS)


def _reasons() -> dict[str, set[int]]:
    text = (_SOURCE / 'user/reason-codes.rst').read_text()
    rows = re.findall(r'^   \* - ``([a-z-]+)``\n     - ([\d, ]+)$', text, re.M)
    return {
        reason: {int(status) for status in statuses.split(', ')}
        for reason, statuses in rows
    }


def _section(address: str) -> str:
    """Return the section that a runbook's address names."""
    page, _hash, title = address.partition('#')
    # Docutils then makes no other id of it.
    assert re.fullmatch('[a-z]+(-[a-z]+)*', title)
    text = (_SOURCE.parents[1] / page).read_text()
    _, section = text.split(f'\n{title}\n{"=" * len(title)}\n')
    return section.partition('\n===')[0]


@pytest.mark.parametrize('reason', decision.Reason)
def test_each_reason_has_a_section_of_the_runbook(
    reason: decision.Reason,
) -> None:
    event = decision_log.Event(decision.Verdict.REFUSED, reason.value)
    section = _section(event.as_dict()['runbook'])
    for part in ('\nCheck: ', '\nDo: '):
        assert part in section


@pytest.mark.parametrize('name', audit_checks.CLASSES)
def test_each_class_has_a_section_of_the_runbook(name: str) -> None:
    section = _section(audit_checks.CLASSES[name].runbook)
    assert '\nWhat repairs it: ' in section


@pytest.mark.parametrize('reason', decision.Reason)
def test_each_reason_is_documented_with_its_status(
    reason: decision.Reason,
) -> None:
    documented = _reasons()[reason.value]
    verdict = {
        400: decision.Verdict.MALFORMED,
        403: decision.Verdict.REFUSED,
        404: decision.Verdict.MISSING,
        413: decision.Verdict.MALFORMED,
        503: decision.Verdict.UNKNOWN,
    }[min(documented)]
    statuses = set()
    for clears in (True, False):
        fault = faults.response_to(
            decision.Decision(verdict, reason), clears, {}, 5
        )
        assert isinstance(fault, faults.Fault)
        statuses.add(fault.status.value)
    assert statuses == documented


def test_no_other_reason_is_documented() -> None:
    assert _reasons().keys() == {reason.value for reason in decision.Reason}
