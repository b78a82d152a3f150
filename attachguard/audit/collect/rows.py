# SPDX-License-Identifier: Apache-2.0

"""Volumes, attachments and servers, parsed from the rows of the APIs."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any

from attachguard.audit import model
from attachguard.guard import request as guard_request

# The form of nearly all ids: faster to match than to parse.
_CANONICAL = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


def canonical(server_id: str | None) -> str | None:
    """A server's id in Nova's form.

    :param server_id: as Cinder has it, in any of the forms that it accepts
    :returns: unchanged if it is no UUID; None if it is empty
    """
    if not server_id:
        return None
    if _CANONICAL.fullmatch(server_id):
        return server_id
    return guard_request.canonical_uuid(server_id) or server_id


def printable(text: str | None) -> str | None:
    """A text of a user, harmless on a terminal.

    :param text: the name of a host or a mount point, of any characters
    :returns: with escapes for the characters that are not printable
    """
    if text is None or text.isprintable():
        return text
    return text.encode('unicode_escape').decode()


def volume(row: Mapping[str, Any]) -> model.Volume:
    """A volume.

    :param row: of ``GET /volumes/{id}`` or a detailed list
    """
    return model.Volume(
        str(row['id']),
        str(row.get('os-vol-tenant-attr:tenant_id') or ''),
        str(row['status']),
        migration_status=row.get('migration_status'),
        multiattach=bool(row.get('multiattach')),
        updated_at=row.get('updated_at') or row.get('created_at'),
        name=printable(row.get('name')),
    )


def attachment(row: Mapping[str, Any]) -> model.Attachment:
    """An attachment.

    :param row: of the list of attachments, with the host, device and time that
        the volume shows, if it does
    """
    return model.Attachment(
        str(row['id']),
        canonical(row.get('instance')),
        str(row.get('status')),
        printable(row.get('host_name')),
        printable(row.get('device')),
        row.get('attached_at'),
    )


def shown_attachment(row: Mapping[str, Any]) -> model.Attachment:
    """An attachment that a volume shows, which only shows attached ones.

    :param row: one of the ``attachments`` of a volume
    """
    listed = {
        'id': row['attachment_id'],
        'instance': row['server_id'],
        'status': 'attached',
    }
    return attachment({**row, **listed})


def server(row: object, server_id: str, volume_id: str) -> model.Server:
    """A server, with whether it has a volume.

    :param row: of ``GET /servers/{id}``; no mapping if the response has none
    :param server_id: as Cinder has it
    """

    def unknown(why: str) -> model.Server:
        return model.Server(server_id, model.Presence.UNKNOWN, why=why)

    if not isinstance(row, Mapping):
        return unknown('no server in the response')
    attached = row.get('os-extended-volumes:volumes_attached')
    if row.get('status') == 'UNKNOWN' or not isinstance(attached, list):
        return unknown('its cell does not respond')
    if row.get('id') != canonical(server_id):
        return unknown('Nova shows another server')
    mappings = sum(item.get('id') == volume_id for item in attached)
    return model.Server(
        server_id,
        model.Presence.HAS if mappings else model.Presence.LACKS,
        task_state=row.get('OS-EXT-STS:task_state'),
        status=row.get('status'),
        updated=row.get('updated'),
        mappings=mappings,
        host=row.get('OS-EXT-SRV-ATTR:host'),
        root_device=row.get('OS-EXT-SRV-ATTR:root_device_name'),
        name=printable(row.get('name')),
    )
