# SPDX-License-Identifier: Apache-2.0

"""From the log of a real Cinder in shadow mode to rules, and back."""

from __future__ import annotations

import pathlib
import time
from typing import Any

from cinderclient import exceptions
import pytest

from attachguard import cmd
from attachguard.testing import embedded
from attachguard.testing import stub_cloud

SERVER = '11111111-1111-4111-8111-111111111111'


def create(cinder: Any) -> Any:
    """Create a volume, and wait until Cinder has done it."""
    volume = cinder.volumes.create(1)
    deadline = time.monotonic() + 30
    while cinder.volumes.get(volume.id).status != 'available':
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return volume


def attach(cloud: stub_cloud.StubCloud, user: str) -> None:
    cinder = cloud.cinderclient(user)
    cinder.volumes.attach(create(cinder), SERVER, '/dev/vdb')


def attach_to_host(cloud: stub_cloud.StubCloud, user: str) -> None:
    cinder = cloud.cinderclient(user)
    cinder.volumes.attach(create(cinder), None, '/dev/vdb', host_name='host')


def create_attachment(cloud: stub_cloud.StubCloud, user: str) -> None:
    cinder = cloud.cinderclient(user)
    cinder.attachments.create(create(cinder).id, None, SERVER)


CALLS = (attach, attach_to_host, create_attachment)


def test_the_proposed_rules_let_the_same_calls_pass(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / 'rules.yaml'
    with stub_cloud.StubCloud(cinder=None) as cloud:

        def cinder(**options: Any) -> embedded.EmbeddedCinder:
            return embedded.EmbeddedCinder(
                tmp_path / 'cinder', cloud.keystone_url, guard_options=options
            )

        with cinder(enforce='false') as shadow:
            cloud.register_cinder(shadow.url)
            for call in CALLS:
                call(cloud, 'member')
            log = str(shadow.log)
        assert cmd.main(['learn', log, '-f', 'value', '-c', 'Client']) == 0
        clients = capsys.readouterr().out.splitlines()
        assert len(clients) == len(CALLS)
        assert all('cinderclient' in client for client in clients)
        assert cmd.main(['learn', log, '--propose']) == 0
        rules.write_text(capsys.readouterr().out)
        with cinder(policy_file=str(rules)) as enforced:
            cloud.register_cinder(enforced.url)
            for call in CALLS:
                call(cloud, 'member')
            for call in CALLS:
                with pytest.raises(exceptions.Forbidden):
                    call(cloud, 'other')
