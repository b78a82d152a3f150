# SPDX-License-Identifier: Apache-2.0

"""Cinder's own API router, with its effects recorded instead of performed.

Everything that decides which operation a request reaches is Cinder's: its
routes, dispatcher, microversions, schemas, controllers and policies, and
Routes, oslo.service and WebOb below it.  Only the database is replaced (by a
few volumes and attachments in memory), and what the controllers call in the
end (``cinder.volume.api.API``, the ``save`` of an object, ``cinder.db``): such
a call is an :class:`Effect`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import functools
import inspect
import logging as python_logging
from typing import Any
from typing import TYPE_CHECKING
import unicodedata
from unittest import mock

from cinder import objects
from cinder.common import config  # noqa: F401  (registers Cinder's options)
from oslo_config import cfg
from oslo_log import log as logging
import oslo_messaging

objects.register_all()

from cinder import context as cinder_context  # noqa: E402
from cinder import db  # noqa: E402
from cinder import exception  # noqa: E402
from cinder import rpc  # noqa: E402
from cinder.api.contrib import volume_actions  # noqa: E402
from cinder.api.openstack import api_version_request  # noqa: E402
from cinder.api.v3 import router as cinder_router  # noqa: E402
from cinder.db import api as db_api  # noqa: E402
from cinder.group import api as group_api  # noqa: E402
from cinder.transfer import api as transfer_api  # noqa: E402
from cinder.volume import api as volume_api  # noqa: E402
from cinder.volume import group_types  # noqa: E402
from cinder.volume import volume_utils  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

# The newest that the installed release has.
MICROVERSION = api_version_request.max_api_version().get_string()

PROJECT = '6f70656e737461636b61747461636821'
STRANGER = '0ddba11000000000000000000000cafe'
USER = '75736572000000000000000000000001'

SERVER = '5e17e51e-0000-4000-8000-00000000abcd'
OTHER_SERVER = '5e17e51e-0000-4000-8000-0000000000ef'


@dataclasses.dataclass(frozen=True)
class Attachment:
    """A row of Cinder's table of attachments."""

    id: str
    volume: str
    server: str | None
    status: str = 'attached'
    connected: bool = True


@dataclasses.dataclass(frozen=True)
class Volume:
    """A row of Cinder's table of volumes."""

    id: str
    status: str
    project: str = PROJECT
    migration_status: str | None = None
    #: whether its record has just changed
    young: bool = False
    #: the id of its group
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Group:
    """A row of Cinder's table of groups."""

    id: str
    project: str = PROJECT


NO_VOLUMES = Group('94060000-0000-4000-8000-00000000bade')
ALL_FREE = Group('94060001-0000-4000-8000-00000000fade')
ONE_RESERVED = Group('94060002-0000-4000-8000-00000000dead')
# Available, but with an attachment.
ONE_LATE = Group('94060003-0000-4000-8000-00000000abed')
ONE_BUSY = Group('94060004-0000-4000-8000-00000000beef')
OF_OTHERS = Group('94060005-0000-4000-8000-00000000cafe', STRANGER)

