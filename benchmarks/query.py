# SPDX-License-Identifier: Apache-2.0
"""What a guarded request costs, beside a plain GET of the same resource.

The guarded request is an ``os-detach`` of a forged attachment. The guard reads
the volume and its attachments from a Cinder that responds from memory, sends a
query to Nova, decides, and logs the decision. The peer is
``requests.Session().get()`` of the same URL of the same Nova. They take turns
in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import functools
from typing import TYPE_CHECKING

from keystoneauth1 import session as ksa_session
import requests

from benchmarks import burst
from benchmarks import cost
from benchmarks import fixtures
from benchmarks import report
from benchmarks import services

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: The bound: the bytecodes of a guarded request, in plain GETs. The ratio of
#: their CPU times is between 2.4 and 4.2, depending on the machine.
MOST_OF_PLAIN = 2.2

AT_ONCE = 64
_DELAY = 0.02
_REPEAT = 10

_PLAIN = 'requests.Session, GET'
_KEYSTONEAUTH = 'keystoneauth session, GET'
_GUARD = 'attachguard'


Send = Callable[['WSGIApplication'], None]


def guarded_request(auth_token: fixtures.AuthToken) -> Send:
    """Make a function that sends an os-detach, which is allowed, to a guard.

    Each request has new ids, so that no earlier response can be reused. The
    function raises :class:`benchmarks.fixtures.Refused` if it is refused.
    """
    path, body = fixtures.detach(fixtures.new_id())
    environ = auth_token.forward('POST', path, body)

    def send(guard: WSGIApplication) -> None:
        path, body = fixtures.detach(fixtures.new_id())
        path = f'/{fixtures.PROJECT}{path}'
        fixtures.send(guard, {**environ, 'PATH_INFO': path}, body)

    return send


def plain_get(nearby: services.Services) -> cost.Call:
    """The peer: GET a server with ``requests``."""
    session = requests.Session()
    url = f'{nearby.nova_url}/servers/{fixtures.new_id()}'
    token = ksa_session.Session(auth=nearby.auth()).get_token()

    def get() -> None:
        # It reads the body, too.
        response = session.get(url, headers={'X-Auth-Token': token})
        response.raise_for_status()

    return get


def _keystoneauth(nearby: services.Services, at_once: int = 1) -> cost.Call:
    session = ksa_session.Session(auth=nearby.auth())
    session.session.mount(
        'http://', ksa_session.TCPKeepAliveAdapter(pool_maxsize=at_once)
    )

    def get() -> object:
        response = session.get(
            f'/servers/{fixtures.new_id()}',
            endpoint_filter={'service_type': 'compute'},
            headers={'OpenStack-API-Version': 'compute 2.1'},
        )
        return response.json()['server']

    return get


def counts(
    nearby: services.Services, send: Send
) -> dict[str, services.Counts]:
    """Count what new guards send.

    :returns: the counts of the first request of each guard, after which it
        checks which servers the credentials see, and those of the next ten,
        which are named ``..., 10 more``
    """
    found = {}
    for name, guard in fixtures.guards(nearby).items():
        for text, times in (('first', 1), (f'{_REPEAT} more', _REPEAT)):
            before = nearby.counts()
            for __ in range(times):
                send(guard)
            fixtures.wait_for_visibility(guard)
            found[f'{name}, {text}'] = nearby.counts().since(before)
    return found


def measure(quick: bool = False) -> report.Report:
    """Run the benchmark.

    :param quick: run once and briefly; the times are meaningless
    """
    fixtures.log_to_nowhere()
    with services.served() as nearby:
        send = guarded_request(fixtures.AuthToken(nearby))
        report.progress('requests to Nova')
        counted = counts(nearby, send)
        calls: dict[str, cost.Call] = {
            _PLAIN: plain_get(nearby),
            _KEYSTONEAUTH: _keystoneauth(nearby),
        }
        for name, guard in fixtures.guards(nearby).items():
            calls[f'{_GUARD}, {name}'] = functools.partial(send, guard)
        report.progress('bytecodes and CPU of one request at a time')
        # The first call of each connects.
        for call in calls.values():
            call()
        bytecodes = {name: cost.bytecodes(it) for name, it in calls.items()}
        times = cost.least(calls, 1 if quick else 40, 0.01 if quick else 0.1)
        report.progress(f'{AT_ONCE} requests at once')
        # A project holds at most half of the places.
        many = fixtures.guards(nearby, nova_max_concurrency=2 * AT_ONCE)
        guard = many['configured credentials']
        bursts = burst.measure(
            nearby,
            {
                _GUARD: functools.partial(send, guard),
                'keystoneauth': _keystoneauth(nearby, AT_ONCE),
            },
            AT_ONCE,
            2 if quick else 20,
            _DELAY,
            1 if quick else 5,
        )
    return evaluate(times, bytecodes, counted, bursts)


def evaluate(
    times: Mapping[str, float],
    bytecodes: Mapping[str, int],
    counted: Mapping[str, services.Counts],
    bursts: Mapping[str, burst.Result],
) -> report.Report:
    """Make the report.

    :param times: the CPU µs of one request of each client
    :param bytecodes: the bytecodes of one
    :param counted: what :func:`counts` returned
    :param bursts: the guard's burst, and that of its peer
    """
    plain, fewest = times[_PLAIN], bytecodes[_PLAIN]
    tables = [
        report.Table(
            'One request at a time',
            (
                'client',
                'bytecodes',
                'of a plain GET',
                'CPU µs',
                'of a plain GET',
            ),
            [
                (
                    name,
                    f'{bytecodes[name]:,}',
                    f'{bytecodes[name] / fewest:.2f}',
                    f'{cpu:,.0f}',
                    f'{cpu / plain:.2f}',
                )
                for name, cpu in times.items()
            ],
            'Both are those of the whole process, with all its threads. For '
            'the guard they include reading from Cinder, the decision and the '
            'log line.',
        ),
        report.Table(
            'Requests that the guard sends',
            ('guarded requests', 'to Nova', 'to Keystone', 'new connections'),
            [
                (
                    name,
                    str(it.queries),
                    str(it.keystone),
                    str(it.connections),
                )
                for name, it in counted.items()
            ],
        ),
        report.Table(
            f'{AT_ONCE} requests at once, with Nova delayed by '
            f'{1000 * _DELAY:.0f} ms',
            (
                'client',
                'per second',
                '99% ms',
                'CPU µs',
                'to Nova',
                'new connections',
                'failed',
            ),
            [
                (
                    name,
                    f'{it.rate:,.0f}',
                    f'{it.p99:,.0f}',
                    f'{it.cpu:,.0f}',
                    f'{it.sent:.2f}',
                    str(it.connections),
                    str(it.failed),
                )
                for name, it in bursts.items()
            ],
            'Each client keeps a connection for each thread. The guard does '
            'all its work for a request, keystoneauth only sends the GET.',
        ),
    ]
    bounds = [
        report.Bound(
            f'{name}: bytecodes / plain GET',
            bytecodes[name] / fewest,
            MOST_OF_PLAIN,
        )
        for name in bytecodes
        if name.startswith(_GUARD)
    ]
    bounds += count_bounds(counted)
    many = bursts[_GUARD]
    bounds += [
        report.Bound(
            f'{AT_ONCE} at once: requests to Nova for each',
            many.sent,
            1,
            exactly=True,
        ),
        report.Bound(
            f'{AT_ONCE} at once: new connections', many.connections, 0
        ),
        report.Bound(f'{AT_ONCE} at once: failed', many.failed, 0),
    ]
    return report.Report(
        tables,
        bounds,
        report.versions(
            ('keystoneauth1', 'python-novaclient', 'requests', 'urllib3')
        ),
    )


def count_bounds(
    counted: Mapping[str, services.Counts],
) -> list[report.Bound]:
    """The bounds on requests and connections, which hold on any machine."""
    found = []
    for name, it in counted.items():
        if not name.endswith('more'):
            continue
        found += [
            report.Bound(
                f'{name}: requests to Nova', it.queries, _REPEAT, exactly=True
            ),
            report.Bound(f'{name}: requests to Keystone', it.keystone, 0),
            report.Bound(f'{name}: new connections', it.connections, 0),
        ]
    return found
