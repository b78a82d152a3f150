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


"""Attachments that are none of Nova's: recognised, listed apart, left alone.

Cinder's ``instance_uuid`` is whatever the caller says: a server of Nova's, a
node of Ironic's, a container of Zun's, a random UUID of a brick client, or
nothing.  Nova answers 404 for all but the first, as for a server that is
gone.  What tells them apart is what else the record says.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import fnmatch

from attachguard.audit import model
from attachguard.guard import request as guard_request

# What Ironic calls the mount point of each volume that it attaches
# (ironic.common.cinder).
_IRONIC = 'ironic_mountpoint'

#: What an operator's pattern can be about.
KEYS = ('device', 'host', 'project', 'server', 'volume')


@dataclasses.dataclass(frozen=True)
class Rules:
    """What to take for foreign.

    :param patterns: by one of :data:`KEYS`, shell patterns
    :param compute_hosts: where Nova runs servers, by its own word; None where
        it is not known, so that no host tells anything
    """

    patterns: Mapping[str, Sequence[str]] = dataclasses.field(
        default_factory=dict
    )
    compute_hosts: Collection[str] | None = None

    def why(
        self, case: model.Case, attachment: model.Attachment
    ) -> str | None:
        """Why an attachment is foreign.

        :returns: ``no-server``, ``no-uuid``, ``ironic``, ``other-host`` or
            ``pattern:…``; None where it is Nova's, as far as can be known
        """
        server = case.servers.get(attachment.server_id or '')
        if server is not None and server.presence in (
            model.Presence.HAS,
            model.Presence.LACKS,
        ):
            # Nova knows the server; whatever else the record says was said by
            # whoever made it.
            return self._pattern(case, attachment)
        if attachment.server_id is None:
            return 'no-server'
        if guard_request.canonical_uuid(attachment.server_id) is None:
            return 'no-uuid'
        if attachment.device == _IRONIC:
            return 'ironic'
        if (
            attachment.host
            and self.compute_hosts is not None
            and attachment.host not in self.compute_hosts
        ):
            return 'other-host'
        return self._pattern(case, attachment)

    def set_apart(self, case: model.Case) -> model.Case:
        """Set the foreign attachments of a case apart from Nova's.

        :param case: a case, with all the attachments in ``attachments``
        """
        apart = tuple(a for a in case.attachments if self.why(case, a))
        return dataclasses.replace(
            case,
            attachments=tuple(a for a in case.attachments if a not in apart),
            foreign=apart,
        )

    def _pattern(
        self, case: model.Case, attachment: model.Attachment
    ) -> str | None:
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
                    return f'pattern:{key}={pattern}'
        return None
