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
from collections.abc import Container
from collections.abc import Iterable
import contextlib
import time
from typing import Any

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.cloud import cloud as clouds
from tests.cloud import people
from tests.cloud import records

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
_PAUSE = 0.4


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
        title: str | None = None,
        status: str = 'ACTIVE',
        disks: Iterable[dict[str, Any]] = (),
        **kwargs: Any,
    ) -> str:
        """Create a server and wait for it.

        :param name: what to call it
        :param by: who creates it; the member by default
        :param title: what Nova calls it, if not the same
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
            title or name,
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

    def wait_for_volume(self, name: str, status: str) -> None:
        """Wait until a volume has a status.

        :raises NeverHappened: it has another
        """
        self._wait_for_status(name, status)

    def wait_for_server(self, name: str, status: str) -> None:
        """Wait until a server is at rest and has a status.

        :raises NeverHappened: it has another
        """
        self._wait_for_status(name, status)

    def wait_until_gone(self, name: str) -> None:
        """Wait until a server or a volume has been deleted.

        :raises NeverHappened: it is still there
        """
        self._wait_for_status(name, records.GONE)

    def _wait_for_status(self, name: str, status: str) -> None:
        seen = ''

        def look() -> bool:
            nonlocal seen
            seen = self.status(name)
            return seen == status

        try:
            wait_for('', look)
        except NeverHappened:
            raise NeverHappened(f'{name} is {seen}, not {status}') from None

    # Seeing

    def look(self) -> records.Records:
        """What is in the databases now."""
        return records.read(
            self.cloud.mariadb, self.volumes.values(), self.servers.values()
        )

    def everything(self, volumes: Iterable[str] | None = None) -> Any:
        """Every record of volumes, to be compared with a later one.

        :param volumes: their names; all by default
        """
        names = self.volumes if volumes is None else volumes
        return records.everything(
            self.cloud.mariadb, [self.volumes[name] for name in names]
        )

    def status(self, name: str) -> str:
        """The status of a volume or server.

        :param name: its name on this stage
        :returns: ``gone`` where there is none; of a server that is not at
            rest, with what it is doing
        """
        return self.look().status(self.volumes.get(name) or self.servers[name])

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
        servers: dict[str, Any] = {}
        for name, server_id in self.servers.items():
            servers[name] = None
            with contextlib.suppress(nova_exceptions.NotFound):
                servers[name] = (
                    self.admin.nova.servers.get(server_id),
                    self.mappings(name),
                )
        volumes: dict[str, Any] = {}
        for name, volume_id in self.volumes.items():
            volumes[name] = None
            with contextlib.suppress(cinder_exceptions.NotFound):
                volumes[name] = (
                    self.admin.cinder.volumes.get(volume_id),
                    self.attachments(name),
                )
        hosts = {
            seen[0].id: getattr(seen[0], 'OS-EXT-SRV-ATTR:host')
            for seen in servers.values()
            if seen
        }
        known = {
            record.id
            for seen in volumes.values()
            if seen
            for record in seen[1]
        }
        return {
            f'volume {name}': seen and self._volume(seen[0], seen[1], hosts)
            for name, seen in volumes.items()
        } | {
            f'server {name}': seen and self._server(seen[0], seen[1], known)
            for name, seen in servers.items()
        }

    def settle(self, passing: Container[str] = _PASSING) -> dict[str, Any]:
        """What both sides say once nothing moves any more.

        Where something never comes to rest, what they say in the end.

        :param passing: the statuses that a service is about to leave
        """
        deadline = time.monotonic() + _UNREST
        before: records.Records | None = None
        while True:
            now = self.look()
            if now == before and now.are_at_rest(passing):
                break
            if time.monotonic() > deadline:
                break
            before = now
            time.sleep(_PAUSE)
        return self.state()

    def _alias(self, server_id: str | None) -> str | None:
        if server_id is None:
            return None
        names = {value: name for name, value in self.servers.items()}
        return names.get(server_id, 'somebody else')

    def _volume(
        self, volume: Any, records: list[Any], hosts: dict[str, str]
    ) -> dict[str, Any]:
        attachments = [
            {
                'server': self._alias(attachment['server_id']),
                'device': attachment['device'],
                "on the server's host": (
                    attachment['host_name']
                    == hosts.get(attachment['server_id'], '')
                ),
            }
            for attachment in volume.attachments
        ]
        return {
            'status': volume.status,
            'attachments': sorted(attachments, key=str),
            'records': sorted(
                f'{record.status} {self._alias(record.instance)}'
                for record in records
            ),
        }

    def _server(
        self, server: Any, mappings: list[Any], records: set[str]
    ) -> dict[str, Any]:
        names = {value: name for name, value in self.volumes.items()}
        volumes = [
            {
                'volume': names.get(mapping.volumeId, 'another volume'),
                # A server that was shelved has none to name.
                'device': getattr(mapping, 'device', None),
                'kept': not mapping.delete_on_termination,
                "Cinder's attachment": mapping.attachment_id in records,
            }
            for mapping in mappings
        ]
        return {
            'status': server.status,
            'task': getattr(server, 'OS-EXT-STS:task_state'),
            'volumes': sorted(volumes, key=str),
        }

    # Clearing up

    def clear(self) -> None:
        """Delete everything that was made, whatever state it is in."""
        admin = people.caller(self.cloud.places, 'admin')
        for name, server_id in self.servers.items():
            with contextlib.suppress(nova_exceptions.NotFound, NeverHappened):
                admin.nova.servers.delete(server_id)
                self.wait_until_gone(name)
        for volume_id in self.volumes.values():
            with contextlib.suppress(cinder_exceptions.ClientException):
                volumes = admin.cinder.volumes
                volumes.reset_state(volume_id, 'available', 'detached')
                volumes.force_delete(volume_id)
