# SPDX-License-Identifier: Apache-2.0


"""The state file of the audits: a finding is confirmed when it is seen twice.

Cinder and Nova write their records one after the other.  What two audits see,
of the same attachment and some time apart, is no such transition.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import pathlib
from typing import Any

from attachguard.audit import classes
from attachguard.audit import files
from attachguard.audit import model

_FORMAT = 1

_ADVICE = 'name another one with --state-file, or use --once'


class StateError(Exception):
    """The state file cannot be used. The text says what to do."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """Since when a finding is seen.

    :param first: when it was seen first, UTC
    :param times: in how many audits in a row, including this one
    """

    first: datetime.datetime
    times: int

    def is_confirmed(
        self, min_age: datetime.timedelta, now: datetime.datetime
    ) -> bool:
        """Whether it was seen twice, and long enough ago."""
        return self.times > 1 and now - self.first >= min_age


class StateFile:
    """The state file of one cloud.

    :param path: of the file, which need not exist
    :param cloud: the identity of the cloud: the file of another one is an
        error
    """

    def __init__(self, path: pathlib.Path, cloud: str) -> None:
        self._path = path
        self._cloud = cloud
        self._before: dict[str, dict[str, Any]] = {}
        self._now: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Lock and read the file.

        :raises StateError: where it is locked, cannot be read or is of another
            cloud
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f'{self._path}.lock', os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise StateError(self._cannot('written', exc)) from exc
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateError(
                    f'Another audit or repair uses {self._path}; wait for '
                    'it, or name another file with --state-file'
                ) from None
            self._before, self._now = self._read(), {}
            yield
        finally:
            os.close(lock)

    def see(self, finding: classes.Finding, now: datetime.datetime) -> Seen:
        """Record a finding of this audit.

        :param now: when it was found
        """
        before = self._before.get(finding.key)
        first = model.moment(before['first'] if before else None) or now
        seen = Seen(first, int(before['times']) + 1 if before else 1)
        self._now[finding.key] = {
            'first': model.stamp(first),
            'last': model.stamp(now),
            'times': seen.times,
            'kind': finding.kind,
            'volume_id': finding.volume_id,
            'project_id': finding.project_id,
        }
        return seen

    def save(self, keep: Callable[[str, str | None, str], bool]) -> None:
        """Write the file.

        :param keep: whether to keep an earlier finding, by its volume, project
            and class, because this audit did not or could not check it
        :raises StateError: where the file cannot be written
        """
        kept = {
            key: entry
            for key, entry in self._before.items()
            if keep(entry['volume_id'], entry['project_id'], entry['kind'])
        }
        self._write({**kept, **self._now})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self._path.read_bytes())
            if content['format'] != _FORMAT:
                raise KeyError
            cloud, entries = content['cloud'], content['findings']
            for entry in entries.values():
                int(entry['times'])
                for name in ('first', 'kind', 'volume_id', 'project_id'):
                    entry[name]
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise StateError(self._cannot('read', exc)) from exc
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StateError(
                f'{self._path} is no state file of attachguard audit; remove '
                'it, or name another file with --state-file'
            ) from None
        if cloud != self._cloud:
            raise StateError(
                f'{self._path} is of another cloud ({cloud}, and this is '
                f'{self._cloud}); name another file with --state-file'
            )
        return dict(entries)

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        content = {
            'format': _FORMAT,
            'cloud': self._cloud,
            'findings': entries,
        }
        try:
            files.replace(self._path, json.dumps(content, indent=1).encode())
        except files.NotWrittenError as exc:
            raise StateError(f'{exc}; {_ADVICE}') from exc

    def _cannot(self, done: str, exc: OSError) -> str:
        return (
            f'The state file {self._path} cannot be {done}: {exc.strerror}; '
            f'{_ADVICE}'
        )
