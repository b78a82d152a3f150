# SPDX-License-Identifier: Apache-2.0
"""From what a cloud logs in warn mode to rules: these calls, and no more."""

from __future__ import annotations

from collections.abc import Callable
import json
import pathlib
import subprocess
import sys
from typing import Any
import uuid

import pytest
import yaml

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import rules
from tests.cloud import stage as stages

pytestmark = pytest.mark.nightly

WARN = modes.Mode(
    'warn',
    guard=True,
    guard_options={'rule_modes': '*=warn', 'settle': 5},
)


class Run:
    """The calls of callers other than Nova, each on a volume of its own.

    :param stage: with the server ``server`` of the member
    :param by: who calls
    """

    def __init__(self, stage: stages.Stage, by: people.Caller) -> None:
        self._stage = stage
        self._by = by

    def _volume(self) -> str:
        return self._stage.volume(str(uuid.uuid4()), by=self._by)

    def _act(self, volume_id: str, name: str, **arguments: Any) -> str | None:
        response = self._by.send(
            'POST', f'/volumes/{volume_id}/action', {name: arguments}
        )
        return _reason(response)

    def attach_to_a_server(self) -> str | None:
        """An os-attach that Nova knows nothing of."""
        return self._act(
            self._volume(),
            'os-attach',
            instance_uuid=str(uuid.uuid4()),
            mountpoint='/dev/vdb',
        )

    def attach_to_a_host(self) -> str | None:
        """As Terraform does."""
        return self._act(
            self._volume(), 'os-attach', host_name='h', mountpoint='/dev/vdb'
        )

    def update_an_attachment(self) -> str | None:
        """One that another service has made for a server."""
        name = str(uuid.uuid4())
        self._stage.volume(name, by=self._by)
        attachment_id = self._stage.forge(name, str(uuid.uuid4()))
        return _reason(
            self._by.send(
                'PUT',
                f'/attachments/{attachment_id}',
                {'attachment': {'connector': {'host': 'h'}}},
            )
        )

    def create_an_attachment(self) -> str | None:
        """As ``openstack volume attachment create`` does."""
        body = {
            'volume_uuid': self._volume(),
            'instance_uuid': str(uuid.uuid4()),
        }
        return _reason(
            self._by.send('POST', '/attachments', {'attachment': body})
        )

    def logged(self) -> list[Callable[[], str | None]]:
        """The calls of the run that is learnt from."""
        return [
            self.attach_to_a_server,
            self.attach_to_a_host,
            self.create_an_attachment,
        ]


def _reason(response: Any) -> str | None:
    """The reason of a refusal by the guard; None without one."""
    if response.ok:
        return None
    [fault] = response.json().values()
    reason: str | None = fault.get('reason')
    return reason


class Log:
    """The log of cinder-api from now on.

    :param cloud: the cloud
    :param path: where to copy it to
    """

    def __init__(self, cloud: clouds.Cloud, path: pathlib.Path) -> None:
        self._log = cloud.processes.log('cinder-api')
        self._begin = self._log.stat().st_size
        self._path = path

    def copy(self) -> str:
        """Copy what was logged since.

        :returns: the name of the copy
        """
        self._path.write_bytes(self._log.read_bytes()[self._begin :])
        return str(self._path)


def _run(*arguments: str, code: int = 0) -> str:
    """Run ``attachguard``.

    :param code: the exit code that it must have
    :returns: what it prints
    """
    done = subprocess.run(
        [f'{sys.prefix}/bin/attachguard', *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_what_was_learnt_lets_the_same_run_pass_and_no_more(
    whole_cloud: clouds.Cloud,
    policy_file: rules.Rules,
    tmp_path: pathlib.Path,
) -> None:
    stage = stages.Stage(whole_cloud, f'req-{uuid.uuid4()}')
    try:
        whole_cloud.switch(WARN)
        log = Log(whole_cloud, tmp_path / 'warned.log')
        # Nova's own calls are in the same log, and are allowed.
        stage.server('server')
        stage.volume('data')
        stage.add_volume('data', 'server')
        member = stage.member
        for call in Run(stage, member).logged():
            assert call() is None
        warned = log.copy()

        rows = json.loads(_run('learn', warned, '-f', 'json'))
        users = {(row['Project'], row['User']) for row in rows}
        assert users == {(member.project_id, member.session.get_user_id())}
        assert {row['Enforced'] for row in rows} == {0}
        assert {row['Rule'].partition(':')[2] for row in rows} == {
            'os-attach',
            'os-attach:no-server',
            'attachment-create',
        }
        proposed = tmp_path / 'proposed.yaml'
        proposed.write_text(_run('learn', warned, '--propose'))
        changes = json.loads(
            _run(
                *('policy', 'test', str(proposed), warned, '-f', 'json'),
                code=3,
            )
        )
        assert sum(row['Requests'] for row in changes) == len(
            Run(stage, member).logged()
        )
        assert {
            (row['User'], row['Before'], row['After']) for row in changes
        } == {(member.session.get_user_id(), 'refused', 'allowed')}

        policy_file.write(yaml.safe_load(proposed.read_text()))
        whole_cloud.switch(policy_file.mode)
        log = Log(whole_cloud, tmp_path / 'enforced.log')
        for call in Run(stage, member).logged():
            assert call() is None
        # Another rule, another project, another user of the same one.
        assert Run(stage, member).update_an_attachment() == 'names-server'
        for name in ('other', 'colleague'):
            for call in Run(stage, stage.caller(name)).logged():
                assert call() is not None
        # The rules decide in the replay as they do in the cloud.
        same = json.loads(
            _run('policy', 'test', str(proposed), log.copy(), '-f', 'json')
        )
        assert same == []
    finally:
        stage.clear()
