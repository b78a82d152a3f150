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


"""Cinder and Nova of one cloud, asked as an administrator.

The only module of the audit that talks to a cloud, through the adapters of
openstacksdk.  Reads are tried again where a service or a proxy is busy for a
moment; writes never are.  A service token is never sent: it would switch off
Cinder's own check before it deletes an attachment (CVE-2023-2088).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import http.client
import json
import re
from typing import Any
from typing import TYPE_CHECKING
import urllib.parse

from keystoneauth1 import exceptions as ksa_exceptions
from oslo_log import log as logging
import urllib3

from attachguard.audit import model
from attachguard.audit.collect import rest
from attachguard.guard import request as guard_request

if TYPE_CHECKING:
    from openstack import connection as sdk_connection

LOG = logging.getLogger(__name__)

#: Attachments can be listed and deleted from here on; an administrator can
#: filter volumes by any column up to 3.30.
VOLUME_VERSION = '3.27'
#: Attachments can be completed.
COMPLETE_VERSION = '3.44'
#: A server in a cell that does not answer is shown, as of unknown status. (In
#: a list it is left out all the same, as in each that has pages.)
SERVER_VERSION = '2.69'
#: Nova says by which attachment it has a volume.
ATTACHMENT_VERSION = '2.89'

#: What both services give out at most, as they are configured by default.
PAGE = 1000

# So many of what a page ends with may be deleted before the next is asked for.
_MARKERS = 20

# As a proxy or a rate limit says "not now".
_NOT_NOW = (429, 502, 503, 504)
_TRIES = 3

# Bytes of an answer. A page is a few megabytes.
_LONGEST = 256 * 1024 * 1024

# What openstacksdk calls a cloud that has no name: that of the environment or
# the command line.
_NAMELESS = ('defaults', 'envvars')


# What nearly all are.
_CANONICAL = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


class Cloud:
    """One cloud and region.

    :param connection: of openstacksdk
    :param timeout: seconds, for each connect and each read
    """

    def __init__(
        self,
        connection: sdk_connection.Connection,
        timeout: float = 120,
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._adapters: dict[str, Any] = {}
        self._cell_is_down = False

    def close(self) -> None:
        """Close its idle connections, which openstacksdk keeps for ever."""
        self._connection.session.session.close()

    @property
    def name(self) -> str:
        """Its name in clouds.yaml, or the address of its Keystone."""
        name = str(self._connection.config.name or '')
        return self._auth_url if name in ('', *_NAMELESS) else name

    @property
    def identity(self) -> str:
        """What tells it from other clouds, whatever they are called here."""
        return f'{self._auth_url} {self.region or ""}'.strip()

    @property
    def _auth_url(self) -> str:
        auth = self._connection.config.config.get('auth', {})
        return str(auth.get('auth_url', ''))

    @property
    def region(self) -> str | None:
        """The region, where it has a name."""
        found: str | None = self._connection.config.get_region_name()
        return found or None

    def log_in(self) -> None:
        """Get a token, and see that both services are in the catalog.

        :raises rest.CloudError: where that fails
        """
        try:
            self._connection.session.get_token()
        except ksa_exceptions.Unauthorized as exc:
            raise rest.CloudError(
                f'Keystone does not accept the credentials: {exc}'
            ) from exc
        except (ksa_exceptions.ClientException, OSError) as exc:
            raise rest.CloudError(
                f'Keystone cannot be used: {_say(exc)}'
            ) from exc
        for service in ('block_storage', 'compute'):
            self._adapter(service)

    def project_id(self) -> str | None:
        """The project that the credentials are for."""
        found: str | None = self._connection.session.get_project_id()
        return found

    def cinder(
        self,
        method: str,
        path: str,
        body: Any = None,
        version: str = VOLUME_VERSION,
    ) -> rest.Response:
        """Call the Block Storage API.

        :param method: of HTTP
        :param path: below the endpoint, with what it has to carry
        :param body: to be JSON
        :param version: the microversion
        """
        return self._call('block_storage', method, path, version, body)

    def nova(self, path: str, version: str = SERVER_VERSION) -> rest.Response:
        """Ask the Compute API, of which nothing is changed.

        :param path: below the endpoint
        :param version: the microversion
        """
        return self._call('compute', 'GET', path, version)

    def volumes(self, **filters: str) -> Iterator[rest.Page]:
        """List volumes of all projects with their attachments.

        :param filters: columns of Cinder's table ``volumes``
        :raises rest.CloudError: where that is not to be had
        """
        return self._pages(
            self._read_cinder,
            '/volumes/detail',
            'volumes',
            filters,
            'volumes_links',
        )

    def attachments(self, **filters: str) -> Iterator[rest.Page]:
        """List attachments of all projects.

        :param filters: ``volume_id``, ``instance_id``, ``attach_status``
        :raises rest.CloudError: where that is not to be had
        """
        return self._pages(
            self._read_cinder, '/attachments', 'attachments', filters, None
        )

    def servers(self) -> Iterator[rest.Page]:
        """List the servers of all projects with their volumes.

        Also those that are only marked as deleted: they can be restored, with
        their volumes (``reclaim_instance_interval``). And until a page is
        empty: Nova can have more where one is short, and gives no link.

        :raises rest.CloudError: where that is not to be had
        """
        return self._pages(
            self._read_nova,
            '/servers/detail',
            'servers',
            {'soft_deleted': 'true'},
            None,
        )

    def _read_cinder(self, path: str) -> rest.Response:
        return self._call(
            'block_storage', 'GET', path, VOLUME_VERSION, patient=True
        )

    def _read_nova(self, path: str) -> rest.Response:
        return self._call('compute', 'GET', path, SERVER_VERSION, patient=True)

    def _pages(
        self,
        ask: Callable[[str], rest.Response],
        path: str,
        key: str,
        filters: Mapping[str, str],
        links: str | None,
    ) -> Iterator[rest.Page]:
        markers: list[str] = []
        begun = 1
        while True:
            query = {'all_tenants': '1', 'limit': str(PAGE), **filters}
            if markers:
                query['marker'] = markers[-1]
            answer = ask(f'{path}?{urllib.parse.urlencode(query)}')
            if answer.status in (400, 404) and len(markers) > 1:
                # What the page ended with is deleted: go on from what was
                # before it. Something is listed twice then.
                markers.pop()
                continue
            if answer.status in (400, 404) and markers and begun < _TRIES:
                # All of a page, which need not have been long: from the start.
                begun += 1
                markers = []
                continue
            rows = answer.body.get(key)
            if answer.status != 200 or not isinstance(rows, list):
                raise rest.CloudError(_cannot_list(key, answer))
            yield rest.Page(rows, answer.evidence)
            if not rows or links is not None and not answer.body.get(links):
                return
            last = markers[-1:]
            try:
                markers = [str(row['id']) for row in rows[-_MARKERS:]]
            except (KeyError, TypeError):
                raise rest.CloudError(_cannot_list(key, answer)) from None
            if markers[-1:] == last:
                raise rest.CloudError(
                    f'{key} cannot be listed: the pages have no end '
                    f'({answer.evidence.call})'
                )

    def _adapter(self, service: str) -> Any:
        if service not in self._adapters:
            name = {'block_storage': 'Cinder', 'compute': 'Nova'}[service]
            try:
                adapter = getattr(self._connection, service)
                endpoint = adapter.get_endpoint()
            except Exception as exc:
                # openstacksdk has its own exceptions over those of
                # keystoneauth, and warns where it finds no version.
                raise rest.CloudError(
                    self._no_endpoint(name, _say(exc))
                ) from exc
            if endpoint is None:
                raise rest.CloudError(
                    self._no_endpoint(name, 'not in the catalog')
                )
            self._adapters[service] = adapter
        return self._adapters[service]

    def _no_endpoint(self, name: str, why: str) -> str:
        interface = self._connection.config.get_interface()
        return (
            f'The catalog has no {interface or "public"} endpoint of {name} '
            f'in region {self.region or "(none named)"} ({why}): see '
            'OS_REGION_NAME and OS_INTERFACE'
        )

    def _call(
        self,
        service: str,
        method: str,
        path: str,
        version: str,
        body: Any = None,
        patient: bool = False,
    ) -> rest.Response:
        more: dict[str, Any] = {}
        if method == 'GET':
            more = {
                'status_code_retries': _TRIES,
                'retriable_status_codes': _NOT_NOW,
            }
        if patient:
            # Of a hundred pages none may fail; but who asks about one server
            # after the other shall not wait four times for each.
            more['connect_retries'] = _TRIES
        if body is not None:
            more['json'] = body
        call = f'{method} {path}'
        try:
            response = self._adapter(service).request(
                path,
                method,
                microversion=version,
                raise_exc=False,
                redirect=False,
                # It would write down whole pages, and what connections are
                # made with; and take the time for it, whoever listens.
                log=False,
                # To be read in one piece, and not more than there can be.
                stream=True,
                timeout=self._timeout,
                **more,
            )
            content = _read(response)
        except (
            http.client.HTTPException,
            ksa_exceptions.ClientException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as exc:
            why = _say(exc)
            return rest.Response(
                {}, model.Evidence(call, None, model.stamp(), None, why), why
            )
        request_id = response.headers.get('x-openstack-request-id')
        LOG.debug('%s: HTTP %s %s', call, response.status_code, request_id)
        try:
            found = json.loads(content) if content else {}
        except ValueError:
            found = None
        why = ''
        if not isinstance(found, dict):
            why, found = f'HTTP {response.status_code} and no JSON', {}
        elif response.status_code >= 300:
            why = f'HTTP {response.status_code}: {_message(found)}'
        return rest.Response(
            found,
            model.Evidence(
                call, response.status_code, model.stamp(), request_id, why
            ),
            why,
        )

    # What is asked of single volumes and servers.

    def volume(
        self, volume_id: str
    ) -> tuple[rest.Response, dict[str, Any] | None]:
        """Ask Cinder for a volume.

        :param volume_id: a UUID
        :returns: the answer, and the volume; None where there is none, or
            where that is not known
        """
        answer = self.cinder('GET', f'/volumes/{volume_id}')
        row = answer.body.get('volume')
        if answer.status != 200 or not isinstance(row, dict):
            return answer, None
        said = f'Cinder: volume {row.get("status")}'
        evidence = dataclasses.replace(answer.evidence, result=said)
        return dataclasses.replace(answer, evidence=evidence), row

    def server(
        self, server_id: str, volume_id: str
    ) -> tuple[model.Server, model.Evidence]:
        """Ask Nova for a server, and whether it has a volume.

        :param server_id: what Cinder calls so
        :param volume_id: a UUID
        """
        canonical = guard_request.canonical_uuid(server_id)
        if canonical is None:
            why = 'its id is no UUID'
            return (
                model.Server(server_id, model.Presence.UNKNOWN, why=why),
                model.Evidence('', None, model.stamp(), None, why),
            )
        answer = self.nova(f'/servers/{canonical}')
        server = server_from(answer, server_id, volume_id)
        if server.presence is model.Presence.GONE and self._cell_is_down:
            # Nova answers 404, too, for a server there that waits to be
            # deleted, and may be restored.
            server = model.Server(
                server_id,
                model.Presence.UNKNOWN,
                why='a cell of Nova does not answer',
            )
        said = server.why or f'Nova: server {server.presence.value}'
        return server, dataclasses.replace(answer.evidence, result=said)

    def nova_attachment(
        self, server: model.Server, volume_id: str
    ) -> tuple[model.Server, model.Evidence]:
        """Ask Nova by which attachment a server has a volume.

        :param server: which has it
        :param volume_id: a UUID
        :returns: the server, with what Nova says
        """
        canonical = guard_request.canonical_uuid(server.id)
        answer = self.nova(
            f'/servers/{canonical}/os-volume_attachments/{volume_id}',
            ATTACHMENT_VERSION,
        )
        row = answer.body.get('volumeAttachment')
        found: str | None = None
        if answer.status == 200 and isinstance(row, dict):
            found = row.get('attachment_id')
        elif not answer.not_found:
            # A 404: attached before the Queens release, without an id.
            server = dataclasses.replace(
                server, presence=model.Presence.UNKNOWN, why=answer.why
            )
        evidence = dataclasses.replace(
            answer.evidence,
            result=answer.why if found is None else f'Nova: by {found}',
        )
        return dataclasses.replace(server, attachment_id=found), evidence

    def compute_hosts(self) -> tuple[set[str], list[str]]:
        """Ask Nova where it runs servers.

        :returns: the hosts, and what is wrong with cells
        :raises rest.CloudError: where Nova does not tell
        """
        answer = self.nova('/os-services?binary=nova-compute')
        rows = answer.body.get('services')
        if answer.status != 200 or not isinstance(rows, list):
            raise rest.CloudError(_cannot_list('compute services', answer))
        down = [
            f'the cell of compute host {row.get("host")} does not answer'
            for row in rows
            if row.get('status') == 'UNKNOWN'
        ]
        self._cell_is_down = bool(down)
        return {str(row['host']) for row in rows if row.get('host')}, down


def server_from(
    answer: rest.Response, server_id: str, volume_id: str
) -> model.Server:
    """Read what Nova says of one server.

    :param answer: of ``GET /servers/{id}``
    :param server_id: what Cinder calls so
    :param volume_id: a UUID
    """
    if answer.not_found:
        return model.Server(server_id, model.Presence.GONE)
    row = answer.body.get('server')
    if answer.status != 200 or not isinstance(row, dict):
        return model.Server(
            server_id,
            model.Presence.UNKNOWN,
            why=answer.why or 'no server in it',
        )
    held = row.get('os-extended-volumes:volumes_attached')
    if row.get('status') == 'UNKNOWN' or not isinstance(held, list):
        return model.Server(
            server_id, model.Presence.UNKNOWN, why='its cell does not answer'
        )
    if row.get('id') != guard_request.canonical_uuid(server_id):
        return model.Server(
            server_id, model.Presence.UNKNOWN, why='Nova shows another server'
        )
    return model.Server(
        server_id,
        model.Presence.HAS
        if any(item.get('id') == volume_id for item in held)
        else model.Presence.LACKS,
        task_state=row.get('OS-EXT-STS:task_state'),
        status=row.get('status'),
        host=row.get('OS-EXT-SRV-ATTR:host'),
    )


def canonical(server_id: str | None) -> str | None:
    """A server's id as Nova has it.

    :param server_id: as Cinder has it, in any of the forms that it takes
    :returns: what it was, where it is no UUID; None where it was empty
    """
    if not server_id:
        return None
    if _CANONICAL.fullmatch(server_id):
        return server_id
    return guard_request.canonical_uuid(server_id) or server_id


def printable(text: str | None) -> str | None:
    """A text that users have written, harmless on a terminal.

    :param text: a host's name or a mount point, of any characters
    :returns: the same, with what is not printable escaped as Python does
    """
    if text is None or text.isprintable():
        return text
    return text.encode('unicode_escape').decode()


def volume_from(row: Mapping[str, Any]) -> model.Volume:
    """Read a volume as Cinder shows it.

    :param row: of ``GET /volumes/{id}`` or a detailed list
    """
    return model.Volume(
        str(row['id']),
        str(row.get('os-vol-tenant-attr:tenant_id') or ''),
        str(row['status']),
        migration_status=row.get('migration_status'),
        multiattach=bool(row.get('multiattach')),
        updated_at=row.get('updated_at') or row.get('created_at'),
    )


def attachment_from(
    row: Mapping[str, Any], shown: Mapping[str, Any] | None = None
) -> model.Attachment:
    """Read an attachment as Cinder lists it.

    :param row: of the list of attachments
    :param shown: the same one as the volume shows it, where it does
    """
    shown = shown or {}
    return model.Attachment(
        str(row['id']),
        canonical(row.get('instance')),
        str(row.get('status')),
        printable(shown.get('host_name')),
        printable(shown.get('device')),
        shown.get('attached_at'),
    )


def _read(response: Any) -> bytes:
    """Read an answer's body, up to a bound.

    What says how long it is, and is not compressed, needs no buffer.
    """
    length = response.headers.get('Content-Length', '')
    encoded = response.headers.get('Content-Encoding')
    if length.isdigit() and int(length) <= _LONGEST and encoded is None:
        content: bytes = response.raw.read()
    else:
        content = response.raw.read(_LONGEST, decode_content=True)
    return content


def _cannot_list(what: str, answer: rest.Response) -> str:
    text = f'{what} cannot be listed: {answer.evidence.call}: '
    text += answer.why or f'HTTP {answer.status} without a list'
    if answer.evidence.request_id:
        text += f' ({answer.evidence.request_id})'
    if answer.status == 401:
        text += '; log in again: the token may have expired'
    elif answer.status == 403:
        text += (
            '; an audit needs the role admin, which sees every project, in '
            'both Cinder and Nova'
        )
    elif answer.status == 406:
        text += (
            '; the service is too old: an audit needs Cinder 3.27 and Nova '
            '2.89'
        )
    return text


def _message(body: Mapping[str, Any]) -> str:
    for fault in body.values():
        if isinstance(fault, dict) and 'message' in fault:
            return printable(str(fault['message'])[:300]) or ''
    return 'no message'


def _say(exc: Exception) -> str:
    return f'{type(exc).__name__}: {exc}'[:500]
