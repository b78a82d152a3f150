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
"""The benchmark of the audit measures what it says, and notices what is wrong.

It does not run here: it takes minutes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest

from benchmarks import audit
from benchmarks import content

_COST = audit.Cost(cpu=1.0, wall=2.0, peak=100.0, pages=7, beyond=1)
_RESULT = audit.Result(
    volumes=1000,
    servers=500,
    suspects=10,
    bare=_COST,
    audit=dataclasses.replace(_COST, cpu=1.4, beyond=15),
    each={},
)
_LARGER = dataclasses.replace(
    _RESULT,
    volumes=10_000,
    servers=5000,
    bare=dataclasses.replace(_COST, cpu=10.0, wall=20.0),
    audit=dataclasses.replace(_COST, cpu=14.0, wall=20.0, peak=200.0),
)


def test_what_is_read_barely_is_all_there_is() -> None:
    made = content.Cloud(2400, 1000, 40)
    with audit.serving(2400, 1000, 40) as cloud:
        cost, printed = cloud.run(
            [sys.executable, '-m', 'benchmarks.bare'], [0]
        )
        planted = cloud.ask('/_planted')
    assert planted == [item._asdict() for item in made.planted()]
    read = {name: item['count'] for name, item in json.loads(printed).items()}
    volumes = list(made.list_volumes())
    odd = [
        volume
        for volume in volumes
        if (volume.status, volume.attach_status)
        in (('available', 'attached'), ('in-use', 'detached'))
    ]
    assert read == {
        'volumes': len(volumes) + len(odd),
        'attachments': len(list(made.list_attachments())),
        'servers': 1000,
    }
    # Three of volumes, and one for each way to disagree; two of attachments,
    # and an empty one; a full one of servers, and an empty one.
    assert cost.pages == 3 + 2 + 3 + 2
    assert cost.beyond == 1
    assert cost.cpu > 0
    assert cost.peak > 10


def test_a_program_that_fails_is_not_measured() -> None:
    with audit.serving(100, 50, 0) as cloud:
        with pytest.raises(audit.Failed, match='exited with 5'):
            cloud.run([sys.executable, '-c', 'raise SystemExit(5)'], [0])


def test_a_cloud_that_cannot_be_served() -> None:
    with pytest.raises(audit.Failed, match='no cloud'):
        with audit.serving(10, 10, 100):
            pass


def test_what_is_affordable() -> None:
    assert [
        bound.text
        for bound in audit.bounds([_RESULT, _LARGER])
        if not bound.holds
    ] == []


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'cpu': 15.1}, 'audit / reading, CPU'),
        ({'wall': 30.1}, 'audit / reading, wall'),
        ({'peak': 401.0}, 'peak memory, MB'),
        (
            {'beyond': 10 + audit.MOST_SETTING_OUT + 1},
            'requests beyond the pages, 10,000 volumes',
        ),
        ({'pages': 8}, 'pages, 10,000 volumes'),
        ({'cpu': 16.2}, 'growth of CPU time, 10.0 times the size'),
        ({'peak': 320.0}, 'growth of memory, 10.0 times the size'),
    ],
    ids=lambda value: '' if isinstance(value, str) else str(value),
)
def test_what_is_not(change: dict[str, Any], text: str) -> None:
    large = dataclasses.replace(
        _LARGER, audit=dataclasses.replace(_LARGER.audit, **change)
    )
    assert text in [
        bound.text
        for bound in audit.bounds([_RESULT, large])
        if not bound.holds
    ]


def test_findings_that_are_missing_or_too_many() -> None:
    row = {
        'Class': 'server-gone',
        'Volume': 'v',
        'Attachment': 'a',
        'Server': 's',
    }
    planted = ('server-gone', 'v', 'a', 's')
    audit.compare(json.dumps([row]), {planted})
    with pytest.raises(audit.Failed, match='not found'):
        audit.compare('[]', {planted})
    with pytest.raises(audit.Failed, match='not there'):
        audit.compare(json.dumps([row]), set())


def test_the_table_has_a_row_for_each_size() -> None:
    lines = audit.table([_RESULT, _LARGER]).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ['1,000', '10,000']
    assert len({len(line) for line in lines}) == 1
