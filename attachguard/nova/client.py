# SPDX-License-Identifier: Apache-2.0
"""Queries to Nova: does this server have this volume?

The only module of the guard that talks to Nova, with python-novaclient on one
keystoneauth session.  Each query is one request, whatever goes wrong is
:class:`Unknown`, and no caller waits longer than the deadline
(``nova_timeout``).

:meth:`Queries.has_volume` uses microversion 2.1: from 2.89 on, Nova also
responds with 404 while the attachment's id is not saved yet, and always for
servers attached before the Queens release.  2.89 serves to compare attachment
ids.

What a Nova that sends its response byte after byte can hold up: the worker
thread of that query, until the response ends.  Its caller gets a response in
time, and the other places (``nova_max_concurrency``) are free.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from http import cookiejar
import io
import threading
import time
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session as ksa_session
from novaclient import client
from oslo_config import cfg
import requests
import urllib3

from attachguard import opts
from attachguard.nova import circuit_breaker

HAS_VOLUME_VERSION = '2.1'
ATTACHMENT_ID_VERSION = '2.89'

# One row of Nova's response is a few hundred bytes, a server with all the
# metadata that it may have some ten thousand; a token with the catalog of a
# cloud of many regions is some hundred kilobytes.
_MAX_RESPONSE = 1024 * 1024
_PIECE = 16 * 1024
_SMALL_PIECE = 64

_TASK_STATE = 'OS-EXT-STS:task_state'

# Nova's own also for a server in a cell that is down: other servers can be
# queried, and a caller who has such a server must not stop that.
_SERVER_ERROR = 500


class Unknown(Exception):
    """Nova's response does not answer the query, or there is none.

    :param detail: for the operator's log: never for the caller, and without
        anything secret
    :param outage: whether Nova is out of order; False for what callers can
        cause as they please: many queries at once, an application credential
        for Cinder alone, a revoked token that Cinder has cached
    :param responded: whether Nova responded all the same
    """

    #: the stable code of it
    code = 'nova-unknown'

    def __init__(
        self, detail: str, outage: bool = True, responded: bool = False
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.outage = outage
        self.responded = responded


class Down(Unknown):
    """The circuit breaker is open."""

    code = 'nova-down'


class Busy(Unknown):
    """Too many queries are under way."""

    code = 'nova-busy'


class ResponseTooLong(requests.exceptions.RequestException):
    """A response that is longer than it may be."""


class BoundedAdapter(ksa_session.TCPKeepAliveAdapter):
    """keystoneauth's adapter, which reads responses to a limit.

    The timeout of ``requests`` bounds a single connect and a single read.
    Here it also bounds the time for the whole body, and a response has a
    maximum size.
    """

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a request, and read the response.

        :raises ResponseTooLong: if it is longer than 1 MiB
        :raises requests.exceptions.RequestException: if there is none in time
        """
        response = super().send(request, True, timeout, verify, cert, proxies)
        started = time.monotonic()
        body = bytearray()
        try:
            while piece := _read_piece(response.raw):
                body += piece
                if len(body) > _MAX_RESPONSE:
                    raise ResponseTooLong(f'more than {_MAX_RESPONSE} bytes')
                if timeout and time.monotonic() - started > timeout:
                    raise requests.exceptions.ReadTimeout(request=request)
                if len(piece) == _PIECE:
                    # With greenthreads, data that is there comes without a
                    # pause: let the others run.
                    time.sleep(0)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise requests.exceptions.ReadTimeout(exc) from exc
        except urllib3.exceptions.HTTPError as exc:
            raise requests.exceptions.ConnectionError(exc) from exc
        finally:
            # Complete, the connection is in the pool again; else it is closed.
            response.raw.close()
        response.raw = io.BytesIO(body)
        return response


def _read_piece(raw: Any) -> bytes:
    """Read what has arrived of a body; empty at its end."""
    if hasattr(raw, 'read1'):
        piece: bytes = raw.read1(_PIECE, decode_content=True)
    else:
        # urllib3 1.26 waits until the piece is complete: let it be small.
        piece = raw.read(_SMALL_PIECE, decode_content=True)
    return piece


def _region_of_cinder(conf: cfg.ConfigOpts) -> str | None:
    """Where Cinder itself queries Nova, if the catalog has several regions."""
    try:
        region: str | None = conf.nova.region_name
    except cfg.NoSuchOptError:
        return None
    return region


