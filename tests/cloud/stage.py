# SPDX-License-Identifier: Apache-2.0
"""Make servers and volumes, wait for them, and read their state."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
import contextlib
import functools
import time
from typing import Any

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.cloud import cloud as clouds
from tests.cloud import people
from tests.cloud import records
from tests.cloud import state

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
_SETTLING = 20.0
_PAUSE = 0.4


class NeverHappened(Exception):
    """A wait timed out; the message says what was there instead."""


def wait_for(
    error: str, check: Callable[[], Any], timeout: float = _TIMEOUT
) -> None:
    """Wait until a check succeeds.

    :param error: the message of the exception
    :param check: returns something true if it succeeds
    :param timeout: seconds
    :raises NeverHappened: it does not
    """
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise NeverHappened(error)
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
        """A user, whose calls have this stage's request id."""
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
        self.wait_for_status(name, 'available')
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
        self.wait_for_status(name, status)
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
        """Make an attachment that Nova does not have.

        A service makes it, so that the guard does not refuse it.

        :param volume: name of the volume
        :param server_id: the server that it names
        :returns: the attachment's id
        """
        headers = {'X-Service-Token': self.caller('cinder').token}
        body = {
            'attachment': {
                'volume_uuid': self.volumes[volume],
                'instance_uuid': server_id,
                'connector': {'host': 'nowhere', 'initiator': 'nobody'},
            }
        }
        # With the member's token, as the attachment is of their project.
        send = functools.partial(self.member.send, 'POST', headers=headers)
        response = send('/attachments', body)
        response.raise_for_status()
        attachment_id: str = response.json()['attachment']['id']
        path = f'/attachments/{attachment_id}/action'
        send(path, {'os-complete': {}}).raise_for_status()
        return attachment_id

    # Waiting

    def wait_for_status(self, name: str, status: str) -> None:
        """Wait until a volume, or a server that is idle, has a status.

        :param name: its name on this stage
        :param status: the status, or ``gone``
        :raises NeverHappened: it has another
        """
        try:
            wait_for('', lambda: self.status(name) == status)
        except NeverHappened:
            seen = self.status(name)
            raise NeverHappened(f'{name} is {seen}, not {status}') from None

    def add_volume(
        self, volume: str, server: str, by: people.Caller | None = None
    ) -> None:
        """Attach a volume through Nova, and wait until it is in use.

        :param volume: its name
        :param server: the server's name
        :param by: who attaches it; the member by default
        :raises NeverHappened: it is not attached
        """
        (by or self.member).nova.volumes.create_server_volume(
            self.servers[server], self.volumes[volume]
        )
        self.wait_for_status(volume, 'in-use')

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
        """What a server has in Nova."""
        mappings: list[Any] = self.admin.nova.volumes.get_server_volumes(
            self.servers[server]
        )
        return mappings

    def attachments(self, volume: str) -> list[Any]:
        """What a volume is attached to in Cinder."""
        found = self.admin.cinder.attachments.list(
            detailed=True,
            search_opts={
                'all_tenants': 1,
                'volume_id': self.volumes[volume],
            },
        )
        return list(found)

    def state(self) -> dict[str, Any]:
        """What both APIs report now, in names."""
        return state.read(self)

    def settle(self, passing: Container[str] = _PASSING) -> dict[str, Any]:
        """The state once nothing changes, or after a timeout.

        :param passing: the statuses that a service is about to leave
        """
        deadline = time.monotonic() + _SETTLING
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

    # Clearing up

    def clear(self) -> None:
        """Delete everything that was made, whatever state it is in."""
        admin = people.caller(self.cloud.places, 'admin')
        for name, server_id in self.servers.items():
            with contextlib.suppress(nova_exceptions.NotFound, NeverHappened):
                admin.nova.servers.delete(server_id)
                self.wait_for_status(name, records.GONE)
        for volume_id in self.volumes.values():
            with contextlib.suppress(cinder_exceptions.ClientException):
                volumes = admin.cinder.volumes
                volumes.reset_state(volume_id, 'available', 'detached')
                volumes.force_delete(volume_id)
