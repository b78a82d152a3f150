# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of the guard measure what they report."""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import threading

import pytest

from benchmarks import __main__ as command
from benchmarks import burst
from benchmarks import cost
from benchmarks import fixtures
from benchmarks import pass_through
from benchmarks import query
from benchmarks import report
from benchmarks import services

# The peers are measured in their newest releases only.
pytestmark = pytest.mark.newest


@pytest.fixture(scope='module')
def nearby() -> Iterator[services.Services]:
    with services.served() as served:
        yield served


@pytest.fixture(scope='module')
def auth_token(nearby: services.Services) -> fixtures.AuthToken:
    return fixtures.AuthToken(nearby)


def test_called_functions_count_unless_left_out() -> None:
    def inner() -> int:
        total = 0
        for number in range(100):
            total += number
        return total

    def outer() -> int:
        return inner()

    assert 0 < cost.bytecodes(lambda: outer(), [inner.__code__]) < 10
    assert cost.bytecodes(lambda: outer()) > 100


def test_the_bytecodes_of_other_threads_count() -> None:
    def inner() -> None:
        for _number in range(100):
            pass

    def outer() -> None:
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    without = cost.bytecodes(lambda: outer(), [inner.__code__])
    assert cost.bytecodes(lambda: outer()) >= without + 200


def test_a_request_that_is_not_guarded_takes_few_bytecodes() -> None:
    guard = fixtures.guard(pass_through.bare)
    limit = pass_through.MOST_BYTECODES
    for method, path, body in pass_through.NOT_GUARDED.values():
        environ = fixtures.request(method, path, body)
        bare = pass_through.call(pass_through.bare, environ, body)
        call = pass_through.call(guard, environ, body)
        assert cost.bytecodes(bare, pass_through.NOT_OF_FILTER) == 0
        assert 0 < cost.bytecodes(call, pass_through.NOT_OF_FILTER) <= limit


def test_the_peer_is_the_cheapest_filter_of_the_same_run() -> None:
    assert len(pass_through.oslo_filters()) == 8
    by_request = dict.fromkeys(
        (
            *pass_through.NOT_GUARDED,
            *pass_through.EXTEND,
            pass_through.SERVICE,
        ),
        (3.0, 20),
    )
    found = pass_through.evaluate(
        {'attachguard': (1.0, 20), 'expensive': (90.0, 5), 'cheap': (60.0, 9)},
        by_request,
    )
    values = {bound.text.partition(':')[0]: bound for bound in found.bounds}
    assert values['os-extend'].value == pytest.approx(3 / 60)
    assert not values['pass-through'].holds


def test_a_refused_request_is_not_measured(
    auth_token: fixtures.AuthToken,
) -> None:
    body = b'{"os-attach": {"host_name": "host", "mountpoint": "/dev/vdb"}}'
    path = f'/volumes/{fixtures.new_id()}/action'
    environ = auth_token.forward('POST', path, body)
    with pytest.raises(fixtures.Refused, match='403'):
        fixtures.send(fixtures.guard(), environ, body)


def test_every_guarded_request_sends_one_request_to_nova(
    nearby: services.Services, auth_token: fixtures.AuthToken
) -> None:
    counted = query.counts(nearby, query.guarded_request(auth_token))
    # With credentials, the first request checks what they see, too.
    assert [it.queries for it in counted.values()] == [2, 10, 1, 10]
    bounds = query.count_bounds(counted)
    assert len(bounds) == 6
    assert [str(bound) for bound in bounds if not bound.holds] == []


def test_an_additional_request_or_connection_exceeds_a_bound() -> None:
    counts = services.Counts(1, 11, 1, 2)
    bounds = query.count_bounds({'as the caller, 10 more': counts})
    assert [bound.holds for bound in bounds] == [False] * 3


def test_the_ratio_is_that_of_the_plain_get_of_the_same_run() -> None:
    result = burst.Result(100.0, 2.0, 3.0, 1.0, 0, 0)
    found = query.evaluate(
        {
            'requests.Session, GET': 1000.0,
            'keystoneauth session, GET': 500.0,
            'attachguard, configured credentials': 9000.0,
            'attachguard, as the caller': 9000.0,
        },
        {
            'requests.Session, GET': 30_000,
            'keystoneauth session, GET': 40_000,
            'attachguard, configured credentials': 60_000,
            'attachguard, as the caller': 90_000,
        },
        {},
        {'attachguard': result, 'keystoneauth': result},
    )
    assert [bound.value for bound in found.bounds[:2]] == [2.0, 3.0]
    assert [bound.holds for bound in found.bounds[:2]] == [True, False]


def test_a_burst_counts_requests_connections_and_failures(
    nearby: services.Services,
) -> None:
    get = query.plain_get(nearby)

    def fail() -> None:
        get()
        raise ValueError('not what was expected')

    found = burst.measure(nearby, {'fail': fail}, 4, 2, 0.01, 1)
    assert found['fail'].failed == 8
    assert found['fail'].sent == 1
    assert found['fail'].rate == 0


def test_an_exceeded_bound_fails_the_check(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bounds = [
        report.Bound('a', 2, 1),
        report.Bound('b', 1, 1),
        report.Bound('c', float('nan'), 1),
        report.Bound('d', 0, 1, exactly=True),
    ]
    saved = tmp_path / 'found.json'
    command.save(saved, {'query': report.Report([], bounds, {})})
    assert command.main(['--from', str(saved)]) == 0
    assert command.main(['--from', str(saved), '--check']) == 1
    assert '1 of 4 bounds hold\nEXCEEDED  a' in capsys.readouterr().out
