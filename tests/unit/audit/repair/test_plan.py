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


"""What may be done about which finding, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.audit import checks
from attachguard.audit import model
from attachguard.audit.repair import plan as plans
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import OTHER
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import SERVER
from tests.unit.audit.cases import server
from tests.unit.audit.cases import THIRD
from tests.unit.audit.cases import UNKNOWN
from tests.unit.audit.cases import VOLUME
from tests.unit.audit.cases import volume

LIVE = (attachment(), server(HAS, FIRST, host='compute1'))


def steps(
    of: model.Case, connected: bool | None = None
) -> list[tuple[str, str | None]]:
    """The plan for the only finding of a case: calls, and their holds."""
    (finding,) = checks.find(of)
    plan = plans.make(finding, of, connected)
    assert bool(plan.steps) != bool(plan.why_not)
    assert all(
        (step.hold is None) == (step.release is None) for step in plan.steps
    )
    return [
        (step.call.name, step.hold.name if step.hold else None)
        for step in plan.steps
    ]


FORGED = (attachment(), server(GONE))


def test_what_was_never_connected_needs_no_hold_to_be_deleted() -> None:
    assert steps(case(volume(), *FORGED), connected=False) == [
        ('attachment-delete', None),
        ('os-detach', 'os-begin_detaching'),
        ('os-reset_status', 'os-begin_detaching'),
    ]


@pytest.mark.parametrize('connected', [True, None])
def test_what_may_be_connected_is_deleted_behind_a_hold(
    connected: bool | None,
) -> None:
    # No os-reset_status: of what is connected, Cinder has to have asked Nova.
    assert steps(case(volume(), *FORGED), connected) == [
        ('attachment-delete', 'os-begin_detaching'),
        ('os-detach', 'os-begin_detaching'),
    ]
    assert steps(case(volume('available'), *FORGED), connected)[0] == (
        'attachment-delete',
        'os-reserve',
    )


def test_nobody_attaches_a_volume_in_error() -> None:
    assert steps(case(volume('error'), *FORGED), connected=True) == [
        ('attachment-delete', None),
        ('os-detach', None),
    ]


@pytest.mark.parametrize('status', ['attaching', 'detaching'])
def test_what_drops_all_is_not_done_where_a_user_can_open_the_volume(
    status: str,
) -> None:
    assert steps(case(volume(status), *FORGED), connected=True) == [
        ('attachment-delete', None)
    ]


def test_a_hold_that_cinder_would_refuse_is_not_tried() -> None:
    waiting = attachment(status='attaching')
    assert steps(case(volume(), waiting, server(GONE)), connected=True) == []
    assert steps(case(volume(), waiting, server(GONE)), connected=False) == [
        ('attachment-delete', None)
    ]
    half = case(volume(attach_status='detached'), *FORGED)
    assert steps(half, connected=True) == []
    assert steps(half, connected=False) == [('attachment-delete', None)]


def test_a_driver_of_multiattach_volumes_counts_who_is_connected() -> None:
    shared = case(volume(multiattach=True), *FORGED)
    # No hold is to be had for one, and so nothing that drops all.
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
    ids=['live', 'unknown', 'moving'],
)
def test_beside_another_attachment_only_the_one_is_deleted(
    others: tuple[Any, ...],
) -> None:
    for status in ('in-use', 'attaching', 'error'):
        beside = case(volume(status), *FORGED, *others)
        assert steps(beside, connected=False) == [('attachment-delete', None)]
        # It can be the connection of the other one as well.
        assert steps(beside, connected=True) == []
        assert steps(beside) == []


@pytest.mark.parametrize('word', [HAS, UNKNOWN])
def test_what_keeps_a_volume_from_others_stays_while_nova_has_it(
    word: model.Presence,
) -> None:
    of = case(volume(), *FORGED, server(word, SECOND, OTHER))
    (finding,) = (f for f in checks.find(of) if f.kind == 'server-gone')
    plan = plans.make(finding, of, connected=False)
    assert not plan.steps
    assert f'reboot --hard {OTHER}' in plan.command
    assert plan.command in plan.why_not


def test_a_driver_does_not_count_what_has_no_connector() -> None:
    beside = case(
        volume(multiattach=True),
        *FORGED,
        attachment(OTHER, found=SECOND),
        server(HAS, None, OTHER),
    )
    assert steps(beside, connected=False) == [('attachment-delete', None)]
    assert steps(beside, connected=True) == []


def test_beside_a_foreign_attachment_only_the_one_is_deleted() -> None:
    beside = case(volume(), *FORGED, foreign=(attachment(None, found=SECOND),))
    assert steps(beside, connected=False) == [('attachment-delete', None)]


@pytest.mark.parametrize('multiattach', [False, True])
def test_what_may_be_the_connection_of_a_foreign_one_stays(
    multiattach: bool,
) -> None:
    beside = case(
        volume(multiattach=multiattach),
        *FORGED,
        foreign=(attachment(None, found=SECOND),),
    )
    assert steps(beside, connected=True) == []


def test_a_reserved_attachment_is_deleted_and_no_more() -> None:
    reserved = case(
        volume('reserved'), attachment(status='reserved'), server(LACKS)
    )
    assert steps(reserved, connected=False) == [('attachment-delete', None)]
    assert steps(reserved, connected=True) == []


@pytest.mark.parametrize(
    'status', ['reserved', 'attaching', 'error_attaching']
)
@pytest.mark.parametrize('word', [GONE, LACKS])
def test_what_is_connected_and_not_attached_may_be_anybodys(
    status: str, word: model.Presence
) -> None:
    # A brick client's, whose host Cinder does not tell, or the copy that a
    # volume in use is being moved to.
    of = case(volume('attaching'), attachment(status=status), server(word))
    assert steps(of, connected=True) == []
    assert steps(of, connected=None) == []
    assert steps(of, connected=False)[0] == ('attachment-delete', None)


def test_a_spare_attachment_is_deleted_if_it_is_connected_elsewhere() -> None:
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
    # A migration was rolled back, but for the attachment that Nova has.
    assert steps(beside('10.0.0.6', '10.0.0.5'), connected=True) == []
    # What Nova calls the host need not be what its connector does.
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
            # Cinder makes no attachment of it either, and no hold.
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
def test_the_record_of_a_volume_is_set_right(
    of: model.Case, expected: list[tuple[str, str | None]]
) -> None:
    assert steps(of) == expected


def test_a_live_volume_is_never_reset_to_detached() -> None:
    of = case(volume('available'), *LIVE)
    (finding,) = checks.find(of)
    (step,) = plans.make(finding, of).steps
    assert step.call.body == {
        'os-reset_status': {'status': 'in-use', 'attach_status': 'attached'}
    }


def test_what_makes_a_hold_possible_drops_nothing() -> None:
    of = case(volume())
    (finding,) = checks.find(of)
    first, *_more = plans.make(finding, of).steps
    assert first.call.body == {
        'os-reset_status': {'attach_status': 'attached'}
    }


@pytest.mark.parametrize(
    ('of', 'command'),
    [
        (case(volume('available'), server(HAS, FIRST)), 'reboot --hard'),
        (case(None, server(HAS, FIRST)), 'reboot --hard'),
    ],
)
def test_what_only_a_person_can_do_is_said(
    of: model.Case, command: str
) -> None:
    assert steps(of) == []
    (finding,) = checks.find(of)
    plan = plans.make(finding, of)
    assert command in plan.command
    assert SERVER in plan.command
    assert plan.command in plan.why_not


def test_another_attachment_is_deleted_before_novas_is_made_anew() -> None:
    """Cinder refuses a second one that is connected to the same host."""
    of = case(
        volume(),
        attachment(),
        attachment(found=THIRD),
        server(HAS, SECOND),
    )
    (finding,) = checks.find(of)
    plan = plans.make(finding, of)
    assert not plan.steps
    # Pasted into a shell, it does no more than the first thing.
    now, _hash, later = plan.command.partition('#')
    assert now.strip() == f'openstack server stop {SERVER}'
    positions = [
        later.index(text)
        for text in (
            FIRST,
            THIRD,
            f'nova-manage volume_attachment refresh {SERVER} {VOLUME} ',
            f'openstack server start {SERVER}',
        )
    ]
    assert positions == sorted(positions)
    assert plan.command in plan.why_not


def test_an_attachment_that_nova_has_is_completed_by_hand() -> None:
    """A reboot alone does not do that."""
    of = case(
        volume('attaching'),
        attachment(status='attaching'),
        server(HAS, FIRST),
    )
    (finding,) = checks.find(of)
    plan = plans.make(finding, of)
    assert not plan.steps
    assert f'volume attachment complete {FIRST} ' in plan.command
    assert plan.command in plan.why_not


def test_an_attachment_of_a_deleted_volume_is_left_to_sql() -> None:
    of = case(None, attachment(), server(GONE))
    assert steps(of) == []
    (finding,) = checks.find(of)
    assert f'--volume {VOLUME} --sql' in plans.make(finding, of).command
