# SPDX-License-Identifier: Apache-2.0
"""OpenStack-Ansible: its config_template applies the overrides."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

VARIABLES = (
    conftest.ROOT / 'deploy/openstack-ansible/user_variables_attachguard.yml'
)


@pytest.mark.parametrize(
    ('source', 'overrides', 'check'),
    [
        (
            conftest.CINDERS_PASTE_INI,
            'cinder_api_paste_ini_overrides',
            conftest.check_paste_ini,
        ),
        (None, 'cinder_cinder_conf_overrides', conftest.check_cinder_conf),
    ],
    ids=['api-paste.ini', 'cinder.conf'],
)
def test_the_overrides_put_the_filter_in(
    tools: pathlib.Path,
    tmp_path: pathlib.Path,
    source: pathlib.Path | None,
    overrides: str,
    check: object,
) -> None:
    src = tmp_path / 'source'
    src.write_text(
        '[DEFAULT]\ndebug = false\n' if source is None else source.read_text()
    )
    playbook = tmp_path / 'play.yml'
    task = {
        'config_template': {
            'src': str(src),
            'dest': str(tmp_path / 'result'),
            'config_overrides': f'{{{{ {overrides} }}}}',
            'config_type': 'ini',
        }
    }
    play = {
        'hosts': 'localhost',
        'gather_facts': False,
        'vars_files': [str(VARIABLES)],
        'tasks': [task],
    }
    playbook.write_text(yaml.safe_dump([play]))
    plugins = tools / 'share/ansible/plugins'
    conftest.run(
        ['ansible-playbook', playbook],
        tmp_path,
        ANSIBLE_ACTION_PLUGINS=f'{plugins}/action',
        ANSIBLE_LIBRARY=f'{plugins}/modules',
    )
    assert callable(check)
    check(tmp_path / 'result')


def test_the_package_is_installed() -> None:
    variables = yaml.safe_load(VARIABLES.read_text())
    assert variables['cinder_user_pip_packages'] == ['attachguard']
