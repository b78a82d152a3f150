# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the audit measures what it reports.

It does not run here, because it takes minutes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest

from benchmarks import audit
from benchmarks import cloud

_COST = audit.Cost(cpu=1.0, wall=2.0, peak=100.0, pages=7, beyond=1)
_SMALL = audit.Result(
    1000, 500, 10, _COST, dataclasses.replace(_COST, cpu=1.4, beyond=15)
)
_LARGE = audit.Result(
    10_000,
    5000,
    10,
    dataclasses.replace(_COST, cpu=10.0, wall=20.0),
    dataclasses.replace(_COST, cpu=14.0, wall=20.0, peak=200.0),
)


def test_an_audit_finds_what_is_planted_among_the_copies() -> None:
    planted = len(cloud.KINDS)
    result = audit.measure_size(700, planted, 1)
    assert result.suspects == planted
    # Of each list the pages of copies, the stub's own, and an empty one of
    # those without links.
    assert result.reading.pages == 3 + 3 + 3
    # An audit reads several short lists of volumes in place of a long one.
    assert result.audit.pages == 15
    assert result.reading.beyond == 1
    assert result.audit.cpu > result.reading.cpu > 0


def test_a_program_that_fails_is_not_measured() -> None:
    with audit.serving(1, 0) as served:
        with pytest.raises(audit.Failed, match='exited with 5'):
            served.run([sys.executable, '-c', 'raise SystemExit(5)'], [0])


@pytest.mark.parametrize(
    ('change', 'exceeded'),
    [
        ({}, ''),
        ({'cpu': 15.1}, 'audit / plain reader: CPU'),
        ({'wall': 30.1}, 'audit / plain reader: wall time'),
        ({'peak': 401.0}, 'peak memory: MB'),
        ({'beyond': 41}, '10,000 volumes: other requests'),
        ({'pages': 8}, '10,000 volumes: pages'),
        ({'cpu': 16.2}, 'growth of CPU time, 10.0 times the size'),
        ({'peak': 320.0}, 'growth of peak memory, 10.0 times the size'),
    ],
)
def test_a_high_value_exceeds_its_bound(
    change: dict[str, Any], exceeded: str
) -> None:
    large = dataclasses.replace(
        _LARGE, audit=dataclasses.replace(_LARGE.audit, **change)
    )
    bounds = audit.evaluate([_SMALL, large]).bounds
    texts = [bound.text for bound in bounds if not bound.holds]
    assert exceeded in texts if exceeded else texts == []


def test_missing_and_additional_findings_fail() -> None:
    row = {'Class': 'c', 'Volume': 'v', 'Attachment': 'a', 'Server': 's'}
    audit.compare(json.dumps([row]), {('c', 'v', 'a', 's')})
    with pytest.raises(audit.Failed, match='not found'):
        audit.compare('[]', {('c', 'v', 'a', 's')})
    with pytest.raises(audit.Failed, match='not planted'):
        audit.compare(json.dumps([row]), set())
