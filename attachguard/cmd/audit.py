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


"""``attachguard audit``: which volumes are inconsistent?"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
from typing import Any

from cliff import lister

from attachguard.audit import files
from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import reader
from attachguard.audit.report import content
from attachguard.cmd import base as commands

# Unknown volumes that are told of beside the list.
_SHOWN = 20


class Audit(commands.SelectingCommand, lister.Lister):
    """Find the volumes whose records in Cinder and Nova disagree.

    Reads the volumes, attachments and servers of all projects, asks about
    each suspect alone, and lists what is wrong. It changes nothing. The
    credentials need the role admin in both services, which is what it takes
    to see every project.

    Between a record of Cinder's and one of Nova's there is always a moment,
    so a finding counts when it was seen twice: run the audit every quarter of
    an hour (from cron, with --prometheus), or use --once to look twice now.

    Attachments that are none of Nova's (of hosts, Ironic, Glance, containers)
    are recognised and left alone; --foreign lists them.
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add where else to write."""
        super().add_options(parser)
        shown = parser.add_argument_group('what to show')
        shown.add_argument(
            '--all',
            action='store_true',
            help='findings that do not count yet, too',
        )
        shown.add_argument(
            '--foreign',
            action='store_true',
            help='the foreign attachments, instead of findings',
        )
        shown.add_argument(
            '--unknown',
            action='store_true',
            help='the volumes of which nothing can be said, instead',
        )
        shown.add_argument(
            '--long',
            action='store_true',
            help='a sentence for each, and the calls that say so, too',
        )
        shown.add_argument(
            '--html',
            metavar='FILE',
            type=pathlib.Path,
            help='write a page for people, too: all in one file',
        )
        shown.add_argument(
            '--prometheus',
            metavar='FILE',
            type=pathlib.Path,
            help="write metrics, too, for node_exporter's textfile collector: "
            'the name has to end in .prom',
        )

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Audit, write the reports, and list what was found.

        :returns: columns and rows, for cliff
        """
        self._code = commands.ERROR
        self._audited = runner.Audited()
        self._read = reader.Totals(0, 0, 0)
        self._check_files(parsed_args)
        selection = self._selection(parsed_args)
        started = model.now()
        cloud: api.Cloud | None = None
        try:
            cloud = self._cloud(parsed_args)
            cloud.log_in()
            with self._inventory(cloud, parsed_args) as inventory:
                audit = self._audit(cloud, inventory, selection, parsed_args)
                self._audited = audit.audited
                try:
                    audit.run()
                finally:
                    self._read = inventory.totals
                for doubt in inventory.doubts:
                    self._say(f'warning: {doubt}')
        except Exception as exc:
            try:
                self._write(parsed_args, cloud, started, str(exc))
            except files.NotWrittenError as second:
                self._say(f'error: {second}')
            raise
        self._write(parsed_args, cloud, started, None)
        self._sum_up(parsed_args)
        if parsed_args.foreign:
            return _foreign(self._audited)
        if parsed_args.unknown:
            return _unknown(self._audited)
        return _findings(self._audited, parsed_args)

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Audit, and print the list.

        :returns: the exit code
        """
        code = super().run(parsed_args)
        return code or self._code

    @staticmethod
    def _check_files(parsed_args: argparse.Namespace) -> None:
        """Before hours of reading: can the reports be written at all?"""
        for path in (parsed_args.html, parsed_args.prometheus):
            if path is not None and not path.parent.is_dir():
                raise commands.BadInput(f'{path}: there is no such directory')
        path = parsed_args.prometheus
        if path is not None and path.suffix != '.prom':
            raise commands.BadInput(
                f'{path}: node_exporter reads files that end in .prom alone'
            )

    def _write(
        self,
        parsed_args: argparse.Namespace,
        cloud: api.Cloud | None,
        started: datetime.datetime,
        error: str | None,
    ) -> None:
        if parsed_args.html is None and parsed_args.prometheus is None:
            return
        report = content.Report(
            # Also where there is no logging in to it.
            cloud.name if cloud else os.environ.get('OS_CLOUD', ''),
            cloud.region if cloud else os.environ.get('OS_REGION_NAME'),
            started,
            model.now(),
            self._read.volumes,
            self._read.attachments,
            self._read.servers,
            self._audited.counts,
            tuple(self._audited.entries),
            tuple(self._audited.foreign),
            tuple(self._audited.unknown),
            error,
        )
        try:
            from attachguard.audit.report import html
            from attachguard.audit.report import prometheus
        except ImportError as exc:
            raise commands.BadInput(commands.more_is_needed(exc)) from exc
        if parsed_args.html is not None:
            html.write(report, parsed_args.html)
        if parsed_args.prometheus is not None:
            prometheus.write(report, parsed_args.prometheus)

    def _sum_up(self, parsed_args: argparse.Namespace) -> None:
        audited = self._audited
        counts = audited.counts
        found = sum(counts.found.values())
        pending = sum(counts.pending.values())
        foreign = sum(counts.foreign.values())
        self._say(
            f'{found} found, {pending} seen for the first time, '
            f'{foreign} foreign, {counts.unknown} unknown, '
            f'{audited.busy} at work'
        )
        if pending and not parsed_args.all:
            self._say(
                'What is seen for the first time counts if an audit sees it '
                'again: --all lists it, --once looks twice now.'
            )
        if found + pending > runner.MAX_LISTED:
            self._say(f'Only {runner.MAX_LISTED} of them are listed.')
        for unknown in audited.unknown[:_SHOWN]:
            self._say(f'unknown: volume {unknown.volume_id}: {unknown.why}')
        if counts.unknown > _SHOWN:
            self._say('and more: --unknown lists them')
        if found:
            self._code = commands.FOUND
        elif not counts.unknown:
            self._code = commands.CLEAN


def _findings(
    audited: runner.Audited, parsed_args: argparse.Namespace
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    columns: tuple[str, ...] = (
        'Class',
        'Volume',
        'Project',
        'Server',
        'Attachment',
        'Since',
        'State',
        'First seen',
        'What to do',
    )
    if parsed_args.long:
        columns += ('What was found', 'Evidence')
    rows: list[tuple[Any, ...]] = []
    for entry in audited.entries:
        if entry.state is content.State.PENDING and not parsed_args.all:
            continue
        finding = entry.finding
        row: tuple[Any, ...] = (
            finding.kind,
            finding.volume_id,
            finding.project_id,
            finding.server_id,
            finding.attachment_id,
            finding.since,
            entry.state.value,
            model.stamp(entry.first_seen),
            entry.command,
        )
        if parsed_args.long:
            row += (
                finding.text,
                '\n'.join(
                    f'{item.at} {item.call}: HTTP {item.status} '
                    f'{item.request_id or "-"} {item.result}'
                    for item in finding.evidence
                ),
            )
        rows.append(row)
    return columns, rows


def _foreign(
    audited: runner.Audited,
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    return (
        ('Why', 'Volume', 'Attachment', 'Server', 'Host', 'Device', 'Status'),
        [
            (
                item.why,
                item.volume_id,
                item.attachment.id,
                item.attachment.server_id,
                item.attachment.host,
                item.attachment.device,
                item.attachment.status,
            )
            for item in audited.foreign
        ],
    )


def _unknown(
    audited: runner.Audited,
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    return (
        ('Volume', 'Why'),
        [(item.volume_id, item.why) for item in audited.unknown],
    )
