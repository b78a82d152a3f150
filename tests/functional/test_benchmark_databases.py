# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the inventory by the databases works.

The times mean nothing here: there are few volumes.
"""

from __future__ import annotations

import pytest

from tests.functional.real import databases as servers

benchmark = pytest.importorskip('benchmarks.databases')


@pytest.mark.newest
def test_both_programs_read_what_is_generated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with servers.required('mysql') as server:
        arguments = ('--volumes=2000', '--repeat=1')
        assert benchmark.main(['--url', server.url, *arguments]) == 0
    printed = capsys.readouterr().out
    assert '2,000 volumes, 1,000 attachments and servers' in printed
    assert 'CPU / PyMySQL' in printed
