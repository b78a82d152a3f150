# SPDX-License-Identifier: Apache-2.0

"""What the guard would decide about a volume."""

from __future__ import annotations

import pytest

from attachguard.audit import guard_preview
from attachguard.audit import model
from tests.unit.audit import cases

HAD = cases.server(cases.HAS, cases.FIRST)


@pytest.mark.parametrize(
    ('server', 'verdicts'),
    [
        (
            cases.server(cases.GONE),
            {
                'os-attach': 'refused',
                'attachment-complete': 'refused',
                'attachment-delete': 'allowed',
                'os-detach': 'allowed',
            },
        ),
        (
            HAD,
            {
                'os-attach': 'refused',
                'attachment-complete': 'refused',
                'attachment-delete': 'refused',
                'os-detach': 'refused',
            },
        ),
        (
            cases.server(cases.UNKNOWN, why='HTTP 503'),
            {
                'os-attach': 'unknown',
                'attachment-complete': 'refused',
                'attachment-delete': 'unknown',
                'os-detach': 'unknown',
            },
        ),
    ],
    ids=['forged', 'live', 'unknown'],
)
def test_its_own_rules_decide(
    server: model.Server, verdicts: dict[str, str]
) -> None:
    of = cases.case(cases.volume(), cases.attachment(), server)
    decided = list(guard_preview.Guard().decide(of))
    assert {d.call.split()[0]: d.verdict for d in decided} == verdicts
    assert all(d.reason for d in decided)


def test_a_member_cannot_record_what_nova_has() -> None:
    of = cases.case(cases.volume('available'), cases.server(cases.HAS))
    (attach, detach) = guard_preview.Guard().decide(of)
    assert (attach.verdict, attach.reason) == ('refused', 'policy')
    # Cinder has no attachment to clear.
    assert detach.verdict == 'allowed'


def test_there_is_nothing_to_decide_about_no_volume() -> None:
    assert not list(guard_preview.Guard().decide(cases.case(None, HAD)))
