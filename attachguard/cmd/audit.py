# SPDX-License-Identifier: Apache-2.0

"""``attachguard audit``: find inconsistent volumes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import datetime
import os
import pathlib
from typing import Any

from attachguard.audit import classes
from attachguard.audit import files
from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import reader
from attachguard.audit.report import content
from attachguard.cmd import base
from attachguard.cmd import database
from attachguard.cmd import selection

# Unknown volumes that are listed on standard error.
_MAX_UNKNOWN = 20
# Hosts that Nova does not have, likewise.
_MAX_HINTS = 5

_Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]


class Audit(selection.SelectingCommand, base.ListCommand):
    """Find the volumes whose records in Cinder and Nova disagree.

    Reads the volumes, attachments and servers of all projects, checks each
    suspect on its own, and lists what is wrong. It changes nothing. The
    credentials need the role admin in Cinder and Nova, to see every project.

    While a volume is being attached, the records disagree for a moment. So a
    finding is confirmed only if it is found twice: run the audit every 15
    minutes (from cron, with --prometheus), or use --once to check twice now.

    Attachments that Nova did not create (of hosts, Ironic, Glance,
    containers) are foreign: the audit ignores them, and --foreign lists them.

    For a large cloud, the lists can be read from the databases, or replicas of
    them, in place of the APIs: --cinder-conf and --nova-conf, or the URLs.

    examples::

      attachguard audit --once
      attachguard audit --prometheus /var/lib/node_exporter/attachguard.prom
      attachguard audit --once --project ID -f json
      attachguard audit --cinder-conf cinder.conf --nova-conf nova.conf
    """

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what to list, and which reports to write."""
        super().add_options(parser)
        database.add_inventory_options(parser)
        group = parser.add_argument_group('what to list')
        for name, text in (
            ('all', 'Also list unconfirmed findings.'),
            ('foreign', 'List the foreign attachments instead of findings.'),
            ('unknown', 'List the volumes whose state is unknown instead.'),
            ('long', 'Also list the evidence.'),
        ):
            group.add_argument(f'--{name}', action='store_true', help=text)
        group.add_argument(
            '--html',
            metavar='FILE',
            type=pathlib.Path,
            help='Also write an HTML report, in one file.',
        )
        group.add_argument(
            '--prometheus',
            metavar='FILE',
            type=pathlib.Path,
            help="Also write metrics for node_exporter's textfile collector. "
            'The name must end in .prom.',
        )

    def take_action(self, parsed_args: argparse.Namespace) -> _Table:
        """Audit, write the reports, and list what was found.

        :returns: columns and rows, for cliff
        """
        audited = runner.Audited()
        totals = reader.Totals(0, 0, 0)
        source = ''
        scope = str(self._selection(parsed_args))
        writers = _writers(parsed_args, scope)
        started = model.now()
        cloud: api.Cloud | None = None
        doubts: list[str] = []
        unchecked: list[str] = []

        def report_of(error: str | None) -> content.Report:
            return _report(
                cloud,
                started,
                totals,
                audited,
                scope,
                doubts,
                unchecked,
                source,
                error,
            )

        try:
            lists = database.inventory(parsed_args)
            cloud = self._cloud(parsed_args)
            cloud.log_in()
            with self._inventory(cloud, parsed_args, lists) as read:
                audit = self._audit(cloud, read, parsed_args)
                audited = audit.audited
                try:
                    audit.run()
                finally:
                    totals = read.totals
                    source = read.source
                    doubts, unchecked = read.doubts, read.unchecked
                    self._warn(read)
        except Exception as exc:
            report = report_of(str(exc))
            try:
                for write in writers:
                    write(report)
            except files.NotWrittenError as second:
                self._print(f'error: {second}')
            raise
        report = report_of(None)
        for write in writers:
            write(report)
        if lists is not None:
            self._print(f'Inventory from {source}.')
        self._sum_up(audited, scope, bool(doubts or unchecked), parsed_args)
        if parsed_args.foreign:
            return _foreign(audited)
        if parsed_args.unknown:
            return (
                ('Volume', 'Volume name', 'Why'),
                [
                    (item.volume_id, item.volume_name, item.why)
                    for item in audited.unknown
                ],
            )
        return _findings(audited, report.projects, parsed_args)

    def _sum_up(
        self,
        audited: runner.Audited,
        scope: str,
        doubts: bool,
        parsed_args: argparse.Namespace,
    ) -> None:
        counts = audited.counts
        found = sum(counts.found.values())
        pending = sum(counts.pending.values())
        foreign = sum(counts.foreign.values())
        self._print(
            f'{found} found, {pending} unconfirmed, {foreign} foreign, '
            f'{counts.unknown} unknown, {audited.busy} busy'
            + (f'; only within {scope}' if scope else '')
        )
        if pending and not parsed_args.all:
            self._print(
                'Unconfirmed findings are confirmed if a later audit finds '
                'them again: --all lists them, --once checks twice now.'
            )
        if found + pending > runner.MAX_LISTED:
            self._print(f'Only {runner.MAX_LISTED} findings are listed.')
        hints = dict.fromkeys(
            item.match.hint(item.attachment) for item in audited.foreign
        )
        for hint in list(filter(None, hints))[:_MAX_HINTS]:
            self._print(f'foreign: {hint}')
        for unknown in audited.unknown[:_MAX_UNKNOWN]:
            self._print(f'unknown: volume {unknown.volume_id}: {unknown.why}')
        if counts.unknown > _MAX_UNKNOWN:
            self._print('more are unknown: --unknown lists them')
        if found:
            self.exit_code = base.FOUND
        elif not (counts.unknown or doubts):
            self.exit_code = base.CLEAN


