# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of an outage makes of the calls that it has sent."""

from __future__ import annotations

import math

import pytest

from benchmarks import outage
from benchmarks import outage_load
from benchmarks.outage_load import Call

BEGIN, END, UNTIL = 100.0, 110.0, 115.0
WELL = outage_load.Measured(
    outage_load.Times(10, 20),
    outage_load.Times(10, 20),
    outage_load.Times(10, 20),
    waited=0,
    probes_failed=0,
    errors=0,
    recovery=0.0,
    waited_after=0,
)


def evaluate(*calls: Call) -> outage_load.Measured:
    return outage_load.evaluate(calls, BEGIN, END, UNTIL)


def test_the_first_three_seconds_are_not_in_the_times_of_others() -> None:
    found = evaluate(
        Call('unguarded', 101, 2.0, 200),
        *(Call('unguarded', 104 + n, 0.01, 200) for n in range(5)),
        Call('guarded', 101, 2.0, 503, 'nova-unknown'),
    )
    assert found.unguarded.p99 == pytest.approx(10)
    assert math.isnan(found.service.p99)
    assert found.guarded.p99 == 2000


def test_a_call_has_waited_if_it_has_queried() -> None:
    found = evaluate(
        Call('guarded', 101, 2.0, 503, 'nova-unknown'),
        # Behind the one before, in a process with one thread.
        Call('guarded', 101.5, 1.5, 503, 'nova-down'),
        Call('guarded', 111, 2.0, 503, 'nova-unknown'),
    )
    assert (found.waited, found.waited_after) == (1, 1)


def test_recovery_lasts_until_the_last_call_without_a_decision() -> None:
    found = evaluate(
        Call('guarded', 109, 0.0, 503, 'nova-down'),
        Call('guarded', 110.2, 0.0, 403),
        Call('guarded', 110.5, 0.0, 503, 'nova-down'),
        Call('guarded', 111, 0.0, 403),
        Call('guarded', 116, 0.0, 503),
    )
    assert found.recovery == pytest.approx(0.5)


def test_probes_that_fail_in_a_row() -> None:
    statuses = [200, 0, 0, 200, 503, 0, 0, 200]
    probes = [
        Call('probe', 101 + n, 0.0, status)
        for n, status in enumerate(statuses)
    ]
    # Calls are recorded when they end.
    assert evaluate(*reversed(probes)).probes_failed == 3


def test_calls_of_others_that_fail() -> None:
    found = evaluate(
        Call('unguarded', 101, 0.0, 0),
        Call('service', 101, 0.0, 500),
        Call('service', 101, 0.0, 404),
        Call('guarded', 101, 0.0, 503),
    )
    assert found.errors == 2


@pytest.mark.parametrize(
    ('situation', 'change'),
    [
        ('hung', {'unguarded': outage_load.Times(10, 51)}),
        ('500', {'probes_failed': 3}),
        ('drips', {'errors': 1}),
        ('hung', {'recovery': 3.1}),
        ('Keystone hung', {'waited_after': 1}),
        ('hung', {'waited': 6}),
        ('Nova well', {'waited': 1}),
    ],
)
def test_a_bound_is_exceeded(
    situation: str, change: dict[str, object]
) -> None:
    well = outage.Row('uwsgi-5x1', situation, 5.0, WELL)
    assert all(bound.holds for bound in well.bounds(WELL))
    changed = outage_load.Measured(**{**vars(WELL), **change})
    row = outage.Row('uwsgi-5x1', situation, 5.0, changed)
    assert [bound.holds for bound in row.bounds(WELL)].count(False) == 1


def test_the_page_has_a_table_for_each_server() -> None:
    rows = [
        outage.Row(shape, situation, rate, WELL)
        for shape, situations in outage.SHAPES.items()
        for situation in situations
        for rate in outage.RATES
    ]
    page = outage.page(rows, {'Python': '3.11'})
    assert page.count('.. list-table::') == len(outage.SHAPES)
    assert page.count('hung for 60 s') == 6