class Nova:
    """Queries Nova as the caller, or with the configured credentials.

    :param conf: with the ``[attachguard]`` options
    :param on_breaker_change: called with True when the circuit breaker opens,
        and with False when it closes
    :raises attachguard.opts.ConfigError: if the credentials cannot be loaded
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        on_breaker_change: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        group = conf[opts.GROUP]
        #: seconds for all queries of one request
        self.timeout: float = group.nova_timeout
        self._auth = opts.load_auth(conf)
        self._session = _load_session(conf, self._auth)
        self._clients = {
            version: client.Client(
                version,
                session=self._session,
                service_type=group.service_type,
                service_name=group.service_name,
                region_name=group.region_name or _region_of_cinder(conf),
                endpoint_type=group.valid_interfaces,
                endpoint_override=group.endpoint_override,
            ).client
            for version in (HAS_VOLUME_VERSION, ATTACHMENT_ID_VERSION)
        }
        self._limit: int = group.nova_max_concurrency
        self._places = threading.BoundedSemaphore(self._limit)
        # It starts threads when they are needed: after a server's fork.
        self._executor = futures.ThreadPoolExecutor(
            self._limit, thread_name_prefix='attachguard-nova'
        )
        self.breaker = circuit_breaker.CircuitBreaker(
            'Nova',
            group.nova_breaker_failures,
            group.nova_breaker_seconds,
            self.timeout,
            on_breaker_change,
        )

    @property
    def as_caller(self) -> bool:
        """Whether queries carry the caller's own token."""
        return self._auth is None

    def queries(self, auth: plugin.BaseAuthPlugin | None) -> Queries:
        """The queries for one request.

        :param auth: ``keystone.token_auth`` of the request, not used if
            credentials are configured
        """
        return Queries(self, auth)

    def get(
        self,
        auth: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
        timeout: float,
    ) -> dict[str, Any] | None:
        """Query Nova, in another thread.

        :param auth: as for :meth:`queries`
        :param version: the microversion
        :param path: of the resource
        :param key: under which the response has the resource
        :param timeout: in seconds
        :returns: the resource, or None if Nova has none such
        :raises Unknown: if Nova does not say
        """
        if self._auth is None and auth is None:
            raise Unknown(
                'the request carries no token to query Nova with, and no '
                'credentials are configured: set auth_type in [attachguard]'
            )
        if timeout <= 0:
            # Nova has responded to the queries before, for the same request.
            raise Unknown('no time is left (nova_timeout)', outage=False)
        if not self.breaker.permits():
            raise Down(
                f'Nova does not respond ({self.breaker.failure}); no query is '
                'sent now (nova_breaker_seconds)'
            )
        if not self._places.acquire(blocking=False):
            raise Busy(
                f'{self._limit} queries are under way (nova_max_concurrency)',
                outage=False,
            )
        started = time.monotonic()
        future = self._executor.submit(self._get, auth, version, path, key)
        try:
            row = future.result(timeout)
        except futures.TimeoutError:
            # This includes what no timeout of a socket bounds: the lookup of a
            # name, a wait for a lock, a token.
            detail = f'no response within {self.timeout:g} s (nova_timeout)'
            self.breaker.failed(started, detail)
            raise Unknown(detail) from None
        except Unknown as exc:
            if exc.responded:
                self.breaker.succeeded()
            elif exc.outage:
                self.breaker.failed(started, exc.detail)
            raise
        self.breaker.succeeded()
        return row

    def sees_every_project(self) -> bool:
        """Whether the configured credentials see other projects' servers.

        If they do not, Nova responds with 404 for them, and everything in
        those projects looks as if it were not attached.

        :returns: False if Nova refuses to list or show them
        :raises Unknown: if Nova does not say, or there is no server in
            another project to look at
        """
        own_project = self._session.get_project_id()
        path = '/servers/detail?all_tenants=1&limit=20'
        marker = ''
        nova = self._clients[HAS_VOLUME_VERSION]
        for _page in range(50):
            listed, body = nova.get(path + marker, raise_exc=False)
            if listed.status_code in (401, 403):
                return False
            try:
                servers = [
                    (row['id'], row['tenant_id']) for row in body['servers']
                ]
            except (KeyError, TypeError):
                raise Unknown(
                    f'HTTP {listed.status_code} from {listed.url}'
                ) from None
            for server_id, project_id in servers:
                if project_id != own_project:
                    shown, _body = nova.get(
                        f'/servers/{server_id}', raise_exc=False
                    )
                    return bool(shown.status_code == 200)
            if not servers:
                break
            marker = f'&marker={servers[-1][0]}'
        raise Unknown('there is no server in another project to look at')

    def _get(
        self,
        auth: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
    ) -> dict[str, Any] | None:
        """Query Nova, in this thread.

        :raises Unknown: for every failure
        """
        try:
            response, body = self._clients[version].get(
                path, raise_exc=False, auth=self._auth or auth
            )
        except ksa_exceptions.CatalogException as exc:
            # The catalog is in the caller's token, if there is one.
            raise Unknown(
                f'{type(exc).__name__}: {exc}', outage=not self.as_caller
            ) from exc
        except (ksa_exceptions.ClientException, OSError) as exc:
            raise Unknown(f'{type(exc).__name__}: {exc}') from exc
        except Exception as exc:
            # A proxy may send anything: the text is not for a log.
            raise Unknown(f'{type(exc).__name__} while reading') from exc
        finally:
            # Before the caller has the result: its next query must not find
            # this place taken.
            self._places.release()
        status = response.status_code
        if status == 404 and isinstance(body, dict) and 'itemNotFound' in body:
            return None
        if status != 200:
            # Also a 404 that is not Nova's: a proxy's, a wrong endpoint's.
            of_caller = self.as_caller and status in (401, 403)
            raise Unknown(
                f'HTTP {status} from {response.url}',
                outage=not of_caller,
                responded=of_caller or status == _SERVER_ERROR,
            )
        row = body.get(key) if isinstance(body, dict) else None
        if not isinstance(row, dict):
            raise Unknown(f'HTTP 200 without "{key}" from {response.url}')
        return row


