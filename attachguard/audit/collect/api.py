# SPDX-License-Identifier: Apache-2.0

"""Cinder, Nova and Keystone of one cloud, as an administrator sees them.

The only module of the audit that talks to a cloud, through the adapters of
openstacksdk.  It never sends a service token: that would switch off Cinder's
own check before it deletes an attachment (CVE-2023-2088).
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any
from typing import Protocol
from urllib import parse

from keystoneauth1 import exceptions as ksa_exceptions
from oslo_log import log as logging

from attachguard import threads
from attachguard.audit import model
from attachguard.audit.collect import rest
from attachguard.audit.collect import rows
from attachguard.guard import request as guard_request

LOG = logging.getLogger(__name__)

#: The first version that lists and deletes attachments; up to 3.30 an
#: administrator can filter volumes by any column.
VOLUME_VERSION = '3.27'
#: The first version in which a filter finds a part of a status.
LIKE_VERSION = '3.34'
#: The first version that completes attachments.
COMPLETE_VERSION = '3.44'
#: The first version that counts what a list contains.
COUNT_VERSION = '3.45'
#: The first version that shows a server whose cell does not respond, with the
#: status UNKNOWN. (A list with pages leaves it out all the same.)
SERVER_VERSION = '2.69'
#: The first version in which Nova shows the id of Cinder's attachment.
ATTACHMENT_VERSION = '2.89'

# Which volumes are listed: those of the statuses in reader.DEPENDENT, and
# those that are migrated. Cinder filters by one status at a time; nearly all
# of them contain "ing". A volume in two of these lists is read twice.
_LISTED: tuple[dict[str, str], ...] = (
    {'status': 'in-use'},
    {'status': 'reserved'},
    {'status': 'maintenance'},
    {'status~': 'ing'},
    {'migration_status~': 'ing'},
    {'migration_status~': 'target:'},
)

# What only administrators see of a volume.
_ADMIN_ONLY = ('os-vol-host-attr:host', 'os-vol-tenant-attr:tenant_id')

# The names that openstacksdk gives to a cloud of the environment or the
# command line.
_NAMELESS = ('', 'defaults', 'envvars')


class Connection(Protocol):
    """A connection of openstacksdk, or a fake in tests."""

    @property
    def session(self) -> Any:
        """The session of keystoneauth."""

    @property
    def config(self) -> Any:
        """The cloud's part of clouds.yaml."""

    @property
    def block_storage(self) -> rest.Adapter:
        """Cinder."""

    @property
    def compute(self) -> rest.Adapter:
        """Nova."""

    @property
    def identity(self) -> Any:
        """Keystone: an adapter. openstacksdk's type has an older one, too."""


