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

"""What a request asks of Cinder, read exactly as Cinder will read it.

A filter that reads a request otherwise than the service behind it can be
walked around.  So this module accepts a superset of the routes that Cinder
connects, looks only at what Cinder's dispatcher looks at (``PATH_INFO``, the
method as Routes overrides it, the body as ``jsonutils`` parses it), and calls
unreadable what it cannot read for certain.

Sources: ``cinder.api.v3.router`` (the routes), ``routes.middleware`` (the
method override), ``cinder.api.openstack.wsgi`` (``get_method`` and
``action_peek_json``: which action a body names).
"""

from __future__ import annotations

import dataclasses
import enum
import io
import re
from typing import Any
from typing import TYPE_CHECKING
import uuid

from oslo_serialization import jsonutils
from oslo_utils import uuidutils
import webob

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

NIL_UUID = str(uuid.UUID(int=0))

# Cinder hands these bytes to a recursive parser and then to a recursive
# schema validator; nothing that a client sends nests deeper than a connector.
MAX_DEPTH = 50


class Unreadable(Exception):
    """A body which does not say for certain what is asked.

    :param request: what could be read: the place of the ids, no operation
    """

    def __init__(self, message: str, request: Request) -> None:
        super().__init__(message)
        self.request = request


class BodyTooLarge(Exception):
    """A body longer than the limit."""


class Claim(enum.Enum):
    """Where a request says which server it speaks of."""

    BODY = 'the body'
    VOLUME = "the volume's attachments"
    ATTACHMENT = "the attachment's server"
    NONE = 'nowhere: the decision needs no server'


@dataclasses.dataclass(frozen=True)
class Operation:
    """One of Cinder's calls that change an attachment.

    :param name: the action's key in the body, or ``attachment-<verb>``
    :param method: the HTTP method, as Cinder's router sees it
    :param path: the path, as the API reference writes it
    :param claim: where to find the server that it speaks of
    :param what: what it does, for the policy reference
    """

    name: str
    method: str
    path: str
    claim: Claim
    what: str


_ACTION = '/volumes/{volume_id}/action'

# The one table of what is guarded.  See the Block Storage API v3 reference,
# "Volume actions" and "Attachments".
OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            'os-attach',
            'POST',
            _ACTION,
            Claim.BODY,
            'Record that a volume is attached to a server or a host.',
        ),
        Operation(
            'os-detach',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Clear the record of an attachment.',
        ),
        Operation(
            'os-reserve',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Mark a volume as about to be attached.',
        ),
        Operation(
            'os-unreserve',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Take back os-reserve.',
        ),
        Operation(
            'os-begin_detaching',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Mark a volume as about to be detached.',
        ),
        Operation(
            'os-roll_detaching',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Take back os-begin_detaching.',
        ),
        Operation(
            'os-initialize_connection',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Export a volume to a connector.',
        ),
        Operation(
            'os-terminate_connection',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Withdraw the export of a volume from a connector.',
        ),
        Operation(
            'os-force_detach',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Clear an attachment whatever its state.',
        ),
        Operation(
            'os-reset_status',
            'POST',
            _ACTION,
            Claim.VOLUME,
            "Overwrite a volume's status, attach status or migration status.",
        ),
        Operation(
            'os-migrate_volume_completion',
            'POST',
            _ACTION,
            Claim.VOLUME,
            'Put a new volume, and its attachments, in the place of another.',
        ),
        Operation(
            'attachment-create',
            'POST',
            '/attachments',
            Claim.BODY,
            'Reserve a volume for a server, or connect it at once.',
        ),
        Operation(
            'attachment-update',
            'PUT',
            '/attachments/{attachment_id}',
            Claim.ATTACHMENT,
            'Connect a reserved attachment to a host.',
        ),
        Operation(
            'attachment-complete',
            'POST',
            '/attachments/{attachment_id}/action',
            Claim.ATTACHMENT,
            'Mark an attachment as attached, and its volume as in-use.',
        ),
        Operation(
            'attachment-delete',
            'DELETE',
            '/attachments/{attachment_id}',
            Claim.ATTACHMENT,
            'Remove an attachment, and withdraw its export.',
        ),
    )
}

VOLUME_ACTIONS = frozenset(
    operation.name
    for operation in OPERATIONS.values()
    if operation.path == _ACTION
)
COMPLETE = 'os-complete'

