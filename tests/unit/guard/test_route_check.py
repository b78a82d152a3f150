# SPDX-License-Identifier: Apache-2.0

"""The check of a route map (that of Cinder itself is in functional)."""

from __future__ import annotations

from typing import Any

import pytest
import routes

from attachguard.guard import operations
from attachguard.guard import route_check


class Resource:
    def __init__(self, *actions: str) -> None:
        self.wsgi_actions = dict.fromkeys(actions)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Routes keeps only a callable controller as it is."""


class Router:
    """As ``cinder.api.v3.router.APIRouter``, with less in it."""

    def __init__(self) -> None:
        self.map = routes.Mapper()
        self.resources = {
            'volumes': Resource(*operations.VOLUME_ACTIONS, 'os-extend'),
            'attachments': Resource('os-complete'),
            'snapshots': Resource('os-reset_status'),
            'groups': Resource('delete', 'reset_status'),
            'consistencygroups': Resource(),
            'volume_transfers': Resource(),
            'os-volume-transfer': Resource(),
        }
        for name in ('volume_transfers', 'os-volume-transfer'):
            self.map.resource(
                name,
                name.replace('_', '-'),
                controller=self.resources[name],
                member={'accept': 'POST'},
            )
        for name, also in (
            ('groups', 'action'),
            ('consistencygroups', 'delete'),
        ):
            self.map.resource(
                name,
                name,
                controller=self.resources[name],
                member={also: 'POST'},
            )
        self.connect(
            '/groups/action',
            'groups',
            'action',
            conditions={'method': ['POST']},
        )
        for singular in ('volume', 'attachment', 'snapshot'):
            for prefix in ('{project_id:[0-9a-f]+}/', ''):
                self.map.resource(
                    singular,
                    f'{singular}s',
                    controller=self.resources[f'{singular}s'],
                    path_prefix=prefix,
                    member={'action': 'POST'},
                )

    def connect(
        self, path: str, resource: str, action: str, **kw: Any
    ) -> None:
        self.map.connect(
            path, controller=self.resources[resource], action=action, **kw
        )


def test_known_routes_are_covered() -> None:
    assert route_check.check(Router()) == []


def test_an_application_without_a_route_map_is_not_checked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert route_check.check(lambda environ, start_response: []) == []
    assert [item.levelname for item in caplog.records] == ['WARNING']


@pytest.mark.parametrize(
    ('name', 'attribute'),
    [
        ('AuthProtocol', '_app'),
        ('CinderKeystoneContext', 'application'),
        ('NoAuthMiddleware', 'application'),
    ],
)
def test_a_filter_that_authenticates_must_be_in_front(
    name: str, attribute: str, caplog: pytest.LogCaptureFixture
) -> None:
    inner = type(name, (), {})()
    setattr(inner, attribute, Router())
    outer = Resource()
    vars(outer)['application'] = inner
    assert route_check.check(outer) == []
    assert [item.levelname for item in caplog.records] == ['ERROR']
    assert f'in front of {name}' in caplog.text
    assert 'right before apiv3' in caplog.text


@pytest.mark.parametrize(
    ('path', 'resource', 'action', 'method'),
    [
        ('/volumes/{id}/attach', 'volumes', 'action', 'POST'),
        ('/v4/attachments/{id}/complete', 'attachments', 'complete', 'POST'),
        ('/attachments/{id}', 'attachments', 'update', 'PATCH'),
        ('/attachments', 'attachments', 'delete_all', 'DELETE'),
        ('/gifts', 'volume_transfers', 'create', 'POST'),
        ('/groups/{id}/purge', 'groups', 'delete', 'POST'),
        ('/v4/groups/{id}', 'groups', 'action', 'PUT'),
        ('/cgs/{id}', 'consistencygroups', 'delete', 'DELETE'),
    ],
)
def test_a_new_route_is_reported(
    path: str,
    resource: str,
    action: str,
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()
    router.connect(path, resource, action, conditions={'method': [method]})
    assert route_check.check(router) == [f'the route {method} {path}']
    assert path in caplog.text


def test_a_new_action_is_reported() -> None:
    router = Router()
    router.resources['volumes'].wsgi_actions['os-glue'] = None
    router.resources['attachments'].wsgi_actions['os-undo'] = None
    router.resources['groups'].wsgi_actions['purge'] = None
    assert route_check.check(router) == [
        'the action os-glue of volumes',
        'the action os-undo of attachments',
        'the action purge of groups',
    ]


def test_a_guarded_action_of_another_resource_is_reported() -> None:
    router = Router()
    router.resources['backups'] = Resource('os-attach')
    router.connect(
        '/backups/{id}/action',
        'backups',
        'action',
        conditions={'method': ['POST']},
    )
    assert route_check.check(router) == ['the route POST /backups/{id}/action']
