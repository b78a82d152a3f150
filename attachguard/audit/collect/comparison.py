# SPDX-License-Identifier: Apache-2.0

"""Cinder's tables compared with Nova's: suspects, and doubts about the whole.

A list proves that something exists, never that it does not: Nova leaves out
servers whose cell is down, and a deletion during the reading shifts the pages.
So each difference is a suspect, which costs one query of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
import datetime
import sqlite3

from attachguard.audit import model
from attachguard.audit.collect import api

# This many attachments that Nova does not have prove nothing.
_FEW = 20

# Nova may still be attaching a volume that changed so recently, or may have
# just detached it.
_RECENT = datetime.timedelta(minutes=2)

# How often servers are listed again, to find some that still exist when Nova
# is queried for them, and how many are tried.
_TRIES = 3
_SHOWN = 5


# Cinder names a server that Nova did not list with the volume.
_MISSING = """
FROM attachments WHERE server IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM server_volumes
    WHERE server_volumes.volume = attachments.volume
      AND server_volumes.server = attachments.server)
"""

# A query for the volume, or for the server alone. The server is '' where it is
# the volume as a whole. Of several queries for a pair, the first is made.
_FIND_SUSPECTS = f"""
INSERT OR IGNORE INTO suspects SELECT volume, server, 'server' {_MISSING};

-- Nova lists a server that Cinder does not name.
INSERT OR IGNORE INTO suspects
SELECT volume, server, 'volume' FROM server_volumes
WHERE NOT EXISTS (
    SELECT 1 FROM attachments
    WHERE attachments.volume = server_volumes.volume
      AND attachments.server = server_volumes.server);

-- Cinder has several attachments for what Nova has once.
INSERT OR IGNORE INTO suspects
SELECT volume, server, 'server' FROM attachments
WHERE server IS NOT NULL GROUP BY volume, server HAVING count(*) > 1;

-- The volume was not listed, or was listed without attachments.
INSERT OR IGNORE INTO suspects
SELECT volume, '', 'volume' FROM attachments
WHERE NOT EXISTS (SELECT 1 FROM volumes WHERE volumes.id = attachments.volume);

-- Nova has it twice on a server.
INSERT OR IGNORE INTO suspects
SELECT volume, server, 'server' FROM server_volumes
GROUP BY volume, server HAVING count(*) > 1;

-- Nova has it on a server that is deleted.
INSERT OR IGNORE INTO suspects SELECT volume, server, 'server' FROM leftovers;

-- Several servers have what only one may have.
INSERT OR IGNORE INTO suspects
SELECT volume, server, 'server' FROM server_volumes
WHERE volume IN (
    SELECT volume FROM server_volumes
    WHERE EXISTS (SELECT 1 FROM volumes
                  WHERE volumes.id = volume AND NOT multiattach)
    GROUP BY volume HAVING count(DISTINCT server) > 1);

-- It is connected to another compute host than the server's.
INSERT OR IGNORE INTO suspects
SELECT attachments.volume, attachments.server, 'server' FROM attachments
JOIN server_volumes ON server_volumes.volume = attachments.volume
                   AND server_volumes.server = attachments.server
LEFT JOIN volumes ON volumes.id = attachments.volume
                 AND volumes.attachment = attachments.id
WHERE coalesce(volumes.host_name, attachments.host_name) != host
  AND coalesce(volumes.host_name, attachments.host_name) IN (
    SELECT host FROM compute_hosts);

-- Nova uses another attachment. Only its databases list the attachment ids.
INSERT OR IGNORE INTO suspects
SELECT volume, server, 'server' FROM server_volumes
WHERE attachment IS NOT NULL AND EXISTS (
    SELECT 1 FROM attachments
    WHERE attachments.volume = server_volumes.volume
      AND attachments.server = server_volumes.server)
AND NOT EXISTS (
    SELECT 1 FROM attachments
    WHERE attachments.volume = server_volumes.volume
      AND attachments.server = server_volumes.server
      AND attachments.id = server_volumes.attachment);

-- The volumes of a shelved server are reserved rightly, of others not.
INSERT OR IGNORE INTO suspects
SELECT attachments.volume, attachments.server, 'server' FROM volumes
JOIN attachments ON attachments.volume = volumes.id
WHERE volumes.status = 'reserved' AND server IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM servers WHERE servers.server = attachments.server);

-- Something reserved it, and names no server.
INSERT OR IGNORE INTO suspects
SELECT volume, '', 'volume' FROM attachments
WHERE server IS NULL AND status != 'attached';

-- A status that needs a reason.
INSERT OR IGNORE INTO suspects
SELECT id, '', 'volume' FROM volumes
WHERE status NOT IN ('in-use', 'reserved')
OR coalesce(migration_status, '') NOT IN ('', 'none', 'success', 'error')
OR NOT EXISTS (
    SELECT 1 FROM attachments WHERE attachments.volume = volumes.id);

