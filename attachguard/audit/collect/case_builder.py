# SPDX-License-Identifier: Apache-2.0

"""All that Cinder and Nova report of one volume, put together as a case."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import types
from typing import Any

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from attachguard.audit.collect import rows

#: Attachments of a volume that are checked: a user can make any number of
#: them, and each names a server, which is a query.
MAX_ATTACHMENTS = 200

# Of a volume's status and whether it has attachments: the attach_status that
# would contradict them.
_WRONG_ATTACH_STATUS = {
    ('available', False): 'attached',
    ('in-use', False): 'attached',
    ('in-use', True): 'detached',
}


def read_case(
    cloud: api.Cloud,
    volume_id: str,
    rules: foreign.Rules,
    servers: Collection[str] = (),
    leftovers: Mapping[str, str] = types.MappingProxyType({}),
) -> model.Case:
    """Read everything about one volume, from the APIs.

    Cinder is read first: what is attached in between is then in Nova's
    response, and is not taken for an attachment that Nova does not have.

    :param volume_id: a UUID
    :param rules: which attachments are foreign
    :param servers: ids of servers to read beside those that Cinder names
    :param leftovers: ids of servers that may be deleted, and on which Nova
        still has the volume, each with its cell
    :returns: with ``unknown`` set where Cinder does not respond
    """
    builder = CaseBuilder(cloud, volume_id)
    builder.read_volume()
    if not builder.unknown:
        builder.read_attachments()
    if not builder.unknown:
        builder.read_attach_status()
    builder.limit({*servers, *leftovers})
    if not builder.unknown:
        for server_id in sorted(builder.named.union(servers, leftovers)):
            builder.read_server(server_id)
            builder.read_attachment_id(server_id)
            builder.read_disks(server_id)
            if server_id in leftovers:
                builder.read_leftovers(server_id, leftovers[server_id])
        builder.read_project()
    return builder.build(rules)


class CaseBuilder:
    """Collects facts about one volume, from the APIs or from lists.

    :param cloud: to read from
    :param volume_id: a UUID
    :ivar volume: None where there is none, or before it is read
    :ivar attachments: by id: a list can have one twice
    :ivar servers: by id
    :ivar project: whether Keystone has the project of the volume
    :ivar evidence: of all that
    :ivar unknown: why nothing can be concluded; empty where something can
    """

    def __init__(self, cloud: api.Cloud, volume_id: str) -> None:
        self._cloud = cloud
        self._volume_id = volume_id
        self.volume: model.Volume | None = None
        self._shown: dict[str, Mapping[str, Any]] = {}
        self.attachments: dict[str, model.Attachment] = {}
        self.servers: dict[str, model.Server] = {}
        self.project = model.Project()
        self.evidence: list[model.Evidence] = []
        self.unknown = ''

    @property
    def named(self) -> set[str]:
        """The ids of the servers that Cinder's attachments name."""
        return {
            item.server_id
            for item in self.attachments.values()
            if item.server_id
        }

    def limit(self, servers: Collection[str]) -> None:
        """Set ``unknown`` if there are too many attachments or servers.

        :param servers: ids of servers, beside those that Cinder names
        """
        wanted = self.named.union(servers)
        if max(len(self.attachments), len(wanted)) > MAX_ATTACHMENTS:
            self.attachments.clear()
            self.servers.clear()
            del self.evidence[MAX_ATTACHMENTS:]
            self.unknown = f'it has more than {MAX_ATTACHMENTS} attachments'

    def read_volume(self) -> None:
        """Read the volume, with the attachments that it shows.

        It shows the attached ones: of the others, those known before remain.
        """
        response, row = self._cloud.volume(self._volume_id)
        self.evidence.append(response.evidence)
        if row is None:
            self.volume = None
            if not response.not_found:
                self.unknown = response.why
            return
        self.volume = rows.volume(row)
        self._shown = {
            str(item['attachment_id']): item
            for item in row.get('attachments', ())
        }
        self.attachments = {
            item.id: item
            for item in self.attachments.values()
            if item.status != 'attached'
        } | {
            found: rows.shown_attachment(item)
            for found, item in self._shown.items()
        }

    def read_attachments(self) -> None:
        """Read the attachments, of which the volume shows some details."""
        self.attachments = {}
        try:
            for page in self._cloud.attachments(volume_id=self._volume_id):
                if page.rows or not self.attachments:
                    self.evidence.append(
                        page.evidence.with_result(
                            f'Cinder: {len(page.rows)} attachments'
                        )
                    )
                for row in page.rows:
                    if row.get('volume_id') == self._volume_id:
                        shown = self._shown.get(str(row['id']), {})
                        item = rows.attachment({**shown, **row})
                        self.attachments[item.id] = item
        except rest.CloudError as exc:
            self.unknown = str(exc)

    def read_attach_status(self) -> None:
        """Read the attach_status, if it may contradict the rest.

        The API does not show it, but administrators can filter by it.
        """
        if self.volume is None:
            return
        wrong = _WRONG_ATTACH_STATUS.get(
            (self.volume.status, bool(self.attachments))
        )
        if wrong is None:
            return
        response = self._cloud.cinder(
            'GET',
            f'/volumes?all_tenants=1&id={self._volume_id}'
            f'&attach_status={wrong}',
        )
        volumes = response.body.get('volumes')
        if response.status != 200 or not isinstance(volumes, list):
            self.evidence.append(response.evidence)
            return
        found = any(row.get('id') == self._volume_id for row in volumes)
        if found:
            self.set_attach_status(wrong)
        self.evidence.append(
            response.evidence.with_result(
                f'attach_status {"is" if found else "is not"} {wrong}'
            )
        )

    def set_attach_status(self, attach_status: str) -> None:
        """Set the volume's attach_status."""
        if self.volume is not None:
            self.volume = dataclasses.replace(
                self.volume, attach_status=attach_status
            )

    def read_server(self, server_id: str) -> None:
        """Read a server, and whether it has the volume."""
        self.servers[server_id], evidence = self._cloud.server(
            server_id, self._volume_id
        )
        self.evidence.append(evidence)

    def read_attachment_id(self, server_id: str) -> None:
        """Read by which attachment a server has the volume, if it does."""
        server = self.servers[server_id]
        if server.presence is model.Presence.HAS:
            self.servers[server_id], evidence = self._cloud.nova_attachment(
                server, self._volume_id
            )
            self.evidence.append(evidence)

    def read_disks(self, server_id: str) -> None:
        """Read the other volumes of a server that has one that is gone.

        A hard reboot drops all those that Cinder does not have.
        """
        server = self.servers[server_id]
        if self.volume is None and server.presence is model.Presence.HAS:
            self.servers[server_id], evidence = self._cloud.disks(server)
            self.evidence += evidence

    def read_leftovers(self, server_id: str, cell: str) -> None:
        """Read whether Nova has the volume on a server that is deleted.

        :param cell: where its record is
        """
        server = self.servers[server_id]
        if server.presence is model.Presence.GONE:
            self.servers[server_id], evidence = self._cloud.leftovers_of(
                server, self._volume_id, cell
            )
            self.evidence.append(evidence)

    def read_project(self) -> None:
        """Read whether Keystone has the project of the volume."""
        if self.volume is not None and self.volume.project_id:
            self.project, evidence = self._cloud.project(
                self.volume.project_id
            )
            self.evidence.append(evidence)

    def build(self, rules: foreign.Rules) -> model.Case:
        """The case of the volume.

        :param rules: which attachments are foreign
        """
        return rules.set_apart(
            model.Case(
                self._volume_id,
                self.volume,
                tuple(self.attachments.values()),
                servers=self.servers,
                evidence=tuple(self.evidence),
                project=self.project,
                unknown=self.unknown,
            )
        )