def _writers(
    parsed_args: argparse.Namespace, scope: str
) -> list[Callable[[content.Report], None]]:
    """Return what writes the reports.

    :param scope: to what the audit is restricted
    :raises BadInput: one cannot be written; better before hours of reading
    """
    html, prometheus = parsed_args.html, parsed_args.prometheus
    for path in filter(None, (html, prometheus)):
        if not path.parent.is_dir():
            raise base.BadInput(f'{path}: no such directory')
    if prometheus is not None and prometheus.suffix != '.prom':
        raise base.BadInput(
            f'{prometheus}: node_exporter reads only files that end in .prom'
        )
    if prometheus is not None and scope:
        raise base.BadInput(
            '--prometheus needs an audit of the whole cloud, and this one is '
            f'restricted to {scope}'
        )
    if html is None and prometheus is None:
        return []
    try:
        from attachguard.audit.report import html as html_report
        from attachguard.audit.report import textfile
    except ImportError as exc:
        raise base.extra_is_missing(exc) from exc
    writers: list[Callable[[content.Report], None]] = []
    if html is not None:
        writers.append(lambda report: html_report.write(report, html))
    if prometheus is not None:
        writers.append(lambda report: textfile.write(report, prometheus))
    return writers


def _report(
    cloud: api.Cloud | None,
    started: datetime.datetime,
    totals: reader.Totals,
    audited: runner.Audited,
    scope: str,
    doubts: list[str],
    unchecked: list[str],
    source: str,
    error: str | None,
) -> content.Report:
    projects: Mapping[str, str] = {}
    if cloud is not None and error is None:
        projects = cloud.project_names(
            {entry.finding.project_id for entry in audited.entries} - {None}
        )
    return content.Report(
        # Also where login fails.
        cloud.name if cloud else os.environ.get('OS_CLOUD', ''),
        cloud.region if cloud else os.environ.get('OS_REGION_NAME'),
        started,
        model.now(),
        totals.volumes,
        totals.attachments,
        totals.servers,
        audited.counts,
        tuple(audited.entries),
        tuple(audited.foreign),
        tuple(audited.unknown),
        scope,
        tuple(doubts),
        tuple(unchecked),
        source,
        error,
        projects,
    )


def _findings(
    audited: runner.Audited,
    projects: Mapping[str, str],
    parsed_args: argparse.Namespace,
) -> _Table:
    columns: tuple[str, ...] = (
        'Class',
        'What is wrong',
        'Volume',
        'Volume name',
        'Project',
        'Project name',
        'Server',
        'Server name',
        'Host',
        'Attachment',
        'Since',
        'State',
        'First seen',
        'Runbook',
        base.TO_DO,
    )
    if parsed_args.long:
        columns += ('Evidence',)
    rows: list[tuple[Any, ...]] = []
    for entry in audited.entries:
        if entry.state is content.State.PENDING and not parsed_args.all:
            continue
        finding = entry.finding
        row = (
            finding.kind,
            finding.text,
            finding.volume_id,
            finding.volume_name,
            finding.project_id,
            projects.get(finding.project_id or ''),
            finding.server_id,
            finding.server_name,
            finding.host,
            finding.attachment_id,
            model.utc(finding.since),
            entry.state.value,
            model.stamp(entry.first_seen),
            classes.CLASSES[finding.kind].runbook,
            entry.script,
            '\n'.join(map(base.describe, finding.evidence)),
        )
        rows.append(row[: len(columns)])
    return columns, rows


def _foreign(audited: runner.Audited) -> _Table:
    return (
        (
            *('Why', 'Volume', 'Volume name', 'Attachment', 'Server'),
            *('Host', 'Device', 'Status'),
        ),
        [
            (
                item.why,
                item.volume_id,
                item.volume_name,
                item.attachment.id,
                item.attachment.server_id,
                item.attachment.host,
                item.attachment.device,
                item.attachment.status,
            )
            for item in audited.foreign
        ],
    )
