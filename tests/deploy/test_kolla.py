# SPDX-License-Identifier: Apache-2.0
"""kolla: kolla-build renders the image; kolla-ansible reads the variables."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

RECIPE = conftest.ROOT / 'deploy' / 'kolla'


def test_the_image_of_cinder_api_gets_the_package(
    tools: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    conftest.run(
        [
            'kolla-build',
            '--template-only',
            f'--template-override={RECIPE}/template-override.j2',
            f'--work-dir={tmp_path}',
            'cinder',
        ],
        tmp_path,
    )
    found = [
        path.parent.name
        for path in tmp_path.glob('docker/*/*/Dockerfile')
        if 'install' in path.read_text() and 'attachguard' in path.read_text()
    ]
    assert found == ['cinder-api']


def test_the_container_gets_the_files(
    tools: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    role = tools / 'share/kolla-ansible/ansible/roles/cinder'
    wanted = yaml.safe_load((RECIPE / 'globals.yml').read_text())
    defaults = yaml.safe_load((role / 'defaults/main.yml').read_text())
    # The recipe sets variables that the role has.
    assert wanted.keys() <= defaults.keys()
    playbook = tmp_path / 'play.yml'
    playbook.write_text(
        yaml.safe_dump(
            [
                {
                    'hosts': 'localhost',
                    'gather_facts': False,
                    'vars_files': [
                        str(role / 'defaults/main.yml'),
                        str(RECIPE / 'globals.yml'),
                    ],
                    'tasks': [
                        {
                            'ansible.builtin.copy': {
                                'content': '{{ cinder_api_default_volumes '
                                '+ cinder_api_extra_volumes }}',
                                'dest': str(tmp_path / 'out.json'),
                                'mode': '0600',
                            }
                        }
                    ],
                }
            ]
        )
    )
    default = json.dumps({'cinder_api_default_volumes': ['/etc/localtime']})
    conftest.run(
        ['ansible-playbook', playbook, f'--extra-vars={default}'], tmp_path
    )
    volumes = json.loads((tmp_path / 'out.json').read_text())
    assert volumes == ['/etc/localtime', *wanted['cinder_api_extra_volumes']]
    sources = {pathlib.Path(volume.split(':')[0]).name for volume in volumes}
    assert {'api-paste.ini', 'attachguard-policy.yaml'} <= sources


@pytest.mark.parametrize('known', [True, False])
def test_the_validation_of_the_configuration_knows_the_options(
    tmp_path: pathlib.Path, known: bool
) -> None:
    """As ``kolla-ansible validate-config`` runs it in the container."""
    generator = tmp_path / 'generator.conf'
    text = (RECIPE / 'cinder-config-generator.conf').read_text()
    # Cinder's backup drivers want packages that only the image has.
    text = text.replace('namespace = cinder\n', '')
    if not known:
        text = text.replace('namespace = attachguard\n', '')
    generator.write_text(text)
    done = subprocess.run(
        [
            f'{sys.prefix}/bin/oslo-config-validator',
            f'--config-file={generator}',
            f'--input-file={RECIPE}/cinder-api.conf',
        ],
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) is known, done.stderr
    conftest.check_cinder_conf(RECIPE / 'cinder-api.conf')
