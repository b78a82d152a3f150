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


"""What the guard would decide about a volume, as things are now.

By the guard's own rules and its own code, with the answers of Cinder and Nova
that were just looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

from keystoneauth1 import plugin
from oslo_config import cfg

from attachguard import opts
from attachguard.audit import model
from attachguard.guard import cinder as cinders
from attachguard.guard import facts as targets
from attachguard.guard import identity as callers
from attachguard.guard import policy
from attachguard.guard import request as guard_request
from attachguard.nova import client as novas


@dataclasses.dataclass(frozen=True)
class Decision:
    """What would become of a call of an ordinary member of the project.

    :param call: in words
    :param verdict: ``allowed``, ``refused``, or ``unknown``, which is a 503
    :param reason: the guard's code for why
    """

    call: str
    verdict: str
    reason: str


class Guard:
    """The guard's rules.

    :param conf: with the guard's options; by default, the defaults
    :raises attachguard.opts.ConfigError: where they cannot be loaded
    """

    def __init__(self, conf: cfg.ConfigOpts | None = None) -> None:
        if conf is None:
            conf = cfg.ConfigOpts()
            conf([], default_config_files=[], default_config_dirs=[])
            opts.configure(conf, {})
        self._policy = policy.Policy(conf)

    def decide(self, case: model.Case) -> Iterator[Decision]:
        """Decide about the calls that matter to a volume.

        :param case: what is known of it
        """
        if case.volume is None:
            return
        everything = dataclasses.replace(
            case, attachments=case.attachments + case.foreign, foreign=()
        )
        servers = sorted(
            {a.server_id for a in everything.attachments if a.server_id}
            | set(case.servers)
        )
        for server_id in servers:
            yield self._decide(
                everything,
                f'os-attach to server {server_id}',
                _action(
                    everything,
                    'os-attach',
                    {'instance_uuid': server_id, 'mountpoint': '/dev/vdb'},
                ),
            )
        for attachment in everything.attachments:
            for name in ('attachment-complete', 'attachment-delete'):
                yield self._decide(
                    everything,
                    f'{name} of {attachment.id}',
                    _of_attachment(name, attachment.id),
                )
        yield self._decide(
            everything, 'os-detach', _action(everything, 'os-detach', {})
        )

    def _decide(
        self, case: model.Case, call: str, request: guard_request.Request
    ) -> Decision:
        assert case.volume is not None
        caller = callers.Caller(
            {
                **dict.fromkeys(callers.CREDENTIALS),
                'project_id': case.volume.project_id,
                'roles': ['member', 'reader'],
                'service_roles': [],
            }
        )
        target = targets.Target(request, caller, _Cinder(case), _Nova(case))
        try:
            allowed = self._policy.judge(target, caller).allowed
        except (cinders.Unknown, novas.Unknown) as exc:
            return Decision(call, 'unknown', exc.why)
        except targets.TooManyServers:
            return Decision(call, 'refused', 'too-many-servers')
        return Decision(
            call, 'allowed' if allowed else 'refused', target.why(allowed)
        )


class _Cinder(cinders.Cinder):
    """Answers as Cinder has just done."""

    def __init__(self, case: model.Case) -> None:
        self._case = case

    def volume(self, volume_id: str) -> cinders.Volume:
        return cinders.Volume(self._case.volume_id, self._case.project_id)

    def attachment(self, attachment_id: str) -> cinders.Attachment:
        for item in self.attachments_of(self._case.volume_id):
            if item.id == attachment_id:
                return item
        raise cinders.Refused(None)

    def attachments_of(self, volume_id: str) -> list[cinders.Attachment]:
        return [
            cinders.Attachment(
                item.id, self._case.volume_id, item.server_id, item.status
            )
            for item in self._case.attachments
        ]


class _Nova(novas.Nova):
    """Answers as Nova has just done."""

    def __init__(self, case: model.Case) -> None:
        self._case = case
        self.timeout = 1.0

    def attached(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        volume_id: str,
        within: float | None = None,
    ) -> bool:
        return self._server(server_id).presence is model.Presence.HAS

    def attachment_id(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        volume_id: str,
        within: float | None = None,
    ) -> str | None:
        return self._server(server_id).attachment_id

    def at_rest(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        within: float | None = None,
    ) -> bool:
        return not self._server(server_id).busy

    def _server(self, server_id: str) -> model.Server:
        server = self._case.servers.get(server_id)
        if server is None or server.presence is model.Presence.UNKNOWN:
            raise novas.Unknown(server.why if server else 'it was not asked')
        return server


def _action(case: model.Case, name: str, body: Any) -> guard_request.Request:
    path = f'/volumes/{case.volume_id}/action'
    return guard_request.Request(
        guard_request.OPERATIONS[name],
        path,
        (len('/volumes/'), len('/volumes/') + len(case.volume_id)),
        '',
        b'',
        {name: body},
    )


def _of_attachment(name: str, attachment_id: str) -> guard_request.Request:
    path = f'/attachments/{attachment_id}'
    return guard_request.Request(
        guard_request.OPERATIONS[name],
        path,
        (len('/attachments/'), len(path)),
        '',
        b'',
    )
