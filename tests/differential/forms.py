# SPDX-License-Identifier: Apache-2.0

"""Hand-written forms of every way known to reach Cinder unrecognised.

Each one says what the trap is and whose reading of the request makes it one,
and whether the operation is reached by it: a form that reaches an operation
is a way around a filter that does not know it, and one that does not is a way
to make a filter refuse, or fail, where Cinder would have answered.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from typing import Any
from typing import TYPE_CHECKING

from tests.differential import router

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

JSON = 'application/json'
FORM = 'application/x-www-form-urlencoded'
LATEST = f'volume {router.MICROVERSION}'


class Stream(io.RawIOBase):
    """A client's connection: read once, in as small pieces as it likes.

    :param body: what the client sends
    :param piece: the most bytes that one read gives, 0 for no limit
    """

    def __init__(self, body: bytes, piece: int) -> None:
        self._rest = io.BytesIO(body)
        self._piece = piece
        self.touched = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        self.touched = True
        if self._piece and (size is None or size < 0 or size > self._piece):
            size = self._piece
        return self._rest.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        self.touched = True
        return self._rest.readline(size)


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as a WSGI server would hand it over.

    :param path: ``PATH_INFO``, or None for a server that leaves it out
    :param headers: in the names of the environ
    :param length: the value of ``CONTENT_LENGTH``; ``'auto'`` for the length
        of the body where there is one, None to leave it out
    :param terminated: ``wsgi.input_terminated``, or None to leave it out
    :param seekable: whether WebOb, in a filter further out, has made the body
        seekable and left it read to its end
    :param piece: see :class:`Stream`
    """

    method: str
    path: str | None
    query: str | None = ''
    body: bytes = b''
    headers: tuple[tuple[str, str | None], ...] = (
        ('CONTENT_TYPE', JSON),
        ('HTTP_OPENSTACK_API_VERSION', LATEST),
    )
    length: str | None = 'auto'
    terminated: bool | None = None
    seekable: bool = False
    piece: int = 0

    def but(self, **changes: Any) -> Request:
        """The same request with some of it changed.

        :param changes: fields; a lower-case header's name, as ``accept``, or
            ``content_type``, sets (or, with None, drops) that header
        """
        headers = dict(self.headers)
        for name in [name for name in changes if name in _HEADERS]:
            headers.pop(_HEADERS[name], None)
            value = changes.pop(name)
            if value is not None:
                headers[_HEADERS[name]] = value
        return dataclasses.replace(
            self, headers=tuple(sorted(headers.items())), **changes
        )

    def environ(self) -> WSGIEnvironment:
        """A new environ, without anything about the caller."""
        environ: WSGIEnvironment = {
            'REQUEST_METHOD': self.method,
            'SCRIPT_NAME': '/v3',
            'SERVER_NAME': 'cinder',
            'SERVER_PORT': '8776',
            'SERVER_PROTOCOL': 'HTTP/1.1',
            'HTTP_HOST': 'cinder:8776',
            'wsgi.version': (1, 0),
            'wsgi.url_scheme': 'http',
            'wsgi.errors': io.StringIO(),
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
            **dict(self.headers),
        }
        if self.path is not None:
            environ['PATH_INFO'] = self.path
        if self.query is not None:
            environ['QUERY_STRING'] = self.query
        length = self.length
        if length == 'auto':
            length = str(len(self.body)) if self.body else None
        if length is not None:
            environ['CONTENT_LENGTH'] = length
        if self.terminated is not None:
            environ['wsgi.input_terminated'] = self.terminated
        if self.seekable:
            environ['wsgi.input'] = io.BytesIO(self.body)
            environ['wsgi.input'].seek(0, io.SEEK_END)
            environ['webob.is_body_seekable'] = True
        else:
            environ['wsgi.input'] = Stream(self.body, self.piece)
        return environ


_HEADERS = {
    'content_type': 'CONTENT_TYPE',
    'accept': 'HTTP_ACCEPT',
    'version': 'HTTP_OPENSTACK_API_VERSION',
    'transfer_encoding': 'HTTP_TRANSFER_ENCODING',
    'override': 'HTTP_X_HTTP_METHOD_OVERRIDE',
    'original_url': 'HTTP_X_ORIGINAL_URL',
    'content_encoding': 'HTTP_CONTENT_ENCODING',
    'language': 'HTTP_ACCEPT_LANGUAGE',
}


@dataclasses.dataclass(frozen=True)
class Form:
    """One hand-written request.

    :param name: a short name
    :param trap: what is deceptive in it, and where that comes from
    :param request: the request
    :param reaches: the guarded operation that it reaches on Cinder's own
        router, or None
    :param admin: whether only an administrator's request goes that far
    """

    name: str
    trap: str
    request: Request
    reaches: str | None
    admin: bool = False


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


FREE = router.FREE.id
LIVE = router.LIVE.id
SERVER = router.SERVER
(
    OF_LIVE,
    OF_HOSTED,
    OF_RESERVED,
    OF_SHARED,
    OF_SHARED_TOO,
    OF_SHARED_HOST,
    OF_FOREIGN,
) = (attachment.id for attachment in router.ATTACHMENTS[:7])

