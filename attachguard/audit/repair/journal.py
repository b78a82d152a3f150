# SPDX-License-Identifier: Apache-2.0

"""The journal of a repair: the state before each change, and its result.

JSON lines, each on the disk before the change that it describes is made, so
that :mod:`attachguard.audit.repair.undo` knows of every change that may have
been made, whatever happens in between.  It contains no secrets: not how a
host is connected, but only whether it is.
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


class JournalError(Exception):
    """A journal cannot be written or read. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A change, as read from a journal.

    :param number: the changes of a repair are numbered from 1
    :param act: what was to be done, and the state before it
    :param done: the result; None if it was not written
    """

    number: int
    act: Mapping[str, Any]
    done: Mapping[str, Any] | None


class Journal:
    """A journal to write to; :func:`contextlib.closing` closes it.

    :param path: the file, which must not exist
    :param header: what its first line says of the run
    :raises JournalError: it cannot be created
    :ivar acts: how many changes were begun
    """

    def __init__(self, path: pathlib.Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.acts = 0
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
            )
        except OSError as exc:
            raise JournalError(
                f'Cannot create the journal {path}: {exc.strerror}. Nothing '
                'was changed. Name another file with --journal'
            ) from exc
        try:
            self._write({'journal': FORMAT, 'at': model.stamp(), **header})
            _sync_directory(path.parent)
        except BaseException:
            self.close()
            path.unlink()
            raise

    @contextlib.contextmanager
    def record(self, act: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Record a change before it is made, and afterwards its result.

        :param act: the change, and all that is needed to undo it
        :returns: a dictionary to put the result in; it is not recorded if an
            exception is raised
        :raises JournalError: the change cannot be recorded, and must not be
            made; or its result cannot
        """
        self.acts += 1
        number = self.acts
        self._write({'act': number, 'at': model.stamp(), **act})
        done: dict[str, Any] = {}
        yield done
        self._write({'done': number, 'at': model.stamp(), **done})

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
            # Half a line would make the next one unreadable.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
                os.lseek(self._file, start, os.SEEK_SET)
            raise JournalError(
                f'Cannot write the journal {self.path}: {exc.strerror}. '
                'Nothing more is changed'
            ) from exc


def read(path: pathlib.Path) -> tuple[Mapping[str, Any], list[Entry]]:
    """Read a journal, also one whose last line is incomplete.

    :param path: the file
    :returns: its header, and the changes in their order
    :raises JournalError: it is not a journal, or damaged before its end
    """
    header: Mapping[str, Any] | None = None
    acts: dict[int, Mapping[str, Any]] = {}
    done: dict[int, Mapping[str, Any]] = {}
    for number, record in _records(path):
        if header is None:
            if record.get('journal') != FORMAT:
                raise JournalError(
                    f'{path} is not a journal of attachguard repair'
                )
            header = record
        elif isinstance(record.get('act'), int):
            acts[record['act']] = record
        elif record.get('done') in acts:
            done[record['done']] = record
        else:
            raise JournalError(
                f'{path}, line {number}: neither a change nor its result'
            )
    if header is None:
        raise JournalError(f'{path} is empty: nothing was changed')
    return header, [
        Entry(number, act, done.get(number)) for number, act in acts.items()
    ]


def _records(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open('rb') as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError
                except ValueError:
                    if not line.endswith(b'\n'):
                        # The last line, interrupted while it was written:
                        # the change that it describes was not made.
                        return
                    raise JournalError(
                        f'{path}, line {number}: not JSON. The journal is '
                        'damaged, and nothing can be undone from it'
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
