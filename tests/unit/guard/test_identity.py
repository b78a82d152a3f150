# SPDX-License-Identifier: Apache-2.0

"""Who calls, as auth_token says."""

from __future__ import annotations

from typing import Any

from keystonemiddleware.auth_token import _user_plugin
from oslo_context import context
import pytest

from attachguard.guard import identity
from tests.unit import fakes


def identify(strategy: str = 'keystone', **changes: Any) -> identity.Caller:
    environ = fakes.environ('POST', '/', **changes)
    return identity.identify(environ, strategy)


def test_a_user_is_identified_by_the_token() -> None:
    found = identify(roles=['member', 'reader'])
    assert dict(found.credentials) == {
        'user_id': fakes.USER,
        'user_domain_id': found.credentials['user_domain_id'],
        'project_id': fakes.PROJECT,
        'project_domain_id': found.credentials['project_domain_id'],
        'domain_id': None,
        'system_scope': None,
        'roles': ['member', 'reader'],
        'service_user_id': None,
        'service_user_domain_id': None,
        'service_project_id': None,
        'service_project_domain_id': None,
        'service_roles': [],
    }
    assert isinstance(found.auth, _user_plugin.UserAuthPlugin)


def test_a_service_is_identified_by_a_confirmed_token() -> None:
    found = identify(service_roles=['service'])
    assert found.credentials['service_roles'] == ['service']
    assert found.credentials['service_project_id'] == fakes.PROJECT
    assert found.service_user_id == fakes.USER


@pytest.mark.parametrize('status', ['Invalid', 'confirmed', '', None])
def test_an_unconfirmed_service_token_is_ignored(status: str | None) -> None:
    found = identify(
        service_roles=['service'], HTTP_X_SERVICE_IDENTITY_STATUS=status
    )
    assert found.credentials['service_roles'] == []
    assert found.service_user_id is None


@pytest.mark.parametrize(
    'changes',
    [
        {'keystone.token_auth': None},
        {'keystone.token_auth': _user_plugin.UserAuthPlugin(None, None)},
        {'HTTP_X_IDENTITY_STATUS': 'Invalid'},
        {'HTTP_X_IDENTITY_STATUS': None},
    ],
)
def test_an_unauthenticated_caller_is_unknown(changes: dict[str, Any]) -> None:
    with pytest.raises(identity.NotAuthenticated):
        identify(**changes)


def test_under_noauth_the_context_of_cinder_is_trusted() -> None:
    found = identify(
        'noauth',
        **{
            'cinder.context': context.RequestContext(
                user_id='u', project_id='p', roles=['member']
            )
        },
    )
    assert found.credentials['user_id'] == 'u'
    assert found.credentials['roles'] == ['member']
    assert found.credentials['service_roles'] == []


def test_under_noauth_without_a_context_headers_are_trusted() -> None:
    found = identify(
        'noauth',
        **{
            'keystone.token_auth': None,
            'HTTP_X_USER_ID': 'u',
            'HTTP_X_ROLES': 'member,reader',
            'HTTP_X_SERVICE_ROLES': None,
        },
    )
    assert found.credentials['user_id'] == 'u'
    assert found.credentials['roles'] == ['member', 'reader']
    assert found.credentials['service_roles'] == []
    assert found.auth is None
