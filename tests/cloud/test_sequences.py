# SPDX-License-Identifier: Apache-2.0
"""Sequences of calls, and races, that once left the records in disagreement.

Each is done by a member of the volume's project, and refused; what is
legitimate about it passes. A call that would clear what Nova has gets 409, as
from Cinder itself: the reason in the response shows that the guard sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import functools
import time
from typing import Any
import uuid

import pytest

from tests.cloud import attacks
from tests.cloud import compute_driver
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import runs
from tests.cloud import stage as stages
from tests.cloud import traffic as traffics

CONNECTOR = {'host': 'elsewhere', 'initiator': 'iqn.test:elsewhere'}

#: Method, path and body.
Call = tuple[str, str, Any]
Answer = tuple[int, str | None]

HAS: Answer = (409, 'server-has-volume')
REFUSED: Answer = (403, 'server-has-volume')


def action(volume: str, name: str, **arguments: Any) -> Call:
    return 'POST', f'/volumes/{volume}/action', {name: arguments or None}


def create(volume: str, **arguments: Any) -> Call:
    body = {'attachment': {'volume_uuid': volume, **arguments}}
    return 'POST', '/attachments', body


def connect(attachment: str) -> Call:
    body = {'attachment': {'connector': CONNECTOR}}
    return 'PUT', f'/attachments/{attachment}', body


def complete(attachment: str) -> Call:
    return 'POST', f'/attachments/{attachment}/action', {'os-complete': {}}


def delete(attachment: str) -> Call:
    return 'DELETE', f'/attachments/{attachment}', None


def transfer(volume: str) -> Call:
    body = {'transfer': {'volume_id': volume, 'name': 'gift'}}
    return 'POST', '/volume-transfers', body


def clearing(volume: str, attachment: str) -> dict[str, Call]:
    """Every call that clears an attachment, or prepares it."""
    return {
        'attachment-delete': delete(attachment),
        'os-detach': ('POST', f'/volumes/{volume}/action', {'os-detach': {}}),
        'os-detach naming it': action(
            volume, 'os-detach', attachment_id=attachment
        ),
        'os-begin_detaching': action(volume, 'os-begin_detaching'),
        'os-terminate_connection': action(
            volume, 'os-terminate_connection', connector=CONNECTOR
        ),
    }


def send(caller: people.Caller, call: Call) -> Answer:
    """The status of the response, and why the guard refused, if it did."""
    response = caller.send(*call)
    return response.status_code, attacks.reason(response)


def answers(
    caller: people.Caller, calls: Mapping[str, Call]
) -> dict[str, Answer]:
    return {name: send(caller, call) for name, call in calls.items()}


def attachment(stage: stages.Stage, volume: str = 'MyVol') -> str:
    (found,) = stage.attachments(volume)
    return str(found.id)


def disk(volume: str) -> dict[str, Any]:
    return {
        'uuid': volume,
        'source_type': 'volume',
        'destination_type': 'volume',
        'boot_index': -1,
    }


def assert_agreed(stage: stages.Stage, server: str = 'MyVm') -> None:
    """The server has MyVol, by Cinder's only record."""
    state = stage.settle()
    assert state['volume MyVol']['status'] == 'in-use'
    assert state['volume MyVol']['records'] == [f'attached {server}']
    (held,) = state[f'server {server}']['volumes']
    assert held["Cinder's attachment"]


def assert_free(stage: stages.Stage) -> None:
    stage.wait_for_status('MyVol', 'available')
    assert stage.attachments('MyVol') == []


