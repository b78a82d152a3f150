# SPDX-License-Identifier: Apache-2.0

"""Calls of a service, and lists in pages."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
import pytest
import requests

from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from tests.unit.audit.collect import fakes


class Shelf:
    """A list in pages of two, from which rows can be deleted.

    All volumes are in-use.

    :ivar deleted: by marker, what is deleted before that page is read
    """

    def __init__(self, key: str, names: str, links: bool) -> None:
        self.key = key
        self.ids = list(names)
        self.links = links
        self.deleted: dict[str, list[str]] = {}

    def __call__(self, method: str, path: str) -> requests.Response:
        query = fakes.query(path)
        if self.key == 'volumes' and query.get('status') != 'in-use':
            return fakes.reply(200, {'volumes': [], 'count': len(self.ids)})
        marker = query.get('marker')
        for name in self.deleted.pop(marker or '', []):
            self.ids.remove(name)
        start = 0
        if marker is not None:
            if marker not in self.ids:
                status = 404 if self.key in ('volumes', 'projects') else 400
                return fakes.reply(status, fakes.NOT_FOUND)
            start = self.ids.index(marker) + 1
        page = self.ids[start : start + 2]
        shown = {
            'os-vol-host-attr:host': 'h',
            'os-vol-tenant-attr:tenant_id': 'p',
        }
        body: dict[str, Any] = {
            self.key: [{'id': name, **shown} for name in page]
        }
        if self.key == 'projects':
            more = 'http://...' if len(page) == 2 else None
            body['links'] = {'next': more, 'self': '...', 'previous': None}
        elif self.links and len(page) == 2:
            body[f'{self.key}_links'] = [{'rel': 'next', 'href': '...'}]
        return fakes.reply(200, body)


def ids(cloud: api.Cloud, key: str) -> str:
    return ''.join(
        row['id'] for page in getattr(cloud, key)() for row in page.rows
    )


@pytest.mark.parametrize('key', ['volumes', 'attachments', 'servers'])
@pytest.mark.parametrize('names', ['', 'a', 'ab', 'abc', 'abcdef'])
def test_a_list_is_read_to_its_end(key: str, names: str) -> None:
    cloud, adapter = fakes.make(Shelf(key, names, key != 'attachments'))
    assert ids(cloud, key) == names
    for _method, path, _options in adapter.requests:
        assert fakes.query(path)['all_tenants'] == '1'
        assert fakes.query(path)['limit'] in ('1000', '1')


@pytest.mark.parametrize('names', ['', 'a', 'ab', 'abc', 'abcdef'])
def test_the_projects_are_read_to_their_end(names: str) -> None:
    cloud, adapter = fakes.make(Shelf('projects', names, True))
    assert ids(cloud, 'projects') == names
    for _method, path, options in adapter.requests:
        # Keystone has neither.
        assert 'all_tenants' not in path
        assert options['microversion'] is None
        assert fakes.query(path)['limit'] == '1000'


def test_a_keystone_without_pages_lists_all_projects_at_once() -> None:
    body = {'projects': [{'id': name} for name in 'abc'], 'links': {}}
    cloud, adapter = fakes.make(lambda method, path: fakes.reply(200, body))
    assert ids(cloud, 'projects') == 'abc'
    assert len(adapter.requests) == 1


@pytest.mark.parametrize(
    ('key', 'names', 'deleted', 'found'),
    [
        ('volumes', 'abcdef', 'b', 'abcdef'),
        ('servers', 'abcdef', 'b', 'abcdef'),
        ('volumes', 'abcdef', 'ab', 'abcdef'),
        ('attachments', 'abcdef', 'ab', 'abcdef'),
        ('attachments', 'a', 'a', 'a'),
        ('projects', 'abcdef', 'b', 'abcdef'),
    ],
)
def test_a_list_is_continued_where_the_end_of_a_page_is_deleted(
    key: str, names: str, deleted: str, found: str
) -> None:
    shelf = Shelf(key, names, True)
    shelf.deleted = {deleted[-1]: list(deleted)}
    assert ids(fakes.make(shelf)[0], key) == found


def test_all_volumes_are_counted_and_none_twice() -> None:
    cloud, _adapter = fakes.make(Shelf('volumes', 'abcdef', True))
    pages = list(cloud.volumes())
    assert sum(len(page.rows) + page.more for page in pages) == 6
    with pytest.raises(rest.CloudError, match='does not count'):
        list(fakes.always(200, {'volumes': []}).volumes())


def test_a_list_whose_markers_are_never_found_is_an_error() -> None:
    def respond(method: str, path: str) -> requests.Response:
        if 'marker' in fakes.query(path):
            return fakes.reply(404, fakes.NOT_FOUND)
        return fakes.reply(200, {'attachments': [{'id': 'a'}]})

    with pytest.raises(rest.CloudError, match='cannot be listed'):
        ids(fakes.make(respond)[0], 'attachments')


@pytest.mark.parametrize('repeats', [1, 5, 6])
def test_a_server_that_is_listed_again_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    """While it is built, Nova lists its request, and then the server."""
    monkeypatch.setattr(rest, '_PAUSE', 0)
    pages = [['a']] * (1 + repeats) + [['b'], []]

    def respond(method: str, path: str) -> requests.Response:
        return fakes.reply(
            200, {'servers': [{'id': name} for name in pages.pop(0)]}
        )

    cloud = fakes.make(respond)[0]
    if repeats <= 5:
        assert ids(cloud, 'servers').endswith('ab')
    else:
        with pytest.raises(rest.CloudError, match='have no end'):
            ids(cloud, 'servers')


@pytest.mark.parametrize(
    ('status', 'text'),
    [
        (400, 'needs the role admin'),
        (401, 'log in again'),
        (403, 'needs the role admin'),
        (406, 'too old'),
        (500, 'HTTP 500: broken'),
        (200, 'without a list'),
    ],
)
def test_the_error_of_a_list_says_what_to_do(status: int, text: str) -> None:
    cloud = fakes.always(
        status,
        {'fault': {'message': 'broken'}},
        **{'x-openstack-request-id': 'req-1'},
    )
    with pytest.raises(rest.CloudError, match=text) as caught:
        list(cloud.volumes())
    assert 'req-1' in str(caught.value)


def test_a_service_that_hangs_is_named_and_no_longer_read() -> None:
    def hang(method: str, path: str) -> Any:
        time.sleep(60)

    adapter = fakes.Adapter(hang)
    cloud = api.Cloud(fakes.Connection(adapter), timeout=0.05)
    for _ in range(5):
        response = cloud.nova('/servers/x')
        assert response.status is None
        assert 'no complete response from Nova within 0.05 s' in response.why
        assert '--timeout' in response.why
    assert len(adapter.requests) == 3
    # Cinder is read nevertheless, and what has to be written, too.
    with pytest.raises(rest.CloudError, match='from Cinder within 0.05 s'):
        list(cloud.attachments())
    for _ in range(5):
        cloud.cinder('POST', '/volumes/x/action', {'os-unreserve': {}})
    assert len(adapter.requests) == 3 + 1 + 5


def test_a_response_ends_a_row_of_late_ones() -> None:
    late = iter((True, True, False, True, True, False))

    def respond(method: str, path: str) -> Any:
        if next(late):
            raise ksa_exceptions.ConnectTimeout('timed out')
        return fakes.reply(200, {})

    cloud, adapter = fakes.make(respond)
    found = [cloud.nova('/servers/x').status for _ in range(6)]
    assert found == [None, None, 200, None, None, 200]


def test_keystone_is_named_where_a_new_token_takes_too_long() -> None:
    class Hanging(fakes.Session):
        def get_token(self) -> str:
            time.sleep(60)
            return ''

    adapter = fakes.Adapter(lambda method, path: fakes.reply(200, {}))
    cloud = api.Cloud(fakes.Connection(adapter, Hanging()), timeout=0.05)
    with pytest.raises(rest.CloudError, match='response from Keystone within'):
        cloud.log_in()
    assert 'from Keystone within 0.05 s' in cloud.nova('/servers/x').why
    assert adapter.requests == []


def test_reads_are_retried_and_writes_are_not() -> None:
    cloud, adapter = fakes.make(lambda method, path: fakes.reply(200, {}))
    cloud.cinder('GET', '/volumes/x')
    cloud.cinder('DELETE', '/attachments/x')
    cloud.cinder('POST', '/volumes/x/action', {'os-detach': {}})
    read, *writes = (options for _method, _path, options in adapter.requests)
    assert read['status_code_retries']
    for write in writes:
        assert 'status_code_retries' not in write
        assert 'connect_retries' not in write
    for options in (read, *writes):
        assert options['timeout'] == 120
        assert options['redirect'] is False
        assert options['microversion'] == '3.27'


@pytest.mark.parametrize('length', [True, False])
@pytest.mark.parametrize('encoding', [None, 'gzip'])
def test_a_body_is_read_whole_in_any_encoding(
    length: bool, encoding: str | None
) -> None:
    content = json.dumps({'server': {'id': 'x' * 100_000}}).encode()
    sent = content if encoding is None else gzip.compress(content)
    headers = {'Content-Length': str(len(sent))} if length else {}
    if encoding is not None:
        headers['Content-Encoding'] = encoding
    response = fakes.always(200, sent, **headers).nova('/servers/x')
    assert response.body == json.loads(content)


def test_a_body_that_ends_early_is_no_response() -> None:
    cloud = fakes.always(200, b'{}', **{'Content-Length': '3'})
    assert cloud.nova('/servers/x').status is None