# A superset of what Routes makes of cinder.api.v3.router: any prefix where it
# wants a project id, any suffix where it wants ``.json``, and the newline that
# ``$`` lets through.
_TARGET = re.compile(
    r'(?P<root>.*)/'
    r'(?:volumes/(?P<volume>[^/]+)/action(?:\.[^/]*)?\n?'
    r'|attachments/(?P<acting>[^/]+)/action(?:\.[^/]*)?\n?'
    r'|attachments/(?P<member>[^/]+)'
    r'|(?P<collection>attachments)(?:\.[^/]*)?\n?)\Z',
    re.DOTALL,
)
_JSON_SUFFIX = re.compile(r'\.json\n?\Z')

# The first key of a JSON object, when it is written without escapes.  Cinder
# takes an action only from an object with exactly one key: if the first one
# is not guarded, then no guarded one is performed.
_FIRST_KEY = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"([^"\\]*)"[ \t\n\r]*:')
_GUARDED_KEYS = frozenset(
    name.encode() for name in (*VOLUME_ACTIONS, COMPLETE)
)

_FORM_TYPES = ('application/x-www-form-urlencoded', 'multipart/form-data')


@dataclasses.dataclass(frozen=True)
class Request:
    """A request for one of Cinder's attachment operations.

    Ids are as the caller wrote them: whether they are UUIDs, and of what, is
    for Cinder to say.

    :param operation: what is asked, or None when the body does not say
    :param path: ``PATH_INFO``
    :param span: where in ``path`` the id stands, or None where there is none
    :param root: the part of ``path`` before ``/volumes`` or ``/attachments``
    :param raw: the body, in bytes
    :param body: the parsed body, or None where it plays no part
    """

    operation: Operation | None
    path: str
    span: tuple[int, int] | None
    root: str
    raw: bytes
    body: Any = None

    @property
    def _path_id(self) -> str | None:
        return None if self.span is None else self.path[slice(*self.span)]

    @property
    def _arguments(self) -> dict[str, Any]:
        assert self.operation is not None
        if not isinstance(self.body, dict):
            return {}
        key = self.operation.name
        if key == 'attachment-create':
            key = 'attachment'
        arguments = self.body.get(key)
        return arguments if isinstance(arguments, dict) else {}

    @property
    def volume_id(self) -> str | None:
        """The volume that the request names, in its path or in its body."""
        assert self.operation is not None
        if self.operation.path == _ACTION:
            return self._path_id
        if self.operation.name == 'attachment-create':
            volume_id = self._arguments.get('volume_uuid')
            return volume_id if isinstance(volume_id, str) else None
        return None

    @property
    def attachment_id(self) -> str | None:
        """The attachment that the request names."""
        assert self.operation is not None
        if self.operation.claim is Claim.ATTACHMENT:
            return self._path_id
        if self.operation.name in ('os-detach', 'os-force_detach'):
            attachment_id = self._arguments.get('attachment_id')
            return attachment_id if isinstance(attachment_id, str) else None
        return None

    @property
    def server_id(self) -> str | None:
        """The server that the body names.

        :returns: what the caller wrote (a UUID or not), or None
        """
        assert self.operation is not None
        if self.operation.claim is not Claim.BODY:
            return None
        server_id = self._arguments.get('instance_uuid')
        # Whatever is there and is no null names something, be it a number.
        return None if server_id is None else str(server_id)

    @property
    def host(self) -> str | None:
        """The host that the body names."""
        arguments = self._arguments
        host = arguments.get('host_name')
        connector = arguments.get('connector')
        if host is None and isinstance(connector, dict):
            host = connector.get('host')
        return None if host is None else str(host)

    @property
    def rule(self) -> str:
        """The policy rule that decides.

        A host can be attached to, and a volume reserved for nobody, under
        rules of their own, because only the body tells them apart.
        """
        assert self.operation is not None
        name = f'attachguard:{self.operation.name}'
        if self.operation.claim is Claim.BODY and self.server_id is None:
            return f'{name}:no-server'
        return name

    def on_nothing(self) -> tuple[str, bytes] | None:
        """The same request about a volume or attachment that cannot exist.

        :returns: the path and the body, with the nil UUID (:rfc:`9562`,
            section 5.9) in the place of the id; None where it is not known
            for certain what stands in that place
        """
        if self.span is not None:
            start, end = self.span
            return self.path[:start] + NIL_UUID + self.path[end:], self.raw
        if not isinstance(self.body, dict):
            return None
        arguments = self.body.get('attachment')
        if isinstance(arguments, dict) and 'volume_uuid' in arguments:
            arguments = {**arguments, 'volume_uuid': NIL_UUID}
        body = {**self.body, 'attachment': arguments}
        return self.path, jsonutils.dump_as_bytes(body)


