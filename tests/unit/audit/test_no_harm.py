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

"""No repair touches what Nova holds, whatever happens in whatever order.

Hypothesis lets users, operators, Nova and others do what they like with the
volumes of a small cloud (:mod:`.models`), before audits, repairs and undos and
between any two of their requests, of which any may go wrong, too.

What is looked for is drawn anew, but the same, each time; to look further::

    ATTACHGUARD_NO_HARM=20000 python -m pytest tests/unit/audit/test_no_harm.py

runs so many examples at random, longer ones, too, for as long as that takes.
That it can find anything is shown by what is broken on purpose.

What Cinder's API gives no means against is not tried (:mod:`.models` says so
where it is left out): a user who takes back the hold of a repair in the moment
that it lasts; one who makes a volume available again for which there is no
hold, and has Nova attach it, between the last look and the act; a container
that gets a multiattach volume in that moment; and what Nova has in a cell that
is down while an operator drops its attachments.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import tempfile
from typing import Any
from typing import cast

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st
import pytest

from attachguard.audit import checks
from attachguard.audit import confirmation as states
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from attachguard.audit.collect import rest
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from attachguard.audit.repair import plan as plans
from attachguard.audit.repair import undo as undos
from attachguard.audit.report import content
from tests.unit.audit import models

_LONG = int(os.environ.get('ATTACHGUARD_NO_HARM', '0'))

_MIN_AGE = datetime.timedelta(minutes=10)
_BEGIN = {'os-reserve': 'attaching', 'os-begin_detaching': 'detaching'}
_END = {'os-unreserve', 'os-roll_detaching'}


class Harm(AssertionError):
    """What must not happen has happened."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What happens in the middle of a run.

    :param when: ``audit`` or ``repair``: before the n-th request of that part
        of it; ``write``: before the n-th request that changes something;
        ``wrote``: before the one after that
    :param actions: what others do then
    :param fault: what becomes of the request
    :param here: whether they do it with the volume that the request is about
    """

    when: str
    number: int
    actions: tuple[models.Action, ...] = ()
    fault: models.Fault | None = None
    here: bool = False


class Operator:
    """Audits and repairs a world, and sees that nothing is harmed.

    :param world: to be audited
    :param directory: for journals and the state
    """

    def __init__(self, world: models.World, directory: pathlib.Path) -> None:
        self._world = world
        self._directory = directory
        self._state = directory / 'state.json'
        self._journals = 0
        self._connection = models.Connection(world, self._before, self._after)
        self.journals: list[pathlib.Path] = []
        self._quiet()

    def _quiet(self) -> None:
        self._events: tuple[Event, ...] = ()
        self._counts: collections.Counter[str] = collections.Counter()
        self._part = 'audit'
        self._journal: pathlib.Path | None = None
        self._dead = False
        self._faulty = False
        self._here: dict[str, int] = {}
        self._intact: dict[str, Any] = {}
        self._statuses: dict[str, tuple[str, int]] = {}
        # Volumes that it has made nobody else's, and in which change.
        self._ours: dict[str, int] = {}

    # What the cloud calls.

    def _before(
        self, service: str, method: str, path: str, body: Any
    ) -> models.Fault | None:
        if self._dead:
            return models.Fault('kill', False)
        writes = method != 'GET'
        keys = [self._part] if self._part != 'audit' else ['audit']
        if writes:
            keys.append('write')
        elif self._counts['write']:
            keys.append('wrote')
        now = {key: self._counts[key] for key in keys}
        if 'wrote' in now:
            # The first one after the n-th that wrote.
            fresh = self._counts['write'] != self._counts['seen']
            self._counts['seen'] = self._counts['write']
            now['wrote'] = self._counts['write'] - 1 if fresh else -1
        self._counts.update(key for key in keys if key != 'wrote')
        fault = None
        self._see(path)
        for event in self._events:
            if now.get(event.when) == event.number:
                for action in event.actions:
                    self._world.act(
                        action._replace(
                            volume=self._here.get('volume', action.volume),
                            server=self._here.get('server', action.server),
                        )
                        if event.here
                        else action
                    )
                fault = fault or event.fault
        if fault is not None:
            self._faulty = True
            self._dead = fault.kind == 'kill'
        if writes:
            self._about_to(service, method, path, body)
        return fault

    def _see(self, path: str) -> None:
        """See which volume, and which server, a request is about."""
        cinder = self._world.cinder
        for found in re.findall('[0-9a-f-]{36}', path):
            if found in cinder.attachments:
                found = cinder.attachments[found].volume_id
            if found in cinder.volumes:
                self._here = {'volume': list(cinder.volumes).index(found)}
                named = {item.server for item in cinder.of(found)}
                for number, server_id in enumerate(self._world.servers):
                    if server_id in named:
                        self._here['server'] = number

    def _about_to(
        self, service: str, method: str, path: str, body: Any
    ) -> None:
        if self._journal is None:
            raise Harm(f'{method} {path} in a dry run, or an audit')
        if service != 'block_storage':
            raise Harm(f'{method} {path} of Nova')
        *_, last = self._journal.read_text().splitlines()
        call = json.loads(last).get('call', {})
        if (call.get('method'), call.get('path'), call.get('body')) != (
            method,
            path,
            body,
        ):
            raise Harm(f'{method} {path} is not in the journal: {last}')
        self._intact = self._world.intact()
        self._statuses = {
            volume.id: (volume.status, volume.changes)
            for volume in self._world.cinder.volumes.values()
        }

    def _after(self, method: str, path: str, body: Any) -> None:
        world = self._world
        now = world.intact()
        for key, was in self._intact.items():
            if key not in now:
                raise Harm(f'{method} {path} {body}: lost {key} of {was}')
        for volume in world.cinder.volumes.values():
            status, changes = self._statuses[volume.id]
            if volume.changes == changes:
                continue
            # As it was before it was reserved.
            unheld = status == 'attaching' and volume.id in world.held
            if (
                volume.status == 'available' != status
                and not unheld
                and any(s.volumes.get(volume.id) for s in self._servers())
            ):
                raise Harm(f'{method} {path} {body}: free to others')
            name = next(iter(body), '') if body else ''
            if volume.status == _BEGIN.get(name):
                world.held.add(volume.id)
                self._ours[volume.id] = volume.changes
            else:
                world.held.discard(volume.id)

    def _servers(self) -> Collection[models.Server]:
        # What is in a cell that is down is in no list, and can be learnt from
        # nobody: the command repairs nothing then, unless it is told to trust
        # the inventory, as it is here.
        return [s for s in self._world.servers.values() if not s.cell_down]

    # What it does.

    def _cloud(self) -> api.Cloud:
        return api.Cloud(cast(Any, self._connection))

    def _audit(
        self, few: bool, once: bool
    ) -> Iterator[
        tuple[api.Cloud, inventories.Inventory, list[content.Entry]]
    ]:
        cloud = self._cloud()
        cloud.log_in()
        with inventories.Inventory(cloud) as inventory:
            state = states.StateFile(self._state, cloud.identity)
            audited = runner.Audit(
                cloud,
                inventory,
                runner.Selection(
                    volumes=frozenset(self._world.cinder.volumes)
                    if few
                    else frozenset()
                ),
                None if once else state,
                _MIN_AGE,
            ).run()
            yield cloud, inventory, audited.entries

    def audit(self, few: bool = False) -> list[content.Entry]:
        """Audit, and let time pass."""
        self._quiet()
        try:
            for _cloud, _inventory, entries in self._audit(few, False):
                return entries
        except rest.CloudError:
            pass
        finally:
            self._world.wait()
        return []

    def repair(
        self,
        events: tuple[Event, ...] = (),
        *,
        few: bool = False,
        once: bool = False,
        dry: bool = False,
    ) -> list[repairs.Outcome]:
        """Repair what is found, as the command does.

        :param events: what happens meanwhile
        :param few: whether volumes are named
        :param once: whether earlier audits do not matter
        :param dry: whether nothing is to be done
        """
        self._quiet()
        self._events = events
        self._world.may_be_blind = not once
        if once:
            self._world.wait()
        outcomes: list[repairs.Outcome] = []
        with self._run():
            for cloud, inventory, entries in self._audit(few, once):
                found = [
                    entry.finding
                    for entry in entries
                    if entry.state is content.State.FOUND
                ]
                self._part = 'repair'
                with self._written(cloud, dry) as journal:
                    repair = repairs.Repair(
                        cloud,
                        inventory.rules,
                        journal,
                        inventory.holders,
                        sleep=lambda _seconds: None,
                    )
                    outcomes += map(repair.repair, found)
                    return repair.look_again(outcomes)
        return outcomes

    def undo(
        self, path: pathlib.Path, events: tuple[Event, ...] = ()
    ) -> list[undos.Outcome]:
        """Undo a repair.

        :param path: of its journal
        :param events: what happens meanwhile
        """
        self._quiet()
        self._events = events
        self._part = 'repair'
        _header, entries = journals.read(path)
        outcomes: list[undos.Outcome] = []
        # What it brings back may well be a volume that is held.
        with self._run(releases=False):
            cloud = self._cloud()
            with self._written(cloud, False) as journal:
                # An undo cannot be undone.
                self.journals.pop()
                outcomes += undos.Undo(cloud, journal).undo(entries)
        return outcomes

    @contextlib.contextmanager
    def _run(self, releases: bool = True) -> Iterator[None]:
        self._world.audited = True
        try:
            yield
        except (rest.CloudError, KeyboardInterrupt):
            if not self._events and not self._world.nova_down:
                raise
        finally:
            # Whatever is held still, nobody knows any more.
            self._world.audited = False
            self._world.held.clear()
            self._world.may_be_blind = True
        if self._faulty or not releases:
            return
        for volume in self._world.cinder.volumes.values():
            if self._ours.get(volume.id) == volume.changes:
                raise Harm(f'volume {volume.id} is left {volume.status}')

    @contextlib.contextmanager
    def _written(
        self, cloud: api.Cloud, dry: bool
    ) -> Iterator[journals.Journal | None]:
        if dry:
            yield None
            return
        self._journals += 1
        path = self._directory / f'{self._journals}.jsonl'
        journal = journals.Journal(path, {'cloud': cloud.identity})
        self._journal = path
        self.journals.append(path)
        try:
            yield journal
        finally:
            journal.close()

    def settle(self) -> None:
        """In a world at rest, repairs come to an end."""
        self._world.rest()
        outcomes: list[repairs.Outcome] = []
        for _round in range(6):
            if not self.audit():
                return
            outcomes = self.repair()
            repaired = {
                outcome.finding.key
                for outcome in outcomes
                if outcome.result is repairs.Result.REPAIRED
            }
            again = {entry.finding.key for entry in self.audit()}
            if repaired & again:
                raise Harm(f'repaired, and found again: {repaired & again}')
            if not repaired:
                break
        left = [
            outcome
            for outcome in outcomes
            if outcome.result
            not in (repairs.Result.BY_HAND, repairs.Result.UNKNOWN)
            # in-use, and neither attached nor detached: Cinder lets nobody
            # begin to detach it, and a person has to.
            and 'cannot be kept away' not in outcome.text
        ]
        if left:
            raise Harm(f'does not come to an end: {left}')


_SMALL = st.integers(0, 3)
# What makes the rest interesting comes more often.
_NAMES = [*models.ACTIONS]
_NAMES += ['nova_attach', 'nova_attached', 'step', 'step_last'] * 2
_NAMES += ['forge', 'forge_gone', 'os_attach', 'os_attach_gone', 'sql'] * 2
_NAMES += ['boot', 'shelve', 'migrate', 'retype', 'forge_beside'] * 2
_NAMES += ['volume_service', 'nova_refuses', 'sql_attach_status'] * 2
# What matters at the worst moment.
_SUDDEN = st.sampled_from(
    (
        'boot',
        'nova_attach',
        'nova_attached',
        'reattached',
        'reattaching',
        'step',
        'step_last',
    )
)
_NAME = st.sampled_from(_NAMES)
# What happens to one volume and one server, mostly.
_ACTIONS = st.one_of(
    st.builds(
        lambda names, *where: tuple(
            models.Action(name, *where) for name in names
        ),
        st.lists(_NAME, min_size=1, max_size=4),
        *[_SMALL] * 3,
    ),
    st.lists(
        st.builds(models.Action, _NAME, *[_SMALL] * 3), min_size=1, max_size=3
    ).map(tuple),
)
_FAULT = st.builds(
    models.Fault,
    st.sampled_from(
        ('401', '403', '500', '503', 'proxy', 'timeout', 'stop', 'kill')
    ),
    st.booleans(),
)
_WHEN = st.one_of(
    st.tuples(st.just('write'), st.integers(0, 2)),
    st.tuples(st.just('write'), st.integers(0, 2)),
    st.tuples(st.just('wrote'), st.integers(0, 2)),
    st.tuples(st.just('repair'), st.integers(0, 15)),
    st.tuples(st.just('audit'), st.integers(0, 10)),
)
_EVENT = st.one_of(
    st.builds(
        lambda when, actions, here: Event(
            when[0], when[1], actions, here=here
        ),
        _WHEN,
        st.one_of(
            _ACTIONS,
            st.builds(
                lambda name: (models.Action(name),),
                _SUDDEN,
            ),
        ),
        st.booleans(),
    ),
    st.builds(
        lambda when, fault: Event(when[0], when[1], (), fault), _WHEN, _FAULT
    ),
)
_EVENTS = st.lists(_EVENT, max_size=4).map(tuple)


class NoHarm(stateful.RuleBasedStateMachine):
    """Anything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._world = models.World()
        self._operator = Operator(
            self._world, pathlib.Path(self._directory.name)
        )
        _Clock.world = self._world

    @stateful.rule(actions=_ACTIONS)
    def happen(self, actions: tuple[models.Action, ...]) -> None:
        """Others do something."""
        for action in actions:
            self._world.act(action)

    @stateful.rule()
    def wait(self) -> None:
        """Time passes."""
        self._world.wait()

    @stateful.rule(
        actions=_ACTIONS,
        events=_EVENTS,
        few=st.booleans(),
        mode=st.sampled_from(('repair', 'repair', 'repair', 'once', 'dry')),
    )
    def repair(
        self,
        actions: tuple[models.Action, ...],
        events: tuple[Event, ...],
        few: bool,
        mode: str,
    ) -> None:
        """A repair, in the middle of which anything happens."""
        for action in actions:
            self._world.act(action)
        if mode != 'once' and not self._operator.audit(few=True):
            return
        self._operator.repair(
            events, few=few, once=mode == 'once', dry=mode == 'dry'
        )

    @stateful.precondition(lambda self: self._operator.journals)
    @stateful.rule(events=_EVENTS, which=_SMALL)
    def undo(self, events: tuple[Event, ...], which: int) -> None:
        """An undo, likewise."""
        paths = self._operator.journals
        self._operator.undo(paths[-1 - which % len(paths)], events)

    @stateful.precondition(lambda self: not self._world.nova_down)
    @stateful.rule()
    def repair_and_undo(self) -> None:
        """What is repaired comes back when nobody interferes."""
        if not self._operator.audit(few=True):
            return
        before = self._attached()
        outcomes = self._operator.repair()
        undone = self._operator.undo(self._operator.journals[-1])
        after = self._attached()
        for volume_id in {outcome.volume_id for outcome in undone}:
            if all(
                outcome.result in (undos.Result.UNDONE, undos.Result.NOTHING)
                for outcome in undone
                if outcome.volume_id == volume_id
            ) and any(
                outcome.result is repairs.Result.REPAIRED
                for outcome in outcomes
                if outcome.finding.volume_id == volume_id
            ):
                assert before[volume_id] == after[volume_id], undone

    def _attached(self) -> dict[str, list[tuple[str | None, bool]]]:
        return {
            volume_id: sorted(
                (
                    (item.server, item.status == 'attached')
                    for item in self._world.cinder.of(volume_id)
                ),
                key=str,
            )
            for volume_id in self._world.cinder.volumes
        }

    def teardown(self) -> None:
        """At last, everything comes to rest."""
        try:
            self._operator.settle()
        finally:
            self._directory.cleanup()


