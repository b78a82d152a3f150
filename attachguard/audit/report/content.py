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

"""What an audit has found, as a value: what every report is written from.

The audit's command fills it, with :class:`Counts` as it goes along, so that
what is not kept to be listed is counted all the same.
:mod:`attachguard.audit.report.html` and
    :mod:`attachguard.audit.report.prometheus` write it down.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import datetime
import enum
from typing import Any

from attachguard.audit import checks
from attachguard.audit import model

#: Why attachments are foreign, in a word: what is before the colon of what
#: :meth:`attachguard.audit.foreign.Rules.why` says.
WHYS = ('no-server', 'no-uuid', 'ironic', 'other-host', 'pattern')


class State(enum.Enum):
    """Whether a finding counts."""

    #: it counts
    FOUND = 'found'
    #: seen for the first time; counts if the next audit finds it, too
    PENDING = 'pending'


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finding, as one audit of several.

    :param state: whether it counts
    :param first_seen: when an audit found it first
    :param seen: how many audits in a row have found it
    :param command: what to do about it, to be typed into a shell; empty where
        there is no such command
    """

    finding: checks.Finding
    state: State
    first_seen: datetime.datetime
    seen: int = 1
    command: str = ''

    def to_json(self) -> dict[str, Any]:
        """The finding, and the rest beside it."""
        return {
            **self.finding.to_json(),
            'state': self.state.value,
            'first_seen': model.stamp(self.first_seen),
            'seen': self.seen,
            'command': self.command,
        }


@dataclasses.dataclass(frozen=True)
class Foreign:
    """An attachment that is none of Nova's.

    :param volume_id: a UUID
    :param why: how that is known; see
        :meth:`attachguard.audit.foreign.Rules.why`
    """

    volume_id: str
    attachment: model.Attachment
    why: str

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal or a report."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A volume of which nothing can be said.

    :param volume_id: a UUID
    :param why: why not
    :param evidence: the calls that did not help
    """

    volume_id: str
    why: str
    evidence: tuple[model.Evidence, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal or a report."""
        return {
            **dataclasses.asdict(self),
            'evidence': [item.to_json() for item in self.evidence],
        }


def _none_of_any_class() -> dict[str, int]:
    return dict.fromkeys(checks.CLASSES, 0)


@dataclasses.dataclass
class Counts:
    """How much there is of everything, be it listed or not.

    :param found: findings that count, by class; every class is there
    :param pending: the others, likewise
    :param oldest: by class, when an audit first saw the oldest finding that
        counts; only classes that have one
    :param foreign: attachments, by why they are foreign, in a word
    :param unknown: volumes
    """

    found: dict[str, int] = dataclasses.field(
        default_factory=_none_of_any_class
    )
    pending: dict[str, int] = dataclasses.field(
        default_factory=_none_of_any_class
    )
    oldest: dict[str, datetime.datetime] = dataclasses.field(
        default_factory=dict
    )
    foreign: dict[str, int] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(WHYS, 0)
    )
    unknown: int = 0

    @classmethod
    def of(cls, items: Iterable[Entry | Foreign | Unknown]) -> Counts:
        """Count what is there."""
        counts = cls()
        for item in items:
            counts.add(item)
        return counts

    def add(self, item: Entry | Foreign | Unknown) -> None:
        """Count one more."""
        if isinstance(item, Unknown):
            self.unknown += 1
        elif isinstance(item, Foreign):
            why = item.why.partition(':')[0]
            self.foreign[why] = self.foreign.get(why, 0) + 1
        elif item.state is State.PENDING:
            self.pending[item.finding.kind] += 1
        else:
            kind = item.finding.kind
            self.found[kind] += 1
            self.oldest[kind] = min(
                item.first_seen, self.oldest.get(kind, item.first_seen)
            )


@dataclasses.dataclass(frozen=True)
class Report:
    """One audit.

    :param cloud: its name in clouds.yaml
    :param region: None where it has no name
    :param started: with a time zone, as is ``finished``
    :param volumes: how many were read, as ``attachments`` and ``servers``
    :param counts: of everything that was found, listed below or not
    :param entries: findings to list
    :param foreign: attachments to list
    :param unknown: volumes to list
    :param error: why the audit came to no end; None where it did. Nothing may
        be concluded from what it did not find by then
    """

    cloud: str
    region: str | None
    started: datetime.datetime
    finished: datetime.datetime
    volumes: int
    attachments: int
    servers: int
    counts: Counts
    entries: tuple[Entry, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    error: str | None = None

    @property
    def success(self) -> bool:
        """Whether the audit came to its end."""
        return self.error is None
