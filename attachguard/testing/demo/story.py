# SPDX-License-Identifier: Apache-2.0

"""The calls of a user, and their effect on the volume.

After each call, Cinder and Nova are queried for the volume. The verdict is
whether their records agree.
"""

from __future__ import annotations

from collections import abc
import dataclasses
import enum
import http
import time
from typing import Any
import uuid

import cinderclient.client
import cinderclient.exceptions
import novaclient.client
import novaclient.exceptions
import requests

from attachguard.testing import stub_cloud

DEVICE = '/dev/vdb'

# The states of a volume that are temporary.
_TEMPORARY = ('creating', 'attaching', 'detaching', 'deleting')
_TIMEOUT = 20.0

_CLIENT_ERRORS = (
    cinderclient.exceptions.ClientException,
    novaclient.exceptions.ClientException,
)

Client = Any
Resource = Any


class Verdict(enum.Enum):
    """Whether Cinder's and Nova's records of the volume agree."""

    AVAILABLE = 'both agree: available'
    ATTACHED = 'both agree: attached'
    RESERVED = 'RESERVED only in Cinder'
    FORGED = 'ATTACHED only in Cinder'
    LOST = 'ATTACHED only in Nova'


class Kind(enum.Enum):
    """The purpose of a step."""

    SETTING = enum.auto()
    FORGERY = enum.auto()
    COMPUTE_API = enum.auto()


@dataclasses.dataclass(frozen=True)
class Response:
    """The response to a call that changes something."""

    status: int
    reason: str | None = None
    message: str | None = None

    @classmethod
    def read(cls, response: requests.Response) -> Response:
        """Read the status, and the reason and message of an error."""
        if response.status_code < http.HTTPStatus.BAD_REQUEST:
            return cls(response.status_code)
        fault = next(iter(response.json().values()))
        return cls(
            response.status_code, fault.get('reason'), fault.get('message')
        )

    @property
    def is_refusal(self) -> bool:
        """Whether the service refused the call."""
        return self.status == http.HTTPStatus.FORBIDDEN


@dataclasses.dataclass(frozen=True)
class Step:
    """A call and its effect.

    :param kind: the purpose of the call
    :param call: the call as Python code
    :param response: the response; ``None`` if the call was not possible
    :param cinder: Cinder's record of the volume after the call
    :param nova: Nova's record of the volume after the call
    :param verdict: whether the records agree
    """

    kind: Kind
    call: str
    response: Response | None
    cinder: str
    nova: str
    verdict: Verdict


