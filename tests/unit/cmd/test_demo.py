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

"""The demo where it cannot run."""

from __future__ import annotations

from importlib import util

import pytest

from attachguard import cmd


def test_missing_packages_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = util.find_spec

    def without_cinder(name: str) -> object:
        return None if name == 'cinder' else find_spec(name)

    monkeypatch.setattr(util, 'find_spec', without_cinder)
    assert cmd.main(['demo']) == 1
    err = capsys.readouterr().err
    assert 'The demo needs cinder' in err
    assert "pip install 'attachguard[demo]'" in err
