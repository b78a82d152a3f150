# SPDX-License-Identifier: Apache-2.0
"""One run of one flow: what was done, and the state after each step."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

from cinderclient import exceptions as cinder_exceptions
from novaclient import exceptions as nova_exceptions

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import records
from tests.cloud import stage as stages

#: How long a step may take to get where it should, in seconds; less where
#: Cinder is known to refuse Nova.
_PATIENCE = {True: 90.0, False: 20.0}


@dataclasses.dataclass(frozen=True)
class Step:
    """What was done, and its result.

    :param name: what was done
    :param answer: what the service answered
    :param reached: whether it came to what was expected
    :param state: what both sides say after it
    """

    name: str
    answer: str
    reached: bool
    state: dict[str, Any]


class Scene(stages.Stage):
    """A stage on which steps are taken, and written down.

    A step that fails is no error here: whether it has to is known only by the
    same flow without the guard.

    :param cloud: the cloud, which runs
    :param request_id: global request id of every call that is made for it
    :param mode: how the cloud is run
    :param actor: name of who acts
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        request_id: str,
        mode: modes.Mode,
        actor: str = 'member',
    ) -> None:
        super().__init__(cloud, request_id)
        self.actor = self.caller(actor)
        self.steps: list[Step] = []
        self.patience = _PATIENCE[mode.service_token]

    def step(self, name: str, act: Callable[[], Any], **expected: str) -> bool:
        """Do something, wait for what comes of it, and write it down.

        :param name: what is done
        :param act: does it
        :param expected: name of a volume or server to the status that it is
            to have after it, or ``gone``
        :returns: whether it came to that
        """
        answer, reached = 'accepted', False
        failures = self._failures()
        try:
            act()
        except (
            cinder_exceptions.ClientException,
            nova_exceptions.ClientException,
        ) as exc:
            answer = f'{exc.code} {type(exc).__name__}'
        except subprocess.CalledProcessError as exc:
            answer = f'exit code {exc.returncode}'
        except stages.NeverHappened:
            pass
        else:
            reached = self._reach(expected, failures)
        state = self.settle() if reached else self.settle(passing=())
        self.steps.append(Step(name, answer, reached, state))
        return reached

    def _reach(self, expected: dict[str, str], failures: int) -> bool:
        reached = False

        def look() -> bool:
            nonlocal reached
            reached = all(
                self.status(name) == status
                for name, status in expected.items()
            )
            return reached or self._failures() > failures

        with contextlib.suppress(stages.NeverHappened):
            stages.wait_for(str(expected), look, self.patience)
        return reached

    def _failures(self) -> int:
        return records.failures(self.cloud.mariadb, self.servers.values())

    # What several flows do

    def attach(
        self,
        volume: str = 'data',
        server: str = 'server',
        status: str = 'in-use',
        **kwargs: Any,
    ) -> bool:
        """``openstack server add volume``."""
        return self.step(
            f'attach {volume} to {server}',
            lambda: self.actor.nova.volumes.create_server_volume(
                self.servers[server], self.volumes[volume], **kwargs
            ),
            **{volume: status},
        )

    def detach(
        self,
        volume: str = 'data',
        server: str = 'server',
        status: str = 'available',
    ) -> bool:
        """``openstack server remove volume``."""
        return self.step(
            f'detach {volume} from {server}',
            lambda: self.actor.nova.volumes.delete_server_volume(
                self.servers[server], self.volumes[volume]
            ),
            **{volume: status},
        )

    def delete(self, server: str = 'server', **volumes: str) -> bool:
        """``openstack server delete``."""
        return self.step(
            f'delete {server}',
            lambda: self.actor.nova.servers.delete(self.servers[server]),
            **{server: 'gone', **volumes},
        )

    def act(
        self, action: str, status: str, *args: Any, **expected: str
    ) -> bool:
        """An action on the server, by novaclient's name for it."""
        return self.step(
            action.replace('_', ' '),
            lambda: getattr(self.actor.nova.servers, action)(
                self.servers['server'], *args
            ),
            server=status,
            **expected,
        )

    def host(self, server: str = 'server') -> str:
        """The compute that a server is on."""
        found = self.admin.nova.servers.get(self.servers[server])
        return str(getattr(found, 'OS-EXT-SRV-ATTR:host'))

    def nova_manage(self, *words: str) -> None:
        """Run nova-manage.

        :raises subprocess.CalledProcessError: it fails
        """
        subprocess.run(
            [
                f'{sys.prefix}/bin/nova-manage',
                f'--config-file={self.cloud.places.etc("nova")}/nova.conf',
                *words,
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    def places_for(self, server: str) -> pathlib.Path:
        """A directory as a script of attachguard needs it on a controller.

        With ``connector.json`` of a server's compute, and a ``nova-manage``
        that reads this cloud's nova.conf.
        """
        where = self.cloud.directory / f'{self.request_id}.{server}'
        where.mkdir(exist_ok=True)
        shutil.copy(self.connector(server), where / 'connector.json')
        program = where / 'nova-manage'
        program.write_text(
            f'#!/bin/sh\nexec {sys.prefix}/bin/nova-manage '
            f'--config-file={self.cloud.places.etc("nova")}/nova.conf "$@"\n'
        )
        program.chmod(0o755)
        return where

    def connector(self, server: str = 'server') -> str:
        """A file with what ``os_brick`` says of the server's compute."""
        path = self.cloud.directory / f'{self.request_id}.json'
        connector = {
            'host': self.host(server),
            'initiator': 'fake',
            'ip': '127.0.0.1',
            'multipath': False,
            'os_type': 'linux',
            'platform': 'x86_64',
        }
        path.write_text(json.dumps(connector))
        return str(path)
