# SPDX-License-Identifier: Apache-2.0
"""How the records of Cinder and Nova come to disagree, on real services.

Each way is one volume of its own, which is called by the way's name. What is
done to it is done without the guard, by a member wherever a member can, else
by an administrator, and by hand in SQL where nobody can.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any
import uuid

from tests.cloud import compute_driver
from tests.cloud import records
from tests.cloud import scene as scenes

#: Servers: one that stays as it is, another one beside it, one that is
#: deleted, one to be rebooted in the end, and one that is stopped.
LIVE, BESIDE, DOOMED, REBOOTED, STOPPED = (
    'live',
    'beside',
    'doomed',
    'rebooted',
    'stopped',
)

#: Cures that are no operation of Cinder's.
BY_HAND = 'by hand'
NOTHING = 'nothing'

_NOBODY = 'nobody'
_MOUNTPOINT = '/dev/vdb'

_RECORDS = """
    SELECT id, status, attach_status, migration_status, previous_status,
           replication_status, use_quota, deleted
    FROM volumes WHERE id IN %s
"""
_TRACES = """
    SELECT volume_id, `key`, value FROM volume_admin_metadata
    WHERE NOT deleted AND volume_id IN %s
"""


@dataclasses.dataclass(frozen=True)
class Way:
    """A way in which a volume comes to be what it should not.

    :param name: of the way, and of its volume
    :param kind: the class that it is in, or why it is foreign
    :param what: it is, for people
    :param run: does it
    :param on: the server that Nova attaches the volume to before that
    :param server: the server that the finding names
    :param cure: the operation that repairs it; :data:`BY_HAND`, or
        :data:`NOTHING` where it is foreign
    :param names: whether the finding names an attachment
    :param volume_type: of the volume
    """

    name: str
    kind: str
    what: str
    run: Callable[[scenes.Scene, str], Any]
    on: str | None
    server: str | None
    cure: str
    names: bool
    volume_type: str


WAYS: list[Way] = []
FOREIGN: list[Way] = []

_Run = Callable[[scenes.Scene, str], Any]


def _way(
    kind: str,
    *,
    server: str | None = None,
    on: str | None = None,
    cure: str = 'attachment-delete',
    names: bool = True,
    volume_type: str = 'one',
    to: list[Way] = WAYS,
) -> Callable[[_Run], _Run]:
    def register(run: _Run) -> _Run:
        to.append(
            Way(
                run.__name__.replace('_', '-'),
                kind,
                (run.__doc__ or '').strip(),
                run,
                on,
                server,
                cure,
                names,
                volume_type,
            )
        )
        return run

    return register


def _foreign(why: str) -> Callable[[_Run], _Run]:
    return _way(why, cure=NOTHING, to=FOREIGN)


def prepare(scene: scenes.Scene) -> None:
    """Make the servers and volumes, and do to them what leads to damage.

    :param scene: of a cloud without the guard; its Cinder API is down for a
        moment meanwhile
    """
    for server in (LIVE, BESIDE, DOOMED, REBOOTED, STOPPED):
        made = scene.member.nova.servers.create(
            server, scene.image, scene.flavor('tiny'), nics='none'
        )
        scene.servers[server] = made.id
    for way in (*WAYS, *FOREIGN):
        volume = scene.member.cinder.volumes.create(
            1, name=way.name, volume_type=way.volume_type
        )
        scene.volumes[way.name] = volume.id
    for server in scene.servers:
        scene.wait_for_status(server, 'ACTIVE')
    for volume in scene.volumes:
        scene.wait_for_status(volume, 'available')
    attach(scene, {way.name: way.on for way in WAYS if way.on is not None})
    scene.member.nova.servers.stop(scene.servers[STOPPED])
    scene.wait_for_status(STOPPED, 'SHUTOFF')
    scene.settle()
    for way in (*WAYS, *FOREIGN):
        way.run(scene, way.name)
    _delete_while_cinder_is_down(scene)


def clear(scene: scenes.Scene) -> None:
    """Delete everything, and what outlives a volume that is deleted."""
    scene.clear()
    scene.cloud.mariadb.write(
        'cinder',
        'UPDATE volume_attachment SET deleted = 1 WHERE volume_id IN %s',
        [list(scene.volumes.values())],
    )


def attach(scene: scenes.Scene, wanted: Mapping[str, str]) -> None:
    """Attach volumes the right way, and wait for them.

    :param wanted: the volumes' names to the servers'
    """
    for volume, server in wanted.items():
        scene.member.nova.volumes.create_server_volume(
            scene.servers[server], scene.volumes[volume]
        )
    for volume in wanted:
        scene.wait_for_status(volume, 'in-use')


def detach(scene: scenes.Scene, volumes: Iterable[str]) -> None:
    """Detach volumes the right way, from whatever server has them.

    :param volumes: their names
    """
    names = {scene.volumes[volume]: volume for volume in volumes}
    detached = []
    for server in scene.servers:
        if scene.status(server) == records.GONE:
            continue
        for mapping in scene.mappings(server):
            if mapping.volumeId in names:
                scene.member.nova.volumes.delete_server_volume(
                    scene.servers[server], mapping.volumeId
                )
                detached.append(names[mapping.volumeId])
    for volume in detached:
        scene.wait_for_status(volume, 'available')


def seen(scene: scenes.Scene, volumes: Collection[str]) -> dict[str, Any]:
    """What both sides say of volumes, and Cinder's records past the API.

    Not what is each one's own, or says since when, so that they can be
    compared.

    :param volumes: their names
    :returns: by name
    """
    state = scene.state()
    (rows,) = scene.cloud.mariadb.read(
        ('cinder', _RECORDS, [[scene.volumes[volume] for volume in volumes]])
    )
    records_of = {row[0]: row[1:] for row in rows}
    found = {}
    for volume in volumes:
        mappings = [
            {**mapping, 'volume': None, 'device': None}
            for server in scene.servers
            for mapping in (state[f'server {server}'] or {}).get('volumes', ())
            if mapping['volume'] == volume
        ]
        cinder = {**state[f'volume {volume}']}
        cinder['attachments'] = [
            {**attachment, 'device': None}
            for attachment in cinder['attachments']
        ]
        found[volume] = (cinder, mappings, records_of[scene.volumes[volume]])
    return found


def traces(scene: scenes.Scene, volumes: Collection[str]) -> dict[str, Any]:
    """What Cinder keeps about volumes that only administrators see.

    :param volumes: their names
    :returns: by name
    """
    (rows,) = scene.cloud.mariadb.read(
        ('cinder', _TRACES, [[scene.volumes[volume] for volume in volumes]])
    )
    found: dict[str, Any] = {volume: {} for volume in volumes}
    names = {scene.volumes[volume]: volume for volume in volumes}
    for volume_id, key, value in rows:
        found[names[volume_id]][key] = value
    return found


def _delete_while_cinder_is_down(scene: scenes.Scene) -> None:
    scene.cloud.processes.stop(['cinder-api'])
    scene.member.nova.servers.delete(scene.servers[DOOMED])
    scene.wait_for_status(DOOMED, records.GONE)
    scene.cloud.restart('cinder-api')


# What a member can do


def _os_attach(
    scene: scenes.Scene, volume: str, server: str | None, **more: str
) -> None:
    server_id = None
    if server is not None:
        server_id = scene.servers.get(server) or str(uuid.uuid4())
    body: dict[str, Any] = {'mountpoint': _MOUNTPOINT, **more}
    if server_id is not None:
        body['instance_uuid'] = server_id
    _action(scene, volume, {'os-attach': body})


def _action(scene: scenes.Scene, volume: str, body: Any) -> None:
    path = f'/volumes/{scene.volumes[volume]}/action'
    scene.member.send('POST', path, body).raise_for_status()


def _attachment(
    scene: scenes.Scene,
    volume: str,
    server: str | None,
    *,
    host: str | None = None,
    complete: bool = True,
) -> None:
    wanted: dict[str, Any] = {'volume_uuid': scene.volumes[volume]}
    if server is not None:
        wanted['instance_uuid'] = scene.servers.get(server) or str(
            uuid.uuid4()
        )
    if host is not None:
        wanted['connector'] = _connector(host)
    answer = scene.member.send('POST', '/attachments', {'attachment': wanted})
    answer.raise_for_status()
    if complete:
        found = answer.json()['attachment']['id']
        path = f'/attachments/{found}/action'
        scene.member.send('POST', path, {'os-complete': {}}).raise_for_status()


def _connector(host: str) -> dict[str, str]:
    return {
        'host': host,
        'initiator': f'iqn.test:{host}',
        'ip': '127.0.0.1',
    }


def _other_host(scene: scenes.Scene, server: str) -> str:
    (other,) = {*compute_driver.HOSTS} - {scene.host(server)}
    return other


@_way('server-gone', server=DOOMED)
def attached_and_then_deleted(scene: scenes.Scene, volume: str) -> None:
    """os-attach, and then the server is deleted."""
    _os_attach(scene, volume, DOOMED)


@_way('server-gone', server=_NOBODY)
def attached_to_nobody(scene: scenes.Scene, volume: str) -> None:
    """os-attach to an invented server."""
    _os_attach(scene, volume, _NOBODY)


@_way('server-gone', server=_NOBODY)
def completed_for_nobody(scene: scenes.Scene, volume: str) -> None:
    """An attachment of an invented server, created and completed."""
    _attachment(scene, volume, _NOBODY)


@_way('server-gone', server=_NOBODY)
def reserved_for_nobody(scene: scenes.Scene, volume: str) -> None:
    """An attachment of an invented server, created only."""
    _attachment(scene, volume, _NOBODY, complete=False)


@_way('server-gone', server=DOOMED)
def connected_and_then_deleted(scene: scenes.Scene, volume: str) -> None:
    """An attachment, connected to the server's host, which is deleted."""
    _attachment(scene, volume, DOOMED, host=scene.host(DOOMED))


