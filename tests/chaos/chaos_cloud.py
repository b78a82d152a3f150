# SPDX-License-Identifier: Apache-2.0
"""The guarded cloud of these tests, and those who call its Cinder."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import concurrent.futures
import configparser
import contextlib
import dataclasses
import pathlib
import time
from typing import Any

import psutil

from tests.outage import background
from tests.outage import faulty_server
from tests.outage import guarded_cloud
from tests.outage import process_usage
from tests.outage.guarded_cloud import Caller
from tests.outage.guarded_cloud import Response

# Options of the guard, in seconds. They are short, because each fault that
# hangs takes that long, and because one fault comes so soon after the other
# that the guard probes up to 16 times less often.
NOVA_TIMEOUT = 1.0
SOCKET_TIMEOUT = 1.5
BREAKER_SECONDS = 0.1
# How much longer a response may take: for Cinder's own work on a busy machine.
MARGIN = 3.0
LATEST = NOVA_TIMEOUT + MARGIN
# Option of the guard: half of the threads that serve requests.
CONCURRENCY = 8
#: what one project has of it
SHARE = CONCURRENCY // 2
# Seconds between two calls of each of many callers: as in Retry-After, or
# longer so that the calls use no more than this share of a processor.
_PERIOD = 5.0
_PROCESSOR = 0.3
# The time within which the guard has to notice that Nova responds again.
RECOVERY = 8.0


@dataclasses.dataclass
class Cloud(guarded_cloud.GuardedCloud):
    """A cloud with those who call Cinder."""

    def __post_init__(self) -> None:
        self.member = Caller(self)
        self.service = Caller(self, service=True)
        #: a volume that Nova has attached to no server
        self.volume_id = self.create_volume()
        self.others = OtherCallers(self)
        self.warm_up()
        with self.others.calling():
            time.sleep(0.5)
        assert not self.others.failed
        #: what the process uses while Nova works
        self.idle_usage = process_usage.measure(self.cinder.process)

    def use(self, nova: faulty_server.FaultyServer) -> None:
        super().use(nova)
        # The catalog comes with the token.
        self.member = Caller(self)

    @property
    def log(self) -> str:
        """The log of Cinder and the guard so far."""
        return self.cinder.log.read_text(errors='replace')

    def excess(
        self, before: process_usage.Usage | None = None, megabytes: float = 60
    ) -> list[str]:
        """Check what Cinder's process uses more than before; wait for it.

        However many faults there were, there may be the threads and
        connections of a pool, and freed memory that the allocator keeps.

        :param before: by default, what it used at first
        :param megabytes: of memory
        :returns: what it still uses too much after five seconds, in words
        """
        limit = (before or self.idle_usage).plus(
            threads=1 + CONCURRENCY,
            sockets=2 * CONCURRENCY,
            megabytes=megabytes,
        )
        for _ in range(50):
            excess = process_usage.measure(self.cinder.process).above(limit)
            if not excess:
                break
            time.sleep(0.1)
        return excess

    def create_volume(self) -> str:
        """Create a volume.

        :returns: its id
        """
        created = self.member.send('POST', '/volumes', {'volume': {'size': 1}})
        assert created.status == 202, created
        volume_id: str = created.body['volume']['id']
        self.wait_until_available(volume_id)
        return volume_id

    def show(self, volume_id: str) -> dict[str, Any]:
        """Show a volume."""
        shown = self.member.send('GET', f'/volumes/{volume_id}')
        assert shown.status == 200, shown
        volume: dict[str, Any] = shown.body['volume']
        return volume

    def wait_until_available(self, volume_id: str) -> None:
        """Wait until a volume can be used."""
        give_up = time.monotonic() + 20
        while self.show(volume_id)['status'] != 'available':
            assert time.monotonic() < give_up, self.show(volume_id)
            time.sleep(0.02)

    def attach(self) -> Response:
        """Call os-attach as a member; the server does not exist."""
        return self.member.attach(self.volume_id)

    def find_period(self, callers: int) -> float:
        """Find out how often so many callers may attach on this machine.

        :returns: seconds between two calls of a caller
        """
        start = time.monotonic()
        for _ in range(20):
            assert self.attach().status == 403
        each = (time.monotonic() - start) / 20
        return max(_PERIOD, callers * each / _PROCESSOR)

    def warm_up(self) -> None:
        """Let Cinder and the guard make their threads and connections."""
        for _ in range(2):
            responses = at_once(2 * CONCURRENCY, self.attach)
            statuses = {each.status for each in responses}
            assert statuses <= {403, 503}, responses
        self.wait_until_recovered()

    def wait_until_recovered(self) -> tuple[Response, float]:
        """Repeat an os-attach until the guard decides it.

        :returns: the last response, and the seconds until then
        """
        start = time.monotonic()
        while True:
            response = self.attach()
            seconds = time.monotonic() - start
            if response.status != 503 or seconds > 2 * RECOVERY:
                return response, seconds
            time.sleep(0.1)

    def assert_recovers(self) -> None:
        """Check that the guard notices by itself that Nova responds."""
        response, seconds = self.wait_until_recovered()
        assert response.status == 403, response
        assert seconds < RECOVERY


@contextlib.contextmanager
def start(
    directory: pathlib.Path,
    server: str,
    *,
    real: bool = False,
    **settings: Any,
) -> Iterator[Cloud]:
    """Start a cloud with short timeouts, and check its log at the end.

    :param directory: for what Cinder writes
    :param server: ``eventlet`` or ``threads``
    :param real: True for the real Cinder, False for the stub behind the
        shipped pipeline
    :param settings: other parameters, and options of the guard
    """
    defaults = {
        'nova_timeout': NOVA_TIMEOUT,
        'nova_max_concurrency': CONCURRENCY,
        'nova_breaker_seconds': BREAKER_SECONDS,
        'timeout': SOCKET_TIMEOUT,
        # A pool that still grows would look like a leak of the guard.
        'cinder_options': {'DEFAULT': {'executor_thread_pool_size': 4}},
    }
    if not real:
        settings['paste_ini'] = guarded_cloud.write_paste_ini(
            directory / 'api-paste-stub.ini', _use_stub
        )
    with guarded_cloud.start(
        directory, server, **{**defaults, **settings}
    ) as cloud:
        started = Cloud(**vars(cloud))
        yield started
        tracebacks = [
            line
            for line in started.log.splitlines()
            if 'Traceback' in line
            # For headers that are cut off, and for callers who go away.
            and 'urllib3.connection' not in line
            and 'eventlet.wsgi' not in line
        ]
        # A server may log what it interrupts when it is stopped.
        if psutil.pid_exists(started.cinder.pid):
            assert not tracebacks, tracebacks


def at_once(count: int, call: Callable[[], Response]) -> list[Response]:
    """Make several calls at the same time."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return [
            future.result()
            for future in [threads.submit(call) for _ in range(count)]
        ]


