# SPDX-License-Identifier: Apache-2.0
"""What the guard would decide about a volume, in its present state.

With the guard's own rules and code, over the responses of Cinder and Nova that
were just read.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses

from oslo_config import cfg
from oslo_utils import timeutils

from attachguard import opts
from attachguard.audit import model
from attachguard.guard import cinder
from attachguard.guard import decision
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import operations
from attachguard.guard import policy
from attachguard.guard import request
from attachguard.nova import client as nova_client


@dataclasses.dataclass(frozen=True)
class Preview:
    """What would be decided about a call of a member of the project.

    :param call: a description of the call
    :param verdict: ``allowed``, ``refused``, or ``unknown``, which is a 503
    :param reason: the guard's code for why
    """

    call: str
    verdict: str
    reason: str


class Guard:
    """The guard's rules.

    :param conf: with the guard's options; by default, the defaults
    :raises attachguard.opts.ConfigError: if they cannot be loaded
    """

    def __init__(self, conf: cfg.ConfigOpts | None = None) -> None:
        if conf is None:
            conf = cfg.ConfigOpts()
            conf([], default_config_files=[], default_config_dirs=[])
            opts.configure(conf, {})
        self._policy = policy.Policy(conf)
        self._settle: float = conf[opts.GROUP].settle

    def decide(self, case: model.Case) -> Iterator[Preview]:
        """Decide about the calls that matter to a volume.

        :param case: what is known of it
        """
        if case.volume is None:
            return
        attachments = case.attachments + case.foreign
        caller = identity.Caller(
            {
                **identity.NOBODY.credentials,
                'project_id': case.volume.project_id,
                'roles': ['member', 'reader'],
                'service_roles': [],
            }
        )
        for call, asked in _calls(case, attachments):
            decided = decision.decide(
                self._policy,
                caller,
                facts.Facts(
                    asked,
                    caller,
                    _Cinder(case, attachments),
                    _NovaQueries(case),
                    self._settle,
                ),
            )
            yield Preview(
                call,
                decided.verdict.value,
                decided.detail or decided.reason.value,
            )


def _calls(
    case: model.Case, attachments: tuple[model.Attachment, ...]
) -> Iterator[tuple[str, request.Request]]:
    volume_actions = operations.VOLUME_ACTIONS
    servers = {a.server_id for a in attachments if a.server_id}
    for server_id in sorted(servers | set(case.servers)):
        yield (
            f'os-attach to server {server_id}',
            request.Request(
                volume_actions['os-attach'],
                '',
                volume_id=case.volume_id,
                server_id=server_id,
            ),
        )
    for attachment in attachments:
        for operation in (
            operations.ATTACHMENT_COMPLETE,
            operations.ATTACHMENT_DELETE,
        ):
            yield (
                f'{operation.name} of {attachment.id}',
                request.Request(operation, '', attachment_id=attachment.id),
            )
    yield (
        'os-detach',
        request.Request(
            volume_actions['os-detach'], '', volume_id=case.volume_id
        ),
    )


class _Cinder:
    """Cinder's responses that were read; a CinderReader."""

    def __init__(
        self, case: model.Case, attachments: tuple[model.Attachment, ...]
    ) -> None:
        self._case = case
        # What was connected is not known: assume that all were.
        self._attachments = [
            cinder.Attachment(
                item.id, case.volume_id, item.server_id, item.status, True
            )
            for item in attachments
        ]

    def check_volume(self, volume_id: str) -> Mapping[str, str]:
        return {}

    def check_attachment(self, attachment_id: str) -> Mapping[str, str]:
        return {}

    def check_group(self, groups: str, group_id: str) -> Mapping[str, str]:
        return {}

    def group_volumes(self, group_id: str) -> tuple[cinder.Volume, ...]:
        raise cinder.Unknown('the volumes of a group were not read')

    def volume(self, volume_id: str) -> cinder.Volume:
        volume = self._case.volume
        if volume is None:
            raise cinder.Unknown('there is no such volume')
        return cinder.Volume(
            self._case.volume_id,
            volume.project_id,
            volume.status,
            volume.migration_status,
            timeutils.normalize_time(
                timeutils.parse_isotime(volume.updated_at)
            )
            if volume.updated_at
            else None,
            frozenset(
                item.id
                for item in self._attachments
                if item.status == 'attached'
            ),
        )

    def has_backup_in_progress(self, volume_id: str) -> bool:
        raise cinder.Unknown('the backups of a volume were not read')

    def attachment(self, attachment_id: str) -> cinder.Attachment:
        for item in self._attachments:
            if item.id == attachment_id:
                return item
        raise cinder.NotShown(None)

    def attachments(self, volume_id: str) -> list[cinder.Attachment]:
        return self._attachments

    own_attachment = attachment
    own_attachments = attachments

    def api_headers(self) -> Mapping[str, str]:
        return {}


class _NovaQueries:
    """Nova's responses that were read; a NovaQueries."""

    count = 0
    seconds = 0.0
    deadline = float('inf')

    def __init__(self, case: model.Case) -> None:
        self._case = case

    def start(self, server_id: str) -> None:
        """Nothing: the responses are there."""

    def server(self, server_id: str) -> nova_client.Server | None:
        server = self._server(server_id)
        if server.presence is model.Presence.GONE:
            return None
        has = server.presence is model.Presence.HAS
        return nova_client.Server(
            server_id,
            server.busy,
            frozenset([self._case.volume_id] if has else []),
        )

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        return self._server(server_id).attachment_id

    def sees_every_project(self) -> bool:
        # The audit confirms what it reads; see audit.confirmation.
        return True

    def _server(self, server_id: str) -> model.Server:
        server = self._case.servers.get(server_id)
        if server is None or server.presence is model.Presence.UNKNOWN:
            raise nova_client.Unknown(
                server.why if server else 'Nova was not queried'
            )
        return server
