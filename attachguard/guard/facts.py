# SPDX-License-Identifier: Apache-2.0
"""Facts about a request: what Cinder and Nova have of its volume and servers.

Each fact is looked up when a rule reads it, and once.  A look-up changes
nothing: what it finds is a value of its own, and the decision
(:mod:`attachguard.guard.decision`) derives the reason from these values.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import enum
from typing import Any
from typing import Protocol
from typing import TypeVar

from keystoneauth1 import plugin

from attachguard.guard import cinder
from attachguard.guard import operations
from attachguard.guard import request as request_parser

_T = TypeVar('_T')

# A volume can have many attachments (multiattach), and each of their servers
# costs a query: a request about more servers than this is refused.
MAX_SERVERS = 16


class CinderReader(Protocol):
    """Reads of Cinder's API; see :class:`attachguard.guard.cinder.Cinder`."""

    def volume(self, volume_id: str) -> cinder.Volume:
        """Read a volume."""

    def attachment(self, attachment_id: str) -> cinder.Attachment:
        """Read an attachment."""

    def attachments(self, volume_id: str) -> list[cinder.Attachment]:
        """Read all attachments of a volume."""


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

    def has_volume(self, server_id: str, volume_id: str) -> bool:
        """Whether a server has a volume."""

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The id of the attachment by which a server has a volume."""

    def is_idle(self, server_id: str) -> bool:
        """Whether Nova performs no task on a server."""


class Nova(Protocol):
    """Nova; see :class:`attachguard.nova.client.Nova`."""

    @property
    def as_caller(self) -> bool:
        """Whether queries carry the caller's own token."""

    def queries(self, auth: plugin.BaseAuthPlugin | None) -> NovaQueries:
        """The queries for one request."""


class Presence(enum.Enum):
    """Whether Nova has a volume on a server."""

    HAS = 'has'
    #: it has the volume by another attachment than the one in question
    HAS_BY_OTHER = 'has by another attachment'
    LACKS = 'lacks'


@dataclasses.dataclass(frozen=True)
class Claim:
    """A server that the request, or Cinder's record, names for a volume.

    All ids are canonical UUIDs.
    """

    server_id: str
    volume_id: str
    attachment_id: str | None = None


class TooManyServers(Exception):
    """The request is about more servers than :data:`MAX_SERVERS`."""


class Malformed(Exception):
    """A request that Cinder cannot perform."""