class Story:
    """Makes the calls as an ordinary member of a project.

    :param cloud: the cloud
    """

    def __init__(self, cloud: stub_cloud.StubCloud) -> None:
        session = cloud.session('member')
        self._response: Response | None = None
        session.session.hooks['response'].append(self._listen)
        arguments = {
            'session': session,
            'region_name': stub_cloud.REGION,
        }
        self.cinder: Client = cinderclient.client.Client('3.44', **arguments)
        self.nova: Client = novaclient.client.Client('2.1', **arguments)
        self.vm: Resource = None
        self.vol: Resource = None
        self.no_such_vm = str(uuid.uuid4())
        self._steps: list[Step] = []

    def _listen(
        self, response: requests.Response, *args: Any, **kwargs: Any
    ) -> None:
        if response.request.method != 'GET':
            self._response = Response.read(response)

    def run(self) -> list[Step]:
        """Make the calls.

        :returns: the steps
        """
        volumes, attachments = self.cinder.volumes, self.cinder.attachments
        server_volumes = self.nova.volumes

        def attach() -> None:
            server_volumes.create_server_volume(self.vm.id, self.vol.id)

        def detach() -> None:
            server_volumes.delete_server_volume(self.vm.id, self.vol.id)

        self._do(
            Kind.SETTING,
            "vm = nova.servers.create('MyVm', ...)\n"
            "vol = cinder.volumes.create(1, ...)",
            self._prepare,
        )
        self._do(
            Kind.FORGERY,
            f"cinder.volumes.attach(vol, vm.id,\n    '{DEVICE}')",
            lambda: volumes.attach(self.vol, self.vm.id, DEVICE),
        )
        self._do(Kind.SETTING, 'vol.detach()', lambda: self.vol.detach())
        self._do(
            Kind.COMPUTE_API,
            'nova.volumes.create_server_volume(\n    vm.id, vol.id)',
            attach,
        )
        self._do(
            Kind.COMPUTE_API,
            'nova.volumes.delete_server_volume(\n    vm.id, vol.id)',
            detach,
        )
        attachment = self._do(
            Kind.FORGERY,
            'a = cinder.attachments.create(\n    vol.id, None, no_such_vm)',
            lambda: attachments.create(self.vol.id, None, self.no_such_vm),
        )
        self._do(
            Kind.FORGERY,
            'cinder.attachments.complete(a)',
            lambda: attachments.complete(attachment['id']),
            possible=attachment is not None,
        )
        self._do(
            Kind.COMPUTE_API,
            'nova.volumes.create_server_volume(\n    vm.id, vol.id)',
            attach,
        )
        return self._steps

    def attach_another(self) -> None:
        """Attach another volume to the server, by Nova."""
        volume = self.cinder.volumes.create(1, name='another')
        self._wait_for_volume(volume.id)
        self.nova.volumes.create_server_volume(self.vm.id, volume.id)
        self._wait_for_volume(volume.id)

    def _prepare(self) -> None:
        flavor = self.nova.flavors.list()[0]
        self.vm = self.nova.servers.create('MyVm', str(uuid.uuid4()), flavor)
        self.vol = self.cinder.volumes.create(1, name='MyVol')

    def _do(
        self,
        kind: Kind,
        call: str,
        function: abc.Callable[[], Any],
        possible: bool = True,
    ) -> Any:
        self._response = None
        result = None
        if possible:
            try:
                result = function()
            except _CLIENT_ERRORS:
                # The response has the reason and the message.
                if self._response is None:
                    raise
        response = self._response
        volume = self._wait_for_volume(self.vol.id)
        server_ids = [
            attachment.instance
            for attachment in self.cinder.attachments.list(
                search_opts={'volume_id': self.vol.id}
            )
        ]
        is_attached = self._is_attached()
        self._steps.append(
            Step(
                kind,
                call,
                response,
                cinder=self._describe_cinder(volume.status, server_ids),
                nova=self._describe_nova(is_attached, server_ids),
                verdict=_judge(volume.status, is_attached),
            )
        )
        return result

    def _wait_for_volume(self, volume_id: str) -> Resource:
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            volume = self.cinder.volumes.get(volume_id)
            if volume.status not in _TEMPORARY:
                return volume
            time.sleep(0.05)
        raise TimeoutError(
            f'the volume is still {volume.status} after {_TIMEOUT:g} seconds'
        )

    def _is_attached(self) -> bool:
        return any(
            attached.volumeId == self.vol.id
            for attached in self.nova.volumes.get_server_volumes(self.vm.id)
        )

    def _describe_cinder(self, status: str, server_ids: list[str]) -> str:
        names = ', '.join(
            'MyVm' if server_id == self.vm.id else 'no_such_vm'
            for server_id in server_ids
        )
        return f'{status}, server {names}' if names else status

    def _describe_nova(self, is_attached: bool, server_ids: list[str]) -> str:
        for server_id in server_ids:
            try:
                self.nova.servers.get(server_id)
            except novaclient.exceptions.NotFound as exc:
                return f'{exc.code} for no_such_vm'
        return 'attached to MyVm' if is_attached else 'not attached'


def _judge(status: str, is_attached: bool) -> Verdict:
    if status == 'in-use':
        return Verdict.ATTACHED if is_attached else Verdict.FORGED
    if is_attached:
        return Verdict.LOST
    return Verdict.AVAILABLE if status == 'available' else Verdict.RESERVED
