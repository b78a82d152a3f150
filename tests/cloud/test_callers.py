# SPDX-License-Identifier: Apache-2.0
"""Software other than Nova that attaches volumes.

Each consumer attaches a volume and detaches it again: without the guard, with
the default rules, and with the rules that the administrator's guide advises.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Any
import uuid

from cinderclient import exceptions as cinder_exceptions
import openstack.exceptions
import pytest

from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import rules
from tests.cloud import stage as stages

pytestmark = pytest.mark.nightly

HOST = 'a-host'
CONNECTOR = {'host': HOST, 'initiator': 'iqn.test:1', 'ip': '192.0.2.1'}


class Refused(Exception):
    """The guard refuses the call."""


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Translate the clients' exceptions for a refusal into one."""
    try:
        yield
    except (
        cinder_exceptions.Forbidden,
        openstack.exceptions.ForbiddenException,
    ) as exc:
        raise Refused(str(exc)) from exc


@dataclasses.dataclass
class Scene:
    """A volume, and the consumer that attaches it.

    :param volume: the volume's id
    :param server: an invented UUID, such as a container's or a node's
    :param caller: who attaches it
    :param service: whose service token goes with it
    """

    volume: str
    server: str
    caller: people.Caller
    service: people.Caller | None

    @property
    def cinder(self) -> Any:
        """python-cinderclient, as the caller."""
        client = self.caller.cinder
        if self.service is not None:
            client.client.additional_headers = {
                'X-Service-Token': self.service.token
            }
        return client


class Consumer:
    """Software that attaches volumes, call by call.

    :cvar advice: the section of the guide with the rules that allow it; None
        if the defaults do
    :cvar by: whose token
    :cvar service: whose service token
    :cvar holder: the server of the attachment, by its name on the stage
    """

    advice: str | None = None
    by = 'member'
    service: str | None = None
    holder: str | None = 'somebody else'

    def attach(self, scene: Scene) -> str | None:
        """Attach the volume, or clean up if the guard refuses it.

        :returns: the attachment's id, if the client learns it
        """
        raise NotImplementedError

    def detach(self, scene: Scene, attachment: str | None) -> None:
        """Detach it again."""
        raise NotImplementedError


class Sdk(Consumer):
    """openstacksdk, and so ``openstack volume attachment create``."""

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
            self.clean_up(scene)
            raise

    def clean_up(self, scene: Scene) -> None:
        """Clean up as the client does when it cannot attach."""
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

    def clean_up(self, scene: Scene) -> None:
        volumes = scene.cinder.volumes
        volumes.terminate_connection(scene.volume, CONNECTOR)
        volumes.detach(scene.volume)
        volumes.unreserve(scene.volume)


class ZunItself(Zun):
    """With Zun's own token, by the role ``service``."""

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
def set_scene(stage: stages.Stage) -> Callable[[Consumer], Scene]:
    """Creates the volume for a consumer."""

    def make(consumer: Consumer) -> Scene:
        caller = stage.caller(consumer.by)
        return Scene(
            stage.volume('MyVol', by=caller),
            str(uuid.uuid4()),
            caller,
            stage.caller(consumer.service) if consumer.service else None,
        )

    return make


def held(stage: stages.Stage) -> tuple[str, list[str]]:
    """The volume's status, and who has it by Cinder's records."""
    state = stage.state()
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
    """With the default rules, and with those of the guide."""

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
    def test_the_rules_of_the_guide_allow_it(
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
    def test_the_rules_allow_one_project_only(
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
    def test_without_the_rules_it_is_refused_again(
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
