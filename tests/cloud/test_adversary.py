# SPDX-License-Identifier: Apache-2.0
"""An attacker who has read the guard's source.

The tests check the records on both sides: a free volume stays free, and a
volume of a server stays with that server.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import threading
import time
from typing import Any
import urllib.parse
import uuid

from keystoneauth1 import session as ks_session
from keystoneauth1.identity import v3
from novaclient import exceptions as nova_exceptions
import pytest
import requests

from tests.cloud import attacks
from tests.cloud import cloud as clouds
from tests.cloud import compute_driver
from tests.cloud import config
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import rules
from tests.cloud import stage as stages
from tests.cloud import traffic as traffics

CONNECTOR = {'host': 'elsewhere', 'initiator': 'iqn.test:elsewhere'}


class Victim:
    """Volumes and servers to attack: the member's, and another project's.

    The volume ``bait`` is free, the server MyVm has ``live``; TheirVm, of
    another project, has ``theirs``.
    """

    def __init__(self, cloud: clouds.Cloud) -> None:
        self.stage = stages.Stage(cloud, f'req-{uuid.uuid4()}')
        self.member = self.stage.member
        self.other = self.stage.caller('other')
        self.stage.volume('bait')
        for owner, server, volume in (
            (self.member, 'MyVm', 'live'),
            (self.other, 'TheirVm', 'theirs'),
        ):
            self.stage.volume(volume, by=owner)
            self.stage.server(server, by=owner)
            self.stage.add_volume(volume, server, by=owner)
        self._at_rest = self.stage.settle()
        self.harmed = False
        (live,) = self.stage.attachments('live')
        self.ids = {
            'project': self.member.project_id,
            'stranger': self.other.project_id,
            'volume': self.stage.volumes['bait'],
            'live': self.stage.volumes['live'],
            'attachment': live.id,
            'server': self.stage.servers['MyVm'],
        }
        self.address = urllib.parse.urlsplit(cloud.places.url('cinder')).netloc

    def is_free(self) -> bool:
        """Whether the bait is available, and without an attachment."""
        volumes = self.stage.admin.cinder.volumes
        status = volumes.get(self.ids['volume']).status
        free = status == 'available' and not self.stage.attachments('bait')
        self.harmed = self.harmed or not free
        return free

    def is_unharmed(self) -> bool:
        """Whether the records on both sides are unchanged."""
        unharmed = self.stage.state() == self._at_rest
        self.harmed = self.harmed or not unharmed
        return unharmed

    def set_free(self) -> None:
        """Clear a forged attachment, as an operator does."""
        self.stage.admin.cinder.volumes.reset_state(
            self.ids['volume'], 'available', 'detached'
        )
        self.harmed = False

    def attacked(
        self, attack: attacks.Attack, token: str | None = None
    ) -> tuple[int, bytes]:
        """Send an attack, with the member's token by default."""
        return attacks.send(
            attack, self.address, token or self.member.token, self.ids
        )

    def attach(
        self, by: people.Caller | None = None, **kwargs: Any
    ) -> requests.Response:
        """Call os-attach for the bait and a server that does not have it."""
        caller = by or self.member
        return caller.send(
            'POST',
            f'/volumes/{self.ids["volume"]}/action',
            os_attach(self.ids['server']),
            **kwargs,
        )


def os_attach(server: str) -> dict[str, Any]:
    return {'os-attach': {'instance_uuid': server, 'mountpoint': '/dev/vdb'}}


class Holder:
    """Keeps one victim for many tests, until one harms it."""

    def __init__(self) -> None:
        self.victim: Victim | None = None

    def give_up(self) -> None:
        if self.victim is not None:
            self.victim.stage.clear()
        self.victim = None


@pytest.fixture(scope='module')
def holder() -> Iterator[Holder]:
    holder = Holder()
    yield holder
    holder.give_up()


@pytest.fixture
def victim(cloud: clouds.Cloud, holder: Holder) -> Iterator[Victim]:
    holder.victim = victim = holder.victim or Victim(cloud)
    yield victim
    if victim.harmed:
        holder.give_up()


# Every option is set in the attacker's favour.
LENIENT = modes.Mode(
    'lenient',
    guard=True,
    # Cinder's default up to its release 28.
    service_roles_required=False,
    guard_options={'on_nova_error': 'allow'},
)


