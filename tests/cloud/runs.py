# SPDX-License-Identifier: Apache-2.0
"""Run flows in a mode of the cloud, and keep the results."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import concurrent.futures
import dataclasses
import traceback
from typing import Any
import uuid

from tests.cloud import cloud as clouds
from tests.cloud import flows
from tests.cloud import mode as modes
from tests.cloud import scene as scenes
from tests.cloud import traffic as traffics

# More only wait for the two cores that the cloud has.
_AT_ONCE = 6

# Cinder 29's own race, without any filter: when a volume in use has been
# migrated, the manager casts the deletion of the old one, and then saves the
# attachments, which that deletion may have removed (cinder/volume/manager.py,
# migrate_volume_completion). The completion fails, or the volume has lost its
# attachment after it. Such a run shows nothing about the guard.
_COMPLETION = 'os-migrate_volume_completion'
#: how often what met this race is tried
ATTEMPTS = 4


@dataclasses.dataclass
class Outcome:
    """The result of a flow.

    :param steps: what was done, and the state after it
    :param error: why it was not run to its end, if it was not
    :param calls: the calls to Cinder that may change an attachment
    """

    steps: list[scenes.Step]
    error: str = ''
    calls: list[traffics.Call] = dataclasses.field(default_factory=list)

    @property
    def is_of_race(self) -> bool:
        """Whether Cinder's own race has decided it."""
        ends = {
            call.status for call in self.calls if call.operation == _COMPLETION
        }
        return 404 in ends or (
            bool(ends)
            and any(
                isinstance(state, dict)
                and state.get('status') == 'in-use'
                and not state.get('records')
                for step in self.steps
                for state in step.state.values()
            )
        )

    def comparable(self) -> dict[str, Any]:
        """What must be the same with the guard and without it."""
        return {
            f'{number}: {step.name}': {
                'answer': step.answer,
                'reached': step.reached,
                **step.state,
            }
            for number, step in enumerate(self.steps, 1)
        } | {
            # Those that are made at the same time end in any order.
            'calls': sorted(
                f'{call.operation} {call.status}' for call in self.calls
            )
        }


class Runs:
    """The outcome of each flow in each mode; runs them when first needed.

    :param cloud: the cloud, which runs
    :param selected: the flows
    :param progress: prints what is being done
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        selected: Sequence[flows.Flow],
        progress: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._flows = selected
        self._progress = progress
        self._outcomes: dict[str, dict[str, Outcome]] = {}

    def of(self, mode: modes.Mode) -> dict[str, Outcome]:
        """The outcome of every flow in a mode, by the flow's name.

        :param mode: how the cloud is to be run
        """
        if mode.name not in self._outcomes:
            self._cloud.switch(mode)
            self._outcomes[mode.name] = self._run(mode)
        return self._outcomes[mode.name]

    def _run(self, mode: modes.Mode) -> dict[str, Outcome]:
        outcomes = self._run_once(mode, self._flows)
        for _attempt in range(1, ATTEMPTS):
            lost = [
                flow for flow in self._flows if outcomes[flow.name].is_of_race
            ]
            if not lost:
                break
            self._progress(f'{mode.name}: {len(lost)} again, after a race')
            outcomes |= self._run_once(mode, lost)
        return outcomes

    def _run_once(
        self, mode: modes.Mode, selected: Sequence[flows.Flow]
    ) -> dict[str, Outcome]:
        ids = {flow.name: f'req-{uuid.uuid4()}' for flow in selected}
        outcomes: dict[str, Outcome] = {}

        def run(flow: flows.Flow) -> None:
            outcomes[flow.name] = self._play(flow, mode, ids[flow.name])
            self._progress(
                f'{mode.name}: {len(outcomes)}/{len(selected)} {flow.title}'
            )

        def run_all(group: Sequence[flows.Flow], at_once: int) -> None:
            with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                list(pool.map(run, group))

        run_all([flow for flow in selected if not flow.alone], _AT_ONCE)
        run_all([flow for flow in selected if flow.alone], 1)
        calls = traffics.Traffic(self._cloud).calls()
        for name, outcome in outcomes.items():
            outcome.calls = calls.get(ids[name], [])
        return outcomes

    def _play(
        self, flow: flows.Flow, mode: modes.Mode, request_id: str
    ) -> Outcome:
        scene = scenes.Scene(self._cloud, request_id, mode, flow.actor)
        try:
            flow.run(scene)
            error = ''
        except Exception:
            error = traceback.format_exc()
        scene.clear()
        return Outcome(scene.steps, error)
