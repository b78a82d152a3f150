# SPDX-License-Identifier: Apache-2.0

"""The command line itself: its help, and its exit codes."""

from __future__ import annotations

from importlib import metadata
from importlib import util

import pytest
from stevedore import extension

from attachguard import cmd


def test_without_arguments_it_prints_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cmd.main([]) == 0
    out = capsys.readouterr().out
    assert 'etc/api-paste.ini.sample' in out
    assert 'exit codes:' in out


def test_commands_come_from_the_entry_points(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cmd.main(['help'])
    out = capsys.readouterr().out
    for name in extension.ExtensionManager('attachguard.cli').names():
        # A word for each part: "attachguard policy test".
        assert f'\n  {name.replace("_", " ")} ' in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cmd.main(['--version'])
    assert caught.value.code == 0
    assert metadata.version('attachguard') in capsys.readouterr().out


@pytest.mark.parametrize('argv', [['nosuch'], ['--nosuch']])
def test_a_wrong_command_line_is_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cmd.main(argv) == 2


def test_a_wrong_option_of_a_command_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cmd.main(['demo', '--nosuch'])
    assert caught.value.code == 2


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cmd.main(['help', 'demo']) == 0
    out = capsys.readouterr().out
    assert '--serve' in out
    assert '--keep-logs DIR' in out


def test_packages_that_the_demo_misses_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(
        util,
        'find_spec',
        lambda name: None if name == 'cinder' else find_spec(name),
    )
    assert cmd.main(['demo']) == 1
    err = capsys.readouterr().err
    assert 'The demo needs cinder' in err
    assert "pip install 'attachguard[demo]'" in err
