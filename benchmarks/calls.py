# SPDX-License-Identifier: Apache-2.0
"""What a guarded call costs on a whole real cloud.

Two Cinder APIs serve the same cloud, one with the guard and one without.  Each
call is sent to them in turn, and its duration is that of the client.

``python -m benchmarks.calls [--directory DIRECTORY] [--repeat N]`` starts the
cloud, and prints a table.  Let nothing else use the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import statistics
import sys
import time
from typing import Any

import requests

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import stage as stages

_BARE = 'cinder-bare'


@dataclasses.dataclass(frozen=True)
class Cost:
    """The durations of a call.

    :param call: its description
    :param bare: without the guard, in seconds
    :param guarded: with it, in seconds
    """

    call: str
    bare: list[float]
    guarded: list[float]

    def row(self) -> str:
        """A line of the table: medians in milliseconds, and their ratio."""
        bare, guarded = map(statistics.median, (self.bare, self.guarded))
        return (
            f'{self.call:<48} {1000 * bare:8.1f} {1000 * guarded:8.1f} '
            f'{guarded / bare:6.2f}'
        )


class Bench:
    """Sends calls to both APIs.

    :param cloud: which runs
    :param bare: the address of the API without the guard
    :param repeat: how often each call is sent to each of them
    """

    def __init__(self, cloud: clouds.Cloud, bare: str, repeat: int) -> None:
        self._stage = stages.Stage(cloud, 'req-attachguard-bench')
        self._member = self._stage.member
        self._urls = [bare, cloud.places.url('cinder')]
        self._repeat = repeat
        self._session = requests.Session()

    def send(
        self,
        url: str,
        method: str,
        path: str,
        body: Any = None,
        service: people.Caller | None = None,
    ) -> requests.Response:
        """Send a request as the member, or as a service for the member."""
        token = {'X-Service-Token': service.token} if service else {}
        return self._session.request(
            method,
            f'{url}/v3/{self._member.project_id}{path}',
            json=body,
            headers={
                'X-Auth-Token': self._member.token,
                **token,
                'OpenStack-API-Version': f'volume {people.CINDER_API}',
            },
            timeout=60,
        )

    def measure(
        self,
        call: str,
        prepare: Callable[[], tuple[str, str, Any]],
        *,
        statuses: tuple[int, int],
        undo: Callable[[requests.Response], object] = lambda response: None,
        service: people.Caller | None = None,
    ) -> Cost:
        """Measure a call.

        :param call: its description
        :param prepare: returns method, path and body of the request
        :param statuses: expected of the bare and the guarded API
        :param undo: puts things back after a request
        :param service: sends it, by default the member
        """
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(2 * (self._repeat + 2)):
            side = number % 2
            request = prepare()
            started = time.perf_counter()
            response = self.send(self._urls[side], *request, service)
            ended = time.perf_counter()
            if response.status_code != statuses[side]:
                raise AssertionError(
                    f'{call}: HTTP {response.status_code} {response.text}'
                )
            undo(response)
            if number >= 4:
                seconds[side].append(ended - started)
        return Cost(call, *seconds)

    def run(self) -> Iterator[Cost]:
        """Measure all calls, on volumes and servers made for it."""
        stage = self._stage
        server = stage.server('server', disks=[])
        free, live = stage.volume('free'), stage.volume('live')
        stage.member.nova.volumes.create_server_volume(server, live)
        stage.wait_for_status('live', 'in-use')
        bare = self._urls[0]

        def action(volume: str, name: str, **arguments: Any) -> Any:
            return 'POST', f'/volumes/{volume}/action', {name: arguments}

        def attachment(**arguments: Any) -> str:
            body = {'attachment': {'volume_uuid': free, **arguments}}
            made = self.send(bare, 'POST', '/attachments', body).json()
            attachment_id: str = made['attachment']['id']
            return attachment_id

        def forge() -> None:
            arguments = {'instance_uuid': server, 'mountpoint': '/dev/vdz'}
            request = action(free, 'os-attach', **arguments)
            self.send(bare, *request).raise_for_status()

        def delete_forged() -> Any:
            forge()
            found = stage.attachments('free')[0]
            return 'DELETE', f'/attachments/{found.id}', None

        def detach_forged() -> Any:
            forge()
            return action(free, 'os-detach')

        def delete_nobodys() -> Any:
            return 'DELETE', f'/attachments/{attachment()}', None

        def create_named() -> Any:
            body = {'volume_uuid': free, 'instance_uuid': server}
            return 'POST', '/attachments', {'attachment': body}

        def remove(response: requests.Response) -> None:
            if response.ok:
                made = response.json()['attachment']['id']
                self.send(bare, 'DELETE', f'/attachments/{made}')

        def roll(volume: str, name: str) -> Callable[[Any], object]:
            return lambda _: self.send(bare, *action(volume, name))

        yield self.measure(
            'GET volume',
            lambda: ('GET', f'/volumes/{free}', None),
            statuses=(200, 200),
        )
        yield self.measure(
            'attachment-delete of a forged attachment',
            delete_forged,
            statuses=(200, 200),
        )
        yield self.measure(
            'os-detach of a forged attachment',
            detach_forged,
            statuses=(202, 202),
        )
        yield self.measure(
            "attachment-delete of nobody's",
            delete_nobodys,
            statuses=(200, 200),
        )
        yield self.measure(
            'os-reserve',
            lambda: action(free, 'os-reserve'),
            statuses=(202, 202),
            undo=roll(free, 'os-unreserve'),
        )
        yield self.measure(
            'os-begin_detaching of a live volume (refused)',
            lambda: action(live, 'os-begin_detaching'),
            statuses=(202, 409),
            undo=roll(live, 'os-roll_detaching'),
        )
        yield self.measure(
            'attachment-create naming a server (refused)',
            create_named,
            statuses=(200, 403),
            undo=remove,
        )
        yield self.measure(
            'os-reserve by a service',
            lambda: action(free, 'os-reserve'),
            statuses=(202, 202),
            undo=roll(free, 'os-unreserve'),
            service=stage.caller('nova'),
        )
        stage.clear()


@contextlib.contextmanager
def bare_api(cloud: clouds.Cloud) -> Iterator[str]:
    """A second Cinder API, without the guard.

    :param cloud: which runs
    :returns: its address
    """
    places = cloud.places
    guarded, bare = places.etc('cinder'), places.etc(_BARE)
    text = (guarded / 'cinder.conf').read_text()
    bare.mkdir(parents=True, exist_ok=True)
    (bare / 'cinder.conf').write_text(
        text.replace(f'{guarded}/api-paste.ini', f'{bare}/api-paste.ini')
    )
    paste = (guarded / 'api-paste.ini').read_text()
    (bare / 'api-paste.ini').write_text(
        paste.replace(
            'keystonecontext attachguard apiv3', 'keystonecontext apiv3'
        )
    )
    (port,) = clouds.free_ports(bare, 1)
    cloud.processes.start(
        _BARE,
        [
            sys.executable,
            '-m',
            'tests.cloud.api',
            'cinder.wsgi.api',
            str(port),
            str(cloud.directory / 'log' / f'{_BARE}-access.log'),
            f'--config-file={bare}/cinder.conf',
        ],
        environ={'PYTHONPATH': str(pathlib.Path(__file__).parents[1])},
    )
    url = f'http://127.0.0.1:{port}'
    try:
        stages.wait_for(f'{url} does not respond', lambda: _responds(url))
        yield url
    finally:
        cloud.processes.stop([_BARE])


def _responds(url: str) -> bool:
    try:
        return requests.get(f'{url}/healthcheck', timeout=5).ok
    except requests.RequestException:
        return False


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--directory', type=pathlib.Path, default=pathlib.Path('.cloud/bench')
    )
    parser.add_argument('--repeat', type=int, default=100)
    arguments = parser.parse_args()
    cloud = clouds.Cloud(arguments.directory)
    try:
        cloud.up(modes.ENFORCED)
        print(f'{"call":<48} {"bare ms":>8} {"guarded":>8} {"ratio":>6}')
        with bare_api(cloud) as url:
            for cost in Bench(cloud, url, arguments.repeat).run():
                print(cost.row(), flush=True)
    finally:
        cloud.down()


if __name__ == '__main__':
    main()
