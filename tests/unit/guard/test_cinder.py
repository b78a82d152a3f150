# SPDX-License-Identifier: Apache-2.0

"""Reads of Cinder's API through the wrapped application."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from attachguard.guard import cinder
from tests.unit import fakes

MANY = [(f'cccccccc-1111-4111-8111-{n:012}', fakes.SERVER) for n in range(250)]


def reader(app: Any, root: str = '/v3') -> cinder.Cinder:
    return cinder.Cinder(app, fakes.environ('POST', '/v3/x', {}), root)


def test_a_volume_is_read_with_what_decides() -> None:
    app = fakes.FakeCinder([(fakes.ATTACHMENT, None)])
    app.volume[fakes.MIGRATION] = 'migrating'
    volume = reader(app).volume(fakes.VOLUME)
    assert volume == cinder.Volume(
        fakes.VOLUME,
        fakes.PROJECT,
        'in-use',
        'migrating',
        datetime.datetime(2026, 1, 1),
        frozenset([fakes.ATTACHMENT]),
    )
    assert volume.is_busy
    assert volume.is_older_than(30)
    with pytest.raises(cinder.Unknown, match='not listed'):
        reader(app).volume(fakes.UNKNOWN_ID)


def test_the_volumes_of_a_group_are_read() -> None:
    app = fakes.FakeCinder()
    app.volume['group_id'] = fakes.GROUP
    found = list(reader(app).group_volumes(fakes.GROUP))
    assert found == [reader(app).volume(fakes.VOLUME)]
    assert list(reader(app).group_volumes(fakes.UNKNOWN_ID)) == []


@pytest.mark.parametrize('changed', [None, '2999-01-01T00:00:00'])
def test_a_volume_without_a_past_change_is_not_old(
    changed: str | None,
) -> None:
    app = fakes.FakeCinder()
    app.volume |= {'created_at': None, 'updated_at': changed}
    assert not reader(app).volume(fakes.VOLUME).is_older_than(30)


def test_all_pages_of_attachments_are_read_and_no_more() -> None:
    app = fakes.FakeCinder(MANY)
    found = [item.id for item in reader(app).attachments(fakes.VOLUME)]
    assert found == [id_ for id_, _server in MANY]
    assert len(app.calls) == 3
    # A page that is not full is the last one.
    app = fakes.FakeCinder(MANY[:99])
    assert len(list(reader(app).attachments(fakes.VOLUME))) == 99
    assert len(app.calls) == 1


def test_no_page_is_read_that_is_not_needed() -> None:
    app = fakes.FakeCinder(MANY)
    next(iter(reader(app).attachments(fakes.VOLUME)))
    assert len(app.calls) == 1


def test_a_marker_that_vanished_makes_the_list_start_again() -> None:
    app = fakes.FakeCinder(MANY)
    found = reader(app).attachments(fakes.VOLUME)
    first = next(found)
    del app.attachments[99]
    rest = {item.id for item in found}
    assert {first.id, *rest} >= {item['id'] for item in app.attachments}


def test_endless_pages_are_unknown() -> None:
    class Endless(fakes.FakeCinder):
        def _answer(self, *_: Any) -> Any:
            return 200, {'attachments': self.attachments}

    with pytest.raises(cinder.Unknown, match='pages'):
        list(reader(Endless(MANY)).attachments(fakes.VOLUME))


def test_no_further_page_is_read_after_the_deadline() -> None:
    app = fakes.FakeCinder(MANY)
    late = cinder.Cinder(app, fakes.environ('POST', '/v3/x', {}), '/v3', 0.0)
    with pytest.raises(cinder.Unknown, match='no time is left'):
        list(late.attachments(fakes.VOLUME))
    assert len(app.calls) == 1


def test_what_decides_is_read_with_an_elevated_context() -> None:
    contexts = []

    def record(environ: Any, start_response: Any) -> Any:
        contexts.append(environ['cinder.context'])
        return app(environ, start_response)

    app, own = fakes.FakeCinder(MANY[:1]), fakes.Context()
    environ = fakes.environ('POST', '/v3/x', {})
    environ['cinder.context'] = own
    cinder_ = cinder.Cinder(record, environ, '/v3')
    cinder_.check_volume(fakes.VOLUME)
    list(cinder_.own_attachments(fakes.VOLUME))
    assert contexts == [own, own]
    cinder_.volume(fakes.VOLUME)
    cinder_.attachment(MANY[0][0])
    list(cinder_.attachments(fakes.VOLUME))
    list(cinder_.group_volumes(fakes.GROUP))
    assert contexts[2:] == ['elevated'] * 4


def test_an_attachment_is_found_in_the_list_of_it_alone() -> None:
    # Cinder cannot show every one by itself.
    app = fakes.FakeCinder(MANY, connected=False)
    app.fails = lambda method, path: None if 'detail' in path else 400
    for id_, server in MANY[:3]:
        assert reader(app).attachment(id_) == cinder.Attachment(
            id_, fakes.VOLUME, server, 'attached', False
        )
    assert len(app.calls) == 3
    with pytest.raises(cinder.Unknown, match='not listed'):
        reader(app).attachment(fakes.UNKNOWN_ID)


def test_what_is_missing_raises_cinders_response() -> None:
    with pytest.raises(cinder.NotShown) as caught:
        reader(fakes.FakeCinder()).check_attachment(fakes.UNKNOWN_ID)
    response = caught.value.response
    assert response is not None
    assert response.status_int == 404
    assert b'itemNotFound' in response.body


@pytest.mark.parametrize('name', ['detail', 'summary', 'new'])
def test_the_name_of_another_route_is_not_an_id(name: str) -> None:
    app = fakes.FakeCinder()
    with pytest.raises(cinder.NotShown):
        reader(app).check_volume(name)
    with pytest.raises(cinder.NotShown):
        reader(app).check_attachment(name)
    assert app.calls == []


@pytest.mark.parametrize(
    'body',
    [
        {},
        [],
        None,
        {'volumes': [], 'attachments': None},
        {'volumes': [None], 'attachments': 'x'},
        {'volumes': [{'id': fakes.VOLUME}], 'attachments': [None]},
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
        list(cinder_.attachments(fakes.VOLUME))


def test_a_forbidden_list_is_unknown() -> None:
    app = fakes.FakeCinder()
    app.fails = lambda *_: 403
    with pytest.raises(cinder.Unknown, match='403'):
        list(reader(app).attachments(fakes.VOLUME))


def test_a_backup_in_progress_is_found() -> None:
    app = fakes.FakeCinder()
    assert not reader(app).has_backup_in_progress(fakes.VOLUME)
    app.backups = ['available', 'creating']
    assert reader(app).has_backup_in_progress(fakes.VOLUME)
    assert not reader(app).has_backup_in_progress(fakes.UNKNOWN_ID)


def test_a_hidden_migration_status_is_unknown() -> None:
    # Without an elevated context, or by a policy of the operator.
    app = fakes.FakeCinder()
    del app.volume[fakes.MIGRATION]
    with pytest.raises(cinder.Unknown, match='after keystonecontext'):
        reader(app).volume(fakes.VOLUME)
