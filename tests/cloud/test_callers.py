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
"""Everybody but Nova who attaches volumes, and what the README tells them.

Each attaches a volume and detaches it again: without the guard, with its
defaults, and with the very lines that the README has for whom they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any
import uuid

from cinderclient import exceptions as cinder_exceptions
import openstack.exceptions
import pytest
import yaml

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import rules
from tests.cloud import stage as stages

HOST = 'a-host'
CONNECTOR = {'host': HOST, 'initiator': 'iqn.test:1', 'ip': '192.0.2.1'}


class Refused(Exception):
    """403, in the words of the guard."""


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Make one of each client's own exception for a refusal."""
    try:
        yield
    except (
        cinder_exceptions.Forbidden,
        openstack.exceptions.ForbiddenException,
    ) as exc:
        raise Refused(str(exc)) from exc
    except subprocess.CalledProcessError as exc:
        if '403' not in exc.stderr:
            raise AssertionError(exc.stderr) from exc
        raise Refused(exc.stderr) from exc


@dataclasses.dataclass
class Scene:
    """A volume, and somebody who is to have it.

    :param volume: the volume's id
    :param server: a server of Nova's that does not have it, or a uuid that
        is another consumer's, a container's or a node's
    :param caller: who attaches it
    :param service: whose service token goes with it
    :param clouds_yaml: for the command line
    """

    volume: str
    server: str
    caller: people.Caller
    service: people.Caller | None
    clouds_yaml: pathlib.Path

    @property
    def cinder(self) -> Any:
        """python-cinderclient, as the caller."""
        client = self.caller.cinder
        if self.service is not None:
            client.client.additional_headers = {
                'X-Service-Token': self.service.token
            }
        return client

    def openstack(self, *words: str) -> Any:
        """Run the command line, with the environment of a person's shell."""
        done = subprocess.run(
            [
                pathlib.Path(sys.prefix, 'bin', 'openstack'),
                '--os-volume-api-version=3.70',
                *words,
            ],
            env={
                **os.environ,
                'OS_CLIENT_CONFIG_FILE': str(self.clouds_yaml),
                'OS_CLOUD': self.caller.name,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout) if done.stdout else None


class Consumer:
    """Somebody who attaches volumes, call for call as they do.

    :cvar advice: where in the README the lines are that let it through; None
        where the defaults do
    :cvar by: whose token
    :cvar service: whose service token
    :cvar holder: who has the volume afterwards, as the stage tells it
    """

    advice: str | None = None
    by = 'member'
    service: str | None = None
    holder: str | None = 'somebody else'

    def attach(self, scene: Scene) -> str | None:
        """Attach the volume; what was refused is tidied up.

        :returns: the attachment's id, where the client gets to know it
        """
        raise NotImplementedError

    def detach(self, scene: Scene, attachment: str | None) -> None:
        """Detach it again."""
        raise NotImplementedError


class CommandLine(Consumer):
    """``openstack volume attachment create, set, complete, delete``."""

    advice = 'openstack volume attachment create'
    holder = 'MyVm'

    def attach(self, scene: Scene) -> str:
        words = ('volume', 'attachment')
        made = scene.openstack(
            *words,
            'create',
            scene.volume,
            f'--server={scene.server}',
            '--format=json',
        )
        scene.openstack(
            *words, 'set', made['ID'], f'--host={HOST}', '--format=json'
        )
        scene.openstack(*words, 'complete', made['ID'])
        return str(made['ID'])

    def detach(self, scene: Scene, attachment: str | None) -> None:
        assert attachment is not None
        scene.openstack('volume', 'attachment', 'delete', attachment)


class Sdk(Consumer):
    """The same by openstacksdk, for a server's id that is invented."""

    advice = 'openstack volume attachment create'

    def attach(self, scene: Scene) -> str:
        storage: Any = scene.caller.sdk.block_storage
        made = storage.create_attachment(scene.volume, instance=scene.server)
        storage.update_attachment(made, connector=CONNECTOR)
        storage.complete_attachment(made)
        return str(made.id)

    def detach(self, scene: Scene, attachment: str | None) -> None:
        storage: Any = scene.caller.sdk.block_storage
        storage.delete_attachment(attachment, ignore_missing=False)


class Brick(Consumer):
    """python-brick-cinderclient-ext: ``local-attach``, ``local-detach``."""

    advice = 'python-brick-cinderclient-ext'

    def attach(self, scene: Scene) -> str:
        attachments = scene.cinder.attachments
        made = attachments.create(scene.volume, CONNECTOR, scene.server)
        attachments.complete(made['connection_info']['attachment_id'])
        return str(made['connection_info']['attachment_id'])

    def detach(self, scene: Scene, attachment: str | None) -> None:
        attachments = scene.cinder.attachments
        (found,) = attachments.list(search_opts={'volume_id': scene.volume})
        attachments.delete(found.id)


class ByActions(Consumer):
    """The older way, in which an attachment is several actions.

    :cvar reserves: with os-reserve, and os-begin_detaching
    :cvar server: whether os-attach names one
    :cvar host: whether it names one
    """

    reserves = True
    server = False
    host = True

    def attach(self, scene: Scene) -> None:
        volumes = scene.cinder.volumes
        if self.reserves:
            volumes.reserve(scene.volume)
        volumes.initialize_connection(scene.volume, CONNECTOR)
        try:
            volumes.attach(
                scene.volume,
                scene.server if self.server else None,
                '/dev/vdb',
                host_name=HOST if self.host else None,
            )
        except cinder_exceptions.Forbidden:
            self.tidy(scene)
            raise

    def tidy(self, scene: Scene) -> None:
        """What the client does when it cannot attach."""
        if self.reserves:
            scene.cinder.volumes.unreserve(scene.volume)

    def detach(self, scene: Scene, attachment: str | None) -> None:
        volumes = scene.cinder.volumes
        (found,) = volumes.get(scene.volume).attachments
        if self.reserves:
            volumes.begin_detaching(scene.volume)
        volumes.terminate_connection(scene.volume, CONNECTOR)
        volumes.detach(scene.volume, found['attachment_id'])


class BrickLegacy(ByActions):
    """python-brick-cinderclient-ext before the microversion 3.44."""

    advice = 'Terraform'
    holder = None


class Terraform(ByActions):
    """``openstack_blockstorage_volume_attach_v3``."""

    advice = 'Terraform'
    holder = None
    reserves = False


class Zun(ByActions):
    """A container's volume, with the token of its user."""

    advice: str | None = 'Zun'
    server = True

    def tidy(self, scene: Scene) -> None:
        volumes = scene.cinder.volumes
        volumes.terminate_connection(scene.volume, CONNECTOR)
        volumes.detach(scene.volume)
        volumes.unreserve(scene.volume)


class ZunItself(Zun):
    """With Zun's own token, as whoever has the role ``service``."""

    advice = None
    by = 'zun'


class Ironic(ByActions):
    """A node's volume, for its user, with Ironic's service token."""

    service: str | None = 'ironic'
    server = True
    host = False


class IronicPeriodic(Ironic):
    """Ironic by itself, with its own token only."""

    by = 'ironic'
    service = None


class Glance(Consumer):
    """An image in the Cinder store, read with the token of its user."""

    holder = None

    def attach(self, scene: Scene) -> str:
        attachments = scene.cinder.attachments
        made = attachments.create(scene.volume, None, None, mode='ro')
        attachments.update(
            made['id'], {**CONNECTOR, 'mountpoint': 'glance_store'}
        )
        attachments.complete(made['id'])
        return str(made['id'])

    def detach(self, scene: Scene, attachment: str | None) -> None:
        scene.cinder.attachments.delete(attachment)


class GlanceItself(Glance):
    """In the volume of Glance's own project, with Glance's own token."""

    by = 'glance'


CONSUMERS: tuple[type[Consumer], ...] = (
    CommandLine,
    Sdk,
    Brick,
    BrickLegacy,
    Terraform,
    Zun,
    ZunItself,
    Ironic,
    IronicPeriodic,
    Glance,
    GlanceItself,
)
BROKEN = [consumer for consumer in CONSUMERS if consumer.advice]


def over(*consumers: type[Consumer]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        'consumer',
        consumers,
        indirect=True,
        ids=lambda consumer: consumer.__name__,
    )


@pytest.fixture
def consumer(request: pytest.FixtureRequest) -> Consumer:
    found: type[Consumer] = request.param
    return found()


@pytest.fixture
def set_scene(
    cloud: clouds.Cloud, stage: stages.Stage, tmp_path: pathlib.Path
) -> Callable[[Consumer], Scene]:
    """What makes the volume and whoever is to have it."""

    def make(consumer: Consumer) -> Scene:
        clouds_yaml = tmp_path / 'clouds.yaml'
        clouds_yaml.write_text(yaml.safe_dump(clouds.describe(cloud.places)))
        caller = stage.caller(consumer.by)
        return Scene(
            stage.volume('MyVol', by=caller),
            (
                stage.server('MyVm')
                if consumer.holder == 'MyVm'
                else str(uuid.uuid4())
            ),
            caller,
            stage.caller(consumer.service) if consumer.service else None,
            clouds_yaml,
        )

    return make


def held(stage: stages.Stage) -> tuple[str, list[str]]:
    """The volume's status, and who has it by Cinder's records."""
    state = stage.state()
    for name in stage.servers:
        # Whatever Cinder was told: Nova knows of nothing.
        assert state[f'server {name}']['volumes'] == []
    return state['volume MyVol']['status'], state['volume MyVol']['records']


FREE: tuple[str, list[str]] = ('available', [])


def attaches_and_detaches(
    consumer: Consumer, scene: Scene, stage: stages.Stage
) -> None:
    with refusals():
        attachment = consumer.attach(scene)
    assert held(stage) == ('in-use', [f'attached {consumer.holder}'])
    with refusals():
        consumer.detach(scene, attachment)
    assert held(stage) == FREE


def is_refused(consumer: Consumer, scene: Scene, stage: stages.Stage) -> None:
    with pytest.raises(Refused, match='attachguard: '), refusals():
        consumer.attach(scene)
    # And it has left nothing behind.
    assert held(stage) == FREE


@pytest.mark.mode(modes.UNGUARDED)
class TestWithoutTheGuard:
    """Each works, so that a difference comes from the guard."""

    @over(*CONSUMERS)
    def test_attaches_and_detaches(
        self,
        consumer: Consumer,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
    ) -> None:
        attaches_and_detaches(consumer, set_scene(consumer), stage)


class TestWithTheGuard:
    """By default, and by the lines that the README has."""

    @over(*CONSUMERS)
    def test_by_default(
        self,
        consumer: Consumer,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
    ) -> None:
        scene = set_scene(consumer)
        if consumer.advice:
            is_refused(consumer, scene, stage)
        else:
            attaches_and_detaches(consumer, scene, stage)

    @over(*BROKEN)
    def test_let_through_as_the_readme_says(
        self,
        consumer: Consumer,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
        policy_file: rules.Rules,
    ) -> None:
        scene = set_scene(consumer)
        assert consumer.advice is not None
        policy_file.write(
            rules.documented(
                'compatibility', consumer.advice, id=scene.caller.project_id
            )
        )
        attaches_and_detaches(consumer, scene, stage)

    @over(Sdk, Brick, Zun, Terraform)
    def test_the_lines_open_one_project_only(
        self,
        consumer: Consumer,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
        member: people.Caller,
        policy_file: rules.Rules,
    ) -> None:
        assert consumer.advice is not None
        policy_file.write(
            rules.documented(
                'compatibility', consumer.advice, id=member.project_id
            )
        )
        consumer.by = 'other'
        is_refused(consumer, set_scene(consumer), stage)

    @over(Terraform)
    def test_without_the_lines_it_is_refused_again(
        self,
        consumer: Consumer,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
        policy_file: rules.Rules,
    ) -> None:
        scene = set_scene(consumer)
        policy_file.write(
            rules.documented(
                'compatibility', 'Terraform', id=scene.caller.project_id
            )
        )
        attaches_and_detaches(consumer, scene, stage)
        policy_file.write({})
        is_refused(consumer, scene, stage)

    def test_without_a_cinder_store_its_row_can_be_closed(
        self,
        set_scene: Callable[[Consumer], Scene],
        stage: stages.Stage,
        policy_file: rules.Rules,
    ) -> None:
        policy_file.write(
            rules.documented('limits', 'Attachments without a server')
        )
        scene = set_scene(Glance())
        is_refused(Glance(), scene, stage)
        scene.service = stage.caller('glance')
        attaches_and_detaches(Glance(), scene, stage)
