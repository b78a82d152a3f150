# SPDX-License-Identifier: Apache-2.0
"""The story that the guard exists for, step by step, on real services.

A member calls what python-cinderclient offers. Without the guard the volume
is in-use by a server that does not have it. If one of those tests fails, check
whether Cinder has fixed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
import uuid

from cinderclient import exceptions as cinder_exceptions
import pytest

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import stage as stages
from tests.cloud import traffic as traffics

OPEN = (modes.UNGUARDED, modes.SHADOW)
CLOSED = (modes.ENFORCED, modes.PRESET_NO_TOKEN)


@pytest.fixture(
    scope='module',
    params=[
        modes.UNGUARDED,
        pytest.param(modes.SHADOW, marks=pytest.mark.nightly),
        modes.ENFORCED,
        pytest.param(modes.PRESET_NO_TOKEN, marks=pytest.mark.nightly),
    ],
    ids=lambda mode: mode.name,
)
def mode(
    request: pytest.FixtureRequest, whole_cloud: clouds.Cloud
) -> modes.Mode:
    mode: modes.Mode = request.param
    whole_cloud.switch(mode)
    return mode


@pytest.fixture
def cloud(whole_cloud: clouds.Cloud, mode: modes.Mode) -> clouds.Cloud:
    return whole_cloud


def volume(status: str, *servers: str | None) -> dict[str, Any]:
    """A volume that is attached to these servers in Cinder's records."""
    return {
        'status': status,
        'attachments': [
            {
                'server': server,
                'device': '/dev/vdb',
                "on the server's host": False,
            }
            for server in servers
        ],
        'records': [f'attached {server}' for server in servers],
    }


FREE = volume('available')
WITHOUT_VOLUMES: dict[str, Any] = {
    'status': 'ACTIVE',
    'task': None,
    'volumes': [],
}


