# SPDX-License-Identifier: Apache-2.0
"""Facts about a request: what Cinder and Nova have of its volume and servers.

Each fact is looked up when a rule reads it, and once.  A look-up changes
nothing: what it finds is a value of its own, and the decision
(:mod:`attachguard.guard.decision`) derives the reason from these values.

"Nova responds with 404" is not "Nova does not have the volume".  The server
can belong to a project that the queries do not see, or Nova can be about to
save it.  So a 404 is :exc:`Unsettled` or :exc:`Unseen`, unless the attachment
is old, and either the queries see every project or the attachment was never
connected to a host.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import enum
import time
from typing import Any
from typing import Protocol
from typing import TypeVar

from keystoneauth1 import plugin

from attachguard.guard import cinder
from attachguard.guard import identity
from attachguard.guard import operations
from attachguard.guard import request as request_parser
from attachguard.nova import client as nova_client

_T = TypeVar('_T')

# A volume can have many attachments (multiattach), and each of their servers
# costs a query: a request about more servers than this is refused.
MAX_SERVERS = 16

# The statuses in which Nova may not have saved its side of an attachment.
_BEING_ATTACHED = frozenset(('reserved', 'attaching'))


class CinderReader(Protocol):
    """Reads of Cinder's API; see :class:`attachguard.guard.cinder.Cinder`."""

    def check_volume(self, volume_id: str) -> Mapping[str, str]:
        """Check that Cinder shows a volume to the caller."""

    def check_attachment(self, attachment_id: str) -> Mapping[str, str]:
        """Check that Cinder shows an attachment to the caller."""

    def check_group(self, groups: str, group_id: str) -> Mapping[str, str]:
        """Check that Cinder shows a group to the caller."""

    def volume(self, volume_id: str) -> cinder.Volume:
        """Read a volume, whoever it belongs to."""

    def group_volumes(self, group_id: str) -> Iterable[cinder.Volume]:
        """Read all volumes of a group."""

    def has_backup_in_progress(self, volume_id: str) -> bool:
        """Whether Cinder makes a backup of a volume."""

    def attachment(self, attachment_id: str) -> cinder.Attachment:
        """Read an attachment, whoever it belongs to."""

    def attachments(self, volume_id: str) -> Iterable[cinder.Attachment]:
        """Read all attachments of a volume."""

    def own_attachment(self, attachment_id: str) -> cinder.Attachment | None:
        """Read an attachment of a volume of the caller's own project."""

    def own_attachments(self, volume_id: str) -> Iterable[cinder.Attachment]:
        """Read all attachments of a volume of the caller's own project."""

    def api_headers(self) -> Mapping[str, str] | None:
        """Headers of any response of Cinder to the caller, where known."""


