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
"""The short form of the soak: see :mod:`tests.soak.run`."""

from __future__ import annotations

import pathlib

import pytest

from tests.soak import accounting
from tests.soak import faults
from tests.soak import run
from tests.soak import servers


@pytest.mark.parametrize('server', servers.SERVERS)
def test_every_request_is_accounted_for(
    server: str, tmp_path: pathlib.Path
) -> None:
    result = run.soak(server, tmp_path, 20, rate=30)
    assert result.is_clean, run.show(result)
    # It was worth its time.
    assert len(result.sent) > 100
    assert {one.outcome for one in result.sent} == {*accounting.Outcome}
    assert not {*faults.Fault} - {faults.Fault.REFUSE} - {*result.met}


def test_it_notices_that_the_guard_is_gone(tmp_path: pathlib.Path) -> None:
    result = run.soak('gunicorn', tmp_path, 10, rate=30, guard=False)
    forged = [
        finding
        for finding in result.findings
        if finding.wrong is accounting.Wrong.OUTCOME
        and finding.kind.startswith('forged')
    ]
    assert forged
    assert any('left behind: attachment' in what for what in result.wrong)
