# SPDX-License-Identifier: Apache-2.0
"""RHOSO: the parts of the custom resource that are not the operator's.

The operator itself is not run.
"""

from __future__ import annotations

import pathlib

from oslo_config import cfg
import pytest
import yaml

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

RESOURCE = conftest.ROOT / 'deploy' / 'rhoso' / 'openstackcontrolplane.yaml'


def test_the_configuration_names_what_is_mounted(
    tmp_path: pathlib.Path,
) -> None:
    resource = yaml.safe_load(RESOURCE.read_text())
    template = resource['spec']['cinder']['template']
    path = tmp_path / 'custom.conf'
    path.write_text(template['cinderAPI']['customServiceConfig'])
    conftest.check_cinder_conf(path)
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('api_paste_config'))
    conf.register_opt(cfg.StrOpt('policy_file'), group='attachguard')
    conf([], default_config_files=[str(path)])
    [extra] = template['extraMounts']
    [volumes] = extra['extraVol']
    assert volumes['propagation'] == ['CinderAPI']
    [mount] = volumes['mounts']
    assert mount['name'] in {item['name'] for item in volumes['volumes']}
    for name in (conf.api_paste_config, conf.attachguard.policy_file):
        assert pathlib.PurePath(name).parent == pathlib.PurePath(
            mount['mountPath']
        )