# Letters in every id, so that a database which ignores case can show it.
FREE = Volume('f4ee0000-0000-4000-8000-00000000face', 'available')
LIVE = Volume('11fe0000-0000-4000-8000-00000000fade', 'in-use')
HOSTED = Volume('b0570000-0000-4000-8000-00000000bead', 'in-use')
RESERVED = Volume(
    '4e5e0000-0000-4000-8000-00000000dead', 'reserved', group=ONE_RESERVED.id
)
SHARED = Volume('5ba4ed00-0000-4000-8000-00000000beef', 'in-use')
FOREIGN = Volume(
    'f04e1600-0000-4000-8000-00000000cafe', 'in-use', project=STRANGER
)
FORGED = Volume('f0496ed0-0000-4000-8000-00000000feed', 'in-use')
MOVING = Volume(
    'e0160000-0000-4000-8000-00000000babe',
    'in-use',
    migration_status='migrating',
)
YOUNG = Volume('f0000e60-0000-4000-8000-00000000cede', 'reserved', young=True)
# In-use by nothing.
EMPTY = Volume('e0000000-0000-4000-8000-00000000deed', 'in-use')
LATE = Volume(
    '1a7e0000-0000-4000-8000-00000000caca', 'available', group=ONE_LATE.id
)
IN_GROUPS = (
    Volume('96000001-0000-4000-8000-00000000aaaa', 'error', group=ALL_FREE.id),
    *(
        Volume(f'{id_}-0000-4000-8000-00000000bbbb', 'available', group=of.id)
        for id_, of in (
            ('96000002', ALL_FREE),
            ('96000003', ONE_RESERVED),
            ('96000004', ONE_LATE),
            ('96000005', ONE_BUSY),
        )
    ),
    Volume(
        '96000006-0000-4000-8000-00000000cccc', 'backing-up', group=ONE_BUSY.id
    ),
    LATE,
)
# No id in a database is a word. As ids, the words of the routes show whether a
# filter takes one for the other.
WORDS = (
    'action',
    'attachments',
    'consistencygroups',
    'delete',
    'detail',
    'groups',
    'os-volume-transfer',
    'volume-transfers',
    'volumes',
)
VOLUMES = (
    *(FREE, LIVE, HOSTED, RESERVED, SHARED, FOREIGN),
    *(FORGED, MOVING, YOUNG, EMPTY),
    *IN_GROUPS,
    *(Volume(word, 'in-use') for word in WORDS),
)
GROUPS = (
    *(NO_VOLUMES, ALL_FREE, ONE_RESERVED, ONE_LATE, ONE_BUSY, OF_OTHERS),
    *(Group(word) for word in WORDS),
)

ATTACHMENTS = (
    Attachment('a77a0001-0000-4000-8000-00000000aaaa', LIVE.id, SERVER),
    Attachment('a77a0002-0000-4000-8000-00000000bbbb', HOSTED.id, None),
    Attachment(
        'a77a0003-0000-4000-8000-00000000cccc',
        RESERVED.id,
        SERVER,
        status='reserved',
        connected=False,
    ),
    Attachment('a77a0004-0000-4000-8000-00000000dddd', SHARED.id, SERVER),
    Attachment(
        'a77a0005-0000-4000-8000-00000000eeee', SHARED.id, OTHER_SERVER
    ),
    Attachment('a77a0006-0000-4000-8000-00000000ffff', SHARED.id, None),
    Attachment('a77a0007-0000-4000-8000-00000000abba', FOREIGN.id, SERVER),
    Attachment(
        'a77a0008-0000-4000-8000-00000000acdc',
        FORGED.id,
        OTHER_SERVER,
        connected=False,
    ),
    Attachment('a77a0009-0000-4000-8000-00000000baab', MOVING.id, SERVER),
    Attachment(
        'a77a000a-0000-4000-8000-00000000bccb',
        YOUNG.id,
        OTHER_SERVER,
        status='reserved',
        connected=False,
    ),
    Attachment(
        'a77a0011-0000-4000-8000-00000000ceca',
        LATE.id,
        SERVER,
        status='reserved',
        connected=False,
    ),
    *(Attachment(word, word, SERVER) for word in WORDS),
)

MEMBER_ROLES = ('member', 'reader')
ADMIN_ROLES = ('admin', 'manager', 'member', 'reader')


@dataclasses.dataclass(frozen=True)
class Effect:
    """What Cinder would have done.

    :param operation: one of the guarded operations, or ``other:<method>``
    :param volume: the id of the volume to which it would have been done
    :param server: the server that the caller named, as it was written
    :param attachment: the id of the attachment that it is about
    :param group: the id of the group that it is about
    :param arguments: whatever else it would have been done with
    """

    operation: str
    volume: str | None
    server: str | None = None
    attachment: str | None = None
    arguments: str = ''
    group: str | None = None

    @property
    def guarded(self) -> bool:
        return not self.operation.startswith('other:')


