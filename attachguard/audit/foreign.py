# SPDX-License-Identifier: Apache-2.0


"""Foreign attachments: those that Nova did not make.

Cinder's ``instance_uuid`` is any text that the caller sends: a server of
Nova's, a node of Ironic's, a container of Zun's, a random UUID of a brick
client, or nothing.  Nova responds with 404 for all but the first, as for a
server that is deleted.  The rest of the record tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import enum
import fnmatch
import shlex

from attachguard.audit import model
from attachguard.guard import request as guard_request

# The mount point of each volume that Ironic attaches (ironic.common.cinder).
_IRONIC = 'ironic_mountpoint'

#: The fields that an operator's pattern can match.
KEYS = ('device', 'host', 'project', 'server', 'volume')


class Reason(enum.Enum):
    """Why an attachment is foreign."""

    #: it names no server
    NO_SERVER = 'no-server'
    #: it names a server by something that is no UUID
    NO_UUID = 'no-uuid'
    #: its mount point is the one of Ironic
    IRONIC = 'ironic'
    #: its host is no compute host
    OTHER_HOST = 'other-host'
    #: it matches a pattern of the operator
    PATTERN = 'pattern'


@dataclasses.dataclass(frozen=True)
class Match:
    """How an attachment is recognised as foreign.

    :param pattern: ``key=pattern``; empty without one
    """

    reason: Reason
    pattern: str = ''

    def hint(self, attachment: model.Attachment) -> str:
        """What to do if it is not foreign; empty without such a case."""
        if self.reason is not Reason.OTHER_HOST:
            return ''
        return (
            f'if {attachment.host} was a compute host of Nova, add '
            f'--compute-host {shlex.quote(attachment.host or "")}'
        )

    def __str__(self) -> str:
        return ':'.join(filter(None, (self.reason.value, self.pattern)))


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which attachments are foreign.

    :param patterns: by one of :data:`KEYS`, shell patterns
    :param compute_hosts: where Nova runs servers; None where that is not
        known, so that the host decides nothing
    :param stuck_after: what has not changed for so long is stuck
    """

    patterns: Mapping[str, Sequence[str]] = dataclasses.field(
        default_factory=dict
    )
    compute_hosts: Collection[str] | None = None
    stuck_after: datetime.timedelta = model.STUCK_AFTER

    def match(
        self, case: model.Case, attachment: model.Attachment
    ) -> Match | None:
        """Recognise a foreign attachment.

        :returns: None where it is Nova's, as far as can be known
        """
        server = case.servers.get(attachment.server_id or '')
        if server is None or server.presence not in (
            model.Presence.HAS,
            model.Presence.LACKS,
        ):
            reason = self._reason(attachment)
            if reason is not None:
                return Match(reason)
        # Where Nova knows the server, only the operator decides: the rest of
        # the record is written by the user who made it.
        return self._pattern(case, attachment)

    def set_apart(self, case: model.Case) -> model.Case:
        """Separate the foreign attachments of a case from Nova's.

        :param case: with all the attachments in ``attachments``
        """
        apart = tuple(a for a in case.attachments if self.match(case, a))
        return dataclasses.replace(
            case,
            attachments=tuple(a for a in case.attachments if a not in apart),
            foreign=apart,
            hosts=self.compute_hosts,
            stuck_after=self.stuck_after,
        )

    def _reason(self, attachment: model.Attachment) -> Reason | None:
        if attachment.server_id is None:
            return Reason.NO_SERVER
        if guard_request.canonical_uuid(attachment.server_id) is None:
            return Reason.NO_UUID
        if attachment.device == _IRONIC:
            return Reason.IRONIC
        if (
            attachment.host
            and self.compute_hosts is not None
            and attachment.host not in self.compute_hosts
        ):
            return Reason.OTHER_HOST
        return None

    def _pattern(
        self, case: model.Case, attachment: model.Attachment
    ) -> Match | None:
        values = {
            'device': attachment.device,
            'host': attachment.host,
            'project': case.project_id,
            'server': attachment.server_id,
            'volume': case.volume_id,
        }
        for key, patterns in self.patterns.items():
            for pattern in patterns:
                if fnmatch.fnmatchcase(values[key] or '', pattern):
                    return Match(Reason.PATTERN, f'{key}={pattern}')
        return None
