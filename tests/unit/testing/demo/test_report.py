# SPDX-License-Identifier: Apache-2.0

"""The report of the demonstration follows from its steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from attachguard.testing.demo import cleanup
from attachguard.testing.demo import report
from attachguard.testing.demo import story
from attachguard.testing.demo.story import Kind
from attachguard.testing.demo.story import Verdict

ACCEPTED = story.Response(202)
REFUSED = story.Response(403, 'server-lacks-volume', 'The server lacks it.')
FOUND = cleanup.Command('attachguard audit --once', 3, 'Volume VOL')
REPAIRED = cleanup.Command('attachguard repair --once --yes', 4, 'VOL')
FREED = cleanup.Cleanup(FOUND, REPAIRED, 'VOL', 'available')


def step(
    kind: Kind, response: story.Response | None, verdict: Verdict
) -> story.Step:
    return story.Step(
        kind, 'call()', response, 'available', 'not attached', verdict
    )


WITHOUT = [
    step(Kind.SETTING, ACCEPTED, Verdict.AVAILABLE),
    step(Kind.FORGERY, ACCEPTED, Verdict.FORGED),
    step(Kind.COMPUTE_API, ACCEPTED, Verdict.ATTACHED),
    step(Kind.FORGERY, ACCEPTED, Verdict.RESERVED),
    step(Kind.FORGERY, story.Response(204), Verdict.FORGED),
]
GUARDED = [
    step(Kind.SETTING, ACCEPTED, Verdict.AVAILABLE),
    step(Kind.FORGERY, REFUSED, Verdict.AVAILABLE),
    step(Kind.COMPUTE_API, ACCEPTED, Verdict.ATTACHED),
    step(Kind.FORGERY, REFUSED, Verdict.AVAILABLE),
    step(Kind.FORGERY, None, Verdict.AVAILABLE),
]


def changed(
    steps: list[story.Step],
    number: int,
    response: story.Response,
    verdict: Verdict,
) -> list[story.Step]:
    result = list(steps)
    result[number] = dataclasses.replace(
        steps[number], response=response, verdict=verdict
    )
    return result


def test_all_claims_are_met() -> None:
    assert report.is_successful(WITHOUT, GUARDED, FREED)
    text = report.render(WITHOUT, GUARDED, FREED)
    assert '403 server-lacks-volume' in text
    assert '(no call: there is no attachment)' in text
    assert '2 of 2 forged attachments were refused' in text
    assert '$ attachguard audit --once\n  Volume VOL\n' in text
    assert text.endswith('The guard and the audit work.\n')


@pytest.mark.parametrize(
    ('without', 'guarded', 'failed'),
    [
        pytest.param(
            changed(WITHOUT, 1, ACCEPTED, Verdict.AVAILABLE),
            GUARDED,
            0,
            id='no attachment is forged without the guard',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 1, ACCEPTED, Verdict.FORGED),
            1,
            id='an attachment is forged with the guard',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 3, ACCEPTED, Verdict.RESERVED),
            1,
            id='the volume is reserved with the guard',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 3, REFUSED, Verdict.RESERVED),
            1,
            id='refused, but the volume is reserved',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 1, story.Response(403), Verdict.AVAILABLE),
            1,
            id='refused by Cinder',
        ),
        pytest.param(
            WITHOUT,
            changed(GUARDED, 2, story.Response(400), Verdict.AVAILABLE),
            2,
            id='Nova cannot attach',
        ),
    ],
)
def test_a_claim_is_not_met(
    without: list[story.Step], guarded: list[story.Step], failed: int
) -> None:
    claims = [is_met for _, is_met in report.claims(without, guarded, FREED)]
    assert claims == [number != failed for number in range(4)]
    assert not report.is_successful(without, guarded, FREED)
    text = report.render(without, guarded, FREED)
    assert text.count('[FAILED]') == 1
    assert text.endswith('The guard and the audit DO NOT WORK.\n')


@pytest.mark.parametrize(
    'change',
    [
        {'audit': dataclasses.replace(FOUND, exit_code=0)},
        {'audit': dataclasses.replace(FOUND, output='another volume')},
        {'repair': dataclasses.replace(REPAIRED, exit_code=1)},
        {'status': 'in-use'},
    ],
)
def test_the_volume_is_not_freed(change: Any) -> None:
    freed = dataclasses.replace(FREED, **change)
    claims = [is_met for _, is_met in report.claims(WITHOUT, GUARDED, freed)]
    assert claims == [True, True, True, False]


def test_the_same_error_message_is_quoted_once() -> None:
    assert report.refusals(GUARDED) == '  403 The server lacks it.'


def test_the_table_fits_into_a_narrow_terminal() -> None:
    lines = report.table(WITHOUT, GUARDED, 60).splitlines()
    assert max(map(len, lines)) <= 60