# Methods of cinder.volume.api.API, as the operation whose effect they are.
_OPERATIONS = {
    'attach': 'os-attach',
    'detach': 'os-detach',
    'reserve_volume': 'os-reserve',
    'unreserve_volume': 'os-unreserve',
    'begin_detaching': 'os-begin_detaching',
    'roll_detaching': 'os-roll_detaching',
    'initialize_connection': 'os-initialize_connection',
    'terminate_connection': 'os-terminate_connection',
    'migrate_volume_completion': 'os-migrate_volume_completion',
    'reimage': 'os-reimage',
    'attachment_create': 'attachment-create',
    'attachment_update': 'attachment-update',
    'attachment_delete': 'attachment-delete',
}

# What reads and changes nothing, and is left as it is.
_READING = frozenset(
    {
        'get',
        'get_volume',
        'is_service_request',
        'check_volume_filters',
        'list_availability_zones',
    }
)


def collate(value: Any) -> Any:
    """What a database compares when it compares ids.

    MySQL, by its usual collations, takes for equal what differs in case, in
    accents, in blanks at the end and in characters without weight; so does
    this, because a filter must not rely on a stricter database.
    """
    if not isinstance(value, str):
        return value
    return _collate(value)


@functools.lru_cache(maxsize=4096)
def _collate(value: str) -> str:
    decomposed = unicodedata.normalize('NFKD', value.rstrip(' '))
    return ''.join(
        character
        for character in decomposed
        if not unicodedata.combining(character)
        and (
            character in '\t\n\r\v\f'
            or unicodedata.category(character) not in ('Cc', 'Cf')
        )
    ).casefold()


class _Database:
    """The part of ``cinder.db`` that the controllers themselves call.

    All that is not written out here knows nothing and finds nothing.
    """

    def __init__(self, effects: list[Effect]) -> None:
        self._effects = effects

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith('__'):
            raise AttributeError(name)

        def nothing(*args: Any, **kwargs: Any) -> Any:
            raise exception.NotFound()

        return nothing

    def volume_admin_metadata_get(
        self, context: Any, volume_id: str
    ) -> dict[str, str]:
        return {}

    def volume_admin_metadata_delete(self, *args: Any) -> None:
        pass

    def attachment_specs_get(self, *args: Any) -> None:
        return None

    def dispose_engine(self) -> None:
        pass

    def service_get_all(self, *args: Any, **filters: Any) -> list[Any]:
        return []

    def get_booleans_for_table(self, table_name: str) -> set[str]:
        return set()

    def worker_destroy(self, context: Any, **filters: Any) -> int:
        return 0

    def volume_attachment_get_all_by_volume_id(
        self, context: Any, volume_id: str
    ) -> list[Any]:
        key = collate(volume_id)
        return [row for row in ATTACHMENTS if collate(row.volume) == key]

    def volume_update(
        self, context: Any, volume_id: str, values: dict[str, Any]
    ) -> None:
        self._effects.append(
            Effect(
                'os-reset_status',
                _volume_row(context, volume_id).id,
                arguments=repr(sorted(values.items())),
            )
        )

    def volume_detached(
        self, context: Any, volume_id: str, attachment_id: str
    ) -> None:
        # os-reset_status, which has been recorded by volume_update.
        pass


def _volume_row(context: Any, volume_id: Any) -> Volume:
    key = collate(volume_id)
    for row in VOLUMES:
        if collate(row.id) == key and (
            context.is_admin or row.project == context.project_id
        ):
            return row
    raise exception.VolumeNotFound(volume_id=volume_id)


