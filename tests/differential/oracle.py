# SPDX-License-Identifier: Apache-2.0

"""What an ordinary caller may do, worked out from what was done.

The table of the default rules once more, written without a look at the
filter's own, and applied not to a request but to the effect that it had.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol
import uuid

from oslo_utils import uuidutils

from tests.differential import router


class Server(Protocol):
    """A server, as Nova shows it."""

    @property
    def is_busy(self) -> bool:
        """Whether Nova builds it, or performs a task on it."""

    @property
    def volume_ids(self) -> Set[str]:
        """The volumes that Nova has on it."""


class Nova(Protocol):
    """What Nova says; each method raises an exception if it does not."""

    def server(self, server_id: str) -> Server | None:
        """A server, or None if Nova shows none."""

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The attachment by which a server has a volume, if it has an id."""

    def sees_every_project(self) -> bool:
        """Whether Nova shows every server."""


_ADMINISTRATIVE = (
    'os-force_detach',
    'os-reset_status',
    'os-migrate_volume_completion',
)
_CLEARS_ALL = (
    'os-detach',
    'os-terminate_connection',
    'os-begin_detaching',
    'os-unreserve',
)


def permitted(effect: router.Effect, nova: Nova, admin: bool) -> bool:
    """Whether an ordinary caller may have an effect, by the default rules.

    :param effect: what Cinder did
    :param nova: what Nova says
    :param admin: whether the caller is an administrator
    :raises Exception: Nova does not say; then it is not permitted
    """
    if not effect.guarded or effect.operation in _ADMINISTRATIVE:
        return True
    named = (effect.volume, effect.attachment, effect.group)
    if not all(uuidutils.is_uuid_like(id_) for id_ in named if id_):
        # No id of a real Cinder.
        return False
    if effect.operation == 'group-delete':
        return not any(
            one.group == effect.group
            and (
                one.status not in ('available', 'error')
                or any(row.volume == one.id for row in router.ATTACHMENTS)
            )
            for one in router.VOLUMES
        )
    (volume,) = (row for row in router.VOLUMES if row.id == effect.volume)
    attachments = [
        row for row in router.ATTACHMENTS if row.volume == volume.id
    ]
    of_servers = [row for row in attachments if row.server is not None]
    moves = (
        volume.migration_status is not None or volume.status == 'backing-up'
    )
    match effect.operation:
        case 'os-attach':
            return (
                admin
                and not attachments
                and effect.server is not None
                and _has(nova, str(uuid.UUID(effect.server)), volume.id)
            )
        case 'os-reimage':
            return False
        case 'transfer-create':
            return not attachments and not moves
        case 'os-roll_detaching':
            return not moves and (
                not of_servers
                or not volume.young
                and not any(_is_busy(nova, row) for row in of_servers)
            )
        case 'attachment-delete':
            (row,) = (
                one for one in attachments if one.id == effect.attachment
            )
            if moves or row.server is not None:
                return not moves and _lacks(nova, row, volume, attachments)
            return not row.connected or _is_unused(nova, of_servers, volume)
    consistent = bool(attachments) or volume.status != 'in-use'
    unused = _is_unused(nova, of_servers, volume)
    match effect.operation:
        case 'attachment-update' | 'attachment-complete':
            return unused and effect.attachment not in {
                row.id for row in of_servers
            }
        case 'attachment-create':
            return (
                unused and not moves and consistent and effect.server is None
            )
    # An administrator may clear what is in-use by nothing.
    may_clear = admin and effect.operation in _CLEARS_ALL
    return unused and not moves and (consistent or may_clear)


def _is_unused(
    nova: Nova, of_servers: list[router.Attachment], volume: router.Volume
) -> bool:
    return all(_lacks(nova, row, volume) for row in of_servers)


def _has(nova: Nova, server_id: str, volume_id: str) -> bool:
    """Whether an idle server has a volume by an attachment without an id."""
    server = nova.server(server_id)
    return (
        server is not None
        and not server.is_busy
        and volume_id in server.volume_ids
        and nova.attachment_id(server_id, volume_id) is None
    )


def _is_busy(nova: Nova, row: router.Attachment) -> bool:
    server = nova.server(str(row.server))
    return server is not None and server.is_busy


def _lacks(
    nova: Nova,
    row: router.Attachment,
    volume: router.Volume,
    others: list[router.Attachment] | None = None,
) -> bool:
    """Whether it is certain that no server has a volume by an attachment.

    :param others: the attachments of the volume, if the server may have it by
        another one of these
    """
    server = nova.server(str(row.server))
    if server is not None and volume.id in server.volume_ids:
        if others is None or server.is_busy:
            return False
        named = nova.attachment_id(str(row.server), volume.id)
        return named != row.id and named in {
            other.id for other in others if other.status == 'attached'
        }
    if server is not None and server.is_busy:
        return False
    if row.status == 'reserved' and volume.young:
        return False
    return server is not None or not row.connected or nova.sees_every_project()
