# SPDX-License-Identifier: Apache-2.0

"""The results of the demonstration in both clouds, and the conclusion."""

from __future__ import annotations

from collections import abc
import http
import textwrap

import prettytable

from attachguard.cmd import base
from attachguard.testing.demo import cleanup
from attachguard.testing.demo import story
from attachguard.testing.demo.story import Kind
from attachguard.testing.demo.story import Verdict

Steps = abc.Sequence[story.Step]


def render(
    without: Steps,
    guarded: Steps,
    freed: cleanup.Cleanup,
    width: int | None = None,
) -> str:
    """Write the report.

    :param without: the steps without the guard
    :param guarded: the steps with the guard
    :param freed: the audit and the repair without the guard
    :param width: columns of the terminal; ``None`` for no limit
    :returns: text to print
    """
    results = '\n'.join(
        f'[{"ok" if is_met else "FAILED"}] {claim}'
        for claim, is_met in claims(without, guarded, freed)
    )
    works = 'work' if is_successful(without, guarded, freed) else 'DO NOT WORK'
    return (
        f'{table(without, guarded, width)}\n\n'
        'Error message of the guard:\n'
        f'{refusals(guarded)}\n\n'
        'Without the guard, an administrator frees the forged volume:\n\n'
        f'{_session(freed.audit)}\n'
        f'{_session(freed.repair)}\n'
        f'{results}\n\n'
        f'The guard and the audit {works}.\n'
    )


def is_successful(
    without: Steps, guarded: Steps, freed: cleanup.Cleanup
) -> bool:
    """Return whether all :func:`claims` are met."""
    return all(is_met for _, is_met in claims(without, guarded, freed))


def _session(command: cleanup.Command) -> str:
    output = '\n'.join(filter(None, command.output.splitlines()))
    return textwrap.indent(f'$ {command.line}\n{output}\n', '  ')


def table(without: Steps, guarded: Steps, width: int | None = None) -> str:
    """Make a table with one row for each step.

    :param without: the steps without the guard
    :param guarded: the steps with the guard
    :param width: columns of the terminal; ``None`` for no limit
    """
    result = prettytable.PrettyTable(
        ['#', "the user's call", 'without the guard', 'with the guard'],
        align='l',
        hrules=prettytable.HRuleStyle.ALL,
    )
    if width:
        result.max_table_width = width
    for number, (left, right) in enumerate(zip(without, guarded), 1):
        result.add_row([number, left.call, _cell(left), _cell(right)])
    return result.get_string()


def _cell(step: story.Step) -> str:
    return '\n'.join(
        (
            _status(step.response),
            f'Cinder: {step.cinder}',
            f'Nova:   {step.nova}',
            f'=> {step.verdict.value}',
        )
    )


def _status(response: story.Response | None) -> str:
    if response is None:
        return '(no call: there is no attachment)'
    phrase = response.reason or http.HTTPStatus(response.status).phrase
    return f'{response.status} {phrase}'


def refusals(steps: Steps) -> str:
    """Quote the error messages of the refused calls, each once."""
    responses = dict.fromkeys(
        step.response
        for step in steps
        if step.response is not None and step.response.is_refusal
    )
    return '\n'.join(
        textwrap.fill(
            f'{response.status} {response.message}',
            width=78,
            initial_indent='  ',
            subsequent_indent='  ',
            break_on_hyphens=False,
        )
        for response in responses
    )


def claims(
    without: Steps, guarded: Steps, freed: cleanup.Cleanup
) -> list[tuple[str, bool]]:
    """Compare the steps with what the guard and the audit claim to do.

    :param without: the steps without the guard
    :param guarded: the steps with the guard
    :param freed: the audit and the repair without the guard
    :returns: each claim, and whether it is met
    """
    forged = [
        step
        for step in without
        if step.kind is Kind.FORGERY and step.verdict is Verdict.FORGED
    ]
    attempts = [
        step
        for step in guarded
        if step.kind is Kind.FORGERY and step.response is not None
    ]
    compute = [step for step in guarded if step.kind is Kind.COMPUTE_API]
    return [
        (
            f'Without the guard, Cinder accepted {len(forged)} attachments '
            'that Nova did not make.',
            len(forged) == 2,
        ),
        (
            f'With the guard, {sum(map(_is_refused, attempts))} of '
            f'{len(attempts)} forged attachments were refused with 403, and '
            'the volume stayed available.',
            bool(attempts) and all(map(_is_refused, attempts)),
        ),
        (
            f'With the guard, {sum(map(_succeeded, compute))} of '
            f'{len(compute)} calls to attach or detach by Nova succeeded.',
            bool(compute) and all(map(_succeeded, compute)),
        ),
        (
            'Without the guard, the audit found the forged volume, and the '
            f'repair made it {freed.status}.',
            freed.audit.exit_code == base.FOUND
            and freed.volume_id in freed.audit.output
            and freed.repair.exit_code == base.REPAIRED
            and freed.status == 'available',
        ),
    ]


def _is_refused(step: story.Step) -> bool:
    return (
        step.response is not None
        and step.response.is_refusal
        and step.response.reason is not None
        and step.verdict is Verdict.AVAILABLE
    )


def _succeeded(step: story.Step) -> bool:
    return (
        step.response is not None
        and step.response.status < http.HTTPStatus.BAD_REQUEST
        and step.verdict in (Verdict.AVAILABLE, Verdict.ATTACHED)
    )
