# SPDX-License-Identifier: Apache-2.0

"""Reads of Cinder's API through the wrapped application."""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.guard import cinder
from tests.unit import fakes

MANY = [(f'cccccccc-1111-4111-8111-{n:012}', fakes.SERVER) for n in range(5)]


def reader(app: Any, root: str = '/v3') -> cinder.Cinder:
    return cinder.Cinder(app, fakes.environ('POST', '/v3/x', {}), root)


def test_a_volume_has_its_canonical_id_and_project() -> None:
    volume = reader(fakes.FakeCinder()).volume(fakes.VOLUME)
    assert volume == cinder.Volume(fakes.VOLUME, fakes.PROJECT)
    assert volume.api_headers['OpenStack-API-Version'] == 'volume 3.44'


def test_all_pages_of_attachments_are_read() -> None:
    found = reader(fakes.FakeCinder(MANY)).attachments(fakes.VOLUME)
    assert [item.id for item in found] == [id_ for id_, _server in MANY]
    assert {item.server_id for item in found} == {fakes.SERVER}


def test_endless_pages_are_unknown() -> None:
    class Endless(fakes.FakeCinder):
        def _answer(self, *_: Any) -> Any:
            return 200, {'attachments': self.attachments}

    with pytest.raises(cinder.Unknown, match='pages'):
        reader(Endless(MANY)).attachments(fakes.VOLUME)


def test_an_attachment_that_cinder_cannot_show_is_found_in_the_list() -> None:
    app = fakes.FakeCinder(MANY)
    app.fails = lambda method, path: 400 if '/attachments/' in path else None
    for id_, server in MANY:
        assert reader(app).attachment(id_) == cinder.Attachment(
            id_, fakes.VOLUME, server, 'attached'
        )
    with pytest.raises(cinder.Unknown):
        reader(app).attachment(fakes.UNKNOWN_ID)


def test_a_missing_attachment_raises_cinders_response() -> None:
    with pytest.raises(cinder.NotShown) as caught:
        reader(fakes.FakeCinder()).attachment(fakes.UNKNOWN_ID)
    response = caught.value.response
    assert response is not None
    assert response.status_int == 404
    assert b'itemNotFound' in response.body


@pytest.mark.parametrize('name', ['detail', 'summary', 'new'])
def test_the_name_of_another_route_is_not_an_id(name: str) -> None:
    app = fakes.FakeCinder()
    with pytest.raises(cinder.NotShown):
        reader(app).volume(name)
    with pytest.raises(cinder.NotShown):
        reader(app).attachment(name)
    assert app.calls == []


@pytest.mark.parametrize(
    'body',
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
def test_an_invalid_response_is_unknown(body: Any) -> None:
    class Strange(fakes.FakeCinder):
        def _answer(self, *_: Any) -> Any:
            return 200, body

    cinder_ = reader(Strange())
    with pytest.raises(cinder.Unknown):
        cinder_.volume(fakes.VOLUME)
    with pytest.raises(cinder.Unknown):
        cinder_.attachment(fakes.ATTACHMENT)
    with pytest.raises(cinder.Unknown):
        cinder_.attachments(fakes.VOLUME)


def test_a_forbidden_list_is_unknown() -> None:
    app = fakes.FakeCinder()
    app.fails = lambda *_: 403
    with pytest.raises(cinder.Unknown, match='403'):
        reader(app).attachments(fakes.VOLUME)
