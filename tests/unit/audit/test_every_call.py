# SPDX-License-Identifier: Apache-2.0

"""A fault at each call of each repair, and of each undo: none is left out.

After it, what was healthy still is, and a second run completes.  The table in
``doc/source/admin/repair.rst`` says the same for people.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import itertools
import pathlib
from typing import Any

import pytest

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit.collect import case_builder
from attachguard.audit.repair import apply
from attachguard.audit.repair import journal
from attachguard.audit.repair import undo
from tests.unit.audit import models
from tests.unit.audit.collect import fakes

#: What is wrong, by the actions that lead to it, with the first volume.
STATES = {
    'attached to nobody': ('os_attach_gone',),
    'connected for nobody': ('forge_gone',),
    'connected for a server that lacks it': ('forge',),
    'reserved for a server that lacks it': ('forge_reserved',),
    'in-use by nothing': ('sql',),
    'reserved by nothing': ('reserve',),
    'detaching for no reason': ('nova_attached', 'begin_detaching'),
    'available and attached': ('nova_attached', 'reset_available'),
    'attached twice': ('nova_attached', 'forge_reserved'),
    'in error, and attached to nobody': ('os_attach_gone', 'reset_error'),
    'in error, and attached': ('nova_attached', 'reset_error'),
}
FAULTS = {
    'killed before it': models.Fault('kill', False),
    'killed after it': models.Fault('kill', True),
    'lost request': models.Fault('timeout', False),
    'lost response': models.Fault('timeout', True),
    'error': models.Fault('500', False),
    'refusal of the guard': models.Fault('403', False),
    'the guard cannot verify': models.Fault('guard', False),
    'error of a proxy': models.Fault('proxy', False),
}
#: Those that `make test` tries, too.
TELLING = ('killed before it', 'lost response')
_RULES = foreign.Rules(compute_hosts=models.HOSTS)


class Run:
    """One state, with a volume beside it that is healthy.

    :param directory: for the journals
    """

    def __init__(self, actions: tuple[str, ...], directory: pathlib.Path):
        self.world = models.World()
        # The multiattach volume, on the other server.
        self.world.act(models.Action('nova_attached', 1, 1, 1))
        for name in actions:
            self.world.act(models.Action(name))
        self.healthy = self.world.intact()
        self._directory = directory

    def _cloud(self, number: int, fault: models.Fault | None) -> Any:
        self.calls = itertools.count()
        self.happened = False

        def fail(*_call: Any) -> models.Fault | None:
            if next(self.calls) == number:
                self.happened = True
                return fault
            return None

        return fakes.of_world(self.world, fail)

    @contextlib.contextmanager
    def _journal(self, path: pathlib.Path) -> Any:
        with contextlib.closing(journal.Journal(path, {})) as opened:
            yield opened

    def repair(
        self,
        number: int = -1,
        fault: models.Fault | None = None,
        name: str = 'repair',
    ) -> list[apply.Outcome]:
        """Repair what is found, with a fault at a call."""
        world, outcomes = self.world, []
        quiet = fakes.of_world(world)
        findings = [
            finding
            for volume_id in world.cinder.volumes
            for finding in classes.find(
                case_builder.read_case(
                    quiet, volume_id, _RULES, list(world.servers)
                )
            )
        ]
        with (
            self._journal(self._directory / name) as opened,
            contextlib.suppress(KeyboardInterrupt),
        ):
            repair = apply.Repair(
                self._cloud(number, fault),
                _RULES,
                opened,
                lambda _volume_id: list(world.servers),
                sleep=lambda _seconds: None,
            )
            for finding in findings:
                outcomes.append(repair.repair(finding))
        return outcomes

    def undo(
        self,
        number: int = -1,
        fault: models.Fault | None = None,
        name: str = 'undo',
    ) -> list[undo.Outcome]:
        """Undo the repair, with a fault at a call."""
        entries = journal.read(self._directory / 'repair')[1]
        outcomes: list[undo.Outcome] = []
        with (
            self._journal(self._directory / name) as opened,
            contextlib.suppress(KeyboardInterrupt),
        ):
            done = undo.Undo(self._cloud(number, fault), opened)
            outcomes.extend(done.undo(entries))
        return outcomes

    def check_healthy(self) -> None:
        """Check that what was healthy still is."""
        now = self.world.intact()
        assert self.healthy.items() <= now.items()


def each_call(
    path: pathlib.Path,
    make: Callable[[pathlib.Path], Run],
    act: Callable[[Run, int], None],
) -> int:
    """Act once for each call, until there is none left.

    :param path: for a directory of each run
    :returns: how many there are
    """
    for number in itertools.count():
        directory = path / str(number)
        directory.mkdir()
        run = make(directory)
        act(run, number)
        if not run.happened:
            return number
    raise AssertionError


every_state = pytest.mark.parametrize('actions', STATES.values(), ids=STATES)
every_fault = pytest.mark.parametrize(
    'fault',
    [
        pytest.param(
            fault,
            id=name,
            marks=pytest.mark.slow if name in TELLING else pytest.mark.nightly,
        )
        for name, fault in FAULTS.items()
    ],
)


@every_fault
@every_state
def test_a_repair_after_a_fault_completes(
    tmp_path: pathlib.Path, actions: tuple[str, ...], fault: models.Fault
) -> None:
    def make(directory: pathlib.Path) -> Run:
        return Run(actions, directory)

    def act(run: Run, number: int) -> None:
        first = run.repair(number, fault)
        happened = run.happened
        run.check_healthy()
        for outcome in first:
            if outcome.result is apply.Result.REPAIRED:
                cloud = fakes.of_world(run.world)
                case = case_builder.read_case(
                    cloud, outcome.finding.volume_id, _RULES
                )
                kinds = [found.key for found in classes.find(case)]
                assert outcome.finding.key not in kinds
        # A second run, and a third for what a killed one left reserved.
        for name in ('second', 'third'):
            run.repair(name=name)
        assert run.repair(name='last') == []
        run.check_healthy()
        run.happened = happened

    # At least: read the volume, its attachments and servers, and change it.
    assert each_call(tmp_path, make, act) > 4


@every_fault
@every_state
def test_an_undo_after_a_fault_harms_nothing(
    tmp_path: pathlib.Path, actions: tuple[str, ...], fault: models.Fault
) -> None:
    def make(directory: pathlib.Path) -> Run:
        run = Run(actions, directory)
        assert all(
            outcome.result is apply.Result.REPAIRED for outcome in run.repair()
        )
        run.healthy = run.world.intact()
        return run

    def act(run: Run, number: int) -> None:
        run.undo(number, fault)
        happened = run.happened
        run.check_healthy()
        for outcome in run.undo(name='second'):
            # What is not as before is said, and not called undone.
            assert outcome.result is not undo.Result.FAILED, outcome
        run.check_healthy()
        run.happened = happened

    assert each_call(tmp_path, make, act) > 2
