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


"""Which attachments are none of Nova's."""

from __future__ import annotations

import pytest

from attachguard.audit import foreign
from attachguard.audit import model
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import OTHER
from tests.unit.audit.cases import PROJECT
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import server
from tests.unit.audit.cases import UNKNOWN
from tests.unit.audit.cases import volume

RULES = foreign.Rules(compute_hosts={'compute1'})


def why(
    found: model.Attachment,
    word: model.Presence = GONE,
    rules: foreign.Rules = RULES,
) -> str | None:
    return rules.why(case(volume(), found, server(word)), found)


@pytest.mark.parametrize(
    ('kind', 'found', 'reason'),
    [
        ('a host', attachment(None, host='myhost'), 'no-server'),
        ("Glance's", attachment(None, host='glance1'), 'no-server'),
        ("Ironic's", attachment(device='ironic_mountpoint'), 'ironic'),
        ('a brick client', attachment(host='backup7'), 'other-host'),
        ('not a UUID', attachment('container-7'), 'no-uuid'),
    ],
)
def test_a_foreign_attachment_is_recognised(
    kind: str, found: model.Attachment, reason: str
) -> None:
    assert why(found) == reason


@pytest.mark.parametrize(
    'found', [attachment(), attachment(host='compute1')], ids=str
)
def test_novas_own_is_not_foreign(found: model.Attachment) -> None:
    assert why(found) is None


@pytest.mark.parametrize('word', [HAS, LACKS])
def test_no_record_makes_foreign_what_names_a_server_of_novas(
    word: model.Presence,
) -> None:
    # Else a forger would only have to name a host.
    assert why(attachment(host='elsewhere'), word) is None
    assert why(attachment(device='ironic_mountpoint'), word) is None


def test_a_server_that_nobody_knows_of_can_be_foreign() -> None:
    assert why(attachment(host='elsewhere'), UNKNOWN) == 'other-host'


def test_no_host_tells_anything_where_novas_hosts_are_not_known() -> None:
    assert why(attachment(host='elsewhere'), rules=foreign.Rules()) is None


@pytest.mark.parametrize(
    'pattern',
    [
        {'host': ['comp*']},
        {'device': ['/dev/vd?']},
        {'project': [PROJECT]},
        {'server': ['1111*']},
        {'volume': ['none', 'aaaa*']},
    ],
    ids=str,
)
def test_an_operators_pattern_makes_foreign(
    pattern: dict[str, list[str]],
) -> None:
    found = attachment(host='compute1', device='/dev/vdb')
    for word in (HAS, LACKS, GONE):
        reason = why(found, word, foreign.Rules(pattern, {'compute1'}))
        assert reason is not None
        assert reason.startswith('pattern:')


def test_a_pattern_that_does_not_match_does_not() -> None:
    rules = foreign.Rules({'host': ['k8s-*']}, {'compute1'})
    assert why(attachment(host='compute1'), rules=rules) is None
    assert why(attachment(), rules=rules) is None


def test_what_is_foreign_is_set_apart() -> None:
    theirs = attachment(None, found=SECOND)
    ours = attachment()
    apart = RULES.set_apart(
        case(volume(), theirs, ours, server(GONE), server(HAS, None, OTHER))
    )
    assert apart.attachments == (ours,)
    assert apart.foreign == (theirs,)
    assert apart.volume == volume()
    assert FIRST == ours.id
