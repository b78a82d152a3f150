# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The journal: on the disk before the act, and read also where it is cut."""

from __future__ import annotations

import errno
import json
import os
import pathlib
from typing import Any

import pytest

from attachguard.audit.repair import journal as journals


def begin(tmp_path: pathlib.Path) -> journals.Journal:
    return journals.Journal(
        tmp_path / 'new' / 'journal.jsonl', {'cloud': 'here'}
    )


def test_what_is_written_can_be_read(tmp_path: pathlib.Path) -> None:
    journal = begin(tmp_path)
    first = journal.act({'call': 'one'})
    journal.done(first, {'answer': 'ok'})
    second = journal.act({'call': 'two'})
    journal.close()

    header, entries = journals.read(journal.path)
    assert header['cloud'] == 'here'
    assert [entry.number for entry in entries] == [first, second] == [1, 2]
    assert entries[0].act['call'] == 'one'
    assert entries[0].done is not None
    assert entries[0].done['answer'] == 'ok'
    # Killed in between: it may have been done.
    assert entries[1].done is None


def test_it_is_for_nobody_else(tmp_path: pathlib.Path) -> None:
    journal = begin(tmp_path)
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def test_each_line_is_on_the_disk_before_it_returns(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []

    def fsync(file: int) -> None:
        if os.path.isfile(f'/proc/self/fd/{file}'):
            path = pathlib.Path(os.readlink(f'/proc/self/fd/{file}'))
            synced.append(path.read_bytes())

    monkeypatch.setattr(os, 'fsync', fsync)
    journal = begin(tmp_path)
    journal.act({'call': 'one'})
    assert synced[-1] == journal.path.read_bytes()
    assert b'"call": "one"' in synced[-1]


def test_it_overwrites_nothing(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'precious'
    path.write_text('journal of yesterday')
    with pytest.raises(journals.JournalError, match='nothing was changed'):
        journals.Journal(path, {})
    assert path.read_text() == 'journal of yesterday'


def test_a_full_disk_is_an_error_and_leaves_no_half_line(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(tmp_path)
    journal.act({'call': 'one'})
    before = journal.path.read_bytes()
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) <= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data)[:8])

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(journals.JournalError, match='No space left'):
        journal.act({'call': 'two'})
    monkeypatch.undo()
    assert journal.path.read_bytes() == before
    # And when there is room again, it goes on.
    journal.done(1, {})
    assert journals.read(journal.path)[1][0].done is not None


def test_a_journal_without_its_first_line_is_not_left_behind(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(journals.JournalError):
        begin(tmp_path)
    assert list((tmp_path / 'new').iterdir()) == []


@pytest.mark.parametrize('kept', range(1, 12))
def test_wherever_the_last_line_is_cut_off_the_others_count(
    tmp_path: pathlib.Path, kept: int
) -> None:
    journal = begin(tmp_path)
    journal.act({'call': 'one'})
    whole = journal.path.read_bytes()
    journal.done(1, {'answer': 'ok'})
    journal.path.write_bytes(journal.path.read_bytes()[: len(whole) + kept])
    (entry,) = journals.read(journal.path)[1]
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
def test_what_is_no_journal_is_said_to_be_none(
    tmp_path: pathlib.Path, lines: list[Any]
) -> None:
    path = tmp_path / 'journal'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    with pytest.raises(journals.JournalError):
        journals.read(path)
