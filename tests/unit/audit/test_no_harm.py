# SPDX-License-Identifier: Apache-2.0

"""No repair changes what Nova relies on, whatever happens in whatever order.

Hypothesis lets users, operators, Nova and others do what they like with the
volumes of a small cloud (:mod:`.models`), before audits, repairs and undos and
between any two of their requests, of which any may fail too.

The examples are the same each time; to try more::

    ATTACHGUARD_NO_HARM=20000 python -m pytest tests/unit/audit/test_no_harm.py

runs so many at random, and longer ones. That the test can find harm is shown
by breaking the repair on purpose.

Some harm cannot be prevented through Cinder's API, so it is not tried
(:mod:`.models` notes where): by a user who ends the reservation of a repair
while it lasts; by one who makes a volume available that cannot be reserved,
and lets Nova attach it, between the last check and the call; by a container
that gets a multiattach volume at that moment; and to what Nova has in a cell
that is down while an operator drops its attachments.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
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
from typing import Optional

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st
import pytest

from attachguard.audit import classes
from attachguard.audit import confirmation
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import cases
from attachguard.audit.collect import inventory
from attachguard.audit.collect import rest
from attachguard.audit.repair import apply
from attachguard.audit.repair import decide
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan
from attachguard.audit.repair import undo
from attachguard.audit.report import content
from tests.unit.audit import models

_LONG = int(os.environ.get('ATTACHGUARD_NO_HARM', '0'))

_MIN_AGE = datetime.timedelta(minutes=10)
_RESERVED = {'os-reserve': 'attaching', 'os-begin_detaching': 'detaching'}


class Harm(AssertionError):
    """Something has happened that must not happen."""


@dataclasses.dataclass(frozen=True)
class Event:
    """What happens during a run.

    :param when: ``audit`` or ``repair``: before the n-th request of that part
        of it; ``write``: before the n-th request that changes something;
        ``wrote``: before the first request after it
    :param number: n, from 0
    :param actions: what others do then
    :param fault: how the request fails
    :param here: whether the actions are about the volume of the request
    """

    when: str
    number: int
    actions: tuple[models.Action, ...] = ()
    fault: models.Fault | None = None
    here: bool = False


class Monitor:
    """Observes the requests of one run, and lets events happen.

    :param world: which the requests are for
    :param events: what happens
    """

    def __init__(self, world: models.World, events: tuple[Event, ...]) -> None:
        self._world = world
        self._events = events
        self._counts: collections.Counter[str] = collections.Counter()
        self._killed = False
        self._last: dict[str, int] = {}
        self._intact: dict[str, Any] = {}
        self._statuses: dict[str, tuple[str, int]] = {}
        # Volumes that the run has reserved, and when.
        self._reserved: dict[str, int] = {}
        self.faulty = False
        #: ``audit`` or ``repair``
        self.part = 'audit'
        #: where writes have to be recorded; None where none are allowed
        self.journal: pathlib.Path | None = None
        self.cloud = api.Cloud(
            models.Connection(world, self._before, self._after)
        )

    def _before(
        self, service: str, method: str, path: str, body: Any
    ) -> models.Fault | None:
        if self._killed:
            return models.Fault('kill', False)
        self._note(path)
        numbers = self._count(method != 'GET')
        fault = None
        for event in self._events:
            if numbers.get(event.when) == event.number:
                for action in event.actions:
                    if event.here:
                        action = models.Action(
                            **{**action._asdict(), **self._last}
                        )
                    self._world.act(action)
                fault = fault or event.fault
        if fault is not None:
            self.faulty = True
            self._killed = fault.kind == 'kill'
        if method != 'GET':
            self._check_write(service, method, path, body)
        return fault

    def _count(self, write: bool) -> dict[str, int]:
        """Return which request this is, by what events call it."""
        numbers = {self.part: self._counts[self.part]}
        self._counts[self.part] += 1
        if write:
            numbers['write'] = self._counts['write']
            self._counts['write'] += 1
        elif self._counts['write'] != self._counts['wrote']:
            self._counts['wrote'] = self._counts['write']
            numbers['wrote'] = self._counts['write'] - 1
        return numbers

    def _note(self, path: str) -> None:
        """Note which volume, and which server, a request is about."""
        cinder = self._world.cinder
        for found in re.findall('[0-9a-f-]{36}', path):
            if found in cinder.attachments:
                found = cinder.attachments[found].volume_id
            if found in cinder.volumes:
                self._last = {'volume': list(cinder.volumes).index(found)}
                named = {item.server for item in cinder.of(found)}
                for number, server_id in enumerate(self._world.servers):
                    if server_id in named:
                        self._last['server'] = number

    def _check_write(
        self, service: str, method: str, path: str, body: Any
    ) -> None:
        if self.journal is None:
            raise Harm(f'{method} {path} in a dry run, or an audit')
        if service != 'block_storage':
            raise Harm(f'{method} {path} of Nova')
        *_, last = self.journal.read_text().splitlines()
        call = json.loads(last).get('call', {})
        if [call.get(key) for key in ('method', 'path', 'body')] != [
            method,
            path,
            body,
        ]:
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
        # What is in a cell that is down is in no list. The command repairs
        # nothing then, unless it has to trust the inventory, as it does here.
        servers = [s for s in world.servers.values() if not s.cell_down]
        for volume in world.cinder.volumes.values():
            status, changes = self._statuses[volume.id]
            if volume.changes == changes:
                continue
            unreserved = status == 'attaching' and volume.id in world.reserved
            if (
                volume.status == 'available' != status
                and not unreserved
                and any(server.volumes.get(volume.id) for server in servers)
            ):
                raise Harm(f'{method} {path} {body}: available to others')
            if volume.status == _RESERVED.get(next(iter(body or {}), '')):
                world.reserved.add(volume.id)
                self._reserved[volume.id] = volume.changes
            else:
                world.reserved.discard(volume.id)

    def check_unreserved(self) -> None:
        """Check that no volume is left reserved."""
        for volume in self._world.cinder.volumes.values():
            if self._reserved.get(volume.id) == volume.changes:
                raise Harm(f'volume {volume.id} is left {volume.status}')


class Operator:
    """Audits and repairs a world, and checks that nothing is harmed.

    :param world: to be audited
    :param directory: for journals and the state file
    """

    def __init__(self, world: models.World, directory: pathlib.Path) -> None:
        self._world = world
        self._directory = directory
        #: of the repairs
        self.journals: list[pathlib.Path] = []

    @contextlib.contextmanager
    def _run(
        self, events: tuple[Event, ...], *, reserves: bool
    ) -> Iterator[Monitor]:
        monitor = Monitor(self._world, events)
        self._world.audited = True
        try:
            yield monitor
        except (rest.CloudError, KeyboardInterrupt):
            if not events and not self._world.nova.down:
                raise
        finally:
            # Nobody knows of reservations that are left.
            self._world.audited = False
            self._world.reserved.clear()
            self._world.nova.may_hide = True
        if reserves and not monitor.faulty:
            monitor.check_unreserved()

    @contextlib.contextmanager
    def _audited(
        self, cloud: api.Cloud, few: bool, once: bool
    ) -> Iterator[tuple[inventory.Inventory, list[content.Entry]]]:
        cloud.log_in()
        volumes = self._world.cinder.volumes if few else ()
        state = confirmation.StateFile(
            self._directory / 'state.json', cloud.identity
        )
        with inventory.Inventory(cloud) as read:
            audited = runner.Audit(
                cloud,
                read,
                runner.Selection(volumes=frozenset(volumes)),
                None if once else state,
                _MIN_AGE,
            ).run()
            yield read, audited.entries

    def audit(self, few: bool = False) -> list[content.Entry]:
        """Audit, and let time pass."""
        try:
            cloud = Monitor(self._world, ()).cloud
            with self._audited(cloud, few, False) as (_read, entries):
                return entries
        except rest.CloudError:
            return []
        finally:
            self._world.wait()

    def repair(
        self,
        events: tuple[Event, ...] = (),
        *,
        few: bool = False,
        once: bool = False,
        dry: bool = False,
    ) -> list[apply.Outcome]:
        """Repair what is found, as the command does.

        :param events: what happens meanwhile
        :param few: whether volumes are named
        :param once: without a state file
        :param dry: whether it is a dry run
        """
        self._world.nova.may_hide = not once
        if once:
            self._world.wait()
        outcomes: list[apply.Outcome] = []
        with (
            self._run(events, reserves=True) as monitor,
            self._audited(monitor.cloud, few, once) as (read, entries),
        ):
            monitor.part = 'repair'
            with contextlib.ExitStack() as stack:
                opened = None
                if not dry:
                    opened = stack.enter_context(self._journal(monitor))
                    self.journals.append(opened.path)
                repair = apply.Repair(
                    monitor.cloud,
                    read.rules,
                    opened,
                    read.cases.holders,
                    sleep=lambda _seconds: None,
                )
                outcomes += [
                    repair.repair(entry.finding)
                    for entry in entries
                    if entry.state is content.State.FOUND
                ]
                outcomes = repair.recheck_repaired(outcomes)
        return outcomes

    def undo(
        self, path: pathlib.Path, events: tuple[Event, ...] = ()
    ) -> list[undo.Outcome]:
        """Undo a repair.

        :param path: of its journal
        :param events: what happens meanwhile
        """
        _header, entries = journal.read(path)
        outcomes: list[undo.Outcome] = []
        # It may restore the status of a volume that is reserved.
        with self._run(events, reserves=False) as monitor:
            monitor.part = 'repair'
            with self._journal(monitor) as opened:
                outcomes += undo.Undo(monitor.cloud, opened).undo(entries)
        return outcomes

    @contextlib.contextmanager
    def _journal(self, monitor: Monitor) -> Iterator[journal.Journal]:
        number = len(list(self._directory.iterdir()))
        monitor.journal = self._directory / f'{number}.jsonl'
        header = {'cloud': monitor.cloud.identity}
        with contextlib.closing(
            journal.Journal(monitor.journal, header)
        ) as opened:
            yield opened

    def settle(self) -> None:
        """Check that repairs come to an end in an idle world."""
        self._world.finish()
        outcomes: list[apply.Outcome] = []
        for _round in range(6):
            if not self.audit():
                return
            outcomes = self.repair()
            repaired = {
                outcome.finding.key
                for outcome in outcomes
                if outcome.result is apply.Result.REPAIRED
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
            not in (apply.Result.BY_HAND, apply.Result.UNKNOWN)
            and not self._is_for_a_person(outcome.finding.volume_id)
        ]
        if left:
            raise Harm(f'does not come to an end: {left}')

    def _is_for_a_person(self, volume_id: str) -> bool:
        """Return whether Cinder refuses to reserve a volume.

        In-use, and neither attached nor detached.
        """
        volume = self._world.cinder.volumes[volume_id]
        return volume.status == 'in-use' and volume.attach_status not in (
            'attached',
            'detached',
        )


_SMALL = st.integers(0, 3)
# What makes the rest interesting comes more often.
_NAMES = list(models.ACTIONS)
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

    @stateful.precondition(lambda self: not self._world.nova.down)
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
                outcome.result in (undo.Result.UNDONE, undo.Result.NOTHING)
                for outcome in undone
                if outcome.volume_id == volume_id
            ) and any(
                outcome.result is apply.Result.REPAIRED
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


@pytest.mark.slow
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


# What is broken on purpose: each shows that some harm would be noticed.


def _change_plans(
    patch: pytest.MonkeyPatch,
    change: Callable[
        [classes.Finding, model.Case, bool | None, Make], plan.Plan
    ],
) -> None:
    real = plan.make
    patch.setattr(
        plan,
        'make',
        lambda finding, case, connected=None: change(
            finding, case, connected, real
        ),
    )


def _change_steps(
    patch: pytest.MonkeyPatch, change: Callable[[plan.Step], plan.Step]
) -> None:
    def changed(
        finding: classes.Finding,
        case: model.Case,
        connected: bool | None,
        real: Make,
    ) -> plan.Plan:
        planned = real(finding, case, connected)
        return dataclasses.replace(
            planned, steps=tuple(map(change, planned.steps))
        )

    _change_plans(patch, changed)


def _no_reservation(patch: pytest.MonkeyPatch) -> None:
    _change_steps(
        patch, lambda step: dataclasses.replace(step, reservation=None)
    )


def _no_check_of_what_is_reserved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(apply, 'changes', lambda _before, _now: '')


def _no_end_of_a_reservation(patch: pytest.MonkeyPatch) -> None:
    def forever(step: plan.Step) -> plan.Step:
        if step.reservation is None:
            return step
        # Cinder ignores the one of the other reservation.
        names = ['os-unreserve', 'os-roll_detaching']
        names.remove(step.reservation.unreserve.name)
        path = step.reservation.unreserve.path
        nothing = plan.Call(names[0], 'POST', path, {names[0]: None})
        return plan.Step(
            step.call, plan.Reservation(step.reservation.reserve, nothing)
        )

    _change_steps(patch, forever)


def _not_found(patch: pytest.MonkeyPatch, statuses: tuple[int, ...]) -> None:
    patch.setattr(
        rest.Response,
        'not_found',
        property(lambda self: self.status in statuses),
    )


def _unauthorized_is_gone(patch: pytest.MonkeyPatch) -> None:
    _not_found(patch, (401, 404))


def _a_proxy_is_taken_for_nova(patch: pytest.MonkeyPatch) -> None:
    _not_found(patch, (404,))


def _unknown_is_taken_for_absent(patch: pytest.MonkeyPatch) -> None:
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


def _other_servers_are_ignored(patch: pytest.MonkeyPatch) -> None:
    def change(
        finding: classes.Finding,
        case: model.Case,
        connected: bool | None,
        real: Make,
    ) -> plan.Plan:
        own = finding.server_id or ''
        case = dataclasses.replace(case, servers={own: case.servers[own]})
        return real(finding, case, connected)

    _change_plans(patch, change)


def _holders_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cases.Cases, 'holders', lambda *_args: [])


def _nothing_is_connected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, 'is_connected', lambda *_args: False)


def _containers_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, 'may_disconnect_another', lambda *_args: False)


def _nothing_is_foreign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        foreign.Rules,
        'match',
        lambda _self, _case, item: (
            None if item.server_id else foreign.Match(foreign.Reason.NO_SERVER)
        ),
    )


def _no_server_is_busy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.Server, 'busy', property(lambda _self: False))


def _no_volume_is_busy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model.Volume, 'busy', property(lambda _self: False))


def _everything_is_confirmed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(confirmation.Seen, 'is_confirmed', lambda *_args: True)


def _one_step(call: plan.Call) -> plan.Plan:
    return plan.Plan((plan.Step(call),))


def _what_drops_all_comes_first(patch: pytest.MonkeyPatch) -> None:
    drop = {'status': 'available', 'attach_status': 'detached'}
    _change_plans(
        patch,
        lambda _finding, case, _connected, _real: _one_step(
            plan.action(case.volume_id, 'os-reset_status', drop)
        ),
    )


def _any_duplicate_is_deleted(patch: pytest.MonkeyPatch) -> None:
    _change_plans(
        patch,
        lambda finding, _case, _connected, _real: _one_step(
            plan.Call('', 'DELETE', f'/attachments/{finding.attachment_id}')
        ),
    )


def _no_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        journal.Journal,
        'record',
        lambda *_args: contextlib.nullcontext({}),
    )


_Break = Callable[[pytest.MonkeyPatch], None]
Make = Callable[[classes.Finding, model.Case, Optional[bool]], plan.Plan]


def _at(number: int, *names: str, when: str = 'write') -> Event:
    return Event(when, number, tuple(models.Action(name) for name in names))


_SHELVED = ('shelve', 'step', 'step', 'nova_attached')


@pytest.mark.parametrize(
    ('broken', 'before', 'events'),
    [
        (
            # cinder-volume is down, so that only the last step works; before
            # it, the user attaches the volume as it should be.
            _no_reservation,
            ['os_attach'],
            [_at(0, 'volume_service'), _at(2, 'reattached')],
        ),
        (
            _no_check_of_what_is_reserved,
            ['os_attach'],
            [_at(0, 'volume_service'), _at(4, 'reattached')],
        ),
        (
            _no_end_of_a_reservation,
            ['forge'],
            [_at(0, 'nova_attach', when='wrote')],
        ),
        # Cinder does not check with Nova what is not connected.
        (_unauthorized_is_gone, [*_SHELVED, 'nova_refuses'], []),
        (
            _a_proxy_is_taken_for_nova,
            [*_SHELVED, models.Action('nova_refuses', host=1)],
            [],
        ),
        (_unknown_is_taken_for_absent, [*_SHELVED, 'nova_fails'], []),
        (_unknown_is_taken_for_absent, [*_SHELVED, 'cell_down'], []),
        (
            _other_servers_are_ignored,
            ['forge_beside', 'forged_complete'],
            [],
        ),
        (
            _holders_are_ignored,
            ['nova_attached', 'reset_detached', 'os_attach_gone'],
            [],
        ),
        (_nothing_is_connected, ['forge_beside'], []),
        (
            _containers_are_ignored,
            [models.Action('forge', 1), models.Action('zun', 1)],
            [],
        ),
        (_nothing_is_foreign, ['ironic'], []),
        (_nothing_is_foreign, ['brick'], []),
        (_no_server_is_busy, ['nova_attached', 'shelve'], []),
        (_no_volume_is_busy, ['nova_attached', 'retype'], []),
        (_everything_is_confirmed, [], [_at(0, 'boot', when='audit')]),
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
def test_harm_is_noticed(
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


def test_a_later_step_drops_nothing_that_was_made_since(
    tmp_path: pathlib.Path,
) -> None:
    """The volume is attached to a server while the first step fails."""
    _Clock.world = world = models.World()
    operator = Operator(world, tmp_path)
    world.act(models.Action('os_attach_gone'))
    operator.audit(few=True)
    made = _at(0, 'reset_available', *_SHELVED, 'volume_service')
    [outcome] = operator.repair((made,), few=True)
    assert outcome.result is apply.Result.FAILED
    assert 'the volume has changed' in outcome.text
    [held] = world.intact()
    assert world.cinder.attachments[held].status == 'attached'


@pytest.mark.slow
@pytest.mark.parametrize(
    'broken',
    [_nothing_is_foreign, _what_drops_all_comes_first]
    # These take longer to be found.
    + [_nothing_is_connected, _other_servers_are_ignored] * bool(_LONG),
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

    real = decide.is_connected

    def delete(cloud: api.Cloud, attachment_id: str | None) -> bool | None:
        cloud.cinder('DELETE', f'/attachments/{attachment_id}')
        return real(cloud, attachment_id)

    monkeypatch.setattr(decide, 'is_connected', delete)
    with pytest.raises(Harm, match='dry run'):
        operator.repair(dry=True)