class Facts:
    """The facts about one request.

    Every look-up raises :exc:`attachguard.guard.cinder.NotShown` if Cinder
    does not show the volume or the attachment to the caller,
    :exc:`attachguard.guard.cinder.Unknown` and
    :exc:`attachguard.nova.client.Unknown` if the service does not say, and
    :exc:`Malformed` if the request names nothing that can be looked up.

    :param request: the request
    :param cinder_: reads of Cinder's API as the caller
    :param nova: queries to Nova for this request
    """

    def __init__(
        self,
        request: request_parser.Request,
        cinder_: CinderReader,
        nova: NovaQueries,
    ) -> None:
        self.request = request
        self._cinder = cinder_
        self._nova = nova
        self._found: dict[str, Any] = {}

    def _once(self, name: str, look_up: Callable[[], _T]) -> _T:
        # Not functools.cached_property: until Python 3.12 it holds a lock for
        # all objects of the class, so that only one request could query Nova.
        if name not in self._found:
            self._found[name] = look_up()
        value: _T = self._found[name]
        return value

    @property
    def volume(self) -> cinder.Volume:
        """The volume, as Cinder shows it to the caller."""
        return self._once('volume', self._read_volume)

    @property
    def attachment(self) -> cinder.Attachment:
        """The attachment that the request names."""
        return self._once('attachment', self._read_attachment)

    @property
    def attachment_status(self) -> str | None:
        """The status of the attachment that the request names, if any."""
        return self._once(
            'attachment_status',
            lambda: (
                None
                if self.request.attachment_id is None
                else self.attachment.status
            ),
        )

    @property
    def is_recorded(self) -> bool:
        """Whether Cinder has an attachment of a claimed server."""
        return self._once('is_recorded', self._is_recorded)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The servers that the request is about.

        Empty if it names no server, or what cannot be one.
        """
        return self._once('claims', self._read_claims)

    def check_visible(self) -> None:
        """Check that the caller may see the volume.

        :raises attachguard.guard.cinder.NotShown: if not
        """
        self.volume  # noqa: B018

    @property
    def names_server(self) -> bool:
        """Whether the request is about any server, even an invalid one."""
        return bool(self.claims) or self.request.server_id is not None

    @property
    def volume_presence(self) -> Presence:
        """Whether Nova has the volume on any claimed server.

        :raises TooManyServers: if there are too many to query
        """
        return self._once('volume_presence', self._query_volume)

    @property
    def attachment_presence(self) -> Presence:
        """Whether Nova has the volume by the very attachment of a claim.

        HAS also where Nova has it and does not say by which attachment, and
        where it has it and performs a task on the server.

        :raises TooManyServers: if there are too many to query
        """
        return self._once(
            'attachment_presence',
            lambda: self._presence(self.claims, self._presence_of_attachment),
        )

    @property
    def known(self) -> Known:
        """What has been looked up so far."""
        known = self._found
        volume = known.get('volume')
        attachment = known.get('attachment')
        return Known(
            volume=volume,
            attachment=attachment,
            attachment_status=known.get('attachment_status'),
            is_recorded=known.get('is_recorded'),
            server_ids=tuple(
                sorted({item.server_id for item in known.get('claims', ())})
            ),
            presence=known.get('attachment_presence')
            or known.get('volume_presence'),
        )

    @property
    def _is_about_attachment(self) -> bool:
        source = self.request.operation.server_source
        return source is operations.ServerSource.ATTACHMENT

    def _read_volume(self) -> cinder.Volume:
        if self._is_about_attachment:
            return self._cinder.volume(self.attachment.volume_id)
        if self.request.volume_id is None:
            raise Malformed('volume_uuid is not a UUID')
        return self._cinder.volume(self.request.volume_id)

    def _read_attachment(self) -> cinder.Attachment:
        if self.request.attachment_id is None:
            raise Malformed('attachment_id is not a UUID')
        return self._cinder.attachment(self.request.attachment_id)

    def _read_claims(self) -> tuple[Claim, ...]:
        source = self.request.operation.server_source
        if source is operations.ServerSource.BODY:
            named = cinder.Attachment(
                '', self.volume.id, self.request.server_id
            )
            return _claims([named])
        if source is operations.ServerSource.ATTACHMENT:
            if self.attachment.server_id is not None:
                # Cinder shows attachments of other projects, too. Nova gets no
                # query about a volume that the caller may not see.
                self.check_visible()
            return _claims([self.attachment])
        return _claims(self._cinder.attachments(self.volume.id))

    def _is_recorded(self) -> bool:
        servers = {claim.server_id for claim in self.claims}
        return bool(servers) and any(
            attachment.server_id is not None
            and request_parser.canonical_uuid(attachment.server_id) in servers
            for attachment in self._cinder.attachments(self.volume.id)
        )

    def _query_volume(self) -> Presence:
        claims = {
            dataclasses.replace(claim, attachment_id=None)
            for claim in self.claims
        }
        ordered = sorted(claims, key=lambda claim: claim.server_id)
        return self._presence(ordered, self._presence_of_volume)

    def _presence(
        self, claims: Iterable[Claim], query: Callable[[Claim], Presence]
    ) -> Presence:
        claims = list(claims)
        if len(claims) > MAX_SERVERS:
            raise TooManyServers()
        presence = Presence.LACKS
        for claim in claims:
            presence = query(claim)
            if presence is Presence.HAS:
                break
        return presence

    def _presence_of_volume(self, claim: Claim) -> Presence:
        has = self._nova.has_volume(claim.server_id, claim.volume_id)
        return Presence.HAS if has else Presence.LACKS

    def _presence_of_attachment(self, claim: Claim) -> Presence:
        attachment_id = None
        if claim.attachment_id is not None:
            attachment_id = self._nova.attachment_id(
                claim.server_id, claim.volume_id
            )
        if attachment_id is None:
            # Not saved yet, or attached before the Queens release, or not
            # attached: any presence counts.
            return self._presence_of_volume(claim)
        if attachment_id == claim.attachment_id:
            return Presence.HAS
        # While a server moves, Nova does not name the attachment by which the
        # guest still runs.
        if not self._nova.is_idle(claim.server_id):
            return Presence.HAS
        return Presence.HAS_BY_OTHER


@dataclasses.dataclass(frozen=True)
class Known:
    """The facts that were looked up; None where one was not.

    :param volume: the volume
    :param attachment: the attachment that the request names
    :param attachment_status: the status of that attachment
    :param is_recorded: whether Cinder has an attachment of a claimed server
    :param server_ids: the claimed servers, sorted
    :param presence: whether Nova has the volume on a claimed server
    """

    volume: cinder.Volume | None = None
    attachment: cinder.Attachment | None = None
    attachment_status: str | None = None
    is_recorded: bool | None = None
    server_ids: tuple[str, ...] = ()
    presence: Presence | None = None

    @property
    def volume_id(self) -> str | None:
        """The volume's id."""
        if self.volume is not None:
            return self.volume.id
        return None if self.attachment is None else self.attachment.volume_id


#: the facts about a request that was not looked into
NOTHING = Known()


def _claims(attachments: Iterable[cinder.Attachment]) -> tuple[Claim, ...]:
    claims: dict[Claim, None] = {}
    for item in attachments:
        server_id = item.server_id and request_parser.canonical_uuid(
            item.server_id
        )
        if server_id:
            claims[Claim(server_id, item.volume_id, item.id or None)] = None
    return tuple(claims)
