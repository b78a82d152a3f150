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

"""Questions to another service: few at a time, and none twice at once.

Each is asked by a thread of a pool, so that whoever waits can stop waiting,
whatever the thread is held up by.

Identical questions under way at once are one. Who comes while it is under way
shares the next one, with all others who came meanwhile: what it is told was
never asked before it came. So no answer is remembered, and none is older than
the request that it decides.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Hashable
import threading
from typing import Generic
from typing import TypeVar

from attachguard.nova import transport

Answer = TypeVar('Answer')


class Busy(Exception):
    """As many wait as may."""


class TimedOut(Exception):
    """No answer came in time."""


class _Question(transport.Call, Generic[Answer]):
    """A question, and how many wait for its answer."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        super().__init__()
        self._ask = ask
        # Held until there is an answer, then handed from one to the next.
        self._told = threading.Lock()
        self._told.acquire()
        self._answer: Answer
        self._raised: BaseException | None = None
        self.waiting = 0

    def ask(self) -> None:
        """Ask it, unless nobody wants to know any more."""
        try:
            with self:
                self._answer = self._ask()
        except BaseException as exc:
            self._raised = exc

    def tell(self) -> None:
        """Give the answer to those who wait."""
        self._told.release()

    def answer(self, wait: float) -> Answer:
        """The answer.

        :raises TimedOut: when it does not come in time
        """
        if not self._told.acquire(timeout=wait):
            raise TimedOut()
        self._told.release()
        if self._raised is not None:
            raise self._raised
        return self._answer


class _Worker(threading.Thread):
    """A thread that does one thing after the other, and sleeps in between.

    The executors of futurist and of the standard library hand a thing over by
    a queue and a future, each with a condition: that takes as long again as
    the rest of a question that is not the request itself. A daemon, so that a
    process that is told to stop waits for nobody who hangs.
    """

    def __init__(self) -> None:
        super().__init__(name='attachguard-question', daemon=True)
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thing: Callable[[], None] | None = None

    def do(self, thing: Callable[[], None]) -> None:
        """Let the thread do something, when it has done the thing before."""
        self._thing = thing
        self._bell.release()

    def run(self) -> None:
        """Do what there is to do, for ever."""
        while True:
            self._bell.acquire()
            thing, self._thing = self._thing, None
            assert thing is not None
            thing()
            # It knows who has asked, and with which token.
            del thing


class Questions(Generic[Answer]):
    """Asks questions for many threads.

    :param limit: so many may wait at a time
    """

    def __init__(self, limit: int) -> None:
        # As many as were ever needed at once, made when they are: after a
        # server's fork.
        self._idle: list[_Worker] = []
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        # For each that is under way, the one that comes after it.
        self._next: dict[Hashable, _Question[Answer] | None] = {}

    def ask(
        self, key: Hashable, ask: Callable[[], Answer], wait: float
    ) -> Answer:
        """Ask a question, or wait for one that is as good.

        :param key: what makes questions identical, and who asks
        :param ask: asks it, in another thread
        :param wait: seconds, at most
        :returns: what ``ask`` returned, asked after this was called
        :raises Busy: at once, when as many wait as may
        :raises TimedOut: when the answer does not come in time
        :raises Exception: what ``ask`` raised
        """
        if not self._free.acquire(blocking=False):
            raise Busy()
        is_first = False
        question: _Question[Answer] | None = None
        try:
            with self._lock:
                if key in self._next:
                    question = self._next[key]
                    if question is None:
                        question = self._next[key] = _Question(ask)
                else:
                    question = _Question(ask)
                    self._begin(key, question)
                    is_first = True
                question.waiting += 1
            return question.answer(wait)
        finally:
            self._leave(question)
            # The first one's place is its thread's, for as long as that runs:
            # one that still hangs is not free.
            if not is_first:
                self._free.release()

    def _leave(self, question: _Question[Answer] | None) -> None:
        if question is None:
            return
        with self._lock:
            question.waiting -= 1
            is_left_alone = question.waiting <= 0
        if is_left_alone:
            question.end()

    def _begin(self, key: Hashable, question: _Question[Answer]) -> None:
        if self._idle:
            worker = self._idle.pop()
        else:
            worker = _Worker()
            worker.start()
        self._next[key] = None
        worker.do(lambda: self._run(key, question, worker))

    def _run(
        self, key: Hashable, first: _Question[Answer], worker: _Worker
    ) -> None:
        asked = first
        while True:
            asked.ask()
            with self._lock:
                following = self._next.pop(key)
                if following is not None:
                    self._next[key] = None
                else:
                    self._idle.append(worker)
            if following is None:
                # Before anybody has the answer: who has it may ask again at
                # once, and must not find this place taken.
                self._free.release()
                asked.tell()
                return
            asked.tell()
            asked = following
