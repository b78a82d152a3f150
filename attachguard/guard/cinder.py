# SPDX-License-Identifier: Apache-2.0
"""Reads of Cinder's API, made through the wrapped application.

Whether the caller may see a volume or an attachment is read with the caller's
own environ: Cinder resolves an id exactly as it will when it performs the
request, and reports in its own words what is missing.  Everything else is read
with an elevated context (``cinder.context``), because the decision needs what
Cinder hides from members: a migration, and attachments of other projects.
Nothing here changes anything.

Sources: the Block Storage API v3 reference; ``cinder.api.v3.attachments`` and
``cinder.api.v3.volumes`` (an admin can filter lists by any column, and sees
other projects with ``all_tenants``); ``cinder.context.RequestContext``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import io
import re
import time
from typing import Any
from typing import TYPE_CHECKING
from urllib import parse

from oslo_utils import timeutils
import webob

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

# For lists: the first with the attachments API, and the last whose filters an
# operator's resource_filters file does not redefine.
LIST_MICROVERSION = '3.27'

# A list ends with a page that is not full. Few volumes have more attachments
# than a page, except those of Glance's Cinder store.
PAGE_SIZE = 100
_MAX_PAGES = 20

# At the end of its work on a volume, Cinder writes the status from before it,
# or deletes the volume. What clears an attachment meanwhile, or os-detach
# without any, writes available: Nova can attach the volume, and the end of the
# work makes it available, or in-use by nothing, or removes it.
#: Statuses in which Cinder works on a volume.
STATUSES_OF_WORK = frozenset(
    (
        'backing-up',
        'creating',
        'deleting',
        'downloading',
        'extending',
        'maintenance',
        'managing',
        'restoring-backup',
        'retyping',
        'reverting',
        'unmanaging',
        'uploading',
    )
)
#: The migration_status of a volume that is not being migrated.
NOT_MIGRATING = frozenset((None, '', 'none', 'success', 'error'))

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
_CONTEXT = 'cinder.context'
_VERSION = 'HTTP_OPENSTACK_API_VERSION'
_EXACT_VERSION = re.compile(r'volume 3\.[0-9]+')
_API_VERSION = 'OpenStack-API-Version'
# What Cinder's response reports of the request: its microversion, its id.
_API_HEADERS = (_API_VERSION, 'Vary', 'x-compute-request-id')
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
    :param project_id: its project, or None if it is not shown
    :param status: its status
    :param migration_status: of its migration, or None
    :param changed_at: when its record last changed, in UTC without a time
        zone, or None if it is not shown
    :param attached: the ids of its attachments in the status ``attached``
    :param group_id: of its group, or None
    """

    id: str
    project_id: str | None = None
    status: str | None = None
    migration_status: str | None = None
    changed_at: datetime.datetime | None = None
    attached: frozenset[str] = frozenset()
    group_id: str | None = None

    @property
    def is_migrating(self) -> bool:
        """Whether Cinder migrates it, or another volume to it."""
        return self.migration_status not in NOT_MIGRATING

    @property
    def is_busy(self) -> bool:
        """Whether Cinder works on it."""
        return (
            self.is_migrating
            or self.status in STATUSES_OF_WORK
            or self.status == 'awaiting-transfer'
        )

    def is_older_than(self, seconds: float) -> bool:
        """Whether its record has not changed for some time.

        :param seconds: the time; False if the time of the change is not known
        """
        return self.changed_at is not None and timeutils.is_older_than(
            self.changed_at, seconds
        )


@dataclasses.dataclass(frozen=True)
class Attachment:
    """An attachment.

    :param id: its canonical UUID
    :param volume_id: its volume's
    :param server_id: the value of ``instance_uuid``: a server's id, or
        another consumer's; None for a host
    :param status: Cinder's ``attach_status``: reserved, attaching, attached...
    :param is_connected: whether it was ever connected to a host
    """

    id: str
    volume_id: str
    server_id: str | None
    status: str | None = None
    is_connected: bool = False


