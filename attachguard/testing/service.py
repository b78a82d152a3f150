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

"""What the stub services have in common.

A stub is a WSGI application: one table of routes, faults and delays on
demand, and errors in the form of the service that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import re
import threading
import typing
import uuid

import jsonschema
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_utils import uuidutils
import webob
import webob.exc

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

Version = tuple[int, int]
Body = bytes | str | Mapping[str, typing.Any]


class Refused(Exception):
    """A request that a stub answers with an error.

    :param status: HTTP status code
    :param message: what the service says to it
    """

    def __init__(self, status: int, message: str = '') -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who calls, as keystonemiddleware's auth_token tells a service."""

    user_id: str
    project_id: str
    roles: frozenset[str]
    service_roles: frozenset[str]

    @classmethod
    def of(cls, request: webob.Request) -> Caller:
        """Read the caller of a request that came through auth_token."""
        headers = request.headers
        return cls(
            headers.get('X-User-Id') or '',
            headers.get('X-Project-Id') or '',
            frozenset((headers.get('X-Roles') or '').split(',')),
            frozenset((headers.get('X-Service-Roles') or '').split(',')),
        )

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator of the cloud."""
        return 'admin' in self.roles

    def may(self, role: str) -> bool:
        """Whether the caller has the role, or is an administrator."""
        return self.is_admin or role in self.roles


class Request(webob.Request):
    """A request with what a service knows of it."""

    caller: Caller
    version: Version


@dataclasses.dataclass(eq=False)
class Fault:
    """Something that goes wrong for the requests it matches.

    :param status: answer this; ``None`` to only delay the request
    :param times: for so many requests; ``None`` for all of them
    :param path: regular expression searched in path and query
    :param method: only this method
    :param delay: seconds to wait before anything else
    :param body: instead of an error in the service's own form
    :param headers: added to the answer; a ``Content-Length`` that promises
        more than the body has makes the server break the connection
    """

    status: int | None = 500
    times: int | None = 1
    path: str = ''
    method: str | None = None
    delay: float = 0
    body: Body | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hits: int = 0

    def matches(self, request: webob.Request) -> bool:
        """Whether the request is one of those that shall go wrong."""
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, request.method)
            and re.search(self.path, request.path_qs) is not None
        )


class Faults:
    """The faults and delays that a test asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()

    def add(
        self,
        status: int | None = 500,
        times: int | None = 1,
        path: str = '',
        *,
        method: str | None = None,
        delay: float = 0,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Let requests go wrong from now on; parameters as :class:`Fault`.

        :returns: the fault, whose ``hits`` count the requests it met
        """
        fault = Fault(
            status, times, path, method, delay, body, dict(headers or {})
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget every fault, and let those who wait go on at once."""
        with self._lock:
            self._faults.clear()
            released, self._released = self._released, threading.Event()
        released.set()

    def meet(self, request: webob.Request) -> Fault | None:
        """Find the fault that a request runs into, and wait its delay."""
        with self._lock:
            fault = next((f for f in self._faults if f.matches(request)), None)
            if fault is None:
                return None
            fault.hits += 1
            released = self._released
        if fault.delay:
            released.wait(fault.delay)
        return fault


@dataclasses.dataclass(frozen=True)
class Route:
    """One line of a stub's table of routes.

    :param method: HTTP method
    :param template: regular expression of the path, in which ``{name}``
        stands for one segment
    :param handler: name of the method that answers
    """

    method: str
    template: str
    handler: str
    pattern: re.Pattern[str] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r'{([a-z_]+)}', r'(?P<\1>[^/]+)', self.template)
        object.__setattr__(self, 'pattern', re.compile(pattern + '/?'))