class Unseen:
    """An admin attached the volume to a server of another project.

    To the owner of the volume, Nova answers that there is no such server.
    """

    expected: Answer

    @pytest.fixture
    def lent(self, stage: stages.Stage) -> str:
        stage.server('TheirVm', by=stage.caller('other'))
        volume = stage.volume('MyVol')
        stage.add_volume('MyVol', 'TheirVm', by=stage.admin)
        return volume

    def test_a_server_that_is_not_seen(
        self, stage: stages.Stage, lent: str
    ) -> None:
        before = stage.settle()
        calls = clearing(lent, attachment(stage))
        assert answers(stage.member, calls) == dict.fromkeys(
            calls, self.expected
        )
        # Cinder's own refusal.
        assert send(stage.member, ('DELETE', f'/volumes/{lent}', None)) == (
            400,
            None,
        )
        assert stage.state() == before

        stage.admin.nova.volumes.delete_server_volume(
            stage.servers['TheirVm'], lent
        )
        assert_free(stage)

    def test_what_a_deleted_server_left(self, stage: stages.Stage) -> None:
        """Its owner clears it, as in the story: ``vol.detach()``."""
        volume = stage.volume('MyVol')
        forged = os_attach_as_a_service(stage, str(uuid.uuid4()))
        assert send(stage.member, delete(forged)) == (200, None)
        assert_free(stage)
        os_attach_as_a_service(stage, str(uuid.uuid4()))
        stage.member.cinder.volumes.detach(volume)
        assert_free(stage)


def os_attach_as_a_service(stage: stages.Stage, server: str) -> str:
    headers = {'X-Service-Token': stage.caller('cinder').token}
    stage.member.send(
        *action(
            stage.volumes['MyVol'],
            'os-attach',
            instance_uuid=server,
            mountpoint='/dev/vdb',
        ),
        headers=headers,
    ).raise_for_status()
    return attachment(stage)


class TestUnseen(Unseen):
    """The guard's own credentials see it."""

    expected = HAS


class TestMigration:
    """A volume is copied; a hidden one is attached to the server, too."""

    def test_a_retype(self, stage: stages.Stage) -> None:
        name = f'a-{compute_driver.SLOW_TO_MOVE}-vm'
        for _ in range(runs.ATTEMPTS):
            self.retype(stage, name)
            if stage.settle()['volume MyVol']['records']:
                break
            # No call has passed: Cinder's own race, see tests/cloud/runs.py.
            stage.clear()
        assert_agreed(stage, name)

    def retype(self, stage: stages.Stage, name: str) -> None:
        vm, volume = stage.server(name), stage.volume('MyVol')
        stage.add_volume('MyVol', name)
        before = attachment(stage)
        member = stage.member
        member.cinder.volumes.retype(volume, 'two', 'on-demand')

        def hidden() -> list[Any]:
            return [
                record
                for record in member.cinder.attachments.list(
                    detailed=True, search_opts={'instance_id': vm}
                )
                if record.volume_id != volume
            ]

        stages.wait_for('no hidden volume is attached', hidden)
        (target,) = hidden()
        calls = {
            'os-detach naming the other': action(
                volume, 'os-detach', attachment_id=target.id
            ),
            **{
                f'{call} of the hidden volume': value
                for call, value in clearing(
                    target.volume_id, target.id
                ).items()
            },
            **clearing(volume, before),
        }
        for call, (status, why) in answers(member, calls).items():
            # 503 for a young attachment; 404 if it is over already.
            assert status in (403, 404, 409, 503), call
            assert why is not None or status == 404, call

        def is_over() -> bool:
            found = stage.admin.cinder.volumes.get(volume)
            return '@two' in getattr(found, 'os-vol-host-attr:host') and (
                found.migration_status in (None, 'success')
            )

        stages.wait_for('the volume is not on the other backend', is_over)
        assert not hidden()


