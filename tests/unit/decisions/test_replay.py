# SPDX-License-Identifier: Apache-2.0

"""Other rules on logged decisions."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from attachguard import opts
from attachguard.decisions import replay
from tests.unit.decisions import lines

Outcome = replay.Outcome
ALLOWED = Outcome('allowed')
REFUSED = Outcome('refused')


def decide(
    tmp_path: pathlib.Path, rules: dict[str, str], **values: Any
) -> Outcome | None:
    path = tmp_path / 'rules.yaml'
    path.write_text(json.dumps(rules))
    return replay.Replay(str(path)).decide(lines.decision(**values))


@pytest.mark.parametrize(
    ('rule', 'outcome'),
    [
        ('@', ALLOWED),
        ('!', REFUSED),
        ('nova:no_server_has_volume', REFUSED),
        ('not nova:no_server_has_volume and cinder:same_volume', ALLOWED),
        ('cinder:idle', Outcome('undecided', 'cinder:idle')),
        ('not cinder:idle', Outcome('undecided', 'cinder:idle')),
        # What decides before it is enough.
        ('role:member or cinder:idle', ALLOWED),
        ('role:admin and cinder:idle', REFUSED),
        ('user_id:u1 and project_id:p1', ALLOWED),
        ('user_id:u2', REFUSED),
        ("'os-detach':%(operation)s", ALLOWED),
        ("'in-use':%(volume_status)s", ALLOWED),
        ('project_id:%(project_id)s', REFUSED),
        ('user_id:%(attachment_id)s', REFUSED),
        (
            "'x':%(attachment_status)s",
            Outcome('undecided', 'attachment_status'),
        ),
    ],
)
def test_a_rule_is_evaluated_on_what_was_logged(
    tmp_path: pathlib.Path, rule: str, outcome: Outcome
) -> None:
    found = decide(
        tmp_path,
        {lines.RULE: rule},
        volume_status='in-use',
        volume_project_id='p2',
    )
    assert found == outcome


def test_the_default_rules_are_used_where_the_file_has_none(
    tmp_path: pathlib.Path,
) -> None:
    assert decide(tmp_path, {}) == REFUSED
    service = {'service_roles': ['service']}
    assert decide(tmp_path, {}, credentials=service) == ALLOWED
    assert decide(tmp_path, {}, checks={}) == Outcome(
        'undecided', 'cinder:same_volume'
    )


@pytest.mark.parametrize('rule', [None, 'attachguard:nowhere', 1])
def test_what_no_rule_has_decided_is_left_out(
    tmp_path: pathlib.Path, rule: Any
) -> None:
    assert decide(tmp_path, {}, rule=rule) is None


def test_an_invalid_file_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(opts.ConfigError, match='nova:mistyped'):
        decide(tmp_path, {lines.RULE: 'nova:mistyped'})
