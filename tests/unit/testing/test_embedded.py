# SPDX-License-Identifier: Apache-2.0

"""The embedded Cinder, without Cinder."""

from __future__ import annotations

import configparser
import pathlib
import sys
import sysconfig
import time

import pytest

from attachguard.testing import embedded

PIPELINES = 'composite:openstack_volume_api_v3'


def parse(path: pathlib.Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(path.read_text())
    return config


@pytest.mark.parametrize('name', ['keystone', 'keystone_nolimit'])
def test_the_guard_is_between_context_and_api(name: str) -> None:
    config = parse(embedded.sample_paste_ini())
    assert config[PIPELINES][name].split()[-4:] == [
        'authtoken',
        'keystonecontext',
        'attachguard',
        'apiv3',
    ]


@pytest.mark.parametrize('name', ['noauth', 'noauth_include_project_id'])
def test_noauth_pipelines_have_no_guard(name: str) -> None:
    config = parse(embedded.sample_paste_ini())
    assert 'attachguard' not in config[PIPELINES][name]


def test_without_guard_removes_only_the_guard() -> None:
    sample = embedded.sample_paste_ini()
    guarded = parse(sample)
    assert guarded.remove_section('filter:attachguard')
    for name in ('keystone', 'keystone_nolimit'):
        guarded[PIPELINES][name] = guarded[PIPELINES][name].replace(
            ' attachguard ', ' '
        )
    assert embedded.without_guard(sample) == guarded


def test_the_installed_sample_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(embedded, 'PACKAGE_ROOT', tmp_path)
    monkeypatch.setattr(
        sysconfig, 'get_path', lambda name: str(tmp_path / name)
    )
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'usr'))
    with pytest.raises(FileNotFoundError, match='no api-paste.ini.sample'):
        embedded.sample_paste_ini()
    for directory in ('usr/share/attachguard', 'data/etc/attachguard'):
        sample = tmp_path / directory / 'api-paste.ini.sample'
        sample.parent.mkdir(parents=True)
        sample.touch()
        assert embedded.sample_paste_ini() == sample


class FakeCinder(embedded.EmbeddedCinder):
    """Runs a Python script instead of Cinder."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        directory: pathlib.Path,
        code: str,
        deadline: float = 30.0,
    ) -> None:
        process = directory / 'process.py'
        process.write_text(code)
        monkeypatch.setattr(embedded, 'PROCESS', process)
        super().__init__(
            directory,
            'http://127.0.0.1:1/v3',
            guard_options={'enforce': False},
            cinder_options={'DEFAULT': {'debug': True}},
            deadline=deadline,
        )


def is_running(pid_file: pathlib.Path) -> bool:
    return pathlib.Path('/proc', pid_file.read_text()).exists()


def test_the_configuration_has_the_options_and_the_sample(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    cinder = FakeCinder(monkeypatch, tmp_path, 'raise SystemExit(0)')
    with pytest.raises(embedded.CinderNotStarted):
        cinder.start()
    config = configparser.ConfigParser(
        interpolation=None, default_section='none'
    )
    config.read_string(cinder.conf.read_text())
    assert config['attachguard']['enforce'] == 'False'
    assert config['DEFAULT']['debug'] == 'True'
    assert config['DEFAULT']['api_paste_config'] == str(
        embedded.sample_paste_ini()
    )
    assert config['keystone_authtoken']['auth_url'] == 'http://127.0.0.1:1/v3'


def test_the_error_has_the_exit_code_and_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    cinder = FakeCinder(
        monkeypatch, tmp_path, 'print("no such table"); raise SystemExit(3)'
    )
    with pytest.raises(
        embedded.CinderNotStarted, match=r'(?s)exited with 3.*no such table'
    ):
        cinder.start()


@pytest.mark.slow
def test_the_deadline_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    cinder = FakeCinder(
        monkeypatch,
        tmp_path,
        'import os, sys\n'
        'open("pid", "w").write(str(os.getpid()))\n'
        'print("starting", flush=True)\n'
        'sys.stdin.read()\n',
        deadline=2.0,
    )
    with pytest.raises(
        embedded.CinderNotStarted, match=r'(?s)within 2 seconds.*starting'
    ):
        cinder.start()
    assert not is_running(tmp_path / 'pid')


@pytest.mark.slow
def test_stop_kills_a_process_that_does_not_exit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(embedded, 'GRACE', 0.2)
    cinder = FakeCinder(
        monkeypatch,
        tmp_path,
        'import os, time\n'
        'open("pid", "w").write(str(os.getpid()))\n'
        'time.sleep(60)\n',
        deadline=3.0,
    )
    started = time.monotonic()
    with pytest.raises(embedded.CinderNotStarted):
        cinder.start()
    assert time.monotonic() - started < 20
    assert not is_running(tmp_path / 'pid')


def test_stop_without_start_does_nothing(
    tmp_path: pathlib.Path,
) -> None:
    embedded.EmbeddedCinder(tmp_path, 'http://127.0.0.1:1/v3').stop()
