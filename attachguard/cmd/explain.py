# SPDX-License-Identifier: Apache-2.0

"""``attachguard explain``: show what is known of one volume."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import pathlib
from typing import Any
from typing import TYPE_CHECKING

from cliff import columns
from cliff import show
from oslo_config import cfg

from attachguard import opts
from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit import guard_preview
from attachguard.audit import model
from attachguard.audit.collect import case_builder
from attachguard.audit.collect import rest
from attachguard.audit.repair import advice
from attachguard.audit.repair import decide
from attachguard.cmd import base
from attachguard.cmd import database
from attachguard.cmd import options
from attachguard.cmd import selection

if TYPE_CHECKING:
    _Column = columns.FormattableColumn[list[Any]]
else:
    # cliff's is generic in newer releases only.
    _Column = columns.FormattableColumn


class _Lines(_Column):
    """A list for programs, a line for each item for people."""

    def human_readable(self) -> str:
        return '\n'.join(map(str, self._value))


class Explain(selection.InventoryCommand, show.ShowOne):
    """Show what is known of one volume, and how to repair it.

    Shows the records of Cinder and Nova, what the guard would allow, the
    class of the inconsistency and its cause, and what to do about it, with the
    risks. It changes nothing.

    It reads all servers of Nova, to find those that have the volume without
    an attachment in Cinder. With the databases, as for the audit, it also
    finds deleted servers on which Nova still has it.

    examples::

      attachguard explain 3b9c6c1e-0a53-4d0b-8a5e-3f1f4f6f9c11
      attachguard explain ID --config-file /etc/cinder/cinder.conf
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the volume."""
        super().add_options(parser)
        database.add_inventory_options(parser)
        parser.add_argument(
            'volume',
            metavar='VOLUME',
            type=options.uuid,
            help='The id of the volume.',
        )
        parser.add_argument(
            '--config-file',
            metavar='FILE',
            action='append',
            type=pathlib.Path,
            help="Read the guard's rules from this configuration file of "
            "Cinder. Can be repeated (default: the guard's default rules).",
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Read the volume.

        :returns: columns and values, for cliff
        """
        guard = _guard(parsed_args.config_file)
        lists = database.inventory(parsed_args)
        cloud = self._log_in(parsed_args)
        volume_id = parsed_args.volume
        with self._inventory(cloud, parsed_args, lists) as read:
            error = ''
            holders: list[str] = []
            leftovers: dict[str, str] = {}
            try:
                read.read_selected([volume_id], [])
                holders = read.cases.holders(volume_id)
                leftovers = read.cases.leftovers(volume_id)
            except rest.CloudError as exc:
                # The servers that Cinder names can be read nevertheless.
                error = f'whether other servers have it is unknown: {exc}'
            case = case_builder.read_case(
                cloud, volume_id, read.rules, holders, leftovers
            )
            foreign_lines = _foreign(case, read.rules)
            found = classes.find(case)
            shell = self._shell(cloud, parsed_args)
            scripts = [
                advice.script(decide.plan_of(cloud, f, case), case, shell)
                for f in found
            ]
        unknown = bool(
            error or case.unknown or case.project.why or case.unknown_servers
        )
        if found:
            self.exit_code = base.FOUND
        elif not unknown:
            self.exit_code = base.CLEAN
        project_id = case.project_id
        names = cloud.project_names({project_id} - {None})
        rows = {
            'Volume': volume_id,
            'Volume name': case.volume.name if case.volume else None,
            'Project': project_id,
            'Project name': names.get(project_id or ''),
            'In Cinder': _cinder(case),
            'In Nova': _nova(case, error),
            'In Keystone': _keystone(case),
            'Foreign': foreign_lines,
            'The guard would': [
                f'{item.verdict}: {item.call} ({item.reason})'
                for item in guard.decide(case)
            ],
            'Verdict': _verdict(case, found, unknown),
            'How it comes about': [classes.CLASSES[f.kind].how for f in found],
            'What repairs it': [classes.CLASSES[f.kind].repair for f in found],
            'Runbook': [classes.CLASSES[f.kind].runbook for f in found],
            base.TO_DO: scripts,
            'Evidence': list(map(base.describe, case.evidence)),
        }
        return tuple(rows), tuple(
            _Lines(value) if isinstance(value, list) else value
            for value in rows.values()
        )

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[Any],
    ) -> int:
        """Print everything, for people with the commands whole, at the end.

        :returns: the exit code
        """
        if parsed_args.formatter == 'table' and not parsed_args.columns:
            values = {
                name: item.human_readable()
                if isinstance(item, _Lines)
                else item
                for name, item in zip(column_names, data)
            }
            volume, name = values.pop('Volume'), values.pop('Volume name')
            title = base.named(f'Volume {volume}', name)
            base.print_item(self.app.stdout, title, values)
            return 0
        code: int = super().produce_output(parsed_args, column_names, data)
        return code


