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
"""A fault from beginning to end, and what is expected of every one.

Each is gone through once, with callers at the guard, and then looked at from
several sides.  What a caller is told depends on who is in trouble, and is left
to the tests of that.
"""

from __future__ import annotations

import dataclasses
import time

from tests.chaos import scene as scenes
from tests.chaos import trouble
from tests.chaos import usage

# Callers whose questions differ, and those who ask the same.
DIFFERENT, SAME = 3, 2
# Within which the guard has to find out by itself that Nova is back.
RECOVERY = 8.0
# What a process may have besides, while some callers are at it: their own
# connections and the others', and those to Nova.
_DURING = 4 + scenes.CONCURRENCY, 3 * scenes.CONCURRENCY, 150.0
# What may be left. A connection that is kept is of use, and so is a thread for
# each that has ever waited at once: no more than may, after however many
# faults. How much of what it has freed a process gives back is up to the
# allocator.
_AFTER = 1 + scenes.CONCURRENCY, 4, 60.0
_SERVER = '00000000-0000-4000-8000-000000000000'


@dataclasses.dataclass
class Stage:
    """What every episode plays on.

    :param calm: what the process had before the first of all
    :param attached: a volume and a server that Nova knows to have it
    """

    scene: scenes.Scene
    others: scenes.Others
    volume_id: str
    attached: tuple[str, str]
    calm: usage.Usage

    @classmethod
    def of(cls, scene: scenes.Scene) -> Stage:
        """Set it up, and warm it up."""
        others = scenes.Others(scene)
        volume_id = scene.volume()
        attached = scene.attached()
        with others.about():
            calm = scenes.calm_usage(scene, volume_id)
        assert not others.failed
        return cls(scene, others, volume_id, attached, calm)


@dataclasses.dataclass
class Episode:
    """What came of one fault.

    :param asked: what those were answered who need Nova
    :param disturbed: who do not, and were not answered as ever
    :param undisturbed: how many were
    :param slowest: of those two, in seconds
    :param left: connections that the guard still had open to who is in
        trouble, soon after everybody had an answer
    :param most: what the process may have had at most meanwhile
    :param during: the most it had
    :param least: what it may have soon after
    :param after: what it had
    :param recovered: the first answer that was none of 503 after the trouble
    :param recovery: seconds until then
    :param contacted: connections to where the fault redirects
    """

    asked: list[scenes.Answer]
    disturbed: list[scenes.Answer]
    undisturbed: int
    slowest: float
    left: int
    most: usage.Usage
    during: usage.Usage
    least: usage.Usage
    after: usage.Usage
    recovered: scenes.Answer
    recovery: float
    contacted: int


def play(
    stage: Stage, where: trouble.Trouble, fault: trouble.Fault
) -> Episode:
    """Go through a fault.

    :param where: who is in trouble
    :param fault: in which
    """
    scene = stage.scene
    contacted = scene.elsewhere.accepted
    # Threads and connections are to be as at first; memory, as it was just
    # now, so that each fault answers for its own.
    before = dataclasses.replace(
        stage.calm, megabytes=usage.Usage.of(scene.pid).megabytes
    )

    def ask(number: int) -> scenes.Answer:
        server_id = None if number < DIFFERENT else _SERVER
        return scene.member.attach(stage.volume_id, server_id)

    with usage.Watch(scene.pid) as watch, stage.others.about() as others:
        where.begin(fault)
        try:
            asked = scenes.at_once(DIFFERENT + SAME, ask)
            left = where.wait_until_left(scenes.MARGIN)
        finally:
            where.cure()
        recovered, recovery = recover(stage)
    limit = before.plus(*_AFTER)
    return Episode(
        asked=asked,
        disturbed=others.failed,
        undisturbed=min(len(others.passed), len(others.served)),
        slowest=others.slowest,
        left=left,
        most=before.plus(*_DURING),
        during=watch.most,
        least=limit,
        after=usage.settled(scene.pid, limit, 3.0),
        recovered=recovered,
        recovery=recovery,
        contacted=scene.elsewhere.accepted - contacted,
    )


def recover(stage: Stage) -> tuple[scenes.Answer, float]:
    """Ask until there is a decision, and undo it.

    :returns: the decision, or the last 503, and after how many seconds
    """
    scene = stage.scene
    start = time.monotonic()
    while True:
        answer = scene.member.attach(*stage.attached)
        took = time.monotonic() - start
        if answer.status != 503 or took > 2 * RECOVERY:
            break
        time.sleep(0.1)
    if answer.status == 202:
        scene.detach(stage.attached[0])
    return answer, took


class Expected:
    """What is expected of each episode.

    A class of tests has a fixture ``episode``, and these.
    """

    def test_who_needs_nova_gets_503_in_cinders_form(
        self, episode: Episode
    ) -> None:
        for answer in episode.asked:
            assert answer.status == 503
            assert answer.reason in ('nova-unknown', 'nova-down')
            assert answer.body['serviceUnavailable']['code'] == 503
            assert answer.headers['content-type'] == 'application/json'
            version = answer.headers['openstack-api-version']
            assert version == 'volume 3.44'
            # Not what Nova says about itself.
            assert 1 <= int(answer.headers['retry-after']) <= 60

    def test_and_gets_it_in_time(self, episode: Episode) -> None:
        slowest = max(answer.seconds for answer in episode.asked)
        assert slowest < scenes.NOVA_TIMEOUT + scenes.MARGIN

    def test_nobody_else_is_disturbed(self, episode: Episode) -> None:
        assert episode.undisturbed
        assert not episode.disturbed
        assert episode.slowest < scenes.NOVA_TIMEOUT + scenes.MARGIN

    def test_no_connection_stays_behind(self, episode: Episode) -> None:
        assert episode.left == 0

    def test_the_process_stays_within_bounds(self, episode: Episode) -> None:
        assert episode.during.threads <= episode.most.threads
        assert episode.during.sockets <= episode.most.sockets
        assert episode.during.megabytes <= episode.most.megabytes

    def test_the_process_is_soon_as_before(self, episode: Episode) -> None:
        assert episode.after.threads <= episode.least.threads
        assert episode.after.sockets <= episode.least.sockets
        assert episode.after.megabytes <= episode.least.megabytes

    def test_it_recovers_by_itself(self, episode: Episode) -> None:
        assert episode.recovered.status == 202, episode.recovered
        assert episode.recovery < RECOVERY

    def test_nobody_follows_a_redirect(self, episode: Episode) -> None:
        assert episode.contacted == 0
