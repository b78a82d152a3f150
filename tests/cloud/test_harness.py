# SPDX-License-Identifier: Apache-2.0
"""The cloud leaves nothing behind, and takes nothing that is not its own."""

from __future__ import annotations

import pathlib
import sys

import psutil
import pytest

from attachguard.testing import embedded
from tests.cloud import backends
from tests.cloud import cloud as clouds
from tests.cloud import config
from tests.cloud import processes

SLEEP = [sys.executable, '-c', 'import time; time.sleep(600)']
#: A process that has a child and is gone itself.
ORPHAN = [
    sys.executable,
    '-c',
    f'import subprocess; subprocess.Popen({SLEEP!r})',
]


class TestProcesses:
    def test_they_are_found_by_who_did_not_start_them(
        self, tmp_path: pathlib.Path
    ) -> None:
        child = processes.Processes(tmp_path).start('sleeper', SLEEP)
        (found,) = processes.Processes(tmp_path).find(['sleeper'])
        assert found.pid == child.pid
        processes.Processes(tmp_path).stop()
        assert not psutil.pid_exists(child.pid)

    def test_children_of_a_killed_one_are_stopped(
        self, tmp_path: pathlib.Path
    ) -> None:
        started = processes.Processes(tmp_path)
        assert started.start('orphan', ORPHAN).wait(timeout=20) == 0
        (orphan,) = started.find()
        processes.Processes(tmp_path).stop()
        assert not psutil.pid_exists(orphan.pid)

    def test_anothers_are_left_alone(self, tmp_path: pathlib.Path) -> None:
        one, two = tmp_path / 'one', tmp_path / 'two'
        one.mkdir()
        two.mkdir()
        child = processes.Processes(one).start('sleeper', SLEEP)
        processes.Processes(two).stop()
        assert child.poll() is None
        processes.Processes(one).stop()
        assert not psutil.pid_exists(child.pid)

    def test_a_failure_says_what_was_written(
        self, tmp_path: pathlib.Path
    ) -> None:
        command = [sys.executable, '-c', 'raise SystemExit("no such thing")']
        with pytest.raises(processes.Failed, match='no such thing'):
            processes.Processes(tmp_path).run('tool', command)

    def test_credentials_are_not_inherited(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('OS_PASSWORD', 'of somebody')
        child = processes.Processes(tmp_path).start('sleeper', SLEEP)
        environ = psutil.Process(child.pid).environ()
        processes.Processes(tmp_path).stop()
        assert 'OS_PASSWORD' not in environ


@pytest.fixture
def ports(tmp_path: pathlib.Path) -> list[int]:
    return clouds.free_ports(tmp_path, 4)


class TestServers:
    """The MariaDB and the RabbitMQ of a cloud."""

    def test_mariadb(self, tmp_path: pathlib.Path, ports: list[int]) -> None:
        started = processes.Processes(tmp_path)
        mariadb = backends.MariaDB(started, ports[0])
        try:
            mariadb.start()
            mariadb.create(['cinder'])
            assert str(ports[0]) in mariadb.url('cinder')
            assert mariadb.read(('cinder', 'SELECT 1', ())) == [[(1,)]]
        finally:
            started.stop()
        assert not list(started.find())

    def test_rabbitmq(self, tmp_path: pathlib.Path, ports: list[int]) -> None:
        started = processes.Processes(tmp_path)
        try:
            backends.RabbitMQ(started, ports[0]).start()
            assert list(started.find(['rabbitmq']))
        finally:
            started.stop()
        assert not list(started.find())

    @pytest.mark.parametrize(
        ('server', 'package'),
        [
            (backends.MariaDB, 'mariadb-server'),
            (backends.RabbitMQ, 'rabbitmq-server'),
        ],
    )
    def test_a_missing_package_is_named(
        self,
        tmp_path: pathlib.Path,
        ports: list[int],
        monkeypatch: pytest.MonkeyPatch,
        server: type[backends.MariaDB | backends.RabbitMQ],
        package: str,
    ) -> None:
        monkeypatch.setattr(backends, '_PATH', '/nowhere')
        with pytest.raises(backends.Missing, match=package):
            server(processes.Processes(tmp_path), ports[0]).start()


class TestThePasteFile:
    """The guard is where the sample says, in Cinder's own file."""

    def test_the_recipe_gives_the_sample(self, tmp_path: pathlib.Path) -> None:
        theirs = pathlib.Path(sys.prefix, 'etc/cinder/api-paste.ini')
        text = config.guarded(theirs, embedded.sample_paste_ini())
        (tmp_path / 'api-paste.ini').write_text(text)
        without = embedded.without_guard(tmp_path / 'api-paste.ini')
        sample = embedded.without_guard(embedded.sample_paste_ini())
        assert without == sample
        assert text.count('keystonecontext attachguard apiv3') == 2

    def test_another_pipeline_is_an_error(
        self, tmp_path: pathlib.Path
    ) -> None:
        paste_ini = tmp_path / 'api-paste.ini'
        paste_ini.write_text('[pipeline:main]\npipeline = apiv3\n')
        with pytest.raises(ValueError, match='is not twice in'):
            config.guarded(paste_ini, embedded.sample_paste_ini())
