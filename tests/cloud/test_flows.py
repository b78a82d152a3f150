# SPDX-License-Identifier: Apache-2.0
"""Nova's own flows are the same with the guard; forgery is refused.

Only the flows of the selected tests are run. ``make test`` selects those of
:data:`GATE`, without the guard and enforced; ``make nightly`` selects all.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import difflib
import pprint
from typing import Any

import pytest

from attachguard.guard import operations
from tests.cloud import cloud as clouds
from tests.cloud import flows
from tests.cloud import mode as modes
from tests.cloud import runs as flow_runs
from tests.cloud import table

#: Each mode with the guard, and the mode without it to compare with.
BASELINES = {
    modes.SHADOW: modes.UNGUARDED,
    modes.ENFORCED: modes.UNGUARDED,
    modes.PRESET_NO_TOKEN: modes.UNGUARDED_NO_TOKEN,
}

#: The names of the flows and modes of ``make test``.
GATE = {
    'active',
    'boot_from_image',
    'boot_from_volume',
    'shelve_and_unshelve',
    'live_migrate, as admin',
    'migrate_volume_in_use, as admin',
    'retype_volume_in_use',
    'delete_with_volumes',
    *(flow.name for flow in flows.FLOWS if flow.forges),
    modes.UNGUARDED.name,
    modes.ENFORCED.name,
}


def _over(name: str, values: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize over flows or modes; those not in GATE are nightly."""
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(
                value,
                id=value.name,
                marks=[] if value.name in GATE else [pytest.mark.nightly],
            )
            for value in values
        ],
    )


every_flow = _over('flow', [flow for flow in flows.FLOWS if not flow.forges])
every_forgery = _over('flow', [flow for flow in flows.FLOWS if flow.forges])


def _selected(items: Iterable[pytest.Item]) -> list[flows.Flow]:
    """The flows that the selected tests need, in the order of all flows."""
    names = set()
    for item in items:
        if item.name == test_the_table_in_the_documentation.__name__:
            return flows.FLOWS
        if isinstance(item, pytest.Function) and hasattr(item, 'callspec'):
            flow = item.callspec.params.get('flow')
            if isinstance(flow, flows.Flow):
                names.add(flow.name)
    return [flow for flow in flows.FLOWS if flow.name in names]


@pytest.fixture(scope='session')
def runs(
    request: pytest.FixtureRequest,
    whole_cloud: clouds.Cloud,
    progress: Callable[[str], None],
) -> flow_runs.Runs:
    return flow_runs.Runs(
        whole_cloud, _selected(request.session.items), progress
    )


@_over('mode', modes.COMPARED)
def test_every_flow_runs_to_its_end(
    runs: flow_runs.Runs, mode: modes.Mode
) -> None:
    errors = [
        f'{name}: {outcome.error}'
        for name, outcome in runs.of(mode).items()
        if outcome.error
    ]
    assert not errors, '\n'.join(errors)


@every_flow
def test_what_is_accepted_is_done(
    runs: flow_runs.Runs, flow: flows.Flow
) -> None:
    """Without the guard, each flow does what its name says."""
    for step in runs.of(modes.UNGUARDED)[flow.name].steps:
        assert step.reached or step.answer != 'accepted', step


@_over('mode', BASELINES)
@every_flow
def test_a_flow_is_the_same_with_the_guard(
    runs: flow_runs.Runs, flow: flows.Flow, mode: modes.Mode
) -> None:
    expected = runs.of(BASELINES[mode])[flow.name].comparable()
    found = runs.of(mode)[flow.name].comparable()
    # pytest shortens what it shows of a difference.
    assert found == expected, '\n'.join(
        difflib.ndiff(_lines(expected), _lines(found))
    )


def _lines(value: object) -> list[str]:
    return pprint.pformat(value, width=100).splitlines()


@_over('mode', [modes.SHADOW, modes.ENFORCED])
@every_flow
def test_nova_is_a_service_and_needs_no_query(
    runs: flow_runs.Runs, flow: flows.Flow, mode: modes.Mode
) -> None:
    for call in runs.of(mode)[flow.name].calls:
        if call.operation not in operations.OPERATIONS:
            continue
        assert call.decision is not None, call
        assert call.decision['service'], call
        assert call.decision['verdict'] == 'allowed', call
        assert call.decision['nova_queries'] == 0, call


@pytest.mark.nightly
@every_forgery
def test_forgery_succeeds_in_shadow_mode(
    runs: flow_runs.Runs, flow: flows.Flow
) -> None:
    """Cinder has the bug: if this fails, check whether it is fixed."""
    without = runs.of(modes.UNGUARDED)[flow.name]
    shadow = runs.of(modes.SHADOW)[flow.name]
    assert shadow.comparable() == without.comparable()
    assert 'refused' in [
        call.decision['verdict'] for call in shadow.calls if call.decision
    ]


@_over('mode', [modes.ENFORCED, modes.PRESET_NO_TOKEN])
@every_forgery
def test_forgery_changes_nothing(
    runs: flow_runs.Runs, flow: flows.Flow, mode: modes.Mode
) -> None:
    """No volume is in-use by a server that does not have it."""
    for step in runs.of(mode)[flow.name].steps:
        for name, volume in step.state.items():
            if not name.startswith('volume'):
                continue
            for record in volume['records']:
                status, _, server = record.partition(' ')
                if status != 'attached':
                    continue
                assert name.removeprefix('volume ') in [
                    one['volume']
                    for one in step.state[f'server {server}']['volumes']
                ], step


@every_forgery
def test_each_step_of_forgery_is_refused(
    runs: flow_runs.Runs, flow: flows.Flow
) -> None:
    for call in runs.of(modes.ENFORCED)[flow.name].calls:
        assert call.decision is not None, call
        refused = call.decision['verdict'] == 'refused'
        assert refused is not call.decision['service'], call
        # 409 for what would clear an attachment that Nova has.
        assert (call.status in (403, 409)) is refused, call
        assert call.decision['nova_queries'] <= 2, call


@pytest.mark.nightly
def test_the_table_in_the_documentation(
    runs: flow_runs.Runs, pytestconfig: pytest.Config
) -> None:
    """It shows the results of this run: ``make flows`` writes it."""
    text = table.render({mode.name: runs.of(mode) for mode in modes.COMPARED})
    if pytestconfig.getoption('--write-table', False):
        table.PATH.write_text(text)
    assert table.PATH.read_text() == text
