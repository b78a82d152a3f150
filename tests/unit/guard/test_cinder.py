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

"""What Cinder knows, asked of the wrapped application."""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.guard import cinder
from attachguard.guard import request
from tests.unit import fakes

MANY = [(f'cccccccc-1111-4111-8111-{n:012}', fakes.SERVER) for n in range(5)]


def asking(app: Any, root: str = '/v3') -> cinder.Cinder:
    return cinder.Cinder(app, fakes.environ('POST', '/v3/x', {}), root)


def test_a_volume_has_its_canonical_id_and_its_project() -> None:
    volume = asking(fakes.FakeCinder()).volume(fakes.VOLUME)
    assert volume == cinder.Volume(fakes.VOLUME, fakes.PROJECT)


def test_all_pages_of_attachments_are_read_however_short() -> None:
    found = asking(fakes.FakeCinder(MANY)).attachments_of(fakes.VOLUME)
    assert [item.id for item in found] == [id_ for id_, _server in MANY]
    assert {item.server_id for item in found} == {fakes.SERVER}


def test_pages_that_never_end_are_unknown() -> None:
    class Endless(fakes.FakeCinder):
        def _answer(self, *_: Any) -> Any:
            return 200, {'attachments': self.attachments}

    with pytest.raises(cinder.Unknown, match='pages'):
        asking(Endless(MANY)).attachments_of(fakes.VOLUME)


def test_an_attachment_that_cinder_cannot_show_is_found_in_the_list() -> None:
    app = fakes.FakeCinder(MANY)
    app.fails = lambda method, path: 400 if '/attachments/' in path else None
    for id_, server in MANY:
        assert asking(app).attachment(id_) == cinder.Attachment(
            id_, fakes.VOLUME, server, 'attached'
        )
    with pytest.raises(cinder.Unknown):
        asking(app).attachment(fakes.UNKNOWN_ID)


def test_what_is_missing_is_refused_with_cinders_answer() -> None:
    with pytest.raises(cinder.Refused) as caught:
        asking(fakes.FakeCinder()).attachment(fakes.UNKNOWN_ID)
    response = caught.value.response
    assert response is not None
    assert response.status_int == 404
    assert b'itemNotFound' in response.body


@pytest.mark.parametrize('name', ['detail', 'summary', 'new'])
def test_the_name_of_another_route_is_no_id(name: str) -> None:
    app = fakes.FakeCinder()
    with pytest.raises(cinder.Refused):
        asking(app).volume(name)
    with pytest.raises(cinder.Refused):
        asking(app).attachment(name)
    assert app.calls == []


@pytest.mark.parametrize(
    'answer',
    [
        {},
        [],
        None,
        {'volume': None},
        {'volume': {}},
        {'volume': 'x'},
        {'attachments': {}},
        {'attachments': [{}]},
        {'attachments': ['x']},
        {'attachment': {'id': 'x'}},
    ],
    ids=str,
)
def test_an_answer_that_is_something_else_is_unknown(answer: Any) -> None:
    class Strange(fakes.FakeCinder):
        def _answer(self, *_: Any) -> Any:
            return 200, answer

    asked = asking(Strange())
    with pytest.raises(cinder.Unknown):
        asked.volume(fakes.VOLUME)
    with pytest.raises(cinder.Unknown):
        asked.attachment(fakes.ATTACHMENT)
    with pytest.raises(cinder.Unknown):
        asked.attachments_of(fakes.VOLUME)


def test_a_list_that_is_forbidden_is_unknown() -> None:
    app = fakes.FakeCinder()
    app.fails = lambda *_: 403
    with pytest.raises(cinder.Unknown, match='403'):
        asking(app).attachments_of(fakes.VOLUME)


def test_what_can_not_be_asked_of_nothing_is_not_rehearsed() -> None:
    app = fakes.FakeCinder()
    asked = request.Request(None, '/v3/attachments', None, '/v3', b'{')
    assert asking(app).rehearse(asked) is None
    assert app.calls == []


def test_a_rehearsal_that_succeeds_is_a_cry_for_help(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = fakes.FakeCinder()
    app.fails = lambda *_: 202
    asked = request.Request(
        None, f'/v3/volumes/{fakes.VOLUME}/action', (12, 48), '/v3', b'{}'
    )
    assert asking(app).rehearse(asked) is not None
    assert caplog.records[-1].levelname == 'CRITICAL'
