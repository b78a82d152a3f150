# SPDX-License-Identifier: Apache-2.0
"""Reads of Cinder's API, made through the wrapped application.

The application behind the filter is queried with the caller's own environ, so
that it shows what the caller may see, resolves an id exactly as it will when
it performs the request, and reports in its own words what is missing.
Nothing here changes anything.

Sources: the Block Storage API v3 reference; ``cinder.api.v3.attachments``
(``allowed_filters``; an admin sees other projects with ``all_tenants``).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import io
from typing import Any
from typing import TYPE_CHECKING
from urllib import parse

import webob

from attachguard.guard import request as request_parser

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

# For lists: the first with the attachments API, and the last whose filters an
# operator's resource_filters file does not redefine.
LIST_MICROVERSION = '3.27'

_MAX_PAGES = 20

# Headers of the caller's request that do not apply to a read, and what layers
# behind this one keep of a request in its environ.
_NOT_COPIED = frozenset(
    (
        'CONTENT_LENGTH',
        'CONTENT_TYPE',
        'HTTP_ACCEPT',
        'HTTP_EXPECT',
        'HTTP_IF_MATCH',
        'HTTP_IF_MODIFIED_SINCE',
        'HTTP_IF_NONE_MATCH',
        'HTTP_IF_UNMODIFIED_SINCE',
        'HTTP_RANGE',
        'HTTP_TRANSFER_ENCODING',
        'REQUEST_URI',
        'RAW_URI',
        'cinder.best_content_type',
        'wsgi.input_terminated',
    )
)
_LAYERS = ('webob.', 'wsgiorg.', 'routes.')
# What Cinder's response reports of the request: its microversion, its id.
_API_HEADERS = ('OpenStack-API-Version', 'Vary', 'x-compute-request-id')
# Routes that have a word where others have an id: /volumes/detail.
_ROUTES = frozenset(('detail', 'new', 'summary'))


class Unknown(Exception):
    """Cinder's response does not answer the query.

    :param detail: for the operator's log
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotShown(Exception):
    """Cinder does not show the volume or attachment to the caller.

    :param response: Cinder's response (404 if it does not exist, for
        example); None if the id is the name of another route, so that there
        is none
    """

    def __init__(self, response: webob.Response | None) -> None:
        super().__init__('no such id' if response is None else response.status)
        self.response = response


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume.

    :param id: its canonical UUID
    :param project_id: its project, or None if the caller may not see it
    :param api_headers: headers of Cinder's response about the request, which
        is to the microversion that the caller requests
    """

    id: str
    project_id: str | None
    api_headers: Mapping[str, str] = dataclasses.field(
        default_factory=dict, compare=False
    )


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment.

    :param id: its canonical UUID; empty for one that does not exist yet
    :param volume_id: its volume's
    :param server_id: the value of ``instance_uuid``: a server's id, or
        another consumer's; None for a host
    :param status: Cinder's ``attach_status``: reserved, attaching, attached...
    """

    id: str
    volume_id: str
    server_id: str | None
    status: str | None = None


