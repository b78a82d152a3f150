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
                'attachment-complete': 'allowed',
                'attachment-delete': 'refused',
                'os-detach': 'refused',
            },
        ),
        (
            cases.server(cases.UNKNOWN, why='HTTP 503'),
            {
                'os-attach': 'refused',
                'attachment-complete': 'unknown',
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


def test_a_free_volume_can_be_attached_where_nova_has_it() -> None:
    of = cases.case(cases.volume('available'), HAD)
    (attach, _detach) = guard_preview.Guard().decide(of)
    assert (attach.verdict, attach.reason) == ('allowed', 'server-has-volume')


def test_there_is_nothing_to_decide_about_no_volume() -> None:
    assert not list(guard_preview.Guard().decide(cases.case(None, HAD)))
