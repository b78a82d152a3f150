# SPDX-License-Identifier: Apache-2.0
"""Steady calls of Cinder before, during and after an outage, and their times.

Each kind of call is sent at fixed times, whether the one before it has got a
response or not, and its duration is counted from that time: a server that is
blocked for two seconds delays all calls of these two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
import dataclasses
import http.client
import itertools
import math
import threading
import time
import typing
import uuid

from tests.outage import guarded_cloud
from tests.outage.guarded_cloud import Response

#: seconds that a health probe waits, as openstack-helm configures it
PROBE_TIMEOUT = 1.0
#: a guarded call that takes so many seconds has waited for Nova
WAITED = 1.0
#: seconds of an outage until a server must be as quick as before
SETTLED = 3.0

# Calls in a second; those of guarded calls after an outage, to see when it is
# over. The begins are apart, so that calls do not meet by the choice of times.
_UNGUARDED = 10.0
_RECOVERING = 5.0
_OFFSETS = {'unguarded': 0.0, 'guarded': 0.05, 'service': 0.02, 'probe': 0.08}
# So many guarded calls in a row, and Nova is considered well.
_RECOVERED = 10
_GIVE_UP = 25.0


class Call(typing.NamedTuple):
    """A call of Cinder.

    :param kind: unguarded, guarded, service or probe
    :param due: when it was to be sent, by the monotonic clock
    :param seconds: from then to the end of the response
    :param status: of the response; 0 if there was none
    :param reason: the guard's, if it is not forwarded
    """

    kind: str
    due: float
    seconds: float
    status: int
    reason: str | None = None


class Load:
    """Steady calls; a context manager.

    :param cloud: a cloud whose Cinder runs
    :param rate: guarded calls in a second
    """

    def __init__(self, cloud: guarded_cloud.GuardedCloud, rate: float) -> None:
        self.calls: list[Call] = []
        #: guarded calls in a second
        self.rate = rate
        self._cloud = cloud
        self._member = guarded_cloud.Caller(cloud)
        self._service = guarded_cloud.Caller(cloud, service=True)
        self._volume = self._create_volume()
        self._of_service = self._create_volume()
        self._attachment = ''
        self._pool = futures.ThreadPoolExecutor(200)
        self._over = threading.Event()
        self._begin = 0.0
        self._next_guarded = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=args)
            for args in (
                ('unguarded', self._show, lambda: _UNGUARDED),
                ('guarded', self.attach, lambda: self.rate),
                ('service', self._act_as_nova, lambda: 1.0),
                ('probe', self._probe, lambda: 1.0),
            )
        ]

    def __enter__(self) -> typing.Self:
        # Each process imports at its first requests, and fills its caches.
        for _ in range(4):
            calls = [self._show, self.attach] * 10
            list(self._pool.map(lambda call: call(), calls))
        self._act_as_nova()
        self._act_as_nova()
        self._begin = time.monotonic() + 0.1
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()

    def attach(self) -> Response:
        """Call os-attach for a server that does not exist."""
        return self._member.attach(self._volume)

    def wait_for_guarded(self) -> None:
        """Wait until shortly before the next guarded call."""
        due = self._next_guarded
        while due == self._next_guarded:
            time.sleep(0.001)
        time.sleep(max(0.0, self._next_guarded - 0.02 - time.monotonic()))

    def wait_until_recovered(self) -> None:
        """Send more guarded calls, until Nova is considered well."""
        rate, self.rate = self.rate, _RECOVERING
        began = time.monotonic()
        while time.monotonic() < began + _GIVE_UP:
            time.sleep(0.2)
            last = [
                call.status
                for call in list(self.calls)
                if call.kind == 'guarded' and call.due > began
            ][-_RECOVERED:]
            if last == [http.HTTPStatus.FORBIDDEN] * _RECOVERED:
                break
        self.rate = rate

    def _run(
        self,
        kind: str,
        call: Callable[[], Response],
        rate: Callable[[], float],
    ) -> None:
        due = self._begin + _OFFSETS[kind]
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._measure, kind, call, due)
            due += 1 / rate()
            if kind == 'guarded':
                self._next_guarded = due

    def _measure(
        self, kind: str, call: Callable[[], Response], due: float
    ) -> None:
        response = call()
        seconds = time.monotonic() - due
        self.calls.append(
            Call(kind, due, seconds, response.status, response.reason)
        )

    def _show(self) -> Response:
        return self._member.send('GET', f'/volumes/{self._volume}')

    def _act_as_nova(self) -> Response:
        """Create an attachment, or delete it, in turn."""
        attachment, self._attachment = self._attachment, ''
        if attachment:
            return self._service.send('DELETE', f'/attachments/{attachment}')
        created = self._service.send(
            'POST',
            '/attachments',
            {
                'attachment': {
                    'volume_uuid': self._of_service,
                    'instance_uuid': str(uuid.uuid4()),
                }
            },
        )
        if created.ok:
            self._attachment = created.body['attachment']['id']
        return created

    def _probe(self) -> Response:
        connection = http.client.HTTPConnection(
            '127.0.0.1', self._cloud.cinder.port, timeout=PROBE_TIMEOUT
        )
        with contextlib.closing(connection):
            try:
                connection.request('GET', '/healthcheck')
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                status = 0
        return Response(status, {}, None, 0.0)

    def _create_volume(self) -> str:
        created = self._member.send(
            'POST', '/volumes', {'volume': {'size': 1}}
        )
        volume_id: str = created.body['volume']['id']
        # The API runs alone: no volume service makes the volume available.
        guarded_cloud.Caller(self._cloud, 'admin').act(
            volume_id,
            'os-reset_status',
            status='available',
            attach_status='detached',
        )
        return volume_id


@dataclasses.dataclass(frozen=True)
class Times:
    """How long calls took, in milliseconds.

    :param p50: the median
    :param p99: the 99th percentile
    """

    p50: float
    p99: float

    @classmethod
    def of(cls, calls: Sequence[Call]) -> Times:
        """Order calls by their time."""
        ordered = sorted(1000 * call.seconds for call in calls)
        if not ordered:
            return cls(math.nan, math.nan)
        last = len(ordered) - 1
        return cls(ordered[last // 2], ordered[math.ceil(0.99 * last)])

    def __str__(self) -> str:
        return f'{self.p50:,.0f} / {self.p99:,.0f}'


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a situation does to the callers.

    :param unguarded: from the third second on
    :param service: from the third second on
    :param guarded: all of them
    :param waited: number of guarded calls that have waited for Nova, other
        than for a thread of the server
    :param probes_failed: number of health probes that failed in a row
    :param errors: number of unguarded and service calls that failed
    :param recovery: seconds until all guarded calls got a decision
    :param waited_after: number of guarded calls that have waited for Nova
        after its return
    """

    unguarded: Times
    service: Times
    guarded: Times
    waited: int
    probes_failed: int
    errors: int
    recovery: float
    waited_after: int


