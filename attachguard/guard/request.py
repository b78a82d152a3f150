# SPDX-License-Identifier: Apache-2.0
"""Parsing of a request, exactly as Cinder will parse it.

A filter that parses a request differently from the service behind it can be
bypassed.  So this module accepts a superset of the routes that Cinder
connects, reads only what Cinder's dispatcher reads (``PATH_INFO``, the method
as Routes overrides it, the body as ``jsonutils`` parses it), and rejects what
it cannot parse with certainty.

Sources: ``cinder.api.v3.router`` (the routes), ``routes.middleware`` (the
method override), ``cinder.api.openstack.wsgi`` (``get_method`` and
``action_peek_json``: the action that a body names).
"""

from __future__ import annotations

import dataclasses
import io
import re
from typing import Any
from typing import TYPE_CHECKING
import uuid

from oslo_serialization import jsonutils
from oslo_utils import strutils
from oslo_utils import uuidutils
import webob

from attachguard.guard import operations

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Cinder hands the body to a recursive parser and then to a recursive schema
# validator; nothing that a client sends nests deeper than a connector.
MAX_DEPTH = 50


class Unreadable(Exception):
    """A body or path that does not name one operation with certainty."""


class BodyTooLarge(Exception):
    """A body longer than the limit."""


# A superset of what Routes makes of cinder.api.v3.router: any prefix where it
# wants a project id, any suffix where it wants ``.json``, and the newline that
# ``$`` accepts.  The shortest prefix counts, as Cinder's own is at most one
# word: /volumes/attachments/action is about the volume "attachments".
_PATH = re.compile(
    r'(?P<root>.*?)/'
    r'(?:volumes/(?P<volume>[^/]+)/action(?:\.[^/]*)?\n?'
    r'|attachments/(?P<acting>[^/]+)/action(?:\.[^/]*)?\n?'
    r'|attachments/(?P<member>[^/]+)'
    r'|(?P<transfers>(?:os-volume-transfer|volume-transfers))'
    r'(?:\.[^/]*)?\n?'
    r'|(?P<groups>groups|consistencygroups)/(?P<group>[^/]+)'
    r'(?P<acted>/(?:action|delete)(?:\.[^/]*)?\n?)?'
    r'|(?P<collection>attachments)(?:\.[^/]*)?\n?)\Z',
    re.DOTALL,
)
_JSON_SUFFIX = re.compile(r'\.json\n?\Z')

# The first key of a JSON object, if it is written without escapes.  Cinder
# accepts an action only from an object with exactly one key: if the first one
# is not guarded, then Cinder performs no guarded one.
_FIRST_KEY = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"([^"\\]*)"[ \t\n\r]*:')
_GUARDED_KEYS = frozenset(
    name.encode()
    for name in (
        *operations.VOLUME_ACTIONS,
        *operations.ATTACHMENT_ACTIONS,
    )
)

# The actions whose body may name an attachment.
_NAMING_ATTACHMENT = frozenset(('os-detach', 'os-force_detach'))

# The key of the body that deletes a group, and the one in it that deletes its
# volumes, by the collection (cinder.api.v3.groups, with the dispatcher's
# fallback from a method to the action of its name, and
# cinder.api.contrib.consistencygroups).
_GROUP_KEYS = {
    'groups': ('delete', 'delete-volumes'),
    'consistencygroups': ('consistencygroup', 'force'),
}

_FORM_TYPES = ('application/x-www-form-urlencoded', 'multipart/form-data')


@dataclasses.dataclass(frozen=True)
class Request:
    """A request for one of Cinder's attachment operations.

    :param operation: what it requests
    :param root: the part of the path before ``/volumes`` or ``/attachments``,
        for example
    :param volume_id: the volume that it names: in the path as the caller wrote
        it; in the body only if it is a UUID
    :param attachment_id: the attachment that it names, in the same way
    :param server_id: the server that the body names, as the caller wrote it
    :param host: the host that the body names
    :param has_connector: whether the body has a connector
    :param group_id: the group in the path, as the caller wrote it
    :param groups: the collection of the path that has the group
    """

    operation: operations.Operation
    root: str
    volume_id: str | None = None
    attachment_id: str | None = None
    server_id: str | None = None
    host: str | None = None
    has_connector: bool = False
    group_id: str | None = None
    groups: str = 'groups'

    @property
    def lacks_server(self) -> bool:
        """Whether the body, which could name a server, names none."""
        source = self.operation.server_source
        return (
            source is operations.ServerSource.BODY and self.server_id is None
        )

    @property
    def rule(self) -> str:
        """The policy rule that decides.

        A request that names no server has a rule of its own, because only the
        body distinguishes the two.
        """
        name = f'attachguard:{self.operation.name}'
        return f'{name}:no-server' if self.lacks_server else name