def reason(response: requests.Response) -> str | None:
    """Why the guard refused; None where it did not."""
    (fault,) = response.json().values()
    why: str | None = fault.get('reason')
    return why


def over_attacks(values: Sequence[attacks.Attack]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        'attack', values, ids=lambda attack: attack.name
    )


@pytest.mark.mode(modes.UNGUARDED)
class TestWithoutTheGuard:
    """Cinder performs the forgeries, so it is the guard that stops them."""

    @over_attacks(attacks.ATTACKS)
    def test_a_form(self, victim: Victim, attack: attacks.Attack) -> None:
        victim.attacked(attack)
        assert victim.is_free() is not attack.forges
        if attack.forges:
            victim.set_free()


class TestForms:
    """No form of a forgery succeeds."""

    @over_attacks(attacks.ATTACKS)
    def test_a_form(self, victim: Victim, attack: attacks.Attack) -> None:
        status, _response = victim.attacked(attack)
        assert victim.is_free()
        if attack.method == 'OPTIONS':
            # The filter "cors" turns every failure into 200.
            assert status == 200
        elif attack.forges:
            assert status == 403
        else:
            # 503 where Cinder fails to read the volume for such a request.
            assert 400 <= status < 500 or status == 503


FORGED: dict[str, Callable[[Victim], dict[str, str]]] = {
    'service headers': lambda _: {
        'X-Service-Identity-Status': 'Confirmed',
        'X-Service-Roles': 'service',
        'X-Service-User-Id': 'nova',
    },
    'service headers with underscores': lambda _: {
        'X_Service_Identity_Status': 'Confirmed',
        'X_Service_Roles': 'service',
    },
    'service headers and a token that is none': lambda _: {
        'X-Service-Identity-Status': 'Confirmed',
        'X-Service-Roles': 'service',
        'X-Service-Token': 'gAAAAA',
    },
    'identity headers': lambda _: {
        'X-Identity-Status': 'Confirmed',
        'X-Roles': 'admin,service',
        'X-User-Id': 'nova',
        'X-Is-Admin-Project': 'True',
    },
    'the own token twice': lambda victim: {
        'X-Service-Token': victim.member.token
    },
    "somebody else's token": lambda victim: {
        'X-Service-Token': victim.other.token
    },
    "an admin's token": lambda victim: {
        'X-Service-Token': victim.stage.admin.token
    },
}

over_forged = pytest.mark.parametrize('forged', FORGED)


class ForgedHeaders:
    """Headers of a client do not make it a service."""

    @over_forged
    def test_forged_headers(self, victim: Victim, forged: str) -> None:
        response = victim.attach(headers=FORGED[forged](victim))
        assert victim.is_free()
        assert response.status_code in (401, 403)


class TestWhoCalls(ForgedHeaders):
    """The caller is the one of the token."""

    @over_forged
    def test_to_pull_a_live_volume(self, victim: Victim, forged: str) -> None:
        response = victim.member.send(
            'DELETE',
            f'/attachments/{victim.ids["attachment"]}',
            headers=FORGED[forged](victim),
        )
        assert victim.is_unharmed()
        assert response.status_code in (401, 403)

    @pytest.mark.parametrize('name', ['colleague', 'reader', 'admin'])
    def test_a_person(self, victim: Victim, name: str) -> None:
        response = victim.attach(token=victim.stage.caller(name).token)
        assert victim.is_free()
        # An admin's project is not the one in the path.
        assert response.status_code == (400 if name == 'admin' else 403)

    def test_an_admin_in_the_own_project(self, victim: Victim) -> None:
        response = victim.attach(by=victim.stage.admin)
        assert victim.is_free()
        assert reason(response) == 'server-lacks-volume'

    def test_a_token_of_another_project(self, victim: Victim) -> None:
        response = victim.attach(token=victim.other.token)
        assert victim.is_free()
        assert response.status_code == 400
        assert victim.attach(by=victim.other).status_code == 404
        assert victim.is_free()

    def test_an_expired_token(
        self, victim: Victim, cloud: clouds.Cloud
    ) -> None:
        token = ks_session.Session(
            v3.Password(
                cloud.start_brief_keystone(),
                username='member',
                password=config.PASSWORD,
                project_name='demo',
                user_domain_name='Default',
                project_domain_name='Default',
            )
        ).get_token()
        assert victim.attach(token=token).status_code == 403
        time.sleep(3.5)
        assert victim.attach(token=token).status_code == 401
        assert victim.is_free()


