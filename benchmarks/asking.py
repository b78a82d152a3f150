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
"""What the guard costs a request that it guards, and Nova.

``python -m benchmarks.asking`` sends an ``os-attach`` for which Nova has to be
asked one question, and in turn does the least that such a question can be: a
``GET`` of the same address by ``requests``.  Nova is another process, so that
what it takes is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import sys
from typing import Any

from keystoneauth1 import session as ksa_session
import requests

from attachguard.guard import middleware as attachguard_filter
from benchmarks import cost
from benchmarks import crowd
from benchmarks import guarded
from benchmarks import neighbours
from benchmarks import report

# What must hold.
MOST_WITH_CREDENTIALS = 1.25
MOST_AS_CALLER = 1.5
MOST_FOR_SERVICE = 100.0
MOST_FOR_FIRST = 2
LEAST_RATE = 1.1

_AT_ONCE = 64
_DELAY = 0.02

_PLAIN = 'requests.Session, GET'
_WITH_CREDENTIALS = 'guarded request, with credentials'
_AS_CALLER = 'guarded request, as the caller'
_SERVICE = "a service's request: Nova is not asked"


@dataclasses.dataclass(frozen=True)
class Asking:
    """Guarded requests, to be sent as often as one likes.

    :param guard: what they are sent to
    :param people: who send them
    """

    guard: attachguard_filter.AttachGuard
    people: guarded.People

    def call(self, service_user: str = '') -> cost.Call:
        """An os-attach.

        :param service_user: whose service token it carries, if any
        """
        path, body = guarded.attach(guarded.new_id(), guarded.new_id())
        environ = self.people.authenticated(
            'POST', path, body, service_user=service_user
        )
        return lambda: guarded.send(self.guard, environ, body)

    def lookup(self) -> cost.Call:
        """Its part that asks Nova."""
        server_id, volume_id = guarded.new_id(), guarded.new_id()
        auth = self.people.authenticated('GET', '/')['keystone.token_auth']
        return lambda: self.guard.nova.attached(auth, server_id, volume_id)


def _plain(nearby: neighbours.Neighbours, **attributes: Any) -> cost.Call:
    session = requests.Session()
    for name, value in attributes.items():
        setattr(session, name, value)
    url = nearby.endpoint + neighbours.question(
        guarded.new_id(), guarded.new_id()
    )
    token = ksa_session.Session(auth=nearby.auth()).get_token()

    def get() -> object:
        return session.get(url, headers={'X-Auth-Token': token})

    return get


def _keystoneauth(nearby: neighbours.Neighbours) -> cost.Call:
    session = ksa_session.Session(auth=nearby.auth())
    path = neighbours.question(guarded.new_id(), guarded.new_id())
    where = {'service_type': 'compute'}
    return lambda: session.get(path, endpoint_filter=where)


def count(
    nearby: neighbours.Neighbours, call: cost.Call, times: int
) -> neighbours.Counts:
    """What Nova and Keystone are asked when something is done.

    :param times: how often it is done
    """
    before = nearby.counts()
    for __ in range(times):
        call()
    return nearby.counts().since(before)


def counts(
    nearby: neighbours.Neighbours, people: guarded.People
) -> dict[str, neighbours.Counts]:
    """What Nova and Keystone are asked for requests.

    :returns: of a guard's first request, and of the next ten
    """
    found = {}
    for name, options in (
        ('with credentials', guarded.with_credentials(nearby)),
        ('as the caller', guarded.as_caller()),
    ):
        asking = Asking(guarded.guard(**options), people)
        # Made before, for it takes a token.
        first, next_ = asking.call(), asking.call()
        found[f'{name}, the first'] = count(nearby, first, 1)
        found[f'{name}, ten more'] = count(nearby, next_, 10)
    service = asking.call(service_user='nova')
    found['ten of a service'] = count(nearby, service, 10)
    return found


def measure(quick: bool = False) -> report.Report:
    """Measure all of it.

    :param quick: whether to see only that it runs
    """
    rounds = 1 if quick else 20
    seconds = 0.01 if quick else 0.1
    guarded.log_like_cinder()
    with neighbours.served() as nearby:
        people = guarded.People(nearby)
        asked = counts(nearby, people)
        configured = Asking(
            guarded.guard(**guarded.with_credentials(nearby)), people
        )
        calling = Asking(guarded.guard(**guarded.as_caller()), people)
        times = cost.least(
            {
                _PLAIN: _plain(nearby),
                'the same, without trust_env': _plain(nearby, trust_env=False),
                'keystoneauth session, GET': _keystoneauth(nearby),
                _WITH_CREDENTIALS: configured.call(),
                'its question alone, with credentials': configured.lookup(),
                _AS_CALLER: calling.call(),
                'its question alone, as the caller': calling.lookup(),
                _SERVICE: configured.call(service_user='nova'),
            },
            rounds,
            seconds,
        )
        job = crowd.Job(
            (crowd.LOOKUP, crowd.KEYSTONEAUTH),
            _AT_ONCE,
            2 if quick else 20,
            _DELAY,
            rounds=1 if quick else 5,
        )
        crowds = {
            on: crowd.gather(nearby, on, [job])
            for on in (crowd.THREADS, crowd.GREENTHREADS)
        }
    return _report(times, asked, crowds)


def _report(
    times: Mapping[str, float],
    asked: Mapping[str, neighbours.Counts],
    crowds: Mapping[str, Sequence[crowd.Turn]],
) -> report.Report:
    results = {
        'cpu': dict(times),
        'asked': {name: dataclasses.asdict(it) for name, it in asked.items()},
        'crowds': {
            on: [dataclasses.asdict(turn) for turn in turns]
            for on, turns in crowds.items()
        },
    }
    plain = times[_PLAIN]
    tables = [
        report.Table(
            'What a request takes for which Nova is asked one question',
            ('what', 'CPU µs', 'of a GET'),
            [
                (name, f'{took:,.0f}', f'{took / plain:.2f}')
                for name, took in times.items()
            ],
            'All that the process takes, with its threads, and with what '
            'stands behind the guard: a Cinder that answers from memory. A '
            'decision is logged as Cinder logs.',
        ),
        report.Table(
            'How many requests are sent',
            ('guarded requests', 'to Nova', 'to Keystone', 'new connections'),
            [
                (
                    name,
                    str(it.questions),
                    str(it.keystone),
                    str(it.connections),
                )
                for name, it in asked.items()
            ],
        ),
        report.Table(
            f'{_AT_ONCE} questions at once, Nova taking '
            f'{1000 * _DELAY:.0f} ms',
            (
                'on',
                'by',
                'per second',
                'half, ms',
                '99%, ms',
                'CPU µs',
                'new connections',
                'failed',
            ),
            [
                (
                    on,
                    _BY[turn.who],
                    f'{turn.rate:,.0f}',
                    f'{turn.half:,.0f}',
                    f'{turn.p99:,.0f}',
                    f'{turn.cpu:,.0f}',
                    str(turn.connections),
                    str(turn.failed),
                )
                for on, turns in crowds.items()
                for turn in turns
            ],
            'The keystoneauth session keeps as many connections as ask at '
            'once. New connections are counted when all have one.',
        ),
    ]
    return report.Report(
        results,
        tables,
        _bounds(times, asked, crowds),
        (
            'eventlet',
            'keystoneauth1',
            'keystonemiddleware',
            'oslo.log',
            'oslo.policy',
            'python-novaclient',
            'requests',
            'urllib3',
        ),
    )


_BY = {crowd.LOOKUP: 'attachguard', crowd.KEYSTONEAUTH: 'keystoneauth'}


def _bounds(
    times: Mapping[str, float],
    asked: Mapping[str, neighbours.Counts],
    crowds: Mapping[str, Sequence[crowd.Turn]],
) -> list[report.Bound]:
    plain = times[_PLAIN]
    found = [
        report.Bound(
            'guarded, with credentials: CPU / a plain GET',
            times[_WITH_CREDENTIALS] / plain,
            MOST_WITH_CREDENTIALS,
        ),
        report.Bound(
            'guarded, as the caller: CPU / a plain GET',
            times[_AS_CALLER] / plain,
            MOST_AS_CALLER,
        ),
        report.Bound('a service: CPU µs', times[_SERVICE], MOST_FOR_SERVICE),
        *count_bounds(asked),
    ]
    for on, (lookup, peer) in crowds.items():
        found += [
            report.Bound(
                f'{_AT_ONCE} at once, {on}: questions per second / '
                'keystoneauth',
                lookup.rate / peer.rate,
                least=LEAST_RATE,
            ),
            report.Bound(
                f'{_AT_ONCE} at once, {on}: requests for a question',
                lookup.asked,
                most=1,
                least=1,
            ),
            report.Bound(
                f'{_AT_ONCE} at once, {on}: new connections',
                lookup.connections,
                0,
            ),
            report.Bound(
                f'{_AT_ONCE} at once, {on}: not answered', lookup.failed, 0
            ),
        ]
    return found


def count_bounds(
    asked: Mapping[str, neighbours.Counts],
) -> list[report.Bound]:
    """What must hold of what is asked, whatever the machine.

    :param asked: what :func:`counts` gave
    """
    found = []
    for name, it in asked.items():
        if name.endswith('the first'):
            found.append(
                report.Bound(
                    f'{name} request: requests, with its token',
                    it.questions + it.keystone,
                    MOST_FOR_FIRST,
                    least=1,
                )
            )
        elif name.endswith('more'):
            found += [
                report.Bound(
                    f'{name}: requests', it.questions + it.keystone, 10, 10
                ),
                report.Bound(f'{name}: new connections', it.connections, 0),
            ]
        else:
            found.append(
                report.Bound(
                    f'{name}: requests', it.questions + it.keystone, 0
                )
            )
    return found


if __name__ == '__main__':
    sys.exit(report.main('asking', __doc__, measure))
