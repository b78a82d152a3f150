# SPDX-License-Identifier: Apache-2.0
"""What the APIs of Cinder and Nova report of a stage, in names.

Without ids, the states of two runs can be compared.
"""

from __future__ import annotations

import contextlib
from typing import Any
from typing import TYPE_CHECKING

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

if TYPE_CHECKING:
    from tests.cloud import stage as stages


def read(stage: stages.Stage) -> dict[str, Any]:
    """The state of every volume and server of a stage.

    :param stage: the stage
    :returns: ``volume NAME`` and ``server NAME`` to what both APIs report,
        or None where it is gone
    """
    servers: dict[str, Any] = dict.fromkeys(stage.servers)
    for name, server_id in stage.servers.items():
        with contextlib.suppress(nova_exceptions.NotFound):
            servers[name] = (
                stage.admin.nova.servers.get(server_id),
                stage.mappings(name),
            )
    volumes: dict[str, Any] = dict.fromkeys(stage.volumes)
    for name, volume_id in stage.volumes.items():
        with contextlib.suppress(cinder_exceptions.NotFound):
            volumes[name] = (
                stage.admin.cinder.volumes.get(volume_id),
                stage.attachments(name),
            )
    hosts = {
        found[0].id: getattr(found[0], 'OS-EXT-SRV-ATTR:host')
        for found in servers.values()
        if found
    }
    known = {
        record.id for found in volumes.values() if found for record in found[1]
    }
    return {
        f'volume {name}': found and _volume(stage, found[0], found[1], hosts)
        for name, found in volumes.items()
    } | {
        f'server {name}': found and _server(stage, found[0], found[1], known)
        for name, found in servers.items()
    }


def _volume(
    stage: stages.Stage,
    volume: Any,
    records: list[Any],
    hosts: dict[str, str],
) -> dict[str, Any]:
    names: dict[str | None, str | None] = {None: None}
    names |= {server: name for name, server in stage.servers.items()}
    attachments = [
        {
            'server': names.get(attachment['server_id'], 'somebody else'),
            'device': attachment['device'],
            "on the server's host": (
                attachment['host_name']
                == hosts.get(attachment['server_id'], '')
            ),
        }
        for attachment in volume.attachments
    ]
    return {
        'status': volume.status,
        'attachments': sorted(attachments, key=str),
        'records': sorted(
            f'{record.status} {names.get(record.instance, "somebody else")}'
            for record in records
        ),
    }


def _server(
    stage: stages.Stage, server: Any, mappings: list[Any], records: set[str]
) -> dict[str, Any]:
    names = {volume: name for name, volume in stage.volumes.items()}
    volumes = [
        {
            'volume': names.get(mapping.volumeId, 'another volume'),
            # A server that was shelved has none to name.
            'device': getattr(mapping, 'device', None),
            'kept': not mapping.delete_on_termination,
            "Cinder's attachment": mapping.attachment_id in records,
        }
        for mapping in mappings
    ]
    return {
        'status': server.status,
        'task': getattr(server, 'OS-EXT-STS:task_state'),
        'volumes': sorted(volumes, key=str),
    }
