# SPDX-License-Identifier: Apache-2.0


"""What each class finds, and what it does not."""

from __future__ import annotations

import pytest

from attachguard.audit import classes
from attachguard.audit import model
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import NO_PROJECT
from tests.unit.audit.cases import OLD
from tests.unit.audit.cases import OTHER
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import SERVER
from tests.unit.audit.cases import server
from tests.unit.audit.cases import UNKNOWN
from tests.unit.audit.cases import volume

HOSTS = ('compute1', 'compute2')
LIVE = (attachment(), server(HAS, FIRST))


def of_status(status: str, *servers: model.Server) -> model.Case:
    """A volume and its attachment, both of a status."""
    return case(volume(status), attachment(status=status), *servers)


FOUND = {
    'stuck-operation': [
        case(volume('backing-up', updated_at=OLD)),
        case(volume('maintenance', updated_at=OLD), *LIVE),
        case(volume(migration_status='migrating', updated_at=OLD), *LIVE),
        case(
            volume(),
            attachment(),
            server(HAS, FIRST, task_state='deleting', updated=OLD),
        ),
    ],
    'server-gone': [
        case(volume(), attachment(), server(GONE)),
        of_status('reserved', server(GONE)),
        case(volume('error'), attachment(), server(GONE)),
        case(volume('available'), attachment(), server(GONE)),
    ],
    'server-lacks-volume': [
        case(volume(), attachment(), server(LACKS)),
        case(volume('detaching'), attachment(), server(LACKS)),
    ],
    'stuck-attachment': [
        of_status('reserved', server(LACKS)),
        of_status('attaching', server(LACKS)),
        of_status('error_attaching', server(LACKS)),
        # Nobody knows who reserved it.
        case(
            volume('reserved', updated_at=OLD),
            foreign=(attachment(None, 'reserved'),),
        ),
    ],
    'in-use-without-attachment': [
        case(volume()),
        case(volume(), server(LACKS)),
        case(volume(), server(GONE)),
    ],
    'stuck-attaching': [
        case(volume('attaching')),
        # A multiattach volume that is reserved once more.
        case(volume('attaching', multiattach=True), *LIVE),
        # The compute node failed while it attached.
        of_status('attaching', server(HAS, FIRST)),
        # It has never received the message.
        case(
            volume('reserved', updated_at=OLD),
            attachment(status='reserved'),
            server(HAS, FIRST, status='ACTIVE'),
        ),
    ],
    'stuck-reserved': [case(volume('reserved'))],
    'stuck-detaching': [
        case(volume('detaching'), *LIVE),
        case(volume('detaching')),
    ],
    'status-mismatch': [
        case(volume('available'), *LIVE),
        case(volume('available', attach_status='attached')),
        case(volume('in-use', attach_status='detached'), *LIVE),
        # It can neither be used nor detached.
        case(volume('error'), *LIVE),
        case(volume('error_extending'), *LIVE),
        # Others can attach what a shelved server needs.
        case(
            volume('available'),
            attachment(status='reserved'),
            server(HAS, FIRST, status='SHELVED_OFFLOADED'),
        ),
    ],
    'wrong-server': [
        case(volume(), attachment(OTHER), server(HAS, FIRST)),
        case(
            volume(),
            attachment(OTHER),
            server(LACKS, found=OTHER),
            server(HAS, FIRST),
        ),
    ],
    'wrong-host': [
        case(
            volume(),
            attachment(host='compute2'),
            server(HAS, FIRST, host='compute1'),
            hosts=HOSTS,
        ),
    ],
    'nova-duplicate': [
        case(volume(), attachment(), server(HAS, FIRST, mappings=2)),
    ],
    'nova-leftover': [
        case(volume('available'), server(GONE, leftovers=1)),
        # It was attached by another way: when a server is created.
        case(
            volume(),
            *LIVE,
            server(GONE, found=OTHER, leftovers=2),
        ),
    ],
    'duplicate': [
        case(volume(), *LIVE, attachment(found=SECOND)),
        case(volume(), *LIVE, attachment(found=SECOND, status='reserved')),
    ],
    'missing-in-cinder': [
        case(volume('available'), server(HAS, FIRST)),
        case(volume('available'), server(HAS)),
        case(volume(multiattach=True), *LIVE, server(HAS, SECOND, OTHER)),
        # Cinder is not about to have one.
        case(volume('reserved', updated_at=OLD), server(HAS, FIRST)),
    ],
    'volume-gone': [case(None, server(HAS, FIRST))],
    'attachment-id-mismatch': [
        case(volume(), attachment(), server(HAS, SECOND)),
    ],
    'volume-deleted': [
        case(None, attachment(), server(GONE)),
        case(None, attachment(), server(LACKS)),
    ],
    'no-project': [
        case(volume('available'), project=NO_PROJECT),
        case(volume(), *LIVE, project=NO_PROJECT),
    ],
}


