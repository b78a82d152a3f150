# SPDX-License-Identifier: Apache-2.0


"""One audit: read a cloud, check the suspects, and confirm the findings."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import itertools
import time
from typing import Any

from attachguard.audit import classes
from attachguard.audit import confirmation
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import inventory
from attachguard.audit.collect import reader
from attachguard.audit.repair import advice
from attachguard.audit.repair import decide
from attachguard.audit.report import content

#: Findings, foreign attachments and unknown volumes that are kept, each. The
#: rest is counted.
MAX_LISTED = 10_000


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to audit; everything by default.

    :param volumes: ids of volumes
    :param servers: ids of servers: their volumes
    :param projects: ids of projects: their volumes
    :param kinds: names of classes
    :param older_than: only what Cinder recorded that long ago, or longer
    """

    volumes: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    older_than: datetime.timedelta | None = None

    def __str__(self) -> str:
        """What is selected, for people; empty if everything is."""
        parts = [
            f'{what} {value}'
            for what, values in (
                ('volume', self.volumes),
                ('server', self.servers),
                ('project', self.projects),
                ('class', self.kinds),
            )
            for value in sorted(values)
        ]
        if self.older_than is not None:
            parts.append(f'older than {self.older_than}')
        return ', '.join(parts)

    @property
    def few(self) -> bool:
        """Whether to check single volumes, and not the whole cloud."""
        return bool(self.volumes or self.servers)

    def project(self, project_id: str | None) -> bool:
        """Whether the volumes of a project are selected.

        :param project_id: None where it is not known
        """
        return not self.projects or project_id in self.projects

    def kind(self, kind: str) -> bool:
        """Whether a class is selected."""
        return not self.kinds or kind in self.kinds

    def finding(
        self, finding: classes.Finding, now: datetime.datetime
    ) -> bool:
        """Whether a finding is selected.

        :param now: when it was found
        """
        if not self.kind(finding.kind):
            return False
        if not self.project(finding.project_id):
            return False
        if self.older_than is None:
            return True
        since = model.moment(finding.since)
        return since is not None and now - since >= self.older_than

    def covers(
        self, volume_id: str, project_id: str | None, kind: str
    ) -> bool:
        """Whether an audit would find something again, if it still exists."""
        return (
            not self.few
            and self.project(project_id)
            and self.kind(kind)
            and self.older_than is None
        )


@dataclasses.dataclass
class Audited:
    """What an audit has found.

    :param busy: suspects that cannot be checked, because Cinder or Nova is
        doing something with them
    :param counts: of everything
    :param entries: findings, as many as are kept
    :param foreign: attachments, likewise
    :param unknown: volumes, likewise
    """

    busy: int = 0
    counts: content.Counts = dataclasses.field(default_factory=content.Counts)
    entries: list[content.Entry] = dataclasses.field(default_factory=list)
    foreign: list[content.Foreign] = dataclasses.field(default_factory=list)
    unknown: list[content.Unknown] = dataclasses.field(default_factory=list)

    def add(
        self, item: content.Entry | content.Foreign | content.Unknown
    ) -> None:
        """Count an item, and keep it unless there are too many."""
        self.counts.add(item)
        kept: list[Any] = self.unknown
        if isinstance(item, content.Entry):
            kept = self.entries
        elif isinstance(item, content.Foreign):
            kept = self.foreign
        if len(kept) < MAX_LISTED:
            kept.append(item)