def evaluate(
    calls: Sequence[Call], begin: float, end: float, until: float
) -> Measured:
    """Evaluate the calls of a situation.

    :param begin: of the situation, by the monotonic clock
    :param end: of the situation
    :param until: end of the time after it
    """
    within = [call for call in calls if begin <= call.due < end]
    after = [call for call in calls if end <= call.due < until]
    settled = [call for call in within if call.due >= begin + SETTLED]
    others = _of(within, 'unguarded') + _of(within, 'service')
    guarded = _of(within, 'guarded')
    late = [
        call.due
        for call in _of(after, 'guarded')
        if call.status != http.HTTPStatus.FORBIDDEN
    ]
    return Measured(
        Times.of(_of(settled, 'unguarded')),
        Times.of(_of(settled, 'service')),
        Times.of(guarded),
        _waited(guarded),
        _longest_failure(_of(within + after, 'probe')),
        sum(not call.status or call.status >= 500 for call in others),
        max(late) - end if late else 0.0,
        _waited(_of(after, 'guarded')),
    )


def _of(calls: Sequence[Call], kind: str) -> list[Call]:
    return [call for call in calls if call.kind == kind]


def _waited(guarded: Sequence[Call]) -> int:
    # Others have waited for a thread of the server.
    return sum(
        call.seconds >= WAITED and call.reason == 'nova-unknown'
        for call in guarded
    )


def _longest_failure(probes: Sequence[Call]) -> int:
    ordered = sorted(probes, key=lambda call: call.due)
    groups: Iterator[tuple[bool, Iterator[Call]]] = itertools.groupby(
        ordered, lambda call: call.status == http.HTTPStatus.OK
    )
    return max(
        (len([*group]) for well, group in groups if not well), default=0
    )