def test_every_class_has_a_case() -> None:
    # Two servers have it, of which Cinder knows one at most.
    assert ['multi-owner', *FOUND] == list(classes.CLASSES)


@pytest.mark.parametrize(
    ('kind', 'of'),
    [(kind, of) for kind, cases in FOUND.items() for of in cases],
)
def test_a_case_is_found_by_its_class_alone(kind: str, of: model.Case) -> None:
    assert [finding.kind for finding in classes.find(of)] == [kind]


HEALTHY = {
    'attached': case(volume(), *LIVE),
    'attached before Queens': case(volume(), attachment(), server(HAS)),
    'available': case(volume('available')),
    'of a shelved server': of_status('reserved', server(HAS, FIRST)),
    'multiattach': case(
        volume(multiattach=True),
        *LIVE,
        attachment(OTHER, found=SECOND),
        server(HAS, SECOND, OTHER),
    ),
    'being reserved by an old Nova': case(volume('attaching'), server(HAS)),
    'just detached in Cinder': case(volume('detaching'), server(HAS, FIRST)),
    'connected by another name than the host of Nova': case(
        volume(),
        attachment(host='10.0.0.5'),
        server(HAS, FIRST, host='compute1'),
        hosts=HOSTS,
    ),
    'reserved just now for a server': of_status(
        'reserved', server(HAS, FIRST, status='ACTIVE')
    ),
    'reserved just now by nobody': case(
        volume('reserved'), foreign=(attachment(None, 'reserved'),)
    ),
    'an error that is not about attachments': case(volume('error_extending')),
    'on a deleted server, without a trace': case(
        volume('available'), server(GONE)
    ),
    'multiattach, on a deleted server, too': case(
        volume('available', multiattach=True), server(GONE, leftovers=1)
    ),
    'deleted, like the server that had it': case(
        None, server(GONE, leftovers=1)
    ),
    'of a project that exists': case(
        volume('available'), project=model.Project(True)
    ),
    'of a project that is not known': case(
        volume('available'), project=model.Project(None, 'HTTP 403')
    ),
    'deleted, like its project': case(None, project=NO_PROJECT),
}


