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
share it.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import time
from typing import Any, TYPE_CHECKING

import futurist
from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import plugin
from keystoneauth1 import session as ksa_session
from novaclient import client
from oslo_config import cfg
from oslo_log import log as logging

from attachguard import opts

if TYPE_CHECKING:
    import requests

LOG = logging.getLogger(__name__)

HAS_IT = '2.1'
WHICH_ATTACHMENT = '2.89'

# One row of Nova's answer is a few hundred bytes; a token with the catalog of
# a cloud of many regions is some hundred kilobytes.
_MAX_ANSWER = 8 * 1024 * 1024


class Unknown(Exception):
    """Nova did not say.

    :param why: for the operator's log: never for the caller, and without
        anything secret
    :param outage: whether the trouble is Nova's; not where it refuses the
        caller's own token, which callers can bring about as they please: by
        an application credential for Cinder alone, or by revoking a token
        that Cinder has cached
    """

    def __init__(self, why: str, outage: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.outage = outage


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
        return _current().get_endpoint(session, **kwargs)

    def get_connection_params(
        self, session: ksa_session.Session, **kwargs: Any
    ) -> Any:
        return _current().get_connection_params(session, **kwargs)

    def invalidate(self) -> bool:
        # A token that came from outside cannot be had anew.
        return False


class _Adapter(ksa_session.TCPKeepAliveAdapter):
    """Reads an answer up to a size and a moment, whatever the server sends."""

    def __init__(self, *args: Any, deadline: float, **kwargs: Any) -> None:
        self._deadline = deadline
        super().__init__(*args, **kwargs)

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        give_up = time.monotonic() + self._deadline
        kwargs['stream'] = True
        response = super().send(request, *args, **kwargs)
        body = bytearray()
        for chunk in response.iter_content(16 * 1024):
            body += chunk
            if len(body) > _MAX_ANSWER or time.monotonic() > give_up:
                response.close()
                raise Unknown('the answer is too long, or too slow')
        # requests offers no other way to say that the content is read.
        response._content = bytes(body)
        return response


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
    :raises attachguard.opts.ConfigError: when the credentials cannot be loaded
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
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
        # It makes its threads when first needed: after a server's fork.
        self._executor = futurist.ThreadPoolExecutor(max_workers=self._limit)
        self._free = threading.Semaphore(self._limit)

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
        path = f'/servers/{server_id}'
        row = self._ask(caller, HAS_IT, path, 'server', within)
        if row is None:
            return True
        if row.get('id') != server_id or 'OS-EXT-STS:task_state' not in row:
            raise Unknown('another server, or one without a task state')
        return row['OS-EXT-STS:task_state'] is None

    def sees_every_project(self) -> bool:
        """Whether the configured credentials see other projects' servers.

        Where they do not, Nova answers 404 for them, and everything in those
        projects looks as if it were not attached.

        :returns: False where Nova refuses to list or show them
        :raises Unknown: when Nova does not say, or there is no server in
            another project to look at
        """
        mine = self._session.get_project_id()
        path = '/servers/detail?all_tenants=1&limit=100'
        marker = ''
        for _page in range(10):
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
        path = f'/servers/{server_id}/os-volume_attachments/{volume_id}'
        row = self._ask(caller, version, path, 'volumeAttachment', within)
        if row is not None and (
            row.get('serverId') != server_id
            or row.get('volumeId') != volume_id
        ):
            raise Unknown('an answer to another question')
        return row

    def _ask(
        self,
        caller: plugin.BaseAuthPlugin | None,
        version: str,
        path: str,
        key: str,
        within: float | None,
    ) -> dict[str, Any] | None:
        wait = self.timeout if within is None else within
        if self._auth is None and caller is None:
            raise Unknown(
                'the request carries no token to ask Nova with, and no '
                'credentials are configured: set auth_type in [attachguard]'
            )
        if wait <= 0:
            raise Unknown('no time is left (nova_timeout)')
        if not self._free.acquire(blocking=False):
            raise Unknown(
                f'{self._limit} questions are under way (nova_max_concurrency)'
            )
        try:
            question = self._executor.submit(
                self._get, caller, version, path, key
            )
        except BaseException:
            self._free.release()
            raise
        # Not when the wait is over: a thread that still hangs is not free.
        question.add_done_callback(lambda _: self._free.release())
        try:
            # Everything is in this wait: names, locks, tokens, dripping
            # answers, for which the timeouts of a socket are no bound.
            return question.result(timeout=wait)
        except concurrent.futures.TimeoutError:
            raise Unknown(
                f'no answer within {self.timeout:g} s (nova_timeout)'
            ) from None
        except Unknown:
            raise
        except (ksa_exceptions.ClientException, OSError) as exc:
            raise Unknown(f'{type(exc).__name__}: {exc}') from exc
        except Exception as exc:
            # Who knows what a proxy sends in Nova's name: no answer is no
            # answer, and the text of a surprise is not for a log.
            raise Unknown(f'{type(exc).__name__} while reading') from exc

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
            raise Unknown(
                f'HTTP {status} from {response.url}',
                outage=not (self.as_caller and status in (401, 403)),
            )
        return dict(body[key])

    def _load_session(self, conf: cfg.ConfigOpts) -> ksa_session.Session:
        session = loading.load_session_from_conf_options(
            conf,
            opts.GROUP,
            auth=self._auth or _AsCaller(),
            collect_timing=False,
            # Nova redirects nowhere, and a token must not follow.
            redirect=False,
        )
        # What the environment says of proxies and .netrc is not meant for
        # Nova, and costs a quarter of the request to look up.
        session.session.trust_env = False
        tls = {
            name: getattr(session, name)
            for name in ('tls_ciphers', 'tls_min_version')
            if hasattr(session, name)
        }
        for scheme in ('http://', 'https://'):
            session.session.mount(
                scheme,
                _Adapter(
                    deadline=self.timeout, pool_maxsize=self._limit, **tls
                ),
            )
        return session
