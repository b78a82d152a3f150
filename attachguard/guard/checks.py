# SPDX-License-Identifier: Apache-2.0
"""The checks that a rule can name, in the words of the table.

Each is a function of the facts about a request
(:mod:`attachguard.guard.facts`): ``cinder:...`` reads what Cinder has, and
``nova:...`` can query Nova.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping

from attachguard.guard import cinder
from attachguard.guard import facts as facts_
from attachguard.guard import operations
from attachguard.guard import request as request_parser
from attachguard.guard.facts import Facts


def is_consistent(facts: Facts) -> bool:
    """Whether the volume is not in-use without any attachment."""
    return bool(facts.attachments) or facts.volume.status not in (
        'in-use',
        'detaching',
    )


def is_detaching(facts: Facts) -> bool:
    """Whether the volume is about to be detached."""
    return facts.volume.status == 'detaching'


def is_idle(facts: Facts) -> bool:
    """Whether Cinder does not work on the volume, or migrate it."""
    return not facts.volume.is_busy


def is_migrating(facts: Facts) -> bool:
    """Whether Cinder migrates the volume, or another one to it."""
    return facts.volume.is_migrating


def has_no_attachment(facts: Facts) -> bool:
    """Whether the volume has no attachment, in any state."""
    return not facts.attachments


def has_no_backup_in_progress(facts: Facts) -> bool:
    """Whether Cinder makes no backup of the volume, whatever its status."""
    return not facts.has_backup_in_progress


def group_is_idle(facts: Facts) -> bool:
    """Whether each volume of the group is available or failed.

    And Cinder does not migrate it.
    """
    return not any(
        volume.is_migrating
        or not (volume.status or '').startswith(('available', 'error'))
        for volume in facts.group_volumes
    )


def group_has_no_attachment(facts: Facts) -> bool:
    """Whether no volume of the group has an attachment, in any state."""
    return not facts.group_has_attachment


def names_no_connector(facts: Facts) -> bool:
    """Whether the body connects no host."""
    return not facts.request.has_connector


def names_no_server(facts: Facts) -> bool:
    """Whether the attachment, or the body, names no server."""
    if facts.is_about_attachment:
        return facts.attachment.server_id is None
    return facts.request.server_id is None


def is_of_volume(facts: Facts) -> bool:
    """Whether the attachment that the body names is one of the volume.

    Cinder would detach that of another volume.
    """
    named = facts.request.attachment_id
    return named is None or named in {item.id for item in facts.attachments}


def server_has_volume(facts: Facts) -> bool:
    """Whether Nova has the volume on the server that the body names.

    And the server is idle, and the attachment has no id: that of a server from
    before the Queens release.
    """
    server_id = _named_server_id(facts)
    if server_id is None:
        return False
    facts.check_may_query()
    if facts.presence_on(server_id) is not facts_.Presence.HAS:
        return False
    return not _is_busy(facts, server_id) and (
        facts.attachment_id(server_id) is None
    )


def no_server_has_volume(facts: Facts) -> bool:
    """Whether no server has the volume, or may have it in a moment.

    By any of its attachments that names a server.
    """
    named = _naming_server(facts)
    if named:
        facts.start(named[0])
    return all(facts.presence(item) not in facts_.USED for item in named)


def attachment_is_unused(facts: Facts) -> bool:
    """Whether no server has the volume by the attachment in the path.

    Nor may have it in a moment. It is unused by a server that is idle, and has
    the volume by another attachment which Cinder has, too. One without a
    server is used if it is connected, perhaps by the connector of the host of
    a server that has the volume: the export of that would go.
    """
    if facts.attachment.server_id is None:
        return not facts.attachment.is_connected or no_server_has_volume(facts)
    facts.check_may_query()
    facts.start(facts.attachment)
    presence = facts.presence(facts.attachment, by_attachment=True)
    return presence not in facts_.USED


def nova_is_idle(facts: Facts) -> bool:
    """Whether Nova does not attach or detach the volume at this moment.

    :raises attachguard.guard.facts.Unsettled: if the volume's record has just
        changed
    """
    named = _naming_server(facts)
    if named and not facts.is_settled:
        raise facts_.Unsettled('the volume has just changed')
    return not any(_is_busy(facts, facts_.server_id(item)) for item in named)


def nova_is_at_work(facts: Facts) -> bool:
    """Whether Nova builds a server of the request, or performs a task.

    Or has the volume on the server that the request names by an attachment
    without an id, because it attaches it. For clouds whose Nova sends no
    service token.
    """
    source = facts.request.operation.server_source
    if source is operations.ServerSource.VOLUME:
        return any(
            _is_busy(facts, facts_.server_id(item))
            for item in _naming_server(facts)
        )
    server_id = _named_server_id(facts)
    if server_id is None:
        return False
    facts.check_may_query()
    if _is_busy(facts, server_id):
        return True
    return _has_volume(facts, server_id) and (
        facts.attachment_id(server_id) is None
    )


def nova_has_no_such_server(facts: Facts) -> bool:
    """Whether Nova has no server of the id that the request names.

    It creates the attachments of a server before it saves the server.
    """
    server_id = _named_server_id(facts)
    if server_id is None:
        return False
    facts.check_may_query()
    return facts.server(server_id) is None


def server_has_by_attachment(facts: Facts) -> bool:
    """Whether a server has the volume by the attachment in the path.

    Or by one whose id Nova does not say.
    """
    server_id = facts_.server_id(facts.attachment)
    if server_id is None:
        return False
    facts.check_may_query()
    return _has_volume(facts, server_id) and (
        facts.attachment_id(server_id) in (None, facts.attachment.id)
    )


#: By the names that rules use.
CHECKS: Mapping[str, Callable[[Facts], bool]] = {
    'cinder:consistent': is_consistent,
    'cinder:detaching': is_detaching,
    'cinder:group_idle': group_is_idle,
    'cinder:group_no_attachment': group_has_no_attachment,
    'cinder:idle': is_idle,
    'cinder:migrating': is_migrating,
    'cinder:names_no_connector': names_no_connector,
    'cinder:names_no_server': names_no_server,
    'cinder:no_attachment': has_no_attachment,
    'cinder:no_backup': has_no_backup_in_progress,
    'cinder:same_volume': is_of_volume,
    'nova:at_work': nova_is_at_work,
    'nova:attachment_unused': attachment_is_unused,
    'nova:by_this_attachment': server_has_by_attachment,
    'nova:idle': nova_is_idle,
    'nova:no_server_has_volume': no_server_has_volume,
    'nova:no_such_server': nova_has_no_such_server,
    'nova:server_has_volume': server_has_volume,
}


def _named_server_id(facts: Facts) -> str | None:
    """The server of the body or of the attachment in the path."""
    if facts.is_about_attachment:
        return facts_.server_id(facts.attachment)
    named = facts.request.server_id
    return None if named is None else request_parser.canonical_uuid(named)


def _naming_server(facts: Facts) -> list[cinder.Attachment]:
    """The attachments of the volume that name a server.

    :raises attachguard.guard.facts.TooManyServers: if there are too many
    :raises attachguard.guard.cinder.NotShown: if the caller may not see them
    """
    named = [item for item in facts.attachments if item.server_id is not None]
    if named:
        facts.check_may_query()
    if len({item.server_id for item in named}) > facts_.MAX_SERVERS:
        raise facts_.TooManyServers()
    return named


def _is_busy(facts: Facts, server_id: str | None) -> bool:
    server = server_id and facts.server(server_id)
    return bool(server and server.is_busy)


def _has_volume(facts: Facts, server_id: str) -> bool:
    server = facts.server(server_id)
    return server is not None and facts.volume.id in server.volume_ids
