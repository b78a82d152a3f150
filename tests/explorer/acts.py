# SPDX-License-Identifier: Apache-2.0
"""What Nova does with a volume while members call Cinder."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

from tests.cloud import compute_driver
from tests.cloud import stage as stages

_CONNECT = ('attachment-create', 'attachment-update', 'attachment-complete')
_MOVE = (*_CONNECT, 'attachment-delete')
_DELETE = ('attachment-delete',)


@dataclasses.dataclass(frozen=True)
class Act:
    """One request to Nova or Cinder, and all that follows from it.

    :param run: makes the request
    :param calls: the calls that Nova makes to Cinder, about in their order
    """

    run: Callable[[stages.Stage], Any]
    calls: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scene:
    """Acts that follow one another.

    :param acts: their names
    :param owner: whose the volume is
    :param volume_type: of the volume
    """

    acts: tuple[str, ...]
    owner: str = 'member'
    volume_type: str = 'one'


def _attach(
    by: str = 'member', server: str = 'server'
) -> Callable[[stages.Stage], Any]:
    return lambda stage: stage.caller(by).nova.volumes.create_server_volume(
        stage.servers[server], stage.volumes['data']
    )


def _detach(stage: stages.Stage) -> None:
    stage.member.nova.volumes.delete_server_volume(
        stage.servers['server'], stage.volumes['data']
    )


def _server(
    action: str, by: str = 'admin', server: str = 'server', **kwargs: Any
) -> Callable[[stages.Stage], Any]:
    return lambda stage: getattr(stage.caller(by).nova.servers, action)(
        stage.servers[server], **kwargs
    )


def _boot(title: str) -> Callable[[stages.Stage], None]:
    """Create a server with the volume.

    It is deleted with the server, but where that cannot be built.
    """

    def boot(stage: stages.Stage) -> None:
        disk = {
            'source_type': 'volume',
            'uuid': stage.volumes['data'],
            'destination_type': 'volume',
            'boot_index': -1,
            'delete_on_termination': title != compute_driver.UNBUILDABLE,
        }
        stage.servers['built'] = stage.member.nova.servers.create(
            title,
            image=stage.image,
            flavor=stage.flavor('tiny'),
            nics='none',
            block_device_mapping_v2=[disk],
        ).id

    return boot


def _retype(stage: stages.Stage) -> None:
    stage.member.cinder.volumes.retype(
        stage.volumes['data'], 'two', 'on-demand'
    )


ACTS: dict[str, Act] = {
    'attach': Act(_attach(), _CONNECT),
    'attach, as admin': Act(_attach('admin'), _CONNECT),
    'attach to second': Act(_attach(server='second'), _CONNECT),
    'detach': Act(_detach, ('os-begin_detaching', *_DELETE)),
    'boot': Act(_boot('built'), _CONNECT),
    'fail to boot': Act(_boot(compute_driver.UNBUILDABLE), _MOVE),
    'delete': Act(_server('delete', 'member'), _DELETE),
    'delete built': Act(_server('delete', 'member', 'built'), _DELETE),
    'delete built, as admin': Act(
        _server('delete', server='built'), (*_DELETE, 'DELETE')
    ),
    'live migrate': Act(
        _server('live_migrate', host=None, block_migration='auto'), _MOVE
    ),
    'resize': Act(
        lambda stage: stage.admin.nova.servers.resize(
            stage.servers['server'], stage.flavor('small')
        ),
        ('attachment-create', 'attachment-delete', *_CONNECT[1:]),
    ),
    'confirm': Act(_server('confirm_resize')),
    'revert': Act(
        _server('revert_resize'),
        ('attachment-create', 'attachment-delete', *_CONNECT[1:]),
    ),
    'shelve': Act(_server('shelve'), ('attachment-create', *_DELETE)),
    'unshelve': Act(_server('unshelve'), _CONNECT[1:]),
    'rebuild': Act(
        lambda stage: stage.admin.nova.servers.rebuild(
            stage.servers['server'], stage.image
        ),
        ('attachment-create', 'attachment-delete', *_CONNECT[1:]),
    ),
    'retype': Act(
        _retype, (*_CONNECT, 'os-migrate_volume_completion', *_DELETE)
    ),
}

SCENES: dict[str, Scene] = {
    'attach': Scene(('attach', 'detach')),
    'attach and keep': Scene(('attach',)),
    'attach as admin': Scene(('attach, as admin',), owner='other'),
    'multiattach': Scene(
        ('attach', 'attach to second', 'detach'), volume_type='multiattach'
    ),
    'boot': Scene(('boot', 'delete built')),
    'boot and keep': Scene(('boot',)),
    'fail to boot': Scene(('fail to boot', 'delete built, as admin')),
    'delete': Scene(('attach', 'delete')),
    'live migrate': Scene(('attach', 'live migrate')),
    'resize': Scene(('attach', 'resize', 'confirm')),
    'revert': Scene(('attach', 'resize', 'revert')),
    'shelve': Scene(('attach', 'shelve', 'unshelve')),
    'attach shelved': Scene(('shelve', 'attach', 'unshelve')),
    'rebuild': Scene(('attach', 'rebuild')),
    'retype': Scene(('attach', 'retype')),
}