def _attachment_row(context: Any, attachment_id: Any) -> Attachment:
    key = collate(attachment_id)
    for row in ATTACHMENTS:
        if collate(row.id) == key:
            try:
                _volume_row(context, row.volume)
            except exception.VolumeNotFound:
                break
            return row
    raise exception.VolumeAttachmentNotFound(
        filter=f'attachment_id = {attachment_id}'
    )


def _build_group(context: Any, group_id: Any, *args: Any) -> objects.Group:
    key = collate(group_id)
    for row in GROUPS:
        if collate(row.id) == key and (
            context.is_admin or row.project == context.project_id
        ):
            absent = (
                'cluster_name availability_zone name description '
                'volume_type_ids group_snapshot_id source_group_id '
                'replication_status updated_at deleted_at'
            )
            return objects.Group(
                context,
                id=row.id,
                user_id=USER,
                project_id=row.project,
                host='host-1@fake#fake',
                group_type_id='7e570000-0000-4000-8000-000000000002',
                status='available',
                created_at=_LONG_AGO,
                deleted=False,
                volume_types=objects.VolumeTypeList(objects=[]),
                **dict.fromkeys(absent.split()),
            )
    raise exception.GroupNotFound(group_id=group_id)


def _build_attachment(row: Attachment) -> objects.VolumeAttachment:
    return objects.VolumeAttachment(
        id=row.id,
        volume_id=row.volume,
        instance_uuid=row.server,
        attached_host=None if row.server else 'host-1',
        mountpoint='/dev/vdb',
        attach_time=None,
        detach_time=None,
        attach_status=row.status,
        attach_mode='rw',
        connection_info=(
            {'driver_volume_type': 'fake'} if row.connected else {}
        ),
        connector={'host': 'host-1'},
        created_at=None,
        updated_at=None,
        deleted_at=None,
        deleted=False,
    )


_LONG_AGO = datetime.datetime(2014, 7, 31, tzinfo=datetime.UTC)
_TO_COME = datetime.datetime(2114, 7, 31, tzinfo=datetime.UTC)


def _build_volume(row: Volume) -> objects.Volume:
    absent = dict.fromkeys(
        (
            '_name_id ec2_id snapshot_id cluster_name cluster '
            'scheduled_at launched_at terminated_at '
            'display_description provider_id provider_location '
            'provider_auth provider_geometry source_volid encryption_key_id '
            'consistencygroup_id replication_status '
            'replication_extended_status replication_driver_data '
            'previous_status consistencygroup snapshots group service_uuid '
            'deleted_at'
        ).split()
    )
    attached = [
        _build_attachment(attachment)
        for attachment in ATTACHMENTS
        if attachment.volume == row.id
    ]
    volume_type = objects.VolumeType(
        id='7e570000-0000-4000-8000-000000000001',
        name='__DEFAULT__',
        extra_specs={},
    )
    return objects.Volume(
        id=row.id,
        user_id=USER,
        project_id=row.project,
        use_quota=True,
        host='host-1@fake#fake',
        size=1,
        availability_zone='nova',
        migration_status=row.migration_status,
        group_id=row.group,
        created_at=_LONG_AGO,
        updated_at=_TO_COME if row.young else _LONG_AGO,
        status=row.status,
        attach_status='attached' if attached else 'detached',
        display_name='',
        volume_type_id=volume_type.id,
        deleted=False,
        bootable=False,
        multiattach=len(attached) > 1,
        metadata={},
        admin_metadata={},
        glance_metadata={},
        volume_type=volume_type,
        volume_attachment=objects.VolumeAttachmentList(objects=attached),
        shared_targets=False,
        **absent,
    )


def _fresh(template: Any, context: Any) -> Any:
    # As if it came out of the database: a controller may write on it.
    found = copy.copy(template)
    found._context = context
    found._changed_fields = set()
    return found


# The recorder adds the operation.
_effect = functools.partial(Effect, '')