class _Clock:
    """The time of the world that is being tried."""

    world: models.World | None = None

    @classmethod
    def now(cls) -> datetime.datetime:
        assert cls.world is not None
        return cls.world.clock


_SETTINGS = hypothesis.settings(
    max_examples=200,
    stateful_step_count=8,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's clock, and no waiting for disks."""
    monkeypatch.setattr(model, 'now', _Clock.now)
    monkeypatch.setattr(os, 'fsync', lambda _file: None)


def test_no_harm() -> None:
    settings = _SETTINGS
    if _LONG:
        settings = hypothesis.settings(
            settings,
            max_examples=_LONG,
            stateful_step_count=30,
            derandomize=False,
            print_blob=True,
        )
    stateful.run_state_machine_as_test(NoHarm, settings=settings)


# What is broken on purpose: each shows that some harm would be seen.


def _no_hold(patch: pytest.MonkeyPatch) -> None:
    def climb(
        self: repairs.Repair,
        step: plans.Step,
        finding: checks.Finding,
        case: model.Case,
    ) -> str:
        return self._act(step.call, finding, case)

    patch.setattr(repairs.Repair, '_climb', climb)


def _no_look_behind_a_hold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repairs, '_differs', lambda _before, _now: '')


def _no_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repairs.Repair, '_release', lambda *_args: None)


