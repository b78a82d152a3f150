# SPDX-License-Identifier: Apache-2.0

"""The inventory of a cloud: what both sides list, and where they differ.

Both are read at the same time.  Nova confirms nearly all of Cinder's
attachments; the rest, and what changes meanwhile, are suspects
(:mod:`attachguard.audit.collect.comparison`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
import contextlib
import datetime

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import cases
from attachguard.audit.collect import comparison
from attachguard.audit.collect import reader


class Inventory(contextlib.AbstractContextManager['Inventory']):
    """The inventory of one audit; a context manager.

    :param cloud: to read
    :param patterns: of the operator, for what is foreign
    :param compute_hosts: in addition to those that Nova lists
    :param stuck_after: what has not changed for so long is stuck
    :param progress: called with what is read or done, and how much more of it
    :param lists: of its resources; None for those of the APIs
    """

    def __init__(
        self,
        cloud: api.Cloud,
        patterns: dict[str, list[str]] | None = None,
        compute_hosts: Iterable[str] = (),
        stuck_after: datetime.timedelta = model.STUCK_AFTER,
        progress: reader.Progress = lambda _what, _count: None,
        lists: reader.Lists | None = None,
    ) -> None:
        self._cloud = cloud
        self._lists = lists or cloud
        self._progress = progress
        hosts, self._down = cloud.compute_hosts()
        #: which attachments are foreign in this cloud
        self.rules = foreign.Rules(
            patterns or {}, hosts.union(compute_hosts), stuck_after
        )
        self._tables = reader.open_tables()
        self._reader = reader.Reader(
            cloud, self._lists, self._tables, progress
        )
        #: what was read of single volumes
        self.cases = cases.Cases(cloud, self._tables, self.rules, progress)
        self._agreement = comparison.Agreement()
        self._hidden = ''

    def __exit__(self, *_exc: object) -> None:
        self._tables.close()

    @property
    def source(self) -> str:
        """From where it is read."""
        return self._lists.source

    @property
    def totals(self) -> reader.Totals:
        """How much was read."""
        return self._reader.totals

    @property
    def doubts(self) -> list[str]:
        """Why the inventory looks wrong; empty where it does not."""
        found = (
            self._hidden,
            *self._down[:1],
            self._agreement.doubt(self.totals.servers),
        )
        return [doubt for doubt in found if doubt]

    @property
    def unchecked(self) -> list[str]:
        """What could not be checked, and why."""
        return self._reader.unchecked

    def check_cells(self) -> None:
        """Check whether a cell of Nova has gone down in the meantime.

        Nova waits a minute for each query that needs such a cell, so one that
        is known to be down is not checked again.

        :raises attachguard.audit.collect.rest.CloudError: where that fails
        """
        if not self._down:
            _hosts, self._down = self._cloud.compute_hosts()

    def read(
        self, check_project: Callable[[str], bool] = lambda _project: True
    ) -> None:
        """Read and compare both sides.

        :param check_project: whether to check if a project exists
        :raises attachguard.audit.collect.rest.CloudError: where a list cannot
            be read, or not of all projects
        """
        self._reader.read(check_project)
        self._progress('comparing', 0)
        self._agreement = comparison.compare(
            self._tables,
            self.rules.compute_hosts or (),
            self.rules.stuck_after,
        )
        self._check()

    def read_selected(
        self, volumes: Collection[str], servers: Collection[str]
    ) -> list[str]:
        """Read what is needed to check some volumes: all of Nova's servers.

        :param volumes: ids of volumes
        :param servers: ids of servers, for all their volumes
        :returns: the ids of the volumes
        :raises attachguard.audit.collect.rest.CloudError: as :meth:`read`
        """
        wanted = self._reader.read_selected(volumes, servers)
        sample = self._reader.sample
        self._agreement = comparison.Agreement(
            len(sample),
            sum(sample.values()),
            tuple(pair for pair, found in sample.items() if not found),
        )
        self._check()
        return wanted

    def _check(self) -> None:
        self.check_cells()
        self._agreement = comparison.check_again(self._cloud, self._agreement)
        self._hidden = comparison.visibility_doubt(
            self._cloud, self._reader.others
        )
