# SPDX-License-Identifier: Apache-2.0

"""What an audit has found: the content of its reports.

The audit counts everything and keeps the first findings of a long list:
:class:`Counts` is complete, the lists of a :class:`Report` may not be.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime
import enum

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit import model


class State(enum.Enum):
    """Whether a finding is confirmed."""

    #: it is confirmed
    FOUND = 'found'
    #: one audit has found it; confirmed if the next one does, too
    PENDING = 'pending'


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finding with its history.

    :param state: whether it is confirmed
    :param first_seen: when an audit found it first
    :param seen: how many audits in a row have found it
    :param script: the shell commands that repair it, with comments
    """

    finding: classes.Finding
    state: State
    first_seen: datetime.datetime
    seen: int = 1
    script: str = ''


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A foreign attachment.

    :param volume_id: a UUID
    :param match: how it is recognised
    :param volume_name: where it is known
    """

    volume_id: str
    attachment: model.Attachment
    match: foreign.Match
    volume_name: str | None = None

    @property
    def why(self) -> str:
        """How it is recognised, as text."""
        return str(self.match)


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A volume whose consistency is not known.

    :param volume_id: a UUID
    :param why: why not
    :param evidence: the calls that failed
    :param volume_name: where it is known
    """

    volume_id: str
    why: str
    evidence: tuple[model.Evidence, ...] = ()
    volume_name: str | None = None


def _zeros() -> dict[str, int]:
    return dict.fromkeys(classes.CLASSES, 0)


@dataclasses.dataclass
class Counts:
    """How much there is of everything, listed or not.

    :param found: confirmed findings, for each class
    :param pending: other findings, for each class
    :param oldest: when an audit first found the oldest confirmed finding, for
        the classes that have one
    :param foreign: attachments, for each reason
    :param unknown: volumes
    """

    found: dict[str, int] = dataclasses.field(default_factory=_zeros)
    pending: dict[str, int] = dataclasses.field(default_factory=_zeros)
    oldest: dict[str, datetime.datetime] = dataclasses.field(
        default_factory=dict
    )
    foreign: dict[str, int] = dataclasses.field(
        default_factory=lambda: {item.value: 0 for item in foreign.Reason}
    )
    unknown: int = 0

    def add(self, item: Entry | Foreign | Unknown) -> None:
        """Count one more."""
        if isinstance(item, Unknown):
            self.unknown += 1
        elif isinstance(item, Foreign):
            self.foreign[item.match.reason.value] += 1
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
    :param counts: of everything that was found, listed or not
    :param entries: findings to list
    :param foreign: attachments to list
    :param unknown: volumes to list
    :param scope: to what the audit was restricted; empty if to nothing
    :param doubts: why the inventory looks wrong
    :param unchecked: what could not be checked, and why
    :param source: from where the inventory was read; empty if it was not
    :param error: why the audit failed; None where it did not. What a failed
        audit did not find may exist all the same
    :param projects: the names of projects of the findings, by id
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
    scope: str = ''
    doubts: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    source: str = ''
    error: str | None = None
    projects: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the audit was completed."""
        return self.error is None
