# SPDX-License-Identifier: Apache-2.0
"""Every way in which Nova attaches, moves and detaches volumes; and forgery.

A flow is a function that is given a :class:`scene.Scene`; its name and the
first line of its docstring are what the table in the documentation says.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
from typing import Any
import uuid

from novaclient import exceptions as nova_exceptions

from tests.cloud import compute_driver
from tests.cloud import scene as scenes
from tests.cloud import stage as stages

Scene = scenes.Scene


@dataclasses.dataclass(frozen=True)
class Flow:
    """A flow, and how it may be run.

    :param name: what it is called
    :param title: what it does, in a few words
    :param run: does it
    :param actor: name of who acts
    :param alone: no other flow may run at the same time
    :param forges: it is none of Nova's, and to be refused
    """

    name: str
    title: str
    run: Callable[[Scene], None]
    actor: str = 'member'
    alone: bool = False
    forges: bool = False


#: All of them, in the order of this file.
FLOWS: list[Flow] = []


def flow(
    *actors: str, alone: bool = False
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Make a flow of a function.

    :param actors: who acts, one after the other; the member by default
    :param alone: no other flow may run at the same time
    """

    def register(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
        for actor in actors or ('member',):
            by = '' if actor == 'member' else f', as {actor}'
            FLOWS.append(
                Flow(
                    f'{run.__name__}{by}',
                    f'{_title(run)}{by}',
                    run,
                    actor,
                    alone,
                )
            )
        return run

    return register


def forging(run: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Make a flow of a function that does what only Nova may."""
    FLOWS.append(Flow(run.__name__, _title(run), run, forges=True))
    return run


def _title(run: Callable[[Scene], None]) -> str:
    assert run.__doc__ is not None
    return run.__doc__.splitlines()[0].removesuffix('.')


def _image_disk(scene: Scene, **kwargs: Any) -> dict[str, Any]:
    return {
        'name': 'root',
        'source_type': 'image',
        'uuid': scene.image.id,
        'destination_type': 'volume',
        'volume_size': 1,
        'boot_index': 0,
        'delete_on_termination': True,
        **kwargs,
    }


def _volume_disk(scene: Scene, volume: str, **kwargs: Any) -> dict[str, Any]:
    return {
        'source_type': 'volume',
        'uuid': scene.volumes[volume],
        'destination_type': 'volume',
        'boot_index': -1,
        'delete_on_termination': False,
        **kwargs,
    }


def _create(scene: Scene, *disks: dict[str, Any], **kwargs: Any) -> None:
    """Create the server, as a step of the flow."""
    scene.step(
        'create server',
        functools.partial(
            scene.server, 'server', by=scene.actor, disks=disks, **kwargs
        ),
    )


def _with_data(scene: Scene) -> None:
    """A server that has the volume ``data``."""
    scene.server('server')
    scene.volume('data')
    scene.attach()


# Attach and detach


@flow('member', 'colleague', 'admin', 'other')
def active(scene: Scene) -> None:
    """Attach to an active server, and detach."""
    scene.server('server')
    scene.volume('data')
    if scene.attach():
        scene.detach()


@flow()
def twice(scene: Scene) -> None:
    """Attach, detach and attach again."""
    _with_data(scene)
    scene.detach()
    scene.attach()


@flow()
def stopped(scene: Scene) -> None:
    """Attach to a stopped server, and detach."""
    scene.server('server')
    scene.volume('data')
    scene.act('stop', 'SHUTOFF')
    scene.attach()
    scene.detach()


@flow()
def shelved(scene: Scene) -> None:
    """Attach to a shelved server, and detach."""
    scene.server('server')
    scene.volume('data')
    scene.act('shelve', 'SHELVED_OFFLOADED')
    scene.attach()
    scene.detach()


@flow()
def shelved_then_unshelved(scene: Scene) -> None:
    """Attach to a shelved server, unshelve it, and detach."""
    scene.server('server')
    scene.volume('data')
    scene.act('shelve', 'SHELVED_OFFLOADED')
    scene.attach()
    scene.act('unshelve', 'ACTIVE', data='in-use')
    scene.detach()


@flow()
def multiattach(scene: Scene) -> None:
    """Attach to two servers, and detach from one after the other."""
    scene.server('server')
    scene.server('second')
    scene.volume('data', volume_type='multiattach')
    scene.attach()
    scene.attach(server='second')
    scene.detach(status='in-use')
    scene.detach(server='second')


@flow()
def root_is_kept(scene: Scene) -> None:
    """Try to detach the root volume of an active server."""
    scene.volume('root', imageRef=scene.image.id)
    scene.server('server', disks=[_volume_disk(scene, 'root', boot_index=0)])
    scene.detach('root', status='in-use')


# Create and delete


@flow()
def boot_from_image(scene: Scene) -> None:
    """Boot from a volume made from an image, and delete."""
    _create(scene, _image_disk(scene))
    scene.delete(root='gone')


@flow()
def boot_from_snapshot(scene: Scene) -> None:
    """Boot from a volume made from a snapshot, and delete."""
    volume_id = scene.volume('source', imageRef=scene.image.id)
    snapshots = scene.member.cinder.volume_snapshots
    snapshot = snapshots.create(volume_id)
    stages.wait_for(
        'the snapshot is not available',
        lambda: snapshots.get(snapshot.id).status == 'available',
    )
    _create(
        scene,
        _image_disk(scene, source_type='snapshot', uuid=snapshot.id),
    )
    scene.delete(root='gone')
    scene.member.cinder.volume_snapshots.delete(snapshot.id)


@flow()
def boot_from_blank(scene: Scene) -> None:
    """Create with a blank volume beside the image, and delete."""
    _create(
        scene,
        {
            'name': 'blank',
            'source_type': 'blank',
            'destination_type': 'volume',
            'volume_size': 1,
            'boot_index': -1,
            'delete_on_termination': True,
        },
    )
    scene.delete(blank='gone')


@flow('member', 'colleague')
def boot_from_volume(scene: Scene) -> None:
    """Boot from an existing volume, and delete."""
    scene.volume('root', imageRef=scene.image.id)
    _create(scene, _volume_disk(scene, 'root', boot_index=0))
    scene.delete(root='available')


@flow()
def data_volumes_at_create(scene: Scene) -> None:
    """Create with two existing volumes, and delete."""
    scene.volume('data')
    scene.volume('more')
    _create(
        scene,
        _volume_disk(scene, 'data'),
        _volume_disk(scene, 'more', delete_on_termination=True),
    )
    scene.delete(data='available', more='gone')


@flow('member', 'admin')
def delete_with_volumes(scene: Scene) -> None:
    """Delete a server with attached volumes, one of which goes with it."""
    scene.server('server')
    scene.volume('data')
    scene.volume('more')
    scene.attach()
    scene.attach('more', delete_on_termination=True)
    scene.delete(data='available', more='gone')


@flow()
def delete_stopped(scene: Scene) -> None:
    """Delete a stopped server with a volume."""
    _with_data(scene)
    scene.act('stop', 'SHUTOFF')
    scene.delete(data='available')


@flow()
def delete_shelved(scene: Scene) -> None:
    """Delete a shelved server with a volume."""
    _with_data(scene)
    scene.act('shelve', 'SHELVED_OFFLOADED')
    scene.delete(data='available')


@flow()
def fails_to_build(scene: Scene) -> None:
    """Create a server whose compute fails to build it, and delete."""
    scene.volume('data')
    _create_failing(scene, title=compute_driver.UNBUILDABLE)


@flow()
def fails_to_build_from_image(scene: Scene) -> None:
    """Fail to build a server that boots from a new volume, and delete."""
    scene.volume('data')
    _create_failing(
        scene,
        _image_disk(scene),
        title=compute_driver.UNBUILDABLE,
    )


@flow()
def never_scheduled(scene: Scene) -> None:
    """Create a server that fits nowhere, and delete."""
    scene.volume('data')
    _create_failing(scene, flavor=scene.flavor('nowhere'))


def _create_failing(
    scene: Scene, *disks: dict[str, Any], **kwargs: Any
) -> None:
    _create(
        scene, *disks, _volume_disk(scene, 'data'), status='ERROR', **kwargs
    )
    scene.delete(data='available')


# What a server goes through while it has a volume


@flow()
def shelve_and_unshelve(scene: Scene) -> None:
    """Shelve and unshelve a server with a volume."""
    _with_data(scene)
    scene.act('shelve', 'SHELVED_OFFLOADED')
    scene.act('unshelve', 'ACTIVE', data='in-use')
    scene.detach()


@flow()
def shelve_and_unshelve_volume_backed(scene: Scene) -> None:
    """Shelve and unshelve a server that boots from a volume."""
    scene.volume('root', imageRef=scene.image.id)
    _create(scene, _volume_disk(scene, 'root', boot_index=0))
    scene.act('shelve', 'SHELVED_OFFLOADED')
    scene.act('unshelve', 'ACTIVE', root='in-use')
    scene.delete(root='available')


@flow()
def reboot(scene: Scene) -> None:
    """Reboot a server with a volume."""
    _with_data(scene)
    scene.act('reboot', 'ACTIVE', 'HARD')
    scene.detach()


@flow()
def reboot_with_dangling(scene: Scene) -> None:
    """Reboot a server to which Cinder has a volume that Nova does not know."""
    _with_data(scene)
    scene.volume('dangling')
    scene.step(
        'forge, as a service',
        lambda: scene.forge('dangling', scene.servers['server']),
        dangling='in-use',
    )
    scene.act('reboot', 'ACTIVE', 'HARD', dangling='available')
    scene.detach()


@flow()
def rebuild(scene: Scene) -> None:
    """Rebuild a server with a volume."""
    _with_data(scene)
    scene.act('rebuild', 'ACTIVE', scene.image, data='in-use')
    scene.detach()


@flow()
def rebuild_volume_backed(scene: Scene) -> None:
    """Rebuild a server that boots from a volume, from an image."""
    scene.volume('root', imageRef=scene.image.id)
    _create(scene, _volume_disk(scene, 'root', boot_index=0))
    scene.act('rebuild', 'ACTIVE', scene.image, root='in-use')
    scene.delete(root='available')


@flow()
def resize(scene: Scene) -> None:
    """Resize a server with a volume, and confirm."""
    _with_data(scene)
    scene.act('resize', 'VERIFY_RESIZE', scene.flavor('small'), data='in-use')
    scene.act('confirm_resize', 'ACTIVE')
    scene.detach()


@flow()
def resize_and_revert(scene: Scene) -> None:
    """Resize a server with a volume, and revert."""
    _with_data(scene)
    scene.act('resize', 'VERIFY_RESIZE', scene.flavor('small'), data='in-use')
    scene.act('revert_resize', 'ACTIVE', data='in-use')
    scene.detach()


@flow('admin')
def migrate(scene: Scene) -> None:
    """Migrate a server with a volume, and confirm."""
    _with_data(scene)
    scene.act('migrate', 'VERIFY_RESIZE', data='in-use')
    scene.act('confirm_resize', 'ACTIVE')
    scene.detach()


@flow('admin')
def migrate_and_revert(scene: Scene) -> None:
    """Migrate a server with a volume, and revert."""
    _with_data(scene)
    scene.act('migrate', 'VERIFY_RESIZE', data='in-use')
    scene.act('revert_resize', 'ACTIVE', data='in-use')
    scene.detach()


@flow('admin')
def live_migrate(scene: Scene) -> None:
    """Migrate an active server with a volume, and back."""
    _with_data(scene)
    for _there_and_back in range(2):
        _move(
            scene,
            'ACTIVE',
            'live_migrate',
            host=None,
            block_migration='auto',
        )
    scene.detach()


@flow('admin', alone=True)
def evacuate(scene: Scene) -> None:
    """Evacuate a server with a volume from a compute that is down."""
    _with_data(scene)
    with _down(scene, scene.host()):
        _move(scene, 'SHUTOFF', 'evacuate')
    scene.detach()


def _move(scene: Scene, status: str, action: str, **kwargs: Any) -> None:
    """An action at whose end the server is on another host."""
    host = scene.host()

    def act() -> None:
        servers = scene.actor.nova.servers
        getattr(servers, action)(scene.servers['server'], **kwargs)
        stages.wait_for(
            f'the server stays on {host}',
            lambda: scene.host() != host,
            scene.patience,
        )

    scene.step(action.replace('_', ' '), act, server=status, data='in-use')


@flow(alone=True)
def delete_while_down(scene: Scene) -> None:
    """Delete a server with a volume while its compute is down."""
    _with_data(scene)
    with _down(scene, scene.host()):
        scene.delete(data='available')


@contextlib.contextmanager
def _down(scene: Scene, host: str) -> Iterator[None]:
    """A compute that is fenced off, and comes back at the end."""
    services = scene.admin.nova.services
    (service,) = services.list(host=host, binary='nova-compute')
    services.force_down(service.id, True)
    try:
        yield
    finally:
        # What was evacuated is over only when the compute has seen it.
        scene.cloud.restart(f'nova-{host}')
        stages.wait_for(
            f'{host} is not up again',
            functools.partial(_is_up, services, service.id),
        )


def _is_up(services: Any, service_id: str) -> bool:
    try:
        services.force_down(service_id, False)
    except nova_exceptions.BadRequest:
        return False
    return any(
        service.state == 'up'
        for service in services.list(binary='nova-compute')
        if service.id == service_id
    )


@flow()
def refresh_attachment(scene: Scene) -> None:
    """``nova-manage volume_attachment refresh``, then start and detach."""
    _with_data(scene)
    scene.act('stop', 'SHUTOFF')
    scene.step(
        'nova-manage volume_attachment refresh',
        lambda: scene.nova_manage(
            'volume_attachment',
            'refresh',
            scene.servers['server'],
            scene.volumes['data'],
            scene.connector(),
        ),
    )
    scene.act('start', 'ACTIVE', data='in-use')
    scene.detach()


# What Cinder does with a volume that a server has


@flow('admin')
def migrate_volume_in_use(scene: Scene) -> None:
    """Migrate a volume in use to another backend: Nova swaps it."""
    scene.server('server')
    scene.volume('data', volume_type='any')
    scene.attach()
    target = 'two' if '@one' in _backend(scene) else 'one'
    scene.step(
        'migrate the volume',
        lambda: _swap(
            scene,
            target,
            scene.actor.cinder.volumes.migrate_volume,
            f'controller@{target}#{target}',
            force_host_copy=False,
            lock_volume=False,
        ),
        data='in-use',
    )
    scene.detach()


@flow()
def retype_volume_in_use(scene: Scene) -> None:
    """Retype a volume in use to a type of another backend."""
    _with_data(scene)
    scene.step(
        'retype the volume',
        lambda: _swap(
            scene,
            'two',
            scene.actor.cinder.volumes.retype,
            'two',
            'on-demand',
        ),
        data='in-use',
    )
    scene.detach()


def _backend(scene: Scene) -> str:
    volume = scene.admin.cinder.volumes.get(scene.volumes['data'])
    return str(getattr(volume, 'os-vol-host-attr:host'))


def _swap(
    scene: Scene, backend: str, call: Any, *args: Any, **kwargs: Any
) -> None:
    """Something at whose end the volume is on another backend."""
    call(scene.volumes['data'], *args, **kwargs)

    def look() -> bool:
        volume = scene.admin.cinder.volumes.get(scene.volumes['data'])
        return (
            f'@{backend}' in getattr(volume, 'os-vol-host-attr:host')
            and volume.migration_status in (None, 'success')
            and volume.status != 'retyping'
        )

    stages.wait_for(f'the volume is not on {backend}', look, scene.patience)


@flow()
def extend_in_use(scene: Scene) -> None:
    """Extend a volume in use."""
    _with_data(scene)
    scene.step(
        'extend the volume',
        lambda: scene.actor.cinder.volumes.extend(scene.volumes['data'], 2),
        data='in-use',
    )
    scene.detach()


# What a member may try past Nova


@forging
def os_attach_real(scene: Scene) -> None:
    """``os-attach``, naming a server that does not have the volume."""
    scene.server('server')
    scene.volume('data')
    _os_attach(scene, scene.servers['server'])


@forging
def os_attach_invented(scene: Scene) -> None:
    """``os-attach``, naming an invented server."""
    scene.volume('data')
    _os_attach(scene, str(uuid.uuid4()))


@forging
def os_attach_other(scene: Scene) -> None:
    """``os-attach``, naming another project's server."""
    scene.server('server', by=scene.caller('other'))
    scene.volume('data')
    _os_attach(scene, scene.servers['server'])


@forging
def os_attach_host(scene: Scene) -> None:
    """``os-attach``, naming only a host."""
    scene.volume('data')
    _os_attach(scene, None, host_name='a-host')


@forging
def os_attach_again(scene: Scene) -> None:
    """``os-attach`` of what Nova has attached already."""
    scene.server('server')
    scene.volume('data', volume_type='multiattach')
    scene.attach()
    _os_attach(scene, scene.servers['server'])
    scene.detach()


def _os_attach(scene: Scene, server: str | None, **kwargs: Any) -> None:
    scene.step(
        'os-attach',
        lambda: scene.actor.cinder.volumes.attach(
            scene.volumes['data'], server, '/dev/vdb', **kwargs
        ),
    )


@forging
def attachments_real(scene: Scene) -> None:
    """Create and complete an attachment of a server without the volume."""
    scene.server('server')
    scene.volume('data')
    _attachment(scene, scene.servers['server'])


@forging
def attachments_invented(scene: Scene) -> None:
    """Create, update and complete an attachment of an invented server."""
    scene.volume('data')
    _attachment(scene, str(uuid.uuid4()), update=True)


def _attachment(scene: Scene, server: str, update: bool = False) -> None:
    attachments = scene.actor.cinder.attachments
    made: dict[str, Any] = {}
    created = scene.step(
        'create an attachment',
        lambda: made.update(
            attachments.create(scene.volumes['data'], None, server)
        ),
    )
    if created and update:
        scene.step(
            'update it',
            lambda: attachments.update(made['id'], {'host': 'a-host'}),
        )
    if created:
        scene.step('complete it', lambda: attachments.complete(made['id']))


@forging
def pull(scene: Scene) -> None:
    """``os-detach`` and the like, of a volume that a server has."""
    _with_data(scene)
    volumes = scene.actor.cinder.volumes
    data = scene.volumes['data']
    (record,) = scene.attachments('data')
    for name, call in {
        'os-detach': lambda: volumes.detach(data),
        'os-terminate_connection': lambda: volumes.terminate_connection(
            data, {'host': scene.host()}
        ),
        'delete the attachment': lambda: scene.actor.cinder.attachments.delete(
            record.id
        ),
        'update the attachment': lambda: scene.actor.cinder.attachments.update(
            record.id, {'host': 'a-host'}
        ),
        'os-begin_detaching': lambda: volumes.begin_detaching(data),
    }.items():
        scene.step(name, call)
    scene.detach()