class NovaQueries(Protocol):
    """Queries to Nova for one request.

    See :class:`attachguard.nova.client.Queries`.
    """

    @property
    def count(self) -> int:
        """How many queries were made."""

    @property
    def seconds(self) -> float:
        """The duration of all queries."""

    @property
    def deadline(self) -> float:
        """When the time of the request ends."""

    def start(self, server_id: str) -> None:
        """Start the query for a server."""

    def server(self, server_id: str) -> nova_client.Server | None:
        """Look a server up."""

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The id of the attachment by which a server has a volume."""

    def sees_every_project(self) -> bool:
        """Whether the queries see the servers of every project."""


class Nova(Protocol):
    """Nova; see :class:`attachguard.nova.client.Nova`."""

    @property
    def visibility(self) -> nova_client.Visibility:
        """Which servers the queries see."""

    def queries(
        self, auth: plugin.BaseAuthPlugin | None, project_id: str | None
    ) -> NovaQueries:
        """The queries for one request."""


class Presence(enum.Enum):
    """Whether Nova has a volume on a server."""

    HAS = 'has'
    #: it has the volume by another attachment, which Cinder has, too
    HAS_BY_OTHER = 'has by another attachment'
    #: it does not have it now, and builds the server or performs a task on it
    BUSY = 'busy'
    LACKS = 'lacks'
    #: there is no such server
    GONE = 'gone'


#: Nova has the volume, or may have it in a moment.
USED = frozenset((Presence.HAS, Presence.BUSY))


class TooManyServers(Exception):
    """The request is about more servers than :data:`MAX_SERVERS`."""


class Malformed(Exception):
    """A request that Cinder cannot perform."""


class Unsettled(Exception):
    """An attachment is so young that Nova may not have saved its side."""


class Unseen(Exception):
    """Nova does not show the server, and may still have it."""


class Facts:
    """The facts about one request.

    A look-up raises :exc:`attachguard.guard.cinder.Unknown` and
    :exc:`attachguard.nova.client.Unknown` if the service does not say,
    :exc:`attachguard.guard.cinder.NotShown` if Cinder does not show the volume
    to the caller, who then must not make the guard query Nova,
    :exc:`Unsettled` and :exc:`Unseen` as above, :exc:`TooManyServers` if there
    are too many to query, and :exc:`Malformed` if the request names nothing
    that can be looked up.

    :param request: the request
    :param caller: who sent it
    :param cinder_: reads of Cinder's API for this request
    :param nova: queries to Nova for this request
    :param settle: for how many seconds an attachment is young
    """

    def __init__(
        self,
        request: request_parser.Request,
        caller: identity.Caller,
        cinder_: CinderReader,
        nova: NovaQueries,
        settle: float,
    ) -> None:
        self.request = request
        self._caller = caller
        self._cinder = cinder_
        self._nova = nova
        self._settle = settle
        self._found: dict[Any, Any] = {}

    def _once(self, name: Any, look_up: Callable[[], _T]) -> _T:
        # Not functools.cached_property: until Python 3.12 it holds a lock for
        # all objects of the class, so that only one request could query Nova.
        if name not in self._found:
            self._found[name] = look_up()
        value: _T = self._found[name]
        return value

    @property
    def known(self) -> Known:
        """What has been looked up so far."""
        found = self._found
        presences = [
            value for value in found.values() if isinstance(value, Presence)
        ]
        used = [value for value in presences if value in USED]
        return Known(
            volume=found.get('volume'),
            attachment=found.get('attachment'),
            attachments=found.get('attachments'),
            presence=next(iter(used or presences[-1:]), None),
            checks=tuple(
                (key[1], found[key]) for key in found if key[0] == 'check'
            ),
            headers=found.get('headers', {}),
        )

    def check(self, name: str, evaluate: Callable[[Facts], bool]) -> bool:
        """The result of a check that a rule names.

        :param name: of :data:`attachguard.guard.checks.CHECKS`
        :param evaluate: the check
        """
        return self._once(('check', name), lambda: evaluate(self))

    def check_visible(self) -> None:
        """Check that Cinder shows the volume or attachment to the caller.

        Where the rule closes attachment-create for every server, it is refused
        whatever volume it names, so nothing is read for it.

        :raises attachguard.guard.cinder.NotShown: if not
        """
        self._once('headers', self._read_headers)

    @property
    def volume(self) -> cinder.Volume:
        """The volume."""
        return self._once(
            'volume', lambda: self._cinder.volume(self._volume_id)
        )

    @property
    def attachment(self) -> cinder.Attachment:
        """The attachment that the path names."""
        return self._once('attachment', self._read_attachment)

    @property
    def attachments(self) -> tuple[cinder.Attachment, ...]:
        """All attachments of the volume, in any state."""
        return self._once('attachments', self._read_attachments)

    @property
    def has_backup_in_progress(self) -> bool:
        """Whether Cinder makes a backup of the volume."""
        return self._once(
            'backup',
            lambda: self._cinder.has_backup_in_progress(self._volume_id),
        )

    @property
    def group_volumes(self) -> tuple[cinder.Volume, ...]:
        """All volumes of the group."""
        return self._once('group_volumes', self._read_group_volumes)

    @property
    def group_has_attachment(self) -> bool:
        """Whether a volume of the group has an attachment, in any state."""
        return self._once('group_attachment', self._find_group_attachment)

    @property
    def is_about_attachment(self) -> bool:
        """Whether the path names an attachment."""
        source = self.request.operation.server_source
        return source is operations.ServerSource.ATTACHMENT

    @property
    def _volume_id(self) -> str:
        """The canonical UUID of the volume."""
        if self.is_about_attachment:
            return self.attachment.volume_id
        named = self.request.volume_id
        volume_id = named and request_parser.canonical_uuid(named)
        if not volume_id:
            self.check_visible()
            raise Malformed('The volume is not named by a UUID')
        return volume_id

    def _read_headers(self) -> Mapping[str, str]:
        if (
            self.request.operation is operations.ATTACHMENT_CREATE
            and self.request.server_id is not None
            and not self.known.checks
        ):
            return {}
        if self._is_shown:
            known = self._cinder.api_headers()
            if known is not None:
                return known
        if self.request.group_id is not None:
            return self._cinder.check_group(
                self.request.groups, self.request.group_id
            )
        if not self.is_about_attachment:
            if self.request.volume_id is None:
                raise Malformed('The body names no volume by a UUID')
            return self._cinder.check_volume(self.request.volume_id)
        try:
            headers = self._cinder.check_attachment(
                self.request.attachment_id or ''
            )
        except cinder.NotShown as exc:
            if exc.response is None or exc.response.status_int != 400:
                raise
            # NFS: Cinder cannot show an attachment without connection_info.
            return self._cinder.check_volume(self.attachment.volume_id)
        if not self._is_own(self.volume):
            # Cinder 29.0.0 shows attachments of other projects.
            self._cinder.check_volume(self.attachment.volume_id)
        return headers

    @property
    def _is_shown(self) -> bool:
        """Whether it is known that Cinder shows the caller what is named.

        As the caller wrote its id.
        """
        named = (
            self.request.attachment_id
            if self.is_about_attachment
            else self.request.volume_id
        )
        return (
            'is_visible' in self._found
            and named is not None
            and named == request_parser.canonical_uuid(named)
        )

    def _read_attachment(self) -> cinder.Attachment:
        named = self.request.attachment_id
        attachment_id = named and request_parser.canonical_uuid(named)
        if not attachment_id:
            self._cinder.check_attachment(named or '')
            raise Malformed('The attachment is not named by a UUID')
        # Without a project, that list would have those of every project.
        if self._caller.credentials['project_id']:
            own = self._cinder.own_attachment(attachment_id)
            if own is not None:
                self._found['is_visible'] = True
                return own
        return self._cinder.attachment(attachment_id)

    def _read_attachments(self) -> tuple[cinder.Attachment, ...]:
        volume_id = self._volume_id
        own = _first(self._cinder.own_attachments(volume_id))
        if own or self._is_own(self.volume):
            # All of them: Cinder lists by the project of the volume.
            self._found['is_visible'] = True
            return own
        self.check_visible()
        return _first(self._cinder.attachments(volume_id))

    def _read_group_volumes(self) -> tuple[cinder.Volume, ...]:
        named = self.request.group_id
        group_id = named and request_parser.canonical_uuid(named)
        if not group_id:
            self.check_visible()
            raise Malformed('The group is not named by a UUID')
        return tuple(self._cinder.group_volumes(group_id))

    def _find_group_attachment(self) -> bool:
        # The volume's status is not enough: a volume that is attached while
        # Cinder writes an image to it becomes available.
        for volume in self.group_volumes:
            if time.monotonic() > self._nova.deadline:
                raise cinder.Unknown('no time is left for the group')
            if any(True for _ in self._cinder.attachments(volume.id)):
                return True
        return False

    def _is_own(self, volume: cinder.Volume) -> bool:
        project_id = self._caller.credentials['project_id']
        return project_id is not None and volume.project_id == project_id

    def check_may_query(self) -> None:
        """Check that the caller may make the guard query Nova.

        :raises attachguard.guard.cinder.NotShown: if the caller may not see
            the volume
        """
        if 'is_visible' not in self._found and not self._is_own(self.volume):
            self.check_visible()

    def server(self, server_id: str) -> nova_client.Server | None:
        """A server; None if Nova does not show it.

        :param server_id: a canonical UUID
        """
        return self._once(
            ('server', server_id), lambda: self._nova.server(server_id)
        )

    def start(self, attachment: cinder.Attachment) -> None:
        """Start the query for a server, to read the volume meanwhile.

        :param attachment: which names the server
        """
        found = server_id(attachment)
        if found and 'volume' not in self._found:
            self._nova.start(found)

    def attachment_id(self, server_id: str) -> str | None:
        """The id of the attachment by which a server has the volume.

        :param server_id: a canonical UUID
        :returns: None if Nova has no id for it
        """
        return self._nova.attachment_id(server_id, self.volume.id)

    @property
    def is_settled(self) -> bool:
        """Whether the volume's record is older than "settle"."""
        return self.volume.is_older_than(self._settle)

    def presence_on(self, server_id: str) -> Presence:
        """Whether Nova has the volume on the server that the body names.

        :param server_id: a canonical UUID
        """
        return self._once(
            ('presence', server_id),
            lambda: _presence(self.server(server_id), self.volume.id),
        )

    def presence(
        self, attachment: cinder.Attachment, by_attachment: bool = False
    ) -> Presence:
        """Whether Nova has the volume on the server of an attachment.

        :param attachment: which names a server
        :param by_attachment: distinguish whether by this attachment
        """
        return self._once(
            ('presence', attachment.id, by_attachment),
            lambda: _find_presence(
                self, self._nova, attachment, by_attachment
            ),
        )