class TestSomebodyWithTheRoleService:
    """A user to whom an operator gave the role, in a tenant's project."""

    @pytest.fixture
    def intruder(self, victim: Victim) -> people.Caller:
        return victim.stage.caller('intruder')

    @pytest.fixture
    def pinned(self, cloud: clouds.Cloud) -> dict[str, str]:
        """The rule of the guide that accepts one user only: Nova's."""
        nova = people.caller(cloud.places, 'nova').session.get_user_id()
        assert nova
        return rules.documented('trust', 'Services', id=nova)

    def test_is_a_service_by_default(
        self, victim: Victim, intruder: people.Caller
    ) -> None:
        assert victim.attach(by=intruder).status_code == 202
        assert not victim.is_free()
        victim.set_free()
        for_another = {'X-Service-Token': intruder.token}
        assert victim.attach(headers=for_another).status_code == 202
        assert not victim.is_free()
        victim.set_free()

    def test_is_none_where_the_service_is_pinned(
        self,
        victim: Victim,
        intruder: people.Caller,
        policy_file: rules.Rules,
        pinned: dict[str, str],
    ) -> None:
        policy_file.write(pinned)
        for response in (
            victim.attach(by=intruder),
            victim.attach(headers={'X-Service-Token': intruder.token}),
        ):
            assert reason(response) == 'server-lacks-volume'
            assert victim.is_free()

    def test_nova_is_one_where_it_is_pinned(
        self,
        stage: stages.Stage,
        policy_file: rules.Rules,
        pinned: dict[str, str],
    ) -> None:
        policy_file.write(pinned)
        vm, volume = stage.server('MyVm'), stage.volume('MyVol')
        stage.add_volume('MyVol', 'MyVm')
        stage.member.nova.volumes.delete_server_volume(vm, volume)
        stage.wait_for_status('MyVol', 'available')


def for_cinder_alone(victim: Victim) -> str:
    """A token that Nova refuses: any user can make such a credential."""
    user = victim.member.session.get_user_id()
    # Typed as the older of two versions, too.
    identity: Any = victim.member.sdk.identity
    made = identity.create_application_credential(
        user=user,
        name=f'cinder-{uuid.uuid4()}',
        access_rules=[
            {'service': 'block-storage', 'method': method, 'path': '/v3/**'}
            for method in ('GET', 'POST', 'PUT', 'DELETE')
        ],
    )
    token = ks_session.Session(
        v3.ApplicationCredential(
            victim.stage.cloud.places.keystone_url,
            application_credential_id=made.id,
            application_credential_secret=made.secret,
        )
    ).get_token()
    assert token is not None
    return token


def revoked(victim: Victim) -> str:
    """A token that Cinder has cached, and Nova has not."""
    places = victim.stage.cloud.places
    token = people.caller(places, 'member').token
    assert victim.member.send('GET', '/volumes', token=token).ok
    requests.delete(
        f'{places.keystone_url}/auth/tokens',
        headers={'X-Auth-Token': token, 'X-Subject-Token': token},
        timeout=60,
    ).raise_for_status()
    return token


over_refused = pytest.mark.parametrize('make', [for_cinder_alone, revoked])


class TestATokenThatNovaRefuses:
    """Nova's response is unknown, and the call is refused with 503."""

    @over_refused
    def test_is_unknown(
        self, victim: Victim, make: Callable[[Victim], str]
    ) -> None:
        response = victim.attach(token=make(victim))
        assert victim.is_free()
        assert response.status_code == 503
        assert reason(response) == 'nova-unknown'


