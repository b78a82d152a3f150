# SPDX-License-Identifier: Apache-2.0

"""``attachguard paste``."""

from __future__ import annotations

import pathlib
import sys

import pytest

from attachguard import cmd
from attachguard.guard import paste_edit


@pytest.fixture
def before() -> str:
    """As Cinder installs it."""
    return pathlib.Path(sys.prefix, 'etc/cinder/api-paste.ini').read_text()


def test_the_file_is_changed_and_changed_back(
    tmp_path: pathlib.Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    real = tmp_path / 'real.ini'
    real.write_text(before)
    real.chmod(0o604)
    path = tmp_path / 'api-paste.ini'
    path.symlink_to(real)
    arguments = ['paste', '--in-place', str(path)]
    assert cmd.main(arguments) == 0
    assert 'restart cinder-api' in capsys.readouterr().err
    assert real.read_text() == paste_edit.add(before)
    assert real.stat().st_mode & 0o777 == 0o604
    assert path.is_symlink()
    assert cmd.main(arguments) == 0
    assert 'is not changed' in capsys.readouterr().err
    assert cmd.main([*arguments, '--remove']) == 0
    assert real.read_text() == before
    assert sorted(tmp_path.iterdir()) == [path, real]


def test_without_in_place_it_is_printed(
    tmp_path: pathlib.Path, before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'api-paste.ini'
    path.write_text(before)
    assert cmd.main(['paste', str(path)]) == 0
    assert capsys.readouterr().out == paste_edit.add(before)
    assert path.read_text() == before


@pytest.mark.parametrize('text', [None, b'[app:x]\n', b'\xff'])
def test_what_cannot_be_edited_is_an_error(
    tmp_path: pathlib.Path,
    text: bytes | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'api-paste.ini'
    if text is not None:
        path.write_bytes(text)
    assert cmd.main(['paste', '--in-place', str(path)]) == 1
    assert capsys.readouterr().err.startswith(f'error: {path}: ')
    assert text is None or path.read_bytes() == text
