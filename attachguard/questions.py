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
import concurrent.futures
import functools
import threading
from typing import Generic, TypeVar

import futurist

from attachguard import transport

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
        self._answer: concurrent.futures.Future[Answer] = (
            concurrent.futures.Future()
        )
        self.waiting = 0

    def ask(self) -> Callable[[], None]:
        """Ask it, unless nobody wants to know any more.

        :returns: what gives the answer to those who wait
        """
        try:
            with self:
                answer = self._ask()
        except BaseException as exc:
            return functools.partial(self._answer.set_exception, exc)
        return functools.partial(self._answer.set_result, answer)

    def answer(self, wait: float) -> Answer:
        """The answer.

        :raises TimedOut: when it does not come in time
        """
        try:
            return self._answer.result(timeout=wait)
        except concurrent.futures.TimeoutError:
            raise TimedOut() from None


class Questions(Generic[Answer]):
    """Asks questions for many threads.

    :param limit: so many may wait at a time
    """

    def __init__(self, limit: int) -> None:
        # It makes its threads when first needed: after a server's fork.
        self._executor = futurist.ThreadPoolExecutor(max_workers=limit)
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
                    self._executor.submit(self._run, key, question)
                    self._next[key] = None
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

    def _run(self, key: Hashable, first: _Question[Answer]) -> None:
        question: _Question[Answer] | None = first
        while question is not None:
            give = question.ask()
            with self._lock:
                question = self._next.pop(key)
                if question is not None:
                    self._next[key] = None
            if question is None:
                # Before anybody has the answer: who has it may ask again at
                # once, and must not find this place taken.
                self._free.release()
            give()
