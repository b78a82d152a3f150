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
"""What must be true of each request, and of which it is not.

Knows nothing of how requests are sent and seen, so that each way to be wrong
can be tested without a server.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import enum
import hashlib
import json
import typing

from attachguard.guard import request as guard_request


class Outcome(enum.Enum):
    """What becomes of a request."""

    PASSED = 'passed'
    #: by the guard, with 403
    REFUSED = 'refused'
    #: by the guard, with 503: Nova does not say
    UNKNOWN = 'unknown'
    #: answered with what Cinder says to the same request about nothing
    REHEARSED = 'rehearsed'


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of request.

    :param name: for the table
    :param outcome: what has to become of it while Nova answers
    :param status: what it is then answered
    :param asks_nova: whether it may be UNKNOWN while Nova does not
    """

    name: str
    outcome: Outcome
    status: int
    asks_nova: bool = False

    def may_be(self, outcome: Outcome, nova_is_fine: bool) -> bool:
        """Whether a request of this kind may come to that."""
        if outcome is Outcome.UNKNOWN:
            return self.asks_nova and not nova_is_fine
        return outcome is self.outcome


@dataclasses.dataclass(frozen=True)
class Sent:
    """A request of a client, and what came back.

    :param digest: of what was sent, see :func:`digest`
    :param nova_was_fine: from some time before it until it was answered
    :param status: of the answer; None where there was none
    :param reason: the guard's, in the answer
    :param answers: the id of the request that the answer belongs to
    :param detail: what else may help to understand it
    :param seconds: until it was answered
    """

    id: str
    kind: Kind
    digest: str
    nova_was_fine: bool
    status: int | None
    reason: str | None = None
    answers: str | None = None
    detail: str = ''
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """What the answer says that became of it."""
        if self.reason is not None:
            if self.status == 503:
                return Outcome.UNKNOWN
            return Outcome.REFUSED
        if self.kind.outcome is Outcome.REHEARSED:
            return Outcome.REHEARSED
        return Outcome.PASSED


class Where(enum.StrEnum):
    """Where a request was seen."""

    #: at the pipeline's begin
    FRONT = 'front'
    #: right behind the guard, before Cinder
    BACK = 'back'
    #: there, with Cinder's answer
    ANSWERED = 'answered'
    #: in the guard's log
    DECIDED = 'decided'


