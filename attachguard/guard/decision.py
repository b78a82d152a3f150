# SPDX-License-Identifier: Apache-2.0
"""The decision about a request: allowed, or refused with a reason.

The rules decide, over the facts; what else is decided here is what a failed
look-up means.  Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import enum

from oslo_log import log as logging
import webob

from attachguard.guard import cinder
from attachguard.guard import facts as facts_
from attachguard.guard import identity
from attachguard.guard import policy
from attachguard.nova import client as nova_client

LOG = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What is decided about a request."""

    ALLOWED = 'allowed'
    REFUSED = 'refused'
    UNKNOWN = 'unknown'
    MALFORMED = 'malformed'
    MISSING = 'missing'


class Reason(enum.Enum):
    """The stable code of why."""

    SERVER_LACKS_VOLUME = 'server-lacks-volume'
    SERVER_HAS_VOLUME = 'server-has-volume'
    SERVER_BUSY = 'server-busy'
    SERVER_GONE = 'server-gone'
    OTHER_ATTACHMENT = 'other-attachment'
    OTHER_VOLUME = 'other-volume'
    HAS_ATTACHMENT = 'has-attachment'
    NO_ATTACHMENT = 'no-attachment'
    VOLUME_BUSY = 'volume-busy'
    TOO_MANY_SERVERS = 'too-many-servers'
    NAMES_SERVER = 'names-server'
    NO_SERVER = 'no-server'
    POLICY = 'policy'
    NOT_AUTHENTICATED = 'not-authenticated'
    ATTACHMENT_YOUNG = 'attachment-young'
    SERVER_UNSEEN = 'server-unseen'
    NOVA_UNKNOWN = 'nova-unknown'
    NOVA_DOWN = 'nova-down'
    NOVA_BUSY = 'nova-busy'
    CINDER_UNKNOWN = 'cinder-unknown'
    GUARD_FAILED = 'guard-failed'
    MISSING = 'missing'
    MALFORMED = 'malformed'
    BODY_TOO_LARGE = 'body-too-large'
    BODY_CUT_OFF = 'body-cut-off'


@dataclasses.dataclass(frozen=True)
class Decision:
    """A decision about a request.

    :param verdict: what is decided
    :param reason: the stable code of why
    :param service: whether the caller is a service
    :param detail: for the operator: what went wrong
    :param outage: whether it is unknown because Nova is out of order, which no
        caller can cause
    :param response: Cinder's own response, to return instead of a fault
    """

    verdict: Verdict
    reason: Reason
    service: bool = False
    detail: str | None = None
    outage: bool = False
    response: webob.Response | None = None


_PRESENCE = {
    facts_.Presence.HAS: Reason.SERVER_HAS_VOLUME,
    facts_.Presence.HAS_BY_OTHER: Reason.OTHER_ATTACHMENT,
    facts_.Presence.BUSY: Reason.SERVER_BUSY,
    facts_.Presence.LACKS: Reason.SERVER_LACKS_VOLUME,
    facts_.Presence.GONE: Reason.SERVER_GONE,
}

# Why a request is refused if this check is the last that was evaluated; for
# all others, by the presence.
_CHECKS = {
    'cinder:consistent': Reason.NO_ATTACHMENT,
    'cinder:group_idle': Reason.VOLUME_BUSY,
    'cinder:group_no_attachment': Reason.HAS_ATTACHMENT,
    'cinder:idle': Reason.VOLUME_BUSY,
    'cinder:names_no_server': Reason.NAMES_SERVER,
    'cinder:no_attachment': Reason.HAS_ATTACHMENT,
    'cinder:no_backup': Reason.VOLUME_BUSY,
    'cinder:same_volume': Reason.OTHER_VOLUME,
}


def decide(
    rules: policy.Policy, caller: identity.Caller, facts: facts_.Facts
) -> Decision:
    """Decide about a request.

    :param rules: the rules in force
    :param caller: who sent the request
    :param facts: about the request
    :returns: the decision; whatever fails, a request that cannot be decided is
        :attr:`Verdict.UNKNOWN`
    """
    decision = _guarded(lambda: _by_rule(rules, caller, facts))
    if decision.verdict not in (Verdict.REFUSED, Verdict.UNKNOWN):
        return decision
    # Cinder's own 404 where the caller may not see the volume, whatever the
    # rule: the response must not show that there is one.
    return _guarded(lambda: _if_visible(decision, facts))


def _by_rule(
    rules: policy.Policy, caller: identity.Caller, facts: facts_.Facts
) -> Decision:
    allowed, service = rules.check(caller, facts)
    verdict = Verdict.ALLOWED if allowed else Verdict.REFUSED
    return Decision(verdict, reason_for(facts, allowed), service)


def _if_visible(decision: Decision, facts: facts_.Facts) -> Decision:
    facts.check_visible()
    return decision


def _guarded(decide_: Callable[[], Decision]) -> Decision:
    """Decide, and make a decision of a failed look-up."""
    try:
        return decide_()
    except facts_.TooManyServers:
        return Decision(Verdict.REFUSED, Reason.TOO_MANY_SERVERS)
    except facts_.Malformed as exc:
        return Decision(Verdict.MALFORMED, Reason.MALFORMED, detail=str(exc))
    except facts_.Unsettled as exc:
        return Decision(
            Verdict.UNKNOWN, Reason.ATTACHMENT_YOUNG, detail=str(exc)
        )
    except facts_.Unseen as exc:
        return Decision(Verdict.UNKNOWN, Reason.SERVER_UNSEEN, detail=str(exc))
    except cinder.NotShown as exc:
        return Decision(Verdict.MISSING, Reason.MISSING, response=exc.response)
    except cinder.Unknown as exc:
        return Decision(
            Verdict.UNKNOWN, Reason.CINDER_UNKNOWN, detail=exc.detail
        )
    except nova_client.Unknown as exc:
        return Decision(
            Verdict.UNKNOWN,
            Reason(exc.code),
            detail=exc.detail,
            outage=exc.outage,
        )
    except Exception as exc:
        # A rule that fails as it is evaluated, or a defect of the guard.
        LOG.exception('attachguard failed to decide')
        return Decision(
            Verdict.UNKNOWN, Reason.GUARD_FAILED, detail=type(exc).__name__
        )


def reason_for(facts: facts_.Facts, allowed: bool) -> Reason:
    """The reason for what the rules decided: the last check that counted.

    :param facts: about the request; only what is known counts
    :param allowed: what the rules decided
    """
    known = facts.known
    if allowed:
        presence = known.presence
        return Reason.POLICY if presence is None else _PRESENCE[presence]
    if not known.checks:
        if facts.request.lacks_server:
            return Reason.NO_SERVER
        if facts.request.server_id is not None:
            return Reason.NAMES_SERVER
        return Reason.POLICY
    last, result = known.checks[-1]
    if result:
        # What refused was no check of the facts, but a role, for example.
        return Reason.POLICY
    if last in _CHECKS:
        return _CHECKS[last]
    if last == 'nova:server_has_volume' and (
        known.presence is not facts_.Presence.HAS
    ):
        # The body can name any server: the response must not show whether
        # there is one in another project.
        return Reason.SERVER_LACKS_VOLUME
    if known.presence is not None:
        return _PRESENCE[known.presence]
    return Reason.POLICY
