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

"""What Cinder knows, asked of the wrapped application as the caller.

The application behind the filter is asked with the caller's own environ, so
that it answers what the caller may see, resolves an id exactly as it will when
it performs the request, and says in its own words what is missing or
malformed.  Nothing here changes anything.

Sources: the Block Storage API v3 reference; ``cinder.api.v3.attachments``
(``allowed_filters``; an admin sees other projects with ``all_tenants``).
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import functools
import io
from typing import Any
from typing import TYPE_CHECKING
from urllib import parse

from oslo_log import log as logging
import webob

from attachguard.guard import request as guard_request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

LOG = logging.getLogger(__name__)

# The first with the attachments API, and the last whose filters an operator's
# resource_filters file does not redefine.
MICROVERSION = '3.27'

_MAX_PAGES = 20

# Of the caller's request, not of ours; and what layers behind this one keep of
# a request in its environ.
_NOT_OURS = frozenset(
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
# What stands in the place of an id and is none: /volumes/detail.
_ROUTES = frozenset(('detail', 'new', 'summary'))
_LAYERS = ('webob.', 'wsgiorg.', 'routes.')


class Unknown(Exception):
    """Cinder did not say.

    :param why: for the operator's log
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Refused(Exception):
    """Cinder itself refuses what the request is about.

    :param response: Cinder's answer (404 for what is missing, say); None
        where the id is the name of another route, so that there is none
    """

    def __init__(self, response: webob.Response | None) -> None:
        super().__init__('no such id' if response is None else response.status)
        self.response = response


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume.

    :param id: its canonical UUID
    :param project_id: its project, or None where the caller is not told
    """

    id: str
    project_id: str | None


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment.

    :param id: its canonical UUID
    :param volume_id: its volume's
    :param server_id: what was given as ``instance_uuid``: a server's id, or
        another consumer's; None for a host
    :param status: Cinder's ``attach_status``: reserved, attaching, attached...
    """

    id: str
    volume_id: str
    server_id: str | None
    status: str | None = None


class Cinder:
    """Asks the wrapped application in the name of one request's caller.

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
        """A volume.

        :param volume_id: as the caller wrote it
        :raises Refused: when Cinder does not show it
        :raises Unknown: when Cinder does not say
        """
        found = self._get_one(f'/volumes/{volume_id}', 'volume')
        try:
            return Volume(
                found['id'], found.get('os-vol-tenant-attr:tenant_id')
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise Unknown('a volume without an id') from exc

    def attachment(self, attachment_id: str) -> Attachment:
        """An attachment.

        :param attachment_id: as the caller wrote it
        :raises Refused: when Cinder does not show it
        :raises Unknown: when Cinder does not say
        """
        try:
            return self._attachment(
                self._get_one(f'/attachments/{attachment_id}', 'attachment')
            )
        except Refused as exc:
            if exc.response is None or exc.response.status_int != 400:
                raise
        # Cinder cannot show an attachment without connection_info when its
        # volume has a "format" (NFS): it answers 400, but lists it.
        wanted = guard_request.canonical_uuid(attachment_id)
        for attachment in self._all_attachments({}):
            if attachment.id == wanted:
                return attachment
        raise Unknown(f'attachment {attachment_id[:64]!r} can not be shown')

    def attachments_of(self, volume_id: str) -> list[Attachment]:
        """All of a volume's attachments, whatever their state.

        :param volume_id: its canonical UUID
        :raises Unknown: when Cinder does not say
        """
        return list(self._all_attachments({'volume_id': volume_id}))

    def rehearse(self, asked: guard_request.Request) -> webob.Response | None:
        """What Cinder says to the same request about nothing.

        A refusal must not hide what Cinder has to say to a bad request, and
        only Cinder knows.  So the request is sent on with the nil UUID in the
        place of the volume's or the attachment's id: it can do nothing, and
        Cinder checks everything else before it looks for the volume.

        :returns: Cinder's answer; None where it fails to give one, or where
            the request cannot be turned into one about nothing
        """
        nothing = asked.on_nothing()
        if nothing is None:
            return None
        path, body = nothing
        environ = self._copy(path)
        for name in ('QUERY_STRING', 'REQUEST_METHOD', 'CONTENT_TYPE'):
            if name in self._environ:
                environ[name] = self._environ[name]
        environ['CONTENT_LENGTH'] = str(len(body))
        environ['wsgi.input'] = io.BytesIO(body)
        try:
            response = webob.Request(environ).send(self._application)
        except Exception as exc:
            LOG.warning(
                'Cinder failed on a rehearsed request: %s', type(exc).__name__
            )
            return None
        if response.status_int < 300:
            LOG.critical(
                'Cinder answered %s to %s of the nil UUID, which does not '
                'exist: please report it to the authors of attachguard',
                response.status,
                environ['REQUEST_METHOD'],
            )
        return response

    def _all_attachments(
        self, filters: dict[str, str]
    ) -> Iterator[Attachment]:
        query = {**filters, 'all_tenants': '1'}
        for _page in range(_MAX_PAGES):
            try:
                page = self._get('/attachments', 'attachments', query)
            except Refused as exc:
                raise Unknown(f'attachments are not listed: {exc}') from exc
            if not isinstance(page, list):
                raise Unknown('attachments that are no list')
            if not page:
                return
            # How long a page may be (osapi_max_limit) is not for us to know.
            for item in page:
                last = self._attachment(item)
                yield last
            query['marker'] = last.id
        raise Unknown(f'more than {_MAX_PAGES} pages of attachments')

    @staticmethod
    def _attachment(item: Any) -> Attachment:
        try:
            return Attachment(
                item['id'],
                item['volume_id'],
                item['instance'],
                item.get('status'),
            )
        except (KeyError, TypeError) as exc:
            raise Unknown('an attachment without id, volume, server') from exc

    def _get_one(self, path: str, key: str) -> Any:
        if path.rpartition('/')[2] in _ROUTES:
            raise Refused(None)
        return self._get(path, key)

    def _get(
        self, path: str, key: str, query: dict[str, str] | None = None
    ) -> Any:
        environ = self._copy(self._root + path)
        environ['REQUEST_METHOD'] = 'GET'
        environ['QUERY_STRING'] = parse.urlencode(query) if query else ''
        environ['HTTP_OPENSTACK_API_VERSION'] = f'volume {MICROVERSION}'
        try:
            response = webob.Request(environ).send(self._application)
        except Exception as exc:
            raise Unknown(f'Cinder failed: {type(exc).__name__}') from exc
        if 400 <= response.status_int < 500:
            raise Refused(response)
        if response.status_int != 200:
            raise Unknown(f'Cinder answered {response.status}')
        try:
            return response.json_body[key]
        except (ValueError, KeyError, TypeError) as exc:
            raise Unknown('Cinder answered something else') from exc

    @functools.cached_property
    def _bare(self) -> WSGIEnvironment:
        return {
            name: value
            for name, value in self._environ.items()
            if name not in _NOT_OURS and not name.startswith(_LAYERS)
        }

    def _copy(self, path: str) -> WSGIEnvironment:
        environ = {**self._bare, 'PATH_INFO': path}
        environ['wsgi.input'] = io.BytesIO()
        environ['CONTENT_LENGTH'] = '0'
        environ['HTTP_ACCEPT'] = 'application/json'
        return environ