@_way('server-gone', server=DOOMED, on=DOOMED)
def deleted_while_cinder_was_down(scene: scenes.Scene, volume: str) -> None:
    """A real attachment, whose server is deleted while Cinder is down."""


@_way('server-lacks-volume', server=LIVE)
def attached_directly(scene: scenes.Scene, volume: str) -> None:
    """os-attach to a real server."""
    _os_attach(scene, volume, LIVE)


@_way('server-lacks-volume', server=LIVE)
def completed_directly(scene: scenes.Scene, volume: str) -> None:
    """An attachment of a real server, created and completed."""
    _attachment(scene, volume, LIVE)


@_way('server-lacks-volume', server=LIVE)
def connected_directly(scene: scenes.Scene, volume: str) -> None:
    """The same, connected to the host of the server."""
    _attachment(scene, volume, LIVE, host=scene.host(LIVE))


@_way('server-lacks-volume', server=LIVE)
def attached_and_detaching(scene: scenes.Scene, volume: str) -> None:
    """os-attach to a real server, and os-begin_detaching."""
    _os_attach(scene, volume, LIVE)
    scene.member.cinder.volumes.begin_detaching(scene.volumes[volume])


@_way('server-lacks-volume', server=BESIDE, on=LIVE, volume_type='multiattach')
def attached_beside_a_real_one(scene: scenes.Scene, volume: str) -> None:
    """os-attach of a multiattach volume that another server has."""
    _os_attach(scene, volume, BESIDE)