def _not_found(patch: pytest.MonkeyPatch, statuses: tuple[int, ...]) -> None:
    patch.setattr(
        rest.Response,
        'not_found',
        property(lambda self: self.status in statuses),
    )


def _unauthorized_is_gone(patch: pytest.MonkeyPatch) -> None:
    _not_found(patch, (401, 404))


def _a_proxy_is_believed(patch: pytest.MonkeyPatch) -> None:
    _not_found(patch, (404,))


def _unknown_is_a_no(patch: pytest.MonkeyPatch) -> None:
    real = api.Cloud.server

    def lie(
        self: api.Cloud, *what: str
    ) -> tuple[model.Server, model.Evidence]:
        server, evidence = real(self, *what)
        if server.presence is model.Presence.UNKNOWN:
            lacks = model.Presence.LACKS
            server = dataclasses.replace(server, presence=lacks)
        return server, evidence

    patch.setattr(api.Cloud, 'server', lie)


def _other_servers_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    real = plans._remove

    def remove(
        finding: checks.Finding, case: model.Case, connected: bool | None
    ) -> plans.Plan:
        own = finding.server_id or ''
        alone = {own: case.servers[own]}
        return real(
            finding, dataclasses.replace(case, servers=alone), connected
        )

    patch.setattr(plans, '_remove', remove)


