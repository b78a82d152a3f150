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

"""Questions to another service: few at a time, and none twice at once."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import functools
import threading
import time
from typing import Any
import weakref

import pytest

from attachguard.nova import questions
from attachguard.nova import transport

WAIT = 5.0


class Service:
    """Answers when it is told to, with a number that grows."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Semaphore(0)

    def __call__(self) -> int:
        self.asked += 1
        answer = self.asked
        assert self.go.acquire(timeout=WAIT)
        return answer


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        yield pool


Pool = concurrent.futures.ThreadPoolExecutor


def soon(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def joined(asked: questions.Questions[Any], number: int) -> None:
    """Wait until so many wait for the question after the one under way."""

    def are_there() -> bool:
        following = asked._next.get('a')
        return following is not None and following.waiting == number

    soon(are_there)


def test_the_answer_is_what_the_function_returns() -> None:
    asked: questions.Questions[int] = questions.Questions(1)
    assert [asked.ask('a', lambda: 7, WAIT) for _ in range(3)] == [7, 7, 7]


def test_what_it_raises_is_raised_to_all_who_wait(
    service: Service, pool: Pool
) -> None:
    def fails() -> int:
        service()
        raise LookupError('not there')

    asked: questions.Questions[int] = questions.Questions(4)
    waiting = [pool.submit(asked.ask, 'a', fails, WAIT) for _ in range(4)]
    joined(asked, 3)
    service.go.release(2)
    for each in waiting:
        with pytest.raises(LookupError, match='not there'):
            each.result(WAIT)


def test_who_comes_while_one_is_under_way_shares_the_next(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(9)
    first = pool.submit(asked.ask, 'a', service, WAIT)
    soon(lambda: service.asked == 1)
    others = [pool.submit(asked.ask, 'a', service, WAIT) for _ in range(8)]
    joined(asked, 8)
    # Not before the first is answered: two at once would be one too many.
    assert service.asked == 1
    service.go.release()
    assert first.result(WAIT) == 1
    service.go.release()
    # Nobody is told what was asked before he came.
    assert [each.result(WAIT) for each in others] == [2] * 8
    assert service.asked == 2


def test_an_answer_is_not_remembered(service: Service) -> None:
    asked: questions.Questions[int] = questions.Questions(1)
    service.go.release(2)
    assert asked.ask('a', service, WAIT) == 1
    assert asked.ask('a', service, WAIT) == 2
    assert asked._next == {}


def test_who_has_an_answer_finds_a_place_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: questions.Questions[int] = questions.Questions(1)
    free: list[int] = []
    tell = questions._Question.tell

    def telling(question: questions._Question[Any]) -> None:
        free.append(asked._free._value)
        tell(question)

    monkeypatch.setattr(questions._Question, 'tell', telling)
    assert asked.ask('a', lambda: 7, WAIT) == 7
    assert free == [1]


def test_other_questions_are_asked_beside_it(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(2)
    first = pool.submit(asked.ask, 'a', service, WAIT)
    soon(lambda: service.asked == 1)
    assert asked.ask('b', lambda: 7, WAIT) == 7
    service.go.release()
    assert first.result(WAIT) == 1


def test_who_waits_counts_whatever_the_question(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(3)
    waiting = [pool.submit(asked.ask, 'a', service, WAIT) for _ in range(3)]
    joined(asked, 2)
    for key in ('a', 'b'):
        with pytest.raises(questions.Busy):
            asked.ask(key, service, WAIT)
    service.go.release(2)
    for each in waiting:
        each.result(WAIT)
    soon(lambda: asked._free._value == 3)


def test_nobody_waits_longer_than_asked_to(service: Service) -> None:
    asked: questions.Questions[int] = questions.Questions(1)
    start = time.monotonic()
    with pytest.raises(questions.TimedOut):
        asked.ask('a', service, 0.1)
    assert time.monotonic() - start < 2
    # What still hangs is not free.
    with pytest.raises(questions.Busy):
        asked.ask('b', service, 0.1)
    service.go.release()
    soon(lambda: asked._free._value == 1)


def test_who_gives_up_takes_nothing_from_others(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(4)
    impatient = pool.submit(asked.ask, 'a', service, 0.5)
    soon(lambda: service.asked == 1)
    patient = pool.submit(asked.ask, 'a', service, WAIT)
    joined(asked, 1)
    with pytest.raises(questions.TimedOut):
        impatient.result(WAIT)
    service.go.release(2)
    assert patient.result(WAIT) == 2


def test_what_nobody_waits_for_is_not_asked(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(4)
    first = pool.submit(asked.ask, 'a', service, WAIT)
    soon(lambda: service.asked == 1)
    with pytest.raises(questions.TimedOut):
        asked.ask('a', service, 0.1)
    service.go.release(2)
    assert first.result(WAIT) == 1
    soon(lambda: asked._free._value == 4)
    assert service.asked == 1


def test_who_has_left_ends_the_call(pool: Pool) -> None:
    ended = threading.Event()

    def hangs() -> None:
        soon(transport.is_over)
        ended.set()

    asked: questions.Questions[None] = questions.Questions(1)
    with pytest.raises(questions.TimedOut):
        asked.ask('a', hangs, 0.1)
    assert ended.wait(WAIT)


def test_a_thread_that_cannot_be_had_takes_no_place(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: questions.Questions[int] = questions.Questions(1)

    def start(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', start)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                asked.ask('a', service, WAIT)
    assert asked.ask('a', lambda: 7, WAIT) == 7


def test_no_more_threads_than_were_ever_needed_at_once(
    service: Service, pool: Pool
) -> None:
    asked: questions.Questions[int] = questions.Questions(16)
    for _ in range(50):
        asked.ask('a', lambda: 7, WAIT)
    assert len(asked._idle) == 1
    waiting = [pool.submit(asked.ask, key, service, WAIT) for key in range(5)]
    soon(lambda: service.asked == 5)
    assert asked._idle == []
    service.go.release(5)
    for each in waiting:
        each.result(WAIT)
    assert len(asked._idle) == 5
    # One that is idle is called again, though it may still be on its way.
    for _ in range(500):
        asked.ask('a', lambda: 7, WAIT)
    assert len(asked._idle) == 5


def test_a_thread_that_sleeps_knows_nothing_of_who_has_asked() -> None:
    class Token:
        """Something that can be looked for."""

    def ask(token: Token) -> weakref.ref[Token]:
        asked.ask('a', functools.partial(len, (token,)), WAIT)
        return weakref.ref(token)

    asked: questions.Questions[int] = questions.Questions(1)
    found = ask(Token())
    soon(lambda: found() is None)
