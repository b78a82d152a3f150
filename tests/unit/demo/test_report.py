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

"""The conclusion of the demo is drawn from what happened, and only that."""

from __future__ import annotations

import dataclasses

import pytest

from attachguard.demo import report
from attachguard.demo import story
from attachguard.demo.story import Kind
from attachguard.demo.story import Verdict

ACCEPTED = story.Answer(202)
REFUSED = story.Answer(403, 'server-lacks-volume', 'The server lacks it.')


def step(
    kind: Kind, answer: story.Answer | None, verdict: Verdict
) -> story.Step:
    return story.Step(
        kind, 'call()', answer, 'available', 'MyVm has no volume', verdict
    )


WITHOUT = [
    step(Kind.SETTING, ACCEPTED, Verdict.FREE),
    step(Kind.FORGERY, ACCEPTED, Verdict.FORGED),
    step(Kind.COMPUTE_API, ACCEPTED, Verdict.ATTACHED),
    step(Kind.FORGERY, ACCEPTED, Verdict.HELD),
    step(Kind.FORGERY, story.Answer(204), Verdict.FORGED),
]
GUARDED = [
    step(Kind.SETTING, ACCEPTED, Verdict.FREE),
    step(Kind.FORGERY, REFUSED, Verdict.FREE),
    step(Kind.COMPUTE_API, ACCEPTED, Verdict.ATTACHED),
    step(Kind.FORGERY, REFUSED, Verdict.FREE),
    step(Kind.FORGERY, None, Verdict.FREE),
]


def changed(
    steps: list[story.Step],
    number: int,
    answer: story.Answer,
    verdict: Verdict,
) -> list[story.Step]:
    result = list(steps)
    result[number] = dataclasses.replace(
        steps[number], answer=answer, verdict=verdict
    )
    return result


def test_story_as_promised() -> None:
    assert report.is_as_promised(WITHOUT, GUARDED)
    text = report.render(WITHOUT, GUARDED)
    assert '403 server-lacks-volume' in text
    assert '(there is no attachment)' in text
    assert '2 of 2 attempts were refused' in text
    assert text.endswith('The guard has done what it promises.\n')


@pytest.mark.parametrize(
    ('without', 'guarded', 'broken'),
    [
        pytest.param(
            changed(WITHOUT, 1, ACCEPTED, Verdict.FREE),
            GUARDED,
            0,
            id='nothing forged without the guard',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 1, ACCEPTED, Verdict.FORGED),
            1,
            id='forged with it',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 3, ACCEPTED, Verdict.HELD),
            1,
            id='held with it',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 3, REFUSED, Verdict.HELD),
            1,
            id='refused but held all the same',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 1, story.Answer(403), Verdict.FREE),
            1,
            id='refused by someone else',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 2, story.Answer(400), Verdict.FREE),
            2,
            id='attach through Nova broken',
        ),
    ],
)
def test_broken_promise_is_told(
    without: list[story.Step], guarded: list[story.Step], broken: int
) -> None:
    kept = [is_kept for _, is_kept in report.promises(without, guarded)]
    assert kept == [number != broken for number in range(3)]
    assert not report.is_as_promised(without, guarded)
    text = report.render(without, guarded)
    assert text.count('[NOT SO]') == 1
    assert text.endswith('The guard has NOT done what it promises.\n')


def test_same_refusal_is_quoted_once() -> None:
    assert report.refusals(GUARDED) == '  403 The server lacks it.'


def test_narrow_terminal() -> None:
    lines = report.table(WITHOUT, GUARDED, 60).splitlines()
    assert max(map(len, lines)) <= 60