OPERATIONS: dict[str, Any] = {
    'os-attach': {'instance_uuid': SERVER, 'mountpoint': '/dev/vdb'},
    'os-detach': {},
    'os-reserve': None,
    'os-unreserve': None,
    'os-begin_detaching': None,
    'os-roll_detaching': None,
    'os-initialize_connection': {'connector': {'host': 'host-1'}},
    'os-terminate_connection': {'connector': {'host': 'host-1'}},
    'os-force_detach': {'connector': None},
    'os-reset_status': {'status': 'available', 'attach_status': 'detached'},
    'os-migrate_volume_completion': {'new_volume': FREE},
    'os-reimage': {'image_id': SERVER},
}
_ADMINISTRATIVE = (
    'os-force_detach',
    'os-reset_status',
    'os-migrate_volume_completion',
)
_NAMED = {'volume_uuid': FREE, 'instance_uuid': SERVER}
_CONNECTED = {'connector': {'host': 'host-1', 'ip': '192.0.2.1'}}


def action(name: str, arguments: Any, volume: str = FREE) -> Request:
    """A volume's action."""
    return Request(
        'POST', f'/volumes/{volume}/action', body=_json({name: arguments})
    )


ATTACH = action('os-attach', OPERATIONS['os-attach'])
CREATE = Request('POST', '/attachments', body=_json({'attachment': _NAMED}))
UPDATE = Request(
    'PUT',
    f'/attachments/{OF_RESERVED}',
    body=_json({'attachment': _CONNECTED}),
)
COMPLETE = Request(
    'POST',
    f'/attachments/{OF_RESERVED}/action',
    body=_json({'os-complete': None}),
)
DELETE = Request('DELETE', f'/attachments/{OF_LIVE}')
TRANSFER = Request(
    'POST', '/volume-transfers', body=_json({'transfer': {'volume_id': FREE}})
)
WITH_VOLUMES = {'delete': {'delete-volumes': True}}
BY_FORCE = {'consistencygroup': {'force': True}}
GROUP = router.ALL_FREE.id
GROUP_DELETE = Request(
    'POST', f'/groups/{GROUP}/action', body=_json(WITH_VOLUMES)
)
GROUP_DELETE_BY_METHOD = Request(
    'DELETE', f'/groups/{GROUP}', body=_json(WITH_VOLUMES)
)
CG_DELETE = Request(
    'POST', f'/consistencygroups/{GROUP}/delete', body=_json(BY_FORCE)
)
CG_DELETE_BY_METHOD = Request(
    'DELETE', f'/consistencygroups/{GROUP}', body=_json(BY_FORCE)
)
GROUP_DELETES = (
    GROUP_DELETE,
    GROUP_DELETE_BY_METHOD,
    CG_DELETE,
    CG_DELETE_BY_METHOD,
)

FORMS: list[Form] = []


def _form(
    reaches: str | None,
    name: str,
    trap: str,
    request: Request,
    *,
    admin: bool = False,
) -> None:
    FORMS.append(Form(name, trap, request, reaches, admin))


def _attach(name: str, trap: str, **changes: Any) -> None:
    _form('os-attach', name, trap, ATTACH.but(**changes))


def _no_attach(name: str, trap: str, **changes: Any) -> None:
    _form(None, name, trap, ATTACH.but(**changes))


def _plain() -> None:
    # What the API reference documents: the ground under the traps.
    for name, arguments in OPERATIONS.items():
        for volume in (LIVE, FREE):
            _form(
                name,
                f'{name}-{volume[:4]}',
                'As documented.',
                action(name, arguments, volume),
                admin=name in _ADMINISTRATIVE,
            )
    for name in _ADMINISTRATIVE:
        _form(
            None,
            f'{name}-of-a-member',
            "Cinder's own policy refuses it.",
            action(name, OPERATIONS[name], LIVE),
        )
    _form('attachment-create', 'create', 'As documented.', CREATE)
    _form('attachment-update', 'update', 'As documented.', UPDATE)
    _form('attachment-complete', 'complete', 'As documented.', COMPLETE)
    _form('attachment-delete', 'delete', 'As documented.', DELETE)
    for path in ('/volume-transfers', '/os-volume-transfer'):
        _form(
            'transfer-create',
            f'transfer-{path[1:]}',
            'As documented.',
            TRANSFER.but(path=path),
        )
    _form(
        None,
        'transfer-of-none',
        'Refused by the schema.',
        TRANSFER.but(body=_json({'transfer': {'volume_id': None}})),
    )
    _form(
        None,
        'reimage-at-3.67',
        'It exists from 3.68 on.',
        action('os-reimage', OPERATIONS['os-reimage']).but(
            version='volume 3.67'
        ),
    )
    _form(
        'attachment-create',
        'create-for-nobody',
        'No server: as documented, and allowed.',
        CREATE.but(body=_json({'attachment': {'volume_uuid': FREE}})),
    )
    _form(
        'os-attach',
        'attach-to-a-host',
        'No server, but a host.',
        action('os-attach', {'host_name': 'h', 'mountpoint': '/dev/vdb'}),
    )
    _form(
        'os-attach',
        'attach-to-both',
        'A server and a host: Cinder takes both (schemas/volume_actions.py).',
        action(
            'os-attach',
            {**OPERATIONS['os-attach'], 'host_name': 'host-1'},
        ),
    )
    for attachment in (OF_HOSTED, OF_SHARED, OF_SHARED_TOO, OF_SHARED_HOST):
        _form(
            'attachment-delete',
            f'delete-{attachment[:8]}',
            'Each attachment has a server, or none, of its own.',
            DELETE.but(path=f'/attachments/{attachment}'),
        )
        _form(
            'os-detach',
            f'detach-{attachment[:8]}',
            'The body says which of the attachments.',
            action(
                'os-detach',
                {'attachment_id': attachment},
                router.HOSTED.id
                if attachment == OF_HOSTED
                else router.SHARED.id,
            ),
        )
    _form(
        None,
        'detach-of-another-volume',
        "An attachment of another volume's: Cinder refuses the mismatch "
        '(volume/api.py, attachment_deletion_allowed).',
        action('os-detach', {'attachment_id': OF_HOSTED}, LIVE),
    )
    _form(
        'os-detach',
        'detach-naming-null',
        'A null attachment is none (uuid_allow_null).',
        action('os-detach', {'attachment_id': None}, router.SHARED.id),
    )
    _form(
        None,
        'delete-of-another-project',
        "Not found: another project's.",
        DELETE.but(path=f'/attachments/{OF_FOREIGN}'),
    )
    _form(
        'attachment-delete',
        'delete-by-an-admin',
        "Another project's, which an administrator sees.",
        DELETE.but(path=f'/attachments/{OF_FOREIGN}'),
        admin=True,
    )
    _no_attach(
        'missing-volume', 'Not found.', path=f'/volumes/{SERVER}/action'
    )
    for other in ('os-extend', 'os-set_bootable', 'os-retype', 'os-made-up'):
        _form(
            None,
            other,
            'None of ours.',
            action(other, {'new_size': 2, 'bootable': True}),
        )
    _form(
        None,
        'extend',
        'None of ours, but done: it must arrive.',
        action('os-extend', {'new_size': 2}),
    )
    for path in (
        f'/volumes/{LIVE}',
        '/volumes/detail',
        f'/attachments/{OF_LIVE}',
        '/attachments',
        '/attachments/detail',
        f'/attachments/{OF_LIVE}/edit',
        '/',
        '',
    ):
        _form(
            None,
            f'get-{path or "nothing"}',
            'A question changes nothing.',
            Request('GET', path),
        )


