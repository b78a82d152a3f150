# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A Keystone that fits into a test: tokens, a catalog, and who is who.

What it answers is what Keystone's Identity API v3 answers to the requests
that keystoneauth, keystonemiddleware and the command line clients make.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import datetime
import threading
import typing
import uuid

import webob

from attachguard.testing import service

_TIME = '%Y-%m-%dT%H:%M:%S.000000Z'
_VALIDATORS = {'admin', 'service'}
_NO_TOKEN = 'Could not find token.'
_UNAUTHORIZED = 'The request you have made requires authentication.'

#: Roles that come with another one, as ``keystone-manage bootstrap`` does it.
IMPLIED_ROLES = {'admin': 'manager', 'manager': 'member', 'member': 'reader'}

#: How long a token can still be validated with ``allow_expired`` after its
#: end: ``[token] allow_expired_window`` of Keystone.
EXPIRED_WINDOW = datetime.timedelta(days=2)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _id() -> str:
    return uuid.uuid4().hex


class _UnknownMethod(service.Refused):
    """A log-in by a method that is not supported."""


@dataclasses.dataclass
class User:
    """A user of the domain Default, with roles in projects."""

    id: str
    name: str
    password: str
    roles: dict[str, set[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Token:
    """A token that was given out."""

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
    """A WSGI application that answers as Keystone does.

    :param url: its own public address, for the links in its answers; taken
        from the request where it is not given
    """

    routes = (
        service.Route('GET', '/', 'versions'),
        service.Route('GET', '/v3', 'version'),
        service.Route('POST', '/v3/auth/tokens', 'issue'),
        service.Route('GET', '/v3/auth/tokens', 'validate'),
        service.Route('HEAD', '/v3/auth/tokens', 'validate'),
        service.Route('DELETE', '/v3/auth/tokens', 'revoke_subject'),
        service.Route('GET', '/v3/auth/catalog', 'show_catalog'),
        service.Route('GET', '/v3/auth/projects', 'list_own_projects'),
        service.Route('GET', '/v3/projects/{id}', 'show_project'),
    )

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self.url = url
        #: How long the tokens given out from now on live.
        self.token_lifetime = datetime.timedelta(hours=1)
        self.domain = {'id': 'default', 'name': 'Default'}
        self.projects: dict[str, str] = {}
        self.roles: dict[str, str] = {}
        self.users: dict[str, User] = {}
        self.tokens: dict[str, Token] = {}
        self.catalog: list[dict[str, typing.Any]] = []
        self._lock = threading.Lock()

    # What tests set up.

    def add_project(self, name: str) -> str:
        """Add a project, unless there is one of that name.

        :returns: its id
        """
        for project_id, known in self.projects.items():
            if known == name:
                return project_id
        project_id = _id()
        self.projects[project_id] = name
        return project_id

    def add_user(
        self, name: str, password: str, project: str, roles: Iterable[str]
    ) -> User:
        """Add a user, or more roles to one.

        :param name: the user's name
        :param password: the user's password
        :param project: name of a project, made if need be
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
        """Find a user by name or by id."""
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
        """Register the address of a service, in place of an earlier one.

        :param service_type: type in the catalog
        :param url: may speak of ``%(project_id)s``, as in Keystone
        :param region: its region
        :param name: the name of the service; its type by default
        :param interfaces: where it is to be found
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
        """Give out a token, as a successful log-in does.

        :param user: the user, or a user's name
        :param project: name or id of the project; ``None``: unscoped
        :param methods: how the user is said to have logged in
        :param expires_at: its end; ``token_lifetime`` from now by default
        :raises Refused: 401, there is no such user, or without a role there
        """
        if isinstance(user, str):
            found = self.find_user(name=user)
            if found is None:
                raise service.Refused(401, _UNAUTHORIZED)
            user = found
        project_id = None
        roles: list[str] = []
        if project is not None:
            project_id = self._project_id(project)
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

    def _project_id(self, project: str) -> str | None:
        if project in self.projects:
            return project
        for project_id, name in self.projects.items():
            if name == project:
                return project_id
        return None

    def expire(self, token: Token | str) -> None:
        """Let a token have expired a second ago."""
        self._token(token).expires_at = _now() - datetime.timedelta(seconds=1)

    def revoke(self, token: Token | str) -> None:
        """Revoke a token."""
        self._token(token).revoked = True

    def _token(self, token: Token | str) -> Token:
        return token if isinstance(token, Token) else self.tokens[token]

    # What it answers.

    def error(self, status: int, message: str) -> webob.Response:
        answer = service.respond(status)
        title = answer.status.split(' ', 1)[1]
        answer = service.respond(
            status,
            {'error': {'code': status, 'message': message, 'title': title}},
        )
        if status == 401 and self.url:
            answer.headers['WWW-Authenticate'] = f'Keystone uri="{self.url}"'
        return answer

    def finish(self, request: service.Request, answer: webob.Response) -> None:
        super().finish(request, answer)
        answer.headers['Vary'] = 'X-Auth-Token'

    def unrouted(self, request: service.Request) -> webob.Response:
        return webob.Response(
            status=404, content_type='text/html', text='<h1>Not Found</h1>'
        )

    def versions(self, request: service.Request) -> webob.Response:
        """Answer version discovery at the root."""
        answer = service.respond(
            300, {'versions': {'values': [self._version(request)]}}
        )
        answer.location = self._version(request)['links'][0]['href']
        return answer

    def version(self, request: service.Request) -> webob.Response:
        """Answer version discovery at ``/v3``."""
        return service.respond(200, {'version': self._version(request)})

    def _version(self, request: service.Request) -> dict[str, typing.Any]:
        base = self.url or request.application_url
        return {
            'id': 'v3.14',
            'status': 'stable',
            'updated': '2020-04-07T00:00:00Z',
            'links': [{'rel': 'self', 'href': f'{base}/v3/'}],
            'media-types': [
                {
                    'base': 'application/json',
                    'type': 'application/vnd.openstack.identity-v3+json',
                }
            ],
        }

    def issue(self, request: service.Request) -> webob.Response:
        """Answer a log-in with a password or an earlier token."""
        body = service.json_body(request)
        try:
            identity = body['auth']['identity']
            methods = identity['methods']
            scope = body['auth'].get('scope')
            token = self._log_in(identity, methods, scope)
        except _UnknownMethod as unknown:
            answer = self.error(unknown.status, unknown.message)
            body = answer.json
            body['error']['identity'] = {'methods': ['password', 'token']}
            answer.json = body
            return answer
        except (KeyError, TypeError, AttributeError):
            raise service.Refused(
                400, 'The request body does not follow its schema.'
            ) from None
        answer = service.respond(
            201, self._render(token, 'nocatalog' not in request.GET)
        )
        answer.headers['X-Subject-Token'] = token.id
        return answer

    def _log_in(
        self,
        identity: typing.Any,
        methods: list[str],
        scope: typing.Any,
    ) -> Token:
        earlier = None
        user: User | None
        if 'password' in methods:
            claimed = identity['password']['user']
            user = self.find_user(
                name=claimed.get('name'), user_id=claimed.get('id')
            )
            if user is None or user.password != claimed['password']:
                raise service.Refused(401, _UNAUTHORIZED)
            if 'id' not in claimed:
                self._check_domain(claimed['domain'])
        elif 'token' in methods:
            earlier = self._current(identity['token']['id'])
            if earlier is None:
                raise service.Refused(404, _NO_TOKEN)
            user = earlier.user
        else:
            kind = _UnknownMethod if methods else service.Refused
            raise kind(401, _UNAUTHORIZED)

        project = None
        if isinstance(scope, dict) and 'unscoped' not in scope:
            # System and domain scope exist in Keystone; nobody here has a
            # role in either.
            if 'project' not in scope:
                raise service.Refused(401, _UNAUTHORIZED)
            wanted = scope['project']
            project = wanted.get('id')
            if project is None:
                self._check_domain(wanted['domain'])
                project = wanted['name']
            elif project not in self.projects:
                raise service.Refused(401, _UNAUTHORIZED)
        if earlier is None:
            return self.issue_token(user, project, methods=methods)
        return self.issue_token(
            user,
            project,
            methods={*methods, *earlier.methods},
            expires_at=earlier.expires_at,
        )

    def _check_domain(self, domain: dict[str, str]) -> None:
        if (
            domain.get('id') != self.domain['id']
            and domain.get('name') != self.domain['name']
        ):
            raise service.Refused(401, _UNAUTHORIZED)

    def _current(
        self, token_id: str | None, *, allow_expired: bool = False
    ) -> Token | None:
        token = self.tokens.get(token_id or '')
        if token is None or token.revoked:
            return None
        end = token.expires_at + (
            EXPIRED_WINDOW if allow_expired else datetime.timedelta()
        )
        return token if _now() < end else None

    def _caller(self, request: service.Request) -> Token:
        token = self._current(request.headers.get('X-Auth-Token'))
        if token is None:
            raise service.Refused(401, _UNAUTHORIZED)
        return token

    def _subject(
        self, request: service.Request, allowed: set[str]
    ) -> tuple[Token, Token]:
        caller = self._caller(request)
        subject_id = request.headers.get('X-Subject-Token')
        subject = self._current(
            subject_id, allow_expired=request.GET.get('allow_expired') == '1'
        )
        if subject is None and subject_id is not None:
            raise service.Refused(404, _NO_TOKEN)
        if not allowed.intersection(caller.roles) and (
            subject is None or subject.user is not caller.user
        ):
            raise service.Refused(
                403,
                'You are not authorized to perform the requested action.',
            )
        if subject is None:
            raise service.Refused(404, _NO_TOKEN)
        return caller, subject

    def validate(self, request: service.Request) -> webob.Response:
        """Answer what a token stands for."""
        # Only for GET there is a policy that lets services in.
        allowed = {'admin'} if request.method == 'HEAD' else _VALIDATORS
        __, subject = self._subject(request, allowed)
        answer = service.respond(
            200, self._render(subject, 'nocatalog' not in request.GET)
        )
        answer.headers['X-Subject-Token'] = subject.id
        return answer

    def revoke_subject(self, request: service.Request) -> webob.Response:
        """Revoke a token on request of its owner or an administrator."""
        __, subject = self._subject(request, {'admin'})
        subject.revoked = True
        return service.respond(204)

    def show_catalog(self, request: service.Request) -> webob.Response:
        """Answer the catalog of the caller's token."""
        caller = self._caller(request)
        return service.respond(
            200,
            {
                'catalog': self._catalog(caller),
                'links': {'self': request.path_url},
            },
        )

    def list_own_projects(self, request: service.Request) -> webob.Response:
        """Answer the projects that the caller has a role in."""
        caller = self._caller(request)
        return service.respond(
            200,
            {
                'projects': [
                    self._project(project_id)
                    for project_id in caller.user.roles
                ],
                'links': {
                    'next': None,
                    'previous': None,
                    'self': request.path_url,
                },
            },
        )

    def show_project(
        self, request: service.Request, id: str
    ) -> webob.Response:
        """Answer one project to its members and to administrators."""
        caller = self._caller(request)
        if id != caller.project_id and 'admin' not in caller.roles:
            raise service.Refused(
                403,
                'You are not authorized to perform the requested action: '
                'identity:get_project.',
            )
        if id not in self.projects:
            raise service.Refused(404, f'Could not find project: {id}.')
        return service.respond(200, {'project': self._project(id)})

    def _project(self, project_id: str) -> dict[str, typing.Any]:
        return {
            'id': project_id,
            'name': self.projects[project_id],
            'domain_id': self.domain['id'],
            'parent_id': self.domain['id'],
            'description': '',
            'enabled': True,
            'is_domain': False,
            'options': {},
            'tags': [],
            'links': {'self': f'{self.url or ""}/v3/projects/{project_id}'},
        }

    def _render(self, token: Token, catalog: bool) -> dict[str, typing.Any]:
        rendered: dict[str, typing.Any] = {
            'methods': token.methods,
            'user': {
                'domain': self.domain,
                'id': token.user.id,
                'name': token.user.name,
                'password_expires_at': None,
            },
            'audit_ids': [token.audit_id],
            'expires_at': token.expires_at.strftime(_TIME),
            'issued_at': token.issued_at.strftime(_TIME),
        }
        if token.project_id is not None:
            rendered['project'] = {
                'domain': self.domain,
                'id': token.project_id,
                'name': self.projects[token.project_id],
            }
            rendered['is_domain'] = False
            rendered['roles'] = [
                {'id': self.roles[name], 'name': name} for name in token.roles
            ]
            if catalog:
                rendered['catalog'] = self._catalog(token)
        return {'token': rendered}

    def _catalog(self, token: Token) -> list[dict[str, typing.Any]]:
        return [
            {
                **entry,
                'endpoints': [
                    {
                        **endpoint,
                        'url': endpoint['url']
                        % {
                            'project_id': token.project_id,
                            'tenant_id': token.project_id,
                        },
                    }
                    for endpoint in entry['endpoints']
                ],
            }
            for entry in self.catalog
        ]