@_way('stuck-attachment', server=LIVE)
def reserved_directly(scene: scenes.Scene, volume: str) -> None:
    """An attachment of a real server, created only."""
    _attachment(scene, volume, LIVE, complete=False)


@_way('stuck-attachment', server=LIVE, cure=BY_HAND)
def connecting_directly(scene: scenes.Scene, volume: str) -> None:
    """The same, connected to the host of the server."""
    _attachment(scene, volume, LIVE, host=scene.host(LIVE), complete=False)


@_way('stuck-attaching', cure='os-unreserve', names=False)
def reserved_for_no_reason(scene: scenes.Scene, volume: str) -> None:
    """os-reserve."""
    scene.member.cinder.volumes.reserve(scene.volumes[volume])


@_way(
    'stuck-attaching',
    server=REBOOTED,
    on=REBOOTED,
    cure=BY_HAND,
    names=False,
)
def updated_by_a_member(scene: scenes.Scene, volume: str) -> None:
    """An update of the attachment that Nova has, as when a compute dies."""
    (attachment,) = scene.attachments(volume)
    scene.member.cinder.attachments.update(
        attachment.id, _connector(scene.host(REBOOTED))
    )


@_way(
    'stuck-detaching',
    server=LIVE,
    on=LIVE,
    cure='os-roll_detaching',
    names=False,
)
def detaching_for_no_reason(scene: scenes.Scene, volume: str) -> None:
    """os-begin_detaching of what Nova has attached."""
    scene.member.cinder.volumes.begin_detaching(scene.volumes[volume])


