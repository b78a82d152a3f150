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

============================================
What Nova's flows, and forgery, come to
============================================

Each row was carried out on Keystone, Placement, Glance, Nova and Cinder as
they are installed from PyPI, with two computes whose hypervisor is a fake, and
two volume backends without storage: without the guard, with it in shadow mode
and enforced; and where Nova sends no service tokens (``[service_user]
send_service_user_token = false``), without the guard and with the rules of
``attachguard-policy.no-service-token.yaml.sample``.

For each step it says what the caller was answered and what both sides said
afterwards; for each call that may change an attachment, what Cinder's API
answered and how many questions the guard asked Nova: none where a service
calls. *The same* means: the same answers, the same calls and statuses, the
same records on both sides after each step.

Without service tokens Cinder itself refuses Nova's detach (409) since
CVE-2023-2088, so that volumes stay in ``detaching`` there, guard or no guard.
"""

# What a mode is compared with, and what is said where nothing differs.
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
        ("What Nova does", False),
        ('What only Nova may do, tried by a member', True),
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
            return [f'*The same* {words}.', *_questions(outcome)]
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


def _questions(outcome: runs.Outcome) -> list[str]:
    asked = [
        call.decision['nova_queries']
        for call in outcome.calls
        if call.decision
    ]
    return [f'{_count(sum(asked), "question")}.'] if asked else []


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
        asked = _count(call.decision['nova_queries'], 'question')
        words.append(f'({asked})')
    return ' '.join(words)


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
