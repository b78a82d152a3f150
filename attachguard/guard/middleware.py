# SPDX-License-Identifier: Apache-2.0
"""The guard: a filter that forwards a request to Cinder, or responds to it.

Put it into Cinder's paste pipeline right after ``keystonecontext`` and right
before ``apiv3``: it relies on auth_token for who calls, and queries the
application behind it.  In front of auth_token it would have to believe the
client, so there it refuses every guarded request.

A request takes one way: it is parsed (:mod:`~attachguard.guard.request`), the
facts about it are looked up (:mod:`~attachguard.guard.facts`), the rules
decide (:mod:`~attachguard.guard.decision`), and it is forwarded or answered
with a fault (:mod:`~attachguard.guard.faults`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import re
import time
from typing import Any
from typing import TYPE_CHECKING

from oslo_config import cfg
from oslo_log import log as logging
from oslo_middleware import base
import webob.exc

from attachguard import opts
from attachguard import wsgi_server
from attachguard.guard import cinder
from attachguard.guard import decision as decision_
from attachguard.guard import decision_log
from attachguard.guard import facts as facts_
from attachguard.guard import faults
from attachguard.guard import healthcheck
from attachguard.guard import identity
from attachguard.guard import policy
from attachguard.guard import request as request_parser
from attachguard.guard import rollout
from attachguard.guard import route_check
from attachguard.guard.decision import Reason
from attachguard.guard.decision import Verdict
from attachguard.guard.rollout import Mode
from attachguard.nova import client as nova_client

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

LOG = logging.getLogger(__name__)

_NOT_AUTHENTICATED = decision_.Decision(
    Verdict.REFUSED,
    Reason.NOT_AUTHENTICATED,
    detail='keystone.token_auth is not in the environ: put attachguard after '
    'authtoken in the pipeline (or, on a test cloud without Keystone, set '
    'auth_strategy = noauth)',
)


class AttachGuard(base.ConfigurableMiddleware):
    """Refuses requests that make Cinder's attachments differ from Nova's.

    :param application: the rest of the pipeline: Cinder's API
    :param conf: the options of the filter's section of the paste file, or the
        service's configuration
    :raises attachguard.opts.ConfigError: for an invalid option, rule or
        credential
    """

    @classmethod
    def factory(
        cls, global_conf: dict[str, Any] | None, **local_conf: Any
    ) -> Callable[[WSGIApplication], AttachGuard]:
        """The paste.deploy factory.

        Unlike the base class it does not mix in the paste file's
        ``[DEFAULT]`` section, so that an unknown option can be an error.
        """

        def _factory(application: WSGIApplication) -> AttachGuard:
            return cls(application, local_conf)

        return _factory

    def __init__(
        self,
        application: WSGIApplication,
        conf: dict[str, Any] | cfg.ConfigOpts | None = None,
    ) -> None:
        super().__init__(application, conf)
        self.application: WSGIApplication = application
        with opts.configured(self.oslo_conf, self.conf) as group:
            self._rollout = rollout.Rollout(self.oslo_conf)
            self._allow_in_outage: bool = group.on_nova_error == 'allow'
            self._auth_strategy: str = group.auth_strategy
            self._retry_after: int = group.retry_after
            self._max_body_size: int = group.max_body_size
            self._settle: float = group.settle
            self.policy = policy.Policy(self.oslo_conf)
            self._log = decision_log.DecisionLog(self.oslo_conf)
            nova = nova_client.Nova(self.oslo_conf, self._log.breaker_changed)
            nova_auth = opts.auth_section(self.oslo_conf) or 'caller'
        self._page_size = _page_size(self.oslo_conf)
        enforce = self._rollout.default is Mode.ENFORCE
        healthcheck.watch(nova, enforce)
        self.nova: facts_.Nova = nova
        route_check.check(application)
        LOG.info(
            'attachguard loaded: enforce=%s nova_auth=%s modes="%s"',
            str(enforce).lower(),
            nova_auth,
            self._rollout,
        )
        server = wsgi_server.detect()
        if server is not None and not server.runs_threads:
            LOG.warning(
                'The server runs no threads between requests: after an outage '
                'of Nova, requests get 503 for longer. Set enable-threads = '
                'true: server=%s',
                server.name,
            )
        if nova_auth == 'caller':
            LOG.warning(
                'Nova is queried as the caller: a server that it does not '
                'show counts as unknown, not as deleted. Set [nova] '
                'auth_type, or [attachguard] auth_type'
            )

    # The base class wants a WebOb request of everything that passes.
    def __call__(  # type: ignore[override]
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Forward the request, or respond to it.

        Nearly every request is no attachment operation: it costs the first
        lines.
        """
        if environ['REQUEST_METHOD'] != 'GET' or (
            '_method' in environ.get('QUERY_STRING', '')
        ):
            try:
                path = environ['PATH_INFO']
            except KeyError:
                path = ''
            if (
                '/attachments' in path
                or '/action' in path
                or '-transfer' in path
                or 'groups/' in path
            ):
                match = request_parser.match_path(environ)
                if match is not None:
                    respond = self._guard(environ, match)
                    return respond(environ, start_response)
        return self.application(environ, start_response)

    def _guard(
        self, environ: WSGIEnvironment, path: re.Match[str]
    ) -> WSGIApplication:
        """What responds to a request that may be an attachment operation."""
        started = time.monotonic()
        try:
            body = request_parser.read_body(environ, self._max_body_size)
            request = request_parser.parse(environ, path, body)
        except request_parser.Unreadable as exc:
            return self._malformed(
                environ, Reason.MALFORMED, str(exc), started
            )
        except request_parser.BodyTooLarge:
            detail = f'The body is longer than {self._max_body_size} bytes.'
            return self._malformed(
                environ, Reason.BODY_TOO_LARGE, detail, started
            )
        except OSError as exc:
            detail = f'The body ends before its announced end: {exc}'
            return self._malformed(
                environ, Reason.BODY_CUT_OFF, detail, started
            )
        except webob.exc.HTTPException as exc:
            # The limit of a reader that sizelimit put around the body.
            return exc
        if request is None:
            return self.application
        return self._decide(environ, request, started)

    def _decide(
        self,
        environ: WSGIEnvironment,
        request: request_parser.Request,
        started: float,
    ) -> WSGIApplication:
        mode = self._rollout.mode(request.rule, environ)
        if mode is Mode.OFF:
            return self.application
        try:
            caller = identity.identify(environ, self._auth_strategy)
        except identity.NotAuthenticated:
            return self._conclude(
                environ, _NOT_AUTHENTICATED, mode, started, request
            )
        queries = self.nova.queries(
            caller.auth, caller.credentials['project_id']
        )
        reader = cinder.Cinder(
            self.application,
            environ,
            request.root,
            queries.deadline,
            self._page_size,
        )
        facts = facts_.Facts(request, caller, reader, queries, self._settle)
        decision = decision_.decide(self.policy, caller, facts)
        return self._conclude(
            environ,
            decision,
            mode,
            started,
            request,
            caller,
            facts.known,
            queries,
        )

    def _malformed(
        self,
        environ: WSGIEnvironment,
        reason: Reason,
        detail: str,
        started: float,
    ) -> WSGIApplication:
        decision = decision_.Decision(Verdict.MALFORMED, reason, detail=detail)
        return self._conclude(
            environ, decision, self._rollout.default, started
        )

    def _conclude(
        self,
        environ: WSGIEnvironment,
        decision: decision_.Decision,
        mode: Mode,
        started: float,
        request: request_parser.Request | None = None,
        caller: identity.Caller = identity.NOBODY,
        known: facts_.Known = facts_.NOTHING,
        queries: facts_.NovaQueries | None = None,
    ) -> WSGIApplication:
        """Log a decision, and choose what responds to the request."""
        enforced = self._is_enforced(decision, mode)
        self._log.record(
            decision_log.event(
                environ,
                decision,
                mode,
                enforced,
                request,
                caller,
                known,
                queries,
                1000 * (time.monotonic() - started),
            )
        )
        if decision.verdict is Verdict.ALLOWED:
            return self.application
        if not enforced:
            if mode is Mode.WARN:
                return faults.with_warning(self.application, decision)
            return self.application
        clears = request is not None and request.operation.clears
        return faults.response_to(
            decision, clears, known.headers, self._retry_after
        )

    def _is_enforced(self, decision: decision_.Decision, mode: Mode) -> bool:
        if decision.reason in (Reason.BODY_TOO_LARGE, Reason.BODY_CUT_OFF):
            # A body that is not read to its end cannot be forwarded.
            return True
        return mode is Mode.ENFORCE and not (
            decision.outage and self._allow_in_outage
        )


def _page_size(conf: cfg.ConfigOpts) -> int:
    """The rows of a page, of which Cinder returns no more than its limit."""
    try:
        return min(cinder.PAGE_SIZE, int(conf.osapi_max_limit))
    except cfg.NoSuchOptError:
        return cinder.PAGE_SIZE
