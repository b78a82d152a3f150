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

"""The story as told in both clouds, side by side, and what follows from it."""

from __future__ import annotations

from collections import abc
import http
import textwrap

import prettytable

from attachguard.demo import story
from attachguard.demo.story import Kind
from attachguard.demo.story import Verdict

Steps = abc.Sequence[story.Step]


def render(without: Steps, guarded: Steps, width: int | None = None) -> str:
    """Write down the two tellings, and the conclusion.

    :param without: as told without the guard
    :param guarded: as told with it
    :param width: columns of the terminal, for one that is narrow
    :returns: text to print
    """
    findings = '\n'.join(
        f'[{"ok" if kept else "NOT SO"}] {promise}'
        for promise, kept in promises(without, guarded)
    )
    kept = '' if is_as_promised(without, guarded) else 'NOT '
    return (
        f'{table(without, guarded, width)}\n\n'
        f'What the guard told the user whom it refused:\n'
        f'{refusals(guarded)}\n\n'
        f'{findings}\n\n'
        f'The guard has {kept}done what it promises.\n'
    )


def is_as_promised(without: Steps, guarded: Steps) -> bool:
    """Tell whether every one of the :func:`promises` was kept."""
    return all(kept for _, kept in promises(without, guarded))


def table(without: Steps, guarded: Steps, width: int | None = None) -> str:
    """Set the two tellings side by side.

    :param without: as told without the guard
    :param guarded: as told with it
    :param width: columns of the terminal, for one that is narrow
    """
    result = prettytable.PrettyTable(
        ['#', 'the user types', 'without the guard', 'with the guard'],
        align='l',
        hrules=prettytable.HRuleStyle.ALL,
    )
    if width:
        result.max_table_width = width
    for number, (left, right) in enumerate(
        zip(without, guarded, strict=True), 1
    ):
        result.add_row([number, left.call, _cell(left), _cell(right)])
    return result.get_string()


def _cell(step: story.Step) -> str:
    return '\n'.join(
        (
            _said(step.answer),
            f'Cinder: {step.cinder}',
            f'Nova:   {step.nova}',
            f'=> {step.verdict.value}',
        )
    )


def _said(answer: story.Answer | None) -> str:
    if answer is None:
        return '(there is no attachment)'
    phrase = answer.reason or http.HTTPStatus(answer.status).phrase
    return f'{answer.status} {phrase}'


def refusals(steps: Steps) -> str:
    """Quote what the guard said as it refused, each answer once."""
    answers = dict.fromkeys(
        step.answer
        for step in steps
        if step.answer is not None and step.answer.is_refusal
    )
    return '\n'.join(
        textwrap.fill(
            f'{answer.status} {answer.message}',
            width=78,
            initial_indent='  ',
            subsequent_indent='  ',
            break_on_hyphens=False,
        )
        for answer in answers
    )


def promises(without: Steps, guarded: Steps) -> list[tuple[str, bool]]:
    """Compare what happened to what the guard promises.

    :param without: as told without the guard
    :param guarded: as told with it
    :returns: each promise, and whether it was kept
    """
    forged = [
        step
        for step in without
        if step.kind is Kind.FORGERY and step.verdict is Verdict.FORGED
    ]
    attempts = [
        step
        for step in guarded
        if step.kind is Kind.FORGERY and step.answer is not None
    ]
    compute = [step for step in guarded if step.kind is Kind.COMPUTE_API]
    return [
        (
            f'Without the guard, Cinder took {len(forged)} attachments which '
            'Nova never made.',
            len(forged) == 2,
        ),
        (
            f'With the guard, {sum(map(_is_refused, attempts))} of '
            f'{len(attempts)} attempts were refused with 403 and the volume '
            'stayed free.',
            bool(attempts) and all(map(_is_refused, attempts)),
        ),
        (
            f'With the guard, {sum(map(_worked, compute))} of {len(compute)} '
            'calls to Nova, to attach and to detach, worked as ever.',
            bool(compute) and all(map(_worked, compute)),
        ),
    ]


def _is_refused(step: story.Step) -> bool:
    return (
        step.answer is not None
        and step.answer.is_refusal
        and step.answer.reason is not None
        and step.verdict is Verdict.FREE
    )


def _worked(step: story.Step) -> bool:
    return (
        step.answer is not None
        and step.answer.status < http.HTTPStatus.BAD_REQUEST
        and step.verdict in (Verdict.FREE, Verdict.ATTACHED)
    )
