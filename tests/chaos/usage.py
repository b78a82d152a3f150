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
"""What a process takes of its machine, as the kernel counts it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import threading
import time
import types
from typing import Self


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process has at a moment, or had at most.

    :param threads: of the kernel: greenthreads are none
    :param sockets: of TCP: listening, connected, or for this side to close;
        not what its peer has reset, which is only memory until it is collected
    :param megabytes: of memory that is resident
    """

    threads: int
    sockets: int
    megabytes: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Look at a process."""
        process = pathlib.Path(f'/proc/{pid}')
        links = []
        for entry in os.listdir(process / 'fd'):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(process / 'fd' / entry))
        known = {
            f'socket:[{line.split()[9]}]'
            for line in (process / 'net' / 'tcp').read_text().splitlines()[1:]
        }
        status = (process / 'status').read_text()
        resident = int(status.split('VmRSS:')[1].split()[0])
        return cls(
            len(os.listdir(process / 'task')),
            len(known.intersection(links)),
            resident / 1024,
        )

    def within(self, limit: Usage) -> bool:
        """Whether it is no more than a limit, in any respect."""
        return (
            self.threads <= limit.threads
            and self.sockets <= limit.sockets
            and self.megabytes <= limit.megabytes
        )

    def plus(self, threads: int, sockets: int, megabytes: float) -> Usage:
        """So much more."""
        return Usage(
            self.threads + threads,
            self.sockets + sockets,
            self.megabytes + megabytes,
        )

    def most(self, other: Usage) -> Usage:
        """The higher number in each respect."""
        return Usage(
            max(self.threads, other.threads),
            max(self.sockets, other.sockets),
            max(self.megabytes, other.megabytes),
        )


class Watch:
    """Looks at a process ten times a second, while the context is open.

    :param pid: the process
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: the most that it had
        self.most = Usage.of(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = self.most.most(Usage.of(self._pid))


def settled(pid: int, limit: Usage, seconds: float) -> Usage:
    """Wait until a process is back within a limit.

    :returns: what it has then, or at the end of the time
    """
    give_up = time.monotonic() + seconds
    while True:
        usage = Usage.of(pid)
        if usage.within(limit) or time.monotonic() > give_up:
            return usage
        time.sleep(0.1)
