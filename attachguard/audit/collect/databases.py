# SPDX-License-Identifier: Apache-2.0

"""The lists of an inventory, read from the databases of Cinder and Nova.

For clouds where the lists of the APIs take too long.  The rows are those of
the APIs, as far as :class:`~attachguard.audit.collect.reader.Reader` uses
them.  Each database is read in one read-only transaction, a consistent
snapshot, with a cursor of the server: in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import datetime
import itertools
import types
from typing import Any
import urllib.parse

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from attachguard.audit import engine
from attachguard.audit import model
from attachguard.audit.collect import reader
from attachguard.audit.collect import rest
from attachguard.guard import cinder


def _table(name: str, *columns: str, **typed: Any) -> sa.TableClause:
    more = [sa.column(column, kind) for column, kind in typed.items()]
    return sa.table(name, *map(sa.column, columns), *more)


_VOLUMES = _table(
    'volumes',
    'id',
    'project_id',
    'status',
    'attach_status',
    'migration_status',
    'multiattach',
    'deleted',
    'display_name',
    created_at=sa.DateTime,
    updated_at=sa.DateTime,
)
_ATTACHMENTS = _table(
    'volume_attachment',
    'id',
    'volume_id',
    'instance_uuid',
    'attach_status',
    'attached_host',
    'mountpoint',
    'deleted',
    attach_time=sa.DateTime,
)
_CELLS = _table('cell_mappings', 'id', 'uuid', 'name', 'database_connection')
_INSTANCES = _table(
    'instances',
    'id',
    'uuid',
    'project_id',
    'vm_state',
    'task_state',
    'host',
    'deleted',
    'display_name',
    'hidden',
    created_at=sa.DateTime,
    updated_at=sa.DateTime,
)
_MAPPINGS = _table(
    'block_device_mapping',
    'instance_uuid',
    'volume_id',
    'attachment_id',
    'deleted',
)

# How the API calls the states of servers, where its name is another one. What
# Nova is doing with a server is in its task_state
# (nova.api.openstack.common).
_STATUSES = {
    'building': 'BUILD',
    'rescued': 'RESCUE',
    'resized': 'VERIFY_RESIZE',
    'soft-delete': 'SOFT_DELETED',
    'stopped': 'SHUTOFF',
}

# The names of the APIs' filters, where the column has another one.
_COLUMNS = {'instance_id': 'instance_uuid'}

_BEGIN = {
    'mysql': 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY',
    # SQLAlchemy begins it, and the first query takes the snapshot.
    'postgresql': "SET LOCAL statement_timeout = '{seconds}s';"
    'SET LOCAL datestyle = ISO',
    'sqlite': 'BEGIN',
}

# Makes rows of the API of those of a database.
_Parse = Callable[[Sequence['sa.Row[Any]']], list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Urls:
    """Where the databases are, as in the configuration of the services.

    :param cinder: ``[database] connection`` of cinder.conf
    :param nova_api: ``[api_database] connection`` of nova.conf
    :param nova: ``[database] connection`` of nova.conf, for the cells whose
        URL is a template; None where it is not known
    :param cells: by name or uuid, instead of the URL that Nova has
    """

    cinder: str
    nova_api: str
    nova: str | None = None
    cells: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Databases:
    """The databases of Cinder and of all cells of Nova.

    :param urls: where they are
    :param timeout: seconds for each read
    """

    def __init__(self, urls: Urls, timeout: float) -> None:
        self._urls = urls
        self._timeout = timeout
        self._cinder: Snapshot | None = None
        self._cells: list[Snapshot] = []
        #: which they are, for people; all of them once they are read
        self.source = 'databases'

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Open a snapshot of each database, within this context.

        All are opened before any is read, Cinder's first: what is attached in
        between is then in Nova's.

        :raises attachguard.audit.collect.rest.CloudError: one cannot be used
        """
        with contextlib.ExitStack() as stack:
            self._cinder = stack.enter_context(
                self._snapshot(
                    'Cinder', self._urls.cinder, _VOLUMES, _ATTACHMENTS
                )
            )
            self._cells = [
                stack.enter_context(cell) for cell in self._find_cells()
            ]
            opened = [self._cinder, *self._cells]
            self.source = 'the databases ' + ', '.join(map(str, opened))
            yield

    def volumes(self, **filters: str) -> Iterator[rest.Page]:
        """List volumes, without their attachments: a join takes too long.

        Without filters, only those whose status depends on attachments. Others
        that have some are suspects, because they are not listed.

        :param filters: columns
        :raises attachguard.audit.collect.rest.CloudError: the database cannot
            be read, as for the other lists
        """
        volumes = _VOLUMES.c
        query = sa.select(
            volumes.id,
            volumes.project_id,
            volumes.status,
            volumes.migration_status,
            volumes.multiattach,
            _text(sa.func.coalesce(volumes.updated_at, volumes.created_at)),
            volumes.display_name,
        ).where(volumes.deleted == sa.false(), *_equal(_VOLUMES, filters))
        if not filters:
            query = query.where(
                sa.or_(
                    volumes.status.in_(sorted(reader.DEPENDENT)),
                    volumes.migration_status.not_in(
                        sorted(item or '' for item in cinder.NOT_MIGRATING)
                    ),
                )
            )
        database = self._opened()
        yield from database.pages('volumes', query, _volumes)
        if not filters:
            yield database.rest_of(
                'volumes',
                sa.select(sa.func.count())
                .select_from(_VOLUMES)
                .where(volumes.deleted == sa.false()),
            )

    def attachments(self, **filters: str) -> Iterator[rest.Page]:
        """List attachments, with what the API shows in their volumes.

        :param filters: as those of the API
        """
        columns, limit = _ATTACHMENTS.c, filters.pop('limit', None)
        query = sa.select(
            columns.id,
            columns.volume_id,
            columns.instance_uuid,
            columns.attach_status,
            columns.attached_host,
            columns.mountpoint,
            _text(columns.attach_time),
        ).where(columns.deleted == sa.false(), *_equal(_ATTACHMENTS, filters))
        if limit is not None:
            query = query.limit(int(limit))
        yield from self._opened().pages('attachments', query, _attachments)

    def servers(self) -> Iterator[rest.Page]:
        """List the servers of all cells that have volumes.

        Each once for each of its volumes: to sort them takes too long.
        """
        servers, mappings = _INSTANCES.c, _MAPPINGS.c
        # While a server is resized to another cell, one of two is hidden.
        existing = sa.and_(
            servers.deleted == 0,
            sa.or_(
                servers.hidden.is_(None),
                servers.hidden == sa.false(),
            ),
        )
        query = (
            sa.select(
                servers.uuid,
                servers.project_id,
                servers.vm_state,
                servers.task_state,
                _text(
                    sa.func.coalesce(servers.updated_at, servers.created_at)
                ),
                servers.host,
                servers.display_name,
                mappings.volume_id,
                mappings.attachment_id,
            )
            .select_from(
                _INSTANCES.join(
                    _MAPPINGS, mappings.instance_uuid == servers.uuid
                )
            )
            .where(
                existing,
                mappings.deleted == 0,
                mappings.volume_id.is_not(None),
            )
        )
        count = (
            sa.select(sa.func.count()).select_from(_INSTANCES).where(existing)
        )
        for cell in self._cells:
            yield from cell.pages('servers', query, _servers)
            yield cell.rest_of('servers', count)

    def owners(self) -> Iterator[rest.Page]:
        """List the projects that have volumes."""
        project = _VOLUMES.c.project_id
        query = (
            sa.select(project)
            .distinct()
            .where(_VOLUMES.c.deleted == sa.false())
        )
        yield from self._opened().pages('projects of volumes', query, _ids)

    def leftovers(self) -> Iterator[rest.Page]:
        """List the mappings of servers that are deleted.

        Only those that keep a volume from being attached: it exists, and only
        one server may have it.
        """
        servers, mappings = _INSTANCES.c, _MAPPINGS.c
        query = (
            sa.select(mappings.volume_id, mappings.instance_uuid)
            .select_from(
                _MAPPINGS.outerjoin(
                    _INSTANCES,
                    sa.and_(
                        servers.uuid == mappings.instance_uuid,
                        servers.deleted == 0,
                    ),
                )
            )
            .where(
                mappings.deleted == 0,
                mappings.volume_id.is_not(None),
                mappings.instance_uuid.is_not(None),
                servers.uuid.is_(None),
            )
        )
        for cell in self._cells:
            for page in cell.pages('mappings', query, _leftovers):
                kept = self._single({row['volume'] for row in page.rows})
                yield rest.Page(
                    [
                        {**row, 'cell': str(cell)}
                        for row in page.rows
                        if row['volume'] in kept
                    ],
                    page.evidence,
                )

    def _single(self, volumes: set[str]) -> set[str]:
        """Select the volumes that exist and are not multiattach."""
        columns = _VOLUMES.c
        found = self._opened().read(
            sa.select(columns.id).where(
                columns.id.in_(volumes),
                columns.deleted == sa.false(),
                sa.or_(
                    columns.multiattach.is_(None),
                    columns.multiattach == sa.false(),
                ),
            )
        )
        return {volume for (volume,) in found}

    def _opened(self) -> Snapshot:
        if self._cinder is None:
            raise rest.CloudError('the databases are not opened')
        return self._cinder

    def _snapshot(
        self,
        name: str,
        url: str,
        *tables: sa.TableClause,
        advice: str = '',
    ) -> Snapshot:
        try:
            database = engine.Engine(url, self._timeout)
        except engine.DatabaseError as exc:
            raise rest.CloudError(f'{name}: {exc}{advice}') from None
        return Snapshot(name, database, self._timeout, tables, advice)

    def _find_cells(self) -> Iterator[Snapshot]:
        """Return the databases of the cells, by Nova's mappings.

        :raises attachguard.audit.collect.rest.CloudError: they cannot be
            found, or the URL of one cannot be used
        """
        with self._snapshot('nova_api', self._urls.nova_api, _CELLS) as api:
            found = [
                (str(uuid), str(name or uuid), str(url or ''))
                for _id, uuid, name, url in api.read(
                    sa.select(*_CELLS.c).order_by(_CELLS.c.id)
                )
            ]
        names = {name for _uuid, name, _url in found}
        unknown = sorted(
            set(self._urls.cells) - names - {uuid for uuid, *_ in found}
        )
        if unknown or not found:
            raise rest.CloudError(
                f'nova_api has no cell {" or ".join(unknown) or "at all"}; '
                f'its cells: {", ".join(sorted(names)) or "none"}'
            )
        for uuid, name, url in found:
            advice = f'; or name it with --nova-cell-database {name}=URL'
            given = self._urls.cells.get(name, self._urls.cells.get(uuid))
            if given is None:
                try:
                    given = _expanded(url, self._urls.nova)
                except ValueError as exc:
                    raise rest.CloudError(
                        f'cell {name}: {exc}{advice}'
                    ) from None
            yield self._snapshot(
                f'cell {name}', given, _INSTANCES, _MAPPINGS, advice=advice
            )


