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
"""The clients: everybody who calls Cinder, and what has to become of it.

Each client has a volume and a server of its own, so that it knows what state
they are in and what each of its requests must be answered. What Nova has is
written straight into the stub's books.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import json
import random
import threading
import time
from typing import Any
import urllib.parse
import uuid

import requests

from attachguard.testing import stub_cloud
from tests.soak import accounting
from tests.soak import recorder

_PASSED = accounting.Outcome.PASSED
_REFUSED = accounting.Outcome.REFUSED
_REHEARSED = accounting.Outcome.REHEARSED

_TIMEOUT = 30
_VERSION = 'volume 3.44'
_CONNECTOR = {
    'host': 'compute1',
    'ip': '127.0.0.1',
    'initiator': 'iqn.1993-08.org.debian:01:compute1',
    'multipath': False,
    'os_type': 'linux',
    'platform': 'x86_64',
    'mountpoint': '/dev/vdb',
}


def _kind(
    name: str,
    outcome: accounting.Outcome,
    status: int,
    asks_nova: bool = False,
) -> accounting.Kind:
    return accounting.Kind(name, outcome, status, asks_nova)


# None of the guard's business.
LIST = _kind('list', _PASSED, 200)
DETAIL = _kind('list detail', _PASSED, 200)
SHOW = _kind('show', _PASSED, 200)
LIST_ATTACHMENTS = _kind('list attachments', _PASSED, 200)
CREATE = _kind('create volume', _PASSED, 202)
EXTEND = _kind('os-extend', _PASSED, 202)
EXTEND_MISSING = _kind('os-extend of none', _PASSED, 404)
DELETE = _kind('delete volume', _PASSED, 202)
# Forged.
FORGED_ATTACH = _kind('forged os-attach', _REFUSED, 403, True)
HOST_ATTACH = _kind('os-attach to a host', _REFUSED, 403)
FORGED_CREATE = _kind('forged create', _REFUSED, 403, True)
FORGED_UPDATE = _kind('forged update', _REFUSED, 403, True)
FORGED_COMPLETE = _kind('forged complete', _REFUSED, 403, True)
# What Nova has.
REAL_ATTACH = _kind('real os-attach', _PASSED, 202, True)
ATTACH_AGAIN = _kind('os-attach again', _REFUSED, 403)
LIVE_DETACH = _kind('live os-detach', _REFUSED, 403, True)
LIVE_BEGIN = _kind('live os-begin_detaching', _REFUSED, 403, True)
LIVE_UPDATE = _kind('live update', _REFUSED, 403)
LIVE_DELETE = _kind('live delete', _REFUSED, 403, True)
# What it has not any more.
STALE_DETACH = _kind('stale os-detach', _PASSED, 202, True)
STALE_DELETE = _kind('stale delete', _PASSED, 200, True)
# Without a server, as Glance does it.
HOST_CREATE = _kind('create, no server', _PASSED, 200)
HOST_UPDATE = _kind('update, no server', _PASSED, 200)
HOST_COMPLETE = _kind('complete, no server', _PASSED, 204)
HOST_DELETE = _kind('delete, no server', _PASSED, 200)
# Open to everybody.
RESERVE = _kind('os-reserve', _PASSED, 202)
UNRESERVE = _kind('os-unreserve', _PASSED, 202)
# With a service token, as Nova does it.
NOVA_CREATE = _kind('Nova: create', _PASSED, 200)
NOVA_UPDATE = _kind('Nova: update', _PASSED, 200)
NOVA_COMPLETE = _kind('Nova: complete', _PASSED, 204)
NOVA_BEGIN = _kind('Nova: os-begin_detaching', _PASSED, 202)
NOVA_DELETE = _kind('Nova: delete', _PASSED, 200)
NOVA_DETACH = _kind('Nova: os-detach', _PASSED, 202)
# Nonsense.
MALFORMED = _kind('malformed os-attach', _REHEARSED, 400)
MISSING = _kind('os-attach of none', _REHEARSED, 404)


class Failed(Exception):
    """A client cannot go on as it is: it starts over with a new volume."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client got.

    :param passed: whether Cinder performed the request
    """

    passed: bool
    body: Any


class Load:
    """All the clients, and what they have sent.

    :param cloud: whose users they are
    :param url: Cinder's endpoint
    :param nova_is_fine: tells since when, by the monotonic clock; None while
        it is not
    :param clients: how many at the same time
    :param rate: requests in a second, of all of them together
    :param seed: of the choices that they make
    """

    def __init__(
        self,
        cloud: stub_cloud.StubCloud,
        url: str,
        nova_is_fine: Callable[[], float | None],
        *,
        clients: int = 8,
        rate: float = 20,
        seed: int = 0,
    ) -> None:
        self.cloud = cloud
        self.url = f'{url}/{cloud.project_id("member")}'
        self.nova_is_fine = nova_is_fine
        self.sent: list[accounting.Sent] = []
        #: what made a client start over, in words
        self.failures: list[str] = []
        self.member = cloud.session('member')
        self.nova = cloud.session('nova')
        self._interval = clients / rate
        self._end = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(f'{seed}:{number}'),),
                name=f'client-{number}',
            )
            for number in range(clients)
        ]

    def start(self) -> None:
        """Let them begin, and wait until each has a volume.

        The first of all requests take Cinder seconds.
        """
        for thread in self._threads:
            thread.start()
        give_up = time.monotonic() + 4 * _TIMEOUT
        while (
            sum(one.kind is SHOW for one in list(self.sent))
            < len(self._threads)
            and time.monotonic() < give_up
        ):
            time.sleep(0.05)

    def stop(self) -> None:
        """Let them come to the end of what they are at."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, rng: random.Random) -> None:
        client = Client(self, rng, self._interval)
        with client.session:
            while not self._end.is_set():
                try:
                    client.live(self._end)
                except Failed as exc:
                    self.failures.append(str(exc))
                except Exception as exc:
                    self.failures.append(f'{type(exc).__name__}: {exc}')

    def leftovers(self) -> list[str]:
        """What Cinder has of attachments when all are done: nothing.

        :returns: what is there all the same, in words
        """
        admin = self.cloud.cinderclient('admin')
        everywhere = {'all_tenants': 1}
        return [
            f'attachment {item.id} of volume {item.volume_id} to server '
            f'{item.instance} is {item.status}'
            for item in admin.attachments.list(search_opts=everywhere)
        ] + [
            f'volume {item.id} is {item.status}'
            for item in admin.volumes.list(search_opts=everywhere)
            if item.status == 'in-use'
        ]


