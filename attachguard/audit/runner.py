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


"""One audit, from what to look at to what counts."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import itertools
import time

from attachguard.audit import checks
from attachguard.audit import confirmation as states
from attachguard.audit import model
from attachguard.audit import recheck
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from attachguard.audit.repair import plan as plans
from attachguard.audit.report import content

#: So many findings, foreign attachments and unknown volumes are kept to be
#: listed; what is more is counted.
MAX_LISTED = 10_000


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is wanted of an audit; nothing is everything.

    :param volumes: ids of volumes
    :param servers: ids of servers: their volumes
    :param projects: ids of projects: their volumes
    :param classes: names of classes
    :param older_than: only what Cinder recorded that long ago, or longer
    """

    volumes: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    older_than: datetime.timedelta | None = None

    @property
    def few(self) -> bool:
        """Whether single volumes are looked at, and not the whole cloud."""
        return bool(self.volumes or self.servers)

    def project(self, project_id: str | None) -> bool:
        """Whether a volume of a project is wanted.

        :param project_id: None where it is not known
        """
        return not self.projects or project_id in self.projects

    def finding(self, finding: checks.Finding, now: datetime.datetime) -> bool:
        """Whether a finding is wanted.

        :param now: when it was found
        """
        if self.classes and finding.kind not in self.classes:
            return False
        if not self.project(finding.project_id):
            return False
        if self.older_than is None:
            return True
        since = model.moment(finding.since)
        return since is not None and now - since >= self.older_than


@dataclasses.dataclass
class Audited:
    """What an audit has found.

    :param counts: of everything
    :param entries: findings, as many as are kept
    :param foreign: attachments, likewise
    :param unknown: volumes, likewise
    :param busy: suspects of which nothing is said, because Cinder or Nova
        is doing something with them
    """

    busy: int = 0
    counts: content.Counts = dataclasses.field(default_factory=content.Counts)
    entries: list[content.Entry] = dataclasses.field(default_factory=list)
    foreign: list[content.Foreign] = dataclasses.field(default_factory=list)
    unknown: list[content.Unknown] = dataclasses.field(default_factory=list)

    def add(
        self, item: content.Entry | content.Foreign | content.Unknown
    ) -> None:
        """Count, and keep while there are not too many."""
        self.counts.add(item)
        if isinstance(item, content.Entry):
            if len(self.entries) < MAX_LISTED:
                self.entries.append(item)
        elif isinstance(item, content.Foreign):
            if len(self.foreign) < MAX_LISTED:
                self.foreign.append(item)
        elif len(self.unknown) < MAX_LISTED:
            self.unknown.append(item)


