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
"""Nova's own flows are the same with the guard; forgery is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attachguard.guard import operations
from tests.cloud import cloud as clouds
from tests.cloud import flows
from tests.cloud import mode as modes
from tests.cloud import runs as all_runs
from tests.cloud import table

#: What is compared with what.
PAIRS = (
    (modes.UNGUARDED, modes.SHADOW),
    (modes.UNGUARDED, modes.ENFORCED),
    (modes.UNGUARDED_NO_TOKEN, modes.PRESET_NO_TOKEN),
)

NOVAS = [flow for flow in flows.FLOWS if not flow.forges]
FORGERIES = [flow for flow in flows.FLOWS if flow.forges]

every_flow = pytest.mark.parametrize('flow', NOVAS, ids=lambda flow: flow.name)
every_forgery = pytest.mark.parametrize(
    'flow', FORGERIES, ids=lambda flow: flow.name
)
every_mode = pytest.mark.parametrize(
    'mode', modes.COMPARED, ids=lambda mode: mode.name
)


@pytest.fixture(scope='session')
def runs(
    whole_cloud: clouds.Cloud, progress: Callable[[str], None]
) -> all_runs.Runs:
    return all_runs.Runs(whole_cloud, progress)


@every_mode
def test_every_flow_runs_to_its_end(
    runs: all_runs.Runs, mode: modes.Mode
) -> None:
    errors = [
        f'{name}: {outcome.error}'
        for name, outcome in runs.of(mode).items()
        if outcome.error
    ]
    assert not errors, '\n'.join(errors)


@every_flow
def test_what_is_accepted_is_done(
    runs: all_runs.Runs, flow: flows.Flow
) -> None:
    """Without the guard, each flow does what its name says."""
    for step in runs.of(modes.UNGUARDED)[flow.name].steps:
        assert step.reached or step.answer != 'accepted', step


@pytest.mark.parametrize(
    ('without', 'with_guard'),
    PAIRS,
    ids=[guarded.name for _unguarded, guarded in PAIRS],
)
@every_flow
def test_nothing_differs(
    runs: all_runs.Runs,
    flow: flows.Flow,
    without: modes.Mode,
    with_guard: modes.Mode,
) -> None:
    expected = runs.of(without)[flow.name].comparable()
    assert runs.of(with_guard)[flow.name].comparable() == expected


@pytest.mark.parametrize(
    'mode', [modes.SHADOW, modes.ENFORCED], ids=lambda mode: mode.name
)
@every_flow
def test_nova_is_a_service_and_not_asked_about(
    runs: all_runs.Runs, flow: flows.Flow, mode: modes.Mode
) -> None:
    for call in runs.of(mode)[flow.name].calls:
        if call.operation not in operations.OPERATIONS:
            continue
        assert call.decision is not None, call
        assert call.decision['service'], call
        assert call.decision['verdict'] == 'allowed', call
        assert call.decision['nova_queries'] == 0, call


@every_forgery
def test_forgery_goes_through_in_shadow(
    runs: all_runs.Runs, flow: flows.Flow
) -> None:
    """The bug is there: if this fails, look whether Cinder has mended it."""
    without = runs.of(modes.UNGUARDED)[flow.name]
    shadow = runs.of(modes.SHADOW)[flow.name]
    assert shadow.comparable() == without.comparable()
    assert 'refused' in [
        call.decision['verdict'] for call in shadow.calls if call.decision
    ]


@pytest.mark.parametrize(
    'mode',
    [modes.ENFORCED, modes.PRESET_NO_TOKEN],
    ids=lambda mode: mode.name,
)
@every_forgery
def test_forgery_changes_nothing(
    runs: all_runs.Runs, flow: flows.Flow, mode: modes.Mode
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
    runs: all_runs.Runs, flow: flows.Flow
) -> None:
    """And leaves the volume as it was before it."""
    for call in runs.of(modes.ENFORCED)[flow.name].calls:
        assert call.decision is not None, call
        refused = call.decision['verdict'] == 'refused'
        assert refused is not call.decision['service'], call
        assert (call.status == 403) is refused, call
        assert call.decision['nova_queries'] <= 1, call


def test_the_table_in_the_documentation(
    runs: all_runs.Runs, pytestconfig: pytest.Config
) -> None:
    """It says what came of this run: ``make flows`` writes it anew."""
    text = table.render({mode.name: runs.of(mode) for mode in modes.COMPARED})
    if pytestconfig.getoption('--write-table', False):
        table.PATH.write_text(text)
    assert table.PATH.read_text() == text
