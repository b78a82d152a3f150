# SPDX-License-Identifier: Apache-2.0

"""Doubts about a whole inventory."""

from __future__ import annotations

from typing import Any

import pytest

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
