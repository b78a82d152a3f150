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
"""What a request is about, found out as far as a rule looks.

Between a request and its rule: which server it speaks of, what Cinder knows of
the volume and of its attachments, and whether Nova has it.  Each is asked when
a rule wants it, and once.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
import time
from typing import Any

from attachguard.guard import cinder as cinders
from attachguard.guard import identity as callers
from attachguard.guard import request as guard_request
from attachguard.nova import client as novas

# A volume can have many attachments (multiattach), and each of their servers
# is a question to Nova: beyond this, one call is too dear.
_MAX_QUESTIONS = 16


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A server that a request says has a volume.

    All ids are canonical UUIDs.
    """

    server_id: str
    volume_id: str
    attachment_id: str | None = None


class Target(Mapping[str, Any]):
    """What a request is about, found out as far as a rule looks.

    Iterating shows only what is known without asking: oslo.policy logs its
    target on the debug level, and that must not ask Nova.

    :param request: what is asked
    :param caller: who asks
    :param cinder: what Cinder knows
    :param nova: what Nova knows
    """

    KEYS = (
        'operation',
        'volume_id',
        'attachment_id',
        'attachment_status',
        'server_id',
        'host',
        'project_id',
        'recorded',
    )

    def __init__(
        self,
        request: guard_request.Request,
        caller: callers.Caller,
        cinder: cinders.Cinder,
        nova: novas.Nova,
    ) -> None:
        self.request = request
        self._caller = caller
        self._cinder = cinder
        self._nova = nova
        self.nova_seconds = 0.0
        self.nova_questions = 0
        #: whether any claimed server has its volume; None: nobody asked
        self.nova_answer: bool | None = None
        self._reason: str | None = None
        self._give_up: float | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(('operation',))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Any:
        if key == 'operation':
            assert self.request.operation is not None
            return self.request.operation.name
        if key == 'volume_id':
            return self._volume_id
        if key == 'attachment_id':
            return self.request.attachment_id
        if key == 'server_id':
            servers = {claimed.server_id for claimed in self.claims}
            return servers.pop() if len(servers) == 1 else None
        if key == 'host':
            return self.request.host
        if key == 'project_id':
            return self._volume.project_id
        if key == 'attachment_status':
            status = self._attachment and self._attachment.status
            if status != 'reserved':
                self._reason = 'already-attached'
            return status
        if key == 'recorded':
            if self._recorded:
                self._reason = 'already-attached'
            return self._recorded
        raise KeyError(key)

    @functools.cached_property
    def _attachment(self) -> cinders.Attachment | None:
        attachment_id = self.request.attachment_id
        if attachment_id is None:
            return None
        if (
            not self._is_of_attachment
            and guard_request.canonical_uuid(attachment_id) is None
        ):
            # From a body, it must not become another path.
            raise Malformed('attachment_id is not a UUID')
        return self._cinder.attachment(attachment_id)

    @property
    def _is_of_attachment(self) -> bool:
        assert self.request.operation is not None
        return self.request.operation.claim is guard_request.Claim.ATTACHMENT

    @functools.cached_property
    def _volume_id(self) -> str:
        if self._is_of_attachment:
            assert self._attachment is not None
            return self._attachment.volume_id
        return self._volume.id

    @functools.cached_property
    def _volume(self) -> cinders.Volume:
        assert self.request.operation is not None
        if self.request.operation.claim is guard_request.Claim.ATTACHMENT:
            return self._cinder.volume(self._volume_id)
        volume_id = self.request.volume_id
        if (
            volume_id is None
            or self.request.operation.claim is guard_request.Claim.BODY
            and self.request.span is None
            and guard_request.canonical_uuid(volume_id) is None
        ):
            # From a body, it must not become another path.
            raise Malformed('volume_uuid is not a UUID')
        return self._cinder.volume(volume_id)

    @functools.cached_property
    def _recorded(self) -> bool:
        """Whether Cinder has an attachment of a claimed server already."""
        claimed = {item.server_id for item in self.claims}
        if not claimed:
            return False
        return any(
            attachment.server_id is not None
            and guard_request.canonical_uuid(attachment.server_id) in claimed
            for attachment in self._cinder.attachments_of(self._volume.id)
        )

    @functools.cached_property
    def claims(self) -> list[Claimed]:
        """The servers that the request speaks of.

        :returns: none where it names none, or what can be no server
        :raises attachguard.guard.cinder.Refused: where Cinder shows nothing
        :raises attachguard.guard.cinder.Unknown: where Cinder does not say
        :raises Malformed: where the request cannot be one
        """
        assert self.request.operation is not None
        claim = self.request.operation.claim
        if claim is guard_request.Claim.BODY:
            volume_id = self._volume.id
            return self._claims(
                [cinders.Attachment('', volume_id, self.request.server_id)]
            )
        if claim is guard_request.Claim.ATTACHMENT:
            assert self._attachment is not None
            if self._attachment.server_id is not None:
                self.check_volume()
            return self._claims([self._attachment])
        return self._claims(self._cinder.attachments_of(self._volume.id))

    def check_volume(self) -> None:
        """See that the volume is there, and the caller may see it.

        Cinder shows attachments of other projects, too: Nova is not asked
        about what is not the caller's.

        :raises attachguard.guard.cinder.Refused: where Cinder does not show it
        :raises attachguard.guard.cinder.Unknown: where Cinder does not say
        :raises Malformed: where the request cannot be one
        """
        assert self._volume.id

    @property
    def known_volume_id(self) -> str | None:
        """The volume, where it was looked up."""
        volume = vars(self).get('_volume')
        if volume is not None:
            return str(volume.id)
        attachment = vars(self).get('_attachment')
        return None if attachment is None else str(attachment.volume_id)

    @property
    def known_server_ids(self) -> str | None:
        """The servers that are spoken of, where they were looked up."""
        claims = vars(self).get('claims') or ()
        return ' '.join(sorted({item.server_id for item in claims})) or None

    @staticmethod
    def _claims(attachments: list[cinders.Attachment]) -> list[Claimed]:
        claims = {}
        for item in attachments:
            server = item.server_id and guard_request.canonical_uuid(
                item.server_id
            )
            if server:
                claims[Claimed(server, item.volume_id, item.id or None)] = 1
        return list(claims)

    def why(self, allowed: bool) -> str:
        """The stable code of why a request was allowed or refused."""
        if self._reason is not None:
            return self._reason
        if not allowed and self.request.rule.endswith(':no-server'):
            return 'no-server'
        return 'policy'

    def no_server(self) -> bool:
        """Whether the request speaks of no server at all."""
        return not self.claims and self.request.server_id is None

    def attached(self) -> bool:
        """Whether Nova has the volume on any server that is spoken of.

        :raises attachguard.nova.client.Unknown: when Nova does not say
        """
        pairs = {(item.server_id, item.volume_id) for item in self.claims}
        return self._any(self._has, sorted(pairs))

    def same_attachment(self) -> bool:
        """Whether Nova has the volume by the very attachment of a claim.

        :returns: True also where Nova has it and does not say by which, and
            where it has it and is doing something with the server
        :raises attachguard.nova.client.Unknown: when Nova does not say
        """
        return self._any(self._has_by, self.claims)

    def _has(self, pair: tuple[str, str]) -> bool:
        has = self._nova.attached(self._caller.auth, *pair, self._left())
        self.nova_answer = has
        self._reason = 'server-has-volume' if has else 'server-lacks-volume'
        return has

    def _has_by(self, item: Claimed) -> bool:
        pair = (item.server_id, item.volume_id)
        by = None
        if item.attachment_id is not None:
            by = self._nova.attachment_id(
                self._caller.auth, *pair, self._left()
            )
        if by is None:
            # Not saved yet, or attached before the Queens release; or not at
            # all. Whichever: what Nova has is not told apart.
            return self._has(pair)
        self.nova_answer = True
        # While a server moves, what it still runs by is not what Nova says.
        same = by == item.attachment_id or not self._nova.at_rest(
            self._caller.auth, item.server_id, self._left()
        )
        self._reason = 'server-has-volume' if same else 'other-attachment'
        return same

    def _left(self) -> float:
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + self._nova.timeout
        return self._give_up - now

    def _any(self, ask: Callable[[Any], bool], items: list[Any]) -> bool:
        if len(items) > _MAX_QUESTIONS:
            raise TooManyServers()
        if not items and self.request.server_id is not None:
            # What was named is no UUID, and so no server to ask about.
            self._reason = 'server-lacks-volume'
        for item in items:
            start = time.monotonic()
            try:
                if ask(item):
                    return True
            except novas.Unknown:
                self.nova_answer = None
                raise
            finally:
                self.nova_questions += 1
                self.nova_seconds += time.monotonic() - start
        return False


class TooManyServers(Exception):
    """A request that speaks of more servers than Nova can be asked about."""


class Malformed(Exception):
    """A request that Cinder cannot perform."""
