# SPDX-License-Identifier: Apache-2.0
"""With the guard nothing is found; with one rule opened, what it stops is."""

from __future__ import annotations

from collections.abc import Iterator
import faulthandler
import os
import pathlib

import pytest

from tests.cloud import cloud as clouds
from tests.explorer import acts
from tests.explorer import calls
from tests.explorer import explorer
from tests.explorer import sequences

_DIRECTORY = pathlib.Path(__file__).parents[2] / '.cloud' / 'explorer'
_SEED = int(os.environ.get('ATTACHGUARD_EXPLORER_SEED', '1'))
_MINUTES = float(os.environ.get('ATTACHGUARD_EXPLORER_MINUTES', '5'))
# How long a kind is looked for.
_BOUND = 12.0

# By kind: the scenes in which it is looked for, and the rules that are opened;
# members call what these are about, and few other things.
_KINDS = {
    'unseen is not absent': (['attach as admin'], ['attachment-delete']),
    'migration': (['retype'], ['attachment-delete']),
    'being built': (
        ['fail to boot'],
        ['attachment-delete', 'os-attach'],
    ),
    'reimage': (['attach and keep'], ['os-reimage']),
    'second consumer': (['multiattach'], ['attachment-create:no-server']),
    'export': (['attach and keep'], ['os-initialize_connection']),
}
_OTHER_CALLS = ['delete', 'os-begin_detaching', 'os-reserve']


def test_a_seed_decides_the_whole_sequence() -> None:
    choice = sequences.Choice()
    found = [choice.sequence(seed) for seed in range(200)]
    assert found == [choice.sequence(seed) for seed in range(200)]
    assert {sequence.scene for sequence in found} == {*acts.SCENES}
    assert {call.what for s in found for call in s.calls} == {*calls.CALLS}
    assert {len(sequence.calls) for sequence in found} == {*range(3, 11)}


def test_each_call_can_be_left_out() -> None:
    sequence = sequences.Choice().sequence(3)
    for number, call in enumerate(sequence.calls):
        less = sequence.without(number).calls
        assert less[:number] + [call] + less[number:] == sequence.calls


def test_calls_can_be_chosen_by_name() -> None:
    sequence = sequences.Choice().sequence(3)
    names = {sequence.calls[0].what}
    chosen = [call for call in sequence.calls if call.what in names]
    assert sequence.only(names).calls == chosen
    assert sequence.only(()).bursts == ()


@pytest.fixture(scope='module')
def cloud() -> Iterator[clouds.Cloud]:
    faulthandler.cancel_dump_traceback_later()
    cloud = clouds.Cloud(_DIRECTORY)
    cloud.down()
    try:
        yield cloud
    finally:
        cloud.down()


@pytest.mark.nightly
def test_with_the_guard_the_records_agree(cloud: clouds.Cloud) -> None:
    explorer.start(cloud, guarded=True)
    explore = explorer.Explorer(cloud, sequences.Choice())
    report = explore.run(_SEED, _MINUTES)
    print(report)
    assert not report.by_calls
    assert len(report.unexplained) <= report.sequences / 200
    assert len(report.broken) <= report.sequences / 20
    assert report.moments > report.sequences > _MINUTES


@pytest.mark.nightly
@pytest.mark.parametrize('kind', _KINDS)
def test_an_opened_rule_is_found(cloud: clouds.Cloud, kind: str) -> None:
    scenes, opened = _KINDS[kind]
    explorer.start(cloud, True, opened)
    choice = sequences.Choice(scenes, [*opened, *_OTHER_CALLS])
    explore = explorer.Explorer(cloud, choice)
    report = explore.run(_SEED, _BOUND, first=True)
    print(report)
    assert report.by_calls


@pytest.mark.nightly
def test_without_the_guard_the_same_seeds_find_some(
    cloud: clouds.Cloud,
) -> None:
    explorer.start(cloud, guarded=False)
    explore = explorer.Explorer(cloud, sequences.Choice())
    report = explore.run(_SEED, _BOUND, first=True)
    print(report)
    assert report.by_calls