class TestWhatARefusalReveals:
    """A refusal reveals nothing about other projects."""

    def test_a_server(self, victim: Victim) -> None:
        responses = set()
        for server in (
            # Without the volume, of another project, of nobody.
            victim.stage.servers['MyVm'],
            victim.stage.servers['TheirVm'],
            str(uuid.uuid4()),
        ):
            for body in (
                os_attach(server),
                {
                    'attachment': {
                        'volume_uuid': victim.ids['volume'],
                        'instance_uuid': server,
                    }
                },
            ):
                response = victim.member.send(
                    'POST',
                    '/attachments'
                    if 'attachment' in body
                    else f'/volumes/{victim.ids["volume"]}/action',
                    body,
                )
                responses.add(
                    (
                        response.status_code,
                        response.text,
                        tuple(
                            header
                            for header in response.headers.items()
                            if header[0]
                            not in ('Date', 'x-openstack-request-id')
                        ),
                    )
                )
        assert len({text for _status, text, _headers in responses}) == 1
        # Cinder says the microversion, and its own request id.
        assert {status for status, _text, _headers in responses} == {403}

    @pytest.mark.parametrize(
        'body',
        [
            os_attach(str(uuid.uuid4())),
            {'os-detach': {}},
            {'os-begin_detaching': None},
            {'os-terminate_connection': {'connector': CONNECTOR}},
            {'os-reserve': None},
        ],
        ids=lambda body: next(iter(body)),
    )
    def test_a_volume(self, victim: Victim, body: dict[str, Any]) -> None:
        theirs = victim.stage.volumes['theirs']
        responses = set()
        for volume in (theirs, str(uuid.uuid4())):
            response = victim.member.send(
                'POST', f'/volumes/{volume}/action', body
            )
            responses.add(
                (
                    response.status_code,
                    response.text.replace(volume, 'the volume'),
                )
            )
        assert len(responses) == 1
        assert responses.pop()[0] == 404
        assert victim.is_unharmed()

    @pytest.mark.parametrize('method', ['PUT', 'POST', 'DELETE'])
    def test_an_attachment(self, victim: Victim, method: str) -> None:
        (theirs,) = victim.stage.attachments('theirs')
        path = f'/attachments/{theirs.id}'
        response = victim.member.send(
            method,
            f'{path}/action' if method == 'POST' else path,
            {
                'PUT': {'attachment': {'connector': CONNECTOR}},
                'POST': {'os-complete': {}},
                'DELETE': None,
            }[method],
        )
        assert response.status_code == 404
        assert victim.is_unharmed()


class TestALiveVolume:
    """It stays with the server that has it."""

    @over_attacks(attacks.PULLS)
    def test_is_not_pulled(
        self, victim: Victim, attack: attacks.Attack
    ) -> None:
        status, _body = victim.attacked(attack)
        assert victim.is_unharmed()
        assert 400 <= status < 500

    @over_attacks(attacks.HARMLESS)
    def test_is_not_changed_by_an_allowed_call(
        self, victim: Victim, attack: attacks.Attack
    ) -> None:
        status, _body = victim.attacked(attack)
        assert status < 300
        assert victim.is_unharmed()

    def test_what_a_migration_left_behind_is_removed(
        self, victim: Victim
    ) -> None:
        left = victim.stage.forge('live', victim.ids['server'])
        assert not victim.is_unharmed()
        response = victim.member.send('DELETE', f'/attachments/{left}')
        assert response.status_code == 200
        assert victim.is_unharmed()
        victim.harmed = False

    def test_is_not_pulled_while_its_server_moves(
        self, stage: stages.Stage
    ) -> None:
        name = f'a-{compute_driver.SLOW_TO_MOVE}-vm'
        vm = stage.server(name)
        stage.volume('MyVol')
        stage.add_volume('MyVol', name)
        (here,) = stage.attachments('MyVol')

        stage.admin.nova.servers.live_migrate(vm, None, 'auto')
        stages.wait_for(
            'no attachment on the other host',
            lambda: len(stage.attachments('MyVol')) == 2,
        )
        response = stage.member.send('DELETE', f'/attachments/{here.id}')
        assert reason(response) == 'server-has-volume'
        assert here.id in {one.id for one in stage.attachments('MyVol')}

        stage.wait_for_status(name, 'ACTIVE')
        state = stage.settle()
        assert state['volume MyVol']['records'] == [f'attached {name}']
        (held,) = state[f'server {name}']['volumes']
        assert held["Cinder's attachment"]
        assert here.id not in {one.id for one in stage.attachments('MyVol')}


