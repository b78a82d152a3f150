# SPDX-License-Identifier: Apache-2.0


"""The facts of an audit: the records of Cinder and Nova about a volume.

A :class:`Case` is everything that is known of one volume at one time, with the
calls that show it.  :mod:`attachguard.audit.collect` reads the facts, and
:mod:`attachguard.audit.classes` checks them.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import datetime
import enum
from typing import Any

from oslo_utils import timeutils

from attachguard.guard import cinder

# The statuses that attachments give a volume (cinder.db.api). When the last
# attachment is deleted, Cinder writes "available" over any other, too.
STATUSES_OF_ATTACHMENTS = frozenset(
    (
        'attaching',
        'available',
        'detaching',
        'error_attaching',
        'error_detaching',
        'in-use',
        'reserved',
    )
)

# Statuses of servers without a task that are being built, or wait for a
# confirmation. Every other busy one has a task (nova.api.openstack.common).
_BUSY_SERVER = frozenset({'BUILD', 'VERIFY_RESIZE'})


def moment(text: str | None) -> datetime.datetime | None:
    """Parse a time of the OpenStack APIs.

    :param text: ISO 8601, with or without a zone; UTC by default
    :returns: with a zone; None where it is not valid
    """
    try:
        return timeutils.parse_isotime(text or '')
    except ValueError:
        return None


def now() -> datetime.datetime:
    """The time, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


#: What has not changed for so long is stuck.
STUCK_AFTER = datetime.timedelta(hours=2)


