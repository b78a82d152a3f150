# SPDX-License-Identifier: Apache-2.0
"""The table of what is guarded: Cinder's calls that change an attachment.

Also those that take away what protects one: a volume that is being attached
can be overwritten, given to another project, or deleted with its group.

Source: the Block Storage API v3 reference, "Volume actions", "Attachments",
"Volume transfers" and "Generic volume groups".
"""

from __future__ import annotations

import dataclasses
import enum


class ServerSource(enum.Enum):
    """Where the servers come from that an operation is about."""

    BODY = 'the request body'
    VOLUME = "the volume's attachments"
    ATTACHMENT = 'the attachment'
    GROUP = "the attachments of the group's volumes"


@dataclasses.dataclass(frozen=True)
class Operation:
    """One of Cinder's calls that change an attachment.

    :param name: the action's key in the body, or ``<resource>-<verb>``
    :param method: the HTTP method, as Cinder's router sees it
    :param path: the path, as the API reference writes it
    :param server_source: where the servers come from that it is about
    :param description: what it does, for the policy reference
    :param clears: whether it clears an attachment, or prepares that
    """

    name: str
    method: str
    path: str
    server_source: ServerSource
    description: str
    clears: bool = False


_ACTION = '/volumes/{volume_id}/action'
_TRANSFERS = '/volume-transfers'


def _action(
    name: str,
    description: str,
    server_source: ServerSource = ServerSource.VOLUME,
    clears: bool = False,
) -> Operation:
    return Operation(name, 'POST', _ACTION, server_source, description, clears)


ATTACHMENT_CREATE = Operation(
    'attachment-create',
    'POST',
    '/attachments',
    ServerSource.BODY,
    'Reserve a volume for a server, or connect it at once.',
)
ATTACHMENT_UPDATE = Operation(
    'attachment-update',
    'PUT',
    '/attachments/{attachment_id}',
    ServerSource.ATTACHMENT,
    'Connect a reserved attachment to a host.',
)
ATTACHMENT_COMPLETE = Operation(
    'attachment-complete',
    'POST',
    '/attachments/{attachment_id}/action',
    ServerSource.ATTACHMENT,
    'Mark an attachment as attached, and its volume as in-use.',
)
ATTACHMENT_DELETE = Operation(
    'attachment-delete',
    'DELETE',
    '/attachments/{attachment_id}',
    ServerSource.ATTACHMENT,
    'Remove an attachment, and withdraw its export.',
    clears=True,
)

TRANSFER_CREATE = Operation(
    'transfer-create',
    'POST',
    _TRANSFERS,
    ServerSource.VOLUME,
    'Offer a volume to another project.',
)

GROUP_DELETE = Operation(
    'group-delete',
    'POST',
    '/groups/{group_id}/action',
    ServerSource.GROUP,
    'Delete a group and its volumes.',
)

#: Actions of a volume, by their key in the body.
VOLUME_ACTIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        _action(
            'os-attach',
            'Record that a volume is attached to a server or a host.',
            ServerSource.BODY,
        ),
        _action(
            'os-detach', 'Clear the record of an attachment.', clears=True
        ),
        _action('os-reserve', 'Mark a volume as about to be attached.'),
        _action('os-unreserve', 'Undo os-reserve.'),
        _action(
            'os-begin_detaching',
            'Mark a volume as about to be detached.',
            clears=True,
        ),
        _action('os-roll_detaching', 'Undo os-begin_detaching.'),
        _action('os-initialize_connection', 'Export a volume to a connector.'),
        _action(
            'os-terminate_connection',
            'Withdraw the export of a volume from a connector.',
            clears=True,
        ),
        _action('os-force_detach', 'Clear an attachment in any state.'),
        _action(
            'os-reset_status',
            "Overwrite a volume's status, attach status or migration status.",
        ),
        _action(
            'os-migrate_volume_completion',
            'Replace a volume, and its attachments, by its migrated copy.',
        ),
        _action('os-reimage', 'Overwrite a volume with an image.'),
    )
}

#: Actions of an attachment, by their key in the body.
ATTACHMENT_ACTIONS: dict[str, Operation] = {'os-complete': ATTACHMENT_COMPLETE}

#: Everything that is guarded, by name.
OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        *VOLUME_ACTIONS.values(),
        ATTACHMENT_CREATE,
        ATTACHMENT_UPDATE,
        ATTACHMENT_COMPLETE,
        ATTACHMENT_DELETE,
        TRANSFER_CREATE,
        GROUP_DELETE,
    )
}