def _holders_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(inventories.Inventory, 'holders', lambda *_args: [])


def _nothing_is_connected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repairs.Repair, '_connected', lambda *_args: False)


def _containers_do_not_matter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(repairs.Repair, '_has_a_container', lambda *_args: False)


def _nothing_is_foreign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        foreign.Rules,
        'match',
        lambda _self, _case, item: (
            None if item.server_id else foreign.Match(foreign.Reason.NO_SERVER)
        ),
    )


def _nothing_moves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.Server, 'busy', property(lambda _self: False))


def _nothing_is_occupied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.Volume, 'busy', property(lambda _self: False))


def _the_first_sight_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(states.Seen, 'is_confirmed', lambda *_args: True)


def _what_drops_all_comes_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        plans,
        '_remove',
        lambda _finding, case, _connected: plans.Plan(
            (plans.Step(plans._reset(case, 'available', 'detached')),), '', ''
        ),
    )


def _any_duplicate_is_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        plans,
        '_duplicate',
        lambda finding, _case, _connected: plans.Plan(
            (plans.Step(plans._delete(finding.attachment_id)),), '', ''
        ),
    )


def _no_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journals.Journal, 'act', lambda *_args: 1)


_Break = Callable[[pytest.MonkeyPatch], None]


def _at(number: int, *names: str, when: str = 'write') -> Event:
    return Event(when, number, tuple(models.Action(name) for name in names))