#: Starts the call of an evidence that is a query of a database.
SQL = 'SQL: '


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A call that shows a fact.

    :param call: method and path, ``GET /servers/{id}``; or :data:`SQL`, and
        what is read from where
    :param status: the HTTP status; None without a response
    :param at: the time of the response, UTC, ISO 8601 to the second
    :param request_id: the service's ``x-openstack-request-id``
    :param result: what the response means
    """

    call: str
    status: int | None
    at: str
    request_id: str | None = None
    result: str = ''

    @property
    def response(self) -> str:
        """The HTTP status, for people; empty for a query of a database."""
        if self.status is not None:
            return f'HTTP {self.status}'
        return '' if self.call.startswith(SQL) else 'no response'

    def with_result(self, result: str) -> Evidence:
        """The same call, with another result."""
        return dataclasses.replace(self, result=result)

    def to_json(self) -> dict[str, Any]:
        """As it is written to a journal or a report."""
        values = dataclasses.asdict(self)
        values['said'] = values.pop('result')
        return values


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment in Cinder.

    :param id: a UUID
    :param server_id: ``instance_uuid``: of a server, or any other text; None
        where it is empty
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
    """A volume in Cinder.

    :param status: ``available``, ``in-use``, …
    :param attach_status: of the database; None where it is not known, because
        the API does not show it
    :param updated_at: when its record last changed, UTC, ISO 8601
    :param name: which a user chose; printable
    """

    id: str
    project_id: str
    status: str
    attach_status: str | None = None
    migration_status: str | None = None
    multiattach: bool = False
    updated_at: str | None = None
    name: str | None = None

    @property
    def busy(self) -> bool:
        """Whether Cinder is doing something else with it, or migrates it."""
        return (
            self.status in cinder.STATUSES_OF_WORK
            or self.migration_status not in cinder.NOT_MIGRATING
        )

    @property
    def has_own_status(self) -> bool:
        """Whether its status says something else than its attachments."""
        return self.status not in STATUSES_OF_ATTACHMENTS


@dataclasses.dataclass(frozen=True)
class Disk:
    """A volume of a server, by Nova.

    :param attachment_id: None for servers from before Queens
    :param in_cinder: whether Cinder has that attachment
    """

    volume_id: str
    attachment_id: str | None
    in_cinder: bool


class Presence(enum.Enum):
    """Whether a server has a volume, by Nova."""

    #: it has the volume
    HAS = 'has it'
    #: the server exists, and does not have the volume
    LACKS = 'lacks it'
    #: there is no such server
    GONE = 'gone'
    #: Nova's response does not show it
    UNKNOWN = 'unknown'


@dataclasses.dataclass(frozen=True)
class Server:
    """A server in Nova, with respect to one volume.

    :param presence: whether it has the volume
    :param attachment_id: by which of Cinder's attachments; None where that was
        not read, or Nova does not know it (servers from before Queens)
    :param task_state: what Nova is doing with it
    :param status: ``ACTIVE``, …
    :param updated: when Nova last changed its record, ISO 8601
    :param mappings: how often Nova has the volume on it
    :param host: its compute host
    :param device: the device of the volume on it; None where it is not known,
        as ``root_device``, its root disk
    :param disks: all its volumes; None where they were not read
    :param leftovers: how often Nova still has the volume on it, although it
        is deleted
    :param cell: of these, and its database, where it is known
    :param why: why the presence is not known
    :param name: which a user chose; printable
    """

    id: str
    presence: Presence
    attachment_id: str | None = None
    task_state: str | None = None
    status: str | None = None
    updated: str | None = None
    mappings: int = 1
    host: str | None = None
    device: str | None = None
    root_device: str | None = None
    disks: tuple[Disk, ...] | None = None
    leftovers: int = 0
    cell: str = ''
    why: str = ''
    name: str | None = None

    @property
    def may_boot_from_it(self) -> bool:
        """Whether the volume is its root disk, or may be."""
        return None in (self.device, self.root_device) or (
            self.device == self.root_device
        )

    @property
    def busy(self) -> bool:
        """Whether Nova is doing something with it: records may differ."""
        return is_busy(self.task_state, self.status)


@dataclasses.dataclass(frozen=True)
class Project:
    """Whether Keystone has a project.

    :param exists: None where that is not known
    :param why: why not, if Keystone was queried
    """

    exists: bool | None = None
    why: str = ''


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that is known of one volume.

    :param volume_id: a UUID
    :param volume: None where Cinder has no such volume
    :param attachments: Cinder's, without the foreign ones
    :param foreign: the foreign ones
    :param servers: by id: those that an attachment names, and those that have
        the volume
    :param evidence: the calls that show all that
    :param hosts: where Nova runs servers; None where that is not known
    :param at: when all that was read
    :param stuck_after: what has not changed for so long is stuck
    :param project: whether Keystone has the project of the volume
    :param unknown: why nothing can be concluded; empty where something can
    """

    volume_id: str
    volume: Volume | None
    attachments: tuple[Attachment, ...] = ()
    foreign: tuple[Attachment, ...] = ()
    servers: Mapping[str, Server] = dataclasses.field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    unknown: str = ''
    hosts: Collection[str] | None = None
    at: datetime.datetime = dataclasses.field(default_factory=now)
    stuck_after: datetime.timedelta = STUCK_AFTER
    project: Project = Project()

    @property
    def is_old(self) -> bool:
        """Whether the record of the volume has not changed for long."""
        return self.volume is not None and self.has_passed(
            self.volume.updated_at
        )

    def has_passed(self, since: str | None) -> bool:
        """Whether ``stuck_after`` has passed since a time.

        :param since: ISO 8601; it has not, where that is not known
        """
        when = moment(since)
        return when is not None and self.at - when >= self.stuck_after

    @property
    def project_id(self) -> str | None:
        """The project of the volume, where it is known."""
        return None if self.volume is None else self.volume.project_id

    @property
    def status(self) -> str | None:
        """The status of the volume, where it is known."""
        return None if self.volume is None else self.volume.status

    @property
    def all_attachments(self) -> tuple[Attachment, ...]:
        """Also the foreign ones."""
        return (*self.attachments, *self.foreign)

    @property
    def busy(self) -> bool:
        """Whether Cinder or Nova is doing something with the volume."""
        return (self.volume is not None and self.volume.busy) or any(
            server.busy for server in self.servers.values()
        )

    @property
    def unknown_servers(self) -> list[Server]:
        """The servers of which nothing is known."""
        return [
            server
            for server in self.servers.values()
            if server.presence is Presence.UNKNOWN
        ]

    def of(self, server_id: str) -> tuple[Attachment, ...]:
        """The attachments that name a server."""
        return tuple(a for a in self.attachments if a.server_id == server_id)


#: Statuses of servers whose volumes are rightly reserved.
SHELVED = frozenset(('SHELVED', 'SHELVED_OFFLOADED'))


def is_busy(task_state: str | None, status: str | None) -> bool:
    """Whether Nova is doing something with a server of these states."""
    return task_state is not None or status in _BUSY_SERVER


def stamp(when: datetime.datetime | None = None) -> str:
    """A time as text, ISO 8601 to the second, in UTC: ``…T03:04:05Z``.

    :param when: now by default
    """
    when = (when or now()).astimezone(datetime.timezone.utc)
    return f'{when:%Y-%m-%dT%H:%M:%SZ}'


def utc(text: str | None) -> str | None:
    """A time of the OpenStack APIs, as :func:`stamp` writes all times.

    :param text: as for :func:`moment`
    :returns: unchanged where it is not valid
    """
    when = moment(text)
    return text if when is None else stamp(when)
