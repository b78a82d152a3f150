# SPDX-License-Identifier: Apache-2.0

"""The modes of the rules."""

from __future__ import annotations

from typing import Any
import uuid

from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.guard import rollout
from attachguard.guard.rollout import Mode

ATTACH = 'attachguard:os-attach'
TO_HOST = 'attachguard:os-attach:no-server'
RESERVE = 'attachguard:os-reserve'


def make(**options: Any) -> rollout.Rollout:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {name: str(v) for name, v in options.items()})
    return rollout.Rollout(conf)


@pytest.mark.parametrize(
    ('options', 'attach', 'to_host', 'reserve', 'text'),
    [
        ({}, Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, ''),
        ({'enforce': False}, Mode.SHADOW, Mode.SHADOW, Mode.SHADOW, ''),
        (
            {'rule_modes': 'os-attach=warn, os-reserve=off'},
            Mode.WARN,
            Mode.ENFORCE,
            Mode.OFF,
            'os-attach=warn, os-reserve=off',
        ),
        (
            {'rule_modes': '*=warn, os-attach:no-server=enforce'},
            Mode.WARN,
            Mode.ENFORCE,
            Mode.WARN,
            None,
        ),
        # The switch for all of them.
        (
            {'enforce': False, 'rule_modes': 'os-attach=warn,os-reserve=off'},
            Mode.SHADOW,
            Mode.SHADOW,
            Mode.OFF,
            'os-reserve=off',
        ),
        ({'enforce_percent': 0}, *[Mode.WARN] * 3, 'enforce_percent=0'),
    ],
)
def test_each_rule_has_a_mode(
    options: Any, attach: Mode, to_host: Mode, reserve: Mode, text: str | None
) -> None:
    modes = make(**options)
    assert modes.mode(ATTACH, {}) is attach
    assert modes.mode(TO_HOST, {}) is to_host
    assert modes.mode(RESERVE, {}) is reserve
    assert text is None or str(modes) == text


def test_a_share_of_the_requests_is_enforced() -> None:
    modes = make(enforce_percent=20, rule_modes='os-reserve=off')
    requests = [
        {'openstack.request_id': f'req-{uuid.uuid4()}'} for _ in range(2000)
    ]
    found = [modes.mode(ATTACH, environ) for environ in requests]
    assert set(found) == {Mode.ENFORCE, Mode.WARN}
    assert 250 < found.count(Mode.ENFORCE) < 550
    # The same for a request, whoever computes it.
    assert found == [modes.mode(ATTACH, environ) for environ in requests]
    assert {modes.mode(RESERVE, environ) for environ in requests} == {Mode.OFF}


@pytest.mark.parametrize(
    ('modes', 'says'),
    [
        ('os-atach=warn', 'did you mean "os-attach"'),
        ('attachguard:os-attach=warn', 'did you mean "os-attach'),
        ('service=warn', 'no rule "service"'),
        ('os-attach=log', 'enforce, warn, off'),
        ('os-attach', 'rule_modes'),
    ],
)
def test_an_unknown_rule_or_mode_is_an_error(modes: str, says: str) -> None:
    with pytest.raises(opts.ConfigError, match=says):
        make(rule_modes=modes)