class TestBuilding:
    """A volume of a server that is built, or that no host takes."""

    def test_while_it_is_built(self, stage: stages.Stage) -> None:
        volume = stage.volume('MyVol')

        def clear() -> None:
            for record in stage.attachments('MyVol'):
                for call in (
                    delete(record.id),
                    action(volume, 'os-detach', attachment_id=record.id),
                    transfer(volume),
                ):
                    seen.add(send(stage.member, call))

        seen: set[Answer] = set()
        with attacks.hammering(clear, threads=2):
            stage.server('MyVm', disks=[disk(volume)])
        assert seen
        for status, why in seen:
            assert status in (403, 409, 503), why
            assert why is not None
        assert_agreed(stage)

        forge = action(
            volume,
            'os-attach',
            instance_uuid=stage.servers['MyVm'],
            mountpoint='/dev/vdb',
        )
        assert send(stage.member, forge)[0] == 403
        stage.member.nova.servers.delete(stage.servers['MyVm'])
        assert_free(stage)
        # Now it can be given away.
        self.give(stage, volume)

    def give(self, stage: stages.Stage, volume: str) -> None:
        made = stage.member.cinder.transfers.create(volume, 'gift')
        stage.caller('other').cinder.transfers.accept(made.id, made.auth_key)
        stage.wait_for_status('MyVol', 'available')

    def test_one_that_no_host_takes(self, stage: stages.Stage) -> None:
        volume = stage.volume('MyVol')
        vm = stage.server(
            'MyVm',
            status='ERROR',
            disks=[disk(volume)],
            flavor=stage.flavor('nowhere'),
        )
        before = stage.settle()
        reserved = attachment(stage)
        assert send(stage.member, delete(reserved)) == HAS
        for call in (connect(reserved), complete(reserved)):
            assert send(stage.member, call) == (403, 'names-server')
        assert stage.state() == before

        stage.member.nova.servers.delete(vm)
        stage.wait_for_status('MyVm', 'gone')
        assert_free(stage)

    def test_a_shelved_one(self, stage: stages.Stage) -> None:
        servers = stage.member.nova.servers
        vm = stage.server('MyVm')
        stage.volume('MyVol')
        stage.add_volume('MyVol', 'MyVm')
        servers.shelve(vm)
        stage.wait_for_status('MyVm', 'SHELVED_OFFLOADED')
        before = stage.settle()
        reserved = attachment(stage)
        for call in (connect(reserved), complete(reserved)):
            assert send(stage.member, call) == (403, 'names-server')
        assert send(stage.member, delete(reserved)) == HAS
        assert stage.state() == before

        servers.unshelve(vm)
        stage.wait_for_status('MyVm', 'ACTIVE')
        assert_agreed(stage)


class TestAvailableAndLive:
    """A volume that says ``available``, and that a server has."""

    def test_os_reimage(self, stage: stages.Stage) -> None:
        volume = stage.volume('MyVol')
        before = stage.everything()
        call = action(volume, 'os-reimage', image_id=stage.image.id)
        assert send(stage.member, call) == (403, 'policy')
        assert stage.everything() == before

    def test_what_is_available_is_not_given_away(
        self, stage: stages.Stage
    ) -> None:
        stage.server('MyVm')
        volume = stage.volume('MyVol')
        stage.add_volume('MyVol', 'MyVm')
        reset = stage.admin.cinder.volumes.reset_state
        # As os-reimage leaves it.
        reset(volume, 'available')
        calls = clearing(volume, attachment(stage))
        assert answers(stage.member, calls) == dict.fromkeys(calls, HAS)
        assert send(stage.member, transfer(volume)) == (403, 'has-attachment')
        reset(volume, 'in-use')
        assert_agreed(stage)


class TestABackup:
    """The end of a backup writes the status from before it."""

    def test_what_is_backed_up_is_not_given_away(
        self, stage: stages.Stage
    ) -> None:
        vm = stage.server('MyVm')
        volume = stage.volume('MyVol')
        stage.add_volume('MyVol', 'MyVm')
        # The cloud has no service for backups: what its API would write.
        write = functools.partial(stage.cloud.mariadb.write, 'cinder')
        write(
            'INSERT INTO backups (id, volume_id, user_id, project_id, host, '
            'status, created_at, deleted) '
            "VALUES (UUID(), %s, 'x', %s, 'x', 'creating', NOW(), 0)",
            (volume, stage.member.project_id),
        )
        write(
            "UPDATE volumes SET status = 'backing-up' WHERE id = %s", (volume,)
        )
        stage.member.nova.servers.delete(vm)
        # Cinder loses that it makes a backup.
        assert_free(stage)
        assert send(stage.member, transfer(volume)) == (403, 'volume-busy')
        write(
            "UPDATE backups SET status = 'available' WHERE volume_id = %s",
            (volume,),
        )
        assert send(stage.member, transfer(volume)) == (202, None)


