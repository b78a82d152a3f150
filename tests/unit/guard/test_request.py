# SPDX-License-Identifier: Apache-2.0

"""Parsing of a request."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from attachguard.guard import operations
from attachguard.guard import request

PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'
VOLUME = 'aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa'
SERVER = '11111111-aaaa-4aaa-8aaa-111111111111'
ATTACH = {'os-attach': {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'}}
TRANSFER = {'transfer': {'volume_id': VOLUME}}
GROUP = 'eeeeeeee-1111-4111-8111-eeeeeeeeeeee'
WITH_VOLUMES = {'delete': {'delete-volumes': True}}
BY_FORCE = {'consistencygroup': {'force': True}}
CREATE = {'attachment': {'instance_uuid': SERVER, 'volume_uuid': VOLUME}}


def read(
    method: str, path: str, body: Any = b'', **environ: Any
) -> request.Request | None:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    environ = {
        'REQUEST_METHOD': method,
        'PATH_INFO': path,
        'wsgi.input': io.BytesIO(body),
        'CONTENT_LENGTH': str(len(body)),
        **environ,
    }
    path_ = request.match_path(environ)
    if path_ is None:
        return None
    raw = request.read_body(environ, 1024 * 1024)
    assert environ['wsgi.input'].read() == raw
    return request.parse(environ, path_, raw)


def named(*args: Any, **kwargs: Any) -> str | None:
    found = read(*args, **kwargs)
    return None if found is None else found.operation.name


@pytest.mark.parametrize('action', sorted(operations.VOLUME_ACTIONS))
@pytest.mark.parametrize(
    'prefix', ['', f'/{PROJECT}', '/v3', f'/v3/{PROJECT}']
)
def test_each_action_of_a_volume_is_recognised(
    action: str, prefix: str
) -> None:
    path = f'{prefix}/volumes/{VOLUME}/action'
    found = read('POST', path, {action: None})
    assert found is not None
    assert found.operation is operations.OPERATIONS[action]
    assert found.volume_id == VOLUME
    assert found.root == prefix


@pytest.mark.parametrize(
    ('method', 'path', 'body', 'name'),
    [
        ('POST', '/attachments', CREATE, 'attachment-create'),
        ('PUT', f'/attachments/{VOLUME}', CREATE, 'attachment-update'),
        ('DELETE', f'/attachments/{VOLUME}', b'', 'attachment-delete'),
        (
            'POST',
            f'/attachments/{VOLUME}/action',
            {'os-complete': {}},
            'attachment-complete',
        ),
        ('POST', '/volume-transfers', TRANSFER, 'transfer-create'),
        ('POST', '/volume-transfers.json\n', TRANSFER, 'transfer-create'),
        ('POST', '/os-volume-transfer', TRANSFER, 'transfer-create'),
        ('POST', f'/groups/{GROUP}/action', WITH_VOLUMES, 'group-delete'),
        (
            'POST',
            f'/groups/{GROUP}/action.json\n',
            WITH_VOLUMES,
            'group-delete',
        ),
        # The dispatcher of Cinder finds an action of the method's name.
        ('DELETE', f'/groups/{GROUP}', WITH_VOLUMES, 'group-delete'),
        ('DELETE', f'/groups/{GROUP}.json', WITH_VOLUMES, 'group-delete'),
        ('DELETE', f'/consistencygroups/{GROUP}', BY_FORCE, 'group-delete'),
        (
            'POST',
            f'/consistencygroups/{GROUP}/delete',
            BY_FORCE,
            'group-delete',
        ),
    ],
)
@pytest.mark.parametrize('prefix', ['', f'/{PROJECT}'])
def test_each_other_operation_is_recognised(
    prefix: str, method: str, path: str, body: Any, name: str
) -> None:
    assert named(method, prefix + path, body) == name


@pytest.mark.parametrize(
    ('method', 'path', 'body'),
    [
        ('POST', f'/{PROJECT}/volumes', {'volume': {}}),
        ('DELETE', f'/volumes/{VOLUME}', b''),
        ('PUT', f'/volumes/{VOLUME}', {'volume': {}}),
        ('POST', f'/volumes/{VOLUME}/action', {'os-extend': {'new_size': 2}}),
        ('POST', f'/volumes/{VOLUME}/action', {}),
        ('POST', f'/volumes/{VOLUME}/action', ['os-attach']),
        ('POST', f'/volumes/{VOLUME}/action', b'"os-attach"'),
        ('POST', f'/volumes/{VOLUME}/action', {'os-complete': {}}),
        ('POST', f'/snapshots/{VOLUME}/action', ATTACH),
        ('POST', f'/attachments/{VOLUME}/action', ATTACH),
        ('PUT', '/attachments', CREATE),
        ('PATCH', f'/attachments/{VOLUME}', CREATE),
        ('PUT', f'/volumes/{VOLUME}/action', ATTACH),
        ('post', f'/volumes/{VOLUME}/action', ATTACH),
        ('POST', f'/volumes/{VOLUME}/x/action', ATTACH),
        ('POST', f'/volumes/{VOLUME}/action/', ATTACH),
        ('GET', '/volume-transfers', b''),
        ('DELETE', f'/volume-transfers/{VOLUME}', b''),
        ('POST', f'/volume-transfers/{VOLUME}/accept', {'accept': {}}),
        ('POST', '/volumes/attachments/action', {'os-complete': {}}),
        ('POST', '/groups', {'group': {}}),
        ('GET', f'/groups/{GROUP}', b''),
        ('PUT', f'/groups/{GROUP}', {'group': {'add_volumes': VOLUME}}),
        ('DELETE', f'/groups/{GROUP}', b''),
        ('POST', f'/groups/{GROUP}/action', {'reset_status': {}}),
        ('POST', f'/groups/{GROUP}/action', {'delete': {}}),
        ('POST', '/groups/action', WITH_VOLUMES),
        ('POST', f'/group_snapshots/{GROUP}/action', WITH_VOLUMES),
        ('PUT', f'/consistencygroups/{GROUP}/update', BY_FORCE),
        ('DELETE', f'/consistencygroups/{GROUP}', b'null'),
        ('DELETE', f'/consistencygroups/{GROUP}', b'{}'),
    ],
)
def test_other_requests_are_not_guarded(
    method: str, path: str, body: Any
) -> None:
    assert read(method, path, body) is None


@pytest.mark.parametrize('prefix', ['', f'/{PROJECT}', f'/v3/{PROJECT}'])
@pytest.mark.parametrize('end', ['', '\n', '.json'])
@pytest.mark.parametrize('word', ['attachments', 'volumes', 'action'])
def test_a_word_of_a_route_can_be_a_volume(
    prefix: str, end: str, word: str
) -> None:
    path = f'{prefix}/volumes/{word}/action{end}'
    found = read('POST', path, ATTACH)
    assert found is not None
    assert (found.root, found.volume_id) == (prefix, word)


@pytest.mark.parametrize(
    ('flag', 'expected'),
    [
        (True, True),
        ('true', True),
        (' YES ', True),
        ('1', True),
        (1, True),
        (False, False),
        ('false', False),
        ('n', False),
        (0, False),
        # Cinder rejects these, or takes them for no.
        (None, True),
        ('perhaps', True),
        ([], True),
    ],
)
def test_a_group_is_deleted_with_its_volumes_unless_the_body_denies_it(
    flag: Any, expected: bool
) -> None:
    for method, path, body in (
        ('POST', f'/groups/{GROUP}/action', {'delete-volumes': flag}),
        ('DELETE', f'/groups/{GROUP}', {'delete-volumes': flag}),
    ):
        found = read(method, path, {'delete': body})
        assert (found is not None) is expected
    for method, end in (('POST', '/delete'), ('DELETE', '')):
        path = f'/consistencygroups/{GROUP}{end}'
        body = {'consistencygroup': {'force': flag}}
        assert (read(method, path, body) is not None) is expected
    # The last of two equal keys counts.
    twice = json.dumps({'delete-volumes': flag})
    found = read(
        'POST',
        f'/groups/{GROUP}/action',
        b'{"delete": {}, "\\u0064elete": %s}' % twice.encode(),
    )
    assert (found is not None) is expected


@pytest.mark.parametrize('arguments', [None, [], 'true', 1])
def test_a_group_is_deleted_with_its_volumes_if_the_body_is_unclear(
    arguments: Any,
) -> None:
    path = f'/groups/{GROUP}/action'
    assert named('POST', path, {'delete': arguments}) == 'group-delete'


@pytest.mark.parametrize('prefix', ['', f'/{PROJECT}'])
@pytest.mark.parametrize('groups', ['groups', 'consistencygroups'])
def test_a_group_is_that_of_the_path(prefix: str, groups: str) -> None:
    found = read(
        'DELETE',
        f'{prefix}/{groups}/{GROUP}.json',
        {**WITH_VOLUMES, **BY_FORCE},
    )
    assert found is not None
    assert (found.root, found.groups, found.group_id) == (
        prefix,
        groups,
        GROUP,
    )
    assert found.volume_id is None


def test_a_transfer_is_of_the_volume_in_the_body() -> None:
    found = read('POST', '/v3/volume-transfers', TRANSFER)
    assert found is not None
    assert (found.root, found.volume_id) == ('/v3', VOLUME)
    with pytest.raises(request.Unreadable):
        read('POST', '/v3/volume-transfers', {})


@pytest.mark.parametrize(
    ('method', 'path', 'query'),
    [
        ('POST', '/volumes/x/action.json', ''),
        ('POST', '/volumes/x/action\n', ''),
        ('POST', '/volumes/x/action.json\n', ''),
        ('GET', '/volumes/x/action', '_method=POST'),
        ('PUT', '/volumes/x/action', 'a=b&_method=pOsT'),
        ('DELETE', '/volumes/x/action', '_method=GET&_method=post'),
        # Unicode has more letters whose upper case is S.
        ('GET', '/volumes/x/action', '_method=po%C5%BFt'),
        ('POST', '/volumes/x/action', '_method='),
    ],
)
def test_path_and_method_are_parsed_as_routes_parses_them(
    method: str, path: str, query: str
) -> None:
    assert named(method, path, ATTACH, QUERY_STRING=query) == 'os-attach'


def test_a_form_overrides_the_method() -> None:
    form = {'CONTENT_TYPE': 'application/x-www-form-urlencoded; charset=utf-8'}
    path = f'/attachments/{VOLUME}'
    assert named('POST', path, b'_method=delete', **form) == (
        'attachment-delete'
    )
    assert named('POST', path, b'_method=', **form) is None
    assert named('POST', path, b'_method=%ff', **form) is None
    # WebOb does not parse it, in Routes as here.
    form['CONTENT_TYPE'] += ' x'
    assert named('POST', path, b'_method=delete', **form) is None


@pytest.mark.parametrize(
    ('suffix', 'id_'),
    [
        ('', VOLUME),
        ('.json', VOLUME),
        ('.json\n', VOLUME),
        ('\n', f'{VOLUME}\n'),
        ('.xml', f'{VOLUME}.xml'),
        ('.json.json', f'{VOLUME}.json'),
    ],
)
def test_an_attachment_id_ends_where_it_ends_for_routes(
    suffix: str, id_: str
) -> None:
    found = read('DELETE', f'/attachments/{VOLUME}{suffix}')
    assert found is not None
    assert found.attachment_id == id_


@pytest.mark.parametrize(
    'body',
    [
        rb'{"os-attach": {"mountpoint": "x"}}',
        rb' {"\u006fs-attach": {}}',
        rb'{"os\u002dattach": {}}',
        b'\t\r\n{ "os-attach" : {}}',
        rb'{"os-attach": {}, "os-attach": {}}',
        rb'{"os-attach": {}, "\u006fs-attach": {"mountpoint": 1}}',
    ],
)
def test_an_action_is_found_in_any_notation_of_its_key(body: bytes) -> None:
    assert named('POST', '/volumes/x/action', body) == 'os-attach'


def test_the_last_of_repeated_keys_is_used_as_by_cinder() -> None:
    body = b'{"os-attach": {"instance_uuid": "a", "instance_uuid": "b"}}'
    found = read('POST', '/volumes/x/action', body)
    assert found is not None
    assert found.server_id == 'b'


@pytest.mark.parametrize(
    'body',
    [
        b'',
        b'{"os-attach": {}',
        b'{"os-attach": {}} trailing',
        b'\xef\xbb\xbf{"os-attach": {}}',
        '{"os-attach": {}}'.encode('utf-16'),
        b'{"os-attach": "\xff"}',
        b'{"os-attach": {}, "os-extend": {}}',
        b'{"os-attach": ' + b'[' * 100_000,
        b'{"os-attach": ' + b'[' * 60 + b']' * 60 + b'}',
    ],
)
def test_an_ambiguous_body_is_unreadable(body: bytes) -> None:
    with pytest.raises(request.Unreadable):
        read('POST', '/volumes/x/action', body)


@pytest.mark.parametrize(
    'body', [b'', b'[]', b'{}', b'1', b'{"attachment": []}', b'{"volume": {}}']
)
def test_an_attachment_without_arguments_is_unreadable(body: bytes) -> None:
    with pytest.raises(request.Unreadable):
        read('POST', '/attachments', body)


@pytest.mark.parametrize(
    ('body', 'server', 'host', 'rule'),
    [
        (ATTACH, SERVER, None, 'attachguard:os-attach'),
        (
            {'os-attach': {'host_name': 'h', 'mountpoint': 'm'}},
            None,
            'h',
            'attachguard:os-attach:no-server',
        ),
        (
            {'os-attach': {'instance_uuid': SERVER, 'host_name': 'h'}},
            SERVER,
            'h',
            'attachguard:os-attach',
        ),
        (
            {'os-attach': {'instance_uuid': None}},
            None,
            None,
            'attachguard:os-attach:no-server',
        ),
        # An invalid server id still names a server.
        (
            {'os-attach': {'instance_uuid': 0}},
            '0',
            None,
            'attachguard:os-attach',
        ),
        (
            {'os-attach': {'instance_uuid': ''}},
            '',
            None,
            'attachguard:os-attach',
        ),
        ({'os-attach': []}, None, None, 'attachguard:os-attach:no-server'),
    ],
)
def test_server_and_host_of_an_attach(
    body: Any, server: str | None, host: str | None, rule: str
) -> None:
    found = read('POST', f'/volumes/{VOLUME}/action', body)
    assert found is not None
    assert (found.server_id, found.host, found.rule) == (server, host, rule)


def test_volume_and_host_of_an_attachment_create() -> None:
    body = {
        'attachment': {
            'volume_uuid': VOLUME,
            'connector': {'host': 'h'},
        }
    }
    found = read('POST', '/attachments', body)
    assert found is not None
    assert found.volume_id == VOLUME
    assert found.host == 'h'
    assert found.rule == 'attachguard:attachment-create:no-server'


@pytest.mark.parametrize(
    ('value', 'canonical'),
    [
        (SERVER, SERVER),
        (SERVER.upper(), SERVER),
        (f'{{{SERVER}}}', SERVER),
        (f'urn:uuid:{SERVER}', SERVER),
        (SERVER.replace('-', ''), SERVER),
        ('', None),
        (f'{SERVER}/../x', None),
        (f'{SERVER}\n', None),
        ('1' * 10_000, None),
        # int() would take these digits; Cinder does not.
        ('１' * 32, None),
        ('1_' * 16, None),
    ],
)
def test_a_uuid_is_what_cinder_accepts_as_one(
    value: str, canonical: str | None
) -> None:
    assert request.canonical_uuid(value) == canonical


def body_of(environ: dict[str, Any], limit: int = 100) -> bytes:
    body = request.read_body(environ, limit)
    # Cinder reads it again, as WebOb reads it.
    assert request.read_body(environ, limit) == body
    return body


def test_a_body_without_a_length_is_read_where_its_end_is_known() -> None:
    environ = {'wsgi.input': io.BytesIO(b'body'), 'REQUEST_METHOD': 'POST'}
    assert body_of({**environ}) == b''
    assert body_of({**environ, 'wsgi.input_terminated': True}) == b'body'


@pytest.mark.parametrize('length', ['', '0', 'x', '4' * 5000, None])
def test_no_length_is_no_body(length: str | None) -> None:
    environ = {
        'wsgi.input': io.BytesIO(b'body'),
        'CONTENT_LENGTH': length,
        'REQUEST_METHOD': 'POST',
    }
    if length is None:
        del environ['CONTENT_LENGTH']
    assert body_of(environ) == b''


@pytest.mark.parametrize('length', ['5', '+5', '-1'])
def test_a_wrong_length_is_an_error(length: str) -> None:
    environ = {'wsgi.input': io.BytesIO(b'body'), 'CONTENT_LENGTH': length}
    with pytest.raises(OSError, match='length|missing|more bytes'):
        request.read_body(environ, 100)


def test_a_long_body_is_not_read() -> None:
    source = io.BytesIO(b'x' * 1000)
    with pytest.raises(request.BodyTooLarge):
        request.read_body(
            {'wsgi.input': source, 'CONTENT_LENGTH': '1000'}, 100
        )
    assert source.tell() == 0
    with pytest.raises(request.BodyTooLarge):
        request.read_body(
            {'wsgi.input': source, 'wsgi.input_terminated': True}, 100
        )
    assert source.tell() <= 101


def test_a_body_that_was_read_before_is_read_from_its_start() -> None:
    source = io.BytesIO(b'body')
    for length in ({'CONTENT_LENGTH': '4'}, {'wsgi.input_terminated': True}):
        source.seek(2)
        environ = {
            'wsgi.input': source,
            'webob.is_body_seekable': True,
            **length,
        }
        assert request.read_body(environ, 100) == b'body'


@pytest.mark.parametrize('value', [f'x/../{VOLUME}', '', 1, None, [VOLUME]])
def test_an_id_in_a_body_is_a_uuid_or_none(value: Any) -> None:
    found = read(
        'POST', '/attachments', {'attachment': {'volume_uuid': value}}
    )
    assert found is not None
    assert found.volume_id is None
    detach = {'os-detach': {'attachment_id': value}}
    found = read('POST', f'/volumes/{VOLUME}/action', detach)
    assert found is not None
    assert found.attachment_id is None


def test_an_attachment_id_is_read_where_cinder_reads_it() -> None:
    for action, attachment_id in (
        ('os-detach', SERVER),
        ('os-force_detach', SERVER),
        ('os-terminate_connection', None),
    ):
        body = {action: {'attachment_id': SERVER}}
        found = read('POST', f'/volumes/{VOLUME}/action', body)
        assert found is not None
        assert found.attachment_id == attachment_id
