# SPDX-License-Identifier: Apache-2.0

"""A file is replaced atomically."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import pathlib
import resource
import stat

import pytest

from attachguard.audit import files


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let the kernel write only a part of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ('mask', 'public', 'expected'),
    [
        (0o022, True, 0o644),
        (0o077, True, 0o644),
        (0o022, False, 0o640),
        (0o077, False, 0o600),
        (0o000, False, 0o640),
    ],
)
def test_the_mode_of_the_file(
    tmp_path: pathlib.Path, mask: int, public: bool, expected: int
) -> None:
    path = tmp_path / 'file'
    with umask(mask):
        files.replace(path, b'content', public=public)
    assert path.read_bytes() == b'content'
    assert mode(path) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_synced_before_it_is_renamed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'file'
    path.write_text('before')
    synced = []

    def fsync(fd: int) -> None:
        [temporary] = set(tmp_path.iterdir()) - {path}
        assert os.fstat(fd).st_ino == temporary.stat().st_ino
        synced.append((temporary.read_text(), path.read_text()))

    monkeypatch.setattr(os, 'fsync', fsync)
    files.replace(path, b'after')
    assert synced == [('after', 'before')]
    assert path.read_text() == 'after'


def test_a_failed_write_leaves_the_old_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'file'
    path.write_text('before')

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    with (
        full_disk(),
        pytest.raises(files.NotWrittenError, match=f'{path}: File too large'),
    ):
        files.replace(path, b'much more than before')
    monkeypatch.setattr(os, 'fsync', interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.replace(path, b'after')
    assert path.read_text() == 'before'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('where', 'error'),
    [
        ('missing', 'No such file or directory'),
        ('file', 'Not a directory'),
        # Even root cannot create a file there.
        ('/proc/self', 'No such file or directory|Permission denied'),
    ],
)
def test_a_directory_that_cannot_be_written(
    tmp_path: pathlib.Path, where: str, error: str
) -> None:
    (tmp_path / 'file').touch()
    path = tmp_path / where / 'new'
    with pytest.raises(files.NotWrittenError, match=f'{path}: {error}'):
        files.replace(path, b'')


def test_only_plain_files_are_replaced(tmp_path: pathlib.Path) -> None:
    plain = tmp_path / 'plain'
    plain.write_text('before')
    link = tmp_path / 'link'
    link.symlink_to(plain)
    dangling = tmp_path / 'dangling'
    dangling.symlink_to(tmp_path / 'nothing')
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    before = sorted(tmp_path.iterdir())
    for path in (link, dangling, pipe, tmp_path, pathlib.Path('/dev/full')):
        with pytest.raises(files.NotWrittenError, match='no plain file'):
            files.replace(path, b'after')
    assert plain.read_text() == 'before'
    assert sorted(tmp_path.iterdir()) == before
