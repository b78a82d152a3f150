# SPDX-License-Identifier: Apache-2.0
"""An attacker who has read the guard's source.

The tests check the records on both sides: a free volume stays free, and a
volume of a server stays with that server.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import time
from typing import Any
import urllib.parse
import uuid

from keystoneauth1 import session as ks_session
from keystoneauth1.identity import v3
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

#: Headers that differ in each response.
OF_ONE_RESPONSE = (
    'Date',
    'x-compute-request-id',
    'x-openstack-request-id',
)
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
    nova_credentials=False,
    guard_options={'on_nova_error': 'allow'},
)


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
            # 400 for an id that Cinder accepts, and the guard does not.
            assert status in (400, 403)
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
        assert response.status_code in (401, 409)

    @pytest.mark.parametrize('name', ['colleague', 'reader', 'admin'])
    def test_a_person(self, victim: Victim, name: str) -> None:
        response = victim.attach(token=victim.stage.caller(name).token)
        assert victim.is_free()
        # An admin's project is not the one in the path.
        assert response.status_code == (400 if name == 'admin' else 403)

    def test_an_admin_in_the_own_project(self, victim: Victim) -> None:
        response = victim.attach(by=victim.stage.admin)
        assert victim.is_free()
        assert attacks.reason(response) == 'server-lacks-volume'

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
            assert attacks.reason(response) == 'server-lacks-volume'
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


class ATokenThatNovaRefuses:
    """Nova's response is unknown, and the call is refused with 503."""

    @over_refused
    def test_is_unknown(
        self, victim: Victim, make: Callable[[Victim], str]
    ) -> None:
        response = victim.attach(token=make(victim))
        assert victim.is_free()
        assert response.status_code == 503
        assert attacks.reason(response) == 'nova-unknown'


class TestWhatARefusalReveals:
    """A refusal reveals nothing about other projects."""

    def test_a_server(self, victim: Victim) -> None:
        responses: dict[str, set[Any]] = {}
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
                assert response.status_code == 403
                responses.setdefault(next(iter(body)), set()).add(
                    (
                        response.text,
                        tuple(
                            header
                            for header in response.headers.items()
                            if header[0] not in OF_ONE_RESPONSE
                        ),
                    )
                )
        assert [len(found) for found in responses.values()] == [1, 1]

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
        assert attacks.reason(response) == 'server-has-volume'
        assert here.id in {one.id for one in stage.attachments('MyVol')}

        stage.wait_for_status(name, 'ACTIVE')
        state = stage.settle()
        assert state['volume MyVol']['records'] == [f'attached {name}']
        (held,) = state[f'server {name}']['volumes']
        assert held["Cinder's attachment"]
        assert here.id not in {one.id for one in stage.attachments('MyVol')}


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
            attacks.hammering(call_cinder, 16) as from_cinder,
            attacks.hammering(call_nova, 16) as from_nova,
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
class TestLenience(ForgedHeaders, ATokenThatNovaRefuses):
    """Options that an operator may have set for other reasons are safe."""