def canonical_uuid(value: str) -> str | None:
    """A UUID in its canonical form.

    :param value: any form which Cinder takes for a UUID
    :returns: 32 lower-case hexadecimal digits in five groups (:rfc:`9562`,
        section 4), or None for what is no UUID
    """
    if not uuidutils.is_uuid_like(value):
        return None
    return str(uuid.UUID(value))


def is_candidate(environ: WSGIEnvironment) -> re.Match[str] | None:
    """Whether a request goes where attachment operations go.

    :returns: the parsed path, or None for a request that is none of ours
    """
    return _TARGET.match(environ.get('PATH_INFO', ''))


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read the body, and leave it to be read again.

    :param limit: the longest body to accept, in bytes
    :returns: the body that Cinder will see
    :raises BodyTooLarge: for a longer one
    :raises OSError: where the client sent less than it announced
    """
    announced = environ.get('CONTENT_LENGTH') or ''
    if (
        len(announced) < 19
        and announced.isascii()
        and announced.isdigit()
        and not environ.get('webob.is_body_seekable')
    ):
        # The common case, for a tenth of what WebOb takes.
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
    # Not by way of WebOb, which would note a length that nobody announced.
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
    environ: WSGIEnvironment, target: re.Match[str], body: bytes
) -> Request | None:
    """What a candidate asks.

    :param target: what :func:`is_candidate` gave
    :param body: what :func:`read_body` gave
    :returns: the request, or None when it is no attachment operation
    :raises Unreadable: when the body does not say
    """
    method = _method(environ, body)
    path = target.string
    root = target['root']
    try:
        # PEP 3333 puts bytes into a str in this way; WebOb takes them for
        # UTF-8, and Cinder fails where they are not.
        path.encode('latin-1').decode()
    except UnicodeError:
        raise Unreadable(
            'The path is not UTF-8', Request(None, path, None, root, body)
        ) from None
    if target['collection']:
        if method != 'POST':
            return None
        create = OPERATIONS['attachment-create']
        found = Request(create, path, None, root, body)
        found = dataclasses.replace(found, body=_parse_json(body, found))
        if not isinstance(found.body, dict) or not isinstance(
            found.body.get('attachment'), dict
        ):
            raise Unreadable('The body holds no attachment', found)
        return found
    if target['member']:
        span = target.span('member')
        if suffix := _JSON_SUFFIX.search(path, *span):
            span = (span[0], suffix.start())
        if method == 'PUT':
            update = OPERATIONS['attachment-update']
            unread = Request(update, path, span, root, body)
            return dataclasses.replace(unread, body=_parse_json(body, unread))
        if method == 'DELETE':
            delete = OPERATIONS['attachment-delete']
            return Request(delete, path, span, root, body)
        return None
    if method != 'POST':
        return None
    if first := _FIRST_KEY.match(body):
        if first[1] not in _GUARDED_KEYS:
            return None
    of_volume = target['volume'] is not None
    span = target.span('volume' if of_volume else 'acting')
    unknown = Request(None, path, span, root, body)
    decoded = _parse_json(body, unknown)
    if not isinstance(decoded, dict):
        # Cinder asks it for its keys, and finds no such action.
        return None
    guarded = VOLUME_ACTIONS if of_volume else {COMPLETE}
    if not guarded.intersection(decoded):
        return None
    if len(decoded) != 1:
        raise Unreadable('The body names more than one action', unknown)
    name = next(iter(decoded)) if of_volume else 'attachment-complete'
    return Request(OPERATIONS[name], path, span, root, body, decoded)


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
        # Bytes that are no text, a strange charset, a broken multipart:
        # Routes reads it by the same means, and ignores it, or fails as well.
        return method
    # A file upload has no upper(): there Routes itself fails.
    if isinstance(override, str) and override:
        return override.upper()
    return method


def _is_form(environ: WSGIEnvironment) -> bool:
    content_type: str = environ.get('CONTENT_TYPE', '')
    return content_type.lower().split(';', 1)[0] in _FORM_TYPES


def _parse_json(body: bytes, request: Request) -> Any:
    try:
        decoded = jsonutils.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable('Malformed request body', request) from None
    if _depth_exceeds(decoded, MAX_DEPTH):
        raise Unreadable('The body is nested too deeply', request)
    return decoded


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _depth in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