@_way('duplicate', server=LIVE, on=LIVE)
def reserved_once_more(scene: scenes.Scene, volume: str) -> None:
    """An attachment of the server that has the volume, created only."""
    _attachment(scene, volume, LIVE, complete=False)


@_way('duplicate', server=LIVE, on=LIVE)
def completed_once_more(scene: scenes.Scene, volume: str) -> None:
    """The same, completed."""
    _attachment(scene, volume, LIVE)


@_way('duplicate', server=LIVE, on=LIVE)
def connected_elsewhere(scene: scenes.Scene, volume: str) -> None:
    """The same, connected to another host, as a migration leaves it."""
    _attachment(scene, volume, LIVE, host=_other_host(scene, LIVE))


@_way('duplicate', server=STOPPED, on=STOPPED, cure=BY_HAND)
def connected_once_more(scene: scenes.Scene, volume: str) -> None:
    """The same, connected to the server's own host."""
    _attachment(scene, volume, STOPPED, host=scene.host(STOPPED))


# What an administrator can do


def _reset(scene: scenes.Scene, volume: str, **to: str) -> None:
    path = f'/volumes/{scene.volumes[volume]}/action'
    scene.admin.send('POST', path, {'os-reset_status': to}).raise_for_status()


@_way(
    'status-mismatch',
    on=LIVE,
    cure='os-reset_status',
    names=False,
)
def reset_to_available(scene: scenes.Scene, volume: str) -> None:
    """os-reset_status to available of a volume that Nova has."""
    _reset(scene, volume, status='available')


@_way(
    'missing-in-cinder',
    server=REBOOTED,
    on=REBOOTED,
    cure=BY_HAND,
    names=False,
)
def reset_to_detached(scene: scenes.Scene, volume: str) -> None:
    """os-reset_status to detached of a volume that Nova has."""
    _reset(scene, volume, status='in-use', attach_status='detached')


@_way('volume-gone', server=REBOOTED, on=REBOOTED, cure=BY_HAND, names=False)
def reset_and_deleted(scene: scenes.Scene, volume: str) -> None:
    """The same, and then the volume is deleted."""
    _reset(scene, volume, status='available', attach_status='detached')
    scene.member.cinder.volumes.delete(scene.volumes[volume])
    scene.wait_for_status(volume, records.GONE)


# What takes SQL


def _set(scene: scenes.Scene, volume: str, **values: str) -> None:
    columns = ', '.join(f'{name} = %s' for name in values)
    changed = scene.cloud.mariadb.write(
        'cinder',
        f'UPDATE volumes SET {columns} WHERE id = %s',
        [*values.values(), scene.volumes[volume]],
    )
    assert changed == 1


@_way('in-use-without-attachment', cure='os-detach', names=False)
def in_use_by_nothing(scene: scenes.Scene, volume: str) -> None:
    """in-use and attached, with no attachment."""
    _set(scene, volume, status='in-use', attach_status='attached')


