# SPDX-License-Identifier: Apache-2.0

"""Doubts about a whole inventory."""

from __future__ import annotations

import pytest

from attachguard.audit.collect import comparison


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
