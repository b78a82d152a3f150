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


"""``attachguard explain``: what is the matter with this volume?"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any
from typing import TYPE_CHECKING

from cliff import columns
from cliff import show
from oslo_config import cfg

from attachguard import opts
from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import rest
from attachguard.audit.repair import plan
from attachguard.cmd import base as commands

if TYPE_CHECKING:
    from attachguard.audit import guard_preview

    _Column = columns.FormattableColumn[list[Any]]
else:
    # cliff's is generic in newer releases only.
    _Column = columns.FormattableColumn


class _Lines(_Column):
    """A list: a line each for people, as it is for programs."""

    def human_readable(self) -> str:
        return '\n'.join(map(str, self._value))


class Explain(commands.JudgingCommand, show.ShowOne):
    """Say all that is known of one volume, and what to do about it.

    What Cinder says, what Nova says, what the guard would decide, which class
    of inconsistency it is, how that comes about, and the safest command. It
    changes nothing.

    Besides the servers that Cinder names, all of Nova's are read, to find
    others that have the volume.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the volume."""
        super().add_options(parser)
        parser.add_argument('volume', metavar='VOLUME', help="its UUID")
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            type=pathlib.Path,
            help="Cinder's configuration, for the guard's own rules; may be "
            "repeated (default: the guard's defaults)",
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Look at the volume.

        :returns: columns and values, for cliff
        """
        self._code = commands.ERROR
        volume_id = commands.uuid_of('volume')(parsed_args.volume)
        decider = _guard(parsed_args.config_file)
        cloud = self._cloud(parsed_args)
        cloud.log_in()
        with self._inventory(cloud, parsed_args) as inventory:
            rules = inventory.rules
            missed = ''
            holders: list[str] = []
            try:
                inventory.read_selected([volume_id], [])
                holders = inventory.holders(volume_id)
            except rest.CloudError as exc:
                # What the servers that Cinder names say is worth something.
                missed = f'whether others have it was not found out: {exc}'
            case = case_builder.read_case(cloud, volume_id, rules, holders)
        found = checks.find(case)
        unknown = (
            missed
            or case.unknown
            or any(
                server.presence is model.Presence.UNKNOWN
                for server in case.servers.values()
            )
        )
        if found:
            self._code = commands.FOUND
        elif not unknown:
            self._code = commands.CLEAN
        rows = {
            'Volume': volume_id,
            'Project': case.project_id,
            'Cinder says': _Lines(_cinder(case)),
            'Nova says': _Lines(_nova(case, missed)),
            'Foreign': _Lines(_foreign(case, rules)),
            'The guard would': _Lines(_decisions(case, decider)),
            'Verdict': _Lines(_verdict(case, found, bool(unknown))),
            'How it comes about': _Lines(
                [checks.CLASSES[item.kind].how for item in found]
            ),
            'What repairs it': _Lines(
                [checks.CLASSES[item.kind].repair for item in found]
            ),
            'Safest command': _Lines(
                [
                    plan.make(item, case, connected=False).command
                    for item in found
                ]
            ),
            'Evidence': _Lines(
                [
                    f'{item.at} {item.call}: HTTP {item.status} '
                    f'{item.request_id or "-"} {item.result}'.rstrip()
                    for item in case.evidence
                ]
            ),
        }
        return tuple(rows), tuple(rows.values())

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Print the page.

        :returns: the exit code
        """
        return super().run(parsed_args) or self._code


def _guard(files: list[pathlib.Path] | None) -> guard_preview.Guard:
    # cliff loads every command to run one; this takes longer than the rest.
    from attachguard.audit import guard_preview

    try:
        if files is None:
            return guard_preview.Guard()
        conf = cfg.ConfigOpts()
        # As Cinder registers it: the guard falls back on it.
        conf.register_opt(cfg.StrOpt('region_name'), group='nova')
        conf([], project='cinder', default_config_files=list(map(str, files)))
        opts.configure(conf, {})
        return guard_preview.Guard(conf)
    except (opts.ConfigError, cfg.Error) as exc:
        raise commands.BadInput(str(exc)) from exc


def _cinder(case: model.Case) -> list[str]:
    if case.unknown:
        return [f'unknown: {case.unknown}']
    if case.volume is None:
        lines = ['no such volume']
    else:
        volume = case.volume
        lines = [f'{volume.status}, record changed {volume.updated_at}']
        if volume.attach_status is not None:
            lines.append(f'attach_status {volume.attach_status}')
        if volume.busy:
            lines.append(
                f'at work on it (migration status {volume.migration_status})'
            )
    return lines + [
        f'attachment {item.id}: {item.status} to server {item.server_id}, '
        f'host {item.host}, {item.device}, since {item.attached_at}'
        for item in (*case.attachments, *case.foreign)
    ]


def _nova(case: model.Case, missed: str) -> list[str]:
    lines = [missed] if missed else []
    for server in case.servers.values():
        line = f'server {server.id}: {server.presence.value}'
        if server.attachment_id is not None:
            line += f', by attachment {server.attachment_id}'
        if server.status is not None:
            line += f'; {server.status} on {server.host}'
        if server.busy:
            line += f'; at work on it ({server.task_state})'
        if server.why:
            line += f' ({server.why})'
        lines.append(line)
    return lines or ['no server has it']


def _foreign(case: model.Case, rules: foreign.Rules) -> list[str]:
    return [
        f'attachment {item.id}: {rules.match(case, item)}'
        for item in case.foreign
    ]


def _decisions(case: model.Case, decider: guard_preview.Guard) -> list[str]:
    return [
        f'{item.verdict}: {item.call} ({item.reason})'
        for item in decider.decide(case)
    ]


def _verdict(
    case: model.Case, found: list[checks.Finding], unknown: bool
) -> list[str]:
    if found:
        return [f'{item.kind}: {item.text}' for item in found]
    if unknown:
        return ['unknown: somebody did not answer, see above']
    if case.volume is None and not case.servers:
        return ['there is no such volume, and nobody has it']
    if case.volume is not None and case.volume.busy:
        return ['Cinder is at work on it: look again later']
    if any(server.busy for server in case.servers.values()):
        return ['Nova is at work on a server of it: look again later']
    return ['consistent']
