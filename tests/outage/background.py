# SPDX-License-Identifier: Apache-2.0
"""Calls that are repeated in the background of a test."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import random
import threading


@contextlib.contextmanager
def repeating(
    call: Callable[[], object], pause: float, threads: int = 1
) -> Iterator[None]:
    """Call a function again and again while the context is open.

    :param pause: seconds between two calls of a thread; it varies by a fifth,
        and the first calls are spread over this time
    :param threads: number of threads
    """
    over = threading.Event()

    def run() -> None:
        over.wait(random.uniform(0, pause))
        while not over.is_set():
            call()
            over.wait(pause * random.uniform(0.8, 1.2))

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in running:
            thread.join()
