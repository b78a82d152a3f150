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
"""Nova in trouble, where the operator says: then let them."""

from __future__ import annotations

from collections.abc import Iterator
import time

import pytest

from tests.chaos import episodes
from tests.chaos import faults
from tests.chaos import scene as scenes


@pytest.fixture(scope='module')
def stage(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[episodes.Stage]:
    directory = tmp_path_factory.mktemp('cinder')
    with scenes.staged(directory, 'threads', on_nova_error='allow') as scene:
        yield episodes.Stage.of(scene)
    assert not scene.tracebacks


def _recover(scene: scenes.Scene) -> float:
    """Ask until there is a decision: who is let through is no sign of one.

    :returns: after how many seconds
    """
    start = time.monotonic()
    while scene.member.attach(scene.volume()).status != 403:
        assert time.monotonic() - start < episodes.RECOVERY
        time.sleep(0.1)
    return time.monotonic() - start


@pytest.mark.parametrize(
    'fault',
    [
        'refuses',
        'hangs-before-answering',
        'drips-headers',
        'drips-a-body',
        'resets-in-the-body',
        'says-500',
        'says-503-come-back-tomorrow',
        'says-404-in-html',
        'says-200-with-garbage',
        'sends-100-MB-as-one-string',
        'redirects-307-elsewhere',
    ],
)
def test_the_request_is_let_through_in_time(
    stage: episodes.Stage, fault: str
) -> None:
    scene = stage.scene
    volume_id = scene.volume()
    scene.nova.begin(faults.ALL[fault])
    try:
        answer = scene.member.attach(volume_id)
    finally:
        scene.nova.cure()
    assert answer.status == 202, answer
    assert answer.seconds < scenes.NOVA_TIMEOUT + scenes.MARGIN
    assert scene.show(volume_id)['status'] == 'in-use'
    last = scene.log.rsplit('attachguard decision', 1)[1]
    assert '"verdict": "unknown"' in last
    assert '"enforced": false' in last
    assert _recover(scene) < episodes.RECOVERY


@pytest.mark.parametrize('fault', ['says-401-for-ever', 'says-403-for-ever'])
def test_but_not_with_a_token_that_nova_refuses(
    stage: episodes.Stage, fault: str
) -> None:
    scene = stage.scene
    volume_id = scene.volume()
    _recover(scene)
    scene.nova.begin(faults.ALL[fault])
    try:
        for _ in range(7):
            assert scene.member.attach(volume_id).status == 503
    finally:
        scene.nova.cure()
    assert scene.show(volume_id)['status'] == 'available'


def test_nor_where_callers_are_too_many(stage: episodes.Stage) -> None:
    # They can bring that about: let through, a crowd could forge.
    scene = stage.scene
    volumes = [scene.volume() for _ in range(2 * scenes.CONCURRENCY)]
    _recover(scene)
    scene.nova.begin(faults.ALL['hangs-before-answering'])
    try:
        answers = scenes.at_once(
            len(volumes), lambda n: scene.member.attach(volumes[n])
        )
    finally:
        scene.nova.cure()
    early = [
        answer
        for answer in answers
        if answer.seconds < 0.5 * scenes.NOVA_TIMEOUT
    ]
    assert early
    assert {answer.status for answer in early} == {503}
