# SPDX-License-Identifier: Apache-2.0
"""The regular audit: systemd's units, and the job of Kubernetes."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

UNITS = conftest.ROOT / 'deploy' / 'systemd'
JOB = conftest.ROOT / 'deploy' / 'kubernetes' / 'audit-cronjob.yaml'


def test_systemd_accepts_the_units(tmp_path: pathlib.Path) -> None:
    if not shutil.which('systemd-analyze'):
        pytest.skip('systemd is not installed')
    for unit in UNITS.iterdir():
        text = unit.read_text().replace('/usr/bin/', f'{sys.prefix}/bin/')
        # A user that there is on every machine.
        (tmp_path / unit.name).write_text(
            text.replace('User=attachguard', 'User=daemon').replace(
                'User=cinder', 'User=daemon'
            )
        )
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 3
    assert conftest.run(['systemd-analyze', 'verify', *units], tmp_path) == ''


@pytest.mark.parametrize(
    ('code', 'succeeds'), [(0, True), (3, True), (1, False)]
)
def test_the_job_succeeds_if_the_audit_was_completed(
    tmp_path: pathlib.Path, code: int, succeeds: bool
) -> None:
    job = yaml.safe_load(JOB.read_text())['spec']
    assert job['concurrencyPolicy'] == 'Forbid'
    [container] = job['jobTemplate']['spec']['template']['spec']['containers']
    fake = tmp_path / 'attachguard'
    fake.write_text(f'#!/bin/sh\nexit {code}\n')
    fake.chmod(0o755)
    done = subprocess.run(
        container['command'],
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    )
    assert (done.returncode == 0) is succeeds


def test_the_state_is_on_a_volume() -> None:
    pod = yaml.safe_load(JOB.read_text())['spec']['jobTemplate']['spec'][
        'template'
    ]['spec']
    [container] = pod['containers']
    home = {item['name']: item['value'] for item in container['env']}[
        'XDG_STATE_HOME'
    ]
    [name] = [
        mount['name']
        for mount in container['volumeMounts']
        if mount['mountPath'] == f'{home}/attachguard'
    ]
    [volume] = [item for item in pod['volumes'] if item['name'] == name]
    assert 'persistentVolumeClaim' in volume