class Service:
    """A stub of a service; the base of all of them."""

    routes: typing.ClassVar[tuple[Route, ...]] = ()

    def __init__(self) -> None:
        self.faults = Faults()
        self._pipeline: wsgi_types.WSGIApplication = self._dispatch

    def __call__(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        request = webob.Request(environ)
        fault = self.faults.meet(request)
        if fault is None or fault.status is None:
            return self._pipeline(environ, start_response)
        if fault.body is None:
            answer = self.error(fault.status, 'A fault asked for by a test.')
        elif isinstance(fault.body, Mapping):
            answer = respond(fault.status, fault.body)
        else:
            answer = respond(fault.status)
            answer.body = (
                fault.body
                if isinstance(fault.body, bytes)
                else fault.body.encode()
            )
        answer.headers.update(list(fault.headers.items()))
        return answer(environ, start_response)

    def _dispatch(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        request = Request(environ)
        try:
            answer = self.answer(request)
        except Refused as refused:
            answer = self.error(refused.status, refused.message)
        self.finish(request, answer)
        return answer(environ, start_response)

    def answer(self, request: Request) -> webob.Response:
        """Find the route of a request and have it answered.

        :raises Refused: there is none, or its handler refuses
        """
        path = request.environ['SCRIPT_NAME'] + request.environ['PATH_INFO']
        for route in self.routes:
            found = route.pattern.fullmatch(path)
            if found and route.method == request.method:
                params = found.groupdict()
                self.admit(request, params)
                handler: Callable[..., webob.Response] = getattr(
                    self, route.handler
                )
                return handler(request, **params)
        return self.unrouted(request)

    def admit(self, request: Request, params: dict[str, typing.Any]) -> None:
        """Look at a request before its handler does.

        :raises Refused: the request shall not reach its handler
        """

    def unrouted(self, request: Request) -> webob.Response:
        """Answer a request that no route matches, as the router does."""
        return webob.exc.HTTPNotFound()

    def error(self, status: int, message: str) -> webob.Response:
        """Make an error in the form of the service."""
        raise NotImplementedError

    def finish(self, request: Request, answer: webob.Response) -> None:
        """Add the headers that every answer of the service has."""
        answer.headers['x-openstack-request-id'] = request.environ.get(
            'openstack.request_id', f'req-{uuid.uuid4()}'
        )


def _is_uuid(value: object) -> bool:
    # Values that are no strings are for the type to judge.
    return not isinstance(value, str) or uuidutils.is_uuid_like(value)


_formats = jsonschema.FormatChecker(formats=())
_formats.checks('uuid')(_is_uuid)


def validate(body: typing.Any, schema: Mapping[str, typing.Any]) -> typing.Any:
    """Hold a body against a JSON schema, with OpenStack's idea of a UUID.

    :returns: the body
    :raises Refused: 400, it does not follow the schema
    """
    try:
        jsonschema.validate(body, schema, format_checker=_formats)
    except jsonschema.ValidationError as invalid:
        where = '/'.join(str(part) for part in invalid.absolute_path)
        raise Refused(
            400,
            f'Invalid input for field/attribute {where}. '
            f'Value: {invalid.instance}. {invalid.message}',
        ) from None
    return body


def parse_version(text: str) -> Version | None:
    """Read a microversion, as strictly as the services do."""
    found = re.match(r'^([1-9]\d*)\.([1-9]\d*|0)$', text)
    return (int(found[1]), int(found[2])) if found else None


def authenticated(
    application: wsgi_types.WSGIApplication,
    keystone_url: str,
    username: str,
    password: str,
    **options: object,
) -> wsgi_types.WSGIApplication:
    """Put the real auth_token in front of an application.

    :param application: the WSGI application
    :param keystone_url: address of Keystone, without the version
    :param username: the service's own user, in the project ``service``
    :param password: that user's password
    :param options: more options, as in ``[keystone_authtoken]``
    :returns: the WSGI pipeline
    """
    # The configuration of the process that runs the test is not the service's.
    config = cfg.ConfigOpts()
    config([], default_config_files=[], default_config_dirs=[])
    group = 'keystone_authtoken'
    loading.register_auth_conf_options(config, group)
    config.register_opts(
        loading.get_auth_plugin_conf_options('password'), group=group
    )
    for name, value in (
        ('auth_type', 'password'),
        ('auth_url', keystone_url),
        ('username', username),
        ('password', password),
        ('project_name', 'service'),
        ('user_domain_id', 'default'),
        ('project_domain_id', 'default'),
    ):
        config.set_override(name, value, group=group)
    pipeline: wsgi_types.WSGIApplication = auth_token.AuthProtocol(
        application,
        {
            'oslo_config_config': config,
            'www_authenticate_uri': keystone_url,
            **options,
        },
    )
    return pipeline


def respond(
    status: int, body: Mapping[str, typing.Any] | None = None
) -> webob.Response:
    """Make a response; without a body it has no content type either."""
    answer = webob.Response(status=status, content_type=None)
    if body is not None:
        answer.body = json.dumps(body).encode()
        answer.content_type = 'application/json'
    return answer


def json_body(request: webob.Request) -> typing.Any:
    """Read the body of a request.

    :raises Refused: 400, it is no JSON
    """
    try:
        return json.loads(request.body)
    except ValueError:
        raise Refused(400, 'cannot understand JSON') from None
