# SPDX-License-Identifier: Apache-2.0
"""What a guarded call costs on a whole real cloud.

Two Cinder APIs serve the same cloud, one with the guard and one without.  Each
call is sent to them in turn, and its duration is that of the client.

``python -m benchmarks.calls [--directory DIRECTORY] [--repeat N]
[--write-docs]`` starts the cloud, prints a table, and writes
``doc/source/reference/cost.rst``.  Let nothing else use the machine.
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

from benchmarks import report
from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import stage as stages

_BARE = 'cinder-bare'
_PAGE = pathlib.Path(__file__).parents[1] / 'doc/source/reference/cost.rst'
_HEAD = """\
=========================
The cost of guarded calls
=========================

.. This file is written by: python -m benchmarks.calls --write-docs

How long calls take a client on a whole real cloud, with the guard and without.
Two Cinder APIs serve the same cloud, and each call is sent to them in turn.

"""
_FOOT = """
The guard makes no request for what is no attachment operation, nor for a
service. For the others it reads an attachment, or the attachments of the
volume, and the volume, through Cinder's API: each costs about as much as a GET
by a client. Where an attachment names a server, it also sends ``GET
/servers/{id}`` to Nova while it reads the volume. So a call cannot cost less
than one read and this GET, whose duration is in the last line.
"""


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

    def row(self) -> tuple[str, str, str, str]:
        """The call, the medians in milliseconds, and their ratio."""
        bare, guarded = map(statistics.median, (self.bare, self.guarded))
        return (
            self.call,
            f'{1000 * bare:.1f}',
            f'{1000 * guarded:.1f}',
            f'{guarded / bare:.2f}',
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
        yield self._of_nova(stage.caller('nova'), server)
        stage.clear()

    def _of_nova(self, caller: people.Caller, server: str) -> Cost:
        """Measure the query that the guard sends; there is one way only."""
        seconds = []
        url = f'{self._stage.cloud.places.url("nova")}/v2.1/servers/{server}'
        for _ in range(self._repeat):
            started = time.perf_counter()
            response = self._session.get(
                url, headers={'X-Auth-Token': caller.token}, timeout=60
            )
            seconds.append(time.perf_counter() - started)
            response.raise_for_status()
        return Cost('GET /servers/{id}, of Nova', seconds, seconds)


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
    parser.add_argument('--write-docs', action='store_true')
    arguments = parser.parse_args()
    cloud = clouds.Cloud(arguments.directory)
    try:
        cloud.up(modes.ENFORCED)
        rows = []
        with bare_api(cloud) as url:
            for cost in Bench(cloud, url, arguments.repeat).run():
                report.progress(' '.join(cost.row()))
                rows.append(cost.row())
        table = report.Table(
            f'Medians of {arguments.repeat} calls each',
            ('call', 'without, ms', 'with, ms', 'ratio'),
            rows,
        )
        print(table.text())
        if arguments.write_docs:
            versions = report.versions(('cinder', 'nova'))
            measured = report.Report([table], [], versions).measured_with
            _PAGE.write_text(f'{_HEAD}{table.rst()}\n{_FOOT}\n{measured}\n')
    finally:
        cloud.down()


if __name__ == '__main__':
    main()
