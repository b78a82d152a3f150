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

"""What Nova knows: does this server have this volume?

The only module that talks to Nova, through python-novaclient.  Each question
is one ``GET /servers/{server}/os-volume_attachments/{volume}``, whatever goes
wrong is :class:`Unknown`, and nobody waits longer than the deadline.

"Has it?" is asked at microversion 2.1: from 2.89 on, Nova also answers 404
while the attachment's id is not saved yet, and always for servers attached
before the Queens release.  2.89 serves to compare attachment ids.

A question is asked within a span of time, so that several for one request can
share it.  Where Nova answers nothing, it is left alone for a while: see
:mod:`attachguard.nova.circuit_breaker`.
"""

from __future__ import annotations

from collections.abc import Callable
import contextvars
import functools
import time
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import identity
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session as ksa_session
from novaclient import client
import os_service_types
from oslo_config import cfg
from oslo_log import log as logging

from attachguard import opts
from attachguard.guard import healthcheck
from attachguard.nova import circuit_breaker
from attachguard.nova import questions
from attachguard.nova import transport

LOG = logging.getLogger(__name__)

HAS_IT = '2.1'
WHICH_ATTACHMENT = '2.89'

# One row of Nova's answer is a few hundred bytes, a server with all the
# metadata that there may be some ten thousand; a token with the catalog of a
# cloud of many regions is some hundred kilobytes. What is read is also parsed,
# and becomes twenty times as much where somebody means it to.
_MAX_ANSWER = 1024 * 1024

_SERVICE_TYPES = os_service_types.ServiceTypes()

# What says which endpoint of a catalog it is.
_WHERE = ('service_type', 'service_name', 'interface', 'region_name')

_TASK_STATE = 'OS-EXT-STS:task_state'


# Nova's own, too, for a server in a cell that is down: others can be asked
# about, and a caller who has such a server must not keep them from it.
_FAILED = 500


class Unknown(Exception):
    """Nova did not say.

    :param why: for the operator's log: never for the caller, and without
        anything secret
    :param outage: whether the trouble is Nova's; not where callers can bring
        it about as they please: by asking much at once, by an application
        credential for Cinder alone, or by revoking a token that Cinder has
        cached
    :param answered: whether Nova is there all the same
    :param reason: the stable code of it
    """

    def __init__(
        self,
        why: str,
        outage: bool = True,
        answered: bool = False,
        reason: str = 'nova-unknown',
    ) -> None:
        super().__init__(why)
        self.why = why
        self.outage = outage
        self.answered = answered
        self.reason = reason


_caller: contextvars.ContextVar[plugin.BaseAuthPlugin | None] = (
    contextvars.ContextVar('attachguard_caller', default=None)
)


def _current() -> plugin.BaseAuthPlugin:
    caller = _caller.get()
    assert caller is not None
    return caller