@_way('in-use-without-attachment', cure='os-detach', names=False)
def in_use_and_detached(scene: scenes.Scene, volume: str) -> None:
    """in-use and detached, with no attachment."""
    _set(scene, volume, status='in-use')


@_way('stuck-reserved', cure='os-detach', names=False)
def reserved_for_nothing(scene: scenes.Scene, volume: str) -> None:
    """reserved, with no attachment."""
    _set(scene, volume, status='reserved')


@_way('stuck-detaching', cure='os-detach', names=False)
def detaching_from_nothing(scene: scenes.Scene, volume: str) -> None:
    """detaching, with no attachment."""
    _set(scene, volume, status='detaching', attach_status='attached')


@_way('status-mismatch', cure='os-detach', names=False)
def attached_to_nothing(scene: scenes.Scene, volume: str) -> None:
    """available and attached, with no attachment."""
    _set(scene, volume, attach_status='attached')


@_way(
    'status-mismatch',
    on=LIVE,
    cure='os-reset_status',
    names=False,
)
def detached_and_in_use(scene: scenes.Scene, volume: str) -> None:
    """in-use and detached, with the attachment that Nova has."""
    _set(scene, volume, attach_status='detached')


@_way(
    'attachment-id-mismatch',
    server=STOPPED,
    on=STOPPED,
    cure=BY_HAND,
    names=False,
)
def another_id_in_nova(scene: scenes.Scene, volume: str) -> None:
    """Nova has it by an attachment that Cinder does not have."""
    changed = scene.cloud.mariadb.write(
        'nova_cell1',
        'UPDATE block_device_mapping SET attachment_id = %s '
        'WHERE NOT deleted AND volume_id = %s',
        [str(uuid.uuid4()), scene.volumes[volume]],
    )
    assert changed == 1


@_way('volume-deleted', server=LIVE, cure=BY_HAND)
def deleted_under_an_attachment(scene: scenes.Scene, volume: str) -> None:
    """An attachment that is there again after its volume is deleted."""
    _attachment(scene, volume, LIVE)
    (attachment,) = scene.attachments(volume)
    _reset(scene, volume, status='available', attach_status='detached')
    scene.member.cinder.volumes.delete(scene.volumes[volume])
    scene.wait_for_status(volume, records.GONE)
    changed = scene.cloud.mariadb.write(
        'cinder',
        'UPDATE volume_attachment SET deleted = 0, deleted_at = NULL, '
        "attach_status = 'attached' WHERE id = %s",
        [attachment.id],
    )
    assert changed == 1


# What is none of Nova's


@_foreign('no-server')
def attached_to_a_host(scene: scenes.Scene, volume: str) -> None:
    """As Terraform's provider does it."""
    _os_attach(scene, volume, None, host_name='a-host')


@_foreign('no-server')
def attached_to_nothing_at_all(scene: scenes.Scene, volume: str) -> None:
    """As Glance's Cinder store does it."""
    _attachment(scene, volume, None, host='a-host')


@_foreign('ironic')
def attached_to_a_node(scene: scenes.Scene, volume: str) -> None:
    """As Ironic does it."""
    _os_attach(scene, volume, _NOBODY, mountpoint='ironic_mountpoint')


@_foreign('other-host')
def attached_to_a_container(scene: scenes.Scene, volume: str) -> None:
    """As Zun does it."""
    _os_attach(scene, volume, _NOBODY, host_name='a-host')


@_foreign('other-host')
def attached_by_a_brick_client(scene: scenes.Scene, volume: str) -> None:
    """As python-brick-cinderclient-ext does it."""
    _attachment(scene, volume, _NOBODY, host='a-host')


@_way('server-gone', server=_NOBODY, cure=BY_HAND)
def container_on_a_compute(scene: scenes.Scene, volume: str) -> None:
    """As Zun does it, on a host that Nova uses, too."""
    _os_attach(scene, volume, _NOBODY, host_name=compute_driver.HOSTS[0])
