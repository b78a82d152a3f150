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
"""Where the guard has a user of its own, Keystone is in trouble, too.

Only the guard finds Keystone by way of the trouble: Cinder's auth_token finds
it as ever, for without that nobody gets as far as the guard.
"""

from __future__ import annotations

from collections.abc import Iterator
import datetime

import pytest

from tests.chaos import episodes
from tests.chaos import faults
from tests.chaos import scene as scenes

# What is told apart by nothing that comes before the token is left out.
_FAULTS = [
    'refuses',
    'hangs-before-answering',
    'hangs-in-the-body',
    'drips-headers',
    'drips-a-body',
    'drips-chunks',
    'resets-before-answering',
    'truncates-the-body',
    'says-500',
    'says-503-come-back-tomorrow',
    'says-429-come-back-tomorrow',
    'says-401-for-ever',
    'says-404-in-html',
    'says-200-with-garbage',
    'says-200-with-another-row',
    'sends-100-MB-as-one-string',
    'sends-8-MB-of-many-lists',
    'sends-headers-for-ever',
    'sends-100-Continue-for-ever',
    'redirects-302',
    'redirects-307-elsewhere',
]
# keystoneauth gets a new one when there are less than thirty left.
_SHORT = datetime.timedelta(seconds=25)


@pytest.fixture(scope='module')
def stage(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[episodes.Stage]:
    directory = tmp_path_factory.mktemp('cinder')
    with scenes.staged(directory, 'threads', credentials='admin') as scene:
        yield episodes.Stage.of(scene)
    assert not scene.tracebacks
    assert 'gAAAAA' not in scene.log


class TestKeystoneInTrouble(episodes.Expected):
    """Keystone, or what there is in its place, when a token is needed."""

    @pytest.fixture(scope='class', params=_FAULTS)
    @staticmethod
    def episode(
        request: pytest.FixtureRequest, stage: episodes.Stage
    ) -> episodes.Episode:
        keystone = stage.scene.stubs.keystone
        lifetime = keystone.token_lifetime
        keystone.token_lifetime = _SHORT
        try:
            # The token that the guard has now is one that needs replacing.
            _renew(stage)
            return episodes.play(
                stage, stage.scene.keystone, faults.ALL[request.param]
            )
        finally:
            keystone.token_lifetime = lifetime


def _renew(stage: episodes.Stage) -> None:
    """Have Nova refuse the guard's token, so that it gets a new one."""
    stage.scene.stubs.nova.faults.add(401, path='os-volume_attachments')
    answer = stage.scene.member.attach(stage.volume_id)
    assert answer.status == 403, answer


def test_a_token_that_nova_refuses_is_replaced_once(
    stage: episodes.Stage,
) -> None:
    episodes.recover(stage)
    asked = stage.scene.keystone.requests
    _renew(stage)
    assert stage.scene.keystone.requests == asked + 1
    assert stage.scene.member.attach(stage.volume_id).status == 403
    assert stage.scene.keystone.requests == asked + 1


def test_nova_that_refuses_every_token_costs_keystone_little(
    stage: episodes.Stage,
) -> None:
    episodes.recover(stage)
    scene = stage.scene
    asked = scene.keystone.requests
    scene.nova.begin(faults.ALL['says-401-for-ever'])
    try:
        answers = [scene.member.attach(stage.volume_id) for _ in range(20)]
    finally:
        scene.nova.cure()
    assert {answer.status for answer in answers} == {503}
    assert scene.keystone.requests - asked <= len(answers)
    recovered, recovery = episodes.recover(stage)
    assert recovered.status == 202
    assert recovery < episodes.RECOVERY


def test_who_hangs_on_keystone_hangs_on_nothing_else(
    stage: episodes.Stage,
) -> None:
    episodes.recover(stage)
    scene = stage.scene
    # As long as the guard's token is good, nobody needs Keystone.
    scene.keystone.begin(faults.ALL['hangs-before-answering'])
    try:
        answers = scenes.at_once(
            4, lambda _n: scene.member.attach(stage.volume_id)
        )
    finally:
        scene.keystone.cure()
    assert {answer.status for answer in answers} == {403}