class Queries:
    """The queries of one request, which share ``nova_timeout``.

    :param nova: the client
    :param auth: ``keystone.token_auth`` of the request
    """

    def __init__(self, nova: Nova, auth: plugin.BaseAuthPlugin | None) -> None:
        self._nova = nova
        self._auth = auth
        self._deadline: float | None = None
        #: how many queries were made
        self.count = 0
        #: their duration
        self.seconds = 0.0

    def has_volume(self, server_id: str, volume_id: str) -> bool:
        """Whether a server has a volume.

        :param server_id: a canonical UUID
        :param volume_id: a canonical UUID
        :returns: False also for a server that does not exist, or that these
            credentials may not see: Nova's response is the same
        :raises Unknown: if Nova does not say
        """
        row = self._attachment(HAS_VOLUME_VERSION, server_id, volume_id)
        return row is not None

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The id of Cinder's attachment by which a server has a volume.

        :param server_id: a canonical UUID
        :param volume_id: a canonical UUID
        :returns: None if Nova has no such attachment, or no id for it
        :raises Unknown: if Nova does not say
        """
        row = self._attachment(ATTACHMENT_ID_VERSION, server_id, volume_id)
        return None if row is None else row.get('attachment_id')

    def is_idle(self, server_id: str) -> bool:
        """Whether Nova performs no task on a server.

        During a migration, Nova names the attachment on the destination host,
        and the guest still runs by the one on the source host.

        :param server_id: a canonical UUID
        :returns: True also for a server that does not exist any more
        :raises Unknown: if Nova does not say
        """
        row = self._get(HAS_VOLUME_VERSION, f'/servers/{server_id}', 'server')
        if row is None:
            return True
        if row.get('id') != server_id or _TASK_STATE not in row:
            raise Unknown('the response is not about this server')
        return row[_TASK_STATE] is None

    def _attachment(
        self, version: str, server_id: str, volume_id: str
    ) -> dict[str, Any] | None:
        row = self._get(
            version,
            f'/servers/{server_id}/os-volume_attachments/{volume_id}',
            'volumeAttachment',
        )
        if row is not None and (row.get('serverId'), row.get('volumeId')) != (
            server_id,
            volume_id,
        ):
            raise Unknown('the response is not about this attachment')
        return row

    def _get(self, version: str, path: str, key: str) -> dict[str, Any] | None:
        started = time.monotonic()
        if self._deadline is None:
            self._deadline = started + self._nova.timeout
        self.count += 1
        try:
            return self._nova.get(
                self._auth, version, path, key, self._deadline - started
            )
        finally:
            self.seconds += time.monotonic() - started


def _load_session(
    conf: cfg.ConfigOpts, auth: plugin.BaseAuthPlugin | None
) -> ksa_session.Session:
    group = conf[opts.GROUP]
    session = loading.load_session_from_conf_options(
        conf,
        opts.GROUP,
        auth=auth,
        # keystoneauth would keep the timings of all requests.
        collect_timing=False,
        # Nova does not redirect, and a token must not follow a redirect.
        redirect=False,
    )
    if not session.timeout or session.timeout > group.nova_timeout:
        session.timeout = group.nova_timeout
    # Not every release of keystoneauth has these.
    tls = {
        name: getattr(session, name)
        for name in ('tls_ciphers', 'tls_min_version')
        if hasattr(session, name)
    }
    adapter = BoundedAdapter(pool_maxsize=group.nova_max_concurrency, **tls)
    for scheme in ('http://', 'https://'):
        session.session.mount(scheme, adapter)
    # The session is shared by all callers: no cookie of one is for another.
    session.session.cookies.set_policy(
        cookiejar.DefaultCookiePolicy(allowed_domains=[])
    )
    return session
