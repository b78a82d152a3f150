# SPDX-License-Identifier: Apache-2.0
"""The comparison of two runs of Tempest, without a cloud."""

from __future__ import annotations

import dataclasses

import pytest

from tests.tempest import compare
from tests.tempest import selection

PASSED, FAILED = compare.Result.PASSED, compare.Result.FAILED
SKIPPED, MISSING = compare.Result.SKIPPED, compare.Result.MISSING

FORGES = selection.Difference(
    'tempest.api.Volumes.test_forge', 'os-attach', 'server-lacks-volume', 'so'
)
REFUSED = compare.Call(
    'Volumes:test_forge', 'os-attach', 'refused', 'server-lacks-volume'
)


def comparison(
    before: dict[str, compare.Result],
    after: dict[str, compare.Result],
    *calls: compare.Call,
    expected: tuple[selection.Difference, ...] = (),
) -> compare.Comparison:
    return compare.Comparison(
        compare.Run(1.0, before), compare.Run(1.0, after, calls), expected
    )


class TestResults:
    @pytest.mark.parametrize('result', [PASSED, SKIPPED])
    def test_the_same_in_both_runs_is_well(
        self, result: compare.Result
    ) -> None:
        same = comparison({'a.B.c': result}, {'a.B.c': result})
        assert not list(same.problems())
        assert same.passed() == (result is PASSED)

    def test_a_failure_in_both_runs_is_not(self) -> None:
        same = comparison({'a.B.c': FAILED}, {'a.B.c': FAILED})
        assert len(list(same.problems())) == 1
        assert same.passed() == 0

    @pytest.mark.parametrize(
        ('before', 'after'),
        [(PASSED, FAILED), (FAILED, PASSED), (PASSED, SKIPPED)],
    )
    def test_a_difference_that_nobody_expects_is_not(
        self, before: compare.Result, after: compare.Result
    ) -> None:
        (problem,) = comparison({'a.B.c': before}, {'a.B.c': after}).problems()
        assert problem.startswith('a.B.c')

    def test_a_test_that_only_one_run_has_is_not(self) -> None:
        (problem,) = comparison({'a.B.c': PASSED}, {}).problems()
        assert MISSING.value in problem


class TestExpectedDifferences:
    def test_one_that_comes_of_the_named_refusal_is_well(self) -> None:
        differs = comparison(
            {FORGES.test: PASSED},
            {FORGES.test: FAILED},
            REFUSED,
            expected=(FORGES,),
        )
        assert not list(differs.problems())
        assert differs.passed() == 1

    @pytest.mark.parametrize(
        ('before', 'after'),
        [(PASSED, PASSED), (FAILED, FAILED), (SKIPPED, SKIPPED)],
    )
    def test_one_that_is_none_any_more_is_not(
        self, before: compare.Result, after: compare.Result
    ) -> None:
        same = comparison(
            {FORGES.test: before},
            {FORGES.test: after},
            REFUSED,
            expected=(FORGES,),
        )
        assert len(list(same.problems())) == 1

    def test_one_whose_test_is_gone_is_not(self) -> None:
        (problem,) = comparison({}, {}, expected=(FORGES,)).problems()
        assert problem.startswith(FORGES.test)

    @pytest.mark.parametrize(
        'call',
        [
            dataclasses.replace(REFUSED, operation='os-detach'),
            dataclasses.replace(REFUSED, verdict='allowed'),
            dataclasses.replace(REFUSED, test='Volumes:test_other'),
        ],
    )
    def test_one_that_comes_of_something_else_is_not(
        self, call: compare.Call
    ) -> None:
        differs = comparison(
            {FORGES.test: PASSED},
            {FORGES.test: FAILED},
            call,
            expected=(FORGES,),
        )
        assert len(list(differs.problems())) == 1


class TestCalls:
    def test_nova_is_always_let_through(self) -> None:
        call = compare.Call(None, 'attachment-delete', 'refused', 'x')
        assert len(list(comparison({}, {}, call).problems())) == 1

    def test_the_guard_always_knows_an_answer(self) -> None:
        call = compare.Call('A:b', 'os-detach', 'unknown', 'nova-unknown')
        assert len(list(comparison({}, {}, call).problems())) == 1

    def test_a_refusal_that_a_test_wants_is_well(self) -> None:
        call = compare.Call('A:b', 'os-detach', 'refused', 'x')
        assert not list(
            comparison({'a.A.b': PASSED}, {'a.A.b': PASSED}, call).problems()
        )


class TestSelection:
    SELECTION = selection.Selection(
        ('^a\\.',), (), (selection.Exclusion('B', 'so'),), ()
    )

    def test_what_is_excluded_is_not_chosen(self) -> None:
        chosen = self.SELECTION.choose(['a.A.c', 'a.B.c', 'b.A.c'])
        assert chosen == (['a.A.c'], [])

    def test_an_exclusion_of_nothing_is_told(self) -> None:
        assert self.SELECTION.choose(['a.A.c', 'b.B.c'])[1] == ['B']

    def test_what_is_to_differ_is_chosen(self) -> None:
        chosen = selection.load()
        tests = [entry.test for entry in chosen.differences]
        assert chosen.choose(tests)[0] == tests
