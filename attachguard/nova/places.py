# SPDX-License-Identifier: Apache-2.0
"""Places for queries: a bounded number, shared fairly between projects.

A request that finds no place gets a response at once.  So callers of one
project cannot make those of another wait, or be refused.
"""

from __future__ import annotations

import collections
import threading


class Places:
    """A number of places, of which a project holds at most half.

    :param limit: how many there are
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: how many a project may hold
        self.share = max(1, limit // 2)
        self._lock = threading.Lock()
        self._held: collections.Counter[str | None] = collections.Counter()

    def acquire(self, project_id: str | None) -> bool:
        """Take a place, if there is one for this project.

        :param project_id: the project of the caller
        """
        with self._lock:
            if (
                sum(self._held.values()) >= self.limit
                or self._held[project_id] >= self.share
            ):
                return False
            self._held[project_id] += 1
            return True

    def release(self, project_id: str | None) -> None:
        """Give a place back.

        :param project_id: as for :meth:`acquire`
        """
        with self._lock:
            self._held[project_id] -= 1
            if not self._held[project_id]:
                # Only projects that hold a place take memory.
                del self._held[project_id]