class TestAServerThatIsNowhere:
    """Nova reports the volume of a server that is on no host."""

    def test_a_shelved_one(self, stage: stages.Stage) -> None:
        servers = stage.member.nova.servers
        vm = stage.server('MyVm')
        stage.volume('MyVol')
        servers.shelve(vm)
        stage.wait_for_status('MyVm', 'SHELVED_OFFLOADED')
        stage.add_volume('MyVol', 'MyVm')
        before = stage.settle()

        (attachment,) = stage.attachments('MyVol')
        response = self.connect(stage, attachment.id)
        assert reason(response) == 'already-attached'
        assert stage.state() == before

        servers.unshelve(vm)
        stage.wait_for_status('MyVm', 'ACTIVE')
        state = stage.settle()
        assert state['volume MyVol']['records'] == ['attached MyVm']

    def test_one_that_no_host_takes(self, stage: stages.Stage) -> None:
        """Its owner can complete the attachment, until the server is gone."""
        volume = stage.volume('MyVol')
        vm = stage.server(
            'MyVm',
            status='ERROR',
            disks=[
                {
                    'uuid': volume,
                    'source_type': 'volume',
                    'destination_type': 'volume',
                    'boot_index': -1,
                }
            ],
            flavor=stage.flavor('nowhere'),
        )
        (attachment,) = stage.attachments('MyVol')
        assert self.connect(stage, attachment.id).ok
        assert stage.member.send(
            'POST', f'/attachments/{attachment.id}/action', {'os-complete': {}}
        ).ok
        state = stage.settle()
        assert state['volume MyVol']['records'] == ['attached MyVm']
        assert len(state['server MyVm']['volumes']) == 1

        stage.member.nova.servers.delete(vm)
        stage.wait_for_status('MyVm', 'gone')
        stage.wait_for_status('MyVol', 'available')
        assert stage.attachments('MyVol') == []

    def connect(
        self, stage: stages.Stage, attachment: str
    ) -> requests.Response:
        return stage.member.send(
            'PUT',
            f'/attachments/{attachment}',
            {'attachment': {'connector': CONNECTOR}},
        )


@contextlib.contextmanager
def hammering(
    call: Callable[[], int], threads: int = 8
) -> Iterator[collections.Counter[int]]:
    """Repeat a call in several threads during the ``with`` block.

    :param call: returns the status of the response
    :returns: the number of responses by status
    """
    counted: collections.Counter[int] = collections.Counter()
    lock = threading.Lock()
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            status = call()
            with lock:
                counted[status] += 1

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield counted
    finally:
        over.set()
        for worker in workers:
            worker.join()


def by_os_attach(stage: stages.Stage, token: str) -> int:
    return stage.member.send(
        'POST',
        f'/volumes/{stage.volumes["MyVol"]}/action',
        os_attach(stage.servers['MyVm']),
        token=token,
    ).status_code


def by_an_attachment(stage: stages.Stage, token: str) -> int:
    made = stage.member.send(
        'POST',
        '/attachments',
        {
            'attachment': {
                'volume_uuid': stage.volumes['MyVol'],
                'instance_uuid': stage.servers['MyVm'],
            }
        },
        token=token,
    )
    if made.ok:
        attachment = made.json()['attachment']['id']
        stage.member.send(
            'POST',
            f'/attachments/{attachment}/action',
            {'os-complete': {}},
            token=token,
        )
    return made.status_code


