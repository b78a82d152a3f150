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

"""Prometheus reads what an audit has found, as its own library does."""

from __future__ import annotations

import pathlib
import stat

from prometheus_client import parser
import pytest

from attachguard.audit import checks
from attachguard.audit import files
from attachguard.audit.report import content
from attachguard.audit.report import prometheus
from tests.unit.audit import example

CLOUD = {'cloud': 'devstack', 'region': 'RegionOne'}


def read(report: content.Report) -> dict[str, dict[str, float]]:
    """What Prometheus makes of it.

    :returns: by name, by the one label that is not the cloud's, a number
    """
    text = prometheus.render(report).decode()
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


def test_what_was_found() -> None:
    metrics = read(example.some())
    none = dict.fromkeys(checks.CLASSES, 0)
    assert metrics['findings'] == none | {
        'server-gone': 8,
        'server-lacks-volume': 5,
        'stuck-attaching': 1,
        'volume-gone': 1,
    }
    assert metrics['pending'] == none | {'server-gone': 2, 'duplicate': 1}
    assert metrics['foreign'] == {
        'no-server': 0,
        'no-uuid': 0,
        'ironic': 3,
        'other-host': 0,
        'pattern': 1,
    }
    assert metrics['unknown'] == {'': 2}


def test_how_old_the_oldest_is() -> None:
    metrics = read(
        example.report(
            example.entry('duplicate', 1, days=1),
            example.entry('duplicate', 2, days=3),
            example.entry('volume-gone', state=content.State.PENDING),
        )
    )
    none = dict.fromkeys(checks.CLASSES, 0)
    assert metrics['oldest_finding_age_seconds'] == none | {
        'duplicate': 3 * 24 * 60 * 60
    }


def test_the_audit_itself() -> None:
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


def test_an_audit_that_failed_does_not_say_that_nothing_is_wrong() -> None:
    metrics = read(example.report(error='Nova did not answer'))
    assert metrics == {
        'success': {'': 0},
        'duration_seconds': {'': 112},
        'last_run_timestamp_seconds': {'': example.FINISHED.timestamp()},
    }


def test_patterns_do_not_become_labels() -> None:
    metrics = read(
        example.report(
            *(example.foreign(n, f'pattern:host={n}') for n in range(20))
        )
    )
    assert metrics['foreign']['pattern'] == 20
    assert len(metrics['foreign']) == 5


def test_a_cloud_can_have_any_name_and_no_region() -> None:
    name = 'my "cloud"\n\\'
    text = prometheus.render(example.report(cloud=name, region=None)).decode()
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels['cloud'] == name
            assert sample.labels['region'] == ''


def test_node_exporter_can_read_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'attachguard.prom'
    prometheus.write(example.some(), path)
    assert path.read_bytes() == prometheus.render(example.some())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(files.NotWrittenError):
        prometheus.write(example.some(), tmp_path / 'missing' / path.name)
