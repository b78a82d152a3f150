# SPDX-License-Identifier: Apache-2.0

"""Any number of requests, made by mutating and combining the forms.

The n-th request of a seed is always the same, and can be made alone.
"""

from __future__ import annotations

import collections.abc
import json
import random
import re
from typing import Any

from tests.differential import forms
from tests.differential import router

Mutation = collections.abc.Callable[
    [random.Random, forms.Request], forms.Request
]

_IDS = (
    *(row.id for row in router.VOLUMES),
    *(row.id for row in router.ATTACHMENTS),
    *(row.id for row in router.GROUPS),
    router.SERVER,
    router.OTHER_SERVER,
    '00000000-0000-0000-0000-000000000000',
    'new',
    'edit',
)
_UUID = re.compile(
    r'[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-'
    r'[0-9a-fA-F]{12}'
)
_SERVERS = (
    router.SERVER,
    router.SERVER,
    router.OTHER_SERVER,
    'deadbeef-0000-4000-8000-00000000cafe',
)
_METHODS = (
    *('POST', 'PUT', 'DELETE', 'GET') * 4,
    'HEAD',
    'PATCH',
    'OPTIONS',
    'post',
    'Put',
    'PO\u017fT',
    '_METHOD',
    'POST\n',
    '',
)
_PIECES_OF_PATHS = (
    '/',
    '//',
    '.',
    '..',
    '.json',
    '.xml',
    '.json\n',
    '\n',
    '\r',
    '\0',
    '\x01',
    ' ',
    ';',
    '?',
    '#',
    '%',
    '%2F',
    '%0A',
    '%2e',
    '\\',
    '\xc3\x80',
    '\xc2\xad',
    '\xff',
    '{}',
    '(id)',
    '+',
    'volumes',
    'attachments',
    'groups',
    'consistencygroups',
    'action',
    'delete',
    'detail',
    'edit',
    'new',
    'a',
    '-',
    '0',
)
_PREFIXES = (
    '',
    '',
    f'/{router.PROJECT}',
    f'/{router.PROJECT}',
    f'/{router.PROJECT.upper()}',
    f'/{router.STRANGER}',
    '/a',
    '/-',
    '/v3',
    '/',
    '/ ',
    *(f'/{word}' for word in router.WORDS),
)
_FIELDS = (
    '_method',
    '_method',
    '_method',
    '%5Fmethod',
    '_metho%64',
    '_METHOD',
    'x_method',
    '_method ',
    'x',
    'limit',
    'all_tenants',
    'volume_id',
)
_VALUES = (
    *('POST', 'PUT', 'DELETE', 'post', 'put', 'delete', 'pUt', 'Post'),
    'GET',
    'HEAD',
    '',
    'po%C5%BFt',
    '%50UT',
    'PUT%0A',
    'PUT+',
    '%FF',
    '_method',
    '1',
)
_SEPARATORS = ('&', '&', '&', ';', '&&', '?', '%26')
_TYPES = (
    *(forms.JSON,) * 4,
    'application/vnd.openstack.volume+json',
    'application/json; charset=utf-8',
    'application/json;charset=utf-16',
    'Application/JSON',
    'application/json ',
    'text/plain',
    forms.FORM,
    f'{forms.FORM}; charset=utf-8',
    'multipart/form-data; boundary=x',
    'multipart/form-data',
    '',
    None,
)
_VERSIONS = (
    *(forms.LATEST,) * 4,
    'volume 3.27',
    'volume 3.26',
    'volume 3.44',
    'volume 3.43',
    'volume 3.0',
    'volume 3.72',
    'volume latest',
    'compute 2.1,volume 3.60',
    'volume 3.60,volume 3.0',
    'xvolume 3.60',
    'volume',
    'volume 3',
    'volume 3.x',
    '',
    None,
)
_ACCEPTS = (
    None,
    forms.JSON,
    '*/*',
    'application/xml',
    'application/vnd.openstack.volume+json',
    'application/*;q=0',
    ',,;q',
    '',
)
_LENGTHS = ('auto', 'auto', None, '0', '', '-1', '-0', '1_0', '+2', 'x', '5')
_KEYS = (
    *forms.OPERATIONS,
    'os-extend',
    'os-set_bootable',
    'revert',
    'attachment',
    'volume',
    'instance_uuid',
    'volume_uuid',
    'attachment_id',
    'host_name',
    'mountpoint',
    'connector',
    'delete',
    'delete-volumes',
    'consistencygroup',
    'force',
    'type',
    'id',
)


def _nested(depth: int) -> dict[str, Any]:
    return {'a': _nested(depth - 1)} if depth else {}


