# SPDX-License-Identifier: Apache-2.0

"""``attachguard learn``: list who is refused, and propose policy lines."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

from cliff import lister

from attachguard import opts
from attachguard.audit import files
from attachguard.cmd import log_options
from attachguard.decisions import log_reader
from attachguard.decisions import proposal
from attachguard.decisions import refusals
from attachguard.guard import policy

_COLUMNS = (
    'Rule',
    'Reason',
    'Project',
    'User',
    'Client',
    'Requests',
    'Enforced',
    'First',
    'Last',
)


class Learn(lister.Lister):
    """List whom the guard refuses, or would refuse, from its log.

    Each row has the requests of one client (user agent) of one user, and how
    many of them were not only logged but refused. With --propose, the policy
    lines are printed instead that would let exactly these users pass, each
    with a warning of what it opens. A refused caller can be an attacker: find
    out who it is before you use a line.

    examples::

      attachguard learn /var/log/cinder/cinder-api.log*
      journalctl -u cinder-api -o json | attachguard learn
      attachguard learn cinder-api.log --propose > new-policy.yaml

    exit codes::

      0  the log was read
      1  a file cannot be read or written, or the policy file is invalid
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        log_options.add_logs(parser)
        parser.add_argument(
            '--policy-file',
            metavar='FILE',
            help='The policy file to which lines are proposed (default: the '
            'default rules).',
        )
        parser.add_argument(
            '--propose',
            action='store_true',
            help='Print policy lines, as YAML, instead of the list.',
        )
        parser.add_argument(
            '--html',
            metavar='FILE',
            type=pathlib.Path,
            help='Also write a page with the list and the policy lines.',
        )
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Read the log.

        :returns: the exit code
        """
        try:
            self._found = refusals.collect(
                decision
                for log in log_options.opened(parsed_args.logs)
                for decision in log_reader.read(log, 'refused')
            )
            lines = proposal.propose(
                self._found.groups, policy.rule_texts(parsed_args.policy_file)
            )
            if parsed_args.html is not None:
                _write_page(parsed_args.html, self._found, lines)
        except (
            OSError,
            EOFError,
            opts.ConfigError,
            files.NotWrittenError,
        ) as e:
            print(f'error: {e}', file=sys.stderr)
            return 1
        if self._found.left_out:
            print(
                f'{self._found.left_out} refused requests are in no row: '
                'there are too many rows',
                file=sys.stderr,
            )
        if parsed_args.propose:
            self.app.stdout.write(proposal.write(lines))
            return 0
        code: int = super().run(parsed_args)
        return code

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """List the refusals.

        :returns: columns and rows, for cliff
        """
        return (
            _COLUMNS,
            [
                (
                    group.rule,
                    group.reason,
                    group.project_id,
                    group.user_id,
                    group.client,
                    group.count,
                    group.enforced,
                    group.first,
                    group.last,
                )
                for group in self._found.groups
            ],
        )


def _write_page(
    path: pathlib.Path,
    found: refusals.Refusals,
    lines: list[proposal.Line],
) -> None:
    try:
        # Jinja is of the extra "audit".
        from attachguard.decisions import page
    except ImportError as exc:
        raise opts.ConfigError(
            f'--html needs more packages: {exc}; install them with: pip '
            "install 'attachguard[audit]'"
        ) from None
    text = page.render(found, lines)
    files.replace(path, text.encode(errors='replace'))
