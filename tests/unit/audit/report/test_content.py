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

"""What a report counts, and what it says of each finding."""

from __future__ import annotations

import datetime
import json

from attachguard.audit import checks
from attachguard.audit.report import content
from tests.unit.audit import example


def test_what_is_pending_does_not_count() -> None:
    counts = content.Counts.of(
        [
            example.entry('duplicate', 1),
            example.entry('duplicate', 2),
            example.entry('duplicate', 3, state=content.State.PENDING),
        ]
    )
    assert counts.found['duplicate'] == 2
    assert counts.pending['duplicate'] == 1
    assert list(counts.found) == list(checks.CLASSES)
    assert list(counts.pending) == list(checks.CLASSES)


def test_the_oldest_is_the_oldest_that_counts() -> None:
    counts = content.Counts.of(
        [
            example.entry('duplicate', 1, days=3),
            example.entry('duplicate', 2, days=7),
            example.entry('duplicate', 3, days=1),
            example.entry('duplicate', 4, days=9, state=content.State.PENDING),
            example.entry('volume-gone', state=content.State.PENDING),
        ]
    )
    week = datetime.timedelta(days=7)
    assert counts.oldest == {'duplicate': example.FINISHED - week}


def test_foreign_attachments_count_by_a_word() -> None:
    counts = content.Counts.of(
        [
            example.foreign(1, 'ironic'),
            example.foreign(2, 'pattern:host=*-zun'),
            example.foreign(3, 'pattern:device=/x'),
            example.foreign(4, 'something-new'),
            example.unknown(),
        ]
    )
    assert counts.foreign == {
        'no-server': 0,
        'no-uuid': 0,
        'ironic': 1,
        'other-host': 0,
        'pattern': 2,
        'something-new': 1,
    }
    assert counts.unknown == 1


def test_an_error_without_words_is_one() -> None:
    assert example.report().success
    assert not example.report(error='').success


def test_all_of_it_can_be_written_as_json() -> None:
    entry = example.entry(days=2)
    found = json.loads(json.dumps(entry.to_json()))
    assert found['kind'] == 'server-gone'
    assert found['volume_id'] == entry.finding.volume_id
    assert found['evidence'][1]['status'] == 404
    assert found['state'] == 'found'
    assert found['first_seen'] == '2026-11-23T19:08:07+00:00'
    assert found['seen'] == 3
    assert found['command'] == entry.command

    apart = json.loads(json.dumps(example.foreign().to_json()))
    assert apart['attachment']['device'] == 'ironic_mountpoint'
    assert apart['why'] == 'ironic'

    unknown = json.loads(json.dumps(example.unknown().to_json()))
    assert [call['status'] for call in unknown['evidence']] == [503, None]