def refused(call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(cinder_exceptions.Forbidden) as caught:
        call(*args, **kwargs)
    assert 'openstack server add volume' in caught.value.message


class TestTheStory:
    """``cinder.volumes.attach(vol, vm.id, "/dev/vdb")``."""

    def test_attach_detach_and_the_right_way(
        self, stage: stages.Stage, member: people.Caller, mode: modes.Mode
    ) -> None:
        stage.server('MyVm')
        stage.volume('MyVol')
        vm = member.nova.servers.find(name='MyVm')
        vol = member.cinder.volumes.find(name='MyVol')

        # "Try an attach the volume using the VolumeManager.attach method"
        if mode in OPEN:
            response, body = member.cinder.volumes.attach(
                vol, vm.id, '/dev/vdb'
            )
            assert (response.status_code, body) == (202, None)
            # "Well it looks like it is attached"
            seen = stage.state()
            assert seen['volume MyVol'] == volume('in-use', 'MyVm')
        else:
            refused(member.cinder.volumes.attach, vol, vm.id, '/dev/vdb')
            seen = stage.state()
            assert seen['volume MyVol'] == FREE
        # "But actually it isn't"
        assert seen['server MyVm'] == WITHOUT_VOLUMES
        assert member.nova.volumes.get_server_volumes(vm.id) == []

        # "First by clearing our volume attachment's metadata"
        vol.detach()
        assert stage.state()['volume MyVol'] == FREE

        # "Now we can use the VolumeManager.create_server_volume method"
        member.nova.volumes.create_server_volume(vm.id, vol.id, '/dev/vdb')
        stage.wait_for_status('MyVol', 'in-use')
        seen = stage.settle()
        assert seen['volume MyVol']['records'] == ['attached MyVm']
        assert [v['volume'] for v in seen['server MyVm']['volumes']] == [
            'MyVol'
        ]

        member.nova.volumes.delete_server_volume(vm.id, vol.id)
        if not mode.service_token:
            # Cinder itself refuses Nova without one, since CVE-2023-2088.
            assert stage.settle()['volume MyVol']['status'] == 'detaching'
            return
        stage.wait_for_status('MyVol', 'available')
        assert stage.settle() == {
            'volume MyVol': FREE,
            'server MyVm': WITHOUT_VOLUMES,
        }

    def test_a_server_that_does_not_exist(
        self, stage: stages.Stage, member: people.Caller, mode: modes.Mode
    ) -> None:
        vol = stage.volume('MyVol')
        invented = str(uuid.uuid4())
        attach = member.cinder.volumes.attach
        if mode in OPEN:
            attach(vol, invented, '/dev/vdb')
            assert stage.state() == {
                'volume MyVol': volume('in-use', 'somebody else')
            }
            # Nova cannot attach it to a real server now.
            stage.server('MyVm')
            with pytest.raises(Exception, match='in-use|status'):
                member.nova.volumes.create_server_volume(
                    stage.servers['MyVm'], vol
                )
            member.cinder.volumes.detach(vol)
        else:
            refused(attach, vol, invented, '/dev/vdb')
        assert stage.state()['volume MyVol'] == FREE

    def test_a_host(
        self, stage: stages.Stage, member: people.Caller, mode: modes.Mode
    ) -> None:
        vol = stage.volume('MyVol')
        args = (vol, None, '/dev/vdb')
        attach = member.cinder.volumes.attach
        if mode in OPEN:
            attach(*args, host_name='a-host')
            assert stage.state()['volume MyVol']['status'] == 'in-use'
        else:
            refused(attach, *args, host_name='a-host')
            assert stage.state() == {'volume MyVol': FREE}

    def test_attached_directly_and_then_the_server_is_deleted(
        self, stage: stages.Stage, member: people.Caller, mode: modes.Mode
    ) -> None:
        """The state that the operator had to repair in MySQL."""
        vm = stage.server('MyVm')
        vol = stage.volume('MyVol')
        if mode in OPEN:
            member.cinder.volumes.attach(vol, vm, '/dev/vdb')
        else:
            refused(member.cinder.volumes.attach, vol, vm, '/dev/vdb')
        member.nova.servers.delete(vm)
        stage.wait_for_status('MyVm', 'gone')
        assert stage.settle() == {
            'volume MyVol': volume('in-use', 'MyVm') if mode in OPEN else FREE,
            'server MyVm': None,
        }


class TestTheStoryToday:
    """The same by ``attachments``, which came after the story."""

    @pytest.mark.parametrize('exists', [True, False], ids=['real', 'invented'])
    def test_create_and_complete(
        self,
        stage: stages.Stage,
        member: people.Caller,
        mode: modes.Mode,
        exists: bool,
    ) -> None:
        vol = stage.volume('MyVol')
        vm = stage.server('MyVm') if exists else str(uuid.uuid4())
        attachments = member.cinder.attachments
        if mode is modes.PRESET_NO_TOKEN and not exists:
            # Nova makes the same call before it saves a server, so only the
            # completion is refused.
            attachment = attachments.create(vol, None, vm)['id']
            refused(attachments.complete, attachment)
            assert stage.state()['volume MyVol']['status'] == 'reserved'
            attachments.delete(attachment)
        elif mode in CLOSED:
            refused(attachments.create, vol, None, vm)
        else:
            attachment = attachments.create(vol, None, vm)['id']
            attachments.complete(attachment)
            whom = 'MyVm' if exists else 'somebody else'
            assert stage.state()['volume MyVol']['status'] == 'in-use'
            assert stage.state()['volume MyVol']['records'] == [
                f'attached {whom}'
            ]
            attachments.delete(attachment)
        assert stage.state()['volume MyVol'] == FREE


class TestTheLog:
    """Each refusal is one line of the log, also in shadow mode."""

    def test_a_decision_is_logged(
        self,
        stage: stages.Stage,
        member: people.Caller,
        mode: modes.Mode,
        traffic: traffics.Traffic,
    ) -> None:
        vol = stage.volume('MyVol')
        try:
            member.cinder.volumes.attach(vol, str(uuid.uuid4()), '/dev/vdb')
        except cinder_exceptions.Forbidden:
            assert mode in CLOSED
        (call,) = traffic.calls()[stage.request_id]
        assert call.operation == 'os-attach'
        if not mode.guard:
            assert call.decision is None
            return
        assert call.decision is not None
        assert {
            name: call.decision[name]
            for name in ('verdict', 'reason', 'enforced', 'nova_queries')
        } == {
            'verdict': 'refused',
            'reason': 'server-lacks-volume',
            'enforced': mode is not modes.SHADOW,
            'nova_queries': 1,
        }
