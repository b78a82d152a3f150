# SPDX-License-Identifier: Apache-2.0
"""Every entry point leads somewhere, and the names operators type stay.

The packaging tests ask the same of an installed wheel; this one needs none.
"""

from __future__ import annotations

import pathlib
import pkgutil
import tomllib
from typing import Any

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_PROJECT: dict[str, Any] = tomllib.loads(
    (_ROOT / 'pyproject.toml').read_text()
)['project']
_ENTRY_POINTS: dict[str, dict[str, str]] = {
    'console_scripts': _PROJECT['scripts'],
    **_PROJECT['entry-points'],
}


@pytest.mark.parametrize(
    ('group', 'name', 'target'),
    [
        pytest.param(group, name, target, id=f'{group}-{name}')
        for group, targets in _ENTRY_POINTS.items()
        for name, target in targets.items()
    ],
)
def test_target_can_be_called(group: str, name: str, target: str) -> None:
    found = pkgutil.resolve_name(target)
    if group == 'pytest11':
        assert found.stub_cloud
        return
    # python-openstackclient's plugins are modules.
    assert callable(found) or callable(found.make_client)


@pytest.mark.parametrize(
    ('group', 'names'),
    [
        ('attachguard.cli', {'audit', 'demo', 'explain', 'repair', 'undo'}),
        ('openstack.cli.extension', {'attachguard'}),
        ('openstack.attachguard.v1', {'attachguard_audit'}),
        ('console_scripts', {'attachguard'}),
        ('oslo.config.opts', {'attachguard'}),
        ('oslo.middleware.healthcheck', {'attachguard'}),
        ('oslo.policy.enforcer', {'attachguard'}),
        ('oslo.policy.policies', {'attachguard'}),
        ('oslo.policy.rule_checks', {'nova'}),
        ('paste.app_factory', {'stub-cinder'}),
        ('paste.filter_factory', {'attachguard', 'main'}),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_documented_names_are_there(group: str, names: set[str]) -> None:
    assert names <= set(_ENTRY_POINTS[group])


def test_both_filter_names_are_one_filter() -> None:
    assert len(set(_ENTRY_POINTS['paste.filter_factory'].values())) == 1
