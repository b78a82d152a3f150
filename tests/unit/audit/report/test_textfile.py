# SPDX-License-Identifier: Apache-2.0

"""The metrics, as Prometheus' own library parses them."""

from __future__ import annotations

import pathlib
import stat

from prometheus_client import parser
import pytest

from attachguard.audit import classes
from attachguard.audit import files
from attachguard.audit import foreign
from attachguard.audit.report import content
from attachguard.audit.report import textfile
from tests.unit.audit import example

CLOUD = {'cloud': 'devstack', 'region': 'RegionOne'}


def read(report: content.Report) -> dict[str, dict[str, float]]:
    """Parse the metrics of a report.

    :returns: by name, by the label that is not the cloud's, the value
    """
    text = textfile.render(report).decode()
    result: dict[str, dict[str, float]] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == 'gauge'
        assert family.documentation
        values = result[family.name.removeprefix('attachguard_audit_')] = {}
        for sample in family.samples:
            assert sample.name == family.name
            assert sample.labels.items() >= CLOUD.items()
            [label] = [
                value
                for name, value in sample.labels.items()
                if name not in CLOUD
            ] or ['']
            assert label not in values
            values[label] = sample.value
    return result


def test_findings_are_metrics_by_class() -> None:
    metrics = read(example.some())
    none = dict.fromkeys(classes.CLASSES, 0)
    assert metrics['findings'] == none | {
        'server-gone': 8,
        'server-lacks-volume': 5,
        'stuck-attaching': 1,
        'volume-gone': 1,
    }
    assert metrics['pending'] == none | {'server-gone': 2, 'duplicate': 1}
    # A pattern is no label.
    reasons = dict.fromkeys((item.value for item in foreign.Reason), 0)
    assert metrics['foreign'] == reasons | {'ironic': 3, 'pattern': 1}
    assert metrics['unknown'] == {'': 2}


def test_the_age_is_that_of_the_oldest_confirmed_finding() -> None:
    metrics = read(
        example.report(
            example.entry('duplicate', 1, days=1),
            example.entry('duplicate', 2, days=3),
            example.entry('duplicate', 3, days=9, state=content.State.PENDING),
            example.entry('volume-gone', state=content.State.PENDING),
        )
    )
    none = dict.fromkeys(classes.CLASSES, 0)
    assert metrics['oldest_finding_age_seconds'] == none | {
        'duplicate': 3 * 24 * 60 * 60
    }


def test_the_audit_has_metrics_of_its_own() -> None:
    metrics = read(example.report())
    assert metrics['success'] == {'': 1}
    assert metrics['duration_seconds'] == {'': 112}
    assert metrics['last_run_timestamp_seconds'] == {
        '': example.FINISHED.timestamp()
    }
    assert metrics['volumes'] == {'': 1203}
    assert metrics['attachments'] == {'': 980}
    assert metrics['servers'] == {'': 611}
    assert set(metrics['findings'].values()) == {0}


def test_a_failed_audit_has_no_metrics_of_findings() -> None:
    metrics = read(example.report(error='Nova does not respond'))
    assert metrics == {
        'success': {'': 0},
        'duration_seconds': {'': 112},
        'last_run_timestamp_seconds': {'': example.FINISHED.timestamp()},
    }


def test_a_cloud_has_any_name_and_may_have_no_region() -> None:
    name = 'my "cloud"\n\\'
    text = textfile.render(example.report(cloud=name, region=None)).decode()
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels['cloud'] == name
            assert sample.labels['region'] == ''


def test_the_file_is_readable_for_node_exporter(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'attachguard.prom'
    textfile.write(example.some(), path)
    assert path.read_bytes() == textfile.render(example.some())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(files.NotWrittenError):
        textfile.write(example.some(), tmp_path / 'missing' / path.name)
