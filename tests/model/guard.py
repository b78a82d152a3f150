# SPDX-License-Identifier: Apache-2.0

"""The real guard, before the models of Cinder and Nova.

Facts, rules and decision are those of the package; only the HTTP between the
services is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import datetime
import functools
import pathlib
import tempfile

from oslo_config import cfg
from oslo_utils import timeutils
import webob
import yaml

from attachguard import opts
from attachguard.guard import cinder as guard_cinder
from attachguard.guard import decision
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import policy
from attachguard.guard import request
from attachguard.nova import client
from tests.model import cinder
from tests.model import nova
from tests.model.cinder import Caller

SETTLE = 30.0

# Policy files, which are removed at the end of the process: the guard looks
# whether they have changed.
_FILES = tempfile.TemporaryDirectory()


@functools.cache
def rules(overrides: tuple[tuple[str, str], ...]) -> policy.Policy:
    """The default rules, some of them overridden."""
    number = len(list(pathlib.Path(_FILES.name).iterdir()))
    path = pathlib.Path(_FILES.name) / f'policy-{number}.yaml'
    path.write_text(yaml.safe_dump(dict(overrides)))
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    with opts.configured(conf, {'policy_file': str(path)}):
        return policy.Policy(conf)


class Guard:
    """The guard.

    :param nova_: the model of Nova, with that of Cinder
    :param overrides: of the rules
    :param visibility: which servers the queries see
    :param pretends: whether the guard believes that it sees every project
    """

    def __init__(
        self,
        nova_: nova.Nova,
        overrides: Mapping[str, str],
        sees_all: bool = True,
        pretends: bool = False,
    ) -> None:
        self._nova = nova_
        self._rules = rules(tuple(overrides.items()))
        self._sees_all = sees_all
        self._pretends = pretends

    def decide(
        self, caller: Caller, request_: request.Request
    ) -> decision.Decision:
        """Decide about a request."""
        roles = ['member', 'admin'] if caller.admin else ['member']
        credentials = {
            **dict.fromkeys(identity.CREDENTIALS),
            'project_id': caller.project,
            'roles': roles,
            'service_roles': [],
        }
        caller_ = identity.Caller(credentials)
        found = facts.Facts(
            request_,
            caller_,
            _Reader(self._nova.cinder, caller),
            _Queries(self._nova, caller, self._sees_all, self._pretends),
            SETTLE,
        )
        return decision.decide(self._rules, caller_, found)


class _Reader:
    """Reads of the model of Cinder."""

    def __init__(self, model: cinder.Cinder, caller: Caller) -> None:
        self._model = model
        self._caller = caller

    def check_volume(self, volume_id: str) -> Mapping[str, str]:
        volume = self._model.volumes.get(volume_id)
        if volume is None or not cinder.sees(self._caller, volume):
            raise guard_cinder.NotShown(webob.Response(status=404))
        return {}

    def check_attachment(self, attachment_id: str) -> Mapping[str, str]:
        attachment = self._model.attachments.get(attachment_id)
        if attachment is None:
            raise guard_cinder.NotShown(webob.Response(status=404))
        # Cinder 29.0.0 shows attachments of other projects.
        return {}

    def check_group(self, groups: str, group_id: str) -> Mapping[str, str]:
        raise guard_cinder.NotShown(None)

    def group_volumes(self, group_id: str) -> Iterator[guard_cinder.Volume]:
        raise guard_cinder.Unknown('the model has no groups')

    def has_backup_in_progress(self, volume_id: str) -> bool:
        return False

    def volume(self, volume_id: str) -> guard_cinder.Volume:
        volume = self._model.volumes.get(volume_id)
        if volume is None:
            raise guard_cinder.Unknown('not listed')
        age = datetime.timedelta(seconds=self._model.now - volume.changed)
        return guard_cinder.Volume(
            volume.id,
            volume.project,
            volume.status,
            volume.migration_status,
            timeutils.utcnow() - age,
            frozenset(
                item.id
                for item in self._model.of(volume_id)
                if item.status == 'attached'
            ),
        )

    def attachment(self, attachment_id: str) -> guard_cinder.Attachment:
        attachment = self._model.attachments.get(attachment_id)
        if attachment is None:
            raise guard_cinder.Unknown('not listed')
        return _shown(attachment)

    def attachments(self, volume_id: str) -> Iterator[guard_cinder.Attachment]:
        return map(_shown, self._model.of(volume_id))

    def own_attachment(
        self, attachment_id: str
    ) -> guard_cinder.Attachment | None:
        found = self._model.attachments.get(attachment_id)
        if found is None:
            return None
        volume = self._model.volumes.get(found.volume_id)
        if volume is None or volume.project != self._caller.project:
            return None
        return _shown(found)

    def own_attachments(
        self, volume_id: str
    ) -> Iterator[guard_cinder.Attachment]:
        volume = self._model.volumes.get(volume_id)
        if volume is None or not cinder.sees(self._caller, volume):
            return iter(())
        return self.attachments(volume_id)

    def api_headers(self) -> Mapping[str, str] | None:
        return {}


def _shown(attachment: cinder.Attachment) -> guard_cinder.Attachment:
    return guard_cinder.Attachment(
        attachment.id,
        attachment.volume_id,
        attachment.server_id,
        attachment.status,
        attachment.connected,
    )


class _Queries:
    """Queries to the model of Nova."""

    count = 0
    seconds = 0.0
    deadline = float('inf')

    def __init__(
        self, model: nova.Nova, caller: Caller, sees_all: bool, pretends: bool
    ) -> None:
        self._model = model
        self._caller = caller
        self._sees_all = sees_all
        self._pretends = pretends

    def start(self, server_id: str) -> None:
        """There is nothing to wait for."""

    def server(self, server_id: str) -> client.Server | None:
        server = self._model.shown(server_id)
        if server is None or not (
            self._sees_all
            or self._caller.admin
            or server.project == self._caller.project
        ):
            return None
        return client.Server(
            server_id,
            not server.idle,
            frozenset(mapping.volume_id for mapping in server.mappings),
        )

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        server = self._model.shown(server_id)
        mapping = server and server.mapping(volume_id)
        return mapping.attachment_id if mapping else None

    def sees_every_project(self) -> bool:
        return self._sees_all or self._pretends