class TestASecondConsumer:
    """Of a multiattach volume, and exports to other hosts."""

    def consuming(self, volume: str, host: str) -> dict[str, Call]:
        there = {**CONNECTOR, 'host': host}
        return {
            'of nobody': create(volume),
            'of nobody, connected': create(volume, connector=CONNECTOR),
            'of nobody, on the live host': create(volume, connector=there),
            'os-reserve': action(volume, 'os-reserve'),
            'os-initialize_connection': action(
                volume, 'os-initialize_connection', connector=CONNECTOR
            ),
            # A driver rejects it.
            'os-initialize_connection, rejected': action(
                volume, 'os-initialize_connection', connector={'no': 'host'}
            ),
        }

    def test_of_a_live_volume(self, stage: stages.Stage) -> None:
        vm = stage.server('MyVm')
        volume = stage.volume('MyVol', volume_type='multiattach')
        stage.add_volume('MyVol', 'MyVm')
        before = stage.settle()

        def host() -> str:
            server = stage.admin.nova.servers.get(vm)
            return str(getattr(server, 'OS-EXT-SRV-ATTR:host'))

        here = host()
        calls = self.consuming(volume, here)
        assert answers(stage.member, calls) == dict.fromkeys(calls, REFUSED)
        assert stage.state() == before

        stage.admin.nova.servers.live_migrate(vm, None, 'auto')
        stages.wait_for('the server stays', lambda: host() != here)
        stage.wait_for_status('MyVm', 'ACTIVE')
        assert_agreed(stage)

    def test_that_was_there_before(self, stage: stages.Stage) -> None:
        """Its connector can be that of the host of the server."""
        stage.server('MyVm')
        volume = stage.volume('MyVol', volume_type='multiattach')
        call = create(volume, connector=CONNECTOR)
        assert send(stage.member, call) == (200, None)
        nobodys = attachment(stage)
        assert send(stage.member, complete(nobodys)) == (204, None)
        stage.add_volume('MyVol', 'MyVm')
        assert send(stage.member, delete(nobodys)) == HAS
        stage.member.nova.volumes.delete_server_volume(
            stage.servers['MyVm'], volume
        )
        stages.wait_for(
            'Nova detaches it', lambda: len(stage.attachments('MyVol')) == 1
        )
        assert send(stage.member, delete(nobodys)) == (200, None)
        assert_free(stage)

    def test_of_a_free_one(self, stage: stages.Stage) -> None:
        volume = stage.volume('MyVol', volume_type='multiattach')
        seen = answers(stage.member, self.consuming(volume, 'compute1'))
        assert {why for _status, why in seen.values()} == {None}
        for record in stage.attachments('MyVol'):
            assert send(stage.member, delete(record.id)) == (200, None)
        assert send(stage.member, action(volume, 'os-unreserve'))[0] == 202
        assert_free(stage)


class TestARace:
    """Three threads forge while Nova attaches the volume and detaches it."""

    @pytest.fixture
    def forge(self, stage: stages.Stage) -> Callable[[], tuple[int, ...]]:
        vm, volume = stage.server('MyVm'), stage.volume('MyVol')
        calls = (
            action(
                volume, 'os-attach', instance_uuid=vm, mountpoint='/dev/vdb'
            ),
            create(volume, instance_uuid=vm),
            create(volume, instance_uuid=vm, connector=CONNECTOR),
        )
        token = stage.member.token

        def forge() -> tuple[int, ...]:
            return tuple(
                stage.member.send(*call, token=token).status_code
                for call in calls
            )

        return forge

    def attach_and_detach(self, stage: stages.Stage) -> None:
        stage.add_volume('MyVol', 'MyVm')
        assert_agreed(stage)
        stage.member.nova.volumes.delete_server_volume(
            stage.servers['MyVm'], stage.volumes['MyVol']
        )
        assert_free(stage)

    @pytest.mark.parametrize(
        'lasts',
        [False, pytest.param(True, marks=pytest.mark.nightly)],
        ids=['once', 'for long'],
    )
    def test_leaves_the_records_in_agreement(
        self,
        stage: stages.Stage,
        forge: Callable[[], tuple[int, ...]],
        pytestconfig: pytest.Config,
        lasts: bool,
    ) -> None:
        seconds = pytestconfig.getoption('--race-seconds', 30) if lasts else 0
        end = time.monotonic() + seconds
        with attacks.hammering(forge, threads=3) as counted:
            while True:
                self.attach_and_detach(stage)
                if time.monotonic() > end:
                    break
        assert set(counted) == {(403, 403, 403)}