def _paths() -> None:
    volume = f'/volumes/{FREE}/action'
    for prefix in (f'/{router.PROJECT}',):
        for form in (ATTACH, CREATE, UPDATE, COMPLETE, DELETE, TRANSFER):
            _form(
                _reached(form),
                f'with-a-project-{_reached(form)}',
                'The legacy prefix (api/v3/router.py, ProjectMapper).',
                form.but(path=f'{prefix}{form.path}'),
            )
    for suffix, why in (
        ('.json', 'Routes adds a ".(format)" to each route of a resource.'),
        ('\n', '"$" matches before a newline at the end (routes/route.py).'),
        ('.json\n', 'Both.'),
    ):
        for form in (ATTACH, CREATE, COMPLETE, TRANSFER):
            _form(
                _reached(form),
                f'{_reached(form)}-suffix-{suffix!r}',
                why,
                form.but(path=f'{form.path}{suffix}'),
            )
        for form in (UPDATE, DELETE):
            _form(
                # "[^/]+" takes the newline before "$" can.
                None if suffix == '\n' else _reached(form),
                f'{_reached(form)}-suffix-{suffix!r}',
                why,
                form.but(path=f'{form.path}{suffix}'),
            )
    for prefix in ('', f'/{router.PROJECT}'):
        for suffix in ('', '\n', '.json'):
            for word in router.WORDS:
                _attach(
                    f'volume-named-{word}-{len(prefix)}-{suffix!r}',
                    'A word of one route in the place of an id in another.',
                    path=f'{prefix}/volumes/{word}/action{suffix}',
                )
    for word in router.WORDS:
        _form(
            'attachment-delete',
            f'attachment-named-{word}',
            'The same.',
            DELETE.but(path=f'/attachments/{word}'),
        )
        _form(
            'attachment-complete',
            f'complete-named-{word}',
            'The same.',
            COMPLETE.but(path=f'/attachments/{word}/action'),
        )
    _attach(
        'project-and-suffix',
        'A prefix and a suffix and a newline.',
        path=f'/{router.PROJECT}{volume}.json\n',
    )
    for name, path in (
        ('xml', f'{volume}.xml'),
        ('twice', f'{volume}.json.json'),
        ('slash', f'{volume}/'),
        ('slashes', f'/{volume}'),
        ('upper', f'/VOLUMES/{FREE}/ACTION'),
        ('two-newlines', f'{volume}\n\n'),
        ('carriage', f'{volume}\r\n'),
        ('space', f'{volume} '),
        ('semicolon', f'{volume};x=1'),
        ('escaped-slash', f'/volumes%2F{FREE}/action'),
        ('escaped', f'/volumes/{FREE}/%61ction'),
        ('dots', f'/volumes/../volumes/{FREE}/action'),
        ('dot', f'/volumes/./{FREE}/action'),
        ('two-ids', f'/volumes/{FREE}/{FREE}/action'),
        ('version', f'/v3{volume}'),
        ('no-id', '/volumes//action'),
        ('backslash', f'/volumes/{FREE}\\/action'),
        ('newline-in-id', f'/volumes/{FREE}\n/action'),
        ('json-in-id', f'/volumes/{FREE}.json/action'),
        ('query-in-path', f'/volumes/{FREE}/action?_method=POST'),
        ('long-id', f'/volumes/{"a" * 10000}/action'),
        ('project-upper', f'/{router.PROJECT.upper()}{volume}'),
        ('other-project', f'/{router.STRANGER}{volume}'),
        ('hyphen-project', f'/-{volume}'),
        ('named-project', f'/demo{volume}'),
        ('two-projects', f'/{router.PROJECT}/{router.PROJECT}{volume}'),
    ):
        _no_attach(
            f'path-{name}',
            'Not a route of Cinder, or not an id, or not this project.',
            path=path,
        )
    for name, change, why in (
        ('upper-case', FREE.upper(), 'MySQL compares without case.'),
        ('trailing-blank', f'{FREE} ', 'MySQL pads what it compares.'),
        (
            'control',
            f'{FREE[:9]}\x01{FREE[9:]}',
            'A character without weight, in a Unicode collation.',
        ),
        ('null', f'{FREE}\0', 'Another.'),
        (
            'accent',
            FREE.replace('a', '\xc3\x80'),
            'UTF-8 bytes that WSGI reads as Latin-1: an accent on an A and '
            'a control character, equal to an a.',
        ),
    ):
        _attach(f'id-{name}', why, path=f'/volumes/{change}/action')
    for name, change in (
        ('upper-case', OF_LIVE.upper()),
        ('trailing-blank', f'{OF_LIVE} '),
        ('upper-suffix', f'{OF_LIVE.upper()}.json'),
    ):
        _form(
            'attachment-delete',
            f'attachment-{name}',
            'The same of an attachment.',
            DELETE.but(path=f'/attachments/{change}'),
        )
    for name, path in (
        ('format-twice', f'/attachments/{OF_LIVE}.json.json'),
        ('format-newlines', f'/attachments/{OF_LIVE}\n.json'),
        ('new', '/attachments/new'),
        ('edit', f'/attachments/{OF_LIVE}/edit'),
        ('slash', f'/attachments/{OF_LIVE}/'),
        ('urn', f'/attachments/urn:uuid:{OF_LIVE}'),
        ('braces', f'/attachments/{{{OF_LIVE}}}'),
        ('bare', f'/attachments/{OF_LIVE.replace("-", "")}'),
        ('upper-json', f'/attachments/{OF_LIVE}.JSON'),
        ('bytes', f'/attachments/{OF_LIVE}\xff'),
    ):
        _form(
            None,
            f'attachment-{name}',
            'Another id, or no route.',
            DELETE.but(path=path),
        )
    _form(
        None,
        'no-path',
        'Without PATH_INFO, Routes keeps the route of the request before '
        '(routes/__init__.py, load_wsgi_environ); only the log line about '
        'the URL, for which WebOb wants it, stops the request.',
        ATTACH.but(path=None),
    )


