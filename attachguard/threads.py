# SPDX-License-Identifier: Apache-2.0

"""Calls in other threads, with a limit on the wait for the whole of each.

The timeouts of sockets limit one connect and one read.  They do not limit the
lookup of a name, a response that arrives byte after byte, or a request for a
token on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from concurrent import futures
import contextlib
import functools
import queue
import threading
from typing import TypeVar

_Result = TypeVar('_Result')
_Item = TypeVar('_Item')

# Items that are read before the last ones are used, and the seconds after
# which a thread notices that nobody wants its items any more.
_AHEAD = 2
_NOTICE = 0.5


class Late(Exception):
    """A call has not returned in time."""


def start(run: Callable[[], object]) -> None:
    """Run something in a thread that ends with the process.

    :raises RuntimeError: if there can be no more threads
    """
    threading.Thread(target=run, name='attachguard', daemon=True).start()


def submit(call: Callable[[], _Result]) -> futures.Future[_Result]:
    """Start a call in a thread that ends with the process.

    Not in an executor, which waits for its threads when the process exits.

    :returns: the future of its result
    :raises RuntimeError: if there can be no more threads
    """
    future: futures.Future[_Result] = futures.Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)

    start(run)
    return future


def wait(future: futures.Future[_Result], seconds: float) -> _Result:
    """Wait for the result of a call.

    :raises Late: if there is none in time; its thread goes on
    :raises Exception: that of the call
    """
    try:
        return future.result(max(0.0, seconds))
    except futures.TimeoutError:
        if not future.done():
            raise Late(f'no result within {seconds:g} s') from None
    # The call's own exception, or a result of just now.
    return future.result()


def together(
    *sources: Generator[_Item, None, None],
) -> Generator[_Item, None, None]:
    """Read several generators at the same time, each in a thread.

    :param sources: of items that are neither None nor exceptions
    :returns: the items of all, each when it comes; those of one in its order
    :raises Exception: that of a generator, of which the first ends all
    """
    items: queue.Queue[_Item | BaseException | None] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def put(item: _Item | BaseException | None) -> bool:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                items.put(item, timeout=_NOTICE)
                return True
        return False

    def read(source: Generator[_Item, None, None]) -> None:
        try:
            with contextlib.closing(source):
                for item in source:
                    if not put(item):
                        return
            put(None)
        except BaseException as exc:
            put(exc)

    try:
        for source in sources:
            start(functools.partial(read, source))
        unfinished = len(sources)
        while unfinished:
            found = items.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                unfinished -= 1
            else:
                yield found
    finally:
        ended.set()
