# SPDX-License-Identifier: Apache-2.0

"""A stub of the Identity API: tokens, a catalog, users and projects.

It supports the requests that keystoneauth, keystonemiddleware and the command
line clients make.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import datetime
import threading
import typing
from urllib import parse
import uuid

import webob

from attachguard.testing import service

_TIME = '%Y-%m-%dT%H:%M:%S.000000Z'
_NO_TOKEN = 'Could not find token.'
_UNAUTHORIZED = 'The request you have made requires authentication.'

#: The role that each role implies, as ``keystone-manage bootstrap`` sets it.
IMPLIED_ROLES = {'admin': 'manager', 'manager': 'member', 'member': 'reader'}

#: The largest number of projects in a page: ``max_db_limit`` of Keystone.
MAX_LIMIT = 1000

#: How long after its end a token can be validated with ``allow_expired``:
#: ``[token] allow_expired_window`` of Keystone.
EXPIRED_WINDOW = datetime.timedelta(days=2)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def _forbidden(rule: str) -> service.Refused:
    return service.Refused(
        403,
        f'You are not authorized to perform the requested action: {rule}.',
    )


def _id() -> str:
    return uuid.uuid4().hex


@dataclasses.dataclass
class User:
    """A user of the domain Default, with its roles by project id."""

    id: str
    name: str
    password: str
    roles: dict[str, set[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Token:
    """A token that Keystone issued."""

    id: str
    user: User
    project_id: str | None
    methods: list[str]
    issued_at: datetime.datetime
    expires_at: datetime.datetime
    audit_id: str
    roles: list[str] = dataclasses.field(default_factory=list)
    revoked: bool = False


class StubKeystone(service.Service):
    """A WSGI application that behaves like Keystone.

    :param url: its own public address, for the links in its responses; by
        default the address in the request

    :ivar token_lifetime: the lifetime of the tokens issued from now on
    :ivar users: the users by id
    :ivar projects: the names of the projects by id
    :ivar roles: the ids of the roles by name
    :ivar tokens: the issued tokens by id
    :ivar catalog: the catalog, as in a token
    :ivar faults: the faults and delays that a test adds, a
        :class:`~attachguard.testing.fault_injection.Faults`
    """

    routes = (
        service.Route('GET', '/', 'list_versions'),
        service.Route('GET', '/v3', 'show_version'),
        service.Route('POST', '/v3/auth/tokens', 'token_api.issue'),
        service.Route('GET', '/v3/auth/tokens', 'token_api.validate'),
        service.Route('HEAD', '/v3/auth/tokens', 'token_api.check'),
        service.Route('DELETE', '/v3/auth/tokens', 'token_api.revoke'),
        service.Route('GET', '/v3/auth/catalog', 'token_api.show_catalog'),
        service.Route('GET', '/v3/auth/projects', 'project_api.list_own'),
        service.Route('GET', '/v3/projects', 'project_api.index'),
        service.Route('GET', '/v3/projects/{id}', 'project_api.show'),
    )

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self.url = url
        self.token_lifetime = datetime.timedelta(hours=1)
        self.domain = {'id': 'default', 'name': 'Default'}
        self.projects: dict[str, str] = {}
        self.roles: dict[str, str] = {}
        self.users: dict[str, User] = {}
        self.tokens: dict[str, Token] = {}
        self.catalog: list[dict[str, typing.Any]] = []
        self.token_api = TokenApi(self)
        self.project_api = ProjectApi(self)
        self._lock = threading.Lock()

    def add_project(self, name: str) -> str:
        """Add a project, if there is none with this name.

        :param name: the name of the project
        :returns: its id
        """
        project_id = self.find_project(name)
        if project_id is None:
            project_id = _id()
            self.projects[project_id] = name
        return project_id

    def find_project(self, project: str) -> str | None:
        """Find a project.

        :param project: name or id of the project
        :returns: its id; ``None`` if there is no such project
        """
        if project in self.projects:
            return project
        for project_id, name in self.projects.items():
            if name == project:
                return project_id
        return None

    def add_user(
        self, name: str, password: str, project: str, roles: Iterable[str]
    ) -> User:
        """Add a user, or add roles to an existing user.

        :param name: the user's name
        :param password: the user's password
        :param project: name of a project, which is added if it is missing
        :param roles: names of the user's roles in that project
        :returns: the user
        """
        user = self.find_user(name=name)
        if user is None:
            user = User(_id(), name, password)
            self.users[user.id] = user
        project_id = self.add_project(project)
        for role in roles:
            implied: str | None = role
            while implied is not None:
                self.roles.setdefault(implied, _id())
                user.roles.setdefault(project_id, set()).add(implied)
                implied = IMPLIED_ROLES.get(implied)
        return user

    def find_user(
        self, *, name: str | None = None, user_id: str | None = None
    ) -> User | None:
        """Find a user.

        :param name: the user's name
        :param user_id: the user's id; the name is ignored then
        :returns: the user; ``None`` if there is no such user
        """
        for user in self.users.values():
            if user.id == user_id or (user_id is None and user.name == name):
                return user
        return None

    def add_endpoint(
        self,
        service_type: str,
        url: str,
        region: str = 'RegionOne',
        *,
        name: str | None = None,
        interfaces: Iterable[str] = ('public', 'internal', 'admin'),
    ) -> None:
        """Register the address of a service; it replaces an earlier one.

        :param service_type: type of the service in the catalog
        :param url: the address; ``%(project_id)s`` is replaced, as in
            Keystone
        :param region: its region
        :param name: name of the service; by default its type
        :param interfaces: interfaces with this address
        """
        for entry in self.catalog:
            if entry['type'] == service_type:
                break
        else:
            entry = {
                'id': _id(),
                'type': service_type,
                'name': name or service_type,
                'endpoints': [],
            }
            self.catalog.append(entry)
        interfaces = tuple(interfaces)
        entry['endpoints'] = [
            known
            for known in entry['endpoints']
            if known['region'] != region
            or known['interface'] not in interfaces
        ] + [
            {
                'id': _id(),
                'interface': interface,
                'region': region,
                'region_id': region,
                'url': url,
            }
            for interface in interfaces
        ]

    def issue_token(
        self,
        user: User | str,
        project: str | None = None,
        *,
        methods: Iterable[str] = ('password',),
        expires_at: datetime.datetime | None = None,
    ) -> Token:
        """Issue a token.

        :param user: the user, or a user's name
        :param project: name or id of the project; ``None``: unscoped
        :param methods: the methods of the authentication
        :param expires_at: its end; by default ``token_lifetime`` from now
        :returns: the token
        :raises attachguard.testing.service.Refused: 401, there is no such
            user, or the user has no role in the project
        """
        if isinstance(user, str):
            found = self.find_user(name=user)
            if found is None:
                raise service.Refused(401, _UNAUTHORIZED)
            user = found
        project_id = None
        roles: list[str] = []
        if project is not None:
            project_id = self.find_project(project)
            roles = sorted(user.roles.get(project_id or '', ()))
            if not roles:
                raise service.Refused(401, _UNAUTHORIZED)
        now = _now()
        token = Token(
            id=f'gAAAAA{_id()}{_id()}',
            user=user,
            project_id=project_id,
            methods=sorted(methods),
            issued_at=now,
            expires_at=expires_at or now + self.token_lifetime,
            audit_id=_id()[:22],
            roles=roles,
        )
        with self._lock:
            self.tokens[token.id] = token
        return token

    def expire(self, token: Token | str) -> None:
        """Set the end of a token to one second ago.

        :param token: the token or its id
        """
        self._token(token).expires_at = _now() - datetime.timedelta(seconds=1)

    def revoke(self, token: Token | str) -> None:
        """Revoke a token.

        :param token: the token or its id
        """
        self._token(token).revoked = True

    def _token(self, token: Token | str) -> Token:
        return token if isinstance(token, Token) else self.tokens[token]

    def valid_token(
        self, token_id: str | None, *, allow_expired: bool = False
    ) -> Token | None:
        """Find a token that is neither revoked nor expired.

        :param token_id: id of the token
        :param allow_expired: also find a token that expired less than
            :data:`EXPIRED_WINDOW` ago
        :returns: the token; ``None`` if there is no such token
        """
        token = self.tokens.get(token_id or '')
        if token is None or token.revoked:
            return None
        window = EXPIRED_WINDOW if allow_expired else datetime.timedelta()
        return token if _now() < token.expires_at + window else None

    def caller(self, request: service.Request) -> Token:
        """Find the token of the caller of a request.

        :raises attachguard.testing.service.Refused: 401, the request has no
            valid token
        """
        token = self.valid_token(request.headers.get('X-Auth-Token'))
        if token is None:
            raise service.Refused(401, _UNAUTHORIZED)
        return token

    def error(self, status: int, message: str) -> webob.Response:
        response = service.respond(status)
        title = response.status.split(' ', 1)[1]
        response = service.respond(
            status,
            {'error': {'code': status, 'message': message, 'title': title}},
        )
        if status == 401 and self.url:
            response.headers['WWW-Authenticate'] = f'Keystone uri="{self.url}"'
        return response

    def finish(
        self, request: service.Request, response: webob.Response
    ) -> None:
        super().finish(request, response)
        response.headers['Vary'] = 'X-Auth-Token'

    def unrouted(self, request: service.Request) -> webob.Response:
        return webob.Response(
            status=404, content_type='text/html', text='<h1>Not Found</h1>'
        )

    def list_versions(self, request: service.Request) -> webob.Response:
        """List the versions of the API."""
        version = self._version(request)
        response = service.respond(300, {'versions': {'values': [version]}})
        response.location = version['links'][0]['href']
        return response

    def show_version(self, request: service.Request) -> webob.Response:
        """Show the version of the API."""
        return service.respond(200, {'version': self._version(request)})

    def _version(self, request: service.Request) -> dict[str, typing.Any]:
        base = self.url or request.application_url
        media_type = 'application/vnd.openstack.identity-v3+json'
        return {
            'id': 'v3.14',
            'status': 'stable',
            'updated': '2020-04-07T00:00:00Z',
            'links': [{'rel': 'self', 'href': f'{base}/v3/'}],
            'media-types': [{'base': 'application/json', 'type': media_type}],
        }


class _UnknownMethod(service.Refused):
    """The authentication method is not supported."""


class TokenApi:
    """Handles the requests for tokens and their catalog.

    :param keystone: the stub
    """

    def __init__(self, keystone: StubKeystone) -> None:
        self._keystone = keystone

    def issue(self, request: service.Request) -> webob.Response:
        """Authenticate by a password or a token, and issue a token."""
        body = service.json_body(request)
        try:
            identity = body['auth']['identity']
            scope = body['auth'].get('scope')
            token = self._authenticate(identity, identity['methods'], scope)
        except _UnknownMethod as unknown:
            response = self._keystone.error(unknown.status, unknown.message)
            body = response.json
            body['error']['identity'] = {'methods': ['password', 'token']}
            response.json = body
            return response
        except (KeyError, TypeError, AttributeError):
            raise service.Refused(
                400, 'The request body does not follow its schema.'
            ) from None
        return self._show(request, token, 201)

    def _authenticate(
        self, identity: typing.Any, methods: list[str], scope: typing.Any
    ) -> Token:
        if 'password' in methods:
            user = self._check_password(identity['password']['user'])
            return self._keystone.issue_token(
                user, self._scoped_project(scope), methods=methods
            )
        if 'token' in methods:
            token = self._keystone.valid_token(identity['token']['id'])
            if token is None:
                raise service.Refused(404, _NO_TOKEN)
            return self._keystone.issue_token(
                token.user,
                self._scoped_project(scope),
                methods={*methods, *token.methods},
                expires_at=token.expires_at,
            )
        kind = _UnknownMethod if methods else service.Refused
        raise kind(401, _UNAUTHORIZED)

    def _check_password(self, credentials: typing.Any) -> User:
        user = self._keystone.find_user(
            name=credentials.get('name'), user_id=credentials.get('id')
        )
        if user is None or user.password != credentials['password']:
            raise service.Refused(401, _UNAUTHORIZED)
        if 'id' not in credentials:
            self._check_domain(credentials['domain'])
        return user

    def _scoped_project(self, scope: typing.Any) -> str | None:
        """Return the name or id of the project of a scope.

        The stub has no roles in a domain or in the system.
        """
        if not isinstance(scope, dict) or 'unscoped' in scope:
            return None
        if 'project' not in scope:
            raise service.Refused(401, _UNAUTHORIZED)
        project: str | None = scope['project'].get('id')
        if project is None:
            self._check_domain(scope['project']['domain'])
            project = scope['project']['name']
        elif project not in self._keystone.projects:
            raise service.Refused(401, _UNAUTHORIZED)
        return project

    def _check_domain(self, domain: dict[str, str]) -> None:
        known = self._keystone.domain
        if (
            domain.get('id') != known['id']
            and domain.get('name') != known['name']
        ):
            raise service.Refused(401, _UNAUTHORIZED)

    def _subject(
        self, request: service.Request, allowed: Iterable[str]
    ) -> Token:
        """Find the token that a request is about.

        :param request: the request
        :param allowed: roles that can access the tokens of other users
        """
        caller = self._keystone.caller(request)
        subject_id = request.headers.get('X-Subject-Token')
        subject = self._keystone.valid_token(
            subject_id, allow_expired=request.GET.get('allow_expired') == '1'
        )
        if subject is None and subject_id is not None:
            raise service.Refused(404, _NO_TOKEN)
        if set(allowed).isdisjoint(caller.roles) and (
            subject is None or subject.user is not caller.user
        ):
            raise service.Refused(
                403,
                'You are not authorized to perform the requested action.',
            )
        if subject is None:
            raise service.Refused(404, _NO_TOKEN)
        return subject

    def validate(self, request: service.Request) -> webob.Response:
        """Show a token to its user, an administrator or a service."""
        subject = self._subject(request, ('admin', 'service'))
        return self._show(request, subject, 200)

    def check(self, request: service.Request) -> webob.Response:
        """Check a token, by a HEAD request.

        Keystone's policy for HEAD does not allow services.
        """
        return self._show(request, self._subject(request, ('admin',)), 200)

    def revoke(self, request: service.Request) -> webob.Response:
        """Revoke a token of the caller; an administrator revokes any."""
        self._keystone.revoke(self._subject(request, ('admin',)))
        return service.respond(204)

    def show_catalog(self, request: service.Request) -> webob.Response:
        """Show the catalog of the caller's token."""
        catalog = self._catalog(self._keystone.caller(request))
        links = {'self': request.path_url}
        return service.respond(200, {'catalog': catalog, 'links': links})

    def _show(
        self, request: service.Request, token: Token, status: int
    ) -> webob.Response:
        keystone = self._keystone
        view: dict[str, typing.Any] = {
            'methods': token.methods,
            'user': {
                'domain': keystone.domain,
                'id': token.user.id,
                'name': token.user.name,
                'password_expires_at': None,
            },
            'audit_ids': [token.audit_id],
            'expires_at': token.expires_at.strftime(_TIME),
            'issued_at': token.issued_at.strftime(_TIME),
        }
        if token.project_id is not None:
            view['project'] = {
                'domain': keystone.domain,
                'id': token.project_id,
                'name': keystone.projects[token.project_id],
            }
            view['is_domain'] = False
            view['roles'] = [
                {'id': keystone.roles[name], 'name': name}
                for name in token.roles
            ]
            if 'nocatalog' not in request.GET:
                view['catalog'] = self._catalog(token)
        response = service.respond(status, {'token': view})
        response.headers['X-Subject-Token'] = token.id
        return response

    def _catalog(self, token: Token) -> list[dict[str, typing.Any]]:
        project = {
            'project_id': token.project_id,
            'tenant_id': token.project_id,
        }
        return [
            {
                **entry,
                'endpoints': [
                    {**endpoint, 'url': endpoint['url'] % project}
                    for endpoint in entry['endpoints']
                ],
            }
            for entry in self._keystone.catalog
        ]


