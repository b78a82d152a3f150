# SPDX-License-Identifier: Apache-2.0

"""The command-line tools of oslo.policy, on the guard's rules."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sysconfig
from typing import Any

import pytest
import yaml

from attachguard.guard import default_rules
from attachguard.testing import embedded

pytestmark = pytest.mark.slow

DETACH = 'attachguard:os-detach'


def run(
    name: str, *arguments: str, cwd: pathlib.Path | None = None
) -> tuple[int, str]:
    """Run one of the tools.

    :returns: its exit code, and what it printed
    """
    command = pathlib.Path(sysconfig.get_path('scripts'), name)
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, cwd=cwd
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def cinder_conf(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'cinder.conf'
    path.write_text(
        f'[DEFAULT]\napi_paste_config = {embedded.sample_paste_ini()}\n'
        f'[attachguard]\npolicy_file = {tmp_path}/rules.yaml\n'
        # Cinder's own rules are none of the guard's.
        f'[oslo_policy]\npolicy_file = {tmp_path}/cinder.yaml\n'
    )
    (tmp_path / 'cinder.yaml').write_text('"volume:get": "@"\n')
    (tmp_path / 'policy.d').mkdir()
    (tmp_path / 'policy.d' / 'a.yaml').write_text('"volume:get": "!"\n')
    return path


def use(name: str, cinder_conf: pathlib.Path, rules: str) -> tuple[int, str]:
    cinder_conf.with_name('rules.yaml').write_text(rules)
    arguments = ['--namespace', 'attachguard', '--config-file']
    return run(f'oslopolicy-{name}', *arguments, str(cinder_conf))


@pytest.mark.parametrize(
    ('rules', 'code', 'says'),
    [
        (f'"{DETACH}": "role:operator and nova:idle"', 0, ''),
        (f'"{DETACH}": "nova:mistyped"', 1, "no check 'nova:mistyped'"),
        (f'"{DETACH}": "role:a and"', 1, 'Failed to parse rule'),
        (f'"{DETACH}": "rule:nowhere"', 1, 'nowhere'),
        ('"attachguard:os-x": "@"', 1, 'Unknown rule'),
    ],
)
def test_the_validator_finds_what_the_guard_refuses(
    cinder_conf: pathlib.Path, rules: str, code: int, says: str
) -> None:
    found, printed = use('validator', cinder_conf, rules)
    assert found == code, printed
    assert says in printed
    assert 'volume:get' not in printed


def test_the_validator_misses_a_file(cinder_conf: pathlib.Path) -> None:
    arguments = ['--namespace', 'attachguard', '--config-file']
    code, printed = run('oslopolicy-validator', *arguments, str(cinder_conf))
    assert code == 1
    assert 'rules.yaml" not found' in printed


def test_redundant_rules_are_listed(cinder_conf: pathlib.Path) -> None:
    rules = '"attachguard:os-reimage": "!"\n"attachguard:os-reserve": "!"\n'
    code, printed = use('list-redundant', cinder_conf, rules)
    assert code == 0
    # The log of oslo.policy names the rule, too.
    lines = [line for line in printed.splitlines() if line[0] == '"']
    assert lines == ['"attachguard:os-reimage": "!"']


def test_the_rules_in_force_are_printed(cinder_conf: pathlib.Path) -> None:
    rules = f'"{DETACH}": "!"\n'
    code, printed = use('policy-generator', cinder_conf, rules)
    assert code == 0
    names = {rule.name for rule in default_rules.list_rules()}
    assert yaml.safe_load(printed).keys() == names
    assert yaml.safe_load(printed)[DETACH] == '!'


@pytest.mark.parametrize(
    ('target', 'result'),
    [
        ({'nova:no_server_has_volume': False}, 'failed: '),
        (
            {'nova:no_server_has_volume': True, 'cinder:consistent': True},
            'passed: ',
        ),
        ({}, 'needs "nova:no_server_has_volume": true or false'),
    ],
)
def test_the_checker_reads_the_facts_from_the_target(
    tmp_path: pathlib.Path, target: dict[str, Any], result: str
) -> None:
    (tmp_path / 'rules.yaml').write_text(
        f'"{DETACH}": "nova:no_server_has_volume and cinder:consistent"'
    )
    token = {'roles': [{'name': 'member'}], 'user': {'id': 'u'}}
    (tmp_path / 'token.json').write_text(json.dumps({'token': token}))
    (tmp_path / 'target.json').write_text(json.dumps(target))
    arguments = ['--policy', 'rules.yaml', '--access', 'token.json']
    arguments += ['--target', 'target.json', '--rule', DETACH]
    code, printed = run('oslopolicy-checker', *arguments, cwd=tmp_path)
    assert code == 0
    assert result in printed