class Audit:
    """One audit.

    :param cloud: to query
    :param read: its inventory, before it is read
    :param selection: what to audit
    :param state: what earlier audits have found; None to confirm a finding by
        a second check in this audit
    :param min_age: how long ago a finding must have been seen first
    :param settle: without a state, how long to wait between the two checks
    :param shell: how to write commands for a person
    :param wait: waits for some seconds, before a number of findings is
        checked a second time
    :param progress: called for each of those
    """

    def __init__(
        self,
        cloud: api.Cloud,
        read: inventory.Inventory,
        selection: Selection,
        state: confirmation.StateFile | None,
        min_age: datetime.timedelta,
        settle: datetime.timedelta = datetime.timedelta(),
        shell: advice.Shell = advice.PLAIN,
        wait: Callable[[float, int], None] = lambda seconds, _number: (
            time.sleep(seconds)
        ),
        progress: reader.Progress = lambda _what, _count: None,
    ) -> None:
        self._cloud = cloud
        self._inventory = read
        self._selection = selection
        self._state = state
        self._min_age = min_age
        self._settle = settle
        self._shell = shell
        self._wait = wait
        self._progress = progress
        #: what was found until now, also where the audit fails
        self.audited = Audited()

    def run(self) -> Audited:
        """Audit.

        :raises attachguard.audit.collect.rest.CloudError: where the cloud
            cannot be audited
        :raises attachguard.audit.confirmation.StateError: where the state
            file cannot be used
        """
        audited = self.audited
        with contextlib.ExitStack() as stack:
            if self._state is not None:
                stack.enter_context(self._state.opened())
            found: Iterator[tuple[classes.Finding, model.Case]] = (
                (finding, case)
                for case in self._cases()
                for finding in self._check(case)
            )
            if self._state is None:
                found = self._check_again(found)
            for finding, case in found:
                audited.add(self._entry(finding, case))
            for volume_id, name, item in self._inventory.cases.without_server(
                self._selection.project
            ):
                match = foreign.Match(foreign.Reason.NO_SERVER)
                audited.add(content.Foreign(volume_id, item, match, name))
            if self._state is not None:
                unknown = {item.volume_id for item in audited.unknown}
                complete = audited.counts.unknown == len(audited.unknown)
                self._state.save(
                    lambda volume_id, project_id, kind: (
                        not complete
                        or volume_id in unknown
                        or bool(self._inventory.unchecked)
                        and kind == 'no-project'
                        or not self._selection.covers(
                            volume_id, project_id, kind
                        )
                    )
                )
        return audited

    def _cases(self) -> Iterator[model.Case]:
        selection = self._selection
        if not selection.few:
            self._inventory.read(
                lambda project_id: (
                    selection.kind('no-project')
                    and selection.project(project_id)
                )
            )
            yield from self._inventory.cases.suspects(
                lambda project_id: (
                    project_id is None or selection.project(project_id)
                )
            )
            return
        for volume_id in self._inventory.read_selected(
            selection.volumes, selection.servers
        ):
            yield self._read(volume_id)

    def _read(self, volume_id: str) -> model.Case:
        return case_builder.read_case(
            self._cloud,
            volume_id,
            self._inventory.rules,
            self._inventory.cases.holders(volume_id),
            self._inventory.cases.leftovers(volume_id),
        )

    def _check(self, case: model.Case) -> Iterator[classes.Finding]:
        if self._selection.projects and case.project_id is None:
            return
        name = None if case.volume is None else case.volume.name
        for attachment in case.foreign:
            match = self._inventory.rules.match(case, attachment)
            # Those that name no server are added for the whole cloud.
            if match is not None and (
                attachment.server_id is not None or self._selection.few
            ):
                self.audited.add(
                    content.Foreign(case.volume_id, attachment, match, name)
                )
        why = case.unknown or '; '.join(
            f'Nova, of server {server.id}: {server.why}'
            for server in case.unknown_servers
        )
        if case.project.why and self._selection.kind('no-project'):
            why = why or f'Keystone, of its project: {case.project.why}'
        if why:
            self.audited.add(
                content.Unknown(case.volume_id, why, case.evidence, name)
            )
        now = model.now()
        found = [
            finding
            for finding in classes.find(case)
            if self._selection.finding(finding, now)
        ]
        if not found and case.busy:
            self.audited.busy += 1
        yield from found

    def _check_again(
        self, found: Iterable[tuple[classes.Finding, model.Case]]
    ) -> Iterator[tuple[classes.Finding, model.Case]]:
        """Check each finding a second time, after the time to settle."""
        first = list(found)
        # A project that was just created can be missing for a moment, too.
        self._cloud.forget_projects()
        if first:
            self._wait(self._settle.total_seconds(), len(first))
        for volume_id, group in itertools.groupby(
            first, key=lambda item: item[0].volume_id
        ):
            again = self._read(volume_id)
            self._progress('checked again', 1)
            keys = {finding.key for finding in classes.find(again)}
            for finding, _before in group:
                if finding.key in keys:
                    evidence = finding.evidence + again.evidence
                    yield (
                        dataclasses.replace(finding, evidence=evidence),
                        again,
                    )

    def _entry(
        self, finding: classes.Finding, case: model.Case
    ) -> content.Entry:
        now = model.now()
        state, seen = content.State.FOUND, confirmation.Seen(now, 1)
        if self._state is not None:
            seen = self._state.see(finding, now)
            if not seen.is_confirmed(self._min_age, now):
                state = content.State.PENDING
        script = advice.script(
            decide.plan_of(self._cloud, finding, case), case, self._shell
        )
        return content.Entry(finding, state, seen.first, seen.times, script)
