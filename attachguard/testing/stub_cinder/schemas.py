# SPDX-License-Identifier: Apache-2.0

"""JSON schemas of the request bodies, after ``cinder.api.schemas``."""

from __future__ import annotations

from collections.abc import Iterable
import typing

Schema = dict[str, typing.Any]

#: ``cinder.objects.fields.VolumeStatus``
_STATUSES = (
    'creating',
    'available',
    'deleting',
    'error',
    'error_deleting',
    'error_managing',
    'managing',
    'attaching',
    'in-use',
    'detaching',
    'maintenance',
    'restoring-backup',
    'error_restoring',
    'reserved',
    'awaiting-transfer',
    'backing-up',
    'error_backing-up',
    'error_extending',
    'downloading',
    'uploading',
    'retyping',
    'extending',
)
_MIGRATION_STATUSES = (
    'migrating',
    'error',
    'success',
    'completing',
    'none',
    'starting',
)


def _object(
    properties: Schema, required: Iterable[str] = (), **more: typing.Any
) -> Schema:
    return {
        'type': 'object',
        'properties': properties,
        'required': list(required),
        'additionalProperties': False,
        **more,
    }


def member(name: str, schema: Schema) -> Schema:
    """Make the schema of an object with one property."""
    return _object({name: schema}, [name])


def _one_of(*values: str) -> Schema:
    # Cinder ignores the case, and treats an empty value as null.
    return {
        'type': ['string', 'null'],
        'pattern': f'^(?i:{"|".join(values)}|)$',
    }


def _non_empty(name: str) -> Schema:
    return {
        'required': [name],
        'properties': {name: {'type': 'string', 'minLength': 1}},
    }


_UUID = {'type': 'string', 'format': 'uuid'}
_CONNECTOR = {'type': ['object', 'string', 'null']}
_BOOLEAN = {'type': ['boolean', 'string']}
_SIZE = {
    'type': ['integer', 'string'],
    'pattern': '^[0-9]+$',
    'minimum': 1,
    'minLength': 1,
}

CREATE_VOLUME = member(
    'volume',
    {
        'type': 'object',
        'properties': {
            'name': {'type': ['string', 'null'], 'maxLength': 255},
            'description': {'type': ['string', 'null'], 'maxLength': 255},
            'metadata': {'type': ['object', 'null']},
            'size': {**_SIZE, 'type': ['integer', 'string', 'null']},
        },
    },
)
CREATE_VOLUME['properties']['OS-SCH-HNT:scheduler_hints'] = {
    'type': ['object', 'null']
}


def create_attachment(*, with_mode: bool) -> Schema:
    """Make the schema of attachment-create.

    :param with_mode: whether the microversion has the property ``mode``
    """
    properties: Schema = {
        'instance_uuid': _UUID,
        'connector': {'type': ['object', 'null']},
        'volume_uuid': _UUID,
    }
    if with_mode:
        properties['mode'] = {'type': 'string', 'enum': ['rw', 'ro']}
    return member('attachment', _object(properties, ['volume_uuid']))


UPDATE_ATTACHMENT = member(
    'attachment',
    _object(
        {'connector': {'type': 'object', 'minProperties': 1}}, ['connector']
    ),
)


def create_transfer(*, with_snapshots: bool) -> Schema:
    """Make the schema of transfer-create.

    :param with_snapshots: whether the microversion has ``no_snapshots``
    """
    properties: Schema = {
        'volume_id': _UUID,
        'name': {'type': ['string', 'null']},
    }
    if with_snapshots:
        properties['no_snapshots'] = _BOOLEAN
    return member('transfer', _object(properties, ['volume_id']))


#: The arguments of the volume actions, by the name of the action.
ACTIONS: dict[str, Schema] = {
    'os-attach': _object(
        {
            'instance_uuid': _UUID,
            'mountpoint': {'type': 'string', 'minLength': 1, 'maxLength': 255},
            'host_name': {'type': 'string', 'maxLength': 255},
            'mode': {'type': 'string', 'enum': ['rw', 'ro']},
        },
        ['mountpoint'],
        anyOf=[{'required': ['instance_uuid']}, {'required': ['host_name']}],
    ),
    'os-detach': _object(
        {'attachment_id': {'anyOf': [_UUID, {'type': 'null'}]}},
        type=['object', 'null'],
    ),
    'os-reserve': {},
    'os-unreserve': {},
    'os-begin_detaching': {},
    'os-roll_detaching': {},
    'os-initialize_connection': _object(
        {'connector': {'type': ['object', 'string']}}, ['connector']
    ),
    'os-terminate_connection': _object(
        {'connector': _CONNECTOR}, ['connector']
    ),
    'os-force_detach': _object(
        {
            'connector': _CONNECTOR,
            'attachment_id': {'type': ['string', 'null']},
        }
    ),
    'os-reset_status': _object(
        {
            'status': _one_of(*_STATUSES),
            'attach_status': _one_of('attached', 'detached'),
            'migration_status': _one_of(*_MIGRATION_STATUSES),
        },
        anyOf=[
            _non_empty('status'),
            _non_empty('attach_status'),
            _non_empty('migration_status'),
        ],
    ),
    'os-migrate_volume_completion': _object(
        {
            'new_volume': _UUID,
            'error': {'type': ['boolean', 'string', 'null']},
        },
        ['new_volume'],
    ),
    'os-reimage': _object(
        {'image_id': _UUID, 'reimage_reserved': _BOOLEAN}, ['image_id']
    ),
    'os-extend': _object({'new_size': _SIZE}, ['new_size']),
}
