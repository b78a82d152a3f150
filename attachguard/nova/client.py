# SPDX-License-Identifier: Apache-2.0
"""Queries to Nova: is this server there, is it busy, which volumes has it?

The only module of the guard that talks to Nova, with python-novaclient on one
keystoneauth session.  Each query is one request, whatever goes wrong is
:class:`Unknown`, and no caller waits longer than the deadline
(``nova_timeout``).

Microversion 2.1 of a server says all that is needed in one response.  2.89
serves to compare attachment ids: from it on, Nova responds with 404 while the
attachment's id is not saved yet, and always for servers attached before the
Queens release.

What a Nova that sends its response byte after byte can hold up: the worker
thread of that query, until the response ends.  Its caller gets a response in
time, and the other places (``nova_max_concurrency``) are free.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
import contextlib
import dataclasses
import enum
import time
from typing import Any
import uuid

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import identity
from keystoneauth1 import plugin
from novaclient import client
from oslo_config import cfg
from oslo_log import log as logging
import requests

from attachguard import opts
from attachguard import threads
from attachguard import wsgi_server
from attachguard.nova import circuit_breaker
from attachguard.nova import places
from attachguard.nova import session

SERVER_VERSION = '2.1'
ATTACHMENT_ID_VERSION = '2.89'

LOG = logging.getLogger(__name__)

_Response = futures.Future[tuple[requests.Response, Any]]

#: The most servers that one query lists.
PAGE = 1000

_NO_SERVER = str(uuid.UUID(int=0))

_TASK_STATE = 'OS-EXT-STS:task_state'
_VM_STATE = 'OS-EXT-STS:vm_state'
_VOLUMES = 'os-extended-volumes:volumes_attached'

# What a proxy responds when Nova does not. 500 is Nova's own, also for a
# server in a cell that is down: other servers can be queried.
_GATEWAY_ERRORS = frozenset((502, 503, 504))

# Seconds that a probe in the background waits for a connection or a response,
# so that the next one follows soon.
_PROBE_TIMEOUT = 1.0

# A query without a response shows an outage only if it had this share of
# nova_timeout: a caller can make the guard spend the rest beforehand.
_SHARE_OF_EVIDENCE = 0.5

# Seconds until the visibility of the credentials is checked again.
_CHECK_SECONDS = 300.0
_SOME_PROJECTS = (
    'Nova does not show the servers of every project to the configured '
    'credentials: a server that it does not show counts as unknown, not as '
    'deleted. Give their user the role admin'
)


class Visibility(enum.Enum):
    """Which servers the queries see."""

    CALLER = "the caller's"
    EVERY_PROJECT = "every project's"
    SOME_PROJECTS = "not every project's"
    UNCHECKED = 'not checked yet'


class Unknown(Exception):
    """Nova's response does not answer the query, or there is none.

    :param detail: for the operator's log: never for the caller, and without
        anything secret
    :param outage: whether Nova is out of order; False for what callers can
        cause as they please: many queries at once, an application credential
        for Cinder alone, a revoked token that Cinder has cached
    :param status: the HTTP status, if there was a response
    """

    #: the stable code of it
    code = 'nova-unknown'

    def __init__(
        self, detail: str, outage: bool = True, status: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.outage = outage
        self.status = status


class Down(Unknown):
    """The circuit breaker is open."""

    code = 'nova-down'


class Busy(Unknown):
    """Too many queries are under way."""

    code = 'nova-busy'


class Forbidden(Unknown):
    """Nova's policy does not permit the query to these credentials."""


def _region_of_cinder(conf: cfg.ConfigOpts) -> str | None:
    """Where Cinder itself queries Nova, if the catalog has several regions."""
    try:
        region: str | None = conf.nova.region_name
    except cfg.NoSuchOptError:
        return None
    return region