_LEAVES: tuple[Any, ...] = (
    _nested(45),
    _nested(60),
    None,
    True,
    0,
    -1,
    1.5,
    float('nan'),
    '',
    'x',
    [],
    {},
    '\ud800',
    *_IDS,
)
_BYTES = (
    b'\xef\xbb\xbf',
    b'\xff',
    b'\0',
    b'"',
    b'\\',
    b'\\u0000',
    b'{',
    b'}',
    b'[',
    b']',
    b',',
    b':',
    b' ',
    b'\n',
    b'\x0b',
    b'null',
    b'NaN',
    b'/*',
    b'_method=PUT&',
)


def request(seed: int, index: int) -> forms.Request:
    """The request of an index.

    :param seed: of the run
    :param index: from 0; the first are the forms themselves
    """
    if index < len(forms.FORMS):
        return forms.FORMS[index].request
    rng = random.Random(f'{seed}:{index}')
    made = rng.choice(forms.FORMS).request
    for _mutation in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        made = rng.choice(_MUTATIONS)(rng, made)
    return made


def _method(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(method=rng.choice(_METHODS))


def _override(rng: random.Random, made: forms.Request) -> forms.Request:
    fields = [
        rng.choice(_FIELDS)
        + rng.choice(('=', '=', '=', '', '==', '%3D'))
        + rng.choice(_VALUES)
        for _field in range(rng.choice((1, 1, 2, 3)))
    ]
    query = rng.choice(_SEPARATORS).join(fields)
    if made.query and rng.random() < 0.3:
        query = made.query + rng.choice(_SEPARATORS) + query
    if rng.random() < 0.5:
        made = made.but(method=rng.choice(_METHODS))
    return made.but(query=query)


def _no_query(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(query=rng.choice(('', None)))


def _path(rng: random.Random, made: forms.Request) -> forms.Request:
    path = made.path or ''
    at = rng.randrange(len(path) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        path = path[:at] + rng.choice(_PIECES_OF_PATHS) + path[at:]
    elif kind == 1:
        path = path[:at] + path[at + 1 :]
    elif kind == 2:
        path += rng.choice(_PIECES_OF_PATHS)
    else:
        parts = path.split('/')
        parts[rng.randrange(len(parts))] = rng.choice(
            (*_PIECES_OF_PATHS, *_IDS)
        )
        path = '/'.join(parts)
    return made.but(path=path)


def _prefix(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(path=rng.choice(_PREFIXES) + (made.path or ''))


def _suffix(rng: random.Random, made: forms.Request) -> forms.Request:
    suffix = rng.choice(('.json', '\n', '.json\n', '.json.json', '/', '.'))
    return made.but(path=(made.path or '') + suffix)


def _other_id(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(
        path=_UUID.sub(lambda found: rng.choice(_IDS), made.path or '')
    )


def _word(rng: random.Random, made: forms.Request) -> forms.Request:
    # A word of the routes instead of another, or of an id.
    parts = (made.path or '').split('/')
    parts[rng.randrange(len(parts))] = rng.choice(router.WORDS)
    return made.but(path='/'.join(parts))


def _same_id(rng: random.Random, made: forms.Request) -> forms.Request:
    def change(found: re.Match[str]) -> str:
        uuid = found[0]
        at = rng.randrange(len(uuid))
        return rng.choice(
            (
                uuid.upper(),
                uuid[:at] + uuid[at:].upper(),
                f'{uuid} ',
                f' {uuid}',
                uuid[:at] + rng.choice(('\x01', '\0', '\xc2\xad')) + uuid[at:],
                uuid.replace('a', '\xc3\x80', 1),
                uuid.replace('-', ''),
                f'{{{uuid}}}',
                f'urn:uuid:{uuid}',
                f'{uuid}\n',
                f'%{ord(uuid[0]):x}{uuid[1:]}',
            )
        )

    if rng.random() < 0.5:
        return made.but(path=_UUID.sub(change, made.path or ''))
    body = _UUID.sub(change, made.body.decode('latin-1'))
    return made.but(body=body.encode('latin-1'))


def _other_path(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(path=rng.choice(forms.FORMS).request.path)


def _other_body(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(body=rng.choice(forms.FORMS).request.body)


def _other_framing(rng: random.Random, made: forms.Request) -> forms.Request:
    other = rng.choice(forms.FORMS).request
    return made.but(
        length=other.length,
        terminated=other.terminated,
        seekable=other.seekable,
        piece=other.piece,
    )


def _framing(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(
        length=rng.choice((*_LENGTHS, str(len(made.body)))),
        terminated=rng.choice((None, None, True, False)),
        seekable=rng.random() < 0.3,
        piece=rng.choice((0, 0, 0, 1, 5)),
    )


def _type(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(content_type=rng.choice(_TYPES))


def _version(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(version=rng.choice(_VERSIONS))


def _accept(rng: random.Random, made: forms.Request) -> forms.Request:
    return made.but(accept=rng.choice(_ACCEPTS))


def _bytes(rng: random.Random, made: forms.Request) -> forms.Request:
    # Where a body is long, its beginning and its end are what matters.
    at = rng.randrange(min(len(made.body), 200) + 1)
    if rng.random() < 0.3:
        at = len(made.body) - at
    kind = rng.randrange(3)
    body = made.body
    if kind == 0:
        body = body[:at] + rng.choice(_BYTES) + body[at:]
    elif kind == 1:
        body = body[:at] + body[at + 1 :]
    else:
        body = body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
    return made.but(body=body)


def _encoding(rng: random.Random, made: forms.Request) -> forms.Request:
    text = made.body.decode('latin-1')
    encoding = rng.choice(('utf-8-sig', 'utf-16', 'utf-16-be', 'utf-32'))
    return made.but(body=text.encode(encoding))


def _document(rng: random.Random, made: forms.Request) -> forms.Request:
    try:
        document = json.loads(made.body)
    except (ValueError, RecursionError):
        document = {rng.choice(_KEYS): {}}
    try:
        document = _changed(rng, document, rng.randrange(4))
        body = json.dumps(document)
    except RecursionError:
        return made
    return made.but(body=body.encode())


def _changed(rng: random.Random, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and value and depth:
        key = rng.choice(list(value))
        return {**value, key: _changed(rng, value[key], depth - 1)}
    kind = rng.randrange(6)
    if isinstance(value, dict):
        if kind == 0:
            return {**value, rng.choice(_KEYS): rng.choice(_LEAVES)}
        if kind == 1 and value:
            key = rng.choice(list(value))
            return {k: v for k, v in value.items() if k != key}
        if kind == 2:
            return {rng.choice(_KEYS): v for v in value.values()}
        if kind == 3:
            return {**value, 'instance_uuid': rng.choice(_SERVERS)}
    if kind == 4:
        return [value]
    return rng.choice(_LEAVES)


def _spelling(rng: random.Random, made: forms.Request) -> forms.Request:
    # The same document, written otherwise.
    text = made.body[:4000].decode('latin-1')
    rest = made.body[4000:]
    kind = rng.randrange(5)
    if kind == 0:
        at = [i for i, letter in enumerate(text) if letter.isalpha()]
        if at:
            i = rng.choice(at)
            text = f'{text[:i]}\\u{ord(text[i]):04x}{text[i + 1 :]}'
    elif kind == 1:
        text = rng.choice((' ', '\n\t', '\r\n')) + text
    elif kind == 2:
        text = re.sub('[:,{}]', lambda found: f' {found[0]}\n', text)
    elif kind == 3 and text.startswith('{'):
        # A key that stands twice: the second counts.
        key = rng.choice(_KEYS)
        found = re.match(r'\{"([^"]+)"', text)
        if found and rng.random() < 0.8:
            key = found[1]
        leaf = json.dumps(rng.choice(_LEAVES))
        text = f'{{"{key}": {leaf}, {text[1:]}'
    elif text.endswith('}') and not rest:
        found = re.match(r'\{"([^"]+)"', text)
        if found:
            leaf = json.dumps(rng.choice(_LEAVES))
            text = f'{text[:-1]}, "{found[1]}": {leaf}}}'
    return made.but(body=text.encode('latin-1') + rest)


def _action(rng: random.Random, made: forms.Request) -> forms.Request:
    name = rng.choice(list(forms.OPERATIONS))
    return forms.action(
        name, forms.OPERATIONS[name], rng.choice(router.VOLUMES).id
    ).but(query=made.query, method=made.method)


def _server(rng: random.Random, made: forms.Request) -> forms.Request:
    body = made.body.replace(
        router.SERVER.encode(), rng.choice(_SERVERS).encode()
    )
    return made.but(body=body)


_MUTATIONS: tuple[Mutation, ...] = (
    _method,
    _override,
    _override,
    _no_query,
    _path,
    _path,
    _prefix,
    _suffix,
    _other_id,
    _word,
    _same_id,
    _other_path,
    _other_body,
    _other_framing,
    _framing,
    _type,
    _version,
    _accept,
    _bytes,
    _encoding,
    _document,
    _document,
    _spelling,
    _spelling,
    _action,
    _server,
)
