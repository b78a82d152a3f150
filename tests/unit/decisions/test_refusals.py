# SPDX-License-Identifier: Apache-2.0

"""Who is refused what, how often, since when."""

from __future__ import annotations

from attachguard.decisions import refusals
from tests.unit.decisions import lines

decision = lines.decision


def test_requests_of_one_client_are_a_group() -> None:
    found = refusals.collect(
        [
            decision(time='2026-01-02T00:00:00.000+00:00'),
            decision(time='2026-01-01T00:00:00.000+00:00', enforced=True),
            decision(user_agent='other'),
            decision(verdict='allowed'),
            decision(verdict='unknown'),
        ]
    )
    assert found.left_out == 0
    assert found.groups == [
        refusals.Group(
            lines.RULE,
            'server-has-volume',
            'p1',
            'u1',
            'client/1',
            frozenset(['cinder:same_volume']),
            count=2,
            enforced=1,
            first='2026-01-01T00:00:00.000+00:00',
            last='2026-01-02T00:00:00.000+00:00',
        ),
        refusals.Group(
            lines.RULE,
            'server-has-volume',
            'p1',
            'u1',
            'other',
            frozenset(['cinder:same_volume']),
            count=1,
            first='2026-01-02T03:04:05.000+00:00',
            last='2026-01-02T03:04:05.000+00:00',
        ),
    ]


def test_the_checks_are_those_that_were_true_each_time() -> None:
    [group] = refusals.collect(
        [
            decision(checks={'a': True, 'b': True, 'c': False}),
            decision(checks={'a': True, 'b': False, 'c': True}),
        ]
    ).groups
    assert group.checks == {'a'}
    [group] = refusals.collect([decision(checks=None)]).groups
    assert group.checks == frozenset()


def test_a_client_that_changes_its_name_takes_bounded_memory() -> None:
    found = refusals.collect(
        decision(user_agent=f'client/{number}') for number in range(1000)
    )
    assert len(found.groups) == refusals.CLIENT_LIMIT + 1
    assert found.groups[0].client == refusals.OTHER_CLIENTS
    assert sum(group.count for group in found.groups) == 1000


def test_many_users_take_bounded_memory() -> None:
    found = refusals.collect(
        (decision(user_id=f'u{number}') for number in range(100)), limit=10
    )
    assert (len(found.groups), found.left_out) == (10, 90)


def test_a_line_without_its_fields_is_a_group_too() -> None:
    [group] = refusals.collect([{'verdict': 'refused', 'user_id': 1}]).groups
    assert (group.rule, group.user_id, group.count) == ('', '', 1)