def _record_any(context: Any, *args: Any, **kwargs: Any) -> tuple[Effect, Any]:
    volume = args[0] if args else None
    return (
        _effect(
            volume.id if isinstance(volume, objects.Volume) else None,
            arguments=repr(
                [str(a) for a in args[1:]]
                + [f'{k}={v}' for k, v in sorted(kwargs.items())]
            ),
        ),
        None,
    )


def _record_attach(
    context: Any,
    volume: Any,
    server: str | None,
    host: str | None,
    mountpoint: str,
    mode: str,
) -> tuple[Effect, Any]:
    arguments = repr((host, mountpoint, mode))
    return _effect(volume.id, server, None, arguments), None


def _record_detach(
    context: Any, volume: Any, attachment: str | None
) -> tuple[Effect, Any]:
    # As attachment_deletion_allowed and the volume service do, except for the
    # query to Nova.
    if attachment is not None:
        row = _attachment_row(context, attachment)
        if row.volume != volume.id:
            raise exception.InvalidInput(
                reason='Mismatched volume and attachment'
            )
        attachment = row.id
    return _effect(volume.id, attachment=attachment), None


def _record_initialize_connection(
    context: Any, volume: Any, connector: Any
) -> tuple[Effect, Any]:
    return _effect(volume.id, arguments=repr(connector)), {}


def _record_migrate_volume_completion(
    context: Any, volume: Any, new: Any, error: Any
) -> tuple[Effect, Any]:
    arguments = repr((new.id, error))
    return _effect(volume.id, arguments=arguments), new.id


def _record_transfer_create(
    context: Any, volume_id: str, name: Any, **options: Any
) -> tuple[Effect, Any]:
    volume = _volume_row(context, volume_id)
    made = dict.fromkeys(
        (
            'id display_name auth_key created_at no_snapshots '
            'source_project_id destination_project_id accepted'
        ).split()
    )
    return (
        _effect(volume.id, arguments=repr((name, sorted(options.items())))),
        {**made, 'volume_id': volume.id},
    )


def _record_attachment_create(
    context: Any,
    volume: Any,
    server: str | None,
    connector: Any = None,
    attach_mode: str | None = 'null',
) -> tuple[Effect, Any]:
    arguments = repr((connector, attach_mode))
    made = _build_attachment(
        Attachment(
            'a77a0fff-0000-4000-8000-00000000aaaa',
            volume.id,
            None,
            status='reserved',
        )
    )
    return _effect(volume.id, server, None, arguments), made


def _record_attachment_update(
    context: Any, attachment: Any, connector: Any
) -> tuple[Effect, Any]:
    return (
        _effect(
            attachment.volume_id,
            attachment=attachment.id,
            arguments=repr(connector),
        ),
        attachment,
    )


def _record_attachment_delete(
    context: Any, attachment: Any
) -> tuple[Effect, Any]:
    effect = _effect(attachment.volume_id, attachment=attachment.id)
    return effect, []


_RECORDERS: dict[str, Callable[..., tuple[Effect, Any]]] = {
    'attach': _record_attach,
    'detach': _record_detach,
    'initialize_connection': _record_initialize_connection,
    'migrate_volume_completion': _record_migrate_volume_completion,
    'attachment_create': _record_attachment_create,
    'attachment_update': _record_attachment_update,
    'attachment_delete': _record_attachment_delete,
    'transfer_create': _record_transfer_create,
}


