# SPDX-License-Identifier: Apache-2.0
"""What must be true of each request, from its records.

It does not know how requests are sent and recorded, so that each possible
error can be tested without a server.
"""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import enum
import hashlib
import typing

from tests.outage.guarded_cloud import Response

#: The response header with the id of the request.
RESPONSE_TO = 'X-Soak-Response-To'


class Outcome(enum.StrEnum):
    """What happens to a request; the value is the guard's verdict."""

    PASSED = 'allowed'
    REFUSED = 'refused'
    #: Nova does not respond
    UNKNOWN = 'unknown'
    MALFORMED = 'malformed'
    #: Cinder responds that the volume does not exist
    MISSING = 'missing'


class Kind(typing.NamedTuple):
    """A kind of request.

    :param name: for the table
    :param outcome: what has to happen to it while Nova works
    :param status: of the response then
    :param needs_nova: whether it may be UNKNOWN while Nova fails
    """

    name: str
    outcome: Outcome
    status: int
    needs_nova: bool = False

    def may_be(self, outcome: Outcome, nova_works: bool) -> bool:
        """Whether this outcome is allowed."""
        if outcome is Outcome.UNKNOWN:
            return self.needs_nova and not nova_works
        return outcome is self.outcome


class Sent(typing.NamedTuple):
    """A request of a client, and its response.

    :param digest: of what was sent, see :func:`digest`
    :param nova_worked: from some time before it until the response
    """

    id: str
    kind: Kind
    digest: str
    nova_worked: bool
    response: Response

    @property
    def outcome(self) -> Outcome:
        """What happened to it, by its response."""
        if self.response.reason is not None:
            return {503: Outcome.UNKNOWN, 400: Outcome.MALFORMED}.get(
                self.response.status, Outcome.REFUSED
            )
        if self.kind.outcome is Outcome.MISSING:
            return Outcome.MISSING
        return Outcome.PASSED

    def __str__(self) -> str:
        nova = 'works' if self.nova_worked else 'fails'
        body = '' if self.response.ok else self.response.body
        return f'{self.outcome} {self.response.status}, Nova {nova}: {body}'


class Where(enum.StrEnum):
    """Where a request was recorded."""

    #: at the begin of the pipeline
    FRONT = 'front'
    #: behind the guard, before Cinder
    BACK = 'back'
    #: at the same place, with Cinder's response
    RESPONDED = 'responded'
    #: in the guard's log
    DECIDED = 'decided'


class Seen(typing.NamedTuple):
    """The record of a request.

    :param digest: see :func:`digest`; empty at the front
    :param status: of Cinder's response, where that is recorded
    :param verdict: of the guard, where that is recorded
    """

    where: Where
    id: str | None
    method: str
    digest: str = ''
    status: int | None = None
    verdict: str | None = None


class Wrong(enum.StrEnum):
    """What can be wrong with a request."""

    NO_RESPONSE = 'has no response'
    OTHER_RESPONSE = 'has the response to another request'
    FRONT = 'did not enter the pipeline exactly once'
    OUTCOME = 'has an outcome that its kind may not have'
    STATUS = 'has another status than its kind'
    LEAKED = 'was not allowed, and reached Cinder'
    LOST = 'was allowed, and did not reach Cinder'
    DOUBLED = 'was allowed, and reached Cinder more than once'
    ALTERED = 'made the guard send a request that can change something'
    CHANGED_RESPONSE = 'has another response than that of Cinder'
    LOGGED = 'has another decision in the log, or several'
    UNSENT = 'was recorded, but not sent'


class Finding(typing.NamedTuple):
    """A request with which something is wrong."""

    wrong: Wrong
    id: str | None
    kind: str
    detail: str

    def __str__(self) -> str:
        return f'{self.kind} {self.id} {self.wrong}: {self.detail}'


def digest(
    method: str,
    path: str,
    query: str,
    body: bytes,
    content_type: str | None,
    version: str | None,
) -> str:
    """Digest all that Cinder's decisions about a request depend on.

    :param path: with SCRIPT_NAME
    :param version: the header OpenStack-API-Version
    """
    parts = (method, path, query, content_type or '', version or '')
    whole = '\0'.join(parts).encode('latin-1', 'replace') + b'\0' + body
    return hashlib.sha256(whole).hexdigest()[:24]


def audit(sent: Iterable[Sent], seen: Iterable[Seen]) -> list[Finding]:
    """Compare the requests that were sent with the records.

    :returns: what is wrong; empty where every request is accounted for
    """
    by_id = collections.defaultdict[str | None, list[Seen]](list)
    for item in seen:
        by_id[item.id].append(item)
    findings = [
        Finding(wrong, one.id, one.kind.name, detail)
        for one in sent
        for wrong, detail in _check(one, by_id.pop(one.id, []))
    ]
    findings += [
        Finding(Wrong.UNSENT, id_, '?', f'{item.method} {item.where}')
        for id_, items in by_id.items()
        for item in items
    ]
    return findings


def _check(sent: Sent, seen: list[Seen]) -> Iterator[tuple[Wrong, str]]:
    front = sum(item.where == Where.FRONT for item in seen)
    if front != 1:
        yield Wrong.FRONT, f'{front} times'
    for item in seen:
        if item.where == Where.BACK and item.digest != sent.digest:
            # The guard looks facts up, for which it reads.
            if item.method != 'GET':
                yield Wrong.ALTERED, f'{item.method} {item.digest}'
    status = sent.response.status
    if not status:
        yield Wrong.NO_RESPONSE, str(sent)
        return
    response_to = sent.response.headers.get(RESPONSE_TO)
    if response_to != sent.id:
        yield Wrong.OTHER_RESPONSE, str(response_to)
    if not sent.kind.may_be(sent.outcome, sent.nova_worked):
        yield Wrong.OUTCOME, str(sent)
    elif sent.outcome is sent.kind.outcome and status != sent.kind.status:
        yield Wrong.STATUS, str(sent)
    yield from _check_way(sent, seen)


def _check_way(sent: Sent, seen: list[Seen]) -> Iterator[tuple[Wrong, str]]:
    """Check the decision, and whether the request reached Cinder."""
    logged = [item.verdict for item in seen if item.where == Where.DECIDED]
    # Requests of services, and those that need no decision, are not logged.
    if logged != [sent.outcome.value] and (
        logged or sent.outcome is not Outcome.PASSED
    ):
        yield Wrong.LOGGED, f'{sent}, logged {logged}'
    own = [item for item in seen if item.digest == sent.digest]
    times = sum(item.where == Where.BACK for item in own)
    responses = [item.status for item in own if item.where == Where.RESPONDED]
    if sent.outcome is not Outcome.PASSED:
        if times:
            yield Wrong.LEAKED, f'{sent}, {times} times'
    elif not times:
        yield Wrong.LOST, str(sent)
    elif times > 1:
        yield Wrong.DOUBLED, f'{sent}, {times} times'
    elif responses != [sent.response.status]:
        yield Wrong.CHANGED_RESPONSE, f'{sent}, Cinder responded {responses}'
