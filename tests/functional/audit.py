# SPDX-License-Identifier: Apache-2.0


"""A cloud of stubs, and the commands run on it."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
import logging
import os
import pathlib
from typing import Any
import uuid

import pytest

from attachguard import cmd
from attachguard.testing import stub_cinder as cinder_stub
from attachguard.testing import stub_nova as nova_stub
from attachguard.testing import StubCloud


@dataclasses.dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        """Its output, as JSON."""
        return json.loads(self.out)


@dataclasses.dataclass(eq=False)
class Scene:
    """A cloud, and how to audit it as an operator does."""

    cloud: StubCloud
    directory: pathlib.Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def log_in(self, user: str, **settings: str) -> None:
        """Set the environment as an openrc file does, and nothing else."""
        for name in list(os.environ):
            if name.startswith('OS_') or name.lower().endswith('_proxy'):
                self.monkeypatch.delenv(name)
        values = {**self.cloud.auth_settings(user), 'region_name': 'RegionOne'}
        for name, value in {**values, **settings}.items():
            self.monkeypatch.setenv(f'OS_{name.upper()}', value)

    def run(self, *arguments: str) -> Ran:
        """Run ``attachguard`` with arguments."""
        self.capsys.readouterr()
        # Those of an earlier test's cliff write to a closed stream.
        root = logging.getLogger()
        root.handlers[:] = [
            handler
            for handler in root.handlers
            if type(handler) is not logging.StreamHandler
        ]
        try:
            code = cmd.main(arguments)
        except SystemExit as exc:
            code = int(exc.code or 0)
        captured = self.capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def audit(self, *arguments: str) -> Ran:
        """Audit once, for JSON."""
        once = ('--once', '--settle=0s', '-f', 'json')
        return self.run('audit', *once, *arguments)

    def repair(self, *arguments: str) -> Ran:
        """Repair at once, for JSON."""
        once = ('--once', '--settle=0s', '--grace=0s', '-f', 'json')
        return self.run('repair', *once, *arguments)

    def found(self, *arguments: str) -> list[tuple[str, str]]:
        """Return the classes and volumes that an audit finds."""
        ran = self.audit(*arguments)
        assert ran.code in (0, 3), ran.err
        return [(row['Class'], row['Volume']) for row in ran.rows]

    # What the cloud contains.

    @property
    def project(self) -> str:
        return self.cloud.project_id('member')

    def server(self, **values: Any) -> nova_stub.Server:
        server = self.cloud.nova.add_server(self.project)
        for name, value in values.items():
            setattr(server, name, value)
        return server

    def volume(self, **values: Any) -> cinder_stub.Volume:
        return self.cloud.cinder.add_volume(self.project, **values)

    def record(
        self, volume: cinder_stub.Volume, server_id: str | None, **values: Any
    ) -> cinder_stub.Attachment:
        """Add an attachment to Cinder's records only."""
        return self.cloud.cinder.add_attachment(
            volume.id, instance_uuid=server_id, **values
        )

    def attached(
        self, server: nova_stub.Server, **values: Any
    ) -> cinder_stub.Volume:
        """Add a volume that a server has."""
        volume = self.volume(**values)
        attachment = self.record(
            volume,
            server.id,
            host=server.host,
            connector={'host': server.host},
            connection_info={'driver_volume_type': 'iscsi'},
        )
        self.cloud.nova.add_attachment(
            server.id, volume.id, attachment_id=attachment.id
        )
        return volume

    def forged(self, server_id: str | None = None) -> cinder_stub.Volume:
        """Add a volume attached to a server that does not exist."""
        volume = self.volume()
        self.record(volume, server_id or str(uuid.uuid4()))
        return volume

    def attachments(self, volume_id: str) -> list[cinder_stub.Attachment]:
        """Return Cinder's attachments of a volume."""
        attachments = self.cloud.cinder.attachments.values()
        return [item for item in attachments if item.volume_id == volume_id]

    def written(self) -> list[str]:
        """Return the requests to Cinder that were not reads."""
        return [
            f'{request.method} {request.path}'
            for request in self.cloud.cinder_server.requests
            if request.method != 'GET'
        ]

    def records(self) -> dict[str, Any]:
        """Return all records of both services, to compare."""
        cinder = self.cloud.cinder
        return {
            'volumes': {
                v.id: dataclasses.asdict(v) for v in cinder.volumes.values()
            },
            'attachments': {
                a.id: dataclasses.asdict(a)
                for a in cinder.attachments.values()
            },
            'servers': {
                s.id: dataclasses.asdict(s)
                for s in self.cloud.nova.servers.values()
            },
        }


def make_scene(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    middleware: Any = None,
) -> Iterator[Scene]:
    """Yield a cloud in which a server of another project has a volume.

    :param middleware: see StubCloud
    """
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
    for name in ('', 'CINDER_', 'NOVA_'):
        monkeypatch.delenv(f'ATTACHGUARD_{name}DATABASE', raising=False)
    monkeypatch.chdir(tmp_path)
    with StubCloud(middleware=middleware) as cloud:
        scene = Scene(cloud, tmp_path, capsys, monkeypatch)
        scene.log_in('admin')
        other = cloud.nova.add_server(cloud.project_id('other'))
        scene.attached(other)
        yield scene


@pytest.fixture
def scene(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    yield from make_scene(tmp_path, capsys, monkeypatch)
