# SPDX-License-Identifier: Apache-2.0

"""Faults and delays that a test adds to a stub service."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re
import threading
import typing

import webob

Body = typing.Union[bytes, str, Mapping[str, typing.Any]]


@dataclasses.dataclass(eq=False)
class Fault:
    """An error or a delay for the requests that it matches.

    :param status: HTTP status code of the response; ``None`` delays the
        request and then processes it normally
    :param times: number of requests to affect; ``None`` for all
    :param path: regular expression, searched in path and query string
    :param method: only requests with this method; ``None`` for all
    :param delay: seconds to wait before the response
    :param body: response body; by default an error in the service's format
    :param headers: additional response headers. A ``Content-Length`` larger
        than the body makes the server break the connection.

    ``hits`` is the number of requests affected so far.
    """

    status: int | None = 500
    times: int | None = 1
    path: str = ''
    method: str | None = None
    delay: float = 0
    body: Body | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hits: int = 0

    def matches(self, request: webob.Request) -> bool:
        """Return whether the fault applies to a request."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, request.method)
            and re.search(self.path, request.path_qs) is not None
        )


class Faults:
    """The faults of a stub service."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()

    def add(
        self,
        status: int | None = 500,
        times: int | None = 1,
        path: str = '',
        *,
        method: str | None = None,
        delay: float = 0,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Add a fault; the parameters are those of :class:`Fault`.

        :returns: the fault, with the number of its ``hits``
        """
        fault = Fault(
            status, times, path, method, delay, body, dict(headers or {})
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults and end the running delays."""
        with self._lock:
            self._faults.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def apply(self, request: webob.Request) -> Fault | None:
        """Find the first fault that matches, and wait for its delay.

        :param request: the request
        :returns: the fault; ``None`` if no fault matches
        """
        with self._lock:
            fault = next((f for f in self._faults if f.matches(request)), None)
            if fault is None:
                return None
            fault.hits += 1
            released = self._released
        if fault.delay:
            released.wait(fault.delay)
        return fault
