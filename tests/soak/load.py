# SPDX-License-Identifier: Apache-2.0
"""The clients, and what they do.

Each client has its own volume and server, so that it knows their state, and
which response each of its requests must get.  What Nova has is written into
the data of its stub.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import json
import random
import threading
import time
from typing import Any
import uuid

from tests.outage import guarded_cloud
from tests.outage.guarded_cloud import Response
from tests.soak import accounting
from tests.soak import recorder

_PASSED = accounting.Outcome.PASSED
_REFUSED = accounting.Outcome.REFUSED
_CLIENTS = 8
_MISTAKE_SECONDS = 60.0
_CONNECTOR = {'host': 'compute1', 'ip': '127.0.0.1', 'mode': 'rw'}
_UPDATE = {'attachment': {'connector': _CONNECTOR}}

_Kind = accounting.Kind

# Requests that need no decision.
LIST = _Kind('list', _PASSED, 200)
DETAIL = _Kind('list detail', _PASSED, 200)
SHOW = _Kind('show', _PASSED, 200)
LIST_ATTACHMENTS = _Kind('list attachments', _PASSED, 200)
CREATE = _Kind('create volume', _PASSED, 202)
EXTEND = _Kind('os-extend', _PASSED, 202)
EXTEND_MISSING = _Kind('os-extend of no volume', _PASSED, 404)
DELETE = _Kind('delete volume', _PASSED, 202)
# Forged attachments.
FORGED_ATTACH = _Kind('forged os-attach', _REFUSED, 403, True)
HOST_ATTACH = _Kind('os-attach to a host', _REFUSED, 403)
FORGED_CREATE = _Kind('forged create', _REFUSED, 403)
FORGED_UPDATE = _Kind('forged update', _REFUSED, 403)
FORGED_COMPLETE = _Kind('forged complete', _REFUSED, 403)
# Attachments that Nova has.
ATTACH_AGAIN = _Kind('os-attach again', _REFUSED, 403, True)
LIVE_DETACH = _Kind('live os-detach', _REFUSED, 409, True)
LIVE_BEGIN = _Kind('live os-begin_detaching', _REFUSED, 409, True)
LIVE_UPDATE = _Kind('live update', _REFUSED, 403)
LIVE_DELETE = _Kind('live delete', _REFUSED, 409, True)
# Attachments that Nova does not have.
STALE_DETACH = _Kind('stale os-detach', _PASSED, 202, True)
STALE_DELETE = _Kind('stale delete', _PASSED, 200, True)
# Attachments without a server, as of Glance.
HOST_CREATE = _Kind('create, no server', _PASSED, 200)
HOST_UPDATE = _Kind('update, no server', _PASSED, 200)
HOST_COMPLETE = _Kind('complete, no server', _PASSED, 204)
HOST_DELETE = _Kind('delete, no server', _PASSED, 200)
RESERVE = _Kind('os-reserve', _PASSED, 202)
UNRESERVE = _Kind('os-unreserve', _PASSED, 202)
# With a service token, as of Nova.
NOVA_ATTACH = _Kind('Nova: os-attach', _PASSED, 202)
NOVA_CREATE = _Kind('Nova: create', _PASSED, 200)
NOVA_UPDATE = _Kind('Nova: update', _PASSED, 200)
NOVA_COMPLETE = _Kind('Nova: complete', _PASSED, 204)
NOVA_BEGIN = _Kind('Nova: os-begin_detaching', _PASSED, 202)
NOVA_DELETE = _Kind('Nova: delete', _PASSED, 200)
NOVA_DETACH = _Kind('Nova: os-detach', _PASSED, 202)
# Requests with errors.
MALFORMED = _Kind('malformed', accounting.Outcome.MALFORMED, 400)
MISSING = _Kind('os-attach of no volume', accounting.Outcome.MISSING, 404)


class Failed(Exception):
    """A client cannot go on, and begins again with a new volume."""


class Load:
    """All the clients, and what they have sent.

    :param cloud: the cloud
    :param works_since: returns since when Nova has worked, by the monotonic
        clock; None while it does not
    :param rate: requests in a second, of all of them together
    :param calm: True if nobody attacks; one request a minute is a mistake
    """

    def __init__(
        self,
        cloud: guarded_cloud.GuardedCloud,
        works_since: Callable[[], float | None],
        rate: float,
        *,
        calm: bool = False,
    ) -> None:
        self.cloud = cloud
        self.calm = calm
        #: when the next mistake is due, by the monotonic clock
        self.next_mistake = time.monotonic() + _MISTAKE_SECONDS
        self.works_since = works_since
        self.sent: list[accounting.Sent] = []
        #: why clients had to begin again, in words
        self.failures: list[str] = []
        self.interval = _CLIENTS / rate
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(number),))
            for number in range(_CLIENTS)
        ]

    def start(self) -> None:
        """Start the clients, and wait until each has a volume.

        The first requests of all take Cinder seconds.
        """
        for thread in self._threads:
            thread.start()
        give_up = time.monotonic() + 240
        while time.monotonic() < give_up:
            shown = sum(one.kind is SHOW for one in list(self.sent))
            if shown >= len(self._threads):
                return
            time.sleep(0.05)

    def stop(self) -> None:
        """Let the clients finish what they do."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def leftovers(self) -> list[str]:
        """What is left of attachments in Cinder.

        :returns: what is there, in words; empty as it should be
        """
        admin = self.cloud.stubs.cinderclient('admin')
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

    def _run(self, rng: random.Random) -> None:
        client = Client(self, rng)
        while not self._over.is_set():
            try:
                client.run(self._over)
            except Failed as exc:
                self.failures.append(str(exc))
            except Exception as exc:
                self.failures.append(f'{type(exc).__name__}: {exc}')


