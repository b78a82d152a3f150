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


"""The facts of an audit: what Cinder says of a volume, and what Nova says.

A :class:`Case` is everything that is known of one volume at one time, each
fact with the call that it comes from.  Nothing here asks anybody:
:mod:`attachguard.audit.collect.inventory` does, and
:mod:`attachguard.audit.checks` judges.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime
import enum
from typing import Any

# What a volume's migration_status may be when nothing migrates it
# (cinder.objects.volume.Volume, api-ref "os-migrate_volume").
_NOT_MIGRATING = (None, 'none', 'success', 'error')

# Statuses in which Cinder or its users do something else with a volume
# (cinder.objects.fields.VolumeStatus).
_OCCUPIED = frozenset(
    (
        'backing-up',
        'creating',
        'deleting',
        'downloading',
        'extending',
        'maintenance',
        'managing',
        'restoring-backup',
        'retyping',
        'uploading',
    )
)

# Nova's statuses of servers that it is doing something with, or waits for a
# word about (nova.api.openstack.common).
_SERVER_MOVES = frozenset(
    (
        'BUILD',
        'HARD_REBOOT',
        'MIGRATING',
        'PASSWORD',
        'REBOOT',
        'REBUILD',
        'RESIZE',
        'REVERT_RESIZE',
        'VERIFY_RESIZE',
    )
)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One call that was made to find something out.

    :param call: method and path, ``GET /servers/{id}``
    :param status: the HTTP status; None where no answer came
    :param at: when the answer was there, UTC, ISO 8601 to the second
    :param request_id: the service's ``x-openstack-request-id``
    :param result: what the response means, in a few words
    """

    call: str
    status: int | None
    at: str
    request_id: str | None = None
    result: str = ''

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal or a report."""
        values = dataclasses.asdict(self)
        values['said'] = values.pop('result')
        return values


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment as Cinder has it.

    :param id: a UUID
    :param server_id: ``instance_uuid``: a server's, or whatever else calls
        itself so; None where there is none
    :param status: ``attach_status``: attached, attaching, detaching, reserved,
        error_attaching, error_detaching
    :param host: ``attached_host``; None also where it is not known
    :param device: ``mountpoint``
    :param attached_at: UTC, ISO 8601
    """

    id: str
    server_id: str | None
    status: str
    host: str | None = None
    device: str | None = None
    attached_at: str | None = None


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume as Cinder has it.

    :param status: ``available``, ``in-use``, …
    :param attach_status: as in the database; None where it is not known (the
        API shows it to nobody, but for a filter)
    :param updated_at: when its record last changed, UTC, ISO 8601
    """

    id: str
    project_id: str
    status: str
    attach_status: str | None = None
    migration_status: str | None = None
    multiattach: bool = False
    updated_at: str | None = None

    @property
    def busy(self) -> bool:
        """Whether Cinder is doing something else with it."""
        return (
            self.status in _OCCUPIED
            or self.migration_status not in _NOT_MIGRATING
        )

    @property
    def changed(self) -> datetime.datetime | None:
        """When its record last changed."""
        return moment(self.updated_at)


class Presence(enum.Enum):
    """What Nova says of a server and a volume."""

    #: it has the volume
    HAS = 'has it'
    #: the server exists, and does not have the volume
    LACKS = 'lacks it'
    #: there is no such server
    GONE = 'gone'
    #: Nova did not say
    UNKNOWN = 'unknown'


@dataclasses.dataclass(frozen=True)
class Server:
    """What Nova says of one server with respect to one volume.

    :param presence: whether it has the volume
    :param attachment_id: by which of Cinder's attachments; None where Nova was
        not asked, or does not know (servers from before the Queens release)
    :param task_state: what Nova is doing with it
    :param status: ``ACTIVE``, …
    :param host: where it runs, for administrators
    :param why: where it is not known: why
    """

    id: str
    presence: Presence
    attachment_id: str | None = None
    task_state: str | None = None
    status: str | None = None
    host: str | None = None
    why: str = ''

    @property
    def busy(self) -> bool:
        """Whether Nova is doing something with it, so that records differ."""
        return is_busy(self.task_state, self.status)


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that is known of one volume.

    :param volume_id: a UUID
    :param volume: None where Cinder has no such volume
    :param attachments: Cinder's, of this volume
    :param foreign: those that are none of Nova's, set apart
    :param servers: by id: each that an attachment names, and each that Nova
        says has the volume
    :param evidence: where all of that comes from
    :param unknown: why nothing can be said; empty where something can
    """

    volume_id: str
    volume: Volume | None
    attachments: tuple[Attachment, ...] = ()
    foreign: tuple[Attachment, ...] = ()
    servers: Mapping[str, Server] = dataclasses.field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    unknown: str = ''

    @property
    def project_id(self) -> str | None:
        """Whose volume it is, where that is known."""
        return None if self.volume is None else self.volume.project_id

    def of(self, server_id: str) -> tuple[Attachment, ...]:
        """The attachments that name a server."""
        return tuple(a for a in self.attachments if a.server_id == server_id)


def is_busy(task_state: str | None, status: str | None) -> bool:
    """Whether Nova is doing something with a server.

    :param task_state: what it is doing
    :param status: of the server
    """
    return task_state is not None or status in _SERVER_MOVES


def moment(text: str | None) -> datetime.datetime | None:
    """Read a time of the OpenStack APIs.

    :param text: ISO 8601, with or without a zone; UTC is meant
    :returns: with a zone; None where it is none
    """
    try:
        read = datetime.datetime.fromisoformat(text or '')
    except ValueError:
        return None
    return read.replace(tzinfo=read.tzinfo or datetime.UTC)


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.UTC)


def stamp(when: datetime.datetime | None = None) -> str:
    """A time as evidence has it.

    :param when: by default, now
    :returns: ISO 8601 to the second, in UTC
    """
    when = when or now()
    return when.astimezone(datetime.UTC).isoformat(timespec='seconds')
