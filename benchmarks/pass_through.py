# SPDX-License-Identifier: Apache-2.0
"""What the guard adds to a request that it forwards without a query.

Each filter of oslo.middleware, and the guard, stands in front of an
application that does nothing. They take turns. The cost of a filter is the CPU
time with it minus the CPU time without it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from importlib import metadata
import io
from typing import Any
from typing import TYPE_CHECKING

from oslo_middleware import stats

from benchmarks import cost
from benchmarks import fixtures
from benchmarks import report
from benchmarks import services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

Filter = Callable[['WSGIApplication'], 'WSGIApplication']

#: The bounds.
MOST_BYTECODES = 35
MOST_OF_CHEAPEST = 0.03
MOST_OF_CHEAPEST_FOR_EXTEND = 0.30
MOST_FOR_SERVICE = 200.0

#: Filters of oslo.middleware that are not measured.
LEFT_OUT = {
    'basic_auth': 'it checks a password with bcrypt, which is slow on purpose',
    'debug': 'it prints each request',
}

# Options without which a filter cannot be made.
_OPTIONS = {'cors': {'allowed_origin': 'https://dashboard.example'}}

_VOLUME = '701c0000-0000-4000-8000-000000000002'
_GUARD = 'attachguard'


_Request = tuple[str, str, bytes]

#: Requests that are not guarded, by name: method, path and body.
NOT_GUARDED: dict[str, _Request] = {
    'GET /attachments': ('GET', '/attachments', b''),
    'GET /attachments/{id}': ('GET', f'/attachments/{_VOLUME}', b''),
    'POST /backups': ('POST', '/backups', b'{}'),
    'GET /volumes/detail': ('GET', '/volumes/detail', b''),
    'GET /volumes/{id}': ('GET', f'/volumes/{_VOLUME}', b''),
    'POST /volumes': ('POST', '/volumes', b'{"volume": {"size": 1}}'),
    'DELETE /volumes/{id}': ('DELETE', f'/volumes/{_VOLUME}', b''),
}
#: The path is that of guarded actions, so the guard reads the body.
EXTEND: dict[str, _Request] = {
    f'os-extend with {size:,} bytes': (
        'POST',
        f'/volumes/{_VOLUME}/action',
        b'{"os-extend": {"new_size": 2}}'.ljust(size),
    )
    for size in (100, 100_000)
}
SERVICE = 'os-detach of a service'


def bare(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """An application that does nothing."""
    start_response('200 OK', _HEADERS)
    return _BODY


_HEADERS = [('Content-Type', 'application/json'), ('Content-Length', '2')]
_BODY = [b'{}']

#: The code that is not part of a filter, when bytecodes are counted.
NOT_OF_FILTER = (bare.__code__, fixtures.start.__code__)


def oslo_filters() -> dict[str, Filter]:
    """The filters of oslo.middleware, made as a paste file makes them."""
    found = {
        f'oslo.middleware {point.name}': point.load()(
            {}, **_OPTIONS.get(point.name, {})
        )
        for point in metadata.entry_points(group='paste.filter_factory')
        if point.dist is not None
        and point.dist.name == 'oslo.middleware'
        and point.name not in LEFT_OUT
    }
    # It has no entry point. It sends a datagram for each request.
    found['oslo.middleware stats'] = stats.StatsMiddleware.factory(
        {}, name='cinder', stats_host='127.0.0.1'
    )
    return found


def call(
    application: WSGIApplication, environ: WSGIEnvironment, body: bytes = b''
) -> cost.Call:
    """Make a function that sends a request."""
    stream = io.BytesIO(body)
    environ = {**environ, 'wsgi.input': stream}

    # A filter may change the environ and reads the body.
    def send() -> object:
        stream.seek(0)
        return application(environ.copy(), fixtures.start)

    return send


def measure(quick: bool = False) -> report.Report:
    """Run the benchmark.

    :param quick: run once and briefly; the times are meaningless
    """
    rounds = 1 if quick else 40
    seconds = 0.001 if quick else 0.01
    fixtures.log_to_nowhere()
    with services.served() as nearby:
        auth_token = fixtures.AuthToken(nearby)
        requests = {
            name: (auth_token.forward(*it), it[2])
            for name, it in (NOT_GUARDED | EXTEND).items()
        }
        path, body = fixtures.detach(_VOLUME)
        environ = auth_token.forward('POST', path, body, service_user='nova')
        requests[SERVICE] = environ, body
    guard = fixtures.guard(bare)
    # Raises where the guard does not allow it.
    fixtures.send(guard, *requests[SERVICE])

    passing = requests['GET /volumes/detail'][0]
    filters = oslo_filters()
    report.progress(f'{len(filters)} filters of oslo.middleware')
    made = {name: make(bare) for name, make in filters.items()}
    made[_GUARD] = guard
    calls = {name: call(it, passing) for name, it in made.items()}
    filter_times = cost.least(
        {'bare': call(bare, passing), **calls}, rounds, seconds
    )
    by_filter = {
        name: (
            filter_times[name] - filter_times['bare'],
            cost.bytecodes(it, NOT_OF_FILTER),
        )
        for name, it in calls.items()
    }
    report.progress(f'{len(requests)} requests')
    request_times = cost.least(
        {f'bare {name}': call(bare, *it) for name, it in requests.items()}
        | {name: call(guard, *it) for name, it in requests.items()},
        rounds,
        seconds,
    )
    by_request = {
        name: (
            request_times[name] - request_times[f'bare {name}'],
            cost.bytecodes(call(guard, *it), NOT_OF_FILTER),
        )
        for name, it in requests.items()
    }
    return evaluate(by_filter, by_request)


def evaluate(
    by_filter: Mapping[str, tuple[float, int]],
    by_request: Mapping[str, tuple[float, int]],
) -> report.Report:
    """Make the report.

    :param by_filter: the CPU µs and bytecodes that each filter adds
    :param by_request: those that the guard adds to each request
    """
    cheapest = min(set(by_filter) - {_GUARD}, key=lambda name: by_filter[name])
    peer = by_filter[cheapest][0]

    def bytecodes(names: Mapping[str, Any]) -> int:
        return max(by_request[name][1] for name in names)

    def ratio(names: Mapping[str, Any]) -> float:
        return max(by_request[name][0] for name in names) / peer

    tables = [
        report.Table(
            'Filters in front of GET /volumes/detail',
            ('filter', 'CPU µs', 'of the cheapest', 'bytecodes'),
            [
                (name, f'{cpu:.2f}', f'{cpu / peer:.3f}', f'{count:,}')
                for name, (cpu, count) in sorted(
                    by_filter.items(), key=lambda item: item[1]
                )
            ],
            'Not measured: '
            + '; '.join(f'{name} ({why})' for name, why in LEFT_OUT.items())
            + '.',
        ),
        report.Table(
            'Requests that the guard forwards without a query to Nova',
            ('request', 'CPU µs', f'of {cheapest}', 'bytecodes'),
            [
                (name, f'{cpu:.2f}', f'{cpu / peer:.3f}', f'{count:,}')
                for name, (cpu, count) in by_request.items()
            ],
            'The guard reads the body of an os-extend, because its path is '
            'that of guarded actions. It decides and logs the call of a '
            'service.',
        ),
    ]
    bounds = [
        report.Bound(
            'pass-through: bytecodes', bytecodes(NOT_GUARDED), MOST_BYTECODES
        ),
        report.Bound(
            'pass-through: CPU / cheapest oslo.middleware filter',
            ratio(NOT_GUARDED),
            MOST_OF_CHEAPEST,
        ),
        report.Bound(
            'os-extend: CPU / cheapest oslo.middleware filter',
            ratio(EXTEND),
            MOST_OF_CHEAPEST_FOR_EXTEND,
        ),
        report.Bound(
            'call of a service: CPU µs',
            by_request[SERVICE][0],
            MOST_FOR_SERVICE,
        ),
    ]
    return report.Report(
        tables,
        bounds,
        report.versions(('keystonemiddleware', 'oslo.middleware', 'WebOb')),
    )