class Client:
    """A member of a project, and Nova where it acts for the member.

    :param load: all the clients
    :param rng: for its choices
    """

    def __init__(self, load: Load, rng: random.Random) -> None:
        self._load = load
        self._rng = rng
        self._next = time.monotonic() + rng.random() * load.interval
        self._member = guarded_cloud.Caller(load.cloud, keep_alive=True)
        self._as_nova = guarded_cloud.Caller(
            load.cloud, service=True, keep_alive=True
        )
        # One connection: a server's thread is in use as long as it is open.
        self._as_nova.session = self._member.session
        stubs = load.cloud.stubs
        self._nova = stubs.nova
        self._server = self._nova.add_server(stubs.project_id('member')).id
        self._attachments = self._nova.servers[self._server].attachments
        self._volume = ''

    def run(self, over: threading.Event) -> None:
        """Use a new volume in one way after the other, and delete it.

        :param over: ends it
        :raises Failed: when something is not as it must be
        """
        self._attachments.clear()
        self._volume = self._create_volume()
        weights: Mapping[Callable[[], None], int] = {
            self._read: 6,
            self._use_another_volume: 2,
            self._act_as_glance: 2,
            self._act_as_nova: 3,
            self._reserve: 1,
            **(
                {self._make_a_mistake: 1}
                if self._load.calm
                else {
                    self._forge: 5,
                    self._attach: 3,
                    self._delete_stale: 2,
                    self._send_errors: 2,
                }
            ),
        }
        while not over.is_set():
            (use,) = self._rng.choices([*weights], [*weights.values()])
            use()
        self._delete_volume()

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

    def _use_another_volume(self) -> None:
        kept, self._volume = self._volume, self._create_volume()
        self._act(EXTEND, {'os-extend': {'new_size': 2}})
        self._wait_until_available()
        self._delete_volume()
        self._volume = str(uuid.uuid4())
        self._act(EXTEND_MISSING, {'os-extend': {'new_size': 2}})
        self._volume = kept

    def _forge(self) -> None:
        server = self._rng.choice([str(uuid.uuid4()), self._server])
        to_host = {'os-attach': {'host_name': 'h', 'mountpoint': '/dev/vdb'}}
        self._must_fail(
            self._act(FORGED_ATTACH, _os_attach(server)),
            self._act(HOST_ATTACH, to_host),
            self._create(FORGED_CREATE, server),
            self._create(FORGED_CREATE, server, connector=_CONNECTOR),
        )

    def _make_a_mistake(self) -> None:
        if time.monotonic() >= self._load.next_mistake:
            self._load.next_mistake += _MISTAKE_SECONDS
            self._must_fail(self._act(FORGED_ATTACH, _os_attach(self._server)))

    def _attach(self) -> None:
        self._nova.add_attachment(self._server, self._volume)
        self._act(NOVA_ATTACH, _os_attach(self._server))
        self._must_fail(
            self._act(ATTACH_AGAIN, _os_attach(self._server)),
            self._act(LIVE_DETACH, {'os-detach': {}}),
            self._act(LIVE_BEGIN, {'os-begin_detaching': None}),
        )
        self._attachments.clear()
        if not self._act(STALE_DETACH, {'os-detach': {}}).ok:
            self._act(NOVA_DETACH, {'os-detach': {}})
        self._wait_until_available()

    def _act_as_glance(self) -> None:
        path = self._attachment_path(self._create(HOST_CREATE, None))
        self._send(HOST_UPDATE, 'PUT', path, _UPDATE)
        self._complete(HOST_COMPLETE, path)
        self._send(HOST_DELETE, 'DELETE', path)
        self._wait_until_available()

    def _act_as_nova(self) -> None:
        path = self._attachment_path(self._create(NOVA_CREATE, self._server))
        self._nova.add_attachment(
            self._server, self._volume, attachment_id=path.split('/')[-1]
        )
        self._send(NOVA_UPDATE, 'PUT', path, _UPDATE)
        self._complete(NOVA_COMPLETE, path)
        if not self._load.calm:
            self._must_fail(
                self._send(LIVE_UPDATE, 'PUT', path, _UPDATE),
                self._send(LIVE_DELETE, 'DELETE', path),
                self._act(LIVE_DETACH, {'os-detach': {'attachment_id': None}}),
            )
        self._act(NOVA_BEGIN, {'os-begin_detaching': None})
        self._send(NOVA_DELETE, 'DELETE', path)
        self._attachments.clear()
        self._wait_until_available()

    def _delete_stale(self) -> None:
        made = self._create(NOVA_CREATE, str(uuid.uuid4()))
        path = self._attachment_path(made)
        self._must_fail(
            self._send(FORGED_UPDATE, 'PUT', path, _UPDATE),
            self._complete(FORGED_COMPLETE, path),
        )
        if not self._send(STALE_DELETE, 'DELETE', path).ok:
            self._send(NOVA_DELETE, 'DELETE', path)
        self._wait_until_available()

    def _send_errors(self) -> None:
        self._send(MALFORMED, 'POST', '/attachments', {'attachment': []})
        kept, self._volume = self._volume, str(uuid.uuid4())
        self._act(MISSING, _os_attach(self._server))
        self._volume = kept

    def _reserve(self) -> None:
        self._act(RESERVE, {'os-reserve': None})
        self._act(UNRESERVE, {'os-unreserve': None})

    # The requests that these consist of.

    def _create_volume(self) -> str:
        body = {'volume': {'size': 1}}
        created = self._send(CREATE, 'POST', '/volumes', body)
        self._must(created.ok, 'no volume was created')
        volume_id: str = created.body['volume']['id']
        self._wait_until_available(volume_id)
        return volume_id

    def _delete_volume(self) -> None:
        self._send(DELETE, 'DELETE', f'/volumes/{self._volume}')

    def _wait_until_available(self, volume_id: str | None = None) -> None:
        path = f'/volumes/{volume_id or self._volume}'
        for _ in range(20):
            shown = self._send(SHOW, 'GET', path)
            if shown.ok and shown.body['volume']['status'] == 'available':
                return
        raise Failed(f'{path} is not available: {shown}')

    def _create(
        self, kind: accounting.Kind, server: str | None, **values: Any
    ) -> Response:
        values['volume_uuid'] = self._volume
        if server is not None:
            values['instance_uuid'] = server
        return self._send(kind, 'POST', '/attachments', {'attachment': values})

    def _attachment_path(self, created: Response) -> str:
        self._must(created.ok, 'no attachment was created')
        return f'/attachments/{created.body["attachment"]["id"]}'

    def _complete(self, kind: accounting.Kind, path: str) -> Response:
        return self._send(
            kind, 'POST', f'{path}/action', {'os-complete': None}
        )

    def _act(self, kind: accounting.Kind, body: Any) -> Response:
        return self._send(
            kind, 'POST', f'/volumes/{self._volume}/action', body
        )

    def _must_fail(self, *responses: Response) -> None:
        self._must(not any(each.ok for each in responses), 'not refused')

    def _must(self, is_so: bool, what: str) -> None:
        if not is_so:
            raise Failed(f'{what}: volume {self._volume}')

    def _send(
        self, kind: accounting.Kind, method: str, path: str, body: Any = None
    ) -> Response:
        self._wait_for_turn()
        as_nova = kind.name.startswith('Nova: ')
        caller = self._as_nova if as_nova else self._member
        request_id = f'req-{uuid.uuid4()}'
        works = self._load.works_since()
        response = caller.send(method, path, body, {recorder.ID: request_id})
        path, _mark, query = f'{caller.path}{path}'.partition('?')
        self._load.sent.append(
            accounting.Sent(
                request_id,
                kind,
                accounting.digest(
                    method,
                    path,
                    query,
                    b'' if body is None else json.dumps(body).encode(),
                    caller.headers['Content-Type'],
                    caller.headers['OpenStack-API-Version'],
                ),
                works is not None and works == self._load.works_since(),
                response,
            )
        )
        self._must(bool(response.status), str(response.body))
        return response

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        # A client that is late does not send faster later.
        interval = self._load.interval * self._rng.uniform(0.5, 1.5)
        self._next = max(self._next + interval, now)
        time.sleep(self._next - now)


def _os_attach(server: str) -> dict[str, dict[str, str]]:
    return {'os-attach': {'instance_uuid': server, 'mountpoint': '/dev/vdb'}}
