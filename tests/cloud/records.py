# SPDX-License-Identifier: Apache-2.0

"""What is in the databases of Cinder and Nova, to wait for it.

To ask the APIs so often would be most of what the cloud does. What a test
says of the outcome, it has from the APIs.
"""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterable
import dataclasses

from tests.cloud import backends

#: The status of what does not exist.
GONE = 'gone'

_VOLUMES = (
    'SELECT id, status, migration_status FROM volumes '
    'WHERE NOT deleted AND id IN %s'
)
_ATTACHMENTS = (
    'SELECT id, volume_id, attach_status FROM volume_attachment '
    'WHERE NOT deleted AND volume_id IN %s'
)
_SERVERS = (
    'SELECT uuid, IF(deleted, NULL, vm_state), task_state, host '
    'FROM instances WHERE uuid IN %s'
)
_MAPPINGS = (
    'SELECT volume_id, attachment_id FROM block_device_mapping '
    'WHERE NOT deleted AND instance_uuid IN %s'
)
_FAILURES = (
    'SELECT e.id FROM instance_actions a JOIN instance_actions_events e '
    "ON e.action_id = a.id WHERE e.result = 'Error' AND a.instance_uuid IN %s"
)

# nova/api/openstack/common.py has more, of servers that are not idle.
_EVERYTHING = (
    ('cinder', 'volumes', 'id'),
    ('cinder', 'volume_attachment', 'volume_id'),
    ('cinder', 'volume_admin_metadata', 'volume_id'),
    ('nova_cell1', 'block_device_mapping', 'volume_id'),
)

_STATUSES = {
    'active': 'ACTIVE',
    'building': 'BUILD',
    'error': 'ERROR',
    'resized': 'VERIFY_RESIZE',
    'shelved_offloaded': 'SHELVED_OFFLOADED',
    'stopped': 'SHUTOFF',
}


@dataclasses.dataclass(frozen=True)
class Records:
    """What there was at one moment; equal where nothing has moved.

    :param volumes: id to status
    :param servers: id to status, and to what it is doing
    :param rest: whatever else tells that something moves
    """

    volumes: dict[str, str]
    servers: dict[str, tuple[str, str | None]]
    rest: object

    def status(self, wanted: str) -> str:
        """The status of a volume or server.

        :param wanted: its id
        :returns: ``gone`` where there is none; of a server that is not at
            rest, with what it is doing
        """
        if wanted in self.volumes:
            return self.volumes[wanted]
        status, task = self.servers[wanted]
        return f'{status}, {task}' if task else status

    def are_at_rest(self, passing: Container[str]) -> bool:
        """Whether neither a status nor a task says that something moves.

        :param passing: statuses that a service is about to leave
        """
        return not any(
            status in passing for status in self.volumes.values()
        ) and not any(task for _status, task in self.servers.values())


def read(
    mariadb: backends.MariaDB, volumes: Iterable[str], servers: Iterable[str]
) -> Records:
    """Look into the databases.

    :param mariadb: where they are
    :param volumes: the ids of the volumes
    :param servers: the ids of the servers
    """
    # SQL has no empty list.
    volume_ids, server_ids = [*volumes, ''], [*servers, '']
    found, attachments, elsewhere, placed, mappings = mariadb.read(
        ('cinder', _VOLUMES, [volume_ids]),
        ('cinder', _ATTACHMENTS, [volume_ids]),
        ('nova_cell0', _SERVERS, [server_ids]),
        ('nova_cell1', _SERVERS, [server_ids]),
        ('nova_cell1', _MAPPINGS, [server_ids]),
    )
    return Records(
        {
            **dict.fromkeys(volumes, GONE),
            **{row[0]: row[1] for row in found},
        },
        {
            # One that is in no cell yet is about to be built.
            **dict.fromkeys(servers, ('BUILD', None)),
            **{
                row[0]: (_STATUSES.get(row[1], row[1]), row[2])
                if row[1]
                else (GONE, None)
                for row in [*elsewhere, *placed]
            },
        },
        (
            sorted(found),
            sorted(attachments),
            placed,
            sorted(mappings, key=str),
        ),
    )


def failures(mariadb: backends.MariaDB, servers: Iterable[str]) -> int:
    """How often Nova failed to do something with servers.

    :param mariadb: where the databases are
    :param servers: the ids of the servers
    """
    (events,) = mariadb.read(('nova_cell1', _FAILURES, [[*servers, '']]))
    return len(events)


def everything(
    mariadb: backends.MariaDB, volumes: Iterable[str]
) -> list[list[tuple[object, ...]]]:
    """Every record of volumes and their attachments, to the last byte.

    Those that are deleted, too, and with when each has last changed.

    :param mariadb: where the databases are
    :param volumes: the ids of the volumes
    """
    wanted = [*volumes, '']
    found = mariadb.read(
        *(
            (database, f'SELECT * FROM {table} WHERE {key} IN %s', [wanted])
            for database, table, key in _EVERYTHING
        )
    )
    return [sorted(rows, key=repr) for rows in found]