def _find_presence(
    facts: Facts,
    nova: NovaQueries,
    attachment: cinder.Attachment,
    by_attachment: bool,
) -> Presence:
    named = server_id(attachment)
    volume = facts.volume
    server = facts.server(named) if named else None
    presence = _presence(server, volume.id)
    if presence is Presence.HAS and by_attachment and server:
        return _presence_by(facts, server, attachment)
    if presence in USED:
        return presence
    # While Nova exchanges a volume for another, it has not saved the
    # attachment of the new one, even if that is attached already.
    being_attached = attachment.status in _BEING_ATTACHED or (
        server and attachment.is_connected
    )
    if being_attached and not facts.is_settled:
        raise Unsettled('an attachment is younger than "settle" allows')
    if (
        named
        and not server
        and attachment.is_connected
        and not nova.sees_every_project()
    ):
        raise Unseen('Nova shows no such server, but not every server')
    return presence


def _presence_by(
    facts: Facts, server: nova_client.Server, attachment: cinder.Attachment
) -> Presence:
    """Whether Nova has the volume by the attachment, or by another.

    During a migration of the server, Nova returns the id of the attachment on
    the destination host, while the guest uses the one on the source.
    """
    if server.is_busy:
        return Presence.HAS
    named = facts.attachment_id(server.id)
    if named != attachment.id and named in facts.volume.attached:
        return Presence.HAS_BY_OTHER
    return Presence.HAS


