# SPDX-License-Identifier: Apache-2.0
"""The table of flows in the documentation, made from a run."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
import pathlib
from typing import Any

from tests.cloud import flows
from tests.cloud import mode as modes
from tests.cloud import runs
from tests.cloud import scene as scenes
from tests.cloud import traffic as traffics

PATH = pathlib.Path(__file__).parents[2] / 'doc/source/reference/flows.rst'

Outcomes = Mapping[str, Mapping[str, runs.Outcome]]

_INTRODUCTION = """\
..
   Made from a run on a whole real cloud: make flows

==========================
Nova's flows and forgeries
==========================

Each row was run on Keystone, Placement, Glance, Nova and Cinder from PyPI,
with two computes with a fake hypervisor and two volume backends without
storage: without the guard, with it in shadow mode, and with it enforced. The
last two columns are for a Nova that sends no service tokens (``[service_user]
send_service_user_token = false``), without the guard and with the rules of
``attachguard-policy.no-service-token.yaml.sample``.

For each step, a cell has the response to the caller and the records of both
services afterwards. For the calls that can change an attachment, it has the
status of Cinder's response and the number of queries to Nova. A call of a
service needs no query. *The same* means: the same responses, calls, statuses
and records on both sides after each step.

Without service tokens Cinder itself refuses Nova's detach (409) since
CVE-2023-2088. The volumes stay in ``detaching`` then, without the guard too.
"""

# The mode to compare with, and the text if nothing differs.
_SAME = {
    modes.SHADOW.name: (modes.UNGUARDED.name, 'as without the guard'),
    modes.ENFORCED.name: (modes.UNGUARDED.name, 'as without the guard'),
    modes.UNGUARDED_NO_TOKEN.name: (
        modes.UNGUARDED.name,
        'as with service tokens',
    ),
    modes.PRESET_NO_TOKEN.name: (
        modes.UNGUARDED_NO_TOKEN.name,
        'as without the guard',
    ),
}


def render(outcomes: Outcomes) -> str:
    """The page, in reStructuredText.

    :param outcomes: name of a mode, and of a flow, to what came of it
    """
    lines = [_INTRODUCTION]
    for heading, forges in (
        ('Flows of Nova', False),
        ('Forgeries by a project member', True),
    ):
        lines += [heading, '=' * len(heading), '']
        lines += _table(
            outcomes, [flow for flow in flows.FLOWS if flow.forges is forges]
        )
    return '\n'.join(lines)


def _table(outcomes: Outcomes, rows: Iterable[flows.Flow]) -> list[str]:
    lines = [
        '.. list-table::',
        '   :header-rows: 1',
        '   :stub-columns: 1',
        '',
        '   * - Flow',
        *(f'     - {mode.name.capitalize()}' for mode in modes.COMPARED),
    ]
    for flow in rows:
        lines.append(f'   * - {flow.title}')
        for mode in modes.COMPARED:
            cell = _cell(outcomes, flow.name, mode.name)
            lines.append(f'     - | {cell[0]}')
            lines += [f'       | {line}' for line in cell[1:]]
    return [*lines, '']


def _cell(outcomes: Outcomes, flow: str, mode: str) -> list[str]:
    outcome = outcomes[mode][flow]
    if mode in _SAME:
        baseline, words = _SAME[mode]
        if outcomes[baseline][flow].comparable() == outcome.comparable():
            return [f'*The same* {words}.', *_queries(outcome)]
    steps = [line for step in outcome.steps for line in _step(step)]
    return [*steps, _calls(outcome)]


def _step(step: scenes.Step) -> list[str]:
    answer = step.answer
    if answer == 'accepted' and not step.reached:
        answer = 'accepted, but not carried out'
    cinder, nova = [], []
    for name, seen in step.state.items():
        kind, _, alias = name.partition(' ')
        if kind == 'volume':
            cinder.append(f'{alias} {_volume(seen)}')
        else:
            nova.append(f'{alias} {_server(seen)}')
    return [
        f'**{step.name}**: {answer}.',
        f'Cinder: {"; ".join(cinder) or "nothing"}.',
        f'Nova: {"; ".join(nova) or "nothing"}.',
    ]


def _volume(seen: dict[str, Any] | None) -> str:
    if seen is None:
        return 'gone'
    return ', '.join([seen['status'], *seen['records']])


def _server(seen: dict[str, Any] | None) -> str:
    if seen is None:
        return 'gone'
    has = ' and '.join(one['volume'] for one in seen['volumes'])
    return f'{seen["status"]} with {has or "no volume"}'


def _queries(outcome: runs.Outcome) -> list[str]:
    counts = [
        call.decision['nova_queries']
        for call in outcome.calls
        if call.decision
    ]
    return [f'{_count(sum(counts))}.'] if counts else []


def _calls(outcome: runs.Outcome) -> str:
    counted = collections.Counter(_call(call) for call in outcome.calls)
    calls = '; '.join(
        f'{count} × {call}' if count > 1 else call
        for call, count in sorted(counted.items())
    )
    return f'Calls: {calls or "none"}.'


def _call(call: traffics.Call) -> str:
    words = [call.operation, str(call.status)]
    if call.decision is not None:
        if call.decision['verdict'] != 'allowed':
            words.append(call.decision['reason'])
        words.append(f'({_count(call.decision["nova_queries"])})')
    return ' '.join(words)


def _count(queries: int) -> str:
    return '1 query' if queries == 1 else f'{queries} queries'
