# SPDX-License-Identifier: Apache-2.0

"""``attachguard policy test``: what a new policy file would change."""

from __future__ import annotations

import argparse
import collections
import sys
from typing import Any

from cliff import lister

from attachguard import opts
from attachguard.cmd import log_options
from attachguard.decisions import log_reader
from attachguard.decisions import replay

# Of the decisions that the rules make.
_BY_RULE = frozenset(('allowed', 'refused', 'unknown'))
_LIMIT = 20_000


class PolicyTest(lister.Lister):
    """Evaluate a policy file on logged decisions, and list what would change.

    A row with "undecided" has requests on which the file cannot be evaluated,
    because its rule reads a check that was not looked up for them.

    examples::

      attachguard policy test new-policy.yaml /var/log/cinder/cinder-api.log

    exit codes::

      0  the decisions would be the same
      1  a file cannot be read, or the policy file is invalid
      2  the command line is wrong
      3  decisions would change, or cannot be evaluated
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            'policy_file', metavar='FILE', help='The new policy file.'
        )
        log_options.add_logs(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Evaluate.

        :returns: the exit code
        """
        self._same = 0
        self._changes: collections.Counter[tuple[str, ...]] = (
            collections.Counter()
        )
        try:
            replayed = replay.Replay(parsed_args.policy_file)
            for log in log_options.opened(parsed_args.logs):
                for decision in log_reader.read(log):
                    self._compare(decision, replayed)
        except (OSError, EOFError, opts.ConfigError) as exc:
            print(f'error: {exc}', file=sys.stderr)
            return 1
        print(f'{self._same} decisions would be the same', file=sys.stderr)
        code: int = super().run(parsed_args)
        return code or 3 * bool(self._changes)

    def _compare(
        self, decision: dict[str, Any], replayed: replay.Replay
    ) -> None:
        before = decision['verdict']
        outcome = replayed.decide(decision)
        if outcome is None or before not in _BY_RULE:
            return
        if outcome.result == before or (
            before == 'unknown' and outcome.result == replay.UNDECIDED
        ):
            self._same += 1
            return
        change = (
            *(
                log_reader.text(decision, name)
                for name in ('rule', 'project_id', 'user_id')
            ),
            before,
            outcome.result,
            outcome.missing,
        )
        if change not in self._changes and len(self._changes) >= _LIMIT:
            change = ('(others)', '', '', before, outcome.result, '')
        self._changes[change] += 1

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """List the changes.

        :returns: columns and rows, for cliff
        """
        return (
            (
                'Rule',
                'Project',
                'User',
                'Before',
                'After',
                'Not in the log',
                'Requests',
            ),
            [
                (*change, count)
                for change, count in self._changes.most_common()
            ],
        )
