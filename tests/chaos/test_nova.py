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
"""Whatever Nova does, who needs an answer gets one in time.

One process of the real Cinder goes through all the faults, one after the
other, on the guard's own defaults but for the times.
"""

from __future__ import annotations

from collections.abc import Iterator
import threading
import time

import pytest

from tests.chaos import episodes
from tests.chaos import faults
from tests.chaos import scene as scenes
from tests.chaos import usage


@pytest.fixture(scope='module', params=['threads', 'eventlet'])
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[episodes.Stage]:
    directory = tmp_path_factory.mktemp('cinder')
    with scenes.staged(directory, request.param, real=True) as scene:
        yield episodes.Stage.of(scene)
    assert not scene.tracebacks


class TestNovaInTrouble(episodes.Expected):
    """Nova, or what there is in its place."""

    @pytest.fixture(scope='class', params=faults.ALL)
    @staticmethod
    def episode(
        request: pytest.FixtureRequest, stage: episodes.Stage
    ) -> episodes.Episode:
        scene = stage.scene
        fault: str = request.param
        nova = scene.tls if fault.startswith('tls') else scene.nova
        scene.use(nova)
        return episodes.play(stage, nova, faults.ALL[fault])


class TestNovaComesAndGoes:
    """Nova on one port, and now and then not."""

    @pytest.fixture(autouse=True)
    def _without_tls(self, stage: episodes.Stage) -> Iterator[None]:
        stage.scene.use(stage.scene.nova)
        answer, _seconds = episodes.recover(stage)
        assert answer.status == 202
        yield
        stage.scene.nova.cure()

    def test_flapping_every_second(self, stage: episodes.Stage) -> None:
        scene = stage.scene
        over = threading.Event()

        def flap() -> None:
            while not over.wait(1.0):
                scene.nova.begin(faults.PLAIN['refuses'])
                over.wait(1.0)
                scene.nova.cure()

        asked: list[scenes.Answer] = []
        flapping = threading.Thread(target=flap, daemon=True)
        with stage.others.about() as others:
            flapping.start()
            try:
                end = time.monotonic() + 6
                while time.monotonic() < end:
                    asked += scenes.at_once(
                        2, lambda _n: scene.member.attach(stage.volume_id)
                    )
                    time.sleep(0.05)
            finally:
                over.set()
                flapping.join()
                scene.nova.cure()
            recovered, recovery = episodes.recover(stage)
        assert {answer.status for answer in asked} == {403, 503}
        assert max(answer.seconds for answer in asked) < (
            scenes.NOVA_TIMEOUT + scenes.MARGIN
        )
        assert not others.failed
        assert recovered.status == 202
        assert recovery < episodes.RECOVERY

    def test_restarting_while_nobody_asks(self, stage: episodes.Stage) -> None:
        scene = stage.scene
        # So that there is a connection for each, which then is of no use.
        scene.warm_up(stage.volume_id)
        scene.nova.begin(faults.PLAIN['refuses'])
        time.sleep(1.0)
        scene.nova.cure()
        asked = scenes.at_once(
            scenes.CONCURRENCY // 2,
            lambda _n: scene.member.attach(stage.volume_id),
        )
        assert {answer.status for answer in asked} == {403}


def test_after_all_of_it_the_process_is_as_it_was(
    stage: episodes.Stage,
) -> None:
    limit = stage.calm.plus(1 + scenes.CONCURRENCY, 4, 120.0)
    after = usage.settled(stage.scene.pid, limit, 5.0)
    assert after.threads <= limit.threads
    assert after.sockets <= limit.sockets
    assert after.megabytes <= limit.megabytes
