# SPDX-License-Identifier: Apache-2.0

"""Which attachments are foreign."""

from __future__ import annotations

import pytest

from attachguard.audit import foreign
from attachguard.audit import model
from tests.unit.audit import cases
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import UNKNOWN

RULES = foreign.Rules(compute_hosts={'compute1'})
ELSEWHERE = attachment(host='elsewhere')


def why(
    found: model.Attachment,
    presence: model.Presence = GONE,
    rules: foreign.Rules = RULES,
) -> str:
    case = cases.case(cases.volume(), found, cases.server(presence))
    return str(rules.match(case, found) or '')


@pytest.mark.parametrize(
    ('found', 'presence', 'reason'),
    [
        # Of a host, of Glance, of Ironic, of a brick client, of a container.
        (attachment(None, host='myhost'), GONE, 'no-server'),
        (attachment(None, host='glance1'), GONE, 'no-server'),
        (attachment(device='ironic_mountpoint'), GONE, 'ironic'),
        (attachment(host='backup7'), GONE, 'other-host'),
        (attachment('container-7'), GONE, 'no-uuid'),
        # A server that is not known may not exist.
        (ELSEWHERE, UNKNOWN, 'other-host'),
        # Nova's own.
        (attachment(), GONE, ''),
        (attachment(host='compute1'), GONE, ''),
        # Otherwise a forger would only have to name a host.
        (ELSEWHERE, HAS, ''),
        (ELSEWHERE, LACKS, ''),
        (attachment(device='ironic_mountpoint'), HAS, ''),
        (attachment(device='ironic_mountpoint'), LACKS, ''),
    ],
)
def test_a_foreign_attachment_is_recognised(
    found: model.Attachment, presence: model.Presence, reason: str
) -> None:
    assert why(found, presence) == reason


def test_without_compute_hosts_the_host_decides_nothing() -> None:
    assert why(ELSEWHERE, rules=foreign.Rules()) == ''


@pytest.mark.parametrize(
    'pattern',
    [
        {'host': ['comp*']},
        {'device': ['/dev/vd?']},
        {'project': [cases.PROJECT]},
        {'server': ['1111*']},
        {'volume': ['none', 'aaaa*']},
    ],
    ids=str,
)
@pytest.mark.parametrize('presence', [HAS, LACKS, GONE])
def test_an_operators_pattern_decides_for_every_server(
    pattern: dict[str, list[str]], presence: model.Presence
) -> None:
    found = attachment(host='compute1', device='/dev/vdb')
    rules = foreign.Rules(pattern, {'compute1'})
    ((key, values),) = pattern.items()
    assert why(found, presence, rules) == f'pattern:{key}={values[-1]}'


def test_a_pattern_that_does_not_match_decides_nothing() -> None:
    rules = foreign.Rules({'host': ['k8s-*']}, {'compute1'})
    assert why(attachment(host='compute1'), rules=rules) == ''
    assert why(attachment(), rules=rules) == ''


def test_foreign_attachments_are_set_apart() -> None:
    theirs = attachment(None, found=cases.SECOND)
    ours = attachment()
    case = RULES.set_apart(
        cases.case(
            cases.volume(),
            theirs,
            ours,
            cases.server(GONE),
            cases.server(HAS, None, cases.OTHER),
        )
    )
    assert case.attachments == (ours,)
    assert case.foreign == (theirs,)
    assert case.volume == cases.volume()
