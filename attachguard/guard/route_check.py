# SPDX-License-Identifier: Apache-2.0

"""A check at start-up: does the filter know every route to an attachment?

If the application behind the filter is Cinder's router, its own route map is
compared.  Each route to the attachments, and each action of a volume, must be
one that :mod:`attachguard.guard.request` parses, or one that is known to
change no attachment.  What a later release adds is logged as an error.
"""

from __future__ import annotations

from collections.abc import Iterator
import re
from typing import Any
import uuid

from oslo_log import log as logging

from attachguard.guard import operations
from attachguard.guard import request as request_parser

LOG = logging.getLogger(__name__)

# Actions of a volume, up to Cinder 29, which change no attachment.
OTHER_ACTIONS = frozenset(
    (
        'os-extend',
        'os-extend_volume_completion',
        'os-force_delete',
        'os-migrate_volume',
        'os-retype',
        'os-set_bootable',
        'os-set_image_metadata',
        'os-show_image_metadata',
        'os-unmanage',
        'os-unset_image_metadata',
        'os-update_readonly_flag',
        'os-volume_upload_image',
        'revert',
    )
)
# Actions of a group, up to Cinder 29, which delete no volume.
OTHER_GROUP_ACTIONS = frozenset(
    (
        'create-from-src',
        'disable_replication',
        'enable_replication',
        'failover_replication',
        'list_replication_targets',
        'reset_status',
    )
)

# Snapshots, groups and backups have an action of this name of their own.
_AMBIGUOUS = frozenset(('os-reset_status',))

# The filters that identify the caller, and the attributes in which filters
# keep the application behind them.
_AUTHENTICATING = frozenset(
    ('AuthProtocol', 'CinderKeystoneContext', 'NoAuthMiddleware')
)
_WRAPPED = ('application', 'app', '_app')
_MAX_LAYERS = 20

_TRANSFERS = frozenset(('volume_transfers', 'os-volume-transfer'))
# The actions of routes that can reach the deletion of a group.
_GROUP_ROUTES = {
    'groups': ('action', 'delete'),
    'consistencygroups': ('delete',),
}
_READS = frozenset(('GET', 'HEAD'))
_VARIABLE = re.compile(r'\{\w+(?::[^}]*)?\}|:\(\w+\)|:\w+')
_BODIES = {
    'create': b'{"attachment": {}}',
    'update': b'{"attachment": {}}',
    'action': b'{"os-complete": {}}',
}


def check(application: Any) -> list[str]:
    """Compare the guarded routes with Cinder's route map.

    :param application: the application behind the filter
    :returns: the routes and actions that are not recognised, as they were
        logged; none also if there is no route map to compare
    """
    misplaced = _authenticating(application)
    if misplaced:
        LOG.error(
            'attachguard is in front of %s in the pipeline, and refuses every '
            'guarded request: put it right before apiv3',
            misplaced,
        )
        return []
    resources = getattr(application, 'resources', None)
    mapper = getattr(application, 'map', None)
    if not resources or mapper is None:
        LOG.warning(
            "Cinder's router is not right behind attachguard: cannot check "
            'whether it has routes that attachguard does not know'
        )
        return []
    unknown = [
        *_unknown_routes(resources, mapper),
        *_unknown_actions(resources),
    ]
    for item in unknown:
        LOG.error(
            'Unknown to attachguard, and open to everybody: %s. Upgrade '
            "attachguard, or close it with the service's own policy",
            item,
        )
    if not unknown:
        LOG.info(
            'attachguard covers all routes of this release: routes=%d',
            len(mapper.matchlist),
        )
    return unknown


def _authenticating(application: Any) -> str | None:
    """The filter that should have identified the caller before this one."""
    for _layer in range(_MAX_LAYERS):
        name = type(application).__name__
        if name in _AUTHENTICATING:
            return name
        application = next(
            (
                vars(application)[attribute]
                for attribute in _WRAPPED
                if attribute in getattr(application, '__dict__', ())
            ),
            None,
        )
    return None


def _unknown_routes(resources: Any, mapper: Any) -> Iterator[str]:
    names = {
        id(resource): name
        for name, resource in resources.items()
        if name == 'attachments'
        or name in _TRANSFERS
        or name in _GROUP_ROUTES
        or (operations.VOLUME_ACTIONS.keys() - _AMBIGUOUS) & _actions(resource)
    }
    for route in mapper.matchlist:
        name = names.get(id(route.defaults.get('controller')))
        if name is None:
            continue
        action = route.defaults.get('action')
        if name in _GROUP_ROUTES:
            # POST /groups/action names no group.
            if action not in _GROUP_ROUTES[name] or 'id' not in route.maxkeys:
                continue
        elif name != 'attachments' and action != (
            'create' if name in _TRANSFERS else 'action'
        ):
            continue
        methods = (route.conditions or {}).get('method') or ['POST']
        for method in sorted(set(methods) - _READS):
            if not _recognised(name, route, method):
                yield f'the route {method} {route.routepath}'


def _recognised(name: str, route: Any, method: str) -> bool:
    example = _VARIABLE.sub(_example, route.routepath)
    path = request_parser.match_path({'PATH_INFO': '/' + example.lstrip('/')})
    if path is None:
        return False
    if name == 'attachments':
        body = _BODIES.get(route.defaults.get('action'), b'')
    elif name in _TRANSFERS:
        body = b'{"transfer": {}}'
    elif name == 'groups':
        body = b'{"delete": {"delete-volumes": true}}'
    elif name == 'consistencygroups':
        body = b'{"consistencygroup": {"force": true}}'
    else:
        body = b'{"os-attach": {}}'
    environ = {'REQUEST_METHOD': method}
    return request_parser.parse(environ, path, body) is not None


def _example(variable: re.Match[str]) -> str:
    return 'json' if 'format' in variable[0] else str(uuid.UUID(int=0))


def _unknown_actions(resources: Any) -> Iterator[str]:
    for name, known in (
        ('volumes', operations.VOLUME_ACTIONS.keys() | OTHER_ACTIONS),
        ('attachments', operations.ATTACHMENT_ACTIONS.keys()),
        ('groups', OTHER_GROUP_ACTIONS | {'delete'}),
    ):
        for action in sorted(_actions(resources.get(name)) - known):
            yield f'the action {action} of {name}'


def _actions(resource: Any) -> frozenset[str]:
    return frozenset(getattr(resource, 'wsgi_actions', None) or ())