@pytest.mark.nightly
@pytest.mark.mode(modes.AS_THE_CALLER)
class TestAsTheCaller(Unseen):
    """Without credentials, what the guard does not see is unknown."""

    expected = (503, 'server-unseen')


@pytest.mark.nightly
@pytest.mark.mode(modes.PRESET_NO_TOKEN)
class TestWithoutServiceTokens:
    """The rules for a Nova that sends none open what Nova needs."""

    def test_nothing_is_in_use_beside_a_live_attachment(
        self, stage: stages.Stage
    ) -> None:
        vm = stage.server('MyVm')
        volume = stage.volume('MyVol', volume_type='multiattach')
        stage.add_volume('MyVol', 'MyVm')
        stage.settle()
        member, live = stage.member, attachment(stage)
        for server in (vm, str(uuid.uuid4())):
            for call in (
                action(
                    volume,
                    'os-attach',
                    instance_uuid=server,
                    mountpoint='/dev/vdb',
                ),
                create(volume, instance_uuid=server, connector=CONNECTOR),
            ):
                assert send(member, call)[0] == 403
        assert send(member, create(volume, instance_uuid=vm))[0] == 403
        assert send(member, connect(live))[0] == 403

        # Nova makes the same call before it saves a server.
        made = member.send(*create(volume, instance_uuid=str(uuid.uuid4())))
        reserved = made.json()['attachment']['id']
        for call in (connect(reserved), complete(reserved)):
            assert send(member, call) == (403, 'names-server')
        assert send(member, delete(reserved)) == (200, None)
        assert_agreed(stage)

    def test_a_detach_like_novas(self, stage: stages.Stage) -> None:
        """What begins like Nova's own detach is stopped by Cinder."""
        stage.server('MyVm')
        volume = stage.volume('MyVol')
        stage.add_volume('MyVol', 'MyVm')
        stage.settle()
        live = attachment(stage)
        assert send(stage.member, delete(live)) == HAS
        begin = action(volume, 'os-begin_detaching')
        assert send(stage.member, begin) == (202, None)
        assert send(stage.member, delete(live)) == (409, None)
        roll = action(volume, 'os-roll_detaching')
        assert send(stage.member, roll) == (202, None)
        assert_agreed(stage)


@pytest.mark.nightly
@pytest.mark.mode(modes.PRESET_NO_ROLE)
class TestWithoutTheRole:
    """Where not even Nova's API is a service, these rules open what it needs.

    A token of its own goes with its calls, without the role ``service``.
    """

    def test_nova_attaches_and_begins_to_detach(
        self, stage: stages.Stage, traffic: traffics.Traffic
    ) -> None:
        first, volume = stage.volume('first'), stage.volume('MyVol')
        vm = stage.server('MyVm', disks=[disk(first)])
        stage.add_volume('MyVol', 'MyVm')
        stage.settle()
        stage.member.nova.volumes.delete_server_volume(vm, volume)
        # Cinder itself refuses the rest.
        stage.wait_for_status('MyVol', 'detaching')
        stage.member.nova.servers.delete(vm)
        stage.settle()
        calls = traffic.calls()[stage.request_id]
        assert {call.operation for call in calls} >= {
            'attachment-create',
            'attachment-update',
            'attachment-complete',
            'os-begin_detaching',
            'attachment-delete',
        }
        for call in calls:
            assert call.decision is not None, call
            assert call.decision['verdict'] == 'allowed', call
            assert not call.decision['service'], call