class _AsCaller(plugin.BaseAuthPlugin):
    """The plugin of whoever asks now, behind one session for all callers.

    A session, with its pool and its discovery, is dear; the caller's plugin
    (``keystone.token_auth``) lives as long as one request.
    """

    def get_headers(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> dict[str, str] | None:
        return _current().get_headers(session, **kwargs)

    def get_endpoint(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> str | None:
        caller = _current()
        catalog = getattr(
            getattr(caller, 'user', None), 'service_catalog', None
        )
        if catalog is None:
            return caller.get_endpoint(session, **kwargs)
        # keystoneauth copies what it searches: with a cloud's whole catalog
        # that takes several times as long as the question.
        types = _SERVICE_TYPES.get_all_types(kwargs['service_type'])
        services = [item for item in catalog.catalog if item['type'] in types]
        found = type(catalog)(services).endpoint_data_for(
            **{name: kwargs.get(name) for name in _WHERE}
        )
        return None if found is None else str(found.url)

    def get_connection_params(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> Any:
        return _current().get_connection_params(session, **kwargs)

    def invalidate(self) -> bool:
        # A token that came from outside cannot be had anew.
        return False


class _Lasting(plugin.BaseAuthPlugin):
    """A plugin that is asked once for each token.

    keystoneauth reads the token's expiry and searches a copy of its catalog
    for each request, which takes longer than sending it.

    :param auth: the plugin
    """

    def __init__(self, auth: plugin.BaseAuthPlugin) -> None:
        super().__init__()
        self._auth = auth
        self._until = 0.0
        self._headers: dict[str, str] | None = None
        self._endpoints: dict[str, str | None] = {}

    def get_headers(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> dict[str, str] | None:
        headers = self._headers
        if headers is None or time.time() >= self._until:
            headers = self._auth.get_headers(session, **kwargs)
            if isinstance(self._auth, identity.BaseIdentityPlugin):
                expires = self._auth.get_access(session).expires
                assert expires is not None
                self._until = (
                    expires.timestamp() - self._auth.MIN_TOKEN_LIFE_SECONDS
                )
                self._headers = headers
                self._endpoints = {}
        return headers

    def get_endpoint(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> str | None:
        which = repr(kwargs)
        endpoints = self._endpoints
        if which not in endpoints:
            endpoints[which] = self._auth.get_endpoint(session, **kwargs)
        return endpoints[which]

    def get_connection_params(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> Any:
        return self._auth.get_connection_params(session, **kwargs)

    def get_project_id(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> str | None:
        return self._auth.get_project_id(session, **kwargs)

    def invalidate(self) -> bool:
        self._headers = None
        return self._auth.invalidate()


def _cinders_region(conf: cfg.ConfigOpts) -> str | None:
    """Where Cinder itself asks Nova, for a catalog with several regions."""
    try:
        region: str | None = conf.nova.region_name
    except cfg.NoSuchOptError:
        return None
    return region


class Nova:
    """Asks Nova, as the caller or with the configured credentials.

    :param conf: where the ``[attachguard]`` options are registered
    :param tell: called with True when Nova is left alone, and with False when
        it answers again
    :raises attachguard.opts.ConfigError: when the credentials cannot be loaded
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        tell: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        group = conf[opts.GROUP]
        #: seconds for the questions of one request
        self.timeout: float = group.nova_timeout
        self._limit: int = group.nova_max_concurrency
        self._auth = opts.load_auth(conf)
        self._session = self._load_session(conf)
        self._clients = {
            version: client.Client(
                version,
                session=self._session,
                service_type=group.service_type,
                service_name=group.service_name,
                region_name=group.region_name or _cinders_region(conf),
                endpoint_type=group.valid_interfaces,
                endpoint_override=group.endpoint_override,
            ).client
            for version in (HAS_IT, WHICH_ATTACHMENT)
        }
        self._questions: questions.Questions[dict[str, Any] | None] = (
            questions.Questions(self._limit)
        )
        self.breaker = circuit_breaker.Breaker(
            'Nova',
            group.nova_breaker_failures,
            group.nova_breaker_seconds,
            self.timeout,
            tell,
        )
        healthcheck.watch(self.breaker)

    @property
    def as_caller(self) -> bool:
        """Whether questions carry the caller's own token."""
        return self._auth is None

    def attached(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        volume_id: str,
        within: float | None = None,
    ) -> bool:
        """Whether a server has a volume.

        :param caller: ``keystone.token_auth`` of the request, not used where
            credentials are configured
        :param server_id: a canonical UUID
        :param volume_id: a canonical UUID
        :param within: seconds to wait at most; by default ``nova_timeout``
        :returns: False also for a server that does not exist, or that who asks
            may not see: Nova tells no difference
        :raises Unknown: when Nova does not say
        """
        row = self._attachment(caller, HAS_IT, server_id, volume_id, within)
        return row is not None

    def attachment_id(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        volume_id: str,
        within: float | None = None,
    ) -> str | None:
        """The id of Cinder's attachment by which a server has a volume.

        :param caller: as for :meth:`attached`
        :param server_id: a canonical UUID
        :param volume_id: a canonical UUID
        :param within: as for :meth:`attached`
        :returns: None where Nova has no such attachment, or no id for it
        :raises Unknown: when Nova does not say
        """
        row = self._attachment(
            caller, WHICH_ATTACHMENT, server_id, volume_id, within
        )
        return None if row is None else row.get('attachment_id')

    def at_rest(
        self,
        caller: plugin.BaseAuthPlugin | None,
        server_id: str,
        within: float | None = None,
    ) -> bool:
        """Whether Nova is doing nothing with a server.

        While one is migrated, Nova writes down the attachment on the host that
        it goes to, and it still runs by the one on the host that it is on.

        :param caller: as for :meth:`attached`
        :param server_id: a canonical UUID
        :param within: as for :meth:`attached`
        :returns: True also for a server that does not exist any more
        :raises Unknown: when Nova does not say
        """
        row = self._ask(
            caller,
            HAS_IT,
            f'/servers/{server_id}',
            'server',
            lambda row: row['id'] == server_id and _TASK_STATE in row,
            within,
        )
        return row is None or row[_TASK_STATE] is None

    def sees_every_project(self) -> bool:
        """Whether the configured credentials see other projects' servers.

        Where they do not, Nova answers 404 for them, and everything in those
        projects looks as if it were not attached.

        :returns: False where Nova refuses to list or show them
        :raises Unknown: when Nova does not say, or there is no server in
            another project to look at
        """
        mine = self._session.get_project_id()
        path = '/servers/detail?all_tenants=1&limit=20'
        marker = ''
        for _page in range(50):
            listed, body = self._clients[HAS_IT].get(
                path + marker, raise_exc=False
            )
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
                if project_id != mine:
                    shown, _body = self._clients[HAS_IT].get(
                        f'/servers/{server_id}', raise_exc=False
                    )
                    return bool(shown.status_code == 200)
            if not servers:
                break
            marker = f'&marker={servers[-1][0]}'
        raise Unknown('there is no server in another project to look at')

    def _attachment(
        self,
        caller: plugin.BaseAuthPlugin | None,
        version: str,
        server_id: str,
        volume_id: str,
        within: float | None,
    ) -> dict[str, Any] | None:
        return self._ask(
            caller,
            version,
            f'/servers/{server_id}/os-volume_attachments/{volume_id}',
            'volumeAttachment',
            lambda row: (
                (row['serverId'], row['volumeId']) == (server_id, volume_id)
            ),
            within,
        )

    def _ask(
        self,
        caller: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
        is_it: Callable[[dict[str, Any]], bool],
        within: float | None,
    ) -> dict[str, Any] | None:
        wait = self.timeout if within is None else within
        if self._auth is None and caller is None:
            raise Unknown(
                'the request carries no token to ask Nova with, and no '
                'credentials are configured: set auth_type in [attachguard]'
            )
        if wait <= 0:
            # Nova has answered what was asked before, for the same request.
            raise Unknown('no time is left (nova_timeout)', outage=False)
        if not self.breaker.permits():
            raise Unknown(
                f'Nova does not answer ({self.breaker.why}), and is not asked '
                'now (nova_breaker_seconds)',
                reason='nova-down',
            )
        asked = time.monotonic()
        try:
            return self._questions.ask(
                (self._identity(caller), version, path),
                functools.partial(
                    self._answer, caller, version, path, key, is_it
                ),
                wait,
            )
        except questions.Busy:
            raise Unknown(
                f'{self._limit} requests wait for Nova (nova_max_concurrency)',
                outage=False,
                reason='nova-busy',
            ) from None
        except questions.TimedOut:
            # Everything is in this wait: names, locks, tokens, dripping
            # answers, for which the timeouts of a socket are no bound.
            why = f'no answer within {self.timeout:g} s (nova_timeout)'
            self.breaker.failed(asked, why)
            raise Unknown(why) from None
        except transport.Ended:
            raise Unknown('nobody waits for the answer') from None

    def _identity(self, caller: plugin.BaseAuthPlugin | None) -> object:
        """Whoever Nova takes the caller for: by nothing less than a token."""
        if self._auth is not None:
            return None
        token = getattr(getattr(caller, 'user', None), 'auth_token', None)
        return token or object()

    def _answer(
        self,
        caller: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
        is_it: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any] | None:
        asked = time.monotonic()
        try:
            row = self._get(caller, version, path, key)
            if row is not None and not is_it(row):
                raise Unknown('an answer to another question')
        except transport.Ended:
            raise
        except Exception as exc:
            unknown = self._unknown(exc)
            if unknown.answered:
                self.breaker.answered()
            elif unknown.outage and not transport.is_over():
                self.breaker.failed(asked, unknown.why)
            if unknown is exc:
                raise
            raise unknown from exc
        self.breaker.answered()
        return row

    def _unknown(self, exc: Exception) -> Unknown:
        if isinstance(exc, Unknown):
            return exc
        if isinstance(exc, transport.TooLong):
            return Unknown(f'too long an answer: {exc}')
        if isinstance(exc, ksa_exceptions.CatalogException):
            # The catalog is in the caller's token, if there is one.
            return Unknown(
                f'{type(exc).__name__}: {exc}', outage=not self.as_caller
            )
        if isinstance(exc, ksa_exceptions.ClientException | OSError):
            return Unknown(f'{type(exc).__name__}: {exc}')
        # Who knows what a proxy sends in Nova's name: no answer is no answer,
        # and the text of a surprise is not for a log.
        return Unknown(f'{type(exc).__name__} while reading')

    def _get(
        self,
        caller: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
    ) -> dict[str, Any] | None:
        _caller.set(caller)
        try:
            response, body = self._clients[version].get(path, raise_exc=False)
        finally:
            # The thread lives longer than the request and its token.
            _caller.set(None)
        status = response.status_code
        if status == 404 and isinstance(body, dict) and 'itemNotFound' in body:
            return None
        if status != 200:
            # Also a 404 that is not Nova's: a proxy's, a wrong endpoint's.
            callers = self.as_caller and status in (401, 403)
            raise Unknown(
                f'HTTP {status} from {response.url}',
                outage=not callers,
                answered=callers or status == _FAILED,
            )
        if not isinstance(body, dict) or not isinstance(body.get(key), dict):
            raise Unknown(f'HTTP 200 without "{key}" from {response.url}')
        row: dict[str, Any] = body[key]
        return row

    def _load_session(self, conf: cfg.ConfigOpts) -> ksa_session.Session:
        session = loading.load_session_from_conf_options(
            conf,
            opts.GROUP,
            auth=_AsCaller() if self._auth is None else _Lasting(self._auth),
            collect_timing=False,
            # Nova redirects nowhere, and a token must not follow.
            redirect=False,
        )
        # It is told no other way which versions and ciphers of TLS to use.
        tls = {
            name: getattr(session, name)
            for name in ('tls_ciphers', 'tls_min_version')
            if hasattr(session, name)
        }
        session.session = transport.Session(self._limit, _MAX_ANSWER, **tls)
        return session
