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
"""A bad connection to Nova, and the plan of what goes wrong and when.

A small TCP proxy between the guard and Nova, for what a stub of Nova cannot
do: to refuse, to break and to say nothing. It knows of HTTP that a question is
a GET, which ends with an empty line.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import enum
import itertools
import socket
import struct
import threading
import time
import types
import typing

# What a peer that has gone away makes of a connection.
_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
# Closed without a farewell: the peer gets a reset.
_AT_ONCE = struct.pack('ii', 1, 0)
_SLOW = 0.4


class Fault(enum.StrEnum):
    """What is wrong with Nova."""

    CALM = 'calm'
    REFUSE = 'refuse'
    HANG = 'hang'
    RESET = 'reset'
    UNAVAILABLE = '503'
    SLOW = 'slow'
    DRIP = 'drip'
    NONSENSE = 'nonsense'


_ANSWERS = {
    Fault.UNAVAILABLE: (
        b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n'
    ),
    Fault.NONSENSE: (
        b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n'
        b'Content-Length: 6\r\n\r\n<html>'
    ),
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """Something that goes wrong, for a while."""

    fault: Fault
    seconds: float


def plan(seconds: float, patience: float, settling: float) -> list[Phase]:
    """What goes wrong in a run, and when: calm at its begin and at its end.

    :param seconds: what the phases take together
    :param patience: how long the guard waits for an answer
    :param settling: how much of a calm phase it takes until all is well
    """
    kinds = [fault for fault in Fault if fault is not Fault.CALM]
    calm = settling + 4
    bad = patience + 2
    rounds = int((seconds - calm) // (calm + bad))
    if rounds >= len(kinds):
        # As many as there is time for, each between two calms.
        faults = list(itertools.islice(itertools.cycle(kinds), rounds))
        calm = (seconds - rounds * bad) / (rounds + 1)
        phases = [Phase(Fault.CALM, calm)]
        for fault in faults:
            phases += [Phase(fault, bad), Phase(Fault.CALM, calm)]
        return phases
    # One right after the other, with enough of what has to be waited for.
    begin, end = 0.2 * seconds, settling + 0.2 * seconds
    hang = patience + 0.5
    bad = max(0.1, (seconds - begin - end - hang) / (len(kinds) - 1))
    return [
        Phase(Fault.CALM, begin),
        *(Phase(kind, hang if kind is Fault.HANG else bad) for kind in kinds),
        Phase(Fault.CALM, end),
    ]


class Proxy:
    """Stands between the guard and Nova while the context is open.

    :param port: Nova's
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name='faults', daemon=True
        )
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        self.fault = Fault.CALM
        self._since = time.monotonic()
        self.port = 0
        #: how many questions ran into each fault; connections, for REFUSE
        #: not, for nobody sees them
        self.met: collections.Counter[Fault] = collections.Counter()

    def __enter__(self) -> typing.Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._run(self._switch(Fault.REFUSE))
        self._run(_cancel_the_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    @property
    def url(self) -> str:
        """Nova's address, by this way."""
        return f'http://127.0.0.1:{self.port}/v2.1'

    def switch(self, fault: Fault) -> None:
        """Let that go wrong from now on, on open connections, too."""
        with self._lock:
            if fault is self.fault:
                return
            self.fault = fault
            self._since = time.monotonic()
        self._run(self._switch(fault))

    def calm_since(self) -> float | None:
        """Since when nothing goes wrong, by the monotonic clock."""
        with self._lock:
            return self._since if self.fault is Fault.CALM else None

    def _run(self, coroutine: typing.Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, '127.0.0.1', self.port
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _switch(self, fault: Fault) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if fault in (Fault.REFUSE, Fault.RESET):
            for writer in self._connections:
                _reset(writer)
        if fault is Fault.REFUSE:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
        elif self._listener is None:
            await self._listen()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(*_BROKEN):
                up_reader, up_writer = await asyncio.open_connection(
                    '127.0.0.1', self._target
                )
                back = asyncio.ensure_future(_pump(up_reader, writer))
                try:
                    while True:
                        question = await reader.readuntil(b'\r\n\r\n')
                        await self._meet(question, up_writer, writer)
                finally:
                    back.cancel()
                    up_writer.close()
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _meet(
        self,
        question: bytes,
        nova: asyncio.StreamWriter,
        guard: asyncio.StreamWriter,
    ) -> None:
        fault, changed = self.fault, self._changed
        self.met[fault] += 1
        if fault in _ANSWERS:
            guard.write(_ANSWERS[fault])
            await guard.drain()
        elif fault is Fault.RESET:
            _reset(guard)
        elif fault is Fault.HANG:
            await changed.wait()
            _reset(guard)
        elif fault is Fault.DRIP:
            guard.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n')
            while not changed.is_set():
                guard.write(b' ')
                await guard.drain()
                await asyncio.sleep(0.05)
            _reset(guard)
        else:
            if fault is Fault.SLOW:
                await asyncio.sleep(_SLOW)
            nova.write(question)
            await nova.drain()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(*_BROKEN):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _cancel_the_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info('socket')
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()


def follow(
    proxy: Proxy, phases: list[Phase], patience: float = 20.0
) -> Iterator[Phase]:
    """Let one thing after the other go wrong.

    A fault stays until a question has met it, however slow the machine: but
    REFUSE, of which nobody but the guard knows.

    :param patience: how many seconds more than its own that may take
    :returns: each phase as it begins; the next begins when asked for after
        its time
    """
    for phase in phases:
        met = proxy.met[phase.fault]
        end = time.monotonic() + phase.seconds
        proxy.switch(phase.fault)
        yield phase
        time.sleep(max(0.0, end - time.monotonic()))
        if phase.fault not in (Fault.CALM, Fault.REFUSE):
            while (
                proxy.met[phase.fault] == met
                and time.monotonic() < end + patience
            ):
                time.sleep(0.05)