def _reached(request: Request) -> str:
    return {
        ATTACH: 'os-attach',
        CREATE: 'attachment-create',
        UPDATE: 'attachment-update',
        COMPLETE: 'attachment-complete',
        DELETE: 'attachment-delete',
        TRANSFER: 'transfer-create',
    }[request]


def _methods() -> None:
    why = 'Routes takes the method from _method in the query, whatever it was'
    for method in ('GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'X'):
        _attach(
            f'override-of-{method}',
            f'{why} (routes/middleware.py); Cinder reads the body of any.',
            method=method,
            query='_method=POST',
        )
    for name, query in (
        ('lower', '_method=post'),
        ('mixed', '_method=pOsT'),
        ('long-s', '_method=po%C5%BFt'),
        ('escaped-value', '_method=%50OST'),
        ('escaped-name', 'x=_method&%5Fmethod=POST'),
        ('last-of-two', '_method=DELETE&_method=POST'),
        ('semicolon', 'a=b;_method=POST'),
        ('escaped-last', '_method=DELETE&%5fmethod=POST'),
        ('behind-others', 'a=1&b=2&_method=POST&c=3'),
    ):
        _attach(
            f'override-{name}',
            f'{why}; WebOb decodes it, takes the last, splits at ";" too; '
            'and upper() knows Unicode.',
            method='PUT',
            query=query,
        )
    for name, query in (
        ('empty', '_method='),
        ('valueless', '_method'),
        ('other-name', 'x_method=PUT'),
        ('in-a-value', 'x=_method'),
        ('last-empty', '_method=PUT&_method='),
        ('escaped-only', '%5Fmethod=PUT'),
        ('upper-name', '_METHOD=PUT'),
        ('bad-utf8', '_method=%FF'),
        ('bad-utf8-elsewhere', '_method=PUT&x=%FF'),
    ):
        _attach(
            f'no-override-{name}',
            'No override, so that the POST stays one.',
            query=query,
        )
    for name, query in (
        ('put', '_method=PUT'),
        ('padded', '_method=POST%20'),
        ('plus', '_method=+POST'),
        ('fullwidth', '_method=%EF%BC%B0OST'),
    ):
        _no_attach(f'overridden-{name}', 'A POST that is none.', query=query)
    for form, method in (
        (DELETE, 'DELETE'),
        (UPDATE, 'PUT'),
        (CREATE, 'POST'),
        (COMPLETE, 'POST'),
        (TRANSFER, 'POST'),
    ):
        for sent in ('GET', 'POST', 'HEAD'):
            _form(
                _reached(form),
                f'{_reached(form)}-by-{sent}',
                f'{why}.',
                form.but(method=sent, query=f'_method={method.lower()}'),
            )
    for sent in ('post', 'Post', 'POST ', 'PO\u017fT', ''):
        _no_attach(
            f'method-{sent!r}',
            'Without an override the method is compared as it is.',
            method=sent,
        )
    for form in (ATTACH, DELETE):
        _form(
            None if form is DELETE else 'os-attach',
            f'header-override-{_reached(form)}',
            'Routes knows no header for it.',
            form.but(
                method='POST' if form is DELETE else form.method,
                override='DELETE',
            ),
        )
    _form(
        None,
        'form-override-of-delete',
        'A posted form overrides too, but Cinder refuses its content type '
        '(415) once there is a body.',
        DELETE.but(method='POST', content_type=FORM, body=b'_method=DELETE'),
    )
    _form(
        None,
        'form-override-of-post',
        'The same with the body of an action.',
        ATTACH.but(content_type=FORM, body=b'_method=PUT&' + ATTACH.body),
    )
    multipart = (
        b'--x\r\nContent-Disposition: form-data; name="_method"\r\n\r\n'
        b'DELETE\r\n--x--\r\n'
    )
    _form(
        None,
        'multipart-override-of-delete',
        'The same as a multipart form.',
        DELETE.but(
            method='POST',
            content_type='multipart/form-data; boundary=x',
            body=multipart,
        ),
    )
    for name, changes in (
        ('no-boundary', {'content_type': 'multipart/form-data'}),
        ('latin', {'content_type': f'{FORM}; charset=latin-1'}),
        ('upper', {'content_type': FORM.upper()}),
        (
            'a-file',
            {
                'content_type': 'multipart/form-data; boundary=x',
                'body': multipart.replace(
                    b'"_method"', b'"_method"; filename="x"'
                ),
            },
        ),
        ('bad-utf8', {'body': b'_method=%FF', 'content_type': FORM}),
        ('negative', {'length': '-1', 'content_type': FORM}),
    ):
        _form(
            None,
            f'form-{name}',
            'What the parser of forms itself stumbles over.',
            DELETE.but(
                **{
                    'method': 'POST',
                    'body': b'_method=DELETE',
                    **changes,
                }
            ),
        )


def _bodies() -> None:
    body: Any
    server: Any
    volume: Any
    document: Any
    arguments = json.dumps(OPERATIONS['os-attach'])
    attach = f'"os-attach": {arguments}'
    for name, body, why in (
        ('escaped-key', '{"os\\u002dattach": %s}', 'An escaped key.'),
        ('all-escaped', '{"\\u006f\\u0073-attach": %s}', 'An escaped key.'),
        ('upper-escape', '{"os\\u002Dattach": %s}', 'An escaped key.'),
        ('blanks', ' \t\r\n{ \n"os-attach"\t:\r %s } \n', 'White space.'),
        (
            'twice',
            '{"os-attach": null, "os-attach": %s}',
            'The last of two equal keys counts (json).',
        ),
        (
            'twice-escaped',
            '{"os-attach": null, "os\\u002dattach": %s}',
            'Equal once they are read.',
        ),
        (
            'long',
            f'{" " * 20_000}{{"os-attach": %s}}',
            'Far from the beginning.',
        ),
    ):
        _attach(f'json-{name}', why, body=(body % arguments).encode())
    for name, body, why in (
        ('not-a-number', '{"os-attach": {"instance_uuid": NaN}}', 'NaN.'),
        ('two-keys', '{%s, "os-reserve": null}', 'Cinder wants one key.'),
        ('other-first', '{"os-extend": {}, %s}', 'Cinder wants one key.'),
        ('list', '[{%s}]', 'A list has no keys: 404.'),
        ('list-of-key', '["os-attach"]', 'A list of one.'),
        ('letter', '"o"', 'One character has a length of one.'),
        ('number', '7', 'No length.'),
        ('null', 'null', 'No length.'),
        ('true', 'true', 'No length.'),
        ('empty-object', '{}', 'No key.'),
        ('bom', '\ufeff{%s}', 'jsonutils takes no byte order mark.'),
        ('trailing', '{%s}}', 'Trailing bytes.'),
        ('leading', '\x0b{%s}', 'A vertical tab is no white space in JSON.'),
        ('no-break', '\u00a0{%s}', 'Nor is a no-break space.'),
        ('single-quotes', "{'os-attach': {}}", 'Python, not JSON.'),
        ('comment', '/**/{%s}', 'JavaScript, not JSON.'),
        ('comma', '{%s,}', 'A comma at the end.'),
        ('two', '{%s}{%s}', 'Two documents.'),
        ('nul', '{"os-attach\\u0000": {}}', 'Another key.'),
        ('blank-key', '{"os-attach ": {}}', 'Another key.'),
        ('upper-key', '{"OS-ATTACH": {}}', 'Another key.'),
        ('surrogate', '{"os-attach\\ud800": {}}', 'Another key.'),
        ('deep', '[' * 20_000, 'Deeper than the parser goes.'),
        (
            'deep-object',
            '{"os-attach": ' + '{"a": ' * 5000 + '1' + '}' * 5001,
            'Deeper than the parser goes.',
        ),
        (
            'digits',
            '{"os-attach": ' + '1' * 5000 + '}',
            'More than int() reads.',
        ),
        ('value-null', '{"os-attach": null}', 'No arguments.'),
        ('value-list', '{"os-attach": []}', 'A list for arguments.'),
        ('value-text', '{"os-attach": "x"}', 'A text for arguments.'),
    ):
        _no_attach(
            f'json-{name}', why, body=body.replace('%s', attach).encode()
        )
    for encoding in ('utf-16', 'utf-16-le', 'utf-32', 'utf-8-sig'):
        _no_attach(
            f'json-{encoding}',
            'json.loads would guess the encoding; jsonutils takes UTF-8.',
            body=ATTACH.body.decode().encode(encoding),
        )
    _no_attach(
        'json-bad-utf8',
        'Not UTF-8.',
        body=ATTACH.body.replace(b'vdb', b'\xff'),
    )
    _no_attach('no-body', 'No action.', body=b'')
    for name, server in _uuid_forms(SERVER):
        _attach(
            f'server-{name}',
            'What is_uuid_like takes for a UUID (oslo_utils/uuidutils.py).',
            body=action(
                'os-attach', {'instance_uuid': server, 'mountpoint': 'x'}
            ).body,
        )
        _form(
            'attachment-create',
            f'create-server-{name}',
            'What is_uuid_like takes for a UUID (oslo_utils/uuidutils.py).',
            CREATE.but(
                body=_json({'attachment': {**_NAMED, 'instance_uuid': server}})
            ),
        )
    for name, server in (
        ('null', None),
        ('empty', ''),
        ('number', 7),
        ('list', [SERVER]),
        ('object', {'id': SERVER}),
        ('path', f'{SERVER}/../x?y'),
        ('newline', f'{SERVER}\n'),
        ('blank', f' {SERVER}'),
        ('underscore', f'5e17_51e-{SERVER[9:]}'),
        ('digits', SERVER.replace('0', '\u0660')),
        ('surrogate', '\ud800'),
    ):
        _no_attach(
            f'server-{name}',
            'No UUID: refused by the schema.',
            body=action(
                'os-attach', {'instance_uuid': server, 'mountpoint': 'x'}
            ).body,
        )
        _form(
            None,
            f'create-server-{name}',
            'No UUID: refused by the schema.',
            CREATE.but(
                body=_json({'attachment': {**_NAMED, 'instance_uuid': server}})
            ),
        )
    _form(
        'attachment-create',
        'create-volume-upper',
        'MySQL compares without case.',
        CREATE.but(
            body=_json({'attachment': {**_NAMED, 'volume_uuid': FREE.upper()}})
        ),
    )
    for name, volume in (
        ('braces', f'{{{FREE}}}'),
        ('urn', f'urn:uuid:{FREE}'),
        ('null', None),
        ('missing', SERVER),
        ('number', 7),
    ):
        _form(
            None,
            f'create-volume-{name}',
            'A UUID by the schema but no row, or none.',
            CREATE.but(
                body=_json({'attachment': {**_NAMED, 'volume_uuid': volume}})
            ),
        )
    for name, body in (
        (
            'twice',
            f'{{"attachment": {{}}, "attachment": {json.dumps(_NAMED)}}}',
        ),
        (
            'server-twice',
            f'{{"attachment": {{"instance_uuid": null, "volume_uuid": '
            f'"{FREE}", "instance_uuid": "{SERVER}"}}}}',
        ),
        (
            'escaped',
            f'{{"\\u0061ttachment": {{"volume\\u005fuuid": "{FREE}", '
            f'"instance\\u005fuuid": "{SERVER}"}}}}',
        ),
    ):
        _form(
            'attachment-create',
            f'create-{name}',
            'The last of two equal keys counts, once they are read (json).',
            CREATE.but(body=body.encode()),
        )
    for name, document in (
        ('list', [{'attachment': _NAMED}]),
        ('of-list', {'attachment': [_NAMED]}),
        ('of-null', {'attachment': None}),
        ('extra', {'attachment': _NAMED, 'x': 1}),
        ('type', {'attachment': _NAMED, 'type': 1}),
        ('inner-extra', {'attachment': {**_NAMED, 'x': 1}}),
        ('other', {'volume': _NAMED}),
    ):
        _form(
            None,
            f'create-{name}',
            'Refused by the schema, or stumbled over by it ("type" among the '
            'properties of schemas/attachments.py).',
            CREATE.but(body=_json(document)),
        )
    for depth in (40, 400):
        deep: Any = 1
        for _level in range(depth):
            deep = [deep]
        _form(
            'attachment-complete',
            f'complete-with-depth-{depth}',
            'Deep, but no deeper than the parser goes.',
            COMPLETE.but(body=_json({'os-complete': deep})),
        )
        connector: Any = {}
        for _level in range(depth):
            connector = {'a': connector}
        _form(
            'attachment-create',
            f'create-with-depth-{depth}',
            'Deep, where anything may stand.',
            CREATE.but(
                body=_json({'attachment': {**_NAMED, 'connector': connector}})
            ),
        )
    for name, document in (
        ('twice', {'os-complete': {'anything': ['goes', 1]}}),
        ('text', {'os-complete': 'x'}),
    ):
        _form(
            'attachment-complete',
            f'complete-with-{name}',
            'The schema wants nothing of the value.',
            COMPLETE.but(body=_json(document)),
        )
    for form, document in (
        (COMPLETE, {'os-attach': OPERATIONS['os-attach']}),
        (ATTACH, {'os-complete': None}),
        (UPDATE, {'attachment': {'connector': {}}}),
        (UPDATE, {'volume': _NAMED}),
        (UPDATE, []),
    ):
        _form(
            None,
            f'{_reached(form)}-given-{json.dumps(document)[:16]}',
            "Another resource's body.",
            form.but(body=_json(document)),
        )
    _form(
        'attachment-delete',
        'delete-with-a-body',
        'DELETE takes no body argument: contents are empty without a type.',
        DELETE.but(body=b'{', content_type=None),
    )
    for name, body in (('object', b'{"a": 1}'), ('garbage', b'\xff')):
        _form(
            None,
            f'delete-with-{name}',
            'A body that is deserialised becomes an argument too many: 400.',
            DELETE.but(body=body),
        )


def _uuid_forms(uuid: str) -> list[tuple[str, str]]:
    return [
        ('upper', uuid.upper()),
        ('bare', uuid.replace('-', '')),
        ('braces', f'{{{uuid}}}'),
        ('urn', f'urn:uuid:{uuid}'),
        ('inner-urn', f'{uuid[:10]}urn:{uuid[10:]}'),
        ('hyphens', '-'.join(uuid.replace('-', ''))),
        ('all', f'{{{{urn:uuid:{uuid.upper()}}}}}}}'),
    ]


def _groups() -> None:
    value: Any
    document: Any
    for number, form in enumerate(GROUP_DELETES):
        name = f'group-delete-{number}'
        path = form.path or ''
        trap = 'One of four routes (api/v3/router.py, get_method).'
        for group in router.GROUPS:
            is_of_others = group is router.OF_OTHERS
            _form(
                None if is_of_others else 'group-delete',
                f'{name}-{group.id}',
                f'{trap} Without a project, not {group.project}.',
                form.but(path=path.replace(GROUP, group.id)),
            )
        _form(
            'group-delete',
            f'{name}-by-an-admin',
            "Another project's, which an administrator sees.",
            form.but(path=path.replace(GROUP, router.OF_OTHERS.id)),
            admin=True,
        )
        for prefix, suffix in itertools.product(
            ('', f'/{router.PROJECT}'), ('.json', '\n', '.json\n')
        ):
            reaches = form.method == 'POST' or suffix != '\n'
            _form(
                'group-delete' if reaches else None,
                f'{name}-{len(prefix)}-{suffix!r}',
                trap,
                form.but(path=f'{prefix}{path}{suffix}'),
            )
        for sent in ('GET', 'POST', 'PUT', 'HEAD'):
            _form(
                'group-delete',
                f'{name}-by-{sent}',
                'Routes takes the method from _method in the query.',
                form.but(method=sent, query=f'_method={form.method.lower()}'),
            )
        _form(
            'group-delete',
            f'{name}-upper',
            'MySQL compares without case.',
            form.but(path=path.replace(GROUP, GROUP.upper())),
        )
        _form(
            None,
            f'{name}-braces',
            'A UUID, but no id of a row.',
            form.but(path=path.replace(GROUP, f'{{{GROUP}}}')),
        )
        is_cg = 'consistency' in path
        key, flag = (
            ('consistencygroup', 'force')
            if is_cg
            else ('delete', 'delete-volumes')
        )
        for value in ('true', 'TRUE', 'on', 'yes', 'y', 't', '1'):
            _form(
                'group-delete',
                f'{name}-{value!r}',
                'What bool_from_string takes for yes (strutils.py).',
                form.but(body=_json({key: {flag: value}})),
            )
        for value in (False, 'false', 'off', 'NO', 'n', 'f', '0'):
            _form(
                None,
                f'{name}-{value!r}',
                'The volumes are to be kept: it must arrive.',
                form.but(body=_json({key: {flag: value}})),
            )
        for value in (None, [], {}, 'perhaps'):
            _form(
                None,
                f'{name}-{value!r}',
                'Refused by the schema, or taken for no.',
                form.but(body=_json({key: {flag: value}})),
            )
        for document in ({key: {}}, {'x': {flag: True}}, {}, None, [key]):
            _form(
                None,
                f'{name}-of-{json.dumps(document)}',
                'The volumes are to be kept, or it is refused by the schema.',
                form.but(body=_json(document)),
            )
        _form(
            'group-delete',
            f'{name}-twice',
            'The last of two equal keys counts, once they are read (json).',
            form.but(
                body=f'{{"{key}": {{}}, "\\u{ord(key[0]):04x}{key[1:]}": '
                f'{{"{flag}": false, "{flag}": true}}}}'.encode()
            ),
        )
        _form(None, f'{name}-no-body', 'Kept.', form.but(body=b''))
        for version, reached in (
            ('volume 3.13', True),
            ('volume 3.12', is_cg),
            (None, is_cg),
        ):
            _form(
                'group-delete' if reached else None,
                f'{name}-at-{version}',
                'Groups exist from 3.13 on, consistency groups from 3.0.',
                form.but(version=version),
            )
    for path in ('/groups/action', f'/groups/{GROUP}/delete', '/groups'):
        _form(
            None,
            f'group-delete-at-{path}',
            'No group, or no route.',
            GROUP_DELETE.but(path=path),
        )
    _form(
        None,
        'group-reset',
        'Another action.',
        GROUP_DELETE.but(body=_json({'reset_status': {'status': 'error'}})),
    )
    _form(
        None,
        'group-snapshot',
        'Another resource.',
        GROUP_DELETE.but(path=f'/group_snapshots/{GROUP}/action'),
    )


def _types_and_versions() -> None:
    content_type: str | None
    version: str | None
    for name, content_type in (
        ('parameters', 'application/json; charset=utf-16'),
        ('vendor', 'application/vnd.openstack.volume+json'),
        ('semicolon', 'application/json;'),
    ):
        _attach(
            f'type-{name}',
            'Cinder takes it for JSON, in UTF-8 (api/openstack/wsgi.py).',
            content_type=content_type,
        )
    for content_type in (
        None,
        '',
        'Application/JSON',
        'application/json ',
        ' application/json',
        'text/plain',
        'application/xml',
        'application/json, text/plain',
    ):
        _no_attach(
            f'type-{content_type!r}',
            'Cinder takes it for no JSON: no such action, or 415.',
            content_type=content_type,
        )
        _form(
            'attachment-delete',
            f'delete-type-{content_type!r}',
            'Without a body its type is not looked at.',
            DELETE.but(content_type=content_type),
        )
    for name, version in (
        ('none', None),
        ('base', 'volume 3.0'),
        ('latest', 'volume latest'),
        ('second', 'compute 2.1, volume 3.50'),
        ('inside', 'xvolumex 3.50'),
        ('blanks', '  volume   3.50  '),
        ('first-of-two', 'volume 3.50,volume 9.9'),
    ):
        _attach(
            f'version-{name}',
            'set_api_version_request looks for the word anywhere.',
            version=version,
        )
    for name, version in (
        ('empty', ''),
        ('other', 'compute 2.1'),
        ('too-new', 'volume 3.9999'),
        ('too-old', 'volume 2.0'),
        ('word', 'volume'),
        ('three-words', 'volume 3.50 x'),
        ('letters', 'volume x.y'),
        ('upper', 'VOLUME 3.50'),
    ):
        _no_attach(f'version-{name}', 'Not a microversion.', version=version)
    for form, version, reached in (
        (CREATE, 'volume 3.27', True),
        (CREATE, 'volume 3.26', False),
        (CREATE, None, False),
        (DELETE, 'volume 3.27', True),
        (DELETE, 'volume 3.26', False),
        (COMPLETE, 'volume 3.44', True),
        (COMPLETE, 'volume 3.43', False),
        (UPDATE, 'volume 3.27', True),
        (UPDATE, 'volume 3.0', False),
    ):
        _form(
            _reached(form) if reached else None,
            f'{_reached(form)}-at-{version}',
            'Attachments exist from 3.27 on, their completion from 3.44.',
            form.but(version=version),
        )
    for accept in ('application/xml', '*/*;q=0', '', ';;', 'text/html'):
        _attach(
            f'accept-{accept!r}',
            'What is accepted plays no part in what is done.',
            accept=accept,
        )
    _form(
        'os-attach',
        'accept-vendor',
        'A type that Cinder offers, and a fault in it cannot be written '
        '(KeyError in Fault).',
        ATTACH.but(accept='application/vnd.openstack.volume+json'),
    )
    _no_attach(
        'accept-vendor-fault',
        'The same in a request that fails.',
        accept='application/vnd.openstack.volume+json',
        path=f'/volumes/{SERVER}/action',
    )
    _attach('language', 'A language for the faults.', language='de, *;q=0')
    _attach(
        'original-url',
        'A header for the path that other stacks follow.',
        original_url='/volumes',
    )
    _attach('content-encoding', 'Nobody decodes.', content_encoding='gzip')


def _framing() -> None:
    size = len(ATTACH.body)
    changes: dict[str, Any]
    for name, changes, why in (
        (
            'chunked',
            {'length': None, 'terminated': True},
            'No length, but an end (wsgi.input_terminated).',
        ),
        ('empty-length', {'length': '', 'terminated': True}, 'The same.'),
        ('words', {'length': 'x', 'terminated': True}, 'No number: the same.'),
        ('blank-length', {'length': f' {size} '}, 'int() takes blanks.'),
        ('plus-length', {'length': f'+{size}'}, 'int() takes a sign.'),
        ('some-zeros', {'length': f'000{size}'}, 'int() takes zeros.'),
        (
            'digits-terminated',
            {'length': '1' * 5000, 'terminated': True},
            'More digits than int() takes: to the end.',
        ),
        (
            'underscore',
            {'length': f'{size}'[0] + '_' + f'{size}'[1:]},
            'int() takes underscores.',
        ),
        (
            'pieces-chunked',
            {'piece': 7, 'length': None, 'terminated': True},
            'One piece at a time, to the end.',
        ),
        (
            'rest',
            {'body': ATTACH.body + b'garbage', 'length': f'{size}'},
            'What follows is the next request.',
        ),
        ('seekable', {'seekable': True}, 'Read by a filter further out.'),
        ('both', {'transfer_encoding': 'chunked'}, 'A length and chunks.'),
        ('terminated-length', {'terminated': True}, 'Both.'),
        ('unterminated-length', {'terminated': False}, 'A length, no end.'),
    ):
        _attach(f'framing-{name}', f'{why} (webob/request.py)', **changes)
    for name, changes, why in (
        ('no-length', {'length': None}, 'No length and no end: no body.'),
        ('zero', {'length': '0'}, 'A length of zero: no body.'),
        ('zero-terminated', {'length': '0', 'terminated': True}, 'The same.'),
        ('pieces', {'piece': 1}, 'A short read is a lost client.'),
        ('long', {'length': f'{size + 1}'}, 'Less than announced.'),
        ('huge', {'length': '9' * 30}, 'Less than announced.'),
        ('short', {'length': f'{size - 1}'}, 'Cut off.'),
        ('negative', {'length': '-1'}, 'Readable, and nothing is read.'),
        ('hexadecimal', {'length': hex(size)}, 'int() takes no 0x.'),
        ('superscript', {'length': '\xb2'}, 'A digit, but not for int().'),
        ('gap', {'length': f'{size} {size}'}, 'Two numbers.'),
        (
            'digits',
            {'length': '1' * 5000},
            'More digits than int() takes: none.',
        ),
        (
            'zeros',
            {'length': f'{size}'.zfill(5000)},
            'More digits than int() takes: none.',
        ),
    ):
        _no_attach(f'framing-{name}', f'{why} (webob/request.py)', **changes)
    _attach(
        'framing-negative-seekable',
        'A negative length of a seekable body: read(-1) reads it all.',
        length='-1',
        seekable=True,
    )
    for name, changes in (
        ('no-length', {'length': None}),
        ('zero', {'length': '0'}),
        ('negative', {'length': '-1'}),
        ('chunked-nothing', {'length': None, 'terminated': True}),
    ):
        _form(
            'attachment-delete',
            f'delete-framing-{name}',
            'No body, in each notation.',
            DELETE.but(**changes),
        )
    _attach('no-query', 'QUERY_STRING may be missing.', query=None)


_plain()
_paths()
_methods()
_bodies()
_groups()
_types_and_versions()
_framing()