class ProjectApi:
    """Handles the requests for projects.

    :param keystone: the stub
    """

    def __init__(self, keystone: StubKeystone) -> None:
        self._keystone = keystone

    def list_own(self, request: service.Request) -> webob.Response:
        """List the projects in which the caller has a role."""
        caller = self._keystone.caller(request)
        views = [self._view(project_id) for project_id in caller.user.roles]
        links = {'next': None, 'previous': None, 'self': request.path_url}
        return service.respond(200, {'projects': views, 'links': links})

    def index(self, request: service.Request) -> webob.Response:
        """List a page of all projects to administrators."""
        if 'admin' not in self._keystone.caller(request).roles:
            raise _forbidden('identity:list_projects')
        query = request.GET
        views = [
            view
            for view in map(self._view, sorted(self._keystone.projects))
            if all(
                query.get(name, view[name]) == view[name]
                for name in ('domain_id', 'name', 'parent_id')
            )
        ]
        marker = query.get('marker')
        if marker:
            if marker not in self._keystone.projects:
                raise service.Refused(
                    404, f'Marker {marker} could not be found.'
                )
            views = [view for view in views if view['id'] > marker]
        # Without a limit, Keystone truncates the list, and has no link.
        limit = int(query.get('limit') or 0)
        page = views[: min(limit or MAX_LIMIT, MAX_LIMIT)]
        links: dict[str, str | None] = {
            'next': None,
            'previous': None,
            'self': request.path_url,
        }
        body: dict[str, typing.Any] = {'projects': page, 'links': links}
        if limit and page and len(page) >= min(limit, MAX_LIMIT):
            body['truncated'] = True
            more = {**query, 'marker': page[-1]['id']}
            links['next'] = f'{request.path_url}?{parse.urlencode(more)}'
        return service.respond(200, body)

    def show(self, request: service.Request, id: str) -> webob.Response:
        """Show a project to its members and to administrators."""
        caller = self._keystone.caller(request)
        if id != caller.project_id and 'admin' not in caller.roles:
            raise _forbidden('identity:get_project')
        if id not in self._keystone.projects:
            raise service.Refused(404, f'Could not find project: {id}.')
        return service.respond(200, {'project': self._view(id)})

    def _view(self, project_id: str) -> dict[str, typing.Any]:
        base = self._keystone.url or ''
        return {
            'id': project_id,
            'name': self._keystone.projects[project_id],
            'domain_id': self._keystone.domain['id'],
            'parent_id': self._keystone.domain['id'],
            'description': '',
            'enabled': True,
            'is_domain': False,
            'options': {},
            'tags': [],
            'links': {'self': f'{base}/v3/projects/{project_id}'},
        }
