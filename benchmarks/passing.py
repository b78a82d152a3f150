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
"""What the guard costs a request that is none of its business.

``python -m benchmarks.passing`` puts each of the filters that stand in
OpenStack's pipelines, and the guard, before an application that does nothing,
and measures in turn what each adds to it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
from importlib import metadata
import io
import json
import sys
from typing import Any
from typing import TYPE_CHECKING

from cinder.api.middleware import auth as cinder_auth
from cinder.api.middleware import fault as cinder_fault
from cinder.api.middleware import request_id as cinder_request_id
from oslo_middleware import stats
from osprofiler import web as osprofiler
import webob
import webob.dec

from attachguard.testing import service
from benchmarks import cost
from benchmarks import guarded
from benchmarks import neighbours
from benchmarks import report
from benchmarks import whole

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

Filter = Callable[['WSGIApplication'], 'WSGIApplication']

# What must hold.
MOST_BYTECODES = 60
MOST_OF_CHEAPEST = 0.05
MOST_PERCENT_OF_CINDER = 0.06
MOST_OF_CHEAPEST_FOR_ACTION = 0.25
MOST_FOR_LARGE_ACTION = 60.0

#: Filters of oslo.middleware that are not measured.
LEFT_OUT = {
    'basic_auth': 'it takes long on purpose: it checks a password by bcrypt',
    'debug': 'it prints each request',
}

# Without which a filter is not to be had.
_OPTIONS = {'cors': {'allowed_origin': 'https://dashboard.example'}}

_VOLUME = '701c0000-0000-4000-8000-000000000002'

#: None of the guard's business: method, path and body.
PASSING = {
    'GET /volumes/detail': ('GET', '/volumes/detail', b''),
    'GET /volumes/{id}': ('GET', f'/volumes/{_VOLUME}', b''),
    'POST /volumes': ('POST', '/volumes', b'{"volume": {"size": 1}}'),
    'DELETE /volumes/{id}': ('DELETE', f'/volumes/{_VOLUME}', b''),
    'GET /attachments': ('GET', '/attachments', b''),
    'GET /attachments/{id}': ('GET', f'/attachments/{_VOLUME}', b''),
}
_PATH = 'GET /volumes/detail'


def extend(size: int) -> bytes:
    """The body of an action that is not guarded.

    :param size: its bytes
    """
    action = {'os-extend': {'new_size': 2, 'padding': ''}}
    action['os-extend']['padding'] = 'x' * (size - len(json.dumps(action)))
    return json.dumps(action).encode()


#: Sent where guarded ones are sent, too, so that the body tells.
ACTIONS = {
    f'os-extend, {name}': (
        'POST',
        f'/volumes/{_VOLUME}/action',
        extend(size),
    )
    for name, size in (('100 B', 100), ('10 KB', 10_000), ('100 KB', 100_000))
} | {
    'an action of a snapshot': (
        'POST',
        f'/snapshots/{_VOLUME}/action',
        b'{"os-update_snapshot_status": {"status": "available"}}',
    )
}
_SMALL, __, _LARGE = list(ACTIONS)[:3]


def bare(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """An application that does nothing."""
    start_response('200 OK', _HEADERS)
    return _BODY


_HEADERS = [('Content-Type', 'application/json'), ('Content-Length', '2')]
_BODY = [b'{}']


def _write(_data: bytes) -> object:
    return None


def start(
    _status: str, _headers: list[tuple[str, str]], _exc_info: Any = None, /
) -> Callable[[bytes], object]:
    """A ``start_response`` that does nothing."""
    return _write


#: What is no filter's own, when bytecodes are counted.
NOT_ITS_OWN = (bare.__code__, start.__code__)


def _forwarding(application: WSGIApplication) -> WSGIApplication:
    def forward(environ: Any, start_response: Any) -> Any:
        return application(environ, start_response)

    return forward


def _webob(application: WSGIApplication) -> WSGIApplication:
    @webob.dec.wsgify
    def middleware(request: webob.Request) -> webob.Response:
        return request.get_response(application)

    return middleware


def oslo_filters() -> dict[str, Filter]:
    """The filters of oslo.middleware, as a paste file names them."""
    found = {
        f'oslo.middleware {point.name}': point.load()(
            {}, **_OPTIONS.get(point.name, {})
        )
        for point in metadata.entry_points(group='paste.filter_factory')
        if point.dist is not None
        and point.dist.name == 'oslo.middleware'
        and point.name not in LEFT_OUT
    }
    # It has no entry point, and sends a datagram to whoever listens.
    found['oslo.middleware stats'] = stats.StatsMiddleware.factory(
        {}, name='cinder', stats_host='127.0.0.1'
    )
    return found


def filters(nearby: neighbours.Neighbours) -> dict[str, Filter]:
    """What stands before an API, and the guard."""
    return {
        'attachguard': guarded.guard,
        'a function that calls the next': _forwarding,
        'webob.dec.wsgify alone': _webob,
        **oslo_filters(),
        'osprofiler, off': osprofiler.WsgiMiddleware.factory({}),
        'cinder RequestId': cinder_request_id.RequestId,
        'cinder FaultWrapper': cinder_fault.FaultWrapper,
        'cinder KeystoneContext': cinder_auth.CinderKeystoneContext,
        'keystonemiddleware auth_token': lambda application: (
            service.authenticated(
                application, nearby.keystone_url, 'cinder', 'cinder'
            )
        ),
    }


def call(
    application: WSGIApplication, environ: WSGIEnvironment, body: bytes = b''
) -> cost.Call:
    """A request, to be sent as often as one likes."""
    stream = io.BytesIO(body)
    environ = {**environ, 'wsgi.input': stream}

    # Filters write into the environ, and read the body.
    def send() -> object:
        stream.seek(0)
        return application(environ.copy(), start)

    return send


def _added(
    times: Mapping[str, float], prefix: str, bare_prefix: str
) -> dict[str, float]:
    return {
        name.removeprefix(prefix): took
        - times[bare_prefix + name.removeprefix(prefix)]
        for name, took in times.items()
        if name.startswith(prefix)
    }


def measure(quick: bool = False) -> report.Report:
    """Measure all of it.

    :param quick: whether to see only that it runs
    """
    rounds = 1 if quick else 40
    seconds = 0.001 if quick else 0.01
    with contextlib.ExitStack() as stack:
        nearby = stack.enter_context(neighbours.served())
        people = guarded.People(nearby)
        pipeline = stack.enter_context(
            whole.loaded(nearby, nearby.project_id('member'), volumes=10)
        )
        results = _measure(nearby, people, pipeline, rounds, seconds)
    return report.Report(
        results,
        _tables(results),
        _bounds(results),
        (
            'cinder',
            'keystonemiddleware',
            'oslo.middleware',
            'osprofiler',
            'WebOb',
        ),
    )


def _measure(
    nearby: neighbours.Neighbours,
    people: guarded.People,
    pipeline: WSGIApplication,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    environs = {
        name: (people.authenticated(method, path, body), body)
        for name, (method, path, body) in (PASSING | ACTIONS).items()
    }
    guard = guarded.guard(bare)
    made = {name: make(bare) for name, make in filters(nearby).items()}
    passing = environs[_PATH][0]

    times = cost.least(
        {'bare': call(bare, passing)}
        | {name: call(made[name], passing) for name in made},
        rounds,
        seconds,
    )
    added = {
        name: took - times['bare']
        for name, took in times.items()
        if name != 'bare'
    }
    each = cost.least(
        {f'bare {name}': call(bare, *it) for name, it in environs.items()}
        | {f'guard {name}': call(guard, *it) for name, it in environs.items()},
        rounds,
        seconds,
    )
    by_request = _added(each, 'guard ', 'bare ')
    token = people.token('member')
    project = nearby.project_id('member')
    cinder = cost.least(
        {
            name: _whole(pipeline, path, token)
            for name, path in (
                ('GET /v3/', '/v3/'),
                ('10 volumes in detail', f'/v3/{project}/volumes/detail'),
            )
        },
        max(1, rounds // 4),
        10 * seconds,
    )
    counted = {
        name: cost.bytecodes(call(guard, *it), NOT_ITS_OWN)
        for name, it in environs.items()
    }
    return {
        'added': added,
        'bytecodes': {
            name: cost.bytecodes(call(made[name], passing), NOT_ITS_OWN)
            for name in made
        },
        'requests': {
            name: {'added': by_request[name], 'bytecodes': counted[name]}
            for name in environs
        },
        'cinder': cinder,
    }


def _whole(pipeline: WSGIApplication, path: str, token: str) -> cost.Call:
    environ = guarded.request('GET', '', token=token)
    environ |= {'SCRIPT_NAME': '', 'PATH_INFO': path}
    statuses: list[str] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        statuses.append(status)
        return start(status, headers, exc_info)

    def send() -> None:
        statuses.clear()
        for __ in pipeline(environ.copy(), start_response):
            pass
        if statuses != ['200 OK']:
            raise guarded.Refused(statuses)

    return send


def cheapest(results: Mapping[str, Any]) -> tuple[str, float]:
    """The filter of oslo.middleware that adds the least, and what it adds."""
    added = {
        name: took
        for name, took in results['added'].items()
        if name.startswith('oslo.middleware ')
    }
    name = min(added, key=added.__getitem__)
    return name, added[name]


def _most(results: Mapping[str, Any]) -> float:
    return float(max(results['requests'][name]['added'] for name in PASSING))


def _tables(results: Mapping[str, Any]) -> list[report.Table]:
    name, least = cheapest(results)
    added = results['added']
    guard = added['attachguard']
    by_filter = [
        (
            name,
            f'{took:.2f}',
            f'{took / guard:,.0f}',
            f'{results["bytecodes"][name]:,}',
        )
        for name, took in sorted(added.items(), key=lambda item: item[1])
    ]
    by_request = [
        (
            name,
            f'{it["added"]:.2f}',
            f'{it["added"] / least:.3f}',
            f'{it["bytecodes"]:,}',
        )
        for name, it in results['requests'].items()
    ]
    shares = [
        (name, f'{took:,.0f}', f'{100 * guard / took:.4f}')
        for name, took in results['cinder'].items()
    ]
    return [
        report.Table(
            'What filters add to a request that they let pass',
            ('filter', 'CPU µs', 'times the guard', 'bytecodes'),
            by_filter,
            f'{_PATH}, before an application that does nothing.'
            + ''.join(
                f' {name} is not measured: {why}.'
                for name, why in LEFT_OUT.items()
            ),
        ),
        report.Table(
            'What the guard adds to requests that it lets pass',
            ('request', 'CPU µs', f'of {name}', 'bytecodes'),
            by_request,
            'The actions go where guarded ones go, so it has to read them.',
        ),
        report.Table(
            "What is the guard's in Cinder's own time",
            ('Cinder, without the guard', 'CPU µs', 'guard adds, %'),
            shares,
        ),
    ]


def _bounds(results: Mapping[str, Any]) -> list[report.Bound]:
    __, least = cheapest(results)
    most = _most(results)
    requests = results['requests']
    return [
        report.Bound(
            'passing: bytecodes',
            max(requests[name]['bytecodes'] for name in PASSING),
            MOST_BYTECODES,
        ),
        report.Bound(
            'passing: CPU / cheapest filter of oslo.middleware',
            most / least,
            MOST_OF_CHEAPEST,
        ),
        report.Bound(
            'passing: CPU, % of GET /v3/',
            100 * most / results['cinder']['GET /v3/'],
            MOST_PERCENT_OF_CINDER,
        ),
        report.Bound(
            'action of 100 B: CPU / cheapest filter of oslo.middleware',
            requests[_SMALL]['added'] / least,
            MOST_OF_CHEAPEST_FOR_ACTION,
        ),
        report.Bound(
            'action of 100 KB: CPU µs',
            requests[_LARGE]['added'],
            MOST_FOR_LARGE_ACTION,
        ),
    ]


if __name__ == '__main__':
    sys.exit(report.main('passing', __doc__, measure))
