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
"""The page of the documentation, from ``selection.yaml`` and a measurement.

It is written by ``python -m tests.tempest --record``, and a test holds it
against the two files.
"""

from __future__ import annotations

from collections.abc import Iterator
import importlib.metadata
import pathlib
import textwrap
from typing import Any

import yaml

from tests.tempest import compare
from tests.tempest import selection as selections

MEASURED = pathlib.Path(__file__).with_name('measured.yaml')
PAGE = (
    pathlib.Path(__file__).parents[2]
    / 'doc'
    / 'source'
    / 'reference'
    / 'tempest.rst'
)

_PACKAGES = ('tempest', 'cinder-tempest-plugin', 'cinder', 'nova')
_HEAD = """\
=======
Tempest
=======

.. Written by "python -m tests.tempest --record".

OpenStack's own tests that deal with volumes, run against a whole real cloud
without the guard and with it: the volume API, Cinder's plugin, and whatever of
Nova's API and of the scenarios has to do with volumes, the scenario of
CVE-2023-2088 included. ``make tempest`` does it again, compares test by test,
and fails if any other test differs than those below.
"""


def measure(comparison: compare.Comparison) -> dict[str, Any]:
    """What is worth writing down of two runs.

    :param comparison: of the runs
    """
    calls = comparison.guarded.calls
    return {
        'versions': {
            name: importlib.metadata.version(name) for name in _PACKAGES
        },
        'runs': {
            name: {
                **{
                    result.value: run.count(result)
                    for result in compare.Result
                    if result is not compare.Result.MISSING
                },
                'minutes': round(run.seconds / 60, 1),
            }
            for name, run in (
                ('without the guard', comparison.without),
                ('with the guard', comparison.guarded),
            )
        },
        'calls': {
            'by services': sum(call.test is None for call in calls),
            'by users': sum(call.test is not None for call in calls),
            'refused': sum(call.verdict == 'refused' for call in calls),
        },
    }


def _wrap(text: str, indent: str = '') -> str:
    return textwrap.fill(
        text,
        79,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(
    selection: selections.Selection, measured: dict[str, Any]
) -> Iterator[str]:
    yield _HEAD
    ruler = f'{"=" * 17}  ======  ======  =======  ======='
    yield ruler
    yield f'{"run":17}  passed  failed  skipped  minutes'
    yield ruler
    for name, run in measured['runs'].items():
        yield (
            f'{name:17}  {run["passed"]:6}  {run["failed"]:6}  '
            f'{run["skipped"]:7}  {run["minutes"]:7}'
        )
    yield f'{ruler}\n'
    yield _wrap(
        'Tempest itself skips what waits for a bug to be resolved, and what '
        'needs something that this cloud does not have: backups, '
        'replication, encryption, a guest.'
    )
    yield ''
    calls = measured['calls']
    versions = ', '.join(
        f'{name} {version}' for name, version in measured['versions'].items()
    )
    yield _wrap(
        f'With {versions}. In the second run the guard decided about '
        f'{calls["by services"]} calls of services, all let through, and '
        f'{calls["by users"]} of users, of which {calls["refused"]} were '
        'refused: those of the tests below, and those of the scenario of '
        'CVE-2023-2088, which are to fail, with 403 now instead of 409.'
    )
    yield '\nDiffer, for they do what the guard forbids'
    yield '==========================================\n'
    for entry in selection.differences:
        yield f'``{entry.test}``'
        yield _wrap(entry.why, '    ')
        yield f'    (``{entry.operation}``: ``{entry.refusal}``)\n'
    yield 'Left out, for this cloud cannot run them'
    yield '========================================\n'
    for exclusion in selection.excluded:
        yield f'``{exclusion.tests}``'
        yield _wrap(exclusion.why, '    ') + '\n'


def render() -> str:
    """The text of the page."""
    measured = yaml.safe_load(MEASURED.read_text())
    return '\n'.join(_lines(selections.load(), measured)).rstrip() + '\n'


def record(comparison: compare.Comparison) -> None:
    """Write down what was measured, and the page anew.

    :param comparison: of two runs of all the tests
    """
    MEASURED.write_text(
        '# Written by "python -m tests.tempest --record".\n'
        + yaml.safe_dump(measure(comparison), sort_keys=False)
    )
    PAGE.write_text(render())


if __name__ == '__main__':
    PAGE.write_text(render())
