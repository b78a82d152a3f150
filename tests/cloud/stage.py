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
"""Make servers and volumes, wait for them, and say what both sides hold.

What is seen is told in names, not in ids, so that two runs can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import time
from typing import Any

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.cloud import cloud as clouds
from tests.cloud import people

# States that a service is about to leave by itself.
_PASSING = {
    'attaching',
    'creating',
    'deleting',
    'detaching',
    'downloading',
    'extending',
    'maintenance',
    'retyping',
}
# How long something may take, and how long something that does not come to
# rest is looked at, in seconds.
_TIMEOUT = 90.0
_UNREST = 20.0
_PAUSE = 0.25


class NeverHappened(Exception):
    """What was waited for did not come about; says what was there."""


def wait_for(
    what: str, look: Callable[[], Any], timeout: float = _TIMEOUT
) -> Any:
    """Look until there is something to see.

    :param what: for the error's message
    :param look: returns something true, or says ``...`` what it sees instead
    :param timeout: seconds
    :raises NeverHappened: nothing
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise NeverHappened(what)
        time.sleep(_PAUSE)


class Stage:
    """The servers and volumes of one test, by names that it gives them.

    :param cloud: the cloud, which runs
    :param request_id: global request id of every call that is made for it
    """

    def __init__(self, cloud: clouds.Cloud, request_id: str) -> None:
        self.cloud = cloud
        self.request_id = request_id
        self.admin = self.caller('admin')
        self.member = self.caller('member')
        self.volumes: dict[str, str] = {}
        self.servers: dict[str, str] = {}

    def caller(self, name: str) -> people.Caller:
        """Somebody, whose calls bear this stage's request id."""
        return people.caller(self.cloud.places, name).again(self.request_id)

    # Making

    def volume(
        self, name: str, *, by: people.Caller | None = None, **kwargs: Any
    ) -> str:
        """Create a volume and wait for it.

        :param name: what to call it
        :param by: who creates it; the member by default
        :param kwargs: for cinderclient
        :returns: its id
        """
        kwargs.setdefault('volume_type', 'one')
        volume = (by or self.member).cinder.volumes.create(
            kwargs.pop('size', 1), name=name, **kwargs
        )
        self.volumes[name] = volume.id
        self.wait_for_volume(name, 'available')
        return str(volume.id)

    def server(
        self,
        name: str,
        *,
        by: people.Caller | None = None,
        status: str = 'ACTIVE',
        disks: Iterable[dict[str, Any]] = (),
        **kwargs: Any,
    ) -> str:
        """Create a server and wait for it.

        :param name: what to call it
        :param by: who creates it; the member by default
        :param status: what to wait for
        :param disks: block device mappings; those that make a volume call it
            by what they have as ``name``
        :param kwargs: for novaclient
        :returns: its id
        """
        caller = by or self.member
        disks = list(disks)
        named = [disk.pop('name', None) for disk in disks]
        boots = any(str(disk.get('boot_index')) == '0' for disk in disks)
        server = caller.nova.servers.create(
            name,
            image=None if boots else self.image,
            flavor=kwargs.pop('flavor', None) or self.flavor('tiny'),
            nics='none',
            block_device_mapping_v2=disks or None,
            **kwargs,
        )
        self.servers[name] = server.id
        self.wait_for_server(name, status)
        known = set(self.volumes.values())
        made = [
            mapping.volumeId
            for mapping in self.mappings(name)
            if mapping.volumeId not in known
        ]
        self.volumes |= dict(
            zip([n for n in named if n is not None], made, strict=False)
        )
        return str(server.id)

    @property
    def image(self) -> Any:
        """The image to build from, for novaclient."""
        return self.admin.nova.glance.find_image(clouds.IMAGE)

    def flavor(self, name: str) -> Any:
        """A flavor, for novaclient."""
        return self.admin.nova.flavors.find(name=name)

    def forge(self, volume: str, server_id: str) -> str:
        """An attachment that Nova knows nothing of, as left from before.

        A service makes it, so that it comes about with the guard, too.

        :param volume: name of the volume
        :param server_id: what it is to be attached to
        :returns: the attachment's id
        """
        service = self.caller('cinder')
        body = {
            'attachment': {
                'volume_uuid': self.volumes[volume],
                'instance_uuid': server_id,
                'connector': {'host': 'nowhere', 'initiator': 'nobody'},
            }
        }
        # As the member, for the attachment is to be in the project.
        answer = self.member.send(
            'POST',
            '/attachments',
            body,
            headers={'X-Service-Token': service.token},
        )
        answer.raise_for_status()
        attachment_id: str = answer.json()['attachment']['id']
        self.member.send(
            'POST',
            f'/attachments/{attachment_id}/action',
            {'os-complete': {}},
            headers={'X-Service-Token': service.token},
        ).raise_for_status()
        return attachment_id

    # Waiting

    def wait_for_volume(self, name: str, *statuses: str) -> None:
        """Wait until a volume has one of these statuses.

        :raises NeverHappened: it has another
        """
        seen = ''

        def look() -> bool:
            nonlocal seen
            seen = self.admin.cinder.volumes.get(self.volumes[name]).status
            return seen in statuses

        try:
            wait_for('', look)
        except NeverHappened:
            raise NeverHappened(
                f'volume {name} is {seen}, not {" or ".join(statuses)}'
            ) from None

    def wait_for_server(self, name: str, *statuses: str) -> None:
        """Wait until a server is at rest and has one of these statuses.

        :raises NeverHappened: it has another
        """
        seen = ''

        def look() -> bool:
            nonlocal seen
            server = self.admin.nova.servers.get(self.servers[name])
            task = getattr(server, 'OS-EXT-STS:task_state')
            fault = getattr(server, 'fault', {}).get('message', '')
            seen = f'{server.status} {task} {fault}'
            return server.status in statuses and task is None

        try:
            wait_for('', look)
        except NeverHappened:
            raise NeverHappened(
                f'server {name} is {seen}, not {" or ".join(statuses)}'
            ) from None

    def wait_until_gone(self, server: str) -> None:
        """Wait until a server has been deleted."""

        def look() -> bool:
            try:
                self.admin.nova.servers.get(self.servers[server])
            except nova_exceptions.NotFound:
                return True
            return False

        wait_for(f'server {server} is still there', look)

    # Seeing

    def mappings(self, server: str) -> list[Any]:
        """What Nova says a server has."""
        mappings: list[Any] = self.admin.nova.volumes.get_server_volumes(
            self.servers[server]
        )
        return mappings

    def attachments(self, volume: str) -> list[Any]:
        """What Cinder says a volume is attached to."""
        found = self.admin.cinder.attachments.list(
            detailed=True,
            search_opts={
                'all_tenants': 1,
                'volume_id': self.volumes[volume],
            },
        )
        return list(found)

    def state(self) -> dict[str, Any]:
        """What both sides say now, in names."""
        state: dict[str, Any] = {}
        for name in self.volumes:
            state[f'volume {name}'] = self._volume(name)
        for name in self.servers:
            state[f'server {name}'] = self._server(name)
        return state

    def settle(self) -> dict[str, Any]:
        """What both sides say once nothing moves any more.

        Where something never comes to rest, what they say in the end.
        """
        deadline = time.monotonic() + _UNREST
        before: dict[str, Any] | None = None
        while True:
            now = self.state()
            at_rest = not any(
                one and (one['status'] in _PASSING or one.get('task'))
                for one in now.values()
            )
            if (at_rest and now == before) or time.monotonic() > deadline:
                return now
            before = now
            time.sleep(_PAUSE)

    def _alias(self, server_id: str | None) -> str | None:
        if server_id is None:
            return None
        names = {value: name for name, value in self.servers.items()}
        return names.get(server_id, 'somebody else')

    def _volume(self, name: str) -> dict[str, Any] | None:
        try:
            volume = self.admin.cinder.volumes.get(self.volumes[name])
        except cinder_exceptions.NotFound:
            return None
        hosts = {}
        for server_id in self.servers.values():
            with contextlib.suppress(nova_exceptions.NotFound):
                hosts[server_id] = getattr(
                    self.admin.nova.servers.get(server_id),
                    'OS-EXT-SRV-ATTR:host',
                )
        return {
            'status': volume.status,
            'attachments': sorted(
                (
                    {
                        'server': self._alias(attachment['server_id']),
                        'device': attachment['device'],
                        "on the server's host": (
                            attachment['host_name']
                            == hosts.get(attachment['server_id'], '')
                        ),
                    }
                    for attachment in volume.attachments
                ),
                key=str,
            ),
            'records': sorted(
                f'{record.status} {self._alias(record.instance)}'
                for record in self.attachments(name)
            ),
        }

    def _server(self, name: str) -> dict[str, Any] | None:
        try:
            server = self.admin.nova.servers.get(self.servers[name])
            mappings = self.mappings(name)
        except nova_exceptions.NotFound:
            return None
        volumes = {value: name for name, value in self.volumes.items()}
        records = {
            volume_id: {record.id for record in self.attachments(volume)}
            for volume_id, volume in volumes.items()
        }
        return {
            'status': server.status,
            'task': getattr(server, 'OS-EXT-STS:task_state'),
            'volumes': sorted(
                (
                    {
                        'volume': volumes.get(
                            mapping.volumeId, 'another volume'
                        ),
                        'device': mapping.device,
                        'kept': not mapping.delete_on_termination,
                        "Cinder's attachment": (
                            mapping.attachment_id
                            in records.get(mapping.volumeId, ())
                        ),
                    }
                    for mapping in mappings
                ),
                key=str,
            ),
        }

    # Clearing up

    def clear(self) -> None:
        """Delete everything that was made, whatever state it is in."""
        for name, server_id in self.servers.items():
            with contextlib.suppress(nova_exceptions.NotFound):
                self.admin.nova.servers.delete(server_id)
                self.wait_until_gone(name)
        for volume_id in self.volumes.values():
            with contextlib.suppress(cinder_exceptions.ClientException):
                volumes = self.admin.cinder.volumes
                volumes.reset_state(volume_id, 'available', 'detached')
                volumes.force_delete(volume_id)