class Cloud:
    """One cloud and region.

    :param connection: to it
    :param timeout: seconds for each call, with its retries
    """

    def __init__(self, connection: Connection, timeout: float = 120) -> None:
        self._connection = connection
        self._timeout = timeout
        self._services: dict[str, rest.Service] = {}
        self._cell_is_down = False
        self._projects: dict[str, tuple[model.Project, model.Evidence]] = {}

    #: as a source of lists
    source = 'the APIs of Cinder and Nova'

    def reading(self) -> contextlib.AbstractContextManager[object]:
        """Read lists within this context, which need nothing else."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Close its idle connections, which openstacksdk keeps for ever."""
        self._connection.session.session.close()

    @property
    def name(self) -> str:
        """Its name in clouds.yaml, or the URL of its Keystone."""
        name = str(self._connection.config.name or '')
        return self._auth_url if name in _NAMELESS else name

    @property
    def login(self) -> tuple[str, ...]:
        """The options of the clients that name it; none where it has none."""
        name = str(self._connection.config.name or '')
        return () if name in _NAMELESS else ('--os-cloud', name)

    @property
    def identity(self) -> str:
        """The URL of its Keystone and its region: the same under any name."""
        return f'{self._auth_url} {self.region or ""}'.strip()

    @property
    def _auth_url(self) -> str:
        auth = self._connection.config.config.get('auth', {})
        return str(auth.get('auth_url', ''))

    @property
    def region(self) -> str | None:
        """The name of the region, if it has one."""
        return self._connection.config.get_region_name() or None

    def log_in(self) -> None:
        """Get a token, and find both services in the catalog.

        :raises attachguard.audit.collect.rest.CloudError: where that fails
        """
        try:
            rest.within(self._timeout, self._get_token)
        except (threads.Late, ksa_exceptions.ConnectTimeout):
            raise rest.CloudError(
                'Keystone cannot be used: '
                + rest.late('Keystone', self._timeout)
            ) from None
        except ksa_exceptions.Unauthorized as exc:
            raise rest.CloudError(
                f'Keystone does not accept the credentials: {exc}'
            ) from exc
        except (ksa_exceptions.ClientException, OSError) as exc:
            raise rest.CloudError(
                f'Keystone cannot be used: {rest.describe(exc)}'
            ) from exc
        for service in ('block_storage', 'compute'):
            self._service(service)

    def _get_token(self) -> object:
        return self._connection.session.get_token()

    def roles(self) -> frozenset[str] | None:
        """The roles of the credentials; None where they are not known."""
        session = self._connection.session
        try:
            access = session.auth.get_access(session)
            return frozenset(access.role_names)
        except (AttributeError, ksa_exceptions.ClientException):
            # A plugin without Keystone has no roles to show.
            return None

    def project_id(self) -> str | None:
        """The project of the credentials."""
        found: str | None = self._connection.session.get_project_id()
        return found

    def project_names(self, ids: Collection[str | None]) -> dict[str, str]:
        """Read the names of projects, from the list of all of them.

        :param ids: of the projects
        :returns: the names by id, of those that Keystone lists: none where
            the credentials may not list projects, which the audit does not
            need
        """
        names: dict[str, str] = {}
        try:
            for page in self.projects() if ids else ():
                names |= {
                    row['id']: rows.printable(str(row.get('name'))) or ''
                    for row in page.rows
                    if row.get('id') in ids
                }
        except rest.CloudError as exc:
            LOG.debug('Not all names of projects are known: %s', exc)
        return names

    def cinder(
        self,
        method: str,
        path: str,
        body: Any = None,
        version: str = VOLUME_VERSION,
    ) -> rest.Response:
        """Call the Block Storage API.

        See :meth:`attachguard.audit.collect.rest.Service.call`.
        """
        return self._service('block_storage').call(method, path, body, version)

    def nova(self, path: str, version: str = SERVER_VERSION) -> rest.Response:
        """Read from the Compute API, likewise."""
        return self._service('compute').call('GET', path, version=version)

    def volumes(self, **filters: str) -> Iterator[rest.Page]:
        """List volumes of all projects with their attachments.

        Without filters, only those whose status depends on attachments, and
        those that are migrated. Others that have attachments are suspects,
        because they are not listed.

        :param filters: columns of Cinder's table ``volumes``
        :raises attachguard.audit.collect.rest.CloudError: where that fails,
            as for the other lists
        """
        if filters:
            yield from self._volume_pages(filters)
            return
        # With one volume of any status, which shows what the credentials see.
        count = next(
            self._volume_pages(
                {'limit': '1', 'with_count': 'true'}, COUNT_VERSION
            )
        )
        listed = 0
        for wanted in _LISTED:
            for page in self._volume_pages(wanted, LIKE_VERSION):
                listed += len(page.rows)
                yield page
        if count.total is None:
            raise rest.CloudError(
                f'Cinder does not count the volumes: {count.evidence.call}'
            )
        yield rest.Page([], count.evidence, count.total - listed)

    def _volume_pages(
        self, filters: Mapping[str, str], version: str | None = None
    ) -> Iterator[rest.Page]:
        for page in self._service('block_storage').pages(
            '/volumes/detail',
            'volumes',
            {'all_tenants': '1', **filters},
            lambda body: bool(body.get('volumes_links')),
            version,
        ):
            for row in page.rows[:1]:
                for name in _ADMIN_ONLY:
                    if name not in row:
                        raise rest.CloudError(
                            f'Cinder does not show {name!r} of a volume: the '
                            'audit needs the role admin there, which sees '
                            'every project'
                        )
            yield page

    def attachments(self, **filters: str) -> Iterator[rest.Page]:
        """List attachments of all projects.

        :param filters: ``volume_id``, ``instance_id``, ``attach_status``
        """
        return self._service('block_storage').pages(
            '/attachments', 'attachments', {'all_tenants': '1', **filters}
        )

    def servers(self) -> Iterator[rest.Page]:
        """List the servers of all projects with their volumes.

        Includes those that are soft-deleted: they can be restored, with their
        volumes (``reclaim_instance_interval``).  Nova can have more after a
        short page without a link, so only an empty page is the end.
        """
        return self._service('compute').pages(
            '/servers/detail',
            'servers',
            {'all_tenants': '1', 'soft_deleted': 'true'},
        )

    def owners(self) -> Iterator[rest.Page]:
        """List no projects: the volumes that are listed have theirs."""
        return iter(())

    def leftovers(self) -> Iterator[rest.Page]:
        """List no mappings of deleted servers.

        Nova shows them only in its list of all servers that were ever deleted
        and not archived, which can be millions.
        """
        return iter(())

    def projects(self) -> Iterator[rest.Page]:
        """List the projects of Keystone.

        One that does not return pages returns all of them, or, with its
        option ``list_limit``, only some.

        :raises attachguard.audit.collect.rest.CloudError: where that fails
        """
        return self._service('identity').pages(
            '/projects', 'projects', {}, _has_next
        )

    def project(self, project_id: str) -> tuple[model.Project, model.Evidence]:
        """Read whether Keystone has a project.

        It is read once, until :meth:`forget_projects`.

        :param project_id: as Cinder has it
        :returns: gone only by Keystone's own 404 for that project: without the
            right to see it, the response is 403
        """
        if project_id in self._projects:
            return self._projects[project_id]
        path = f'/projects/{parse.quote(project_id, safe="")}'
        try:
            response = self._service('identity').call('GET', path)
        except rest.CloudError as exc:
            response = rest.no_response(f'GET {path}', str(exc))
        error = response.body.get('error')
        if response.status == 200 and 'project' in response.body:
            found = model.Project(True)
            result = 'Keystone: the project exists'
        elif (
            response.status == 404
            and isinstance(error, dict)
            and project_id in str(error.get('message'))
        ):
            found = model.Project(False)
            result = 'Keystone: no such project'
        else:
            result = response.why or 'no project in the response'
            evidence = response.evidence.with_result(result)
            return model.Project(None, result), evidence
        evidence = response.evidence.with_result(result)
        self._projects[project_id] = found, evidence
        return found, evidence

    def forget_projects(self) -> None:
        """Let :meth:`project` read each project again."""
        self._projects.clear()

    def _service(self, key: str) -> rest.Service:
        if key not in self._services:
            name, version = {
                'block_storage': ('Cinder', VOLUME_VERSION),
                'compute': ('Nova', SERVER_VERSION),
                'identity': ('Keystone', None),
            }[key]
            why = 'not in the catalog'

            def find() -> tuple[rest.Adapter, str | None]:
                adapter: rest.Adapter = getattr(self._connection, key)
                # openstacksdk's proxy of Keystone has another method of this
                # name. There, a call says what is missing.
                if version is None:
                    return adapter, ''
                return adapter, adapter.get_endpoint()

            endpoint: str | None = None
            try:
                adapter, endpoint = rest.within(self._timeout, find)
            except threads.Late:
                raise rest.CloudError(
                    f'{name} cannot be used: {rest.late(name, self._timeout)}'
                ) from None
            except Exception as exc:
                # openstacksdk has its own exceptions beside those of
                # keystoneauth, and warns where it finds no version.
                why = rest.describe(exc)
            if endpoint is None:
                interface = self._connection.config.get_interface()
                raise rest.CloudError(
                    f'The catalog has no {interface or "public"} endpoint of '
                    f'{name} in region {self.region or "(none named)"} '
                    f'({why}): see OS_REGION_NAME and OS_INTERFACE'
                )
            self._services[key] = rest.Service(
                name, adapter, version, self._timeout, self._get_token
            )
        return self._services[key]

    def volume(
        self, volume_id: str
    ) -> tuple[rest.Response, dict[str, Any] | None]:
        """Read a volume.

        :param volume_id: a UUID
        :returns: the response, and the volume's row; None where there is
            none, or where that is not known
        """
        response = self.cinder('GET', f'/volumes/{volume_id}')
        row = response.body.get('volume')
        if response.status != 200 or not isinstance(row, dict):
            return response, None
        evidence = response.evidence.with_result(
            f'Cinder: volume {row.get("status")}'
        )
        return dataclasses.replace(response, evidence=evidence), row

    def server(
        self, server_id: str, volume_id: str
    ) -> tuple[model.Server, model.Evidence]:
        """Read a server, and whether it has a volume.

        :param server_id: as Cinder has it
        :param volume_id: a UUID
        """
        canonical = guard_request.canonical_uuid(server_id)
        if canonical is None:
            why = 'its id is no UUID'
            return (
                model.Server(server_id, model.Presence.UNKNOWN, why=why),
                model.Evidence('', None, model.stamp(), None, why),
            )
        response = self.nova(f'/servers/{canonical}')
        if response.not_found and not self._cell_is_down:
            server = model.Server(server_id, model.Presence.GONE)
        elif response.not_found or response.status != 200:
            # While a cell is down, Nova also responds with 404 for a server
            # there that is soft-deleted, and may be restored.
            why = response.why
            if response.not_found:
                why = 'a cell of Nova does not respond'
            server = model.Server(server_id, model.Presence.UNKNOWN, why=why)
        else:
            server = rows.server(
                response.body.get('server'), server_id, volume_id
            )
        result = server.why or f'Nova: server {server.presence.value}'
        return server, response.evidence.with_result(result)

    def nova_attachment(
        self, server: model.Server, volume_id: str
    ) -> tuple[model.Server, model.Evidence]:
        """Read by which of Cinder's attachments a server has a volume.

        :param server: which has it
        :param volume_id: a UUID
        :returns: the server with the attachment's id: None for a server from
            before the Queens release, which has the volume without one
        """
        canonical = guard_request.canonical_uuid(server.id)
        response = self.nova(
            f'/servers/{canonical}/os-volume_attachments/{volume_id}',
            ATTACHMENT_VERSION,
        )
        row = response.body.get('volumeAttachment')
        found: str | None = None
        if response.status == 200 and isinstance(row, dict):
            found = row.get('attachment_id')
            server = dataclasses.replace(server, device=row.get('device'))
        elif not response.not_found:
            server = dataclasses.replace(
                server, presence=model.Presence.UNKNOWN, why=response.why
            )
        evidence = response.evidence.with_result(
            response.why if found is None else f'Nova: by {found}'
        )
        return dataclasses.replace(server, attachment_id=found), evidence

    def leftovers_of(
        self, server: model.Server, volume_id: str, cell: str
    ) -> tuple[model.Server, model.Evidence]:
        """Read whether Nova still has a volume on a server that is deleted.

        Its list of deleted servers shows their volumes, until they are
        archived.

        :param server: which is gone
        :param volume_id: a UUID
        :param cell: where its record is
        :returns: unknown where Nova does not respond
        """
        canonical = guard_request.canonical_uuid(server.id)
        response = self.nova(
            f'/servers/detail?all_tenants=1&deleted=true&uuid={canonical}'
        )
        found = response.body.get('servers')
        if response.status != 200 or not isinstance(found, list):
            why = response.why or 'no list of servers in the response'
            unknown = dataclasses.replace(
                server, presence=model.Presence.UNKNOWN, why=why
            )
            return unknown, response.evidence.with_result(why)
        number = sum(
            item.get('id') == volume_id
            for row in found
            if row.get('id') == canonical
            for item in row.get('os-extended-volumes:volumes_attached', ())
        )
        return (
            dataclasses.replace(server, leftovers=number, cell=cell),
            response.evidence.with_result(
                f'Nova: {number} mappings of the deleted server'
            ),
        )

    def disks(
        self, server: model.Server
    ) -> tuple[model.Server, list[model.Evidence]]:
        """Read all volumes of a server, and which of them Cinder has there.

        :param server: which Nova has
        :returns: with ``disks`` of None where one of both sides fails
        """
        response = self.nova(
            f'/servers/{guard_request.canonical_uuid(server.id)}'
            '/os-volume_attachments',
            ATTACHMENT_VERSION,
        )
        evidence = [response.evidence]
        found = response.body.get('volumeAttachments')
        if response.status != 200 or not isinstance(found, list):
            return server, evidence
        known: set[str] = set()
        try:
            for page in self.attachments(instance_id=server.id):
                known.update(str(row['id']) for row in page.rows)
                evidence.append(page.evidence)
        except rest.CloudError:
            return server, evidence
        disks = tuple(
            model.Disk(
                str(row['volumeId']),
                row.get('attachment_id'),
                row.get('attachment_id') in known,
            )
            for row in found
        )
        return dataclasses.replace(server, disks=disks), evidence

    def compute_hosts(self) -> tuple[set[str], list[str]]:
        """Read the compute services.

        From then on a server that is not found is unknown, not gone, if a
        cell does not respond.

        :returns: the compute hosts, and which cells do not respond
        :raises attachguard.audit.collect.rest.CloudError: where that fails
        """
        response = self.nova('/os-services?binary=nova-compute')
        services = response.body.get('services')
        if response.status != 200 or not isinstance(services, list):
            raise rest.cannot_list('compute services', response)
        down = [
            f'the cell of compute host {row.get("host")} does not respond'
            for row in services
            if row.get('status') == 'UNKNOWN'
        ]
        self._cell_is_down = bool(down)
        return {str(row['host']) for row in services if row.get('host')}, down


def _has_next(body: Mapping[str, Any]) -> bool:
    """Whether Keystone has another page."""
    links = body.get('links')
    return isinstance(links, dict) and bool(links.get('next'))
