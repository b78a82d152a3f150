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

"""The guard: a filter that keeps Cinder's attachments to what Nova made.

Put it into Cinder's paste pipeline right after ``keystonecontext`` and right
before ``apiv3``: it believes auth_token about who calls, and asks the
application behind it what it guards.  In front of auth_token it would have to
believe the client, so there it refuses every guarded request.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import http
from typing import Any
from typing import TYPE_CHECKING

from oslo_config import cfg
from oslo_log import log as logging
from oslo_middleware import base
import webob
import webob.exc

from attachguard import opts
from attachguard.guard import cinder as cinders
from attachguard.guard import decision_log
from attachguard.guard import facts as targets
from attachguard.guard import faults
from attachguard.guard import identity as callers
from attachguard.guard import policy
from attachguard.guard import request as guard_request
from attachguard.guard import route_check
from attachguard.nova import client as novas

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

LOG = logging.getLogger(__name__)

_ALLOWED = decision_log.Verdict.ALLOWED
_REFUSED = decision_log.Verdict.REFUSED
_UNKNOWN = decision_log.Verdict.UNKNOWN
_MALFORMED = decision_log.Verdict.MALFORMED
_MISSING = decision_log.Verdict.MISSING

_ADVICE = (
    'Attachments are made and removed by the Compute API: use "openstack '
    'server add volume <server> <volume>" and "openstack server remove '
    'volume <server> <volume>", or POST /servers/{server_id}/'
    'os-volume_attachments and DELETE /servers/{server_id}/'
    'os-volume_attachments/{volume_id}.'
)

# By the stable code of a refusal.
_MESSAGES = {
    'server-lacks-volume': 'The server does not have this volume. ' + _ADVICE,
    'server-has-volume': 'A server still has this volume. ' + _ADVICE,
    'already-attached': 'Cinder has this attachment already. ' + _ADVICE,
    'other-attachment': 'The server has this volume by another attachment. '
    + _ADVICE,
    'too-many-servers': 'The volume is attached to more servers than can be '
    'asked about. ' + _ADVICE,
    'no-server': 'A volume is not attached to a host directly. ' + _ADVICE,
    'policy': 'The policy of this cloud does not allow it. ' + _ADVICE,
    'not-authenticated': 'This cloud cannot tell who calls. Tell its operator '
    'that attachguard has to stand after authtoken in the pipeline.',
}


class AttachGuard(base.ConfigurableMiddleware):
    """Refuses what would make Cinder's attachments differ from Nova's.

    :param application: the rest of the pipeline: Cinder's API
    :param conf: what stands in the filter's section of the paste file, or the
        service's configuration
    :raises attachguard.opts.ConfigError: for an option, a rule or a
        credential that cannot be right
    """

    @classmethod
    def factory(
        cls, global_conf: dict[str, Any] | None, **local_conf: Any
    ) -> Callable[[WSGIApplication], AttachGuard]:
        """The paste.deploy factory.

        Other than the base class it does not mix in the paste file's
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
            self._enforce: bool = group.enforce
            self._allow_unknown: bool = group.on_nova_error == 'allow'
            self._auth_strategy: str = group.auth_strategy
            self._retry_after: int = group.retry_after
            self._max_body_size: int = group.max_body_size
            self.policy = policy.Policy(self.oslo_conf)
            self.events = decision_log.Events(self.oslo_conf)
            self.nova = novas.Nova(self.oslo_conf, self.events.nova_left_alone)
        route_check.check(application)
        LOG.info(
            'attachguard guards, %s, asking Nova %s',
            'enforcing' if self._enforce else 'in shadow mode',
            'as the caller'
            if self.nova.as_caller
            else 'with configured credentials',
        )

    # The base class wants a WebOb request of everything that passes.
    def __call__(  # type: ignore[override]
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Let pass, or answer.

        Nearly every request is none of ours: it costs the first three lines.
        """
        path = environ.get('PATH_INFO', '')
        if ('/attachments' in path or '/action' in path) and (
            environ['REQUEST_METHOD'] != 'GET'
            or '_method' in environ.get('QUERY_STRING', '')
        ):
            return self._guard(environ, start_response)
        return self.application(environ, start_response)

    def _guard(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        target = guard_request.is_candidate(environ)
        if target is None:
            return self.application(environ, start_response)
        answer: WSGIApplication | None
        try:
            body = guard_request.read_body(environ, self._max_body_size)
            asked = guard_request.parse(environ, target, body)
        except guard_request.Unreadable as exc:
            answer = self._unreadable(environ, exc)
        except guard_request.BodyTooLarge:
            answer = self._too_large(environ)
        except webob.exc.HTTPException as exc:
            # The limit of a reader that sizelimit put around the body.
            answer = exc
        except OSError as exc:
            answer = self._cut_off(environ, exc)
        else:
            answer = None if asked is None else self._decide(environ, asked)
        return (answer or self.application)(environ, start_response)

    def _decide(
        self, environ: WSGIEnvironment, asked: guard_request.Request
    ) -> WSGIApplication | None:
        """The answer to a request, or None to let it pass."""
        event = self._event(environ, _REFUSED, 'policy', asked)
        try:
            caller = callers.identify(environ, self._auth_strategy)
        except callers.NotAuthenticated:
            event.reason = 'not-authenticated'
            event.detail = (
                'keystone.token_auth is not in the environ: attachguard '
                'stands before authtoken in the pipeline, or there is none '
                '(then set auth_strategy = noauth)'
            )
            return self._conclude(event, None, asked)
        event.user_id = caller.credentials['user_id']
        event.project_id = caller.credentials['project_id']
        event.service_user_id = caller.service_user_id
        cinder = cinders.Cinder(self.application, environ, asked.root)
        target = targets.Target(asked, caller, cinder, self.nova)
        refused: webob.Response | None = None
        try:
            said = self.policy.judge(target, caller)
            if said.allowed:
                event.verdict = _ALLOWED
                event.reason = target.why(True)
                event.service = said.service
            else:
                event.reason = target.why(False)
                # A volume that is missing is a 404, whatever the rule.
                target.check_volume()
        except targets.TooManyServers:
            event.reason = 'too-many-servers'
        except targets.Malformed as exc:
            event.verdict, event.reason = _MALFORMED, 'malformed'
            event.detail = str(exc)
        except cinders.Refused as exc:
            event.verdict, event.reason = _MISSING, 'missing'
            refused = exc.response
        except cinders.Unknown as exc:
            event.verdict, event.reason = _UNKNOWN, 'cinder-unknown'
            event.detail = exc.why
        except novas.Unknown as exc:
            event.verdict, event.reason = _UNKNOWN, exc.reason
            event.detail = exc.why
            if exc.outage and self._allow_unknown:
                event.enforced = False
        except Exception as exc:
            # A rule that fails as it is evaluated, or a fault of ours.
            LOG.exception('attachguard failed to decide')
            event.verdict, event.reason = _UNKNOWN, 'guard-failed'
            event.detail = type(exc).__name__
        event.volume_id = target.known_volume_id or event.volume_id
        event.server_id = target.known_server_ids or event.server_id
        event.nova_answer = target.nova_answer
        event.nova_questions = target.nova_questions
        event.nova_ms = 1000 * target.nova_seconds
        return self._conclude(event, cinder, asked, refused)

    def _conclude(
        self,
        event: decision_log.Event,
        cinder: cinders.Cinder | None,
        asked: guard_request.Request,
        refused: webob.Response | None = None,
    ) -> WSGIApplication | None:
        """The answer to a request, or None to let it pass.

        :param cinder: what to rehearse a request against that does not pass
        :param refused: Cinder's own answer, to give instead of ours
        """
        said: webob.Response | None = None
        if event.verdict is not _ALLOWED and cinder is not None:
            # In shadow mode, too: who sends nonsense would not be refused.
            said = cinder.rehearse(asked)
            if said and _objects(said):
                event.verdict, event.reason = _MALFORMED, 'malformed'
                event.detail = f'Cinder: {said.status}'
                refused = said
        self.events.record(event)
        if event.verdict is _ALLOWED or not event.enforced:
            return None
        if refused is not None and said is not None:
            # It was asked for with another microversion than the caller's.
            faults.set_headers(refused, said)
        if event.verdict is _MISSING and refused is None:
            refused = said
        return refused or self._fault(event, said)

    def _fault(
        self, event: decision_log.Event, like: webob.Response | None
    ) -> faults.Fault:
        if event.verdict is _UNKNOWN:
            return faults.Fault(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                event.reason,
                'Whether this is consistent with the Compute service cannot '
                'be told now. Try again later.',
                like,
                self._retry_after,
            )
        if event.verdict is _MISSING:
            return faults.Fault(
                http.HTTPStatus.NOT_FOUND, event.reason, 'It is not there.'
            )
        if event.verdict is _MALFORMED:
            return faults.Fault(
                http.HTTPStatus.BAD_REQUEST,
                event.reason,
                event.detail or 'Malformed request body',
                like,
            )
        return faults.Fault(
            http.HTTPStatus.FORBIDDEN,
            event.reason,
            f'{_MESSAGES[event.reason]} (attachguard: {event.reason})',
            like,
        )

    def _unreadable(
        self, environ: WSGIEnvironment, exc: guard_request.Unreadable
    ) -> WSGIApplication | None:
        event = self._event(environ, _MALFORMED, 'malformed', exc.request)
        event.detail = str(exc)
        cinder = cinders.Cinder(self.application, environ, exc.request.root)
        return self._conclude(event, cinder, exc.request)

    # A body that is not read to its end cannot be passed on, in shadow or not.

    def _too_large(self, environ: WSGIEnvironment) -> WSGIApplication:
        event = self._event(environ, _MALFORMED, 'body-too-large')
        event.enforced = True
        self.events.record(event)
        return faults.Fault(
            http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            event.reason,
            f'The body is longer than {self._max_body_size} bytes.',
        )

    def _cut_off(
        self, environ: WSGIEnvironment, exc: OSError
    ) -> WSGIApplication:
        event = self._event(environ, _MALFORMED, 'body-cut-off')
        event.enforced = True
        event.detail = str(exc)
        self.events.record(event)
        return faults.Fault(
            http.HTTPStatus.BAD_REQUEST,
            event.reason,
            'The body ends before it should.',
        )

    def _event(
        self,
        environ: WSGIEnvironment,
        verdict: decision_log.Verdict,
        reason: str,
        asked: guard_request.Request | None = None,
    ) -> decision_log.Event:
        event = decision_log.Event(
            verdict,
            reason,
            self._enforce,
            request_id=environ.get('openstack.request_id'),
            global_request_id=environ.get('openstack.global_request_id'),
        )
        if asked is not None and asked.operation is not None:
            event.operation = asked.operation.name
            event.volume_id = asked.volume_id
            event.attachment_id = asked.attachment_id
            event.server_id = asked.server_id
        return event


def _objects(said: webob.Response) -> bool:
    """Whether Cinder minds more than that the nil UUID is not there."""
    if said.status_int == 404:
        # The answer to a HEAD has no body, and says nothing else either.
        return (
            bool(said.body)
            and guard_request.NIL_UUID.encode() not in said.body
        )
    return 400 <= said.status_int < 500
