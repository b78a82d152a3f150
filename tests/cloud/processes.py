# SPDX-License-Identifier: Apache-2.0

"""Start and stop processes, and find them again after a crash.

Each process carries a mark in its environment, which its children inherit:
the directory of the cloud that it belongs to, and the name of the service.
So nothing has to be written down, and nothing else is ever stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import subprocess
import time

import psutil

CLOUD_MARK = 'ATTACHGUARD_CLOUD'
SERVICE_MARK = 'ATTACHGUARD_CLOUD_SERVICE'

# How long a process may take to end after SIGTERM, in seconds.
_GRACE = 10.0

# What the caller's environment must not decide: credentials, proxies, and
# where services look for their configuration.
_NOT_INHERITED = ('OS_', 'http_proxy', 'https_proxy', 'HTTP_PROXY')


class Failed(Exception):
    """A command failed, or a service ended; says what it wrote last."""


class Processes:
    """The processes of one cloud.

    :param directory: the cloud's directory; logs go into its ``log``
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def log(self, service: str) -> pathlib.Path:
        """Where a service's output goes."""
        return self.directory / 'log' / f'{service}.log'

    def run(
        self,
        service: str,
        *commands: Sequence[str | os.PathLike[str]],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Run commands to their end, one after the other.

        :param service: what they prepare; their output goes to its log
        :param commands: the command lines
        :param environ: what to add to the environment
        :raises Failed: one ended with another status than 0
        """
        for command in commands:
            child = self.start(service, command, environ=environ)
            if child.wait() != 0:
                raise Failed(self._last_words(service, child.returncode))

    def start(
        self,
        service: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command.

        :param service: name that it is found again by
        :param command: the command line
        :param environ: what to add to the environment
        """
        log = self.log(service)
        log.parent.mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_NOT_INHERITED)
        }
        with log.open('ab') as output:
            child = subprocess.Popen(
                [os.fspath(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={
                    **inherited,
                    'no_proxy': '*',
                    'NO_PROXY': '*',
                    # A new process title would be written over the marks.
                    'SPT_NOENV': '1',
                    **(environ or {}),
                    CLOUD_MARK: str(self.directory),
                    SERVICE_MARK: service,
                },
                # An interrupt from the terminal is for who started it.
                start_new_session=True,
            )
        self._children[child.pid] = child
        # The kernel shows the environment a moment after exec() has returned.
        while child.poll() is None and not list(self.find([service])):
            time.sleep(0.001)
        return child

    def check(self, service: str) -> None:
        """Make sure that a service runs.

        :raises Failed: it does not
        """
        if not list(self.find([service])):
            raise Failed(self._last_words(service))

    def find(
        self, services: Iterable[str] | None = None
    ) -> Iterator[psutil.Process]:
        """The processes of this cloud that are alive.

        :param services: only those of these services
        """
        wanted = None if services is None else set(services)
        for process in psutil.process_iter():
            try:
                environ = process.environ()
                alive = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                # Gone, or another user's.
                continue
            if (
                alive
                and environ.get(CLOUD_MARK) == str(self.directory)
                and (wanted is None or environ.get(SERVICE_MARK) in wanted)
            ):
                yield process

    def stop(self, services: Iterable[str] | None = None) -> None:
        """Stop services, all of them by default, and wait for their end.

        :param services: the names of those to stop
        """
        processes = list(self.find(services))
        for process in processes:
            try:
                process.terminate()
            except psutil.NoSuchProcess:
                continue
        _gone, alive = psutil.wait_procs(processes, timeout=_GRACE)
        # What was born meanwhile is found by looking again.
        for process in {*alive, *self.find(services)}:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(alive, timeout=_GRACE)
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]

    def _last_words(self, service: str, status: int | None = None) -> str:
        log = self.log(service)
        text = log.read_text(errors='replace') if log.exists() else ''
        tail = '\n'.join(text.splitlines()[-25:])
        ended = 'is not running' if status is None else f'ended with {status}'
        return f'{service} {ended}; the end of {log}:\n{tail}'
