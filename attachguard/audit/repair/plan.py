# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.


"""What repairs a finding: the gentlest step first, and none that could harm.

Pure: from a finding, and a look at the volume just before, to the calls that
may be made, in their order, or to why none may be.

1. ``DELETE /attachments/{id}``: Cinder asks Nova once more, lets its driver
   clean up, and works out the volume's status from what remains.
2. ``os-detach``: removes the export of the whole volume, so only where
   nothing else is attached.
3. ``os-reset_status``: changes records alone, and drops all of them, so only
   where nothing else is attached, and nothing is connected: Cinder asks Nova
   about the first two, and about this one nobody.

What two of these do to a volume as a whole must not meet an attachment that
Nova makes at the same moment.  A *hold* keeps Nova from it: Cinder changes
the status of a volume only if it is the one expected, so whoever has made it
``attaching`` (os-reserve) or ``detaching`` (os-begin_detaching) is alone.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import shlex
from typing import Any

from attachguard.audit import checks
from attachguard.audit import model
from attachguard.audit.collect import api

_ATTACHMENT_CLASSES = (
    'server-gone',
    'server-lacks-volume',
    'stuck-attachment',
)

_REBOOT = (
    'openstack server reboot --hard {server}   # Nova then drops what Cinder '
    'does not have'
)
_BY_HAND = {
    'missing-in-cinder': _REBOOT,
    'volume-gone': _REBOOT,
    # Cinder refuses a second attachment that is connected to the same host.
    'attachment-id-mismatch': 'openstack server stop {server}   # and, once '
    'it is: {delete}; nova-manage volume_attachment refresh {server} {volume} '
    'CONNECTOR (what "nova-manage volume_attachment get_connector" says on '
    'its host); openstack server start {server}',
    # A reboot gives it to the guest, and does not tell Cinder.
    'stuck-attaching': '{complete}   # and then: openstack server reboot '
    '--hard {server}',
    'volume-deleted': 'attachguard repair --volume {volume} --sql --database '
    'URL',
}


@dataclasses.dataclass(frozen=True)
class Call:
    """A call to the Block Storage API that changes something.

    :param name: of the operation, ``attachment-delete`` or an action's
    :param method: of HTTP
    :param path: below the endpoint
    :param body: to be JSON
    """

    name: str
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    version: str = api.VOLUME_VERSION

    def to_json(self) -> dict[str, Any]:
        """As a journal has it."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Step:
    """One rung of the ladder.

    :param call: what does it
    :param hold: what keeps Nova away meanwhile, where something has to
    :param release: what takes the hold back
    """

    call: Call
    hold: Call | None = None
    release: Call | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What may be done about a finding.

    :param steps: to be tried in this order; empty where nothing may be
    :param why_not: why nothing may be
    :param command: the safest command for a person to type
    """

    steps: tuple[Step, ...]
    why_not: str
    command: str


def action(volume_id: str, name: str, body: Any = None) -> Call:
    """One of the volume's actions.

    :param volume_id: a UUID
    :param name: of the action
    :param body: what it takes
    """
    return Call(name, 'POST', f'/volumes/{volume_id}/action', {name: body})


def make(
    finding: checks.Finding,
    case: model.Case,
    connected: bool | None = None,
) -> Plan:
    """Plan the repair of a finding.

    :param finding: what is wrong
    :param case: the volume, as it was looked at just before
    :param connected: whether the finding's attachment has a connection to a
        host, where that was looked up
    """
    if finding.kind in _ATTACHMENT_CLASSES:
        return _remove(finding, case, connected)
    if finding.kind == 'duplicate':
        return _duplicate(finding, case, connected)
    steps, why_not = _whole_volume(finding, case)
    if steps:
        return Plan(steps, '', _repair(case))
    others = case.of(finding.server_id or '')
    by_hand = _BY_HAND.get(finding.kind, '').format(
        server=shlex.quote(finding.server_id or ''),
        volume=shlex.quote(case.volume_id),
        delete=' && '.join(_by_client('delete', a.id) for a in others),
        complete=' && '.join(
            _by_client('complete', a.id, api.COMPLETE_VERSION)
            for a in others
            if a.status == 'attaching'
        ),
    )
    return Plan((), why_not or f'by hand: {by_hand}', by_hand)


def _delete(attachment_id: str) -> Call:
    return Call('attachment-delete', 'DELETE', f'/attachments/{attachment_id}')


def _remove(
    finding: checks.Finding, case: model.Case, connected: bool | None
) -> Plan:
    """Remove one attachment, which Nova does not have."""
    assert finding.attachment_id is not None
    assert case.volume is not None
    delete = _delete(finding.attachment_id)
    alone = len(case.attachments) == 1 and not case.foreign
    held = any(
        server.presence not in (model.Presence.GONE, model.Presence.LACKS)
        or server.busy
        for server in case.servers.values()
    )
    for server in case.servers.values():
        if server.presence in (
            model.Presence.HAS,
            model.Presence.UNKNOWN,
        ) and not case.of(server.id):
            # missing-in-cinder, by Nova's list if nothing newer is known: what
            # is to be removed is all that keeps the volume from being attached
            # elsewhere, or from being deleted.
            command = _REBOOT.format(server=shlex.quote(server.id))
            return Plan(
                (),
                f'Nova has the volume on server {server.id}, of which Cinder '
                f'has no attachment; by hand, and first: {command}',
                command,
            )
    (spare,) = (a for a in case.attachments if a.id == finding.attachment_id)
    by_client = _by_client('delete', finding.attachment_id)
    if connected is not False and spare.status != 'attached':
        # Cinder tells the host only of what is attached.
        return Plan(
            (),
            f'it is {spare.status}, and may be connected: by a brick client, '
            'or as the copy that a volume in use is being moved to; by hand, '
            f'once you have looked: {by_client}',
            by_client,
        )
    closed = _is_closed(case.volume)
    hold, release = _hold(case)
    can_hold = hold is not None and not held
    if connected is False:
        steps = [Step(delete)]
    elif case.foreign or held and not _is_counted(case):
        return Plan(
            (),
            'it may be connected to a host where something else has the '
            'volume, too, whose connection would go with it; by hand, once '
            f'you have looked: {by_client}',
            by_client,
        )
    elif closed or case.volume.multiattach:
        # Nobody who could attach, or a driver that counts who is connected.
        steps = [Step(delete)]
    elif can_hold:
        # The same volume, attached anew to the same server on the same host
        # at this moment, would be disconnected with it.
        steps = [Step(delete, hold, release)]
    else:
        return Plan(
            (),
            'it may be connected to a host, and Nova cannot be kept from '
            'attaching the volume there meanwhile; by hand, once nothing is '
            f'being attached: {by_client}',
            by_client,
        )
    if alone and not held and (can_hold or 'error' in case.volume.status):
        # What else is closed, its owner can open: not for what drops all.
        steps.append(
            Step(
                action(
                    case.volume_id,
                    'os-detach',
                    {'attachment_id': finding.attachment_id},
                ),
                hold,
                release,
            )
        )
        if connected is False:
            # Of what is connected Cinder asks Nova itself, and has to have
            # been told that it is not there: os-reset_status asks nobody.
            steps.append(
                Step(_reset(case, 'available', 'detached'), hold, release)
            )
    return Plan(tuple(steps), '', _repair(case))


def _repair(case: model.Case) -> str:
    return f'attachguard repair --volume {shlex.quote(case.volume_id)} --yes'


def _by_client(
    what: str, attachment_id: str, version: str = api.VOLUME_VERSION
) -> str:
    return (
        f'openstack --os-volume-api-version {version} volume attachment '
        f'{what} {shlex.quote(attachment_id)}'
    )


def _duplicate(
    finding: checks.Finding, case: model.Case, connected: bool | None
) -> Plan:
    """Remove one attachment, beside which Nova has another of the server."""
    assert finding.attachment_id is not None
    server = case.servers[finding.server_id or '']
    hosts = {a.id: a.host for a in case.attachments}
    spare, real = (
        hosts.get(finding.attachment_id),
        hosts.get(server.attachment_id or ''),
    )
    # Where a live migration is rolled back and Cinder does not answer, Nova
    # keeps the attachment of the host that the server did not come to: the
    # spare one is what the guest uses. So Nova's own has to be where the
    # server is; where Nova calls the host by another name than the connector
    # does, that is not known.
    if connected is False or (
        spare and real and spare != real and real == server.host
    ):
        return Plan((Step(_delete(finding.attachment_id)),), '', _repair(case))
    return Plan(
        (),
        'it may be connected to the host that the server runs on, whose '
        'connection would go with it; by hand, with the server stopped: '
        f'{_by_client("delete", finding.attachment_id)}',
        _by_client('delete', finding.attachment_id),
    )


def _whole_volume(
    finding: checks.Finding, case: model.Case
) -> tuple[tuple[Step, ...], str]:
    """Set right the record of a volume.

    :returns: the steps, and why there are none
    """
    volume = case.volume
    if volume is None:
        return (), ''
    attached = any(a.status == 'attached' for a in case.attachments)
    kind = finding.kind
    if kind == 'stuck-detaching' and finding.server_id is not None:
        return (Step(action(volume.id, 'os-roll_detaching')),), ''
    if kind == 'stuck-attaching' and finding.server_id is None:
        return (Step(action(volume.id, 'os-unreserve')),), ''
    if kind == 'status-mismatch' and attached:
        # Drops nothing: it only says what the attachments say.
        return (Step(_reset(case, 'in-use', 'attached')),), ''
    if kind in (
        'in-use-without-attachment',
        'status-mismatch',
        'stuck-detaching',
        'stuck-reserved',
    ):
        if case.attachments or case.foreign:
            return (), 'the volume has attachments, which would be dropped'
        first: tuple[Step, ...] = ()
        hold = release = None
        if volume.status == 'available' or (
            volume.multiattach and volume.status == 'in-use'
        ):
            # Else it is in a status in which Cinder makes no attachment.
            hold = action(volume.id, 'os-reserve')
            release = action(volume.id, 'os-unreserve')
        elif volume.status == 'in-use':
            # A user's own os-detach would make it available in between.
            if volume.attach_status != 'attached':
                # Else there is no hold to be had. It drops nothing.
                first = (
                    Step(
                        action(
                            volume.id,
                            'os-reset_status',
                            {'attach_status': 'attached'},
                        )
                    ),
                )
            hold = action(volume.id, 'os-begin_detaching')
            release = action(volume.id, 'os-roll_detaching')
        return (
            *first,
            Step(action(volume.id, 'os-detach', {}), hold, release),
            Step(_reset(case, 'available', 'detached'), hold, release),
        ), ''
    return (), ''


def _is_counted(case: model.Case) -> bool:
    """Whether a driver knows of each server that a host is connected for.

    It counts Cinder's records, and only where several servers may have a
    volume; what was attached before the Queens release, or by os-attach as
    others than Nova do, has no connector in its record.
    """
    assert case.volume is not None
    return case.volume.multiattach and all(
        server.presence in (model.Presence.GONE, model.Presence.LACKS)
        or server.attachment_id is not None
        for server in case.servers.values()
    )


def _is_closed(volume: model.Volume) -> bool:
    """Whether Cinder makes no attachment of it.

    As cinder.volume.api decides, in attachment_create and
    _attachment_reserve.
    """
    return (
        volume.status in ('attaching', 'detaching') or 'error' in volume.status
    )


def _hold(case: model.Case) -> tuple[Call | None, Call | None]:
    """What keeps Nova from attaching a volume, and what lets it again."""
    volume = case.volume
    assert volume is not None
    if volume.status == 'available':
        return (
            action(volume.id, 'os-reserve'),
            action(volume.id, 'os-unreserve'),
        )
    attached = any(
        item.status == 'attached'
        for item in (*case.attachments, *case.foreign)
    )
    if (
        volume.status == 'in-use'
        and attached
        and volume.attach_status != 'detached'
        and not volume.multiattach
    ):
        # Else Cinder would not begin to detach it.
        return (
            action(volume.id, 'os-begin_detaching'),
            action(volume.id, 'os-roll_detaching'),
        )
    return None, None


def _reset(case: model.Case, status: str, attach_status: str) -> Call:
    return action(
        case.volume_id,
        'os-reset_status',
        {'status': status, 'attach_status': attach_status},
    )
