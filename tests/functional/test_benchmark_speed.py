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
"""The benchmarks of the guard measure what they say.

They do not run here, but for what is a count: that holds on any machine, at
any time.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from benchmarks import __main__ as everything
from benchmarks import asking
from benchmarks import cost
from benchmarks import crowd
from benchmarks import guarded
from benchmarks import neighbours
from benchmarks import passing
from benchmarks import report

# What is measured beside the guard is the newest of everything, too.
pytestmark = pytest.mark.newest


@pytest.fixture(scope='module')
def nearby() -> Iterator[neighbours.Neighbours]:
    with neighbours.served() as served:
        yield served


@pytest.fixture(scope='module')
def people(nearby: neighbours.Neighbours) -> guarded.People:
    return guarded.People(nearby)


class TestBytecodes:
    def test_each_line_more_is_more(self) -> None:
        def short() -> int:
            return 1

        def long() -> int:
            one = 1
            return one + one

        one = cost.bytecodes(lambda: short())
        assert 0 < one < 5
        assert cost.bytecodes(lambda: long()) > one
        assert cost.bytecodes(lambda: (short(), short())) == 2 * one

    def test_what_is_called_counts_unless_it_is_left_out(self) -> None:
        def inner() -> int:
            total = 0
            for number in range(100):
                total += number
            return total

        def outer() -> int:
            return inner()

        within = cost.bytecodes(lambda: outer(), [inner.__code__])
        assert cost.bytecodes(lambda: outer()) > within + 100

    def test_whoever_traced_before_does_so_again(self) -> None:
        def trace(*_args: Any) -> None:
            return None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            cost.bytecodes(lambda: None)
            assert sys.gettrace() is trace
        finally:
            sys.settrace(before)


def test_the_least_of_calls_that_take_turns() -> None:
    turns: list[str] = []
    found = cost.least(
        {name: lambda name=name: turns.append(name) for name in 'ab'},  # type: ignore[misc]
        rounds=2,
        seconds=0.0001,
    )
    assert list(found) == ['a', 'b']
    assert 0 < found['a'] < float('inf')
    changes = [
        after
        for before, after in zip(turns, turns[1:], strict=False)
        if before != after
    ]
    # Once each to find out how often, and twice each in turn.
    assert changes == ['b', 'a', 'b', 'a', 'b']


@pytest.mark.parametrize('name', passing.PASSING)
def test_what_passes_costs_few_bytecodes(name: str) -> None:
    method, path, body = passing.PASSING[name]
    environ = guarded.request(method, path, body)
    counts = {
        what: cost.bytecodes(
            passing.call(application, environ, body), passing.NOT_ITS_OWN
        )
        for what, application in (
            ('bare', passing.bare),
            ('guard', guarded.guard(passing.bare)),
        )
    }
    assert counts['bare'] == 0
    assert 0 < counts['guard'] <= passing.MOST_BYTECODES


@pytest.mark.parametrize('name', passing.ACTIONS)
def test_the_length_of_what_is_not_guarded_does_not_count(name: str) -> None:
    method, path, body = passing.ACTIONS[name]
    environ = guarded.request(method, path, body)
    guard = guarded.guard(passing.bare)
    call = passing.call(guard, environ, body)
    # And it is the action that is told apart, not a way around.
    assert 50 < cost.bytecodes(call, passing.NOT_ITS_OWN) < 400


def test_bodies_are_as_long_as_they_are_called() -> None:
    assert [len(body) for __, __, body in passing.ACTIONS.values()][:3] == [
        100,
        10_000,
        100_000,
    ]


def test_filters_that_are_measured() -> None:
    found = passing.oslo_filters()
    assert {name.removeprefix('oslo.middleware ') for name in found} == {
        'catch_errors',
        'correlation_id',
        'cors',
        'http_proxy_to_wsgi',
        'request_id',
        'sizelimit',
        'stats',
        'tracing',
    }


def test_nova_says_what_the_stub_says(
    nearby: neighbours.Neighbours, people: guarded.People
) -> None:
    guard = guarded.guard(**guarded.with_credentials(nearby))
    before = nearby.counts()
    assert guard.nova.attached(None, guarded.new_id(), guarded.new_id())
    asked = nearby.counts().since(before)
    assert (asked.questions, asked.connections) == (1, 1)


def test_a_guarded_request_asks_once(
    nearby: neighbours.Neighbours, people: guarded.People
) -> None:
    asked = asking.counts(nearby, people)
    assert len(asked) == 5
    assert [
        str(bound) for bound in asking.count_bounds(asked) if not bound.holds
    ] == []


def test_what_asks_too_often_is_noticed() -> None:
    too_often = {
        'with credentials, the first': neighbours.Counts(1, 1, 1, 2),
        'with credentials, ten more': neighbours.Counts(1, 11, 1, 0),
        'ten of a service': neighbours.Counts(0, 1, 1, 0),
    }
    bounds = asking.count_bounds(too_often)
    assert [bound.holds for bound in bounds] == [False] * 4


@pytest.mark.parametrize('on', [crowd.THREADS, crowd.GREENTHREADS])
def test_many_at_once_ask_once_each_on_what_is_open(
    nearby: neighbours.Neighbours, on: str
) -> None:
    job = crowd.Job((crowd.GUARD, crowd.KEYSTONEAUTH), 16, 2, 0.05)
    nearby.delay(0)
    guard, peer = crowd.gather(nearby, on, [job])
    assert (guard.who, peer.who) == (crowd.GUARD, crowd.KEYSTONEAUTH)
    assert guard.connections == 0
    assert guard.asked + guard.failed / 32 == 1
    assert peer.asked == 1
    # It waits for Nova, as all of them do at once.
    assert guard.half >= 50


def test_a_request_that_is_refused_is_not_measured(
    people: guarded.People,
) -> None:
    # It names no server.
    body = b'{"os-attach": {"host_name": "host", "mountpoint": "/dev/vdb"}}'
    path = f'/volumes/{guarded.new_id()}/action'
    environ = people.authenticated('POST', path, body)
    with pytest.raises(guarded.Refused, match='403'):
        guarded.send(guarded.guard(), environ, body)


class TestReport:
    @pytest.mark.parametrize(
        ('bound', 'text'),
        [
            (report.Bound('it', 1, 1), 'ok          it: 1 of 1'),
            (report.Bound('it', 1.1, 1), 'TOO MUCH    it: 1.10 of 1'),
            (
                report.Bound('it', 1, least=1.1),
                'TOO LITTLE  it: 1 of at least 1.10',
            ),
            (report.Bound('it', 0, 1, 1), 'TOO LITTLE  it: 0 of at least 1'),
            (
                report.Bound('it', 0.012, 0.05),
                'ok          it: 0.0120 of 0.05',
            ),
        ],
    )
    def test_a_bound_says_what_is_wrong(
        self, bound: report.Bound, text: str
    ) -> None:
        assert str(bound).startswith(text)
        assert bound.to_json()['holds'] is text.startswith('ok')

    def test_a_table(self) -> None:
        table = report.Table('T', ('', 'µs'), [('a name', '1'), ('b', '10')])
        assert table.text().split('\n') == [
            'T',
            '',
            '        µs',
            'a name   1',
            'b       10',
        ]
        rule, *__, last = table.rst().split('\n')
        assert rule == last == '======  =='


class TestAll:
    def test_what_does_not_hold(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bounds = [report.Bound('a', 2, 1), report.Bound('b', 1, 1)]
        found = report.Report({}, [], bounds, ('requests',)).to_json()
        kept = tmp_path / 'found.json'
        report.write(kept, {'passing': found})
        assert everything.main(['--from', str(kept)]) == 0
        assert everything.main(['--from', str(kept), '--check']) == 1
        assert 'does not hold: passing: a\n' in capsys.readouterr().out

    def test_a_page_of_half_the_figures_is_not_written(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            everything.main(['--only', 'passing', '--write-docs'])
        assert 'asking' in capsys.readouterr().err

    def test_a_quick_run(self, tmp_path: pathlib.Path) -> None:
        kept = tmp_path / 'found.json'
        subprocess.run(
            [
                *(sys.executable, '-m', 'benchmarks', '--only', 'passing'),
                *('--quick', '--json', kept),
            ],
            check=True,
        )
        found = json.loads(kept.read_text())['passing']
        assert found['versions']['cinder']
        assert 0 < found['results']['bytecodes']['attachguard'] <= 60
        assert set(passing.PASSING) <= set(found['results']['requests'])
        assert found['results']['cinder']['GET /v3/'] > 0
        assert len(found['bounds']) == 5
