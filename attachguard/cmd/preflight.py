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

"""``attachguard preflight``: is this cloud ready for the guard?"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any
from typing import TYPE_CHECKING

from cliff import lister
from oslo_config import cfg

from attachguard import opts

if TYPE_CHECKING:
    from attachguard.guard import preflight


class Preflight(lister.Lister):
    """Look whether this cloud is ready for the guard.

    Run it where cinder-api runs, before the filter is switched on and after
    each change. It looks at the place of the filter in the pipeline, loads
    the options and the rules as cinder-api would, finds out whether the
    credentials to ask Nova with see every project's servers, and says which
    rules this cloud needs, if it is shown Nova's configuration. It changes
    nothing.

    Exits with 1 if anything is wrong.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the command's own options."""
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            type=pathlib.Path,
            help="Cinder's configuration; may be repeated (default: where "
            'cinder-api looks for it)',
        )
        parser.add_argument(
            '--paste-ini',
            metavar='FILE',
            type=pathlib.Path,
            help="Cinder's paste file (default: api_paste_config of the "
            'configuration)',
        )
        parser.add_argument(
            '--nova-conf',
            metavar='FILE',
            action='append',
            default=[],
            type=pathlib.Path,
            help="a nova.conf to look for service tokens in: the API's, the "
            "conductor's and a compute node's; may be repeated",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Look, and list what was found.

        :returns: columns and rows, for cliff
        """
        # cliff loads every command to run one; this takes longer than most.
        from attachguard.guard import preflight

        try:
            findings = self._look(parsed_args)
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

        :returns: the exit code: 1 if anything is wrong
        """
        code: int = super().run(parsed_args)
        return code or int(self._wrong)

    def _look(
        self, parsed_args: argparse.Namespace
    ) -> list[preflight.Finding]:
        from attachguard.guard import preflight

        conf = cfg.ConfigOpts()
        conf.register_opt(
            cfg.StrOpt('api_paste_config', default='api-paste.ini')
        )
        conf.register_opt(cfg.StrOpt('auth_strategy', default='keystone'))
        # As Cinder registers it: the guard falls back on it.
        conf.register_opt(cfg.StrOpt('region_name'), group='nova')
        files = parsed_args.config_file
        conf(
            [],
            project='cinder',
            default_config_files=None
            if files is None
            else [str(path) for path in files],
        )
        paste_ini = parsed_args.paste_ini
        if paste_ini is None:
            found = conf.find_file(conf.api_paste_config)
            paste_ini = None if found is None else pathlib.Path(found)
        return list(preflight.run(conf, paste_ini, parsed_args.nova_conf))