INSERT OR IGNORE INTO suspects SELECT volume, '', 'volume' FROM mismatched;
"""  # noqa: S608

# Nova has been doing something with the server for long.
_FIND_STUCK_SERVERS = """
INSERT OR IGNORE INTO suspects
SELECT volume, server_volumes.server, 'server' FROM servers
JOIN server_volumes ON server_volumes.server = servers.server
WHERE task_state IS NOT NULL AND datetime(updated) <= datetime(?)
"""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How many of Cinder's attachments to servers Nova has.

    :param attachments: which were compared
    :param confirmed: which Nova has
    :param missing: volumes and servers of some, where Nova has none
    """

    attachments: int = 0
    confirmed: int = 0
    missing: tuple[tuple[str, str], ...] = ()

    def doubt(self, servers: int) -> str:
        """Why both sides may not belong together; empty where they do.

        :param servers: how many servers Nova lists
        """
        missing = self.attachments - self.confirmed
        if self.attachments and not self.confirmed and not servers:
            return (
                'Nova lists no server at all, and Cinder has '
                f'{self.attachments} attachments to servers'
            )
        if self.attachments and not self.confirmed:
            return (
                'Cinder and Nova agree on none of the compared attachments: '
                'are they of the same cloud and region?'
            )
        if missing > max(_FEW, self.confirmed):
            return (
                f'Nova does not have {missing} of {self.attachments} '
                'attachments that Cinder has: does another Nova use this '
                'Cinder?'
            )
        return ''


def compare(
    tables: sqlite3.Connection,
    hosts: Iterable[str],
    stuck_after: datetime.timedelta,
) -> Agreement:
    """Find the suspects.

    :param tables: with everything that was read
    :param hosts: the compute hosts
    :param stuck_after: what has not changed for so long is stuck
    """
    tables.executemany(
        'INSERT OR IGNORE INTO compute_hosts VALUES (?)',
        [(host,) for host in hosts],
    )
    tables.executescript(_FIND_SUSPECTS)
    tables.execute(
        _FIND_STUCK_SERVERS, (model.stamp(model.now() - stuck_after),)
    )
    (total,) = tables.execute(
        'SELECT count(*) FROM attachments WHERE server IS NOT NULL'
    ).fetchone()
    (missing,) = tables.execute(f'SELECT count(*) {_MISSING}').fetchone()
    if missing < total:
        return Agreement(total, total - missing)
    some = tables.execute(f'SELECT volume, server {_MISSING} LIMIT {_FEW}')
    return Agreement(total, 0, tuple(map(tuple, some)))


def check_again(cloud: api.Cloud, agreement: Agreement) -> Agreement:
    """Query for some attachments, if Nova seems to have none of all.

    In a small cloud they can all be of servers that are built, changed or
    deleted just now, which prove nothing.

    :param agreement: of the lists
    :returns: without those that prove nothing, up to the first one that Nova
        does have
    """
    if agreement.confirmed:
        return agreement
    compared = agreement.attachments
    for volume_id, server_id in agreement.missing[:_FEW]:
        response, row = cloud.volume(volume_id)
        changed = model.moment(row.get('updated_at')) if row else None
        if response.not_found or (changed and model.now() - changed < _RECENT):
            compared -= 1
            continue
        server, _evidence = cloud.server(server_id, volume_id)
        if server.presence is model.Presence.HAS:
            return Agreement(compared, 1)
    return Agreement(compared)


def visibility_doubt(cloud: api.Cloud, others: Collection[str]) -> str:
    """Check whether Nova shows servers of other projects.

    Without the right to see them, all of them would seem not to exist.  Those
    that were deleted since they were listed prove nothing: so some that are
    listed just now are tried, too.

    :param others: ids of servers of other projects
    :returns: the doubt; empty where Nova shows one of them, or there is none
    """
    why = _why_hidden(cloud, others)
    own_project = cloud.project_id()
    for _ in range(_TRIES if why else 0):
        page = next(cloud.servers())
        listed = [
            row['id']
            for row in page.rows
            if row.get('tenant_id') != own_project
            and row.get('status') != 'UNKNOWN'
        ]
        why = _why_hidden(cloud, listed[-_SHOWN:])
        if not why:
            return ''
    return why


def _why_hidden(cloud: api.Cloud, others: Collection[str]) -> str:
    why = ''
    for server_id in others:
        response = cloud.nova(f'/servers/{server_id}')
        if response.status == 200:
            return ''
        if response.not_found or response.status == 403:
            why = (
                f'Nova lists server {server_id} of another project, and does '
                f'not show it ({response.why}): the credentials need the role '
                'admin'
            )
    return why
