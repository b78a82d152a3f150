# SPDX-License-Identifier: Apache-2.0

"""All combinations of what Cinder and Nova say of a volume with one consumer.

Where nothing is found, the volume is of use: its owner can attach it, detach
it or delete it, as its status says.  Where it is not, something is found.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import itertools

from cinder.objects import fields
import pytest

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.guard import cinder
from tests.unit.audit.cases import attachment
from tests.unit.audit.cases import case
from tests.unit.audit.cases import FIRST
from tests.unit.audit.cases import GONE
from tests.unit.audit.cases import HAS
from tests.unit.audit.cases import LACKS
from tests.unit.audit.cases import NO_PROJECT
from tests.unit.audit.cases import OLD
from tests.unit.audit.cases import SECOND
from tests.unit.audit.cases import server
from tests.unit.audit.cases import volume

STATUSES = (*fields.VolumeStatus.ALL, 'reverting', 'unmanaging')
ATTACHMENTS = (
    None,
    'attached',
    'attaching',
    'detaching',
    'reserved',
    'error_attaching',
    'error_detaching',
)
NOVA = {
    'no server': None,
    'gone': server(GONE),
    # It refuses to attach it again.
    'gone, and still has it': server(GONE, leftovers=1),
    'lacks it': server(LACKS, status='ACTIVE'),
    'has it': server(HAS, FIRST, status='ACTIVE', host='compute1'),
    'has it, shelved': server(HAS, FIRST, status='SHELVED_OFFLOADED'),
    'has it by another id': server(HAS, SECOND, status='ACTIVE'),
    'has it without an id': server(HAS, None, status='ACTIVE'),
}
# Statuses in which nothing is attached, and nothing about that is wrong.
ALONE = {
    'available',
    'awaiting-transfer',
    'error',
    'error_backing-up',
    'error_deleting',
    'error_extending',
    'error_managing',
    'error_restoring',
}


def is_of_use(
    status: str, attached: str | None, attach_status: str | None, nova: str
) -> bool:
    """Whether a volume that nothing works on can be used."""
    if attached is None and nova in ('no server', 'gone', 'lacks it'):
        return status in ALONE and attach_status != 'attached'
    if attach_status == 'detached':
        return False
    if nova == 'has it, shelved':
        return (status, attached) in (
            ('reserved', 'reserved'),
            ('in-use', 'reserved'),
            # Attached to a server that was shelved already.
            ('in-use', 'attached'),
        )
    return (status, attached) == ('in-use', 'attached') and nova in (
        'has it',
        'has it without an id',
    )


def combinations() -> Iterator[tuple[str, str | None, str | None, str]]:
    """All that can be said, as far as Cinder's API shows it."""
    for status, attached, nova in itertools.product(
        STATUSES, ATTACHMENTS, NOVA
    ):
        if attached is not None and nova == 'no server':
            # It names none: it is foreign.
            continue
        yield status, attached, None, nova
        # It is only read where it could contradict the rest.
        if attached is None and status in ('available', 'in-use'):
            yield status, attached, 'attached', nova
        elif status == 'in-use':
            yield status, attached, 'detached', nova


def made(
    status: str, attached: str | None, attach_status: str | None, nova: str
) -> model.Case:
    """A case in which nothing has changed for long."""
    found = NOVA[nova]
    things = [] if found is None else [found]
    rows = [] if attached is None else [attachment(status=attached)]
    return case(
        volume(
            status,
            attach_status=attach_status,
            updated_at=OLD,
        ),
        *rows,
        *things,
    )


@pytest.mark.parametrize('status', STATUSES)
def test_nothing_is_found_exactly_where_the_volume_is_of_use(
    status: str,
) -> None:
    for combination in combinations():
        if combination[0] == status:
            found = [item.kind for item in classes.find(made(*combination))]
            assert bool(found) is not is_of_use(*combination), (
                combination,
                found,
            )


@pytest.mark.parametrize('status', STATUSES)
def test_a_deleted_project_is_found_beside_everything_else(
    status: str,
) -> None:
    for combination in combinations():
        if combination[0] == status:
            whole = made(*combination)
            alone = dataclasses.replace(whole, project=NO_PROJECT)
            kinds = [item.kind for item in classes.find(whole)]
            assert [item.kind for item in classes.find(alone)] == [
                *kinds,
                'no-project',
            ]


def test_a_status_of_work_hides_nothing_that_is_wrong_underneath() -> None:
    for status in cinder.STATUSES_OF_WORK:
        found = [
            item.kind
            for item in classes.find(made(status, 'attached', None, 'gone'))
        ]
        assert found == ['stuck-operation', 'server-gone']
