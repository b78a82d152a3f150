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
"""A guard, what stands behind it, and the requests that it is measured with.

The requests are what the real auth_token makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import functools
import io
import json
import os
import sys
from typing import Any
from typing import TYPE_CHECKING
import uuid

from keystoneauth1 import session as ksa_session
from oslo_config import cfg
from oslo_log import log as logging

from attachguard import opts
from attachguard.guard import middleware as attachguard_filter
from attachguard.testing import service
from benchmarks import neighbours

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'


def new_id() -> str:
    """The id of a volume or a server that nobody has asked about yet."""
    return str(uuid.uuid4())


def cinder(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """A Cinder that knows each volume, and of no attachment.

    It answers from memory what a guard asks, and performs nothing.
    """
    path: str = environ['PATH_INFO']
    status = '200 OK'
    if environ['REQUEST_METHOD'] != 'GET':
        status, body = '202 Accepted', b''
    elif path.endswith('/attachments'):
        body = b'{"attachments": []}'
    else:
        body = (
            '{"volume": {"id": "%s", "os-vol-tenant-attr:tenant_id": "%s"}}'  # noqa: UP031
            % (path[-36:], PROJECT)
        ).encode()
    start_response(
        status,
        [
            ('Content-Type', 'application/json'),
            ('Content-Length', str(len(body))),
        ],
    )
    return [body]


def request(
    method: str, path: str, body: bytes = b'', token: str = ''
) -> WSGIEnvironment:
    """A request as a server hands it over.

    :param path: below the project
    """
    environ: WSGIEnvironment = {
        'REQUEST_METHOD': method,
        'SCRIPT_NAME': '/v3',
        'PATH_INFO': f'/{PROJECT}{path}',
        'QUERY_STRING': '',
        'SERVER_NAME': '127.0.0.1',
        'SERVER_PORT': '8776',
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'REMOTE_ADDR': '127.0.0.1',
        'HTTP_HOST': '127.0.0.1:8776',
        'HTTP_ACCEPT': 'application/json',
        'HTTP_ACCEPT_ENCODING': 'gzip, deflate',
        'HTTP_CONNECTION': 'keep-alive',
        'HTTP_USER_AGENT': 'python-cinderclient',
        'HTTP_OPENSTACK_API_VERSION': 'volume 3.44',
        'HTTP_X_AUTH_TOKEN': token,
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': 'http',
        'wsgi.input': io.BytesIO(body),
        'wsgi.errors': sys.stderr,
        'wsgi.multithread': True,
        'wsgi.multiprocess': True,
        'wsgi.run_once': False,
    }
    if body:
        environ['CONTENT_TYPE'] = 'application/json'
        environ['CONTENT_LENGTH'] = str(len(body))
    return environ


def attach(server_id: str, volume_id: str) -> tuple[str, bytes]:
    """The path and body of an os-attach."""
    body = {'os-attach': {'instance_uuid': server_id, 'mountpoint': '/dev/vd'}}
    return f'/volumes/{volume_id}/action', json.dumps(body).encode()


class People:
    """Who sends requests, as far as auth_token says.

    :param nearby: where it asks
    """

    def __init__(self, nearby: neighbours.Neighbours) -> None:
        self._nearby = nearby
        self._seen: WSGIEnvironment = {}
        self._auth_token = service.authenticated(
            self._see,
            nearby.keystone_url,
            'cinder',
            'cinder',
            service_token_roles_required=True,
        )

    @functools.cache  # noqa: B019
    def token(self, user: str) -> str:
        """A token of a user's."""
        session = ksa_session.Session(auth=self._nearby.auth(user))
        return session.get_token() or ''

    def _see(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        self._seen = environ
        start_response('200 OK', [])
        return []

    def authenticated(
        self,
        method: str,
        path: str,
        body: bytes = b'',
        user: str = 'member',
        service_user: str = '',
    ) -> WSGIEnvironment:
        """A request as it leaves auth_token.

        :param user: whose token it carries
        :param service_user: whose service token it carries, if any
        """
        environ = request(method, path, body, self.token(user))
        if service_user:
            environ['HTTP_X_SERVICE_TOKEN'] = self.token(service_user)
        self._seen = {}
        for __ in self._auth_token(environ, _ignore):
            pass
        # What WebOb keeps of a request is of that request alone.
        return {
            name: value
            for name, value in self._seen.items()
            if not name.startswith('webob.')
        }


def _write(_data: bytes) -> object:
    return None


def _ignore(
    _status: str, _headers: list[tuple[str, str]], _exc_info: Any = None, /
) -> Callable[[bytes], object]:
    return _write


def guard(
    application: WSGIApplication = cinder, **options: Any
) -> attachguard_filter.AttachGuard:
    """A guard with a configuration of its own.

    :param options: of ``[attachguard]``
    """
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    opts.configure(conf, {name: str(it) for name, it in options.items()})
    return attachguard_filter.AttachGuard(application, conf)


def with_credentials(nearby: neighbours.Neighbours) -> dict[str, Any]:
    """Options by which a guard asks with credentials of its own."""
    return {'auth_type': 'v3password', **nearby.credentials()}


def as_caller() -> dict[str, Any]:
    """Options by which a guard asks with the caller's token."""
    return {}


class Refused(Exception):
    """A request that should have passed, and did not."""


def send(
    application: WSGIApplication, environ: WSGIEnvironment, body: bytes
) -> None:
    """Send a request, as often as one likes, and see that it passes.

    :raises Refused: it does not
    """
    statuses: list[str] = []

    def start_response(
        status: str,
        _headers: list[tuple[str, str]],
        _exc_info: Any = None,
        /,
    ) -> Callable[[bytes], object]:
        statuses.append(status)
        return _write

    for __ in application(
        {**environ, 'wsgi.input': io.BytesIO(body)}, start_response
    ):
        pass
    if not statuses[0].startswith('2'):
        raise Refused(statuses[0])


def log_like_cinder() -> None:
    """Write a log as Cinder does by default, for a decision is a line of it.

    It is written to where nobody reads it.
    """
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    conf(
        ['--log-file', os.devnull],
        default_config_files=[],
        default_config_dirs=[],
    )
    logging.setup(conf, 'cinder')
    # What fails here is to be seen, not to be logged.
    sys.excepthook = sys.__excepthook__
