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

"""The self-check: does the filter still know every way to an attachment?

At start-up, where the application behind the filter is Cinder's router, its
own route map is walked.  Each route to the attachments, and each action of a
volume, has to be one that :mod:`attachguard.guard.request` recognises or that
is known to change no attachment.  What a later release adds is logged, loudly.
"""

from __future__ import annotations

from collections.abc import Iterator
import re
from typing import Any

from oslo_log import log as logging

from attachguard.guard import request as guard_request

LOG = logging.getLogger(__name__)

# Actions of a volume, up to Cinder 29, which change no attachment.
OTHER_ACTIONS = frozenset(
    (
        'os-extend',
        'os-extend_volume_completion',
        'os-force_delete',
        'os-migrate_volume',
        'os-reimage',
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

# Snapshots, groups and backups have an action of this name for their own.
_OWN = frozenset(('os-reset_status',))

_READS = frozenset(('GET', 'HEAD'))
_VARIABLE = re.compile(r'\{\w+(?::[^}]*)?\}|:\(\w+\)|:\w+')
_BODIES = {
    'create': b'{"attachment": {}}',
    'update': b'{"attachment": {}}',
    'action': b'{"os-complete": {}}',
}


def check(application: Any) -> list[str]:
    """Compare what is recognised with Cinder's route map.

    :param application: what stands behind the filter
    :returns: what is not recognised, as it was logged; empty where all is, or
        where no route map can be seen
    """
    resources = getattr(application, 'resources', None)
    mapper = getattr(application, 'map', None)
    if not resources or mapper is None:
        LOG.warning(
            "Cinder's router is not right behind attachguard, so whether it "
            'has routes that attachguard does not know cannot be checked'
        )
        return []
    unknown = [*_unknown_routes(resources, mapper), *_unknown(resources)]
    for what in unknown:
        LOG.error(
            'attachguard does not know %s, and lets it through to everybody: '
            'upgrade attachguard, or close it with the policy of the service '
            'itself',
            what,
        )
    if not unknown:
        LOG.info(
            'attachguard covers each of the %d routes of this release',
            len(mapper.matchlist),
        )
    return unknown


def _unknown_routes(resources: Any, mapper: Any) -> Iterator[str]:
    acting = {
        id(resource): name
        for name, resource in resources.items()
        if name == 'attachments'
        or (guard_request.VOLUME_ACTIONS - _OWN).intersection(
            _actions(resource)
        )
    }
    for route in mapper.matchlist:
        name = acting.get(id(route.defaults.get('controller')))
        if name is None:
            continue
        if name != 'attachments' and route.defaults.get('action') != 'action':
            continue
        methods = (route.conditions or {}).get('method') or ['POST']
        for method in sorted(set(methods) - _READS):
            if not _recognised(name, route, method):
                yield f'the route {method} {route.routepath}'


def _recognised(name: str, route: Any, method: str) -> bool:
    path = _VARIABLE.sub(_example, route.routepath)
    target = guard_request.is_candidate({'PATH_INFO': '/' + path.lstrip('/')})
    if target is None:
        return False
    if name == 'attachments':
        body = _BODIES.get(route.defaults.get('action'), b'')
    else:
        body = b'{"os-attach": {}}'
    return (
        guard_request.parse({'REQUEST_METHOD': method}, target, body)
        is not None
    )


def _example(variable: re.Match[str]) -> str:
    return 'json' if 'format' in variable[0] else guard_request.NIL_UUID


def _unknown(resources: Any) -> Iterator[str]:
    known = guard_request.VOLUME_ACTIONS | OTHER_ACTIONS
    for name, theirs in (
        ('volumes', known),
        ('attachments', frozenset((guard_request.COMPLETE,))),
    ):
        actions = _actions(resources.get(name))
        for action in sorted(actions - theirs):
            yield f'the action {action} of {name}'


def _actions(resource: Any) -> frozenset[str]:
    return frozenset(getattr(resource, 'wsgi_actions', None) or ())
