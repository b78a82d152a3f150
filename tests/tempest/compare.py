# SPDX-License-Identifier: Apache-2.0
"""What two runs of the same tests come to. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum

from tests.tempest import selection


class Result(enum.Enum):
    """How a test ended."""

    PASSED = 'passed'
    FAILED = 'failed'
    SKIPPED = 'skipped'
    #: Its class could not be set up, or the run ended before it did.
    MISSING = 'not run'


@dataclasses.dataclass(frozen=True)
class Call:
    """A guarded call that a test made, or somebody because of it.

    :param test: class and method, parted by a colon; ``None`` if it was not
        the test itself that called, but Nova
    :param operation: of Cinder's
    :param verdict: of the guard
    :param reason: of the verdict
    """

    test: str | None
    operation: str
    verdict: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run came to.

    :param seconds: how long it took
    :param results: name of a test to how it ended
    :param calls: those that the guard decided about
    """

    seconds: float
    results: Mapping[str, Result]
    calls: tuple[Call, ...] = ()

    def count(self, result: Result) -> int:
        """How many tests ended so."""
        return list(self.results.values()).count(result)


def _caller(test: str) -> str:
    """The name by which a test calls itself in its log of requests."""
    return ':'.join(test.split('.')[-2:])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs of the same tests.

    :param without: the run without the guard
    :param guarded: the run with it
    :param expected: what must differ
    """

    without: Run
    guarded: Run
    expected: Iterable[selection.Difference]

    def pairs(self) -> Iterator[tuple[str, Result, Result]]:
        """Each test, and how it ended without the guard and with it."""
        for test in sorted({*self.without.results, *self.guarded.results}):
            yield (
                test,
                self.without.results.get(test, Result.MISSING),
                self.guarded.results.get(test, Result.MISSING),
            )

    def passed(self) -> int:
        """How many tests passed in both runs, or differ as they are to."""
        expected = {entry.test for entry in self.expected}
        return sum(
            (before, after)
            == (
                Result.PASSED,
                Result.FAILED if test in expected else Result.PASSED,
            )
            for test, before, after in self.pairs()
        )

    def refused(self, test: str) -> set[tuple[str, str]]:
        """What the guard refused a test: operations and reasons."""
        return {
            (call.operation, call.reason)
            for call in self.guarded.calls
            if call.verdict == 'refused' and call.test == _caller(test)
        }

    def problems(self) -> Iterator[str]:
        """What is not as it should be, one line for each."""
        expected = {entry.test: entry for entry in self.expected}
        for test, before, after in self.pairs():
            entry = expected.pop(test, None)
            if entry is None:
                if before is not after:
                    yield (
                        f'{test} {before.value} without the guard, and '
                        f'{after.value} with it; refused was: '
                        f'{sorted(self.refused(test))}'
                    )
                elif before in (Result.FAILED, Result.MISSING):
                    yield f'{test} {before.value} without the guard, too'
            elif (before, after) != (Result.PASSED, Result.FAILED):
                yield (
                    f'{test} was to pass without the guard and fail with it; '
                    f'it {before.value}, and {after.value}'
                )
            elif self.refused(test) != {(entry.operation, entry.refusal)}:
                yield (
                    f'{test} differs, but not because {entry.operation} is '
                    f'refused; refused was: {sorted(self.refused(test))}'
                )
        for test in expected:
            yield f'{test} is to differ, and is not there'
        for call in self.guarded.calls:
            if call.test is None and call.verdict != 'allowed':
                yield (
                    f'the guard answered {call.verdict} ({call.reason}) to '
                    f'{call.operation} of somebody else than a test'
                )
            elif call.verdict == 'unknown':
                yield (
                    f'the guard did not know what to say ({call.reason}) to '
                    f'{call.operation} of {call.test}'
                )
