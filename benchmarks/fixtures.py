# SPDX-License-Identifier: Apache-2.0
"""The guard, a Cinder behind it, and requests as auth_token forwards them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import functools
import io
import json
import os
import re
import sys
import time
from typing import Any
from typing import TYPE_CHECKING
import uuid

from keystoneauth1 import session as ksa_session
from oslo_config import cfg
from oslo_log import log as logging
import webob

from attachguard import filter as attachguard_filter
from attachguard.nova import client
from attachguard.testing import service
from benchmarks import services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

_UUID = re.compile('[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')

PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'

_ID = b'701c0000-0000-4000-8000-000000000002'
_VOLUMES = json.dumps(
    {
        'volumes': [
            {
                'id': _ID.decode(),
                'status': 'in-use',
                'attachments': [],
                'os-vol-mig-status-attr:migstat': None,
                'multiattach': False,
                'created_at': '2026-01-01T00:00:00.000000',
                'updated_at': '2026-01-01T00:00:00.000000',
                'os-vol-tenant-attr:tenant_id': PROJECT,
            }
        ]
    }
).encode()
_ATTACHMENTS = json.dumps(
    {
        'attachments': [
            {
                'id': _ID.decode(),
                'volume_id': _ID.decode(),
                'instance': _ID.decode(),
                'status': 'attached',
                'connection_info': {},
            }
        ]
    }
).encode()


def new_id() -> str:
    """An id that no earlier request had."""
    return str(uuid.uuid4())


def cinder(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """A Cinder that has every volume, attached to a server of the same id.

    It responds from memory, so that the guard is what is measured.
    """
    path: str = environ['PATH_INFO']
    status, body = '200 OK', b''
    if environ['REQUEST_METHOD'] != 'GET':
        status = '202 Accepted'
    else:
        lists = _ATTACHMENTS if '/attachments' in path else _VOLUMES
        (volume_id,) = _UUID.findall(path + environ['QUERY_STRING'])
        body = lists.replace(_ID, volume_id.encode())
    start_response(
        status,
        [
            ('Content-Type', 'application/json'),
            ('Content-Length', str(len(body))),
        ],
    )
    return [body]


def guard(
    application: WSGIApplication = cinder, **options: Any
) -> WSGIApplication:
    """A guard, made as a paste file makes it.

    :param application: the application behind the guard
    :param options: options of the filter's section in the paste file
    """
    texts = {name: str(value) for name, value in options.items()}
    return attachguard_filter.filter_factory({}, **texts)(application)


def guards(
    nearby: services.Services, **options: Any
) -> dict[str, WSGIApplication]:
    """A guard for each kind of credentials it can query Nova with.

    :param options: more options, for each of them
    """
    configured = {'auth_type': 'v3password', **nearby.credentials()}
    return {
        'configured credentials': guard(**configured, **options),
        'as the caller': guard(**options),
    }


def wait_for_visibility(guard: Any) -> None:
    """Wait until a guard knows which servers it sees.

    :raises TimeoutError: it does not find out
    """
    deadline = time.monotonic() + 10
    while guard.nova.visibility is client.Visibility.UNCHECKED:
        if time.monotonic() > deadline:
            raise TimeoutError('the visibility is not checked')
        time.sleep(0.01)


def request(
    method: str, path: str, body: bytes = b'', token: str = ''
) -> WSGIEnvironment:
    """A request as a WSGI server passes it on.

    :param path: the path below the project
    """
    blank = webob.Request.blank(
        f'/{PROJECT}{path}',
        base_url='http://127.0.0.1:8776/v3',
        method=method,
        headers={
            'Accept': 'application/json',
            'Accept-Encoding': 'gzip, deflate',
            'Connection': 'keep-alive',
            'OpenStack-API-Version': 'volume 3.44',
            'User-Agent': 'python-cinderclient',
            'X-Auth-Token': token,
        },
    )
    if body:
        blank.content_type = 'application/json'
        blank.body = body
    return dict(blank.environ)


def detach(volume_id: str) -> tuple[str, bytes]:
    """The path and the body of an os-detach."""
    return f'/volumes/{volume_id}/action', b'{"os-detach": {}}'


def _write(_data: bytes) -> object:
    return None


def start(
    _status: str, _headers: list[tuple[str, str]], _exc_info: Any = None, /
) -> Callable[[bytes], object]:
    """A ``start_response`` that does nothing."""
    return _write


class AuthToken:
    """The real auth_token, which authenticates requests.

    :param nearby: the Keystone that it uses
    """

    def __init__(self, nearby: services.Services) -> None:
        self._nearby = nearby
        self._forwarded: WSGIEnvironment = {}
        self._middleware = service.authenticated(
            self._keep,
            nearby.keystone_url,
            'cinder',
            'cinder',
            service_token_roles_required=True,
        )

    @functools.cache  # noqa: B019
    def _token(self, user: str) -> str:
        session = ksa_session.Session(auth=self._nearby.auth(user))
        return session.get_token() or ''

    def _keep(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        self._forwarded = environ
        start_response('200 OK', [])
        return []

    def forward(
        self,
        method: str,
        path: str,
        body: bytes = b'',
        user: str = 'member',
        service_user: str = '',
    ) -> WSGIEnvironment:
        """Make a request as auth_token forwards it.

        :param user: the owner of its token
        :param service_user: the owner of its service token, if any
        """
        environ = request(method, path, body, self._token(user))
        if service_user:
            environ['HTTP_X_SERVICE_TOKEN'] = self._token(service_user)
        for __ in self._middleware(environ, start):
            pass
        # WebOb's cached values belong to one request only.
        return {
            name: value
            for name, value in self._forwarded.items()
            if not name.startswith('webob.')
        }


class Refused(Exception):
    """The guard refused a request that it has to allow."""


def send(
    application: WSGIApplication, environ: WSGIEnvironment, body: bytes
) -> None:
    """Send a request.

    :param environ: the request; it is copied, so it can be sent again
    :raises Refused: the status is not 2xx
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


def log_to_nowhere() -> None:
    """Log as Cinder does by default, to the null device.

    The guard writes a log line for each decision, and that is part of its
    cost.
    """
    logging.register_options(cfg.CONF)
    cfg.CONF(
        ['--log-file', os.devnull],
        default_config_files=[],
        default_config_dirs=[],
    )
    logging.setup(cfg.CONF, 'cinder')
    # An exception of the benchmark itself must be visible.
    sys.excepthook = sys.__excepthook__
