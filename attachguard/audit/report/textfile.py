# SPDX-License-Identifier: Apache-2.0

"""The report of an audit as metrics for node_exporter's textfile collector.

A failed audit writes no number of findings, because 0 would mean that nothing
is wrong.  Alert on findings, on ``attachguard_audit_success == 0``, and on
``time() - attachguard_audit_last_run_timestamp_seconds > 86400`` for a cron
job that does not start.

Every metric has the labels ``cloud`` and ``region``: node_exporter rejects two
files with the same metric and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib

import prometheus_client

from attachguard.audit import files
from attachguard.audit.report import content


def write(report: content.Report, path: pathlib.Path) -> None:
    """Write the metrics of an audit, readable for node_exporter's user.

    :param path: of the file; node_exporter reads ``*.prom`` only
    :raises attachguard.audit.files.NotWrittenError: if that fails; an existing
        file is unchanged
    """
    # prometheus_client's write_to_textfile neither syncs the file nor sets
    # its mode.
    files.replace(path, render(report), public=True)


def render(report: content.Report) -> bytes:
    """The metrics of an audit, in Prometheus' text format."""
    registry = prometheus_client.CollectorRegistry()
    cloud = {'cloud': report.cloud, 'region': report.region or ''}

    def gauges(
        name: str, text: str, values: Mapping[str, float], *label: str
    ) -> None:
        gauge = prometheus_client.Gauge(
            f'attachguard_audit_{name}',
            text,
            (*cloud, *label),
            registry=registry,
        )
        for each, value in values.items():
            labels = cloud | dict.fromkeys(label, each)
            gauge.labels(**labels).set(value)

    def gauge(name: str, text: str, value: float) -> None:
        gauges(name, text, {'': value})

    gauge(
        'success',
        '1 if the last audit was completed. After a failed one there are no '
        'metrics of what it found.',
        int(report.success),
    )
    gauge(
        'last_run_timestamp_seconds',
        'When the last audit ended or failed.',
        report.finished.timestamp(),
    )
    gauge(
        'duration_seconds',
        'How long the last audit took.',
        (report.finished - report.started).total_seconds(),
    )
    if not report.success:
        return prometheus_client.generate_latest(registry)
    gauge(
        'doubts',
        'Reasons why what was read looks wrong; repairs are refused then.',
        len(report.doubts),
    )
    gauge(
        'unchecked',
        'What could not be checked at all, such as whether projects exist.',
        len(report.unchecked),
    )
    counts = report.counts
    gauges('findings', 'Confirmed findings, by class.', counts.found, 'class')
    gauges(
        'pending',
        'Findings seen for the first time, confirmed if the next audit finds '
        'them again.',
        counts.pending,
        'class',
    )
    ages = {
        kind: report.finished - counts.oldest.get(kind, report.finished)
        for kind in counts.found
    }
    gauges(
        'oldest_finding_age_seconds',
        'Time from the first audit that saw the oldest confirmed finding to '
        'the end of the last audit; 0 without one.',
        {kind: age.total_seconds() for kind, age in ages.items()},
        'class',
    )
    gauges(
        'foreign',
        'Attachments that Nova did not make, by how they are recognised.',
        counts.foreign,
        'why',
    )
    gauge('unknown', 'Volumes that could not be checked.', counts.unknown)
    for what in ('volumes', 'attachments', 'servers'):
        gauge(what, f'How many {what} were read.', getattr(report, what))
    return prometheus_client.generate_latest(registry)
