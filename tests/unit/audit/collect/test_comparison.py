# SPDX-License-Identifier: Apache-2.0

"""Doubts about a whole inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
import uuid

import pytest

from attachguard.audit import model
from attachguard.audit.collect import comparison
from tests.unit.audit.collect import fakes


@pytest.mark.parametrize(
    ('attachments', 'confirmed', 'servers', 'doubt'),
    [
        (0, 0, 0, ''),
        (5, 5, 3, ''),
        (1, 0, 0, 'Nova lists no server at all'),
        (1, 0, 3, 'are they of the same cloud'),
        # A few missing attachments may just be inconsistent.
        (21, 1, 3, ''),
        (22, 1, 3, 'does another Nova use this Cinder'),
        (100, 50, 3, ''),
        (100, 49, 3, 'does another Nova use this Cinder'),
    ],
)
def test_both_sides_have_to_agree_on_enough_attachments(
    attachments: int, confirmed: int, servers: int, doubt: str
) -> None:
    agreement = comparison.Agreement(attachments, confirmed)
    found = agreement.doubt(servers)
    assert doubt in found
    assert bool(doubt) == bool(found)


_LONG_AGO = '2026-01-01T00:00:00.000000'


def check_again(
    volumes: Mapping[str, str | None],
    servers: Mapping[str, str],
    agreement: comparison.Agreement,
) -> comparison.Agreement:
    """Check an agreement on nothing again.

    :param volumes: when each changed, by the id; None for those that are gone
    :param servers: the volume of each, by the id
    """

    def respond(method: str, path: str) -> Any:
        kind, name = path.strip('/').split('/')
        if kind == 'volumes' and volumes.get(name):
            row = {'id': name, 'status': 'in-use', 'updated_at': volumes[name]}
            return fakes.reply(200, {'volume': row})
        if kind == 'servers' and name in servers:
            held = [{'id': servers[name]}]
            return fakes.reply(
                200,
                {
                    'server': {
                        'id': name,
                        'os-extended-volumes:volumes_attached': held,
                    }
                },
            )
        return fakes.reply(404, fakes.NOT_FOUND)

    cloud, _adapter = fakes.make(respond)
    return comparison.check_again(cloud, agreement)


def test_servers_that_come_and_go_are_no_other_cloud() -> None:
    volumes = [str(uuid.uuid4()) for _ in range(2)]
    server = str(uuid.uuid4())
    missing = tuple((volume, server) for volume in volumes)
    none = comparison.Agreement(2, 0, missing)
    now = model.stamp()
    # They are deleted, or were changed just now.
    found = check_again({volumes[1]: now}, {}, none)
    assert found == comparison.Agreement()
    assert found.doubt(0) == ''
    # Nova has one of them, which it did not list.
    old = dict.fromkeys(volumes, _LONG_AGO)
    found = check_again(old, {server: volumes[1]}, none)
    assert found == comparison.Agreement(2, 1)
    assert found.doubt(0) == ''


def test_attachments_that_stay_are_still_of_another_cloud() -> None:
    volumes = [str(uuid.uuid4()) for _ in range(30)]
    server = str(uuid.uuid4())
    missing = tuple((volume, server) for volume in volumes)
    old = dict.fromkeys(volumes, _LONG_AGO)
    for servers in ({}, {server: str(uuid.uuid4())}):
        found = check_again(old, servers, comparison.Agreement(30, 0, missing))
        assert 'same cloud' in found.doubt(1)
        assert 'no server at all' in found.doubt(0)
    # Not all of many are tried.
    recent = dict.fromkeys(volumes, model.stamp())
    found = check_again(recent, {}, comparison.Agreement(30, 0, missing))
    assert 'same cloud' in found.doubt(1)
    # Nothing is known about them.
    failing = fakes.always(500, b'')
    found = comparison.check_again(
        failing, comparison.Agreement(1, 0, missing[:1])
    )
    assert 'same cloud' in found.doubt(1)


def visibility(shown: str, listed: str, deleted: str = 'abc') -> str:
    """The doubt about what Nova shows of the servers of other projects.

    :param shown: the servers that it shows
    :param listed: those that it lists when it is queried again
    :param deleted: those that were listed before
    """

    def respond(method: str, path: str) -> Any:
        if 'detail' in path:
            servers = [{'id': name, 'tenant_id': 'x'} for name in listed]
            return fakes.reply(200, {'servers': servers})
        if path.removeprefix('/servers/') in shown:
            return fakes.reply(200, {'server': {}})
        return fakes.reply(404, fakes.NOT_FOUND)

    cloud, _adapter = fakes.make(respond)
    return comparison.visibility_doubt(cloud, list(deleted))


def test_servers_that_were_deleted_since_prove_nothing() -> None:
    assert visibility(shown='c', listed='') == ''
    # All of them are, and new ones are there.
    assert visibility(shown='de', listed='de') == ''
    assert visibility(shown='', listed='', deleted='') == ''


def test_servers_that_are_listed_and_never_shown_are_a_doubt() -> None:
    assert 'need the role admin' in visibility(shown='', listed='de')