class TestSimultaneousCalls:
    """Nova's response can change between the query and the call."""

    @pytest.fixture(params=[by_os_attach, by_an_attachment])
    def forge(
        self, request: pytest.FixtureRequest, stage: stages.Stage
    ) -> Callable[[], int]:
        stage.server('MyVm')
        stage.volume('MyVol')
        token = stage.member.token
        return lambda: int(request.param(stage, token))

    def attach_and_detach(self, stage: stages.Stage) -> None:
        """Attach and detach the volume through Nova."""
        stage.add_volume('MyVol', 'MyVm')
        stage.settle()
        stage.member.nova.volumes.delete_server_volume(
            stage.servers['MyVm'], stage.volumes['MyVol']
        )
        stages.wait_for(
            'Nova still has the volume', lambda: not stage.mappings('MyVm')
        )

    def test_a_forged_attachment_can_be_cleared(
        self, stage: stages.Stage, forge: Callable[[], int]
    ) -> None:
        with (
            hammering(forge) as counted,
            # Nova's own attachment can be what comes too late.
            contextlib.suppress(nova_exceptions.ClientException),
        ):
            self.attach_and_detach(stage)
        # Nearly all are refused. Others leave an attachment too many.
        assert counted[403] > 0
        stage.settle()
        for record in stage.attachments('MyVol'):
            response = stage.member.send('DELETE', f'/attachments/{record.id}')
            assert response.ok
        stage.member.cinder.volumes.detach(stage.volumes['MyVol'])
        stage.wait_for_status('MyVol', 'available')
        assert stage.attachments('MyVol') == []
        self.attach_and_detach(stage)
        stage.wait_for_status('MyVol', 'available')
        assert stage.attachments('MyVol') == []

    def test_the_rules_of_the_guide_prevent_it(
        self,
        stage: stages.Stage,
        policy_file: rules.Rules,
        forge: Callable[[], int],
    ) -> None:
        policy_file.write(rules.documented('limits', 'Simultaneous calls'))
        # This request makes the guard read the new rules.
        assert forge() == 403
        with hammering(forge) as counted:
            self.attach_and_detach(stage)
        assert set(counted) == {403}
        stage.wait_for_status('MyVol', 'available')
        assert stage.attachments('MyVol') == []


class TestAReservation:
    """A member reserves a multiattach volume that a server has."""

    @pytest.fixture
    def reserve(self, stage: stages.Stage) -> Callable[[], int]:
        stage.server('MyVm')
        volume = stage.volume('MyVol', volume_type='multiattach')
        stage.add_volume('MyVol', 'MyVm')
        stage.settle()
        path = f'/volumes/{volume}/action'
        return lambda: (
            stage.member.send('POST', path, {'os-reserve': None}).status_code
        )

    def move(self, stage: stages.Stage) -> bool:
        """Migrate the server, as an operator.

        :returns: whether it is on another host
        """

        def host() -> str:
            server = stage.admin.nova.servers.get(stage.servers['MyVm'])
            return str(getattr(server, 'OS-EXT-SRV-ATTR:host'))

        before = host()
        stage.admin.nova.servers.live_migrate(
            stage.servers['MyVm'], None, 'auto'
        )
        stage.wait_for_status('MyVm', 'ACTIVE')
        return host() != before

    def test_keeps_the_server_where_it_is(
        self, stage: stages.Stage, reserve: Callable[[], int]
    ) -> None:
        assert reserve() == 202
        assert not self.move(stage)
        stage.admin.cinder.volumes.unreserve(stage.volumes['MyVol'])
        assert self.move(stage)

    def test_the_rules_of_the_guide_prevent_it(
        self,
        stage: stages.Stage,
        reserve: Callable[[], int],
        policy_file: rules.Rules,
    ) -> None:
        policy_file.write(rules.documented('limits', 'Multiattach volumes'))
        assert reserve() == 403
        assert self.move(stage)


class TestAFlood:
    """Many requests to both APIs, each of which queries the other."""

    def test_does_not_make_them_wait_for_each_other(
        self,
        victim: Victim,
        stage: stages.Stage,
        cloud: clouds.Cloud,
        traffic: traffics.Traffic,
    ) -> None:
        stage.volume('MyVol')
        token = victim.member.token
        nova = (
            f'{cloud.places.url("nova")}/v2.1/servers/{victim.ids["server"]}'
            '/os-volume_attachments'
        )

        def call_nova() -> int:
            # Nova queries Cinder about this volume.
            return requests.post(
                nova,
                json={'volumeAttachment': {'volumeId': str(uuid.uuid4())}},
                headers={'X-Auth-Token': token},
                timeout=120,
            ).status_code

        def call_cinder() -> int:
            return victim.attach(token=token).status_code

        before = len(list(traffic.decisions()))
        with (
            hammering(call_cinder, 16) as from_cinder,
            hammering(call_nova, 16) as from_nova,
        ):
            time.sleep(6)
        assert set(from_cinder) <= {403, 503}
        assert set(from_nova) == {404}
        given_up = [
            decision
            for decision in list(traffic.decisions())[before:]
            if 'nova_timeout' in decision.get('detail', '')
        ]
        assert given_up == []
        assert victim.is_unharmed()


@pytest.mark.mode(LENIENT)
class TestLenience(ForgedHeaders, TestATokenThatNovaRefuses):
    """Options that an operator may have set for other reasons are safe."""
