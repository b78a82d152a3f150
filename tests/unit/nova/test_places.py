# SPDX-License-Identifier: Apache-2.0

"""Which project gets a place for a query."""

from __future__ import annotations

import pytest

from attachguard.nova import places


def test_one_project_leaves_half_of_the_places_to_others() -> None:
    found = places.Places(16)
    assert [found.acquire('one') for _ in range(10)] == [True] * 8 + [
        False
    ] * 2
    assert found.acquire('another')
    found.release('one')
    assert found.acquire('one')
    assert not found.acquire('one')


def test_all_projects_together_hold_no_more_than_there_are() -> None:
    found = places.Places(4)
    taken = [found.acquire(str(number)) for number in range(6)]
    assert taken == [True] * 4 + [False] * 2
    found.release('0')
    assert found.acquire('5')


@pytest.mark.parametrize('limit', [1, 2, 3])
def test_a_project_can_always_have_one(limit: int) -> None:
    found = places.Places(limit)
    assert found.acquire('one')
    assert found.acquire('two') is (limit > 1)