class OtherCallers:
    """Callers who do not need Nova.

    A user shows and extends a volume; a service attaches and detaches another
    one.

    :param cloud: the cloud
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._user_volume = cloud.create_volume()
        self._service_volume = cloud.create_volume()
        self.user_responses: list[Response] = []
        self.service_responses: list[Response] = []

    @contextlib.contextmanager
    def calling(self, pause: float = 0.1) -> Iterator[OtherCallers]:
        """Call again and again while the context is open.

        :param pause: seconds between two calls of the same caller
        """
        self.user_responses, self.service_responses = [], []
        if self._cloud.show(self._service_volume)['status'] != 'available':
            # An earlier test has stopped after the first of the two calls.
            self._service_volume = self._cloud.create_volume()
        with (
            background.repeating(self._call_as_user, pause),
            background.repeating(self._call_as_service, pause),
        ):
            yield self

    def wait_for_responses(self, number: int) -> None:
        """Wait until they have had so many responses.

        :raises AssertionError: if they have not in time
        """
        give_up = time.monotonic() + LATEST
        while len(self.responses) < number:
            assert time.monotonic() < give_up, 'the others get no response'
            time.sleep(0.02)

    @property
    def responses(self) -> list[Response]:
        """All the responses."""
        return self.user_responses + self.service_responses

    @property
    def failed(self) -> list[Response]:
        """The responses other than success."""
        return [each for each in self.responses if not each.ok]

    def _call_as_user(self) -> None:
        member = self._cloud.member
        shown = member.send('GET', f'/volumes/{self._user_volume}')
        self.user_responses.append(shown)
        # The real Cinder takes a moment to extend a volume.
        if shown.ok and shown.body['volume']['status'] == 'available':
            size = shown.body['volume']['size'] + 1
            self.user_responses.append(
                member.act(self._user_volume, 'os-extend', new_size=size)
            )

    def _call_as_service(self) -> None:
        service = self._cloud.service
        attached = service.attach(self._service_volume)
        self.service_responses.append(attached)
        if attached.ok:
            self.service_responses.append(
                service.act(self._service_volume, 'os-detach')
            )


def _use_stub(paste_ini: configparser.RawConfigParser) -> None:
    paste_ini.remove_section('app:apiv3')
    paste_ini['app:apiv3'] = {'use': 'egg:attachguard#stub-cinder'}