class Client:
    """One of them: a member of a project, sometimes in Nova's hands.

    :param load: the others
    :param interval: seconds between two of its requests
    """

    def __init__(
        self, load: Load, rng: random.Random, interval: float
    ) -> None:
        self._load = load
        self._rng = rng
        self._interval = interval
        self._next = time.monotonic() + rng.random() * interval
        self.session = requests.Session()
        self.session.trust_env = False
        cloud = load.cloud
        self._server = cloud.nova.add_server(cloud.project_id('member')).id
        self._books = cloud.nova.servers[self._server].attachments
        self._volume = ''

    def live(self, end: threading.Event) -> None:
        """Do one thing after the other with a new volume.

        :param end: to stop when one is done
        :raises Failed: when something came out otherwise than it must
        """
        self._books.clear()
        self._volume = self._make_volume()
        habits: Mapping[Callable[[], None], int] = {
            self._read: 6,
            self._come_and_go: 2,
            self._forge: 5,
            self._attach_really: 3,
            self._be_glance: 2,
            self._be_nova: 3,
            self._finish_what_nova_began: 2,
            self._talk_nonsense: 2,
            self._reserve: 1,
        }
        while not end.is_set():
            (habit,) = self._rng.choices([*habits], [*habits.values()])
            habit()
        self._delete_volume()

    # What they do.

    def _read(self) -> None:
        for kind, path in self._rng.sample(
            [
                (LIST, '/volumes?limit=10'),
                (DETAIL, '/volumes/detail?limit=10&sort=created_at:desc'),
                (SHOW, f'/volumes/{self._volume}'),
                (LIST_ATTACHMENTS, f'/attachments?volume_id={self._volume}'),
            ],
            2,
        ):
            self._send(kind, 'GET', path)

    def _come_and_go(self) -> None:
        kept, self._volume = self._volume, self._make_volume()
        self._act(EXTEND, {'os-extend': {'new_size': 2}})
        self._wait_until_available()
        self._delete_volume()
        self._volume = str(uuid.uuid4())
        self._act(EXTEND_MISSING, {'os-extend': {'new_size': 2}})
        self._volume = kept

    def _forge(self) -> None:
        server = self._rng.choice([str(uuid.uuid4()), self._server])
        forged = [
            self._act(FORGED_ATTACH, _os_attach(server)),
            self._act(
                HOST_ATTACH,
                {'os-attach': {'host_name': 'h', 'mountpoint': '/dev/vdb'}},
            ),
            self._create(FORGED_CREATE, server),
            self._create(FORGED_CREATE, server, _CONNECTOR),
        ]
        self._must(not any(answer.passed for answer in forged), 'forged')

    def _attach_really(self) -> None:
        nova = self._load.cloud.nova
        nova.add_attachment(self._server, self._volume)
        if not self._act(REAL_ATTACH, _os_attach(self._server)).passed:
            self._books.clear()
            return
        pulled = [
            self._act(ATTACH_AGAIN, _os_attach(self._server)),
            self._act(LIVE_DETACH, {'os-detach': {}}),
            self._act(LIVE_BEGIN, {'os-begin_detaching': None}),
        ]
        self._must(not any(answer.passed for answer in pulled), 'pulled')
        self._books.clear()
        if not self._act(STALE_DETACH, {'os-detach': {}}).passed:
            self._act(NOVA_DETACH, {'os-detach': {}}, as_nova=True)
        self._wait_until_available()

    def _be_glance(self) -> None:
        made = self._create(HOST_CREATE, None)
        self._must(made.passed, 'no attachment without a server')
        attachment = made.body['attachment']['id']
        path = f'/attachments/{attachment}'
        update = {'attachment': {'connector': {'host': 'g', 'mode': 'rw'}}}
        self._send(HOST_UPDATE, 'PUT', path, update)
        self._send(
            HOST_COMPLETE, 'POST', f'{path}/action', {'os-complete': None}
        )
        self._send(HOST_DELETE, 'DELETE', path)
        self._wait_until_available()

    def _be_nova(self) -> None:
        made = self._create(NOVA_CREATE, self._server, as_nova=True)
        self._must(made.passed, 'Nova cannot attach')
        attachment = made.body['attachment']['id']
        self._load.cloud.nova.add_attachment(
            self._server, self._volume, attachment_id=attachment
        )
        path = f'/attachments/{attachment}'
        update = {'attachment': {'connector': _CONNECTOR}}
        self._send(NOVA_UPDATE, 'PUT', path, update, as_nova=True)
        self._send(
            NOVA_COMPLETE,
            'POST',
            f'{path}/action',
            {'os-complete': None},
            as_nova=True,
        )
        pulled = [
            self._send(LIVE_UPDATE, 'PUT', path, update),
            self._send(LIVE_DELETE, 'DELETE', path),
            self._act(LIVE_DETACH, {'os-detach': {'attachment_id': None}}),
        ]
        self._must(not any(answer.passed for answer in pulled), 'pulled')
        self._act(NOVA_BEGIN, {'os-begin_detaching': None}, as_nova=True)
        self._send(NOVA_DELETE, 'DELETE', path, as_nova=True)
        self._books.clear()
        self._wait_until_available()

    def _finish_what_nova_began(self) -> None:
        made = self._create(NOVA_CREATE, str(uuid.uuid4()), as_nova=True)
        self._must(made.passed, 'Nova cannot reserve')
        path = f'/attachments/{made.body["attachment"]["id"]}'
        update = {'attachment': {'connector': _CONNECTOR}}
        forged = [
            self._send(FORGED_UPDATE, 'PUT', path, update),
            self._send(
                FORGED_COMPLETE,
                'POST',
                f'{path}/action',
                {'os-complete': None},
            ),
        ]
        self._must(not any(answer.passed for answer in forged), 'forged')
        if not self._send(STALE_DELETE, 'DELETE', path).passed:
            self._send(NOVA_DELETE, 'DELETE', path, as_nova=True)
        self._wait_until_available()

    def _talk_nonsense(self) -> None:
        self._act(MALFORMED, {'os-attach': {}})
        wrong = _os_attach(str(uuid.uuid4()))
        wrong['os-attach']['mountpoint'] = ''
        self._act(MALFORMED, wrong)
        kept, self._volume = self._volume, str(uuid.uuid4())
        self._act(MISSING, _os_attach(self._server))
        self._volume = kept

    def _reserve(self) -> None:
        self._act(RESERVE, {'os-reserve': None})
        self._act(UNRESERVE, {'os-unreserve': None})

    # What that is made of.

    def _make_volume(self) -> str:
        made = self._send(CREATE, 'POST', '/volumes', {'volume': {'size': 1}})
        self._must(made.passed, 'no volume')
        kept, self._volume = self._volume, made.body['volume']['id']
        self._wait_until_available()
        made_id, self._volume = self._volume, kept
        return made_id

    def _delete_volume(self) -> None:
        self._send(DELETE, 'DELETE', f'/volumes/{self._volume}')

    def _wait_until_available(self) -> None:
        status = ''
        for _ in range(20):
            shown = self._send(SHOW, 'GET', f'/volumes/{self._volume}')
            if shown.passed:
                status = shown.body['volume']['status']
            if status == 'available':
                return
        raise Failed(f'volume {self._volume} is {status}')

    def _create(
        self,
        kind: accounting.Kind,
        server: str | None,
        connector: Mapping[str, Any] | None = None,
        *,
        as_nova: bool = False,
    ) -> Answer:
        asked: dict[str, Any] = {'volume_uuid': self._volume}
        if server is not None:
            asked['instance_uuid'] = server
        if connector is not None:
            asked['connector'] = connector
        return self._send(
            kind,
            'POST',
            '/attachments',
            {'attachment': asked},
            as_nova=as_nova,
        )

    def _act(
        self, kind: accounting.Kind, body: Any, *, as_nova: bool = False
    ) -> Answer:
        path = f'/volumes/{self._volume}/action'
        return self._send(kind, 'POST', path, body, as_nova=as_nova)

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise Failed(f'{what}: volume {self._volume}')

    def _send(
        self,
        kind: accounting.Kind,
        method: str,
        path: str,
        body: Any = None,
        *,
        as_nova: bool = False,
    ) -> Answer:
        self._wait_for_turn()
        id_ = f'req-{uuid.uuid4()}'
        url = self._load.url + path
        data = b'' if body is None else json.dumps(body).encode()
        headers = {
            'X-Auth-Token': self._load.member.get_token() or '',
            'OpenStack-API-Version': _VERSION,
            'Content-Type': 'application/json',
            recorder.ID: id_,
        }
        if as_nova:
            headers['X-Service-Token'] = self._load.nova.get_token() or ''
        split = urllib.parse.urlsplit(url)
        digest = accounting.digest(
            method,
            split.path,
            split.query,
            data,
            headers['Content-Type'],
            _VERSION,
        )
        fine = self._load.nova_is_fine()
        began = time.monotonic()
        try:
            answer = self.session.request(
                method, url, data=data, headers=headers, timeout=_TIMEOUT
            )
        except requests.RequestException as exc:
            said = f'{type(exc).__name__}: {exc}'
            self._load.sent.append(
                accounting.Sent(id_, kind, digest, False, None, detail=said)
            )
            raise Failed(said) from exc
        was_fine = fine is not None and fine == self._load.nova_is_fine()
        sent = accounting.Sent(
            id_,
            kind,
            digest,
            was_fine,
            answer.status_code,
            _reason(answer),
            answer.headers.get(recorder.ANSWERS),
            '' if answer.ok else answer.text[:300],
            time.monotonic() - began,
        )
        self._load.sent.append(sent)
        passed = sent.outcome is accounting.Outcome.PASSED and answer.ok
        return Answer(passed, _json(answer) if passed else None)

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        # Who is late does not catch up: a crowd is not what is tested.
        self._next = max(
            self._next + self._interval * self._rng.uniform(0.5, 1.5), now
        )
        time.sleep(self._next - now)


def _os_attach(server: str) -> dict[str, dict[str, str]]:
    return {'os-attach': {'instance_uuid': server, 'mountpoint': '/dev/vdb'}}


def _json(answer: requests.Response) -> Any:
    return answer.json() if answer.content else None


def _reason(answer: requests.Response) -> str | None:
    """The guard's reason; Cinder itself gives none."""
    if answer.ok:
        return None
    try:
        (fault,) = answer.json().values()
        reason: str | None = fault.get('reason')
    except (ValueError, AttributeError):
        return None
    return reason
