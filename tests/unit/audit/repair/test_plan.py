# SPDX-License-Identifier: Apache-2.0


"""What may be done about which finding, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.repair import plan
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import OTHER
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import server
from tests.unit.audit.cases import UNKNOWN
from tests.unit.audit.cases import volume

LIVE = (attachment(), server(HAS, FIRST, host='compute1'))


def steps(
    of: model.Case, connected: bool | None = None
) -> list[tuple[str, str | None]]:
    """The plan for the only finding of a case: calls, and reservations."""
    (finding,) = classes.find(of)
    planned = plan.make(finding, of, connected)
    assert bool(planned.steps) != bool(planned.why_not)
    return [
        (
            step.call.name,
            step.reservation.reserve.name if step.reservation else None,
        )
        for step in planned.steps
    ]


FORGED = (attachment(), server(GONE))


def test_an_unconnected_attachment_is_deleted_without_reservation() -> None:
    assert steps(case(volume(), *FORGED), connected=False) == [
        ('attachment-delete', None),
        ('os-detach', 'os-begin_detaching'),
        ('os-reset_status', 'os-begin_detaching'),
    ]


@pytest.mark.parametrize('connected', [True, None])
def test_a_connected_attachment_is_deleted_while_reserved(
    connected: bool | None,
) -> None:
    # No os-reset_status: Cinder has to check with Nova what is connected.
    assert steps(case(volume(), *FORGED), connected) == [
        ('attachment-delete', 'os-begin_detaching'),
        ('os-detach', 'os-begin_detaching'),
    ]
    assert steps(case(volume('available'), *FORGED), connected)[0] == (
        'attachment-delete',
        'os-reserve',
    )


def test_a_volume_in_error_needs_no_reservation() -> None:
    assert steps(case(volume('error'), *FORGED), connected=True) == [
        ('attachment-delete', None),
        ('os-detach', None),
    ]


@pytest.mark.parametrize('status', ['attaching', 'detaching'])
def test_nothing_drops_all_where_a_user_can_change_the_status(
    status: str,
) -> None:
    assert steps(case(volume(status), *FORGED), connected=True) == [
        ('attachment-delete', None)
    ]


def test_a_reservation_that_cinder_refuses_is_not_planned() -> None:
    waiting = attachment(status='attaching')
    assert steps(case(volume(), waiting, server(GONE)), connected=True) == []
    assert steps(case(volume(), waiting, server(GONE)), connected=False) == [
        ('attachment-delete', None)
    ]
    half = case(volume(attach_status='detached'), *FORGED)
    assert steps(half, connected=True) == []
    assert steps(half, connected=False) == [('attachment-delete', None)]


def test_a_multiattach_volume_in_use_is_not_reserved() -> None:
    shared = case(volume(multiattach=True), *FORGED)
    # Its driver counts connections. Nothing drops all: it cannot be reserved.
    assert steps(shared, connected=True) == [('attachment-delete', None)]


@pytest.mark.parametrize(
    'others',
    [
        (attachment(OTHER, found=SECOND), server(HAS, SECOND, OTHER)),
        (attachment(OTHER, found=SECOND), server(UNKNOWN, found=OTHER)),
        (
            attachment(OTHER, found=SECOND),
            server(LACKS, found=OTHER, task_state='migrating'),
        ),
    ],
    ids=['live', 'unknown', 'busy'],
)
def test_beside_another_attachment_only_one_is_deleted(
    others: tuple[Any, ...],
) -> None:
    for status in ('in-use', 'attaching', 'error'):
        beside = case(volume(status), *FORGED, *others)
        assert steps(beside, connected=False) == [('attachment-delete', None)]
        # It can be the connection of the other one as well.
        assert steps(beside, connected=True) == []
        assert steps(beside) == []


@pytest.mark.parametrize('presence', [HAS, UNKNOWN])
def test_the_only_attachment_of_a_volume_that_nova_has_is_kept(
    presence: model.Presence,
) -> None:
    of = case(volume(), *FORGED, server(presence, SECOND, OTHER))
    (finding,) = (f for f in classes.find(of) if f.kind == 'server-gone')
    planned = plan.make(finding, of, connected=False)
    assert not planned.steps
    assert (planned.manual, planned.server_id) == (plan.Manual.REMAKE, OTHER)


def test_an_attachment_without_connector_may_lose_its_connection() -> None:
    beside = case(
        volume(multiattach=True),
        *FORGED,
        attachment(OTHER, found=SECOND),
        server(HAS, None, OTHER),
    )
    assert steps(beside, connected=False) == [('attachment-delete', None)]
    assert steps(beside, connected=True) == []


def test_beside_a_foreign_attachment_only_one_is_deleted() -> None:
    beside = case(volume(), *FORGED, foreign=(attachment(None, found=SECOND),))
    assert steps(beside, connected=False) == [('attachment-delete', None)]


@pytest.mark.parametrize('multiattach', [False, True])
def test_what_may_be_a_foreign_connection_is_kept(
    multiattach: bool,
) -> None:
    beside = case(
        volume(multiattach=multiattach),
        *FORGED,
        foreign=(attachment(None, found=SECOND),),
    )
    assert steps(beside, connected=True) == []


def test_a_reserved_attachment_is_only_deleted() -> None:
    reserved = case(
        volume('reserved'), attachment(status='reserved'), server(LACKS)
    )
    assert steps(reserved, connected=False) == [('attachment-delete', None)]
    assert steps(reserved, connected=True) == []


@pytest.mark.parametrize(
    'status', ['reserved', 'attaching', 'error_attaching']
)
@pytest.mark.parametrize('presence', [GONE, LACKS])
def test_what_is_connected_but_not_attached_is_kept(
    status: str, presence: model.Presence
) -> None:
    # It may be a brick client's, whose host Cinder does not show, or the
    # target of a migration.
    of = case(volume('attaching'), attachment(status=status), server(presence))
    assert steps(of, connected=True) == []
    assert steps(of, connected=None) == []
    assert steps(of, connected=False)[0] == ('attachment-delete', None)


def test_a_duplicate_is_deleted_if_it_is_connected_elsewhere() -> None:
    def beside(
        real: str | None, spare: str | None, host: str = '10.0.0.5'
    ) -> model.Case:
        return case(
            volume(),
            attachment(host=real),
            attachment(found=SECOND, host=spare),
            server(HAS, FIRST, host=host),
        )

    only = [('attachment-delete', None)]
    assert steps(beside('10.0.0.5', '10.0.0.5'), connected=False) == only
    assert steps(beside('10.0.0.5', '10.0.0.6'), connected=True) == only
    assert steps(beside('10.0.0.5', '10.0.0.5'), connected=True) == []
    assert steps(beside(None, '10.0.0.5'), connected=True) == []
    assert steps(beside('10.0.0.5', None), connected=True) == []
    # A migration was rolled back, except for the attachment that Nova has.
    assert steps(beside('10.0.0.6', '10.0.0.5'), connected=True) == []
    # Nova's name of the host may differ from the connector's.
    assert steps(beside('10.0.0.5', '10.0.0.6', 'vcenter'), True) == []


@pytest.mark.parametrize(
    ('of', 'expected'),
    [
        (
            case(volume()),
            [
                ('os-reset_status', None),
                ('os-detach', 'os-begin_detaching'),
                ('os-reset_status', 'os-begin_detaching'),
            ],
        ),
        (
            case(volume(attach_status='attached')),
            [
                ('os-detach', 'os-begin_detaching'),
                ('os-reset_status', 'os-begin_detaching'),
            ],
        ),
        (
            case(volume(multiattach=True)),
            [('os-detach', 'os-reserve'), ('os-reset_status', 'os-reserve')],
        ),
        (
            case(volume('available', attach_status='attached')),
            [('os-detach', 'os-reserve'), ('os-reset_status', 'os-reserve')],
        ),
        (
            case(volume('reserved')),
            [('os-detach', None), ('os-reset_status', None)],
        ),
        (
            # Cinder neither attaches nor reserves it.
            case(volume('reserved', multiattach=True)),
            [('os-detach', None), ('os-reset_status', None)],
        ),
        (
            case(volume('detaching')),
            [('os-detach', None), ('os-reset_status', None)],
        ),
        (case(volume('detaching'), *LIVE), [('os-roll_detaching', None)]),
        (case(volume('attaching')), [('os-unreserve', None)]),
        (case(volume('available'), *LIVE), [('os-reset_status', None)]),
    ],
    ids=lambda value: '' if isinstance(value, list) else value.volume.status,
)
def test_the_record_of_a_volume_is_corrected(
    of: model.Case, expected: list[tuple[str, str | None]]
) -> None:
    assert steps(of) == expected


def test_a_live_volume_is_never_reset_to_detached() -> None:
    of = case(volume('available'), *LIVE)
    (finding,) = classes.find(of)
    (step,) = plan.make(finding, of).steps
    assert step.call.body == {
        'os-reset_status': {'status': 'in-use', 'attach_status': 'attached'}
    }


def test_what_makes_a_reservation_possible_drops_nothing() -> None:
    of = case(volume())
    (finding,) = classes.find(of)
    first, *_more = plan.make(finding, of).steps
    assert first.call.body == {
        'os-reset_status': {'attach_status': 'attached'}
    }


@pytest.mark.parametrize(
    ('of', 'manual'),
    [
        (case(volume('available'), server(HAS, FIRST)), plan.Manual.REMAKE),
        (
            case(volume(), attachment(), server(HAS, SECOND)),
            plan.Manual.REMAKE,
        ),
        (
            case(
                volume('attaching'),
                attachment(status='attaching'),
                server(HAS, FIRST),
            ),
            plan.Manual.REMAKE,
        ),
        (case(None, server(HAS, FIRST)), plan.Manual.DROP),
        (case(None, attachment(), server(GONE)), plan.Manual.SQL),
    ],
)
def test_what_no_call_repairs_is_left_to_a_person(
    of: model.Case, manual: plan.Manual
) -> None:
    assert steps(of) == []
    (finding,) = classes.find(of)
    planned = plan.make(finding, of)
    assert planned.manual is manual
    assert planned.server_id == finding.server_id