def _gateway_error(response: requests.Response) -> str:
    return f'HTTP {response.status_code} from {response.url}'


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
        #: how many queries may be in progress at a time
        self.max_concurrency: int = (
            group.nova_max_concurrency
            or wsgi_server.places(wsgi_server.detect())
        )
        #: the configured credentials, or None
        self.auth = opts.load_auth(conf)
        self._session = session.load(conf, self.auth, self.max_concurrency)
        self._service_type: str = group.service_type
        #: the chosen region
        self.region: str | None = group.region_name or _region_of_cinder(conf)
        #: the address that replaces the catalog's
        self.endpoint_override: str | None = group.endpoint_override
        self._clients = {
            version: client.Client(
                version,
                session=self._session,
                service_type=self._service_type,
                service_name=group.service_name,
                region_name=self.region,
                endpoint_type=group.valid_interfaces,
                endpoint_override=self.endpoint_override,
            ).client
            for version in (SERVER_VERSION, ATTACHMENT_ID_VERSION)
        }
        self._visibility = (
            Visibility.CALLER if self.as_caller else Visibility.UNCHECKED
        )
        self._check_at = float('-inf')
        self._places = places.Places(self.max_concurrency)
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
        return self.auth is None

    def queries(
        self,
        auth: plugin.BaseAuthPlugin | None,
        project_id: str | None = None,
    ) -> Queries:
        """The queries for one request.

        :param auth: ``keystone.token_auth`` of the request, not used if
            credentials are configured
        :param project_id: the caller's project, which has a share of the
            places for queries
        """
        if self._is_check_due():
            # The first time at the first guarded request: after a fork.
            with contextlib.suppress(RuntimeError):
                threads.start(self._check_in_background)
        return Queries(self, auth, project_id)

    @property
    def visibility(self) -> Visibility:
        """Which servers the queries see, as far as it is known."""
        return self._visibility

    def catalog_regions(
        self, auth: plugin.BaseAuthPlugin | None = None
    ) -> list[str]:
        """The regions of Nova in a catalog.

        :param auth: whose catalog, by default that of the credentials
        :raises Unknown: if the catalog is not known: of the callers' tokens,
            or because there is no token
        """
        auth = auth or self.auth
        if not isinstance(auth, identity.BaseIdentityPlugin):
            raise Unknown(
                "the catalog is the callers'; if it has Nova in several "
                'regions, set [nova] region_name'
            )
        try:
            access = auth.get_access(self._session)
        except (ksa_exceptions.ClientException, OSError) as exc:
            raise Unknown(f'{type(exc).__name__}: {exc}') from exc
        if not access.has_service_catalog():
            return []
        regions = {
            str(endpoint.get('region_id') or endpoint.get('region'))
            for service in access.service_catalog.normalize_catalog()
            if service['type'] == self._service_type
            for endpoint in service['endpoints']
        }
        return sorted(regions)

    def unchosen_regions(self) -> list[str]:
        """The regions of Nova in the catalog, if none is chosen.

        :returns: empty if one is chosen, or there is one only
        :raises Unknown: if the catalog is not known
        """
        if self.region or self.endpoint_override:
            return []
        regions = self.catalog_regions()
        return regions if len(regions) > 1 else []

    def start(
        self,
        auth: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        deadline: float,
        project_id: str | None,
    ) -> Query:
        """Start a query to Nova, in another thread.

        :param auth: whose token it carries
        :param version: the microversion
        :param path: of the resource
        :param deadline: until when to wait, by the monotonic clock
        :param project_id: the caller's project
        :returns: the query, whose result is to be read
        :raises Unknown: if it cannot be sent
        """
        if auth is None:
            raise Unknown(
                'the request carries no token to query Nova with, and no '
                'credentials are configured: set auth_type in [attachguard]',
                outage=False,
            )
        if time.monotonic() >= deadline:
            # Nova has responded to the queries before, for the same request.
            raise Unknown('no time is left (nova_timeout)', outage=False)
        if not self.breaker.permits():
            raise Down(
                f'Nova does not respond ({self.breaker.failure}); no query is '
                'sent now (nova_breaker_seconds)'
            )
        if not self._places.acquire(project_id):
            raise Busy(
                f'{self._places.limit} queries are under way, or '
                f'{self._places.share} of this project (nova_max_concurrency)',
                outage=False,
            )

        def get(**limits: float) -> tuple[requests.Response, Any]:
            client_ = self._clients[version]
            return _get(client_, path, auth, self.as_caller, **limits)

        def run() -> tuple[requests.Response, Any]:
            try:
                return get()
            finally:
                # Before the caller has the response: its next query must not
                # find this place taken.
                self._places.release(project_id)

        try:
            future = threads.submit(run)
        except RuntimeError as exc:
            self._places.release(project_id)
            raise Busy(f'no thread for a query: {exc}', outage=False) from None

        return Query(
            future,
            deadline,
            self.timeout,
            self.breaker,
            lambda: _probe(get),
        )

    def sees_every_project(self, queries: Queries) -> bool:
        """Whether the queries see the servers of every project.

        It is checked at the first request, and again from time to time.

        :param queries: to check with
        :raises Unknown: if Nova does not say
        """
        if self._visibility is Visibility.UNCHECKED:
            self.check_visibility(queries)
        return self._visibility is Visibility.EVERY_PROJECT

    def _is_check_due(self) -> bool:
        """Whether a check of the visibility is due; if so, put off the next.

        :returns: True once in each period
        """
        now = time.monotonic()
        if self.as_caller or now < self._check_at:
            return False
        self._check_at = now + _CHECK_SECONDS
        return True

    def _check_in_background(self) -> None:
        try:
            self.check_visibility()
        except Unknown as exc:
            # A request that depends on it checks again.
            self._visibility = Visibility.UNCHECKED
            LOG.info('Visibility of servers not checked: %s', exc.detail)

    def check_visibility(self, queries: Queries | None = None) -> None:
        """Check which servers the configured credentials see.

        :param queries: to check with, by default new ones
        :raises Unknown: if Nova does not say
        """
        queries = queries or Queries(self, None, None)
        sees = queries.lists_every_project()
        found = Visibility.EVERY_PROJECT if sees else Visibility.SOME_PROJECTS
        if found is self._visibility:
            return
        self._visibility = found
        if regions := self.unchosen_regions():
            LOG.warning(
                'Nova is in several regions, and none is chosen: set [nova] '
                'region_name: regions=%s',
                ','.join(regions),
            )
        if sees:
            LOG.info('Nova shows the servers of every project')
        else:
            LOG.warning(_SOME_PROJECTS)

    def check_query(self, auth: plugin.BaseAuthPlugin | None) -> None:
        """Check that Nova responds to a query about a server.

        :param auth: the caller, not used where the credentials see everything
        :raises Unknown: if it does not
        """
        Queries(self, auth, None).server(_NO_SERVER)

    def shown_to(self, auth: plugin.BaseAuthPlugin) -> tuple[int, bool]:
        """Find out which servers Nova shows to a caller.

        :param auth: the caller
        :returns: how many servers, at most :data:`PAGE`, and whether also
            those of other projects
        :raises Unknown: if Nova does not say
        """
        queries = Queries(self, auth, None)
        return queries.own_servers(), queries.lists_every_project(True)


