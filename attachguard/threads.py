# SPDX-License-Identifier: Apache-2.0

"""Calls in other threads, with a limit on the wait for the whole of each.

The timeouts of sockets limit one connect and one read.  They do not limit the
lookup of a name, a response that arrives byte after byte, or a request for a
token on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
import threading
from typing import TypeVar

_Result = TypeVar('_Result')


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