@pytest.mark.parametrize('of', HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_in_a_consistent_volume(of: model.Case) -> None:
    assert not classes.find(of)


@pytest.mark.parametrize(
    'state',
    [
        {'task_state': 'migrating', 'status': 'ACTIVE'},
        {'status': 'VERIFY_RESIZE'},
        {'status': 'BUILD'},
    ],
    ids=str,
)
@pytest.mark.parametrize('presence', [HAS, LACKS])
def test_nothing_is_found_while_nova_is_busy_with_the_server(
    state: dict[str, str], presence: model.Presence
) -> None:
    busy = server(presence, FIRST, **state)
    spare = attachment(found=SECOND)
    assert not classes.find(case(volume(), attachment(), spare, busy))
    assert not classes.find(case(volume('detaching'), busy))


def test_two_servers_with_one_disk_are_found_loudly() -> None:
    of = case(
        volume(), attachment(OTHER), server(HAS, FIRST, OTHER), server(HAS)
    )
    loud, missing = classes.find(of)
    assert loud.kind == 'multi-owner'
    assert missing.kind == 'missing-in-cinder'
    assert loud.server_id == missing.server_id == SERVER
    shared = case(
        volume(multiattach=True), *of.attachments, *of.servers.values()
    )
    assert 'multi-owner' not in [found.kind for found in classes.find(shared)]


def test_what_is_not_stuck_yet_is_only_busy() -> None:
    for busy in (
        volume('backing-up'),
        volume('backing-up', updated_at=None),
        volume(migration_status='migrating'),
    ):
        assert not classes.find(case(busy, attachment(), server(GONE)))
    # A resize waits for its confirmation as long as it takes.
    waits = server(HAS, FIRST, status='VERIFY_RESIZE', updated=OLD)
    assert not classes.find(case(volume(), attachment(), waits))


def test_nothing_is_found_in_what_is_not_known() -> None:
    silent = server(UNKNOWN)
    for status in ('in-use', 'reserved', 'attaching', 'detaching'):
        assert not classes.find(case(volume(status), attachment(), silent))
        assert not classes.find(case(volume(status), silent))
    assert not classes.find(case(None, silent))
    # A server that was not read.
    assert not classes.find(case(volume(), attachment()))
    assert not classes.find(case(None, server(HAS), unknown='HTTP 503'))


@pytest.mark.parametrize(
    'busy',
    [
        {'status': 'retyping'},
        {'status': 'backing-up'},
        {'migration_status': 'migrating'},
        {'migration_status': 'target:aaaaaaaa'},
    ],
    ids=str,
)
def test_nothing_is_found_while_cinder_is_busy_with_the_volume(
    busy: dict[str, str],
) -> None:
    assert not classes.find(case(volume(**busy), attachment(), server(GONE)))


@pytest.mark.parametrize('status', ['success', 'error', 'none'])
def test_a_finished_migration_hides_nothing(status: str) -> None:
    over = volume(migration_status=status)
    assert classes.find(case(over, attachment(), server(GONE)))


def test_the_status_of_a_volume_with_a_foreign_attachment_is_no_finding() -> (
    None
):
    apart = (attachment(None, found=SECOND),)
    for status in ('in-use', 'attaching', 'reserved', 'detaching'):
        assert not classes.find(case(volume(status), foreign=apart))
    (found,) = classes.find(
        case(volume(), attachment(), server(GONE), foreign=apart)
    )
    assert found.attachment_id == FIRST


def test_only_the_wrong_one_of_two_attachments_is_found() -> None:
    (found,) = classes.find(
        case(
            volume(multiattach=True),
            *LIVE,
            attachment(OTHER, found=SECOND),
            server(GONE, found=OTHER),
        )
    )
    assert (found.kind, found.attachment_id) == ('server-gone', SECOND)


def test_an_attaching_volume_with_a_duplicate_is_only_a_duplicate() -> None:
    (found,) = classes.find(
        case(
            volume('attaching'),
            *LIVE,
            attachment(found=SECOND, status='attaching'),
        )
    )
    assert (found.kind, found.attachment_id) == ('duplicate', SECOND)


def test_a_duplicate_is_found_only_if_novas_attachment_is_known() -> None:
    spare = attachment(found=SECOND)
    assert not classes.find(case(volume(), attachment(), spare, server(HAS)))


def test_a_finding_has_the_server_the_time_and_the_evidence() -> None:
    evidence = (
        model.Evidence('GET /servers/x', 404, '2026-01-01T00:00:00+00:00'),
    )
    (found,) = classes.find(
        case(
            volume(),
            attachment(attached_at='2026-01-01T00:00:00.000000'),
            server(GONE),
            evidence=evidence,
        )
    )
    assert found.server_id == SERVER
    assert found.since == '2026-01-01T00:00:00.000000'
    assert found.evidence == evidence
    assert found.to_json()['evidence'][0]['status'] == 404


def test_the_same_finding_has_the_same_key() -> None:
    def keys(*things: model.Attachment) -> list[str]:
        found = classes.find(case(volume(), *things, server(GONE)))
        return [finding.key for finding in found]

    assert keys(attachment()) == keys(attachment(device='/dev/vdc'))
    # A new attachment to the same server is a new finding.
    assert keys(attachment()) != keys(attachment(found=SECOND))
