# SPDX-License-Identifier: Apache-2.0

"""The policy lines that let refused requests pass."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from attachguard.decisions import proposal
from attachguard.decisions import refusals
from attachguard.guard.decision import Reason
from tests.unit.decisions import lines

CURRENT = {
    lines.RULE: 'nova:no_server_has_volume',
    'attachguard:os-attach:no-server': '!',
}


def propose(*decisions: Any) -> list[proposal.Line]:
    return proposal.propose(refusals.collect(decisions).groups, CURRENT)


def test_a_line_names_users_and_what_held_for_them() -> None:
    [line] = propose(
        lines.decision(),
        lines.decision(user_agent='another'),
        lines.decision(user_id='u2', checks=None),
    )
    assert line.rule == lines.RULE
    assert line.count == 3
    assert line.text == (
        'nova:no_server_has_volume or '
        'project_id:p1 and user_id:u1 and cinder:same_volume or '
        'project_id:p1 and user_id:u2'
    )


def test_a_condition_is_left_out_if_a_shorter_one_covers_it() -> None:
    checks = {'cinder:same_volume': True, 'cinder:idle': True}
    [line] = propose(
        lines.decision(checks=checks, user_agent='one'),
        lines.decision(reason='server-busy', user_agent='two'),
        lines.decision(user_id='u2', checks=checks),
    )
    assert line.text == (
        'nova:no_server_has_volume or '
        'project_id:p1 and user_id:u1 and cinder:same_volume or '
        'project_id:p1 and user_id:u2 and cinder:idle and cinder:same_volume'
    )


def test_a_closed_rule_is_replaced() -> None:
    [line] = propose(
        lines.decision(
            rule='attachguard:os-attach:no-server',
            reason='no-server',
            checks=None,
        )
    )
    assert line.text == 'project_id:p1 and user_id:u1'


@pytest.mark.parametrize(
    'values',
    [
        {'reason': 'not-authenticated'},
        {'reason': 'too-many-servers'},
        {'rule': 'attachguard:of-another-release'},
        {'rule': None},
    ],
)
def test_what_no_rule_can_lift_has_no_line(values: Any) -> None:
    assert propose(lines.decision(**values)) == []


@pytest.mark.parametrize('name', ['user_id', 'project_id'])
@pytest.mark.parametrize('text', [None, '', 'x or @', '%(host)s', 'a"\nb'])
def test_nothing_but_an_id_gets_into_a_line(
    name: str, text: str | None
) -> None:
    [line] = propose(lines.decision(**{name: text}))
    assert line.text == 'nova:no_server_has_volume'


@pytest.mark.parametrize('reason', Reason)
def test_each_line_has_a_warning(reason: Reason) -> None:
    for line in propose(lines.decision(reason=reason.value)):
        assert line.warnings
        text = proposal.write([line])
        assert '# WARNING: ' in text
        assert yaml.safe_load(text) == {line.rule: line.text}


def test_without_refusals_the_file_is_that_of_the_defaults() -> None:
    assert yaml.safe_load(proposal.write(propose())) == {}
