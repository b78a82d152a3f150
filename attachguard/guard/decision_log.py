# SPDX-License-Identifier: Apache-2.0
"""One log line and one counter for each decision.

The line is JSON behind a fixed word, so that a person can read it and a
program can parse it.  What comes from a request is truncated and escaped, and
a token is never in it.  It has everything that the rule has read, so that
:mod:`attachguard.decisions` can evaluate another rule on it.

=======  ==========================================================
level    decision
=======  ==========================================================
DEBUG    a service is allowed (many a second, in a cloud)
INFO     another caller is allowed, or the volume is missing, or
         the request malformed
WARNING  refused or unknown; also where the request is forwarded
         all the same, because the filter does not enforce or Nova
         did not respond
=======  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime
import logging as python_logging
from typing import Any
from typing import TYPE_CHECKING

from oslo_config import cfg
from oslo_log import log as logging
from oslo_serialization import jsonutils

from attachguard import messages
from attachguard import opts
from attachguard.guard import decision as decision_
from attachguard.guard import facts as facts_
from attachguard.guard import identity
from attachguard.guard import prometheus
from attachguard.guard import request as request_parser
from attachguard.guard.decision import Verdict
from attachguard.guard.rollout import Mode

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

LOG = logging.getLogger(__name__)

#: what a decision's line in the log begins with, behind the log's own prefix
MARKER = 'attachguard decision '

_MAX_LENGTH = 256

# Of the caller's credentials, what the line has by itself.
_SEPARATE = frozenset(('user_id', 'project_id', 'service_user_id'))


@dataclasses.dataclass(frozen=True)
class Event:
    """A decision, and the facts that it is based on.

    :param verdict: what was decided
    :param reason: the stable code of why
    :param enforced: False if the request was forwarded all the same
    :param mode: of the rule, for this request
    :param service: whether the caller is a service
    :param time: when it was decided, in UTC
    :param rule: the policy rule, if the request was parsed
    :param operation: of :data:`attachguard.guard.operations.OPERATIONS`
    :param user_agent: of the client
    :param credentials: of the caller, beside its user and project
    :param checks: the results of the checks that the rules have read
    :param group_id: the group in the path
    :param host: the host that the body names
    :param detail: for the operator: what went wrong
    :param nova_answer: whether Nova has the volume on a claimed server
    :param nova_queries: how many servers Nova was queried about
    :param nova_ms: the duration of these queries, in milliseconds
    :param ms: the duration of the decision, in milliseconds
    """

    verdict: Verdict
    reason: str
    enforced: bool = True
    mode: Mode = Mode.ENFORCE
    service: bool = False
    time: str | None = None
    rule: str | None = None
    operation: str | None = None
    request_id: str | None = None
    global_request_id: str | None = None
    volume_id: str | None = None
    attachment_id: str | None = None
    server_id: str | None = None
    group_id: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    service_user_id: str | None = None
    user_agent: str | None = None
    credentials: Mapping[str, Any] | None = None
    checks: Mapping[str, bool] | None = None
    host: str | None = None
    volume_status: str | None = None
    volume_project_id: str | None = None
    attachment_status: str | None = None
    nova_answer: bool | None = None
    nova_queries: int = 0
    nova_ms: float = 0.0
    ms: float = 0.0
    detail: str | None = None

    @property
    def level(self) -> int:
        """The level at which it is logged."""
        if self.verdict in (Verdict.REFUSED, Verdict.UNKNOWN):
            return python_logging.WARNING
        if self.service:
            return python_logging.DEBUG
        return python_logging.INFO

    def as_dict(self) -> dict[str, Any]:
        """The event as it is logged.

        :returns: only what is known, each text cut to 256 characters
        """
        values = {
            name: _truncate(value)
            for name, value in vars(self).items()
            if value is not None
        }
        values['verdict'] = self.verdict.value
        values['mode'] = self.mode.value
        values['nova_ms'] = round(self.nova_ms, 1)
        values['ms'] = round(self.ms, 1)
        if self.level == python_logging.WARNING:
            values['runbook'] = messages.runbook('admin/runbook', self.reason)
        return values


def event(
    environ: WSGIEnvironment,
    decision: decision_.Decision,
    mode: Mode,
    enforced: bool,
    request: request_parser.Request | None,
    caller: identity.Caller,
    known: facts_.Known,
    queries: facts_.NovaQueries | None,
    ms: float,
) -> Event:
    """Describe a decision.

    :param environ: of the request
    :param decision: about it
    :param mode: of the rule, for this request
    :param enforced: whether the decision is acted on
    :param request: as it was parsed, or None if it could not be
    :param caller: who sent it
    :param known: the facts that were looked up
    :param queries: the queries to Nova that were made
    :param ms: the duration of the decision, in milliseconds
    """
    named: dict[str, str | None] = {}
    if request is not None:
        named = {
            'rule': request.rule,
            'operation': request.operation.name,
            'host': request.host,
            'volume_id': request.volume_id,
            'attachment_id': request.attachment_id,
            'server_id': request.server_id,
            'group_id': request.group_id,
        }
    if known.volume_id is not None:
        named['volume_id'] = known.volume_id
    if known.server_ids:
        named['server_id'] = ' '.join(known.server_ids)
    if known.volume is not None:
        named['volume_status'] = known.volume.status
        named['volume_project_id'] = known.volume.project_id
    if known.attachment is not None:
        named['attachment_status'] = known.attachment.status
    credentials = {
        name: value
        for name, value in caller.credentials.items()
        if value and name not in _SEPARATE
    }
    count = queries.count if queries else 0
    now = datetime.datetime.now(datetime.timezone.utc)
    return Event(
        decision.verdict,
        decision.reason.value,
        enforced,
        mode,
        decision.service,
        time=now.isoformat(timespec='milliseconds'),
        request_id=environ.get('openstack.request_id'),
        global_request_id=environ.get('openstack.global_request_id'),
        user_id=caller.credentials['user_id'],
        project_id=caller.credentials['project_id'],
        service_user_id=caller.service_user_id,
        user_agent=environ.get('HTTP_USER_AGENT'),
        credentials=credentials or None,
        checks=dict(known.checks) or None,
        nova_answer=known.presence
        in (facts_.Presence.HAS, facts_.Presence.HAS_BY_OTHER)
        if known.presence and count
        else None,
        nova_queries=count,
        nova_ms=1000 * queries.seconds if queries else 0.0,
        ms=ms,
        detail=decision.detail,
        **named,
    )


def _truncate(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_LENGTH:
        return value[:_MAX_LENGTH] + '...'
    return value


def statsd_client(conf: cfg.ConfigOpts) -> Any:
    """Make a client of statsd.

    :param conf: with the ``[attachguard]`` options
    :returns: the client, or None if none is configured
    :raises attachguard.opts.ConfigError: if the package is missing, or the
        host is unknown
    """
    group = conf[opts.GROUP]
    if not group.statsd_host:
        return None
    try:
        import statsd
    except ImportError:
        raise opts.ConfigError(
            f'[{opts.GROUP}] statsd_host needs the package "statsd": '
            'pip install attachguard[statsd]'
        ) from None
    try:
        return statsd.StatsClient(
            group.statsd_host, group.statsd_port, prefix=group.statsd_prefix
        )
    except OSError as exc:
        raise opts.ConfigError(
            f'[{opts.GROUP}] statsd_host {group.statsd_host!r}: {exc}'
        ) from None


class DecisionLog:
    """Writes decisions to the log, and counts them.

    In statsd, and for Prometheus, if it is configured.

    :param conf: with the ``[attachguard]`` options
    :raises attachguard.opts.ConfigError: if what is configured is missing
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        group = conf[opts.GROUP]
        self._prometheus: prometheus.Metrics | None = None
        if group.prometheus:
            self._prometheus = prometheus.shared()
        self._statsd = statsd_client(conf)

    def record(self, event: Event) -> None:
        """Log and count a decision."""
        if LOG.isEnabledFor(event.level):
            LOG.log(
                event.level,
                '%s%s',
                MARKER,
                jsonutils.dumps(event.as_dict()),
            )
        if self._prometheus is not None:
            self._prometheus.record(event)
        if self._statsd is not None:
            operation = event.operation or 'unreadable'
            self._statsd.incr(f'{operation}.{event.verdict.value}')
            if event.verdict in (Verdict.REFUSED, Verdict.UNKNOWN):
                self._statsd.incr(f'{event.mode.value}.{event.verdict.value}')
            if event.verdict is Verdict.UNKNOWN:
                self._statsd.incr(f'unknown.{event.reason}')
            if event.nova_queries:
                self._statsd.timing('nova', event.nova_ms)

    def breaker_changed(self, is_open: bool) -> None:
        """Count that the circuit breaker of Nova has opened or closed.

        :param is_open: whether it is open now
        """
        if self._prometheus is not None:
            self._prometheus.breaker_changed(is_open)
        if self._statsd is not None:
            self._statsd.incr(
                'nova.breaker-opened' if is_open else 'nova.breaker-closed'
            )
