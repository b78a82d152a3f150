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