@dataclasses.dataclass(frozen=True)
class Seen:
    """A request where it was seen.

    :param digest: see :func:`digest`; nothing at the front
    :param nothing: whether it is about the nil UUID, which is nothing
    :param status: Cinder's answer, where it is there
    :param verdict: the guard's, where it is in its log
    """

    where: Where
    id: str | None
    method: str
    digest: str = ''
    nothing: bool = False
    status: int | None = None
    verdict: str | None = None

    def dumps(self) -> bytes:
        """As one line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b'\n'

    @classmethod
    def loads(cls, line: str | bytes) -> typing.Self:
        """From one line.

        :raises ValueError: it is none
        """
        values = json.loads(line)
        return cls(**{**values, 'where': Where(values['where'])})


class Wrong(enum.Enum):
    """What can be wrong with a request."""

    UNANSWERED = 'not answered'
    OTHER_ANSWER = "got the answer to another request, or nobody's"
    FRONT = 'did not enter the pipeline exactly once'
    OUTCOME = 'came to what its kind may not come to'
    STATUS = 'was answered with another status than its kind is'
    LEAKED = 'was not let through, and reached Cinder'
    LOST = 'was let through, and did not reach Cinder'
    DOUBLED = 'was let through, and reached Cinder more than once'
    ALTERED = 'made the guard send something else that can change something'
    EFFECT = 'succeeded on the nil UUID'
    RETOLD = 'was answered otherwise than Cinder did'
    LOGGED = 'was decided otherwise, or more than once, by the log'
    UNSENT = 'was seen, and nobody had sent it'


# Of a service's requests there is nothing in the log, and of what is none of
# the guard's business neither.
_VERDICTS: dict[Outcome, tuple[list[str], ...]] = {
    Outcome.PASSED: ([], ['allowed']),
    Outcome.REFUSED: (['refused'],),
    Outcome.UNKNOWN: (['unknown'],),
    Outcome.REHEARSED: (['malformed'], ['missing']),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """A request with which something is wrong."""

    wrong: Wrong
    id: str | None
    kind: str
    detail: str

    def __str__(self) -> str:
        return f'{self.kind} {self.id} {self.wrong.value}: {self.detail}'


def digest(
    method: str,
    path: str,
    query: str,
    body: bytes,
    content_type: str | None,
    version: str | None,
) -> str:
    """What a request is, in short: all that Cinder decides on.

    :param path: with what stands in SCRIPT_NAME
    :param version: the header OpenStack-API-Version
    """
    parts = (method, path, query, content_type or '', version or '')
    whole = '\0'.join(parts).encode('latin-1', 'replace') + b'\0' + body
    return hashlib.sha256(whole).hexdigest()[:24]


def is_about_nothing(path: str, body: bytes) -> bool:
    """Whether a request is about the volume or attachment that is none."""
    if guard_request.NIL_UUID in path:
        return True
    try:
        about = json.loads(body)['attachment']['volume_uuid']
    except (ValueError, KeyError, TypeError):
        return False
    return bool(about == guard_request.NIL_UUID)


def audit(sent: Iterable[Sent], seen: Iterable[Seen]) -> list[Finding]:
    """Compare what was sent with what was seen.

    :returns: what is wrong; empty where every request is accounted for
    """
    by_id = collections.defaultdict[str | None, list[Seen]](list)
    for item in seen:
        by_id[item.id].append(item)
    findings = [
        Finding(wrong, one.id, one.kind.name, detail)
        for one in sent
        for wrong, detail in _wrongs(one, by_id.pop(one.id, []))
    ]
    findings += [
        Finding(Wrong.UNSENT, id_, '?', f'{item.method} {item.where}')
        for id_, items in by_id.items()
        for item in items
    ]
    return findings


def _wrongs(sent: Sent, seen: list[Seen]) -> Iterator[tuple[Wrong, str]]:
    front = sum(item.where is Where.FRONT for item in seen)
    back = [item for item in seen if item.where is Where.BACK]
    own = [item for item in back if item.digest == sent.digest]
    answers = [
        item.status
        for item in seen
        if item.where is Where.ANSWERED and item.digest == sent.digest
    ]
    if front != 1:
        yield Wrong.FRONT, f'{front} times'
    for item in back:
        if item.digest != sent.digest and not (
            item.method == 'GET' or item.nothing
        ):
            yield Wrong.ALTERED, f'{item.method} {item.digest}'
    for item in seen:
        if item.nothing and (item.status or 0) // 100 == 2:
            yield Wrong.EFFECT, f'{item.method} answered {item.status}'
    if sent.status is None:
        yield Wrong.UNANSWERED, sent.detail
        return
    if sent.answers != sent.id:
        yield Wrong.OTHER_ANSWER, str(sent.answers)
    outcome = sent.outcome
    nova = 'fine' if sent.nova_was_fine else 'in trouble'
    said = f'{outcome.value} ({sent.status} {sent.reason}), Nova {nova}'
    if not sent.kind.may_be(outcome, sent.nova_was_fine):
        yield Wrong.OUTCOME, f'{said} {sent.detail}'
    elif outcome is sent.kind.outcome and sent.status != sent.kind.status:
        yield Wrong.STATUS, f'{said} {sent.detail}'
    verdicts = [
        str(item.verdict) for item in seen if item.where is Where.DECIDED
    ]
    if verdicts not in _VERDICTS[outcome]:
        yield Wrong.LOGGED, f'{said}, logged {verdicts}'
    if outcome is not Outcome.PASSED:
        if own:
            yield Wrong.LEAKED, f'{said}, {len(own)} times'
        return
    if not own:
        yield Wrong.LOST, said
    elif len(own) > 1:
        yield Wrong.DOUBLED, f'{said}, {len(own)} times'
    if own and answers != [sent.status] * len(own):
        yield Wrong.RETOLD, f'{said}, Cinder said {answers}'