_SHELVED = ('shelve', 'step', 'step', 'nova_attached')


@pytest.mark.parametrize(
    ('broken', 'before', 'events'),
    [
        (
            # cinder-volume is down, so that only the last step works; before
            # it, the user does what should have been done at first.
            _no_hold,
            ['os_attach'],
            [_at(0, 'volume_service'), _at(2, 'reattached')],
        ),
        (
            _no_look_behind_a_hold,
            ['os_attach'],
            [_at(0, 'volume_service'), _at(4, 'reattached')],
        ),
        (_no_release, ['forge'], [_at(0, 'nova_attach', when='wrote')]),
        # Cinder does not ask Nova itself about what is not connected.
        (_unauthorized_is_gone, [*_SHELVED, 'nova_refuses'], []),
        (
            _a_proxy_is_believed,
            [*_SHELVED, models.Action('nova_refuses', host=1)],
            [],
        ),
        (_unknown_is_a_no, [*_SHELVED, 'nova_fails'], []),
        (_unknown_is_a_no, [*_SHELVED, 'cell_down'], []),
        (
            _other_servers_do_not_matter,
            ['forge_beside', 'forged_complete'],
            [],
        ),
        (
            _holders_do_not_matter,
            ['nova_attached', 'reset_detached', 'os_attach_gone'],
            [],
        ),
        (_nothing_is_connected, ['forge_beside'], []),
        (
            _containers_do_not_matter,
            [models.Action('forge', 1), models.Action('zun', 1)],
            [],
        ),
        (_nothing_is_foreign, ['ironic'], []),
        (_nothing_is_foreign, ['brick'], []),
        (_nothing_moves, ['nova_attached', 'shelve'], []),
        (_nothing_is_occupied, ['nova_attached', 'retype'], []),
        (_the_first_sight_counts, [], [_at(0, 'boot', when='audit')]),
        (
            _what_drops_all_comes_first,
            [
                models.Action('nova_attached', 1),
                models.Action('forge_gone', 1),
            ],
            [],
        ),
        (_any_duplicate_is_deleted, ['nova_attached', 'forge'], []),
        (_no_journal, ['os_attach_gone'], []),
    ],
)
def test_harm_is_seen(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: _Break,
    before: list[str | models.Action],
    events: list[Event],
) -> None:
    def run(directory: pathlib.Path) -> None:
        directory.mkdir()
        _Clock.world = world = models.World()
        operator = Operator(world, directory)
        for item in before:
            world.act(models.Action(item) if isinstance(item, str) else item)
        operator.audit(few=True)
        operator.repair(tuple(events), few=True)

    run(tmp_path / 'whole')
    with monkeypatch.context() as patch:
        broken(patch)
        with pytest.raises(Harm):
            run(tmp_path / 'broken')


