# SPDX-License-Identifier: Apache-2.0
"""The default rules."""

from __future__ import annotations

from oslo_policy import policy

from attachguard.guard import default_rules
from attachguard.guard import operations


def test_every_operation_has_a_documented_rule() -> None:
    rules = {rule.name: rule for rule in default_rules.list_rules()}
    for operation in operations.OPERATIONS.values():
        rule = rules[f'attachguard:{operation.name}']
        assert isinstance(rule, policy.DocumentedRuleDefault)
        assert rule.operations == [
            {'method': operation.method, 'path': operation.path}
        ]
        assert operation.description in (rule.description or '')


def test_the_preset_changes_rules_that_exist() -> None:
    names = {rule.name for rule in default_rules.list_rules()}
    assert set(default_rules.NO_SERVICE_TOKEN) <= names
    # Only an admin can forge an in-use volume with it.
    assert 'attachguard:os-attach' not in default_rules.NO_SERVICE_TOKEN