class Snapshot(contextlib.AbstractContextManager['Snapshot']):
    """A consistent snapshot of a database; a context manager.

    :param name: of the database, for people
    :param database: to read
    :param timeout: seconds for each read
    :param tables: that are read
    :param advice: what else to do if it cannot be used
    """

    def __init__(
        self,
        name: str,
        database: engine.Engine,
        timeout: float,
        tables: Sequence[sa.TableClause],
        advice: str,
    ) -> None:
        self._name = name
        self._database = database
        self._timeout = timeout
        self._tables = tables
        self._advice = advice
        self._stack = contextlib.ExitStack()
        self._connection: sa.engine.Connection | None = None
        self._rows = 0

    def __str__(self) -> str:
        """Its name and place, for people."""
        return f'{self._database.place} ({self._name})'

    def __enter__(self) -> Snapshot:
        """Begin, and check that the tables can be read.

        :raises attachguard.audit.collect.rest.CloudError: that fails
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._database.dispose)
            with self._errors():
                self._connection = stack.enter_context(
                    self._database.connect()
                )
                self._begin(self._connection)
            for table in self._tables:
                list(self._read(sa.select(*table.c).limit(0)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _exc: BaseException | None,
        _trace: types.TracebackType | None,
    ) -> None:
        """End it, without what is left to read."""
        if kind is not None and self._connection is not None:
            self._connection.invalidate()
        self._stack.close()

    def read(self, query: sa.Select[Any]) -> list[sa.Row[Any]]:
        """Read all rows of a short result.

        :raises attachguard.audit.collect.rest.CloudError: that fails
        """
        return list(itertools.chain.from_iterable(self._read(query)))

    def pages(
        self, what: str, query: sa.Select[Any], parse: _Parse
    ) -> Iterator[rest.Page]:
        """Read a list.

        :param what: is listed
        :param query: its rows
        :param parse: makes rows of the API of them
        :returns: at least one page
        """
        evidence = self._evidence(what)
        self._rows = 0
        for found in self._read(query):
            self._rows += len(found)
            yield rest.Page(parse(found), evidence)
        if not self._rows:
            yield rest.Page([], evidence)

    def rest_of(self, what: str, count: sa.Select[Any]) -> rest.Page:
        """Count the resources that the last list has left out.

        :param count: of all
        """
        ((total,),) = self.read(count)
        return rest.Page([], self._evidence(what), total - self._rows)

    def _begin(self, connection: sa.engine.Connection) -> None:
        dialect = self._database.dialect
        options: dict[str, Any] = {}
        if dialect != 'sqlite':
            options['isolation_level'] = 'REPEATABLE READ'
        if dialect == 'postgresql':
            options['postgresql_readonly'] = True
        connection.execution_options(**options)
        seconds = max(1, int(self._timeout))
        connection.exec_driver_sql(_BEGIN[dialect].format(seconds=seconds))

    def _read(self, query: sa.Select[Any]) -> Iterator[Sequence[sa.Row[Any]]]:
        if self._connection is None:
            raise rest.CloudError(f'{self._name} is not opened')
        with self._errors():
            result = self._connection.execute(
                query, execution_options={'yield_per': rest.PAGE_SIZE}
            )
            with contextlib.closing(result):
                yield from result.partitions()

    def _evidence(self, what: str) -> model.Evidence:
        return model.Evidence(
            f'{model.SQL}{what} of {self}', None, model.stamp()
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except engine.DatabaseError as exc:
            raise rest.CloudError(
                f'{self._name}: {exc}{self._advice}'
            ) from None
        except sa_exc.SQLAlchemyError as exc:
            error = self._database.error(
                exc,
                f'It must be the database of {self._name}, and the account '
                f'needs SELECT on {", ".join(t.name for t in self._tables)}'
                + self._advice,
            )
            raise rest.CloudError(f'{self._name}: {error}') from None


def _equal(
    table: sa.TableClause, filters: Mapping[str, str]
) -> list[sa.ColumnElement[bool]]:
    return [
        table.c[_COLUMNS.get(name, name)] == value
        for name, value in filters.items()
    ]


def _expanded(url: str, default: str | None) -> str:
    """Fill in a cell's URL, as nova.objects.CellMapping does.

    :param url: which can be a template, as ``{scheme}://{hostname}/cell``
    :param default: ``[database] connection``, if it is known
    :raises ValueError: it cannot be filled in
    """
    if '{' not in url:
        return url
    if default is None:
        raise ValueError(
            'its URL is a template, which needs [database] connection of '
            'nova.conf (--nova-conf)'
        )
    try:
        parts = urllib.parse.urlsplit(default)
        return url.format(
            username=parts.username,
            password=parts.password,
            hostname=parts.hostname,
            port=parts.port,
            scheme=parts.scheme,
            query=parts.query,
            fragment=parts.fragment,
            path=parts.path.lstrip('/'),
        )
    except (AttributeError, LookupError, ValueError):
        # Its text may contain the password.
        raise ValueError('its URL is not a valid template') from None


def _text(
    column: sa.ColumnElement[datetime.datetime],
) -> sa.ColumnElement[str]:
    """A time as text: drivers take long to parse it."""
    return sa.cast(column, sa.String(26))


def _time(text: str | None) -> str | None:
    """A time in the form of the API, from the text of a database."""
    if text is None:
        return None
    seconds, _point, fraction = text.replace(' ', 'T').partition('.')
    return f'{seconds}.{fraction:0<6}'


def _volumes(found: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
    return [
        {
            'id': volume,
            'os-vol-tenant-attr:tenant_id': project,
            'status': status,
            'migration_status': migration,
            'multiattach': bool(multiattach),
            'updated_at': _time(updated),
            'name': name,
            'attachments': [],
        }
        for (
            volume,
            project,
            status,
            migration,
            multiattach,
            updated,
            name,
        ) in found
    ]


def _attachments(found: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
    return [
        {
            'id': attachment,
            'volume_id': volume,
            'instance': server,
            'status': status,
            'host_name': host,
            'device': device,
            'attached_at': _time(since),
        }
        for attachment, volume, server, status, host, device, since in found
    ]


def _ids(found: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
    return [{'id': found_id} for (found_id,) in found]


def _leftovers(found: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
    return [{'volume': volume, 'server': server} for volume, server in found]


def _servers(found: Sequence[sa.Row[Any]]) -> list[dict[str, Any]]:
    return [
        {
            'id': server,
            'tenant_id': project,
            'status': _STATUSES.get(vm_state, str(vm_state).upper()),
            'OS-EXT-STS:task_state': task_state,
            'updated': _time(updated),
            'OS-EXT-SRV-ATTR:host': host,
            'name': name,
            'os-extended-volumes:volumes_attached': [
                {'id': volume, 'attachment_id': attachment}
            ],
        }
        for (
            server,
            project,
            vm_state,
            task_state,
            updated,
            host,
            name,
            volume,
            attachment,
        ) in found
    ]