def _presence(server: nova_client.Server | None, volume_id: str) -> Presence:
    if server is None:
        return Presence.GONE
    if volume_id in server.volume_ids:
        return Presence.HAS
    return Presence.BUSY if server.is_busy else Presence.LACKS


@dataclasses.dataclass(frozen=True)
class Known:
    """The facts that were looked up; None where one was not.

    :param volume: the volume
    :param attachment: the attachment that the path names
    :param attachments: all attachments of the volume
    :param presence: whether Nova has the volume on a server: the first that
        uses it, or the last
    :param checks: the checks and their results, in the order of evaluation
    :param headers: of Cinder's response about the request
    """

    volume: cinder.Volume | None = None
    attachment: cinder.Attachment | None = None
    attachments: tuple[cinder.Attachment, ...] | None = None
    presence: Presence | None = None
    checks: tuple[tuple[str, bool], ...] = ()
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def volume_id(self) -> str | None:
        """The volume's id."""
        if self.volume is not None:
            return self.volume.id
        return None if self.attachment is None else self.attachment.volume_id

    @property
    def server_ids(self) -> tuple[str, ...]:
        """The servers that the attachments name, sorted."""
        found = self.attachments or ()
        if self.attachment is not None:
            found = (self.attachment,)
        return tuple(
            sorted({item.server_id for item in found if item.server_id})
        )


#: the facts about a request that was not looked into
NOTHING = Known()


def _first(
    attachments: Iterable[cinder.Attachment],
) -> tuple[cinder.Attachment, ...]:
    """Read a list, until it names too many servers.

    :raises TooManyServers: if it does
    """
    found: list[cinder.Attachment] = []
    servers: set[str] = set()
    for attachment in attachments:
        found.append(attachment)
        if attachment.server_id:
            servers.add(attachment.server_id)
        if len(servers) > MAX_SERVERS:
            raise TooManyServers()
    return tuple(found)


def server_id(attachment: cinder.Attachment) -> str | None:
    """The server of an attachment, a canonical UUID.

    :returns: None if it names none, or what cannot be one
    """
    if attachment.server_id is None:
        return None
    return request_parser.canonical_uuid(attachment.server_id)
