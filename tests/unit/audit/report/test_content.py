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

"""What a report counts."""

from __future__ import annotations

import datetime

from attachguard.audit import checks
from attachguard.audit.report import content
from tests.unit.audit import example


def test_findings_are_counted_by_class_and_state() -> None:
    pending = content.State.PENDING
    counts = example.counts(
        example.entry('duplicate', 1, days=3),
        example.entry('duplicate', 2, days=7),
        example.entry('duplicate', 3, days=1),
        example.entry('duplicate', 4, days=9, state=pending),
        example.entry('volume-gone', state=pending),
    )
    none = dict.fromkeys(checks.CLASSES, 0)
    assert counts.found == none | {'duplicate': 3}
    assert counts.pending == none | {'duplicate': 1, 'volume-gone': 1}
    # The oldest is a confirmed one.
    week = datetime.timedelta(days=7)
    assert counts.oldest == {'duplicate': example.FINISHED - week}


def test_foreign_attachments_are_counted_by_reason() -> None:
    counts = example.counts(
        example.foreign_attachment(1),
        example.foreign_attachment(2, 'host=*-zun'),
        example.foreign_attachment(3, 'device=/x'),
        example.unknown(),
    )
    reasons = ('no-server', 'no-uuid', 'ironic', 'other-host', 'pattern')
    expected = dict.fromkeys(reasons, 0) | {'ironic': 1, 'pattern': 2}
    assert counts.foreign == expected
    assert counts.unknown == 1


def test_an_error_without_a_text_is_an_error() -> None:
    assert example.report().success
    assert not example.report(error='').success