def _get(
    client_: client.HTTPClient,
    path: str,
    auth: plugin.BaseAuthPlugin | None,
    as_caller: bool,
    **limits: float,
) -> tuple[requests.Response, Any]:
    """Query Nova, in this thread.

    :param client_: of the microversion
    :param path: of the resource
    :param auth: whose token it carries
    :param as_caller: whether that is the caller's own
    :param limits: a shorter ``timeout`` than the session's
    :raises Unknown: for every failure to get a response
    """
    try:
        response, body = client_.get(
            path, raise_exc=False, auth=auth, **limits
        )
    except ksa_exceptions.CatalogException as exc:
        # The catalog is in the caller's token, if there is one.
        raise Unknown(
            f'{type(exc).__name__}: {exc}', outage=not as_caller
        ) from exc
    except ksa_exceptions.HttpError as exc:
        # Keystone's, when it is asked for a token.
        status = exc.http_status
        raise Unknown(
            f'{type(exc).__name__}: {exc}',
            outage=status in _GATEWAY_ERRORS,
            status=status,
        ) from exc
    except (ksa_exceptions.ClientException, OSError) as exc:
        # A caller can make a server's response long, by its metadata.
        cause = getattr(exc, 'original', None)
        too_long = isinstance(cause, session.ResponseTooLong)
        raise Unknown(
            f'{type(exc).__name__}: {exc}', outage=not too_long
        ) from exc
    except Exception as exc:
        # A proxy may send anything: the text is not for a log.
        raise Unknown(f'{type(exc).__name__} while reading') from exc
    return response, body


