# SPDX-License-Identifier: Apache-2.0

"""The caller of a request, as auth_token identifies it.

Only ``keystone.token_auth`` in the environ is trusted: the headers of a
request that auth_token has not processed, and under noauth, are the client's
own.  A service token is used only if auth_token has confirmed it, and the
rules decide what it allows: a confirmed one can be a user's own token sent
twice (``service_token_roles_required``).
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import TYPE_CHECKING

from keystoneauth1 import access
from keystoneauth1 import plugin
from oslo_context import context

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# What a rule may read, named as oslo.context names it.
CREDENTIALS = (
    'user_id',
    'user_domain_id',
    'project_id',
    'project_domain_id',
    'domain_id',
    'system_scope',
    'roles',
    'service_user_id',
    'service_user_domain_id',
    'service_project_id',
    'service_project_domain_id',
    'service_roles',
)

_CONFIRMED = 'Confirmed'


class NotAuthenticated(Exception):
    """The request did not come through auth_token."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who sent a request.

    :param credentials: the values of :data:`CREDENTIALS`, for the rules
    :param auth: the plugin to query another service with as the caller
    """

    credentials: Mapping[str, Any]
    auth: plugin.BaseAuthPlugin | None = None

    @property
    def service_user_id(self) -> str | None:
        """The user of the service token, where there is one."""
        user_id: str | None = self.credentials['service_user_id']
        return user_id


#: the caller of a request that was not authenticated
NOBODY = Caller(dict.fromkeys(CREDENTIALS))


def identify(environ: WSGIEnvironment, auth_strategy: str) -> Caller:
    """Identify the caller of a request.

    :param auth_strategy: ``keystone`` or ``noauth``, see the option
    :raises NotAuthenticated: if auth_token has not processed the request
    """
    if auth_strategy == 'noauth':
        return _unauthenticated(environ)
    token_auth: Any = environ.get('keystone.token_auth')
    user: access.AccessInfo | None = getattr(token_auth, 'user', None)
    if user is None or environ.get('HTTP_X_IDENTITY_STATUS') != _CONFIRMED:
        raise NotAuthenticated()
    service: access.AccessInfo | None = None
    if environ.get('HTTP_X_SERVICE_IDENTITY_STATUS') == _CONFIRMED:
        service = token_auth.service
    return Caller(
        {
            'user_id': user.user_id,
            'user_domain_id': user.user_domain_id,
            'project_id': user.project_id,
            'project_domain_id': user.project_domain_id,
            'domain_id': user.domain_id,
            'system_scope': 'all' if user.system_scoped else None,
            'roles': _roles(user),
            'service_user_id': service and service.user_id,
            'service_user_domain_id': service and service.user_domain_id,
            'service_project_id': service and service.project_id,
            'service_project_domain_id': service and service.project_domain_id,
            'service_roles': _roles(service),
        },
        token_auth,
    )


def _roles(token: access.AccessInfo | None) -> list[str]:
    return [] if token is None else list(token.role_names or ())


def _unauthenticated(environ: WSGIEnvironment) -> Caller:
    found = environ.get('cinder.context')
    if found is None:
        found = context.RequestContext.from_environ(environ)
    values = found.to_policy_values()
    credentials = {name: values.get(name) for name in CREDENTIALS}
    for name in ('roles', 'service_roles'):
        credentials[name] = list(credentials[name] or ())
    return Caller(credentials, environ.get('keystone.token_auth'))
