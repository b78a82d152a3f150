# SPDX-License-Identifier: Apache-2.0
"""The accounting finds everything that can be wrong with a request."""

import pytest

from tests.outage.guarded_cloud import Response
from tests.outage.process_usage import Sample
from tests.outage.process_usage import Usage
from tests.soak import accounting
from tests.soak import run
from tests.soak.accounting import Kind
from tests.soak.accounting import Outcome
from tests.soak.accounting import Seen
from tests.soak.accounting import Sent
from tests.soak.accounting import Where
from tests.soak.accounting import Wrong

OPEN = Kind('open', Outcome.PASSED, 202)
NEEDS_NOVA = Kind('needs Nova', Outcome.PASSED, 202, needs_nova=True)
FORGED = Kind('forged', Outcome.REFUSED, 403, needs_nova=True)
MALFORMED = Kind('malformed', Outcome.MALFORMED, 400)
MISSING = Kind('missing', Outcome.MISSING, 404)

FRONT = Seen(Where.FRONT, '1', 'POST')
READ = Seen(Where.BACK, '1', 'GET', 'volume')
BACK = Seen(Where.BACK, '1', 'POST', 'it')
RESPONDED = Seen(Where.RESPONDED, '1', 'POST', 'it', status=202)
STOPPED = [FRONT, READ]
PASSED = [FRONT, READ, BACK, RESPONDED]


def decided(verdict: str) -> Seen:
    return Seen(Where.DECIDED, '1', 'os-attach', verdict=verdict)


ALLOWED = [*PASSED, decided('allowed')]
REFUSED = [*STOPPED, decided('refused')]
UNKNOWN = [*STOPPED, decided('unknown')]


def sent(
    kind: Kind = OPEN,
    status: int = 202,
    reason: str | None = None,
    *,
    works: bool = True,
    response_to: str | None = '1',
) -> Sent:
    body = {'fault': {'reason': reason}}
    headers = {accounting.RESPONSE_TO: response_to} if response_to else {}
    response = Response(status, headers, body, 0.0)
    return Sent('1', kind, 'it', works, response)


NO_RESPONSE = sent(status=0)
REFUSAL = sent(FORGED, 403, 'policy')
FAILURE = sent(FORGED, 503, 'nova-unknown', works=False)


@pytest.mark.parametrize(
    ('one', 'seen'),
    [
        (sent(), PASSED),
        (sent(NEEDS_NOVA), ALLOWED),
        (sent(NEEDS_NOVA, 503, 'nova-unknown', works=False), UNKNOWN),
        (REFUSAL, REFUSED),
        (sent(FORGED, 403, 'policy', works=False), REFUSED),
        (FAILURE, UNKNOWN),
        (sent(MALFORMED, 400, 'malformed'), [FRONT, decided('malformed')]),
        (sent(MISSING, 404), [*STOPPED, decided('missing')]),
    ],
)
def test_a_request_without_error(one: Sent, seen: list[Seen]) -> None:
    assert accounting.audit([one], seen) == []


@pytest.mark.parametrize(
    ('one', 'seen', 'wrong'),
    [
        (NO_RESPONSE, PASSED, Wrong.NO_RESPONSE),
        (sent(response_to=None), PASSED, Wrong.OTHER_RESPONSE),
        (sent(response_to='2'), PASSED, Wrong.OTHER_RESPONSE),
        (sent(), PASSED[1:], Wrong.FRONT),
        (sent(), [FRONT, *PASSED], Wrong.FRONT),
        (sent(FORGED), PASSED, Wrong.OUTCOME),
        (sent(FORGED, works=False), PASSED, Wrong.OUTCOME),
        (sent(FORGED, 503, 'nova-unknown'), UNKNOWN, Wrong.OUTCOME),
        (sent(NEEDS_NOVA, 403, 'policy', works=False), REFUSED, Wrong.OUTCOME),
        (sent(OPEN, 503, 'nova-unknown', works=False), UNKNOWN, Wrong.OUTCOME),
        (sent(MALFORMED, 403, 'policy'), REFUSED, Wrong.OUTCOME),
        (sent(status=500), PASSED, Wrong.STATUS),
        (REFUSAL, [*REFUSED, BACK], Wrong.LEAKED),
        (FAILURE, [*UNKNOWN, BACK], Wrong.LEAKED),
        (sent(), STOPPED, Wrong.LOST),
        (sent(), [FRONT, Seen(Where.BACK, '1', 'POST', 'cut')], Wrong.LOST),
        (sent(), [*PASSED, BACK, RESPONDED], Wrong.DOUBLED),
        (sent(), [*PASSED, Seen(Where.BACK, '1', 'POST', 'x')], Wrong.ALTERED),
        (
            sent(),
            [
                FRONT,
                BACK,
                Seen(Where.RESPONDED, '1', 'POST', 'it', status=409),
            ],
            Wrong.CHANGED_RESPONSE,
        ),
        (sent(), [*ALLOWED, decided('allowed')], Wrong.LOGGED),
        (sent(), [*PASSED, decided('refused')], Wrong.LOGGED),
        (REFUSAL, STOPPED, Wrong.LOGGED),
        (sent(), [*PASSED, Seen(Where.BACK, None, 'POST')], Wrong.UNSENT),
    ],
)
def test_a_request_with_an_error(
    one: Sent, seen: list[Seen], wrong: Wrong
) -> None:
    findings = accounting.audit([one], seen)
    assert wrong in [finding.wrong for finding in findings]
    assert str(findings[0])


def _samples(*usages: tuple[float, float, float]) -> list[Sample]:
    return [
        Sample(at + 0.5, True, frozenset({1}), Usage(mib, fds, 5, threads))
        for at, (mib, fds, threads) in enumerate(usages)
    ]


@pytest.mark.parametrize(
    ('last', 'grown'),
    [
        ((103, 31, 21), []),
        ((113, 30, 20), ['megabytes']),
        ((100, 43, 20), ['descriptors']),
        ((100, 30, 33), ['threads']),
    ],
)
def test_growth_is_found(
    last: tuple[float, float, float], grown: list[str]
) -> None:
    samples = _samples((50, 9, 9), (100, 30, 20), (100, 30, 20), last)
    wrong = run.check_growth(samples, run.LONG)
    assert [what.split()[0] for what in wrong] == grown


def test_a_process_that_was_replaced_is_found() -> None:
    samples = [
        Sample(at, True, frozenset({1 + at // 6}), Usage(1, 1, 1, 1))
        for at in range(1, 9)
    ]
    assert run.check_growth(samples, run.SHORT) == [
        'processes of the server ended or began'
    ]
    assert run.check_growth([], run.SHORT)


def test_a_plan_has_all_faults_and_the_planned_duration() -> None:
    for planned in run.plan(), run.plan(1800, each=5.0):
        assert planned[0].fault is planned[-1].fault is None
        assert {phase.fault for phase in planned} == {None, *run.FAULTS}
        assert planned[-1].seconds > run.SETTLING
    assert 1700 < sum(phase.seconds for phase in planned) <= 1800
