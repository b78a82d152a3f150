# SPDX-License-Identifier: Apache-2.0
"""The decision about a request: allowed, or refused with a reason.

The rules decide, over the facts; what else is decided here is what a failed
look-up means.  Nothing is changed.
"""

from __future__ import annotations

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
    OTHER_ATTACHMENT = 'other-attachment'
    ALREADY_ATTACHED = 'already-attached'
    TOO_MANY_SERVERS = 'too-many-servers'
    NO_SERVER = 'no-server'
    POLICY = 'policy'
    NOT_AUTHENTICATED = 'not-authenticated'
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
    facts_.Presence.LACKS: Reason.SERVER_LACKS_VOLUME,
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
    try:
        allowed, service = rules.check(caller, facts)
        reason = reason_for(facts, allowed)
        if allowed:
            return Decision(Verdict.ALLOWED, reason, service)
        # A volume that the caller cannot see is a 404, whatever the rule.
        facts.check_visible()
        return Decision(Verdict.REFUSED, reason)
    except facts_.TooManyServers:
        return Decision(Verdict.REFUSED, Reason.TOO_MANY_SERVERS)
    except facts_.Malformed as exc:
        return Decision(Verdict.MALFORMED, Reason.MALFORMED, detail=str(exc))
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
    """The reason for what the rules decided.

    :param facts: about the request; only what is known counts
    :param allowed: what the rules decided
    """
    known = facts.known
    if known.is_recorded:
        return Reason.ALREADY_ATTACHED
    if known.presence is not None:
        return _PRESENCE[known.presence]
    if known.attachment_status not in (None, 'reserved'):
        return Reason.ALREADY_ATTACHED
    if not allowed and facts.request.lacks_server:
        return Reason.NO_SERVER
    return Reason.POLICY