class Cinder:
    """Cinder's API for one request.

    :param application: the rest of the pipeline
    :param environ: the caller's request
    :param root: the part of its path before ``/volumes`` or ``/attachments``,
        for example
    :param deadline: until when lists may be read, by the monotonic clock
    :param page_size: rows of a page; not more than Cinder's osapi_max_limit
    """

    def __init__(
        self,
        application: WSGIApplication,
        environ: WSGIEnvironment,
        root: str,
        deadline: float = float('inf'),
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._application = application
        self._environ = environ
        self._root = root
        self._deadline = deadline
        self._page_size = page_size

    def check_volume(self, volume_id: str) -> Mapping[str, str]:
        """Check that Cinder shows a volume to the caller.

        :param volume_id: as the caller wrote it
        :returns: headers of Cinder's response about the request, which is to
            the microversion that the caller requests
        :raises NotShown: if it does not
        :raises Unknown: if Cinder's response does not say
        """
        return self._check('/volumes/', volume_id)

    def check_attachment(self, attachment_id: str) -> Mapping[str, str]:
        """Check that Cinder shows an attachment to the caller.

        Otherwise as :meth:`check_volume`.
        """
        return self._check('/attachments/', attachment_id)

    def check_group(self, groups: str, group_id: str) -> Mapping[str, str]:
        """Check that Cinder shows a group to the caller.

        Otherwise as :meth:`check_volume`.

        :param groups: the collection: ``groups`` or ``consistencygroups``
        :param group_id: as the caller wrote it
        """
        return self._check(f'/{groups}/', group_id)

    def volume(self, volume_id: str) -> Volume:
        """Read a volume, whoever it belongs to.

        :param volume_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        for volume in self._volumes({'id': volume_id}):
            if volume.id == volume_id:
                return volume
        raise Unknown('the volume is not listed')

    def group_volumes(self, group_id: str) -> Iterator[Volume]:
        """Read all volumes of a group, whoever they belong to.

        :param group_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        for volume in self._volumes({'group_id': group_id}):
            if volume.group_id == group_id:
                yield volume

    def has_backup_in_progress(self, volume_id: str) -> bool:
        """Whether Cinder makes a backup of a volume.

        The volume's status does not always say so: if its server is deleted
        meanwhile, Cinder writes ``available``.

        :param volume_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        query = {'volume_id': volume_id, 'status': 'creating'}
        for backup in self._list('/backups/detail', 'backups', query):
            try:
                if backup['volume_id'] == volume_id:
                    return True
            except (KeyError, TypeError) as exc:
                raise Unknown('a backup without its volume') from exc
        return False

    def attachment(self, attachment_id: str) -> Attachment:
        """Read an attachment, whoever it belongs to.

        It is read from a list: on its own, Cinder cannot show one without
        connection_info if its volume has a "format" (NFS).

        :param attachment_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        query = {'id': attachment_id}
        for attachment in self._attachments(query):
            if attachment.id == attachment_id:
                return attachment
        raise Unknown('the attachment is not listed')

    def attachments(self, volume_id: str) -> Iterator[Attachment]:
        """Read all attachments of a volume, in any state, whoever made them.

        :param volume_id: its canonical UUID
        :raises Unknown: if Cinder's response does not say
        """
        return self._attachments({'volume_id': volume_id})

    def own_attachment(self, attachment_id: str) -> Attachment | None:
        """Read an attachment of a volume of the caller's own project.

        :param attachment_id: its canonical UUID
        :returns: None if there is none such in the caller's project
        :raises Unknown: if Cinder's response does not say
        """
        query = {'id': attachment_id}
        for found in self._attachments(query, every_project=False):
            if found.id == attachment_id:
                return found
        return None

    def own_attachments(self, volume_id: str) -> Iterator[Attachment]:
        """Read all attachments of a volume of the caller's own project.

        :param volume_id: its canonical UUID
        :returns: nothing for a volume of another project; for an admin as
            :meth:`attachments`
        :raises Unknown: if Cinder's response does not say
        """
        return self._attachments({'volume_id': volume_id}, elevated=False)

    def api_headers(self) -> Mapping[str, str] | None:
        """Headers of any response of Cinder to the caller.

        :returns: None if only Cinder can tell: for "latest", for example
        """
        version = self._environ.get(_VERSION, '')
        if not _EXACT_VERSION.fullmatch(version):
            return None
        return {_API_VERSION: version, 'Vary': _API_VERSION}

    def _volumes(self, query: dict[str, str]) -> Iterator[Volume]:
        for row in self._list('/volumes/detail', 'volumes', query):
            try:
                volume = _volume(row)
            except (KeyError, TypeError, ValueError, AttributeError) as exc:
                raise Unknown(
                    'a volume without id, status or migration status, which '
                    'only admins see: is attachguard after keystonecontext?'
                ) from exc
            yield volume

    def _attachments(
        self,
        query: dict[str, str],
        elevated: bool = True,
        every_project: bool = True,
    ) -> Iterator[Attachment]:
        rows = self._list(
            '/attachments/detail',
            'attachments',
            query,
            elevated,
            every_project,
        )
        for row in rows:
            try:
                attachment = Attachment(
                    row['id'],
                    row['volume_id'],
                    row['instance'],
                    row.get('status'),
                    bool(row.get('connection_info')),
                )
            except (KeyError, TypeError, AttributeError) as exc:
                raise Unknown(
                    'an attachment without id, volume, server'
                ) from exc
            if attachment.volume_id == query.get(
                'volume_id', attachment.volume_id
            ):
                yield attachment

    def _list(
        self,
        path: str,
        key: str,
        filters: dict[str, str],
        elevated: bool = True,
        every_project: bool = True,
    ) -> Iterator[Any]:
        """Read a list, page by page.

        What changes between two pages does not matter: a marker that is gone
        makes it start again.
        """
        first = {**filters, 'limit': str(self._page_size)}
        if every_project:
            first['all_tenants'] = '1'
        query = dict(first)
        for number in range(_MAX_PAGES):
            if number and time.monotonic() > self._deadline:
                raise Unknown(f'no time is left to list {key}')
            try:
                response = self._get(
                    path,
                    elevated,
                    QUERY_STRING=parse.urlencode(query),
                    **{_VERSION: f'volume {LIST_MICROVERSION}'},
                )
            except NotShown as exc:
                if 'marker' in query:
                    query = dict(first)
                    continue
                raise Unknown(f'{key} are not listed: {exc}') from exc
            page = _content(response, key)
            if not isinstance(page, list):
                raise Unknown(f'{key} that are not a list')
            yield from page
            if len(page) < self._page_size:
                return
            query['marker'] = page[-1]['id']
        raise Unknown(f'more than {_MAX_PAGES} pages of {key}')

    def _check(self, path: str, id_: str) -> Mapping[str, str]:
        if id_ in _ROUTES:
            raise NotShown(None)
        response = self._get(path + id_, elevated=False)
        return {
            name: response.headers[name]
            for name in _API_HEADERS
            if name in response.headers
        }

    def _get(
        self, path: str, elevated: bool, **changed: str
    ) -> webob.Response:
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
        if elevated and _CONTEXT in environ:
            environ[_CONTEXT] = environ[_CONTEXT].elevated()
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


def _volume(row: Mapping[str, Any]) -> Volume:
    changed = row.get('updated_at') or row.get('created_at')
    return Volume(
        row['id'],
        row.get('os-vol-tenant-attr:tenant_id'),
        row['status'],
        # Hidden is not absent: without it, the volume may be migrating.
        row['os-vol-mig-status-attr:migstat'],
        timeutils.normalize_time(timeutils.parse_isotime(changed))
        if changed
        else None,
        frozenset(
            item['attachment_id'] for item in row.get('attachments', ())
        ),
        row.get('group_id'),
    )
