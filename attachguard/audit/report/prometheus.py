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

"""An audit as metrics, in a file for node_exporter's textfile collector.

Of an audit that failed there is no number of findings: none was found is what
a 0 would say. So a rule that alerts about findings wants a second one, about
``attachguard_audit_success == 0``, and a third, for a cron job that does not
even start: ``time() - attachguard_audit_last_run_timestamp_seconds > 86400``.

Every metric has the labels ``cloud`` and ``region``: node_exporter rejects two
files, one for each cloud, that say the same of a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib

import prometheus_client

from attachguard.audit import files
from attachguard.audit.report import content


def write(report: content.Report, path: pathlib.Path) -> None:
    """Write the metrics of an audit, for everybody on the machine to read.

    They are numbers, and node_exporter runs as a user of its own.

    :param path: where node_exporter looks; it reads ``*.prom`` only
    :raises attachguard.audit.files.NotWrittenError: if that did not work; the
        file, if there was one, is as it was
    """
    # prometheus_client's write_to_textfile does not wait for the disk, and
    # leaves it to the umask who can read the file.
    files.replace(path, render(report), public=True)


def render(report: content.Report) -> bytes:
    """The metrics of an audit, in Prometheus' text format."""
    metrics = _Metrics(report)
    metrics.gauge(
        'success',
        'Whether the last audit came to its end. Where it did not, there is '
        'no word of what it found.',
        int(report.success),
    )
    metrics.gauge(
        'last_run_timestamp_seconds',
        'When the last audit ended, be it by a failure.',
        report.finished.timestamp(),
    )
    metrics.gauge(
        'duration_seconds',
        'How long the last audit took.',
        (report.finished - report.started).total_seconds(),
    )
    if report.success:
        _found(metrics, report)
    return prometheus_client.generate_latest(metrics.registry)


def _found(metrics: _Metrics, report: content.Report) -> None:
    counts = report.counts
    metrics.gauges(
        'findings',
        'What is wrong, by class.',
        'class',
        counts.found,
    )
    metrics.gauges(
        'pending',
        'What was seen to be wrong for the first time, and is a finding if '
        'the next audit sees it, too.',
        'class',
        counts.pending,
    )
    metrics.gauges(
        'oldest_finding_age_seconds',
        'How long before the end of the last audit another one first saw the '
        'oldest of the findings; 0 where there is none.',
        'class',
        {
            kind: (
                report.finished - counts.oldest.get(kind, report.finished)
            ).total_seconds()
            for kind in counts.found
        },
    )
    metrics.gauges(
        'foreign',
        "Attachments that are none of Nova's, by how that is known.",
        'why',
        counts.foreign,
    )
    metrics.gauge(
        'unknown',
        'Volumes of which nothing could be said.',
        counts.unknown,
    )
    for what in ('volumes', 'attachments', 'servers'):
        metrics.gauge(
            what, f'How many {what} were read.', getattr(report, what)
        )


class _Metrics:
    """Gauges of one audit."""

    def __init__(self, report: content.Report) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self._labels = {'cloud': report.cloud, 'region': report.region or ''}

    def gauge(self, name: str, text: str, value: float) -> None:
        self._new(name, text).labels(**self._labels).set(value)

    def gauges(
        self, name: str, text: str, label: str, values: Mapping[str, float]
    ) -> None:
        gauge = self._new(name, text, label)
        for each, value in values.items():
            gauge.labels(**self._labels, **{label: each}).set(value)

    def _new(
        self, name: str, text: str, *labels: str
    ) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(
            f'attachguard_audit_{name}',
            text,
            (*self._labels, *labels),
            registry=self.registry,
        )