def _probe(
    get: Callable[..., tuple[requests.Response, Any]],
) -> str | None:
    """Send a query again.

    :param get: sends it, with a ``timeout``
    :returns: None if Nova responds, whatever its response; else why not
    """
    try:
        response, _body = get(timeout=_PROBE_TIMEOUT)
    except Unknown as exc:
        return exc.detail if exc.outage else None
    if response.status_code in _GATEWAY_ERRORS:
        return _gateway_error(response)
    return None


class Query:
    """A query to Nova that is under way.

    :param future: of its response
    :param deadline: until when to wait, by the monotonic clock
    :param timeout: the time for all queries of one request, in seconds
    :param breaker: learns whether Nova responds
    :param probe: sends the query again; see :class:`.CircuitBreaker`
    """

    def __init__(
        self,
        future: _Response,
        deadline: float,
        timeout: float,
        breaker: circuit_breaker.CircuitBreaker,
        probe: Callable[[], str | None],
    ) -> None:
        self._future = future
        self._started = time.monotonic()
        self._deadline = deadline
        self._timeout = timeout
        self._breaker = breaker
        self._probe = probe

    def result(self, key: str, kind: type = dict) -> Any:
        """Wait for the response, and read it.

        :param key: under which the response has the resource
        :param kind: the type of the resource
        :returns: the resource, or None if Nova has none such
        :raises Unknown: if Nova does not say
        """
        try:
            response, body = threads.wait(
                self._future, self._deadline - time.monotonic()
            )
        except threads.Late:
            # This includes what no timeout of a socket bounds: the lookup of a
            # name, a wait for a lock, a token.
            detail = f'no response within {self._timeout:g} s (nova_timeout)'
            waited = time.monotonic() - self._started
            if waited < _SHARE_OF_EVIDENCE * self._timeout:
                # The request has spent its time before: on a volume of many
                # attachments or servers, for example.
                raise Unknown(detail, outage=False) from None
            self._breaker.failed(self._started, detail, self._probe)
            raise Unknown(detail) from None
        except Unknown as exc:
            if exc.outage:
                self._breaker.failed(self._started, exc.detail, self._probe)
            raise
        status = response.status_code
        if status in _GATEWAY_ERRORS:
            detail = _gateway_error(response)
            self._breaker.failed(self._started, detail, self._probe)
            raise Unknown(detail, status=status)
        # Any other response shows that Nova, or what is in front of it, is
        # there. A caller can bring each of them about.
        self._breaker.succeeded()
        if status == 404 and isinstance(body, dict) and 'itemNotFound' in body:
            return None
        if status != 200:
            # Also a 404 that is not Nova's: a proxy's, a wrong endpoint's.
            forbids = (
                status == 403
                and isinstance(body, dict)
                and 'forbidden' in body
            )
            raise (Forbidden if forbids else Unknown)(
                f'HTTP {status} from {response.url}',
                outage=False,
                status=status,
            )
        row = body.get(key) if isinstance(body, dict) else None
        if not isinstance(row, kind):
            raise Unknown(
                f'HTTP 200 without "{key}" from {response.url}', outage=False
            )
        return row


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, as Nova shows it.

    :param id: its canonical UUID
    :param is_busy: whether Nova builds it, or performs a task on it
    :param volume_ids: the volumes that Nova has on it
    """

    id: str
    is_busy: bool
    volume_ids: frozenset[str]


class Queries:
    """The queries of one request, which share ``nova_timeout``.

    :param nova: the client
    :param auth: ``keystone.token_auth`` of the request
    :param project_id: the caller's project
    """

    def __init__(
        self,
        nova: Nova,
        auth: plugin.BaseAuthPlugin | None,
        project_id: str | None,
    ) -> None:
        self._nova = nova
        self._auth = auth
        self._project_id = project_id
        #: when the time of the request ends, by the monotonic clock
        self.deadline = time.monotonic() + nova.timeout
        self._pending: dict[str, Query] = {}
        #: how many queries were made
        self.count = 0
        #: their duration
        self.seconds = 0.0

    def start(self, server_id: str) -> None:
        """Start the query for a server, so that :meth:`server` waits less.

        :param server_id: a canonical UUID
        :raises Unknown: if it cannot be sent
        """
        self._pending[server_id] = self._start(f'/servers/{server_id}')

    def server(self, server_id: str) -> Server | None:
        """Look a server up.

        :param server_id: a canonical UUID
        :returns: None for a server that does not exist, or that these
            credentials may not see: Nova's response is the same
        :raises Unknown: if Nova does not say
        """
        path = f'/servers/{server_id}'
        started = self._pending.pop(server_id, None)
        row = self._read(path, 'server', SERVER_VERSION, started)
        if row is None:
            return None
        try:
            if row['id'] != server_id:
                raise Unknown(
                    'the response is not about this server', outage=False
                )
            return Server(
                server_id,
                row[_TASK_STATE] is not None or row[_VM_STATE] == 'building',
                frozenset(volume['id'] for volume in row[_VOLUMES]),
            )
        except (KeyError, TypeError) as exc:
            raise Unknown(
                'a server without id, state or volumes', outage=False
            ) from exc

    def attachment_id(self, server_id: str, volume_id: str) -> str | None:
        """The id of Cinder's attachment by which a server has a volume.

        :param server_id: a canonical UUID
        :param volume_id: a canonical UUID
        :returns: None if Nova has no such attachment, or no id for it: it is
            not saved yet, or the attachment is from before the Queens release
        :raises Unknown: if Nova does not say
        """
        path = f'/servers/{server_id}/os-volume_attachments/{volume_id}'
        row = self._read(path, 'volumeAttachment', ATTACHMENT_ID_VERSION)
        if row is None:
            return None
        if (row.get('serverId'), row.get('volumeId')) != (
            server_id,
            volume_id,
        ):
            raise Unknown(
                'the response is not about this attachment', outage=False
            )
        attachment_id: str | None = row.get('attachment_id')
        return attachment_id

    def sees_every_project(self) -> bool:
        """Whether these queries see the servers of every project.

        Only then does a response 404 mean that a server does not exist.

        :raises Unknown: if Nova does not say
        """
        return self._nova.sees_every_project(self)

    def own_servers(self) -> int:
        """How many servers Nova lists for the caller, at most :data:`PAGE`.

        :raises Unknown: if Nova does not say
        """
        query = self._start(f'/servers?limit={PAGE}', as_caller=True)
        return len(self._finish(query, 'servers', list) or ())

    def lists_every_project(self, as_caller: bool = False) -> bool:
        """Whether Nova lists the servers of every project.

        :param as_caller: whether to query as the caller, although there are
            credentials
        :raises Unknown: if Nova does not say
        """
        query = self._start(
            '/servers?all_tenants=1&limit=1', as_caller=as_caller
        )
        try:
            return self._finish(query, 'servers', list) is not None
        except Forbidden:
            return False

    def _read(
        self, path: str, key: str, version: str, started: Query | None = None
    ) -> Any:
        """Read a resource, as the caller where the credentials see too little.

        :param started: the query, if it is sent already
        :returns: None if Nova shows it to neither
        """
        row = self._finish(started or self._start(path, version), key)
        if row is not None or self._nova.as_caller or self._auth is None:
            return row
        if self.sees_every_project():
            return None
        return self._finish(self._start(path, version, as_caller=True), key)

    def _start(
        self, path: str, version: str = SERVER_VERSION, as_caller: bool = False
    ) -> Query:
        self.count += 1
        return self._nova.start(
            self._auth if as_caller else self._nova.auth or self._auth,
            version,
            path,
            self.deadline,
            self._project_id,
        )

    def _finish(self, query: Query, key: str, kind: type = dict) -> Any:
        started = time.monotonic()
        try:
            return query.result(key, kind)
        finally:
            self.seconds += time.monotonic() - started
