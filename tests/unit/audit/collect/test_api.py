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

"""How a cloud is asked: pages, errors, and what an answer proves."""

from __future__ import annotations

from collections.abc import Callable
import gzip
import io
import json
import types
from typing import Any
from urllib import parse

from keystoneauth1 import exceptions as ksa_exceptions
import pytest
import requests
import urllib3

from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from tests.unit.audit import cases

Answerer = Callable[[str, str], Any]


class Adapter:
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def get_endpoint(self) -> str:
        return 'http://here'

    def request(self, path: str, method: str, **how: Any) -> Any:
        self.asked.append((method, path, how))
        return self._answer(method, path)


def reply(status: int, body: Any, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response.raw = urllib3.HTTPResponse(
        io.BytesIO(content), preload_content=False
    )
    return response


def make(answer: Answerer) -> tuple[api.Cloud, Adapter]:
    adapter = Adapter(answer)
    connection: Any = types.SimpleNamespace(
        block_storage=adapter, compute=adapter
    )
    return api.Cloud(connection), adapter


def always(status: int, body: Any, **headers: str) -> api.Cloud:
    return make(lambda method, path: reply(status, body, **headers))[0]


def query(path: str) -> dict[str, str]:
    return dict(parse.parse_qsl(parse.urlsplit(path).query))


class Shelf:
    """A list in pages of two, from which rows can disappear."""

    def __init__(self, key: str, names: str, links: bool) -> None:
        self.key = key
        self.ids = list(names)
        self.links = links
        self.gone: dict[str, list[str]] = {}

    def __call__(self, method: str, path: str) -> requests.Response:
        marker = query(path).get('marker')
        for name in self.gone.pop(marker or '', []):
            self.ids.remove(name)
        start = 0
        if marker is not None:
            if marker not in self.ids:
                status = 404 if self.key == 'volumes' else 400
                return reply(status, {'itemNotFound': {'message': 'marker'}})
            start = self.ids.index(marker) + 1
        page = self.ids[start : start + 2]
        body: dict[str, Any] = {self.key: [{'id': name} for name in page]}
        if self.links and len(page) == 2:
            body[f'{self.key}_links'] = [{'rel': 'next', 'href': '...'}]
        return reply(200, body)


def ids(cloud: api.Cloud, key: str) -> list[str]:
    return [row['id'] for page in getattr(cloud, key)() for row in page.rows]


@pytest.mark.parametrize('key', ['volumes', 'attachments', 'servers'])
@pytest.mark.parametrize('names', ['', 'a', 'ab', 'abc', 'abcdef'])
def test_a_list_is_read_to_its_end(key: str, names: str) -> None:
    cloud, adapter = make(Shelf(key, names, key != 'attachments'))
    assert ''.join(ids(cloud, key)) == names
    for _method, path, _how in adapter.asked:
        assert query(path)['all_tenants'] == '1'
        assert query(path)['limit'] == '1000'


@pytest.mark.parametrize('key', ['volumes', 'servers'])
def test_a_list_goes_on_where_the_last_of_a_page_is_deleted(key: str) -> None:
    shelf = Shelf(key, 'abcdef', True)
    shelf.gone = {'b': ['b']}
    cloud, _adapter = make(shelf)
    found = ids(cloud, key)
    assert set(found) == set('abcdef')
    assert found[2:] == list('cdef')


@pytest.mark.parametrize('key', ['volumes', 'attachments'])
def test_a_list_that_loses_a_whole_page_is_read_anew(key: str) -> None:
    shelf = Shelf(key, 'abcdef', True)
    shelf.gone = {'b': ['a', 'b']}
    found = ids(make(shelf)[0], key)
    assert found[-4:] == list('cdef')


def test_a_list_of_one_that_goes_away_is_empty() -> None:
    shelf = Shelf('attachments', 'a', False)
    shelf.gone = {'a': ['a']}
    assert ids(make(shelf)[0], 'attachments') == ['a']


def test_a_list_that_is_never_the_same_is_an_error() -> None:
    def answer(method: str, path: str) -> requests.Response:
        if 'marker' in query(path):
            return reply(404, {'itemNotFound': {'message': 'marker'}})
        return reply(200, {'attachments': [{'id': 'a'}]})

    with pytest.raises(rest.CloudError, match='cannot be listed'):
        ids(make(answer)[0], 'attachments')


@pytest.mark.parametrize(
    ('status', 'says'),
    [
        (401, 'log in again'),
        (403, 'needs the role admin'),
        (406, 'too old'),
        (500, 'HTTP 500: broken'),
        (200, 'without a list'),
    ],
)
def test_a_list_that_is_not_to_be_had_says_what_to_do(
    status: int, says: str
) -> None:
    cloud = always(
        status,
        {'fault': {'message': 'broken'}},
        **{'x-openstack-request-id': 'req-1'},
    )
    with pytest.raises(rest.CloudError, match=says) as caught:
        list(cloud.volumes())
    assert 'req-1' in str(caught.value)


@pytest.mark.parametrize('body', [b'<html>', b'', b'[1, 2]', b'"x"', b'nul'])
def test_what_is_no_json_object_is_no_answer(body: bytes) -> None:
    answer = always(200, body).nova('/servers/x')
    assert answer.body == {}
    server = api.server_from(answer, cases.SERVER, cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN


def test_reads_are_tried_again_and_writes_are_not() -> None:
    cloud, adapter = make(lambda method, path: reply(200, {}))
    cloud.cinder('GET', '/volumes/x')
    cloud.cinder('DELETE', '/attachments/x')
    cloud.cinder('POST', '/volumes/x/action', {'os-detach': {}})
    read, delete, act = (how for _method, _path, how in adapter.asked)
    assert read['status_code_retries']
    for write in (delete, act):
        assert 'status_code_retries' not in write
        assert 'connect_retries' not in write
    for how in (read, delete, act):
        assert how['timeout'] == 120
        assert how['redirect'] is False
        assert how['microversion'] == '3.27'


@pytest.mark.parametrize('length', [True, False])
@pytest.mark.parametrize('encoding', [None, 'gzip'])
def test_a_body_is_read_whole_however_it_comes(
    length: bool, encoding: str | None
) -> None:
    content = json.dumps({'server': {'id': 'x' * 100_000}}).encode()
    sent = content if encoding is None else gzip.compress(content)
    headers = {'Content-Length': str(len(sent))} if length else {}
    if encoding is not None:
        headers['Content-Encoding'] = encoding

    def answer(method: str, path: str) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.headers.update(headers)
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(sent), headers=headers, preload_content=False
        )
        return response

    assert make(answer)[0].nova('/servers/x').body == json.loads(content)


def test_what_never_answers_is_unknown() -> None:
    def fail(method: str, path: str) -> Any:
        raise ksa_exceptions.ConnectTimeout('timed out')

    cloud, _adapter = make(fail)
    server, evidence = cloud.server(cases.SERVER, cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN
    assert 'timed out' in server.why
    assert evidence.status is None


NOT_FOUND = {'itemNotFound': {'code': 404, 'message': 'no'}}
SHOWN = {
    'id': cases.SERVER,
    'status': 'ACTIVE',
    'OS-EXT-STS:task_state': None,
    'OS-EXT-SRV-ATTR:host': 'compute1',
    'os-extended-volumes:volumes_attached': [{'id': cases.VOLUME}],
}


@pytest.mark.parametrize(
    ('status', 'body', 'word'),
    [
        (200, {'server': SHOWN}, cases.HAS),
        (
            200,
            {'server': {**SHOWN, 'os-extended-volumes:volumes_attached': []}},
            cases.LACKS,
        ),
        (404, NOT_FOUND, cases.GONE),
        (404, {'message': 'no route'}, cases.UNKNOWN),
        (404, b'<html>', cases.UNKNOWN),
        (401, {}, cases.UNKNOWN),
        (403, {}, cases.UNKNOWN),
        (500, {}, cases.UNKNOWN),
        (302, {}, cases.UNKNOWN),
        (200, {}, cases.UNKNOWN),
        (200, {'server': []}, cases.UNKNOWN),
        (200, {'server': {**SHOWN, 'status': 'UNKNOWN'}}, cases.UNKNOWN),
        (200, {'server': {'id': cases.SERVER}}, cases.UNKNOWN),
        (200, {'server': {**SHOWN, 'id': cases.OTHER}}, cases.UNKNOWN),
    ],
)
def test_only_novas_own_404_says_that_a_server_is_gone(
    status: int, body: Any, word: model.Presence
) -> None:
    server, evidence = always(status, body).server(cases.SERVER, cases.VOLUME)
    assert server.presence is word
    assert evidence.status == status
    assert evidence.result


@pytest.mark.parametrize(
    ('status', 'body', 'word', 'by'),
    [
        (
            200,
            {'volumeAttachment': {'attachment_id': cases.FIRST}},
            cases.HAS,
            cases.FIRST,
        ),
        # Attached before the Queens release.
        (404, NOT_FOUND, cases.HAS, None),
        (404, b'', cases.UNKNOWN, None),
        (500, {}, cases.UNKNOWN, None),
    ],
)
def test_by_which_attachment_is_known_or_it_is_not(
    status: int, body: Any, word: model.Presence, by: str | None
) -> None:
    server, _evidence = always(status, body).nova_attachment(
        cases.server(cases.HAS), cases.VOLUME
    )
    assert (server.presence, server.attachment_id) == (word, by)


def test_an_id_that_is_no_uuid_never_becomes_an_address() -> None:
    cloud, adapter = make(lambda method, path: reply(404, NOT_FOUND))
    server, _evidence = cloud.server('../flavors?x=', cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN
    assert adapter.asked == []
    # Cinder takes these for UUIDs.
    cloud.server(cases.SERVER.upper(), cases.VOLUME)
    cloud.server(cases.SERVER.replace('-', ''), cases.VOLUME)
    assert {path for _m, path, _h in adapter.asked} == {
        f'/servers/{cases.SERVER}'
    }


def test_a_cell_that_does_not_answer_is_told() -> None:
    cloud = always(
        200,
        {
            'services': [
                {'binary': 'nova-compute', 'host': 'a', 'status': 'enabled'},
                {'binary': 'nova-compute', 'host': 'b', 'status': 'UNKNOWN'},
            ]
        },
    )
    hosts, down = cloud.compute_hosts()
    assert hosts == {'a', 'b'}
    assert len(down) == 1