class RecordingRouter:
    """A WSGI application: Cinder's router, whose effects are recorded.

    A process can have one at a time, for it replaces what Cinder keeps in
    modules, until it is closed.

    :ivar effects: what the requests since the last :meth:`take` would have
        done, in order
    """

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self._replaced = contextlib.ExitStack()
        self._configure()
        self._replace_database()
        self._replace_volume_api()
        self._app = cinder_router.APIRouter()
        self._mark_administrative()

    def close(self) -> None:
        """Give Cinder its own back."""
        self._replaced.close()

    def _replace(self, where: Any, name: str, what: Any) -> None:
        self._replaced.enter_context(mock.patch.object(where, name, what))

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        response: Iterable[bytes] = self._app(environ, start_response)
        return response

    def take(self) -> list[Effect]:
        """The recorded effects, which are then forgotten."""
        effects = list(self.effects)
        self.effects.clear()
        return effects

    def _configure(self) -> None:
        logging.register_options(cfg.CONF)
        cfg.CONF(
            [],
            project='cinder',
            default_config_files=[],
            default_config_dirs=[],
        )
        # Registers the option as it goes.
        oslo_messaging.get_rpc_transport(cfg.CONF, url='fake:/')
        cfg.CONF.set_override('transport_url', 'fake:/')
        rpc.init(cfg.CONF)
        # One log line a request, and a traceback for each bad one, would be
        # most of the work.
        for name in ('cinder', 'routes'):
            logger = python_logging.getLogger(name)
            self._replaced.callback(logger.setLevel, logger.level)
            logger.setLevel('CRITICAL')

    def _replace_database(self) -> None:
        volumes = {row.id: _build_volume(row) for row in VOLUMES}
        attachments = {}
        for row in ATTACHMENTS:
            attachment = _build_attachment(row)
            attachment.volume = volumes[row.volume]
            attachments[row.id] = attachment

        def get_volume(context: Any, id: Any, *args: Any) -> Any:
            return _fresh(volumes[_volume_row(context, id).id], context)

        def get_attachment(context: Any, id: Any, *args: Any) -> Any:
            row = _attachment_row(context, id)
            found = _fresh(attachments[row.id], context)
            found.volume = get_volume(context, row.volume)
            found._changed_fields = set()
            return found

        def get_all(
            context: Any,
            search_opts: dict[str, Any] | None = None,
            marker: str | None = None,
            limit: int | None = None,
            **paging: Any,
        ) -> Any:
            found = list(_search(context, search_opts or {}))
            if marker is not None:
                ids = [row.id for row in found]
                if marker not in ids:
                    raise exception.VolumeAttachmentNotFound(filter=marker)
                found = found[ids.index(marker) + 1 :]
            return objects.VolumeAttachmentList(
                context,
                objects=[
                    _fresh(attachments[row.id], context)
                    for row in found[:limit]
                ],
            )

        def get_all_by_project(
            context: Any, project_id: str, **options: Any
        ) -> Any:
            found = get_all(context, **options)
            found.objects = [
                item
                for item in found.objects
                if item.volume.project_id == project_id
            ]
            return found

        def get_volumes(
            api: Any,
            context: Any,
            marker: str | None = None,
            limit: int | None = None,
            filters: dict[str, Any] | None = None,
            **paging: Any,
        ) -> Any:
            filters = filters or {}
            everywhere = context.is_admin and 'all_tenants' in filters
            found = [
                _fresh(volumes[row.id], context)
                for row in VOLUMES
                if (everywhere or row.project == context.project_id)
                and collate(filters.get('id', row.id)) == collate(row.id)
                and filters.get('group_id', row.group) == row.group
            ]
            return objects.VolumeList(context, objects=found[:limit])

        def no_backups(context: Any, *filters: Any) -> Any:
            return objects.BackupList(context, objects=[])

        def delete_group(
            api: Any, context: Any, group: Any, delete_volumes: bool = False
        ) -> None:
            kind = '' if delete_volumes else 'other:'
            self.effects.append(
                Effect(f'{kind}group-delete', None, group=group.id)
            )

        def save_attachment(attachment: Any) -> None:
            self.effects.append(
                Effect(
                    'attachment-complete',
                    attachment.volume_id,
                    attachment=attachment.id,
                )
            )

        def save_volume(volume: Any) -> None:
            # attachment-complete, which has been recorded already.
            pass

        database = _Database(self.effects)
        # Up to Cinder 28 the package has the same functions once more.
        for module in (db_api, db):
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) and not name.startswith('_'):
                    self._replace(module, name, getattr(database, name))
        for where, name, what in (
            (volume_api.API, 'get_all', get_volumes),
            (objects.BackupList, 'get_all', no_backups),
            (objects.Group, 'get_by_id', _build_group),
            (group_api.API, 'delete', delete_group),
            (group_types, 'get_default_cgsnapshot_type', lambda: {'id': ''}),
            (objects.Volume, 'get_by_id', get_volume),
            (objects.Volume, 'save', save_volume),
            (objects.VolumeAttachment, 'get_by_id', get_attachment),
            (objects.VolumeAttachment, 'save', save_attachment),
            (objects.VolumeAttachmentList, 'get_all', get_all),
            (
                objects.VolumeAttachmentList,
                'get_all_by_project',
                get_all_by_project,
            ),
            (volume_utils, 'notify_about_volume_usage', _nothing_known),
        ):
            self._replace(where, name, what)

    def _replace_volume_api(self) -> None:
        self._administrative: set[int] = set()
        method: Callable[..., Any]
        for name, value in list(vars(volume_api.API).items()):
            if name.startswith('_') or name in _READING or not callable(value):
                continue
            if name == 'get_all':
                continue
            if name.startswith(('get_', 'calculate_')):
                method = _nothing_known
            else:
                method = self._recorder(name)
            self._replace(volume_api.API, name, method)
        create = self._recorder('transfer_create', 'transfer-create')
        self._replace(transfer_api.API, 'create', create)
        # os-reimage reads the image, if the release can use its snapshot.
        name = '_get_image_snapshot_and_check_size'
        controller = volume_actions.VolumeActionsController
        if hasattr(controller, name):
            self._replace(controller, name, _nothing_known)

    def _recorder(
        self, name: str, operation: str | None = None
    ) -> Callable[..., Any]:
        operation = operation or _OPERATIONS.get(name, f'other:{name}')
        describe: Callable[..., tuple[Effect, Any]] = _RECORDERS.get(
            name, _record_any
        )

        def record(api: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
            effect, result = describe(context, *args, **kwargs)
            performed: str = operation
            if id(api) in self._administrative and operation in (
                'os-detach',
                'os-terminate_connection',
            ):
                performed = 'os-force_detach'
            self.effects.append(
                dataclasses.replace(effect, operation=performed)
            )
            return result

        return record

    def _mark_administrative(self) -> None:
        # os-force_detach calls the same methods as a member's actions do,
        # from another controller.
        actions = self._app.resources['volumes'].wsgi_actions
        controller = actions['os-force_detach'].__self__
        self._administrative.add(id(controller.volume_api))


def _nothing_known(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {}


def _search(context: Any, options: dict[str, Any]) -> Iterator[Attachment]:
    wanted = {
        'id': 'id',
        'volume_id': 'volume',
        'instance_uuid': 'server',
        'attach_status': 'status',
        'status': 'status',
    }
    for row in ATTACHMENTS:
        try:
            _volume_row(context, row.volume)
        except exception.VolumeNotFound:
            continue
        if all(
            collate(getattr(row, wanted[key])) == collate(value)
            for key, value in options.items()
            if key in wanted
        ):
            yield row


def request_context(admin: bool) -> cinder_context.RequestContext:
    """The context that ``keystonecontext`` would make of a caller.

    :param admin: an administrator, or an ordinary member of the project
    """
    return _CONTEXTS[admin]


_CONTEXTS = [
    cinder_context.RequestContext(
        user_id=USER,
        project_id=PROJECT,
        roles=list(roles),
        is_admin=roles is ADMIN_ROLES,
        auth_token='token',
        request_id='req-00000000-0000-4000-8000-000000000000',
    )
    for roles in (MEMBER_ROLES, ADMIN_ROLES)
]
