# SPDX-License-Identifier: Apache-2.0

"""What the tables of a cloud show of single volumes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import json
import sqlite3

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import reader
from attachguard.audit.collect import rest
from attachguard.audit.collect import rows

# Named as the APIs name them, to be parsed likewise.
_COLUMNS = """
SELECT volume.id, project AS "os-vol-tenant-attr:tenant_id", status,
       migration_status, multiattach, updated_at, name, evidence
"""
_VOLUME = f"""{_COLUMNS}
FROM volumes AS volume JOIN pages ON pages.id = page WHERE volume.id = ?
"""
_OWNERLESS = f"""{_COLUMNS}
FROM ownerless AS volume JOIN pages ON pages.id = page WHERE volume.id = ?
"""
_ATTACHMENTS = """
SELECT attachments.volume, attachments.id, server AS instance,
       attachments.status,
       coalesce(volumes.host_name, attachments.host_name) AS host_name,
       coalesce(volumes.device, attachments.device) AS device,
       coalesce(volumes.attached_at, attachments.attached_at) AS attached_at,
       evidence, (
           SELECT project FROM volumes WHERE volumes.id = attachments.volume
       ) AS project, (
           SELECT name FROM volumes WHERE volumes.id = attachments.volume
       ) AS volume_name
FROM attachments JOIN pages ON pages.id = attachments.page
LEFT JOIN volumes ON volumes.id = attachments.volume
                 AND volumes.attachment = attachments.id
"""
_SERVERS = """
SELECT DISTINCT server_volumes.server, task_state, status, updated, host,
       name, evidence
