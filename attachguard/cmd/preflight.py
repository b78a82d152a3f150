# SPDX-License-Identifier: Apache-2.0

"""``attachguard preflight``: check whether a cloud is ready for the guard."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from cliff import lister
from oslo_config import cfg

from attachguard import opts
from attachguard.guard import preflight
from attachguard.guard import process_check
from attachguard.guard import service_config


class Preflight(lister.Lister):
    """Check whether this cloud is ready for the guard.

    Run it where cinder-api runs, before you enable the filter and after each
    change of its configuration. It checks the position of the filter in the
    pipeline, the options and the rules, as cinder-api loads them, that the
    credentials for Nova see the servers of all projects, and that the region
    of Nova is known. With --nova-conf it shows which rules this cloud needs,
    with --as-user what Nova shows to a user. With --url it instead queries the
    health check of a running process, and shows whether its guard enforces the
    rules, which servers Nova shows to it, and whether Nova responds. It
    changes nothing.

    examples::

      attachguard preflight
      attachguard preflight --nova-conf /etc/nova/nova.conf
      attachguard preflight --as-user demo
      attachguard preflight --url http://127.0.0.1:8776/healthcheck

    exit codes::

      0  the cloud is ready
      1  something is wrong
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            type=pathlib.Path,
            help='A configuration file of Cinder. Can be repeated (default: '
            'the files that cinder-api reads).',
        )
        parser.add_argument(
            '--paste-ini',
            metavar='FILE',
            type=pathlib.Path,
            help="Cinder's paste file (default: api_paste_config of the "
            'configuration).',
        )
        parser.add_argument(
            '--nova-conf',
            metavar='FILE',
            action='append',
            default=[],
            type=pathlib.Path,
            help='Check whether this nova.conf configures service tokens: of '
            'nova-api, nova-conductor and a compute node. Can be repeated.',
        )
        parser.add_argument(
            '--as-user',
            metavar='CLOUD',
            nargs='?',
            const='',
            help='Also query Nova as this user, who should be no '
            'administrator: of CLOUD in clouds.yaml, or without CLOUD of the '
            'environment (OS_AUTH_URL, OS_USERNAME and so on).',
        )
        parser.add_argument(
            '--url',
            help='Check a running process, by its health check with detailed '
            '= true and the backend attachguard. Nothing else is checked.',
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Check, and list the results.

        :returns: columns and rows, for cliff
        """
        try:
            findings = (
                list(process_check.run(parsed_args.url))
                if parsed_args.url is not None
                else _findings(parsed_args)
            )
        except (opts.ConfigError, cfg.Error) as exc:
            findings = [
                preflight.Finding(
                    'configuration', preflight.Result.WRONG, str(exc)
                )
            ]
        self._wrong = any(
            finding.result is preflight.Result.WRONG for finding in findings
        )
        return (
            ('Check', 'Result', 'What was found, what to do'),
            [
                (finding.check, finding.result.value, finding.text)
                for finding in findings
            ],
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the list.

        :returns: the exit code: 1 if something is wrong
        """
        code: int = super().run(parsed_args)
        return code or int(self._wrong)


def _findings(parsed_args: argparse.Namespace) -> list[preflight.Finding]:
    conf = cfg.ConfigOpts()
    service_config.load(conf, parsed_args.config_file)
    paste_ini = parsed_args.paste_ini or service_config.find_paste_ini(conf)
    return list(
        preflight.run(
            conf, paste_ini, parsed_args.nova_conf, parsed_args.as_user
        )
    )
