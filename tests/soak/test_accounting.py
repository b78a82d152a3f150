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
"""That the accounting finds each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import io
import pathlib
from typing import Any

import pytest
import webob

from attachguard.guard import request as guard_request
from tests.soak import accounting
from tests.soak import faults
from tests.soak import recorder
from tests.soak import watch

Outcome = accounting.Outcome
Seen = accounting.Seen
Sent = accounting.Sent
Where = accounting.Where
Wrong = accounting.Wrong

OPEN = accounting.Kind('open', Outcome.PASSED, 202)
ASKING = accounting.Kind('asking', Outcome.PASSED, 202, asks_nova=True)
FORGED = accounting.Kind('forged', Outcome.REFUSED, 403, asks_nova=True)
NONSENSE = accounting.Kind('nonsense', Outcome.REHEARSED, 400)

FRONT = Seen(Where.FRONT, '1', 'POST')
BACK = Seen(Where.BACK, '1', 'POST', 'it')
ANSWERED = Seen(Where.ANSWERED, '1', 'POST', 'it', status=202)
QUESTION = Seen(Where.BACK, '1', 'GET', 'volume')
REHEARSED = Seen(Where.BACK, '1', 'POST', 'nil', nothing=True)
PASSED = [FRONT, QUESTION, BACK, ANSWERED]
STOPPED = [FRONT, QUESTION, REHEARSED]


def decided(verdict: str) -> Seen:
    return Seen(Where.DECIDED, '1', 'os-attach', verdict=verdict)


ALLOWED = [*PASSED, decided('allowed')]
REFUSED = [*STOPPED, decided('refused')]
UNKNOWN = [*STOPPED, decided('unknown')]
MALFORMED = [*STOPPED, decided('malformed')]


def sent(
    kind: accounting.Kind = OPEN,
    status: int | None = 202,
    reason: str | None = None,
    *,
    fine: bool = True,
    answers: str | None = '1',
) -> Sent:
    return Sent('1', kind, 'it', fine, status, reason, answers)


@pytest.mark.parametrize(
    ('one', 'seen'),
    [
        (sent(), PASSED),
        (sent(ASKING), ALLOWED),
        (sent(ASKING, 503, 'nova-unknown', fine=False), UNKNOWN),
        (sent(FORGED, 403, 'policy'), REFUSED),
        (sent(FORGED, 403, 'policy', fine=False), REFUSED),
        (sent(FORGED, 503, 'nova-unknown', fine=False), UNKNOWN),
        (sent(NONSENSE, 400), MALFORMED),
        (sent(NONSENSE, 400, fine=False), MALFORMED),
    ],
)
def test_what_is_right(one: Sent, seen: list[Seen]) -> None:
    assert accounting.audit([one], seen) == []


@pytest.mark.parametrize(
    ('one', 'seen', 'wrong'),
    [
        (sent(status=None), PASSED, Wrong.UNANSWERED),
        (sent(answers=None), PASSED, Wrong.OTHER_ANSWER),
        (sent(answers='2'), PASSED, Wrong.OTHER_ANSWER),
        (sent(), PASSED[1:], Wrong.FRONT),
        (sent(), [FRONT, *PASSED], Wrong.FRONT),
        # A forged one must be refused, and a service let through.
        (sent(FORGED), PASSED, Wrong.OUTCOME),
        (sent(FORGED, fine=False), PASSED, Wrong.OUTCOME),
        (sent(FORGED, 503, 'nova-unknown'), STOPPED, Wrong.OUTCOME),
        (sent(ASKING, 403, 'policy', fine=False), STOPPED, Wrong.OUTCOME),
        (sent(OPEN, 503, 'nova-unknown', fine=False), STOPPED, Wrong.OUTCOME),
        (sent(NONSENSE, 403, 'policy'), STOPPED, Wrong.OUTCOME),
        (
            sent(status=500),
            [FRONT, BACK, Seen(Where.ANSWERED, '1', 'POST', 'it', status=500)],
            Wrong.STATUS,
        ),
        (sent(FORGED, 403, 'policy'), [*STOPPED, BACK], Wrong.LEAKED),
        (sent(NONSENSE, 400), [*STOPPED, BACK], Wrong.LEAKED),
        (sent(), STOPPED, Wrong.LOST),
        (sent(), [*PASSED, BACK, ANSWERED], Wrong.DOUBLED),
        (
            sent(),
            [*PASSED, Seen(Where.BACK, '1', 'POST', 'something else')],
            Wrong.ALTERED,
        ),
        (
            sent(),
            [FRONT, Seen(Where.BACK, '1', 'POST', 'cut off')],
            Wrong.LOST,
        ),
        (
            sent(FORGED, 403, 'policy'),
            [
                *STOPPED,
                Seen(Where.ANSWERED, '1', 'POST', 'nil', True, status=202),
            ],
            Wrong.EFFECT,
        ),
        (
            sent(),
            [FRONT, BACK, Seen(Where.ANSWERED, '1', 'POST', 'it', status=409)],
            Wrong.RETOLD,
        ),
        (sent(), [*ALLOWED, decided('allowed')], Wrong.LOGGED),
        (sent(), [*PASSED, decided('refused')], Wrong.LOGGED),
        (sent(FORGED, 403, 'policy'), STOPPED, Wrong.LOGGED),
        (
            sent(),
            [*PASSED, Seen(Where.BACK, None, 'POST', 'it')],
            Wrong.UNSENT,
        ),
    ],
)
def test_what_is_wrong(one: Sent, seen: list[Seen], wrong: Wrong) -> None:
    findings = accounting.audit([one], seen)
    assert wrong in [finding.wrong for finding in findings]
    assert str(findings[0])


def _application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    # As Cinder does, which the recorder must leave it something for.
    assert webob.Request(environ).body == b'{}'
    start_response('202 Accepted', [])
    return [b'']


def _doubling(inner: Callable[..., Any]) -> Callable[..., Any]:
    def application(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        again = {**environ, 'wsgi.input': io.BytesIO(b'{}')}
        webob.Request(again).send(inner)
        answer: Iterable[bytes] = inner(environ, start_response)
        return answer

    return application


def _altering(inner: Callable[..., Any]) -> Callable[..., Any]:
    def application(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        environ['PATH_INFO'] += '/'
        answer: Iterable[bytes] = inner(environ, start_response)
        return answer

    return application


def _refusing(inner: Callable[..., Any]) -> Callable[..., Any]:
    def application(
        environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        webob.Request(environ).send(inner)
        start_response('403 Forbidden', [])
        return [b'']

    return application


@pytest.mark.parametrize(
    ('between', 'kind', 'reason', 'wrongs'),
    [
        (lambda inner: inner, OPEN, None, set()),
        (_doubling, OPEN, None, {Wrong.DOUBLED}),
        (_altering, OPEN, None, {Wrong.ALTERED, Wrong.LOST}),
        (_refusing, FORGED, 'policy', {Wrong.LEAKED, Wrong.LOGGED}),
    ],
)
def test_through_the_recorders(
    tmp_path: pathlib.Path,
    between: Callable[..., Any],
    kind: accounting.Kind,
    reason: str | None,
    wrongs: set[Wrong],
) -> None:
    path = tmp_path / 'records'
    application = recorder.Recorder(
        between(recorder.Recorder(_application, path, Where.BACK)),
        path,
        Where.FRONT,
    )
    request = webob.Request.blank('/v3/p/volumes?limit=1', method='POST')
    request.body = b'{}'
    request.headers[recorder.ID] = 'req-1'
    request.headers['OpenStack-API-Version'] = 'volume 3.44'
    request.content_type = 'application/json'
    answer = request.send(application)
    digest = accounting.digest(
        'POST',
        '/v3/p/volumes',
        'limit=1',
        b'{}',
        'application/json',
        'volume 3.44',
    )
    one = Sent(
        'req-1',
        kind,
        digest,
        True,
        answer.status_int,
        reason,
        answer.headers.get(recorder.ANSWERS),
    )
    findings = accounting.audit([one], recorder.read(path))
    assert {finding.wrong for finding in findings} == wrongs


def test_nothing_is_the_nil_uuid() -> None:
    nil = guard_request.NIL_UUID.encode()
    assert accounting.is_about_nothing(f'/volumes/{nil.decode()}/action', b'')
    assert accounting.is_about_nothing(
        '/attachments', b'{"attachment": {"volume_uuid": "%s"}}' % nil
    )
    # It says something about what it is about, in another place.
    assert not accounting.is_about_nothing(
        '/attachments', b'{"attachment": {"instance_uuid": "%s"}}' % nil
    )
    assert not accounting.is_about_nothing('/volumes/1/action', b'{')


def _samples(*usages: tuple[float, float, float]) -> list[watch.Sample]:
    return [
        watch.Sample(at + 0.5, True, frozenset({1}), watch.Usage(*usage))
        for at, usage in enumerate(usages)
    ]


_MIB = 1024 * 1024


@pytest.mark.parametrize(
    ('last', 'grown'),
    [
        ((103 * _MIB, 31, 21), None),
        ((113 * _MIB, 30, 20), 'rss'),
        ((100 * _MIB, 43, 20), 'fds'),
        ((100 * _MIB, 30, 33), 'threads'),
    ],
)
def test_growth(last: tuple[float, float, float], grown: str | None) -> None:
    usual = (100.0 * _MIB, 30, 20)
    samples = _samples((50 * _MIB, 9, 9), usual, usual, last)
    wrong = watch.judge(samples, watch.LONG)
    if grown is None:
        assert wrong == []
    else:
        assert [what.split()[0] for what in wrong] == [grown]


def test_a_process_that_was_replaced() -> None:
    usage = watch.Usage(1, 1, 1)
    samples = [
        watch.Sample(at, True, frozenset({1 + at // 6}), usage)
        for at in range(1, 9)
    ]
    assert watch.judge(samples, watch.SHORT) == [
        'processes of the server ended or began'
    ]
    assert watch.judge([], watch.SHORT)


@pytest.mark.parametrize('seconds', [20, 60, 480, 1800])
def test_the_plan_is_as_long_as_it_is_told(seconds: float) -> None:
    phases = faults.plan(seconds, 3, 5)
    assert sum(phase.seconds for phase in phases) == pytest.approx(seconds)
    assert phases[0].fault is phases[-1].fault is faults.Fault.CALM
    assert {phase.fault for phase in phases} == {*faults.Fault}
    assert phases[-1].seconds > 5