FROM server_volumes JOIN pages ON pages.id = page
LEFT JOIN servers ON servers.server = server_volumes.server
WHERE volume = ?
"""
_LEFTOVERS = """
SELECT server, cell, evidence FROM leftovers JOIN pages ON pages.id = page
WHERE volume = ?
"""
_ATTACH_STATUS = """
SELECT attach_status, evidence
FROM mismatched JOIN pages ON pages.id = page WHERE volume = ? AND status = ?
"""


class Cases:
    """Cases of suspects, from the tables and one query for each suspect.

    :param cloud: to query
    :param tables: with everything that was read
    :param rules: which attachments are foreign
    :param progress: called with the number of suspects, and for each
    """

    def __init__(
        self,
        cloud: api.Cloud,
        tables: sqlite3.Connection,
        rules: foreign.Rules,
        progress: reader.Progress,
    ) -> None:
        self._cloud = cloud
        self._tables = tables
        self._rules = rules
        self._progress = progress
        self._failures = 0

    def suspects(
        self, wanted: Callable[[str | None], bool]
    ) -> Iterator[model.Case]:
        """The cases of all suspects.

        :param wanted: whether to include the volumes of a project; it is None
            where the volume was not listed
        """
        (number,) = self._tables.execute(
            'SELECT count(DISTINCT volume) FROM suspects'
        ).fetchone()
        self._progress('suspects', number)
        for volume_id, project_id in self._tables.execute(
            """
            SELECT DISTINCT volume, coalesce(volumes.project,
                                             ownerless.project)
            FROM (SELECT volume FROM suspects
                  UNION SELECT id FROM ownerless)
            LEFT JOIN volumes ON volumes.id = volume
            LEFT JOIN ownerless ON ownerless.id = volume
            ORDER BY volume
            """
        ):
            self._progress('checking', 1)
            if wanted(project_id):
                yield self._case(volume_id)

    def without_server(
        self, wanted: Callable[[str | None], bool]
    ) -> Iterator[tuple[str, str | None, model.Attachment]]:
        """The attachments that name no server, which need no query.

        :param wanted: as for :meth:`suspects`
        :returns: with the ids and names of their volumes
        """
        for row in self._tables.execute(
            f'{_ATTACHMENTS} WHERE server IS NULL'
        ):
            if wanted(row['project']):
                name = rows.printable(row['volume_name'])
                yield row['volume'], name, rows.attachment(dict(row))

    def holders(self, volume_id: str) -> list[str]:
        """The servers that Nova listed with a volume."""
        found = self._tables.execute(_SERVERS, (volume_id,))
        return [row['server'] for row in found]

    def leftovers(self, volume_id: str) -> dict[str, str]:
        """The deleted servers on which Nova has a volume, with the cell."""
        found = self._tables.execute(_LEFTOVERS, (volume_id,))
        return {row['server']: row['cell'] for row in found}

    def _case(self, volume_id: str) -> model.Case:
        builder = case_builder.CaseBuilder(self._cloud, volume_id)
        if self._failures >= rest.PATIENCE:
            builder.unknown = (
                f'not queried: the last {rest.PATIENCE} queries failed'
            )
            return builder.build(self._rules)
        self._load(builder, volume_id)
        builder.limit(builder.servers)
        if builder.unknown:
            return builder.build(self._rules)
        self._query(builder, volume_id)
        if self._ownerless(volume_id) is not None:
            # The project was queried when the volume was listed.
            builder.read_project()
        status = None if builder.volume is None else builder.volume.status
        for row in self._tables.execute(_ATTACH_STATUS, (volume_id, status)):
            builder.set_attach_status(row['attach_status'])
            builder.evidence.append(
                _evidence(row, f'attach_status is {row["attach_status"]}')
            )
        case = builder.build(self._rules)
        failed = case.unknown or case.unknown_servers
        self._failures = self._failures + 1 if failed else 0
        return case

    def _ownerless(self, volume_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._tables.execute(
            _OWNERLESS, (volume_id,)
        ).fetchone()
        return row

    def _load(self, builder: case_builder.CaseBuilder, volume_id: str) -> None:
        """Start a case with what was listed."""
        row = self._tables.execute(_VOLUME, (volume_id,)).fetchone()
        row = row or self._ownerless(volume_id)
        if row is not None:
            builder.volume = rows.volume(dict(row))
            builder.evidence.append(_evidence(row, f'volume {row["status"]}'))
        for row in self._tables.execute(
            f'{_ATTACHMENTS} WHERE attachments.volume = ?', (volume_id,)
        ):
            item = rows.attachment(dict(row))
            builder.attachments[item.id] = item
            text = f'attachment {item.id} {item.status} to {item.server_id}'
            builder.evidence.append(_evidence(row, text))
        for row in self._tables.execute(_SERVERS, (volume_id,)):
            server_id = row['server']
            builder.servers[server_id] = model.Server(
                server_id,
                model.Presence.HAS,
                task_state=row['task_state'],
                status=row['status'],
                updated=row['updated'],
                host=row['host'],
                name=rows.printable(row['name']),
            )
            builder.evidence.append(
                _evidence(row, f'Nova: server {server_id} has it')
            )
        for row in self._tables.execute(_LEFTOVERS, (volume_id,)):
            builder.evidence.append(
                _evidence(row, f'Nova: deleted server {row["server"]} has it')
            )

    def _query(
        self, builder: case_builder.CaseBuilder, volume_id: str
    ) -> None:
        """Query what the lists leave open."""
        read_volume = builder.volume is None
        leftovers = self.leftovers(volume_id)
        for server_id, query in self._tables.execute(
            'SELECT server, query FROM suspects WHERE volume = ?', (volume_id,)
        ):
            if query == 'volume':
                read_volume = True
            if server_id:
                builder.read_server(server_id)
                builder.read_attachment_id(server_id)
                if server_id in leftovers:
                    builder.read_leftovers(server_id, leftovers[server_id])
        if read_volume:
            builder.read_volume()
        if builder.volume is None and not builder.unknown:
            for server_id in list(builder.servers):
                builder.read_disks(server_id)
        if builder.volume is not None and builder.volume.status == 'attaching':
            # It waits for the attachment that Nova has, or for a forged one.
            for item in builder.attachments.values():
                server = builder.servers.get(item.server_id or '')
                if (
                    item.status == 'attaching'
                    and server is not None
                    and server.attachment_id is None
                ):
                    builder.read_server(server.id)
                    builder.read_attachment_id(server.id)


def _evidence(row: sqlite3.Row, result: str) -> model.Evidence:
    return model.Evidence(**json.loads(row['evidence'])).with_result(result)