class Audit:
    """One audit.

    :param cloud: to ask
    :param inventory: of it, not read yet
    :param selection: what is wanted
    :param state: what earlier audits have seen; None to let everything count
        that is seen twice in this one
    :param min_age: how long ago a finding must have been seen first
    :param settle: without a state, how long to wait between the two looks
    :param sleep: for tests
    """

    def __init__(
        self,
        cloud: api.Cloud,
        inventory: inventories.Inventory,
        selection: Selection,
        state: states.StateFile | None,
        min_age: datetime.timedelta,
        settle: datetime.timedelta = datetime.timedelta(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cloud = cloud
        self._inventory = inventory
        self._selection = selection
        self._state = state
        self._min_age = min_age
        self._settle = settle
        self._sleep = sleep
        #: what was found until now, also where the audit comes to no end
        self.audited = Audited()

    def run(self) -> Audited:
        """Read, ask and judge.

        :raises attachguard.audit.collect.rest.CloudError: where the cloud
            cannot be audited
        :raises attachguard.audit.confirmation.StateError: where what was seen
            cannot be kept
        """
        audited = self.audited
        with contextlib.ExitStack() as stack:
            if self._state is not None:
                stack.enter_context(self._state.opened())
            found: Iterator[tuple[checks.Finding, model.Case]] = (
                (finding, case)
                for case in self._cases()
                for finding in self._judge(case)
            )
            if self._state is None:
                found = self._twice(found)
            for finding, case in found:
                audited.add(self._entry(finding, case))
            for foreign in self._inventory.nobodys(self._selection.project):
                audited.add(foreign)
            if self._state is not None:
                unknown = {item.volume_id for item in audited.unknown}
                complete = audited.counts.unknown == len(audited.unknown)
                self._state.save(
                    lambda volume_id, project_id, kind: (
                        not complete
                        or volume_id in unknown
                        or not self._covers(volume_id, project_id, kind)
                    )
                )
        return audited

    def _entry(
        self, finding: checks.Finding, case: model.Case
    ) -> content.Entry:
        now = model.now()
        state, seen = content.State.FOUND, states.Seen(now, 1)
        if self._state is not None:
            seen = self._state.see(finding, now)
            if not seen.is_confirmed(self._min_age, now):
                state = content.State.PENDING
        return content.Entry(
            finding,
            state,
            seen.first,
            seen.times,
            # Whether it is connected, the repair finds out.
            plans.make(finding, case, connected=False).command,
        )

    def _twice(
        self, found: Iterable[tuple[checks.Finding, model.Case]]
    ) -> Iterator[tuple[checks.Finding, model.Case]]:
        """Look at each finding again, once things have had time to settle.

        Without a memory, seen twice means twice now.
        """
        first = list(itertools.islice(found, MAX_LISTED))
        # What is more than can be listed counts as it is.
        rest = list(found)
        if first:
            self._sleep(self._settle.total_seconds())
        for volume_id, group in itertools.groupby(
            first, key=lambda item: item[0].volume_id
        ):
            again = self._look(volume_id)
            keys = {finding.key for finding in checks.find(again)}
            for finding, case in group:
                if finding.key in keys:
                    yield (
                        dataclasses.replace(
                            finding,
                            evidence=finding.evidence + again.evidence,
                        ),
                        case,
                    )
        yield from rest

    def _covers(
        self, volume_id: str, project_id: str | None, kind: str
    ) -> bool:
        """Whether this audit has looked for a finding."""
        selection = self._selection
        return (
            (not selection.few or volume_id in selection.volumes)
            and selection.project(project_id)
            and (not selection.classes or kind in selection.classes)
            and selection.older_than is None
        )

    def _cases(self) -> Iterator[model.Case]:
        selection = self._selection
        if not selection.few:
            self._inventory.read()
            yield from self._inventory.cases(
                lambda _volume_id, project_id: (
                    project_id is None or selection.project(project_id)
                )
            )
            return
        for volume_id in self._inventory.read_selected(
            selection.volumes, selection.servers
        ):
            yield self._look(volume_id)

    def _look(self, volume_id: str) -> model.Case:
        return recheck.read_case(
            self._cloud,
            volume_id,
            self._inventory.rules,
            self._inventory.holders(volume_id),
        )

    def _judge(self, case: model.Case) -> Iterator[checks.Finding]:
        if self._selection.projects and case.project_id is None:
            # Whose it was is not known.
            return
        rules = self._inventory.rules
        for attachment in case.foreign:
            # Those that name no server are in the inventory of all.
            if attachment.server_id is not None or self._selection.few:
                self.audited.add(
                    content.Foreign(
                        case.volume_id,
                        attachment,
                        rules.why(case, attachment) or '',
                    )
                )
        why = case.unknown or '; '.join(
            f'Nova, of server {server.id}: {server.why}'
            for server in case.servers.values()
            if server.presence is model.Presence.UNKNOWN
        )
        if why:
            self.audited.add(
                content.Unknown(case.volume_id, why, case.evidence)
            )
        now = model.now()
        found = [
            finding
            for finding in checks.find(case)
            if self._selection.finding(finding, now)
        ]
        if not found and _at_work(case):
            self.audited.busy += 1
        yield from found


def _at_work(case: model.Case) -> bool:
    """Whether nothing can be found because somebody is doing something."""
    return (case.volume is not None and case.volume.busy) or any(
        server.busy for server in case.servers.values()
    )