class Cinder:
    """Cinder's API as the caller of one request sees it.

    :param application: the rest of the pipeline
    :param environ: the caller's request
    :param root: the part of its path before ``/volumes`` or ``/attachments``
    """

    def __init__(
        self, application: WSGIApplication, environ: WSGIEnvironment, root: str
    ) -> None:
        self._application = application
        self._environ = environ
        self._root = root

    def volume(self, volume_id: str) -> Volume:
        """Read a volume.

        :param volume_id: as the caller wrote it
        :raises NotShown: if Cinder does not show it
        :raises Unknown: if Cinder's response does not say
        """
        response = self._get_one('/volumes/', volume_id)
        row = _content(response, 'volume')
        headers = {
            name: response.headers[name]
            for name in _API_HEADERS
            if name in response.headers
        }
        try:
            project_id = row.get('os-vol-tenant-attr:tenant_id')
            return Volume(row['id'], project_id, headers)
        except (KeyError, TypeError, AttributeError) as exc:
            raise Unknown('a volume without an id') from exc

    def attachment(self, attachment_id: str) -> Attachment:
        """Read an attachment.

        :param attachment_id: as the caller wrote it
        :raises NotShown: if Cinder does not show it
        :raises Unknown: if Cinder's response does not say
        """
        try:
            response = self._get_one('/attachments/', attachment_id)
            return _attachment(_content(response, 'attachment'))
        except NotShown as exc:
            if exc.response is None or exc.response.status_int != 400:
                raise
        # Cinder cannot show an attachment without connection_info when its
        # volume has a "format" (NFS): it responds with 400, but lists it.
        canonical = request_parser.canonical_uuid(attachment_id)
        for attachment in self._list_attachments({}):
            if attachment.id == canonical:
                return attachment
        raise Unknown(f'attachment {attachment_id[:64]!r} cannot be shown')

    def attachments(self, volume_id: str) -> list[Attachment]:
        """Read all attachments of a volume, in any state.

        :param volume_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        return list(self._list_attachments({'volume_id': volume_id}))

    def _list_attachments(
        self, filters: dict[str, str]
    ) -> Iterator[Attachment]:
        query = {**filters, 'all_tenants': '1'}
        for _page in range(_MAX_PAGES):
            try:
                response = self._get(
                    '/attachments',
                    QUERY_STRING=parse.urlencode(query),
                    HTTP_OPENSTACK_API_VERSION=f'volume {LIST_MICROVERSION}',
                )
            except NotShown as exc:
                raise Unknown(f'attachments are not listed: {exc}') from exc
            page = _content(response, 'attachments')
            if not isinstance(page, list):
                raise Unknown('attachments that are not a list')
            if not page:
                return
            # The length of a page (osapi_max_limit) is not known here.
            for row in page:
                last = _attachment(row)
                yield last
            query['marker'] = last.id
        raise Unknown(f'more than {_MAX_PAGES} pages of attachments')

    def _get_one(self, path: str, id_: str) -> webob.Response:
        if id_ in _ROUTES:
            raise NotShown(None)
        return self._get(path + id_)

    def _get(self, path: str, **changed: str) -> webob.Response:
        environ = {
            name: value
            for name, value in self._environ.items()
            if name not in _NOT_COPIED and not name.startswith(_LAYERS)
        }
        environ |= {
            'PATH_INFO': self._root + path,
            'REQUEST_METHOD': 'GET',
            'QUERY_STRING': '',
            'CONTENT_LENGTH': '0',
            'HTTP_ACCEPT': 'application/json',
            'wsgi.input': io.BytesIO(),
            **changed,
        }
        try:
            response = _call(self._application, environ)
        except Exception as exc:
            raise Unknown(f'Cinder failed: {type(exc).__name__}') from exc
        if 400 <= response.status_int < 500:
            raise NotShown(response)
        if response.status_int != 200:
            raise Unknown(f'HTTP {response.status} from Cinder')
        return response


def _call(
    application: WSGIApplication, environ: WSGIEnvironment
) -> webob.Response:
    """Call an application, and read and close its response (:pep:`3333`)."""
    status, headers, app_iter = webob.Request(environ).call_application(
        application
    )
    try:
        body = b''.join(app_iter)
    finally:
        close = getattr(app_iter, 'close', None)
        if close is not None:
            close()
    return webob.Response(status=status, headerlist=headers, app_iter=[body])


def _content(response: webob.Response, key: str) -> Any:
    try:
        return response.json_body[key]
    except (ValueError, KeyError, TypeError) as exc:
        raise Unknown(f'HTTP 200 without "{key}" from Cinder') from exc


def _attachment(row: Any) -> Attachment:
    try:
        return Attachment(
            row['id'], row['volume_id'], row['instance'], row.get('status')
        )
    except (KeyError, TypeError) as exc:
        raise Unknown('an attachment without id, volume, server') from exc
