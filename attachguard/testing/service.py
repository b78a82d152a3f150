# SPDX-License-Identifier: Apache-2.0

"""Base of the stub services: routing, errors, microversions, JSON.

A stub is a WSGI application with one table of routes. Its errors have the
format of the service that it represents.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import operator
import re
import typing
import urllib.parse
import uuid

import jsonschema
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_utils import uuidutils
import webob
import webob.exc

from attachguard.testing import fault_injection

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

Version = tuple[int, int]


class Refused(Exception):
    """A stub responds to a request with an error.

    :param status: HTTP status code
    :param message: message of the error
    """

    def __init__(self, status: int, message: str = '') -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclasses.dataclass(frozen=True)
class Caller:
    """The user of a request, as keystonemiddleware's auth_token sets it."""

    user_id: str
    project_id: str
    roles: frozenset[str]
    service_roles: frozenset[str]

    @classmethod
    def from_request(cls, request: webob.Request) -> Caller:
        """Read the caller from the headers that auth_token sets.

        :param request: a request that passed auth_token
        """
        headers = request.headers
        return cls(
            headers.get('X-User-Id') or '',
            headers.get('X-Project-Id') or '',
            frozenset((headers.get('X-Roles') or '').split(',')),
            frozenset((headers.get('X-Service-Roles') or '').split(',')),
        )

    @classmethod
    def from_context(cls, context: typing.Any) -> Caller:
        """Read the caller from the context that Cinder's keystonecontext sets.

        :param context: a ``cinder.context.RequestContext``, which can be
            elevated
        """
        return cls(
            context.user_id or '',
            context.project_id or '',
            frozenset(context.roles),
            frozenset(context.service_roles),
        )

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator of the cloud."""
        return 'admin' in self.roles

    def has_role(self, role: str) -> bool:
        """Return whether the caller has a role or is an administrator."""
        return self.is_admin or role in self.roles

    def can_access(self, project_id: str) -> bool:
        """Return whether the caller can access resources of a project."""
        return self.is_admin or project_id == self.project_id


class Request(webob.Request):
    """A request with its caller and its microversion."""

    caller: Caller
    version: Version

    def authorize(self, role: str, rule: str) -> None:
        """Require a role of the caller.

        :param role: name of the role; an administrator has every role
        :param rule: name of the policy rule, for the error message
        :raises Refused: 403, the caller does not have the role
        """
        if not self.caller.has_role(role):
            raise Refused(403, f"Policy doesn't allow {rule} to be performed.")


@dataclasses.dataclass(frozen=True)
class Route:
    """One line of a stub's table of routes.

    :param method: HTTP method
    :param template: regular expression of the path, in which ``{name}``
        stands for one segment
    :param handler: name of the stub's method that handles the request; a
        dotted name is a method of an attribute
    """

    method: str
    template: str
    handler: str
    pattern: re.Pattern[str] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r'{([a-z_]+)}', r'(?P<\1>[^/]+)', self.template)
        object.__setattr__(self, 'pattern', re.compile(pattern + '/?'))


class Service:
    """Base class of the stub services.

    :ivar faults: the faults and delays that a test adds
    """

    routes: typing.ClassVar[tuple[Route, ...]] = ()

    def __init__(self) -> None:
        self.faults = fault_injection.Faults()
        self._pipeline: wsgi_types.WSGIApplication = self._dispatch

    def __call__(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        request = webob.Request(environ)
        fault = self.faults.apply(request)
        if fault is None or fault.status is None:
            return self._pipeline(environ, start_response)
        if fault.body is None:
            response = self.error(fault.status, 'A fault added by a test.')
        elif isinstance(fault.body, Mapping):
            response = respond(fault.status, fault.body)
        else:
            response = respond(fault.status)
            response.body = (
                fault.body
                if isinstance(fault.body, bytes)
                else fault.body.encode()
            )
        response.headers.update(list(fault.headers.items()))
        return response(environ, start_response)

    def _dispatch(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self.respond_to(request)
        except Refused as refused:
            response = self.error(refused.status, refused.message)
        self.finish(request, response)
        return response(environ, start_response)

    def respond_to(self, request: Request) -> webob.Response:
        """Find the route of a request and call its handler.

        :raises Refused: the service responds with an error
        """
        path = request.environ['SCRIPT_NAME'] + request.environ['PATH_INFO']
        for route in self.routes:
            found = route.pattern.fullmatch(path)
            if found and route.method == request.method:
                params = found.groupdict()
                self.prepare(request, params)
                handler: Callable[..., webob.Response] = operator.attrgetter(
                    route.handler
                )(self)
                return handler(request, **params)
        return self.unrouted(request)

    def prepare(self, request: Request, params: dict[str, typing.Any]) -> None:
        """Check a request and set its attributes before its handler runs.

        :param request: the request
        :param params: the segments of the path, which become arguments of
            the handler
        :raises Refused: the request does not reach its handler
        """

    def unrouted(self, request: Request) -> webob.Response:
        """Respond to a request that no route matches."""
        return webob.exc.HTTPNotFound()

    def error(self, status: int, message: str) -> webob.Response:
        """Make an error response in the format of the service."""
        raise NotImplementedError

    def finish(self, request: Request, response: webob.Response) -> None:
        """Add the headers that every response of the service has."""
        response.headers['x-openstack-request-id'] = request.environ.get(
            'openstack.request_id', f'req-{uuid.uuid4()}'
        )


_ERROR_NAMES = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    405: 'badMethod',
    409: 'conflictingRequest',
    413: 'overLimit',
    415: 'badMediaType',
    429: 'overLimit',
    501: 'notImplemented',
    503: 'serviceUnavailable',
}


class MicroversionService(Service):
    """Base class of the stubs of Cinder and Nova."""

    min_version: typing.ClassVar[Version]
    max_version: typing.ClassVar[Version]

    def error(self, status: int, message: str) -> webob.Response:
        name = _ERROR_NAMES.get(status, 'computeFault')
        return respond(status, {name: {'code': status, 'message': message}})

    def set_version(self, request: Request, text: str) -> None:
        """Set the microversion of a request.

        :param request: the request
        :param text: the microversion that the client requests
        :raises Refused: 400, the text is no microversion; 406, the service
            does not support it
        """
        if text == 'latest':
            request.version = self.max_version
            return
        version = parse_version(text)
        if version is None:
            raise Refused(
                400,
                f'API Version String {text} is of invalid format. Must be of '
                'format MajorNum.MinorNum.',
            )
        # The response names the requested version, supported or not.
        request.version = version
        if not self.min_version <= version <= self.max_version:
            raise Refused(
                406,
                f'Version {text} is not supported by the API. Minimum is '
                f'{format_version(self.min_version)} and maximum is '
                f'{format_version(self.max_version)}.',
            )


def parse_version(text: str) -> Version | None:
    """Parse a microversion, as strictly as the services do.

    :returns: major and minor number; ``None`` if it is malformed
    """
    found = re.match(r'^([1-9]\d*)\.([1-9]\d*|0)$', text)
    return (int(found[1]), int(found[2])) if found else None


def format_version(version: Version) -> str:
    """Format a microversion as text."""
    return f'{version[0]}.{version[1]}'


def _is_uuid(value: object) -> bool:
    # The schema's type rejects values that are not strings.
    return not isinstance(value, str) or uuidutils.is_uuid_like(value)


_formats = jsonschema.FormatChecker(formats=())
_formats.checks('uuid')(_is_uuid)


def validate(body: typing.Any, schema: Mapping[str, typing.Any]) -> typing.Any:
    """Validate a body; a UUID has the formats that oslo.utils accepts.

    :param body: the parsed body
    :param schema: the JSON schema
    :returns: the body
    :raises Refused: 400, the body does not match the schema
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
    # The service does not use the configuration of the test's process.
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
    """Make a response.

    :param status: HTTP status code
    :param body: JSON body; without one there is no content type either
    """
    response = webob.Response(status=status, content_type=None)
    if body is not None:
        response.body = json.dumps(body).encode()
        response.content_type = 'application/json'
    return response


def json_body(request: webob.Request) -> typing.Any:
    """Parse the body of a request.

    :raises Refused: 400, the body is no JSON
    """
    try:
        return json.loads(request.body)
    except ValueError:
        raise Refused(400, 'cannot understand JSON') from None


def next_page(
    request: webob.Request, collection: str, last_id: str
) -> dict[str, list[dict[str, str]]]:
    """Make the link to the next page of a list.

    :param request: the request for this page
    :param collection: name of the list in the response
    :param last_id: id of the last item of this page
    """
    query = {**request.GET, 'marker': last_id}
    href = f'{request.path_url}?{urllib.parse.urlencode(query)}'
    return {f'{collection}_links': [{'rel': 'next', 'href': href}]}