@pytest.mark.parametrize(
    'broken',
    [_nothing_is_foreign, _what_drops_all_comes_first]
    # These take longer to be found.
    + [_nothing_is_connected, _other_servers_do_not_matter] * bool(_LONG),
)
def test_harm_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: _Break
) -> None:
    broken(monkeypatch)
    settings = hypothesis.settings(
        _SETTINGS, max_examples=4000, phases=[hypothesis.Phase.generate]
    )
    with pytest.raises(Harm):
        stateful.run_state_machine_as_test(NoHarm, settings=settings)


def test_a_service_token_would_be_seen(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = models.Adapter.request

    def request(self: Any, path: str, method: str, **how: Any) -> Any:
        how['headers'] = {'X-Service-Token': 'token'}
        return real(self, path, method, **how)

    monkeypatch.setattr(models.Adapter, 'request', request)
    _Clock.world = world = models.World()
    with pytest.raises(AssertionError, match='X-Service-Token'):
        Operator(world, tmp_path).audit()


def test_a_write_in_a_dry_run_would_be_seen(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Clock.world = world = models.World()
    operator = Operator(world, tmp_path)
    world.act(models.Action('os_attach_gone'))
    operator.audit()
    operator.repair(dry=True)

    def repair(self: Any, finding: checks.Finding) -> None:
        self._cloud.cinder('DELETE', f'/attachments/{finding.attachment_id}')

    monkeypatch.setattr(repairs.Repair, 'repair', repair)
    with pytest.raises(Harm, match='dry run'):
        operator.repair(dry=True)
