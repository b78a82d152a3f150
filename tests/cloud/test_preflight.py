# SPDX-License-Identifier: Apache-2.0
"""``attachguard preflight`` on a whole cloud, as its operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from cinderclient import exceptions as cinder_exceptions
import pytest
import yaml

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import stage as stages

# Each test restarts Cinder's API, and one all of Nova.
pytestmark = pytest.mark.nightly

NO_TOKEN = modes.Mode('no service token', guard=True, service_token=False)
CREDENTIALS = modes.Mode(
    'credentials', guard=True, guard_options={'auth_section': 'nova'}
)


def preflight(
    cloud: clouds.Cloud, *options: str
) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run it, where there is a clouds.yaml.

    :returns: exit code, and of each check the result and the advice
    """
    etc = cloud.places.etc
    clouds_yaml = cloud.directory / 'clouds.yaml'
    clouds_yaml.write_text(yaml.safe_dump(clouds.describe(cloud.places)))
    done = subprocess.run(
        [
            f'{sys.prefix}/bin/attachguard',
            'preflight',
            f'--config-file={etc("cinder")}/cinder.conf',
            f'--nova-conf={etc("nova")}/nova.conf',
            f'--nova-conf={etc("nova")}/nova-compute1.conf',
            '-f',
            'json',
            *options,
        ],
        env={**os.environ, 'OS_CLIENT_CONFIG_FILE': str(clouds_yaml)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    rows = json.loads(done.stdout)
    return done.returncode, {
        row['Check']: (row['Result'], row['What was found, what to do'])
        for row in rows
    }


@pytest.mark.parametrize('enforce', [True, False])
def test_a_cloud_that_is_ready(
    whole_cloud: clouds.Cloud, enforce: bool
) -> None:
    whole_cloud.switch(modes.ENFORCED if enforce else modes.SHADOW)
    code, found = preflight(whole_cloud)
    assert code == 0, found
    assert {result for result, _text in found.values()} == {'ok'}


def test_a_pipeline_without_the_guard(whole_cloud: clouds.Cloud) -> None:
    whole_cloud.switch(modes.UNGUARDED)
    code, found = preflight(whole_cloud)
    assert code == 1
    assert {
        name for name, (result, _text) in found.items() if result == 'wrong'
    } == {'pipeline keystone', 'pipeline keystone_nolimit'}


@pytest.mark.mode(CREDENTIALS)
def test_credentials_that_see_everything(
    cloud: clouds.Cloud, stage: stages.Stage
) -> None:
    """Cinder's own for Nova, shared by ``auth_section``."""
    stage.server('server')
    stage.server('elsewhere', by=stage.caller('other'))
    code, found = preflight(cloud, '--as-user', 'member')
    assert code == 0, found
    result, text = found['queries as a user']
    servers = len(stage.member.nova.servers.list())
    assert servers
    assert result == 'ok', text
    assert f'member of demo sees the servers of this project ({servers})' in (
        text
    )
    # The guard queries Nova with them.
    stage.volume('data')
    with pytest.raises(cinder_exceptions.Forbidden):
        stage.member.cinder.volumes.attach(
            stage.volumes['data'], stage.servers['server'], '/dev/vdb'
        )
    stage.add_volume('data', 'server')
    stage.settle()
    (record,) = stage.attachments('data')
    with pytest.raises(
        cinder_exceptions.ClientException, match='server-has-volume'
    ):
        stage.member.cinder.attachments.delete(record.id)


def test_what_a_cloud_without_service_tokens_needs(
    whole_cloud: clouds.Cloud,
) -> None:
    whole_cloud.switch(NO_TOKEN)
    code, found = preflight(whole_cloud)
    assert code == 1
    result, advice = found['service tokens']
    assert result == 'wrong'
    assert 'no-service-token' in advice
    whole_cloud.switch(modes.PRESET_NO_TOKEN)
    _code, found = preflight(whole_cloud)
    result, advice = found['service tokens']
    assert result != 'wrong', advice