def canonical_uuid(value: str) -> str | None:
    """A UUID in its canonical form.

    :param value: any form that Cinder accepts as a UUID
    :returns: 32 lower-case hexadecimal digits in five groups (:rfc:`9562`,
        section 4), or None if it is not a UUID
    """
    if not uuidutils.is_uuid_like(value):
        return None
    return str(uuid.UUID(value))


def match_path(environ: WSGIEnvironment) -> re.Match[str] | None:
    """Match the path of a request that may be an attachment operation.

    :returns: the parsed path, or None if it cannot be one
    """
    return _PATH.match(environ.get('PATH_INFO', ''))


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read the body, and make it readable again for Cinder.

    :param limit: the longest body to accept, in bytes
    :returns: the body that Cinder will read
    :raises BodyTooLarge: if it is longer
    :raises OSError: if the client sent less than it announced
    """
    announced = environ.get('CONTENT_LENGTH') or ''
    if (
        len(announced) < 19
        and announced.isascii()
        and announced.isdigit()
        and not environ.get('webob.is_body_seekable')
    ):
        # The common case, for a tenth of the cost of WebOb.
        return _read_announced(environ, int(announced), limit)
    request = webob.Request(environ)
    length = request.content_length
    if length is not None and length < 0:
        raise OSError('the announced length is negative')
    if length is not None and length > limit:
        raise BodyTooLarge()
    if not request.is_body_readable:
        return b''
    if request.is_body_seekable:
        environ['wsgi.input'].seek(0)
    source = request.body_file
    body = bytearray()
    while chunk := source.read(limit + 1 - len(body)):
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge()
    # Not through WebOb, which would set a length that nobody announced.
    environ['wsgi.input'] = io.BytesIO(body)
    return bytes(body)


def _read_announced(
    environ: WSGIEnvironment, length: int, limit: int
) -> bytes:
    if length > limit:
        raise BodyTooLarge()
    body: bytes = environ['wsgi.input'].read(length) if length else b''
    if len(body) != length:
        raise OSError(f'{length - len(body)} bytes of the body are missing')
    environ['wsgi.input'] = io.BytesIO(body)
    return body


def parse(
    environ: WSGIEnvironment, path: re.Match[str], body: bytes
) -> Request | None:
    """Parse what a request asks of Cinder.

    :param path: the result of :func:`match_path`
    :param body: the result of :func:`read_body`
    :returns: the request, or None if it is no attachment operation
    :raises Unreadable: if the path or the body does not say with certainty
    """
    method = _method(environ, body)
    try:
        # PEP 3333 puts bytes into a str in this way; WebOb decodes them as
        # UTF-8, and Cinder fails where they are not.
        path.string.encode('latin-1').decode()
    except UnicodeError:
        raise Unreadable('The path is not UTF-8') from None
    if path['collection']:
        return _attachment_create(path, body) if method == 'POST' else None
    if path['transfers']:
        return _transfer_create(path, body) if method == 'POST' else None
    if path['member']:
        return _attachment_member(method, path, body)
    if path['groups']:
        return _group_delete(method, path, body)
    return _action(path, body) if method == 'POST' else None


def _transfer_create(path: re.Match[str], body: bytes) -> Request:
    return Request(
        operations.TRANSFER_CREATE,
        path['root'],
        volume_id=_uuid_in_body(_arguments(body, 'transfer'), 'volume_id'),
    )


def _group_delete(
    method: str, path: re.Match[str], body: bytes
) -> Request | None:
    if method != ('POST' if path['acted'] else 'DELETE'):
        return None
    if not _deletes_volumes(body, *_GROUP_KEYS[path['groups']]):
        # Cinder deletes a group then only if it has no volume.
        return None
    group_id = path['group']
    if not path['acted']:
        group_id = _JSON_SUFFIX.sub('', group_id)
    return Request(
        operations.GROUP_DELETE,
        path['root'],
        group_id=group_id,
        groups=path['groups'],
    )


def _deletes_volumes(body: bytes, key: str, flag: str) -> bool:
    decoded = _parse_json(body) if body else None
    if not isinstance(decoded, dict) or key not in decoded:
        return False
    arguments = decoded[key]
    return not isinstance(arguments, dict) or strutils.bool_from_string(
        arguments.get(flag, False), default=True
    )


def _arguments(body: bytes, key: str) -> dict[str, Any]:
    decoded = _parse_json(body)
    arguments = decoded.get(key) if isinstance(decoded, dict) else None
    if not isinstance(arguments, dict):
        raise Unreadable(f'The body has no object "{key}"')
    return arguments


def _attachment_create(path: re.Match[str], body: bytes) -> Request:
    arguments = _arguments(body, 'attachment')
    return Request(
        operations.ATTACHMENT_CREATE,
        path['root'],
        volume_id=_uuid_in_body(arguments, 'volume_uuid'),
        server_id=_server_id(arguments),
        host=_host(arguments),
        has_connector=arguments.get('connector') is not None,
    )


def _attachment_member(
    method: str, path: re.Match[str], body: bytes
) -> Request | None:
    attachment_id = _JSON_SUFFIX.sub('', path['member'])
    if method == 'DELETE':
        return Request(
            operations.ATTACHMENT_DELETE,
            path['root'],
            attachment_id=attachment_id,
        )
    if method != 'PUT':
        return None
    decoded = _parse_json(body)
    arguments = decoded.get('attachment') if isinstance(decoded, dict) else {}
    return Request(
        operations.ATTACHMENT_UPDATE,
        path['root'],
        attachment_id=attachment_id,
        host=_host(arguments if isinstance(arguments, dict) else {}),
    )


def _action(path: re.Match[str], body: bytes) -> Request | None:
    first = _FIRST_KEY.match(body)
    if first and first[1] not in _GUARDED_KEYS:
        return None
    decoded = _parse_json(body)
    if not isinstance(decoded, dict):
        # Cinder reads the keys of an object, and finds no such action.
        return None
    is_of_volume = path['volume'] is not None
    actions = (
        operations.VOLUME_ACTIONS
        if is_of_volume
        else operations.ATTACHMENT_ACTIONS
    )
    if not actions.keys() & decoded:
        return None
    if len(decoded) != 1:
        raise Unreadable('The body names more than one action')
    ((name, arguments),) = decoded.items()
    operation = actions[name]
    if not is_of_volume:
        return Request(operation, path['root'], attachment_id=path['acting'])
    if not isinstance(arguments, dict):
        arguments = {}
    names_server = operation.server_source is operations.ServerSource.BODY
    return Request(
        operation,
        path['root'],
        volume_id=path['volume'],
        attachment_id=_uuid_in_body(arguments, 'attachment_id')
        if name in _NAMING_ATTACHMENT
        else None,
        server_id=_server_id(arguments) if names_server else None,
        host=_host(arguments),
    )


def _uuid_in_body(arguments: dict[str, Any], name: str) -> str | None:
    # Anything else must not become part of a path.
    value = arguments.get(name)
    return canonical_uuid(value) if isinstance(value, str) else None


def _server_id(arguments: dict[str, Any]) -> str | None:
    server_id = arguments.get('instance_uuid')
    # Any value but null names something, even a number.
    return None if server_id is None else str(server_id)


def _host(arguments: dict[str, Any]) -> str | None:
    host = arguments.get('host_name')
    connector = arguments.get('connector')
    if host is None and isinstance(connector, dict):
        host = connector.get('host')
    return None if host is None else str(host)


def _method(environ: WSGIEnvironment, body: bytes) -> str:
    """The method by which Routes chooses, after its override."""
    method: str = environ['REQUEST_METHOD']
    override: Any
    query = environ.get('QUERY_STRING', '')
    # On copies, because WebOb keeps what it parsed in the environ.
    try:
        if '_method' in query:
            copy = webob.Request({'QUERY_STRING': query})
            override = copy.GET.get('_method')
        elif method == 'POST' and _is_form(environ):
            copy = webob.Request({**environ, 'wsgi.input': io.BytesIO(body)})
            override = copy.POST.get('_method')
        else:
            return method
    except Exception:
        # Bytes that are not text, an unknown charset, a broken multipart:
        # Routes parses it in the same way, and ignores it, or fails as well.
        return method
    # A file upload has no upper(): Routes itself fails on it.
    if isinstance(override, str) and override:
        return override.upper()
    return method


def _is_form(environ: WSGIEnvironment) -> bool:
    content_type: str = environ.get('CONTENT_TYPE', '')
    return content_type.lower().split(';', 1)[0] in _FORM_TYPES


def _parse_json(body: bytes) -> Any:
    try:
        decoded = jsonutils.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable('Malformed request body') from None
    if _depth_exceeds(decoded, MAX_DEPTH):
        raise Unreadable('The body is nested too deeply')
    return decoded


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _depth in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
