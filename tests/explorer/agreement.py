# SPDX-License-Identifier: Apache-2.0
"""What must be true of both sides' records when nothing moves any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.explorer import gate

if TYPE_CHECKING:
    from tests.explorer import world as worlds

# Of a volume that a server has.
_USED = {'in-use', 'reserved'}


def disagreements(world: worlds.World) -> list[str]:
    """Compare what both sides say to an administrator.

    :param world: the servers and volumes
    :returns: what does not agree, a line each
    """
    mapped: dict[str, dict[str, str]] = {}
    shelved = set()
    for server in world.servers.values():
        try:
            status = world.admin.nova.servers.get(server).status
            found = world.admin.nova.volumes.get_server_volumes(server)
        except nova_exceptions.NotFound:
            continue
        if status == 'SHELVED_OFFLOADED':
            shelved.add(server)
        for one in found:
            mapped.setdefault(one.volumeId, {})[server] = one.attachment_id
    for volume in mapped:
        if volume not in world.volumes.values():
            # The target of a migration.
            world.volumes[volume] = volume
    return [
        f'{name}: {what}'
        for name, volume in list(world.volumes.items())
        for what in _of_volume(world, name, mapped.get(volume, {}), shelved)
    ]


def _of_volume(
    world: worlds.World, name: str, mapped: dict[str, str], shelved: set[str]
) -> Iterator[str]:
    try:
        volume = world.admin.cinder.volumes.get(world.volumes[name])
    except cinder_exceptions.NotFound:
        if mapped:
            yield 'a server has it, and it is deleted'
        elif 'transfer-create' in world.passed and (
            'delete' not in world.passed
        ):
            yield 'Nova deleted it, and it was of another project'
        return
    found = {record.id: record for record in world.attachments(name)}
    if mapped:
        yield from _of_used(world, volume, found, mapped, shelved)
    elif volume.status in ('in-use', 'detaching') and not found:
        yield f'it is {volume.status} by nothing'
    for record in found.values():
        if record.instance and mapped.get(record.instance) != record.id:
            yield f'Nova does not have the attachment: {record.status}'


def _of_used(
    world: worlds.World,
    volume: Any,
    found: dict[str, Any],
    mapped: dict[str, str],
    shelved: set[str],
) -> Iterator[str]:
    """Of a volume that a server has."""
    project = getattr(volume, 'os-vol-tenant-attr:tenant_id')
    if project != world.owner:
        yield 'a server has it, and it was given to another project'
    if volume.status not in _USED:
        yield f'a server has it, and it is {volume.status}'
    for server, attachment in mapped.items():
        record = found.get(attachment)
        if record is None:
            yield 'Cinder does not have the attachment'
        elif record.instance != server:
            yield 'the attachment is of another server'
        elif record.status != 'attached' and server not in shelved:
            yield f'a server has it, and the attachment is {record.status}'
    if world.intruders & found.keys():
        yield 'a server has it, and somebody else, too'
    last = _last_export(world, volume.id)
    members = {member.request_id for member in world.members.values()}
    if last[0] == 'remove' and last[1] in members:
        yield 'a server has it, and a member removed its export'


def _last_export(world: worlds.World, volume: str) -> tuple[str, str]:
    """The last change of the export of a volume, and the request for it."""
    log = world.cloud.directory / gate.EXPORTS
    last = ('', '')
    for line in log.read_text().splitlines() if log.exists() else ():
        what, which, request = line.split()
        if which == volume:
            last = what, request
    return last
