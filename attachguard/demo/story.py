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

"""What the story's user does, call by call, and what comes of it.

Only what the services answer is told: each step asks Cinder and Nova about
the volume afterwards, and is judged by whether the two agree.
"""

from __future__ import annotations

from collections import abc
import dataclasses
import enum
import http
import time
from typing import Any
from typing import TypeAlias
import uuid

import cinderclient.client
import cinderclient.exceptions
import novaclient.client
import novaclient.exceptions
import requests

from attachguard.testing import stub_cloud as testing_cloud

DEVICE = '/dev/vdb'

# A volume's states that pass by themselves.
_PASSING = ('creating', 'attaching', 'detaching', 'deleting')
_PATIENCE = 20.0

_CLIENT_ERRORS = (
    cinderclient.exceptions.ClientException,
    novaclient.exceptions.ClientException,
)

Client: TypeAlias = Any
Resource: TypeAlias = Any


class Verdict(enum.Enum):
    """What Cinder's and Nova's records of the volume amount to."""

    FREE = 'free, both agree'
    ATTACHED = 'attached, both agree'
    HELD = 'HELD: Nova knows nothing'
    FORGED = 'FORGED: Nova knows nothing'
    LOST = 'LOST: Cinder knows nothing'


class Kind(enum.Enum):
    """What a step is there to show."""

    SETTING = enum.auto()
    FORGERY = enum.auto()
    COMPUTE_API = enum.auto()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the API said to a call that changes something."""

    status: int
    reason: str | None = None
    message: str | None = None

    @classmethod
    def read(cls, response: requests.Response) -> Answer:
        """Read a response, and the fault in it if there is one."""
        if response.status_code < http.HTTPStatus.BAD_REQUEST:
            return cls(response.status_code)
        fault = next(iter(response.json().values()))
        return cls(
            response.status_code, fault.get('reason'), fault.get('message')
        )

    @property
    def is_refusal(self) -> bool:
        return self.status == http.HTTPStatus.FORBIDDEN


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of the story: what was answered, and what is so afterwards.

    :param kind: what it is there to show
    :param call: as the user types it
    :param answer: None where there was nothing to call any more
    :param cinder: what Cinder says of the volume
    :param nova: what Nova says of it
    :param verdict: what the two together amount to
    """

    kind: Kind
    call: str
    answer: Answer | None
    cinder: str
    nova: str
    verdict: Verdict


class Story:
    """The story's user, who is an ordinary member of a project.

    :param cloud: where it happens
    """

    def __init__(self, cloud: testing_cloud.StubCloud) -> None:
        session = cloud.session('member')
        self._answer: Answer | None = None
        session.session.hooks['response'].append(self._listen)
        arguments = {
            'session': session,
            'region_name': testing_cloud.REGION,
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
            self._answer = Answer.read(response)

    def tell(self) -> list[Step]:
        """Do what the story says.

        :returns: its steps
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
        self._answer = None
        result = None
        if possible:
            try:
                result = function()
            except _CLIENT_ERRORS:
                # The answer says more than the exception.
                if self._answer is None:
                    raise
        answer = self._answer
        volume = self._settled()
        holders = [
            attachment.instance
            for attachment in self.cinder.attachments.list(
                search_opts={'volume_id': self.vol.id}
            )
        ]
        nova_has_it = self._nova_has_it()
        self._steps.append(
            Step(
                kind,
                call,
                answer,
                cinder=self._describe(volume.status, holders),
                nova=self._ask_nova(nova_has_it, holders),
                verdict=_judge(volume.status, nova_has_it),
            )
        )
        return result

    def _settled(self) -> Resource:
        give_up = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up:
            volume = self.cinder.volumes.get(self.vol.id)
            if volume.status not in _PASSING:
                return volume
            time.sleep(0.05)
        raise TimeoutError(
            f'the volume is still {volume.status} after {_PATIENCE:g} seconds'
        )

    def _nova_has_it(self) -> bool:
        return any(
            attached.volumeId == self.vol.id
            for attached in self.nova.volumes.get_server_volumes(self.vm.id)
        )

    def _describe(self, status: str, holders: list[str]) -> str:
        names = ', '.join(
            'MyVm' if holder == self.vm.id else 'no_such_vm'
            for holder in holders
        )
        return f'{status} by {names}' if names else status

    def _ask_nova(self, nova_has_it: bool, holders: list[str]) -> str:
        for holder in holders:
            try:
                self.nova.servers.get(holder)
            except novaclient.exceptions.NotFound as exc:
                return f'no_such_vm is {exc.code}'
        return 'MyVm has MyVol' if nova_has_it else 'MyVm has no volume'


def _judge(status: str, nova_has_it: bool) -> Verdict:
    if status == 'in-use':
        return Verdict.ATTACHED if nova_has_it else Verdict.FORGED
    if nova_has_it:
        return Verdict.LOST
    return Verdict.FREE if status == 'available' else Verdict.HELD
