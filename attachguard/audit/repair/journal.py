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


"""The journal of a repair: what was there before each act, and what came.

JSON lines, each one on the disk before what it tells of is done, so that
whatever happens in between, :mod:`attachguard.audit.repair.undo` knows of
every act that may have been performed.  Nothing secret is in it: connections
are not written down, only whether there was one.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any

from attachguard.audit import model

FORMAT = 1

# A line holds one volume with its attachments.
_LONGEST = 4 * 1024 * 1024


class JournalError(Exception):
    """A journal cannot be written or read. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An act, as it is found in a journal.

    :param number: the acts of a repair are numbered from 1
    :param act: what was about to be done, and what was there before
    :param done: what came of it; None where that was not written any more
    """

    number: int
    act: Mapping[str, Any]
    done: Mapping[str, Any] | None


class Journal:
    """A journal that is being written.

    :param path: of the file, which must not exist yet
    """

    def __init__(self, path: pathlib.Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._acts = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
            )
        except OSError as exc:
            raise JournalError(
                f'The journal {path} cannot be made: {exc.strerror}; nothing '
                'was changed. Name another file with --journal'
            ) from exc
        try:
            self._write({'journal': FORMAT, 'at': model.stamp(), **header})
            _sync_directory(path.parent)
        except BaseException:
            self.close()
            path.unlink()
            raise

    def act(self, what: Mapping[str, Any]) -> int:
        """Write down what is about to be done.

        :param what: the act, and all that is needed to take it back
        :returns: its number
        :raises JournalError: where it cannot be written: it must not be done
        """
        self._acts += 1
        self._write({'act': self._acts, 'at': model.stamp(), **what})
        return self._acts

    def done(self, number: int, what: Mapping[str, Any]) -> None:
        """Write down what came of an act.

        :param number: of the act
        :param what: the answer, and what was there after it
        :raises JournalError: where it cannot be written
        """
        self._write({'done': number, 'at': model.stamp(), **what})

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, sort_keys=False).encode() + b'\n'
        start = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as exc:
            # Half a line would spoil what comes after it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
                os.lseek(self._file, start, os.SEEK_SET)
            raise JournalError(
                f'The journal {self.path} cannot be written: {exc.strerror}; '
                'nothing more is changed'
            ) from exc


def read(path: pathlib.Path) -> tuple[Mapping[str, Any], list[Entry]]:
    """Read a journal, also one that was cut off.

    :param path: of the file
    :returns: its header, and the acts in their order
    :raises JournalError: where it is no journal, or damaged before its end
    """
    header: Mapping[str, Any] | None = None
    acts: dict[int, Mapping[str, Any]] = {}
    done: dict[int, Mapping[str, Any]] = {}
    for number, record in _records(path):
        if header is None:
            if record.get('journal') != FORMAT:
                raise JournalError(
                    f'{path} is no journal of attachguard repair'
                )
            header = record
        elif isinstance(record.get('act'), int):
            acts[record['act']] = record
        elif record.get('done') in acts:
            done[record['done']] = record
        else:
            raise JournalError(
                f'{path}, line {number}: neither an act nor what came of one'
            )
    if header is None:
        raise JournalError(f'{path} is empty: no act was begun')
    return header, [
        Entry(number, act, done.get(number)) for number, act in acts.items()
    ]


def _records(
    path: pathlib.Path,
) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open('rb') as file:
            number = 0
            while line := file.readline(_LONGEST):
                number += 1
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError
                except ValueError:
                    if not line.endswith(b'\n') and not file.readline(1):
                        # Cut off while it was written: what it was about to
                        # tell of had not been begun.
                        return
                    raise JournalError(
                        f'{path}, line {number}: not JSON; the journal is '
                        'damaged, and what it tells of cannot be undone from '
                        'it'
                    ) from None
                yield number, record
    except OSError as exc:
        raise JournalError(f'{path}: {exc.strerror}') from exc


def _sync_directory(path: pathlib.Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
