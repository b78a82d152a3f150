# SPDX-License-Identifier: Apache-2.0

"""Plan the repair of a finding: the safest step that can work comes first.

Pure functions.  From a finding and its volume, as read just before, they
derive the calls that may be made, in order, or why none may be made:

1. ``DELETE /attachments/{id}``: Cinder checks with Nova again, its driver
   cleans up, and the volume gets the status that the remaining attachments
   give it.
2. ``os-detach``: removes the export of the whole volume, so only where
   nothing else is attached.
3. ``os-reset_status``: changes records only, and drops all attachments, so
   only where nothing else is attached and nothing is connected.  Cinder
   checks with Nova before the first two, and not before this one.

Some steps act on the volume as a whole.  They must not run while Nova
attaches it.  A :class:`Reservation` prevents that: Cinder changes the status
of a volume only if it is the expected one, so while a volume is ``attaching``
(by os-reserve) or ``detaching`` (by os-begin_detaching), Nova cannot attach
it.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import enum
from typing import Any

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.collect import api

#: Classes in which an attachment is wrong.
ATTACHMENT_CLASSES = (
    'server-gone',
    'server-lacks-volume',
    'stuck-attachment',
)
#: Classes in which only the record of the volume is wrong.
RECORD_CLASSES = (
    'in-use-without-attachment',
    'status-mismatch',
    'stuck-detaching',
    'stuck-reserved',
)


class Manual(enum.Enum):
    """What a person can do where no step is safe."""

    #: give the server that has the volume a new attachment
    REMAKE = 'remake'
    #: let Nova drop a volume that is gone
    DROP = 'drop'
    #: delete the attachment, after a check
    DELETE = 'delete'
    #: change Cinder's database
    SQL = 'sql'
    #: remove one of two mappings from Nova's database
    UNMAP = 'unmap'
    #: remove the mapping of a deleted server from Nova's database
    UNMAP_DELETED = 'unmap deleted'
    #: transfer the volume to another project, or delete it
    GIVE_AWAY = 'give away'
    #: end what Cinder works on no more
    END_OPERATION = 'end operation'


# The statuses in which Cinder creates an attachment of a volume.
_OPEN = ('available', 'downloading', 'in-use', 'reserved')

# The statuses of their own that os-reset_status sets, of those in which an
# attachment is removed (cinder.objects.fields.VolumeStatus).
_SETTABLE = (
    'awaiting-transfer',
    'error',
    'error_backing-up',
    'error_deleting',
    'error_extending',
    'error_managing',
    'error_restoring',
)

_MANUAL = {
    'missing-in-cinder': (
        Manual.REMAKE,
        'Nova has the volume, and Cinder has no attachment for it',
    ),
    'volume-gone': (Manual.DROP, 'only Nova can drop a volume that is gone'),
    'attachment-id-mismatch': (
        Manual.REMAKE,
        'which of both attachments is connected is unknown',
    ),
    'wrong-server': (
        Manual.REMAKE,
        'Nova has it on another server than Cinder',
    ),
    'wrong-host': (
        Manual.REMAKE,
        'it is connected to another host than the one of the server',
    ),
    'multi-owner': (
        Manual.REMAKE,
        'which server has the right data is only known to its owner',
    ),
    'nova-duplicate': (
        Manual.UNMAP,
        'only Nova can drop one of two mappings',
    ),
    'nova-leftover': (
        Manual.UNMAP_DELETED,
        'no API removes the mapping of a deleted server',
    ),
    'no-project': (
        Manual.GIVE_AWAY,
        'only a person can decide who gets the volume, or that nobody needs '
        'it',
    ),
    'stuck-operation': (
        None,
        'Nova has not finished what it does with the server: see the log of '
        'its compute service',
    ),
    'stuck-attachment': (
        Manual.DELETE,
        'it names neither a server nor a host, and only its maker knows what '
        'it is for',
    ),
    'stuck-attaching': (
        Manual.REMAKE,
        'Nova has the volume, and has not finished attaching it',
    ),
    'volume-deleted': (
        Manual.SQL,
        'Cinder deletes no attachment of a deleted volume',
    ),
}


@dataclasses.dataclass(frozen=True)
class Call:
    """A call to the Block Storage API that changes something.

    :param name: the operation: ``attachment-delete`` or an action's name
    :param method: the HTTP method
    :param path: the path below the endpoint
    :param body: the body, to be encoded as JSON
    :param version: the microversion
    """

    name: str
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    version: str = api.VOLUME_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the call as a journal stores it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Reservation:
    """What prevents Nova from attaching a volume for a while.

    :param reserve: the call that reserves the volume
    :param unreserve: the call that ends the reservation
    """

    reserve: Call
    unreserve: Call


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of a plan.

    :param call: the call
    :param reservation: needed while the call is made; None where Nova cannot
        attach the volume, or the call does no harm if it does
    """

    call: Call
    reservation: Reservation | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to repair a finding.

    :param steps: to be tried in this order; empty where none is safe
    :param why_not: why there are no steps
    :param manual: what a person can do then; None where nothing is known
    :param server_id: on which server
    :param attachment_id: with which attachment
    """

    steps: tuple[Step, ...]
    why_not: str = ''
    manual: Manual | None = None
    server_id: str | None = None
    attachment_id: str | None = None


def action(volume_id: str, name: str, body: Any = None) -> Call:
    """Return the call of a volume action.

    :param volume_id: a UUID
    :param name: the action
    :param body: the action's parameters
    """
    return Call(name, 'POST', f'/volumes/{volume_id}/action', {name: body})


def make(
    finding: classes.Finding,
    case: model.Case,
    connected: bool | None = None,
) -> Plan:
    """Plan the repair of a finding.

    :param finding: found in the case
    :param case: the volume, as read just before
    :param connected: whether the finding's attachment has a connection to a
        host; None if that is not known
    """
    volume = case.volume
    if volume is not None and volume.busy:
        return Plan(
            (),
            f'Cinder works, or has worked, on the volume ({volume.status}, '
            f'migration status {volume.migration_status})',
            Manual.END_OPERATION,
        )
    if volume is not None:
        for attachment in case.attachments:
            if attachment.id != finding.attachment_id:
                continue
            if finding.kind in ATTACHMENT_CLASSES:
                return _remove(attachment, volume, case, connected)
            if finding.kind == 'duplicate':
                return _remove_duplicate(attachment, finding, case, connected)
        steps, why_not = _correct_record(finding, volume, case)
        if steps or why_not:
            return Plan(steps, why_not)
    manual, why_not = _MANUAL.get(finding.kind, (None, 'no step is safe'))
    return Plan((), why_not, manual, finding.server_id, finding.attachment_id)


def may_have_volume(server: model.Server) -> bool:
    """Return False only if Nova is idle and the volume is not on the server.

    :param server: as Nova reports it
    """
    return server.busy or server.presence not in (
        model.Presence.GONE,
        model.Presence.LACKS,
    )


def set_status(volume_id: str, status: str) -> Call:
    """Return the call that sets a status, and nothing else."""
    return action(volume_id, 'os-reset_status', {'status': status})


def _delete(attachment_id: str) -> Call:
    return Call('attachment-delete', 'DELETE', f'/attachments/{attachment_id}')


def _remove(
    attachment: model.Attachment,
    volume: model.Volume,
    case: model.Case,
    connected: bool | None,
) -> Plan:
    """Remove one attachment, which Nova does not have."""
    for server in case.servers.values():
        if server.presence in (
            model.Presence.HAS,
            model.Presence.UNKNOWN,
        ) and not case.of(server.id):
            # missing-in-cinder, at least by Nova's list. The attachment to
            # remove is all that prevents the volume from being attached
            # elsewhere, or deleted.
            return Plan(
                (),
                f'Nova has the volume on server {server.id}, and Cinder has '
                'no attachment to it',
                Manual.REMAKE,
                server.id,
            )
    if (
        connected is not False
        and attachment.status != 'attached'
        and not case.is_old
    ):
        # Cinder shows the host only of what is attached.
        return _delete_by_hand(
            attachment,
            f'the attachment is {attachment.status} and may be connected to a '
            'host: by a brick client, or as the target of a volume migration',
        )
    if volume.has_own_status and volume.status not in _SETTABLE:
        return _delete_by_hand(
            attachment,
            f'Cinder overwrites the status {volume.status} when the last '
            'attachment is deleted, and nothing can restore it',
        )
    delete = _delete(attachment.id)
    in_use = any(map(may_have_volume, case.servers.values()))
    # A volume that another server may have must not change its status.
    reservation = None if in_use else _reservation(volume, case)
    if connected is False:
        steps = [Step(delete)]
    elif case.foreign or in_use and not _driver_counts(volume, case):
        return _delete_by_hand(
            attachment,
            'the attachment may be connected to a host where another '
            'attachment has the volume too, and would lose its connection',
        )
    elif _is_closed(volume) or volume.multiattach:
        # Nobody can attach it, or the driver counts who is connected.
        steps = [Step(delete)]
    elif reservation is not None:
        # If Nova attached the volume again to the same server on the same
        # host meanwhile, it would be disconnected as well.
        steps = [Step(delete, reservation)]
    else:
        return _delete_by_hand(
            attachment,
            'the attachment may be connected to a host, and nothing can '
            'prevent Nova from attaching the volume there meanwhile',
        )
    if (
        len(case.attachments) == 1
        and not case.foreign
        and not in_use
        and (reservation is not None or 'error' in volume.status)
    ):
        # Users can end the other statuses of a closed volume.
        detach = action(
            volume.id, 'os-detach', {'attachment_id': attachment.id}
        )
        steps.append(Step(detach, reservation))
        if connected is False:
            # If it is connected, Cinder has to check with Nova itself, and
            # for os-reset_status it does not.
            reset = _reset(volume, 'available', 'detached')
            steps.append(Step(reset, reservation))
    return Plan(tuple(steps))


def _delete_by_hand(attachment: model.Attachment, why: str) -> Plan:
    return Plan((), why, Manual.DELETE, attachment_id=attachment.id)


def _remove_duplicate(
    attachment: model.Attachment,
    finding: classes.Finding,
    case: model.Case,
    connected: bool | None,
) -> Plan:
    """Remove one attachment of a server to which Nova has another."""
    server = case.servers[finding.server_id or '']
    hosts = {a.id: a.host for a in case.attachments}
    host = hosts.get(server.attachment_id or '')
    # If a live migration is rolled back while Cinder does not respond, Nova
    # keeps the attachment of the destination host, and the guest uses the
    # duplicate. So Nova's attachment must be on the server's own host; this
    # is unknown where Nova's name of the host is not the connector's.
    if connected is False or (
        attachment.host
        and host
        and attachment.host != host
        and host == server.host
    ):
        return Plan((Step(_delete(attachment.id)),))
    return Plan(
        (),
        'the attachment may be connected to the host that the server runs '
        'on, and the server would lose its connection',
        Manual.REMAKE,
        server.id,
    )


def _correct_record(
    finding: classes.Finding, volume: model.Volume, case: model.Case
) -> tuple[tuple[Step, ...], str]:
    """Correct the record of a volume.

    :returns: the steps, and why there are none
    """
    attached = any(a.status == 'attached' for a in case.attachments)
    kind = finding.kind
    if kind == 'stuck-detaching' and finding.server_id is not None:
        return (Step(action(volume.id, 'os-roll_detaching')),), ''
    if kind == 'stuck-attaching' and finding.server_id is None:
        return (Step(action(volume.id, 'os-unreserve')),), ''
    if kind == 'status-mismatch' and attached:
        # Drops nothing: this is the status that the attachments give it.
        return (Step(_reset(volume, 'in-use', 'attached')),), ''
    if kind == 'status-mismatch' and case.attachments:
        # Reserved for a shelved server.
        return (Step(set_status(volume.id, 'reserved')),), ''
    if kind not in RECORD_CLASSES:
        return (), ''
    if case.attachments or case.foreign:
        return (), 'the volume has attachments, which would be dropped'
    first: tuple[Step, ...] = ()
    # In another status Cinder creates no attachment, and none is needed.
    reservation = None
    if volume.status == 'available' or (
        volume.multiattach and volume.status == 'in-use'
    ):
        reservation = by_reserving(volume)
    elif volume.status == 'in-use':
        # By os-detach, a user could make it available meanwhile.
        reservation = _by_detaching(volume)
        if volume.attach_status != 'attached':
            # os-begin_detaching requires it. It drops nothing.
            body = {'attach_status': 'attached'}
            first = (Step(action(volume.id, 'os-reset_status', body)),)
    return (
        *first,
        Step(action(volume.id, 'os-detach', {}), reservation),
        Step(_reset(volume, 'available', 'detached'), reservation),
    ), ''


def _driver_counts(volume: model.Volume, case: model.Case) -> bool:
    """Return whether a driver knows each server that a host connects for.

    A driver counts Cinder's records, and only those of multiattach volumes.
    What was attached before the Queens release, or by os-attach by other
    services than Nova, has no connector in its record.
    """
    return volume.multiattach and all(
        server.presence in (model.Presence.GONE, model.Presence.LACKS)
        or server.attachment_id is not None
        for server in case.servers.values()
    )


def _is_closed(volume: model.Volume) -> bool:
    """Return whether Cinder creates no attachment of it.

    As cinder.volume.api decides, in attachment_create and
    _attachment_reserve.
    """
    return volume.status not in _OPEN


def _reservation(volume: model.Volume, case: model.Case) -> Reservation | None:
    """Return how to reserve a volume with attachments; None if impossible."""
    if volume.status == 'available':
        return by_reserving(volume)
    # Otherwise Cinder refuses os-begin_detaching.
    if (
        volume.status == 'in-use'
        and volume.attach_status != 'detached'
        and not volume.multiattach
        and any(item.status == 'attached' for item in case.all_attachments)
    ):
        return _by_detaching(volume)
    return None


def by_reserving(volume: model.Volume) -> Reservation:
    """Return how to reserve a volume that is available.

    :param volume: it, or a multiattach volume in use
    """
    return Reservation(
        action(volume.id, 'os-reserve'), action(volume.id, 'os-unreserve')
    )


def _by_detaching(volume: model.Volume) -> Reservation:
    return Reservation(
        action(volume.id, 'os-begin_detaching'),
        action(volume.id, 'os-roll_detaching'),
    )


def _reset(volume: model.Volume, status: str, attach_status: str) -> Call:
    return action(
        volume.id,
        'os-reset_status',
        {'status': status, 'attach_status': attach_status},
    )
