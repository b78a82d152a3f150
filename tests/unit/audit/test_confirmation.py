# SPDX-License-Identifier: Apache-2.0

"""The state file."""

from __future__ import annotations

import contextlib
import datetime
import pathlib

import pytest

from attachguard.audit import classes
from attachguard.audit import confirmation
from tests.unit.audit import cases

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
LATER = NOW + datetime.timedelta(minutes=15)
MIN_AGE = datetime.timedelta(minutes=10)


def finding(attachment_id: str = cases.FIRST) -> classes.Finding:
    (found,) = classes.find(
        cases.case(
            cases.volume(),
            cases.attachment(found=attachment_id),
            cases.server(cases.GONE),
        )
    )
    return found


def see(
    path: pathlib.Path,
    now: datetime.datetime,
    *found: classes.Finding,
    keep: bool = False,
) -> list[confirmation.Seen]:
    state = confirmation.StateFile(path, 'here')
    with state.opened():
        seen = [state.see(item, now) for item in found]
        state.save(lambda volume_id, project_id, kind: keep)
    return seen


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'new' / 'state.json'


def test_a_finding_is_confirmed_when_it_is_seen_twice(
    path: pathlib.Path,
) -> None:
    (first,) = see(path, NOW, finding())
    assert (first.times, first.is_confirmed(MIN_AGE, NOW)) == (1, False)
    (soon,) = see(path, NOW, finding())
    assert not soon.is_confirmed(MIN_AGE, NOW)
    (later, other) = see(path, LATER, finding(), finding(cases.SECOND))
    assert (later.first, later.times) == (NOW, 3)
    assert later.is_confirmed(MIN_AGE, LATER)
    # A new attachment is a new finding.
    assert other.times == 1


@pytest.mark.parametrize('keep', [False, True])
def test_a_finding_that_was_not_checked_is_kept(
    path: pathlib.Path, keep: bool
) -> None:
    see(path, NOW, finding())
    see(path, NOW, keep=keep)
    (again,) = see(path, LATER, finding())
    assert again.times == (2 if keep else 1)


def test_a_failed_audit_changes_nothing(path: pathlib.Path) -> None:
    see(path, NOW, finding())
    before = path.read_bytes()
    state = confirmation.StateFile(path, 'here')
    with contextlib.suppress(KeyError), state.opened():
        state.see(finding(cases.SECOND), LATER)
        raise KeyError
    assert path.read_bytes() == before


def test_the_state_file_is_locked(path: pathlib.Path) -> None:
    first, second = (
        confirmation.StateFile(path, 'here'),
        confirmation.StateFile(path, 'here'),
    )
    with first.opened():
        with pytest.raises(confirmation.StateError, match='Another audit'):
            with second.opened():
                pass
    with second.opened():
        pass


def test_the_state_of_another_cloud_is_refused(path: pathlib.Path) -> None:
    see(path, NOW, finding())
    other = confirmation.StateFile(path, 'there')
    with pytest.raises(confirmation.StateError, match='another cloud'):
        with other.opened():
            pass


def test_a_file_that_cannot_be_written_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    blocked = tmp_path / 'file'
    blocked.write_text('')
    with pytest.raises(confirmation.StateError, match='--state-file'):
        see(blocked / 'state.json', NOW, finding())
