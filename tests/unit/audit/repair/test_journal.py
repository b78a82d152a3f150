# SPDX-License-Identifier: Apache-2.0

"""The journal: written before a change, and readable if it is incomplete."""

from __future__ import annotations

import errno
import json
import os
import pathlib
from typing import Any

import pytest

from attachguard.audit.repair import journal


def begin(tmp_path: pathlib.Path) -> journal.Journal:
    return journal.Journal(
        tmp_path / 'new' / 'journal.jsonl', {'cloud': 'here'}
    )


def test_what_is_written_can_be_read(tmp_path: pathlib.Path) -> None:
    opened = begin(tmp_path)
    with opened.record({'call': 'one'}) as done:
        done['answer'] = 'ok'
    with pytest.raises(KeyboardInterrupt), opened.record({'call': 'two'}):
        raise KeyboardInterrupt
    opened.close()

    header, entries = journal.read(opened.path)
    assert header['cloud'] == 'here'
    assert [entry.number for entry in entries] == [1, 2]
    assert entries[0].act['call'] == 'one'
    assert entries[0].done is not None
    assert entries[0].done['answer'] == 'ok'
    # Interrupted: it may have been done.
    assert entries[1].done is None


def test_only_its_owner_can_read_it(tmp_path: pathlib.Path) -> None:
    opened = begin(tmp_path)
    assert opened.path.stat().st_mode & 0o077 == 0
    assert opened.path.parent.stat().st_mode & 0o077 == 0


def test_each_line_is_on_the_disk_before_it_goes_on(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []

    def fsync(file: int) -> None:
        if os.path.isfile(f'/proc/self/fd/{file}'):
            path = pathlib.Path(os.readlink(f'/proc/self/fd/{file}'))
            synced.append(path.read_bytes())

    monkeypatch.setattr(os, 'fsync', fsync)
    opened = begin(tmp_path)
    with opened.record({'call': 'one'}):
        assert synced[-1] == opened.path.read_bytes()
        assert b'"call": "one"' in synced[-1]
    assert synced[-1] == opened.path.read_bytes()
    assert b'"done": 1' in synced[-1]


def test_an_existing_file_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'precious'
    path.write_text('journal of yesterday')
    with pytest.raises(journal.JournalError, match='Nothing was changed'):
        journal.Journal(path, {})
    assert path.read_text() == 'journal of yesterday'


def test_a_full_disk_is_an_error_and_leaves_no_incomplete_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = begin(tmp_path)
    with opened.record({'call': 'one'}):
        pass
    before = opened.path.read_bytes()
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) <= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data)[:8])

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(journal.JournalError, match='No space left'):
        opened.record({'call': 'two'}).__enter__()
    monkeypatch.undo()
    assert opened.path.read_bytes() == before
    # When there is space again, it can be written.
    with opened.record({'call': 'three'}):
        pass
    _header, entries = journal.read(opened.path)
    assert [entry.act['call'] for entry in entries] == ['one', 'three']
    assert entries[1].done is not None


def test_a_journal_without_header_is_removed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(journal.JournalError):
        begin(tmp_path)
    assert list((tmp_path / 'new').iterdir()) == []


@pytest.mark.parametrize('kept', range(1, 12))
def test_an_incomplete_last_line_is_ignored(
    tmp_path: pathlib.Path, kept: int
) -> None:
    opened = begin(tmp_path)
    with opened.record({'call': 'one'}):
        whole = opened.path.read_bytes()
    opened.path.write_bytes(opened.path.read_bytes()[: len(whole) + kept])
    (entry,) = journal.read(opened.path)[1]
    assert entry.done is None


@pytest.mark.parametrize(
    'lines',
    [
        [{'journal': 1}, {'done': 1}],
        [{'journal': 1}, {'other': 1}],
        [{'act': 1}],
        [[]],
    ],
    ids=str,
)
def test_another_file_is_refused(
    tmp_path: pathlib.Path, lines: list[Any]
) -> None:
    path = tmp_path / 'journal'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    with pytest.raises(journal.JournalError):
        journal.read(path)