def _guard(files: list[pathlib.Path] | None) -> guard_preview.Guard:
    try:
        if files is None:
            return guard_preview.Guard()
        conf = cfg.ConfigOpts()
        # As Cinder registers it: the guard reads it if its own is not set.
        conf.register_opt(cfg.StrOpt('region_name'), group='nova')
        conf([], project='cinder', default_config_files=list(map(str, files)))
        opts.configure(conf, {})
        return guard_preview.Guard(conf)
    except (opts.ConfigError, cfg.Error) as exc:
        raise base.BadInput(str(exc)) from exc


def _cinder(case: model.Case) -> list[str]:
    if case.unknown:
        return [f'unknown: {case.unknown}']
    volume = case.volume
    if volume is None:
        lines = ['no such volume']
    else:
        lines = [
            f'{volume.status}, record changed {model.utc(volume.updated_at)}'
        ]
        if volume.attach_status is not None:
            lines.append(f'attach_status {volume.attach_status}')
        if volume.busy:
            lines.append(f'busy (migration status {volume.migration_status})')
    return lines + [
        f'attachment {item.id}: {item.status} to server {item.server_id}, '
        f'host {item.host}, {item.device}, since {model.utc(item.attached_at)}'
        for item in case.all_attachments
    ]


def _nova(case: model.Case, error: str) -> list[str]:
    lines = [error] if error else []
    for server in case.servers.values():
        line = base.named(f'server {server.id}', server.name)
        line += f': {server.presence.value}'
        if server.attachment_id is not None:
            line += f', by attachment {server.attachment_id}'
        if server.status is not None:
            line += f'; {server.status} on {server.host}'
        if server.busy:
            line += f'; busy ({server.task_state})'
        if server.leftovers:
            line += '; it still has the volume'
        if server.why:
            line += f' ({server.why})'
        lines.append(line)
    return lines or ['no server has it']


def _keystone(case: model.Case) -> str:
    if case.project.exists is None:
        return f'unknown: {case.project.why}' if case.project.why else ''
    return 'the project exists' if case.project.exists else 'no such project'


def _foreign(case: model.Case, rules: foreign.Rules) -> list[str]:
    matches = [(item, rules.match(case, item)) for item in case.foreign]
    return [
        f'attachment {item.id}: {match}'
        + (f' ({match.hint(item)})' if match and match.hint(item) else '')
        for item, match in matches
    ]


def _verdict(
    case: model.Case, found: list[classes.Finding], unknown: bool
) -> list[str]:
    if found:
        return [f'{item.kind}: {item.text}' for item in found]
    if unknown:
        return ['unknown: a service did not respond, see above']
    if case.volume is None and not case.servers:
        return ['there is no such volume, and no server has it']
    if case.volume is not None and case.volume.busy:
        return ['Cinder is busy with the volume: try again later']
    if any(server.busy for server in case.servers.values()):
        return ['Nova is busy with a server that has it: try again later']
    return ['consistent']
