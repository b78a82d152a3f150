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
"""What is written into the documentation is what was measured."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from benchmarks import crowd
from benchmarks import report

# Where a release of Cinder is tested, nothing is drawn and nothing served.
growth = pytest.importorskip('benchmarks.growth')
page = pytest.importorskip('benchmarks.page')


def _turn(at_once: int, delay: float, **changes: Any) -> crowd.Turn:
    values = {
        'rate': 500.0,
        'half': 30.0,
        'p99': 60.0,
        'cpu': 1500.0,
        'asked': 1.0,
        'connections': 0,
        'failed': 0,
    }
    return crowd.Turn('guard', at_once, delay, **{**values, **changes})


def _report(**changes: Any) -> report.Report:
    turns = [_turn(1, 0.02), _turn(64, 0.02, **changes)]
    found: report.Report = growth._report(
        {crowd.THREADS: turns, crowd.GREENTHREADS: turns},
        [_turn(64, 0.0), _turn(64, 2.0)],
        [
            growth.Served(1, 40.0, 3000.0, 1.0, 4),
            growth.Served(4, 160.0, 3000.0, 1.0, 16),
        ],
        {'0': {'credentials': 1000.0, 'caller': 1100.0}},
    )
    return found


def test_what_is_affordable() -> None:
    assert [str(it) for it in _report().bounds if not it.holds] == []


@pytest.mark.parametrize(
    'changes',
    [
        {'asked': 1.1},
        {'connections': 1},
        {'failed': 1},
        {'cpu': 1500.0 * growth.MOST_GROWTH + 1},
    ],
    ids=str,
)
def test_what_is_not(changes: dict[str, Any]) -> None:
    assert not all(bound.holds for bound in _report(**changes).bounds)


def _found() -> dict[str, Any]:
    tables = [report.Table('A table', ('it', 'µs'), [('this', '7')], 'Note.')]
    passing = report.Report(
        {
            'added': {'attachguard': 0.25, 'oslo.middleware cors': 25.0},
            'bytecodes': {'attachguard': 22},
            'cinder': {'GET /v3/': 1000.0},
        },
        tables,
        [report.Bound('passing', 1, 2)],
        ['requests'],
    )
    asking = report.Report(
        {
            'cpu': {
                'requests.Session, GET': 1000.0,
                'guarded request, with credentials': 900.0,
                'guarded request, as the caller': 1100.0,
            }
        },
        [],
        [],
        ['requests'],
    )
    return {
        'passing': passing.to_json(),
        'asking': asking.to_json(),
        'growth': _report().to_json(),
    }


def test_the_page_has_the_figures(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, file in (
        ('README', 'README.rst'),
        ('PAGE', 'speed.rst'),
        ('PLOT', 'speed.svg'),
    ):
        monkeypatch.setattr(page, name, tmp_path / file)
    page.README.write_text(f'Before.\n{page.MARK}\nOld.\n')
    page.write(_found())
    readme, written = page.README.read_text(), page.PAGE.read_text()
    assert readme.startswith('Before.\n')
    assert 'Old' not in readme
    assert '* ok passing: 1 of 2' in readme
    assert 'costs 22 bytecodes' in written
    assert '0.25 µs: 1.0% of' in written
    assert 'takes 0.90 times' in written
    assert 'this   7' in written
    drawn = page.PLOT.read_text()
    assert 'requests at once' in drawn
    # The same again is no change.
    page.write(_found())
    assert page.PLOT.read_text() == drawn
    assert page.README.read_text() == readme
