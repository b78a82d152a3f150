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

"""A circuit breaker: a service that does not answer is left alone for a while.

While Nova hangs, each request would wait for it in vain, and hold one of
Cinder's threads meanwhile.  So after some questions that came to nothing none
is asked for a few seconds, and then one, which shows whether it can be asked
again.

The breakers on PyPI were looked at and not taken: pybreaker 1.4 holds its lock
while the call is under way, so that there is one at a time; circuitbreaker 2.1
has none, so that a crowd tries again at once; and neither knows that one
question which waited in vain for its whole time says more than one which was
refused at once.
"""

from __future__ import annotations

from collections.abc import Callable
import threading
import time

from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Breaker:
    """Says whether a service may be asked, by what became of the last times.

    :param name: of the service, for the log
    :param failures: after so many in a row it opens; 0: never
    :param seconds: for so long nothing is asked then
    :param patience: seconds that a question may take, at most
    :param tell: called with whether it is open, each time that this changes
    :param clock: seconds, monotonic
    """

    def __init__(
        self,
        name: str,
        failures: int,
        seconds: float,
        patience: float,
        tell: Callable[[bool], None] = lambda is_open: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._most = failures
        self._seconds = seconds
        self._patience = patience
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._answered = clock()
        self._opened: float | None = None
        self._try_at = 0.0
        self._why = ''

    @property
    def open_for(self) -> float | None:
        """For how many seconds it has been open; None where it is not."""
        opened = self._opened
        return None if opened is None else self._clock() - opened

    @property
    def why(self) -> str:
        """What became of the last question that failed, for the operator."""
        return self._why

    def permits(self) -> bool:
        """Whether to ask now.

        While it is open, one is let through now and then; until that one has
        come back, or should have, there is no other.
        """
        if self._opened is None:
            return True
        with self._lock:
            now = self._clock()
            if self._opened is not None:
                if now < self._try_at:
                    return False
                self._try_at = now + self._patience
        return True

    def answered(self) -> None:
        """Note that the service has answered, whatever it said."""
        self._answered = self._clock()
        self._failures = 0
        if self._opened is None:
            return
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            LOG.warning(
                '%s answers again, after %.0f s: it is asked as before',
                self._name,
                self._answered - opened,
            )
            self._tell(False)

    def failed(self, asked: float, why: str) -> None:
        """Note that a question has come to nothing.

        :param asked: when it was asked, by the clock
        :param why: what became of it, without anything secret
        """
        if not self._most:
            return
        with self._lock:
            now = self._clock()
            self._why = why
            self._failures += 1
            # Nobody has heard of it for as long as anybody waits, give or take
            # what a request did before it asked.
            silent = (
                now - asked >= 0.9 * self._patience and self._answered <= asked
            )
            opens = self._opened is None and (
                silent or self._failures >= self._most
            )
            if opens:
                self._opened = now
            if self._opened is not None:
                self._try_at = now + self._seconds
        if opens:
            LOG.warning(
                '%s does not answer (%s): who needs it gets 503 at once, and '
                'every %g s one request tries whether it is back',
                self._name,
                why,
                self._seconds,
            )
            self._tell(True)
