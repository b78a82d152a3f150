# SPDX-License-Identifier: Apache-2.0
"""Which tests are run, and which of them must end differently with the guard.

All of it is in ``selection.yaml``, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import pathlib
import re

import yaml

_FILE = pathlib.Path(__file__).with_name('selection.yaml')


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """Tests that this cloud cannot run.

    :param tests: regular expression; found in their names
    :param why: what they need that is not here
    """

    tests: str
    why: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """A test that passes without the guard, and fails with it.

    :param test: its name
    :param operation: the call of it that the guard refuses
    :param refusal: the reason that the guard gives
    :param why: what the test does that the guard forbids
    """

    test: str
    operation: str
    refusal: str
    why: str


def matching(expressions: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names in which one of some regular expressions is found."""
    return [
        name
        for name in names
        if any(re.search(expression, name) for expression in expressions)
    ]


@dataclasses.dataclass(frozen=True)
class Selection:
    """What ``selection.yaml`` says.

    :param tests: regular expressions; what one of them finds is run
    :param smoke: the same, for a run of few minutes
    :param excluded: of these, what is not
    :param differences: what must differ
    """

    tests: tuple[str, ...]
    smoke: tuple[str, ...]
    excluded: tuple[Exclusion, ...]
    differences: tuple[Difference, ...]

    def choose(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Choose tests.

        :param names: of those that there are
        :returns: the names of those to be run, and the expressions of
            exclusions that exclude nothing
        """
        chosen, used = [], set()
        for name in matching(self.tests, names):
            reasons = {
                exclusion.tests
                for exclusion in self.excluded
                if re.search(exclusion.tests, name)
            }
            used |= reasons
            if not reasons:
                chosen.append(name)
        unused = [e.tests for e in self.excluded if e.tests not in used]
        return chosen, unused


def load() -> Selection:
    """Read ``selection.yaml``."""
    content = yaml.safe_load(_FILE.read_text())
    return Selection(
        tuple(content['tests']),
        tuple(content['smoke']),
        tuple(Exclusion(**entry) for entry in content['excluded']),
        tuple(Difference(**entry) for entry in content['differences']),
    )
