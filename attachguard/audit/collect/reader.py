# SPDX-License-Identifier: Apache-2.0

"""The volumes, attachments and servers of a cloud, read into tables.

The tables are in a temporary file of SQLite, so that both sides of a cloud of
any size are compared in some 64 MiB of memory.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import gc
import json
import sqlite3
from typing import Any
from typing import Protocol

from attachguard import threads
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from attachguard.audit.collect import rows
from attachguard.guard import cinder

#: Called with what is read or done, and how much more of it.
Progress = Callable[[str, int], None]

# Stores a page in the tables; and pages, each with what stores it.
_Store = Callable[[rest.Page], None]
_Pages = Generator[tuple[_Store, rest.Page], None, None]

# The key of a volume's project.
_PROJECT = 'os-vol-tenant-attr:tenant_id'

# Projects that Keystone does not list, and that are queried.
_MAX_PROJECTS = 1000

# Servers that are remembered as witnesses: the first and the last ones.
_WITNESSES = 10

#: Statuses that depend on attachments, or end by themselves. A volume of any
#: other status that shows no attachment is consistent, and not stored.
DEPENDENT = cinder.STATUSES_OF_WORK | {
    'attaching',
    'detaching',
    'in-use',
    'reserved',
}

# A volume has a row for each attachment that it shows, and one if none. The
# APIs show the host, device and time of an attachment there, the databases
# with the attachment.
_SCHEMA = """
PRAGMA cache_size = -65536;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE pages (id INTEGER PRIMARY KEY, evidence TEXT);
CREATE TABLE volumes (id, project, status, migration_status, multiattach,
                      updated_at, name, page, attachment, host_name, device,
                      attached_at);
CREATE TABLE attachments (volume, server, id, status, host_name, device,
                          attached_at, page);
CREATE TABLE server_volumes (volume, server, host, attachment, name, page);
CREATE TABLE servers (server, task_state, status, updated);
CREATE TABLE leftovers (volume, server, cell, page,
                        PRIMARY KEY (volume, server)) WITHOUT ROWID;
CREATE TABLE owners (project PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE projects (id PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE ownerless (id PRIMARY KEY, project, status, migration_status,
                        multiattach, updated_at, name, page) WITHOUT ROWID;
CREATE TABLE compute_hosts (host PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE mismatched (volume, status, attach_status, page);
CREATE TABLE suspects (volume, server, query,
                       PRIMARY KEY (volume, server)) WITHOUT ROWID;
"""

# They contain all columns that are compared for each attachment: to look up
# half a million rows takes longer than all the rest.
_INDEXES = """
CREATE INDEX volumes_ids ON volumes (id, attachment, host_name);
CREATE INDEX attachments_pairs ON attachments (volume, server, id, host_name);
CREATE INDEX server_volumes_pairs ON server_volumes (volume, server, host,
                                                     attachment);
CREATE INDEX servers_ids ON servers (server);
"""


@dataclasses.dataclass(frozen=True)
class Totals:
    """How much was read."""

    volumes: int
    attachments: int
    servers: int


def open_tables() -> sqlite3.Connection:
    """Create empty tables, in a private file that is gone once closed."""
    tables = sqlite3.connect('', isolation_level=None)
    tables.row_factory = sqlite3.Row
    tables.executescript(_SCHEMA)
    return tables


class Lists(Protocol):
    """What lists the resources of a cloud, with the rows of the APIs.

    Raises :class:`attachguard.audit.collect.rest.CloudError` where that fails.
    """

    #: what it is, for people
    source: str

    def reading(self) -> contextlib.AbstractContextManager[object]:
        """Read within this context."""

    def volumes(self, **filters: str) -> Iterator[rest.Page]:
        """List volumes with their attachments."""

    def attachments(self, **filters: str) -> Iterator[rest.Page]:
        """List attachments."""

    def servers(self) -> Iterator[rest.Page]:
        """List servers with their volumes."""

    def leftovers(self) -> Iterator[rest.Page]:
        """List mappings of deleted servers, as far as it can."""

    def owners(self) -> Iterator[rest.Page]:
        """List the projects of volumes that :meth:`volumes` leaves out."""


class Reader:
    """Reads a cloud.

    :param cloud: to read
    :param lists: of its resources
    :param tables: to fill
    :param progress: called with what is read
    """

    def __init__(
        self,
        cloud: api.Cloud,
        lists: Lists,
        tables: sqlite3.Connection,
        progress: Progress,
    ) -> None:
        self._cloud = cloud
        self._lists = lists
        self._tables = tables
        self._progress = progress
        self._last = model.Evidence('no call', None, '')
        self._pages = 0
        self._counts = {'volumes': 0, 'attachments': 0, 'servers': 0}
        self._first: list[str] = []
        self._last_others: collections.deque[str] = collections.deque(
            maxlen=_WITNESSES
        )
        self._sample: dict[tuple[str, str], bool] = {}
        self._own_project: str | None = None
        #: what could not be checked, and why
        self.unchecked: list[str] = []

    @property
    def others(self) -> list[str]:
        """Servers of other projects, the first ones of the list, and the last.

        Of several, some still exist when Nova is queried.
        """
        return [*self._first, *self._last_others]

    @property
    def sample(self) -> Mapping[tuple[str, str], bool]:
        """Whether Nova has some of Cinder's attachments.

        :returns: by volume and server
        """
        return self._sample

    @property
    def totals(self) -> Totals:
        """How much was read until now."""
        return Totals(**self._counts)

    def read(
        self, check_project: Callable[[str], bool] = lambda _project: True
    ) -> None:
        """Read everything, both sides at the same time.

        What changes in between differs in the tables, and is a suspect.

        :param check_project: whether to check if a project exists
        :raises attachguard.audit.collect.rest.CloudError: where a list cannot
            be read, or not of all projects
        """
        with self._filling():
            for store, page in threads.together(
                self._of_cinder(), self._of_nova()
            ):
                store(page)
            for page in self._lists.leftovers():
                self._store_leftovers(page)
            self._read_owners(check_project)

    def read_selected(
        self, volumes: Collection[str], servers: Collection[str]
    ) -> list[str]:
        """Read the servers that have one of some volumes: all have to be read.

        :param volumes: ids of volumes
        :param servers: ids of servers, for all their volumes
        :returns: the ids of the volumes
        :raises attachguard.audit.collect.rest.CloudError: as :meth:`read`
        """
        wanted = dict.fromkeys(volumes)
        with self._filling():
            self._read_sample()
            for server_id in servers:
                for page in self._lists.attachments(instance_id=server_id):
                    for row in page.rows:
                        wanted[str(row['volume_id'])] = None
            for stores, pages in (
                (self._store_servers, self._lists.servers()),
                (self._store_leftovers, self._lists.leftovers()),
            ):
                for page in pages:
                    stores(
                        page,
                        lambda volume, server: (
                            volume in wanted or server in servers
                        ),
                    )
        for (volume,) in self._tables.execute(
            'SELECT volume FROM server_volumes '
            'UNION SELECT volume FROM leftovers'
        ):
            wanted[volume] = None
        return list(wanted)

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        """Check what is read, and index it at the end."""
        self._own_project = self._cloud.project_id()
        try:
            with self._lists.reading(), _rare_garbage_collection():
                yield
            self._tables.executescript(_INDEXES)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise rest.CloudError(
                f'The response to {self._last.call} is not valid: {exc!r} '
                f'({self._last.request_id})'
            ) from exc

    def _begin(self, page: rest.Page, what: str, count: int) -> int:
        """Store a page, for the evidence of its rows."""
        count += page.more
        self._pages += 1
        self._last = page.evidence
        if what in self._counts:
            self._counts[what] += count
        self._progress(what, count)
        self._tables.execute(
            'INSERT INTO pages VALUES (?, ?)',
            (self._pages, json.dumps(dataclasses.asdict(page.evidence))),
        )
        return self._pages

    def _insert(self, table: str, found: Sequence[tuple[Any, ...]]) -> None:
        if found:
            places = ','.join('?' * len(found[0]))
            self._tables.execute('BEGIN')
            self._tables.executemany(
                f'INSERT OR IGNORE INTO {table} VALUES ({places})',  # noqa: S608
                found,
            )
            self._tables.execute('COMMIT')

    def _of_cinder(self) -> _Pages:
        for page in self._lists.volumes():
            yield self._store_volumes, page
        for status, attach_status in (
            ('available', 'attached'),
            ('in-use', 'detached'),
        ):
            store = functools.partial(
                self._store_mismatched, status, attach_status
            )
            for page in self._lists.volumes(
                status=status, attach_status=attach_status
            ):
                yield store, page
        for page in self._lists.attachments():
            yield self._store_attachments, page

    def _of_nova(self) -> _Pages:
        for page in self._lists.servers():
            yield self._store_servers, page

    def _store_volumes(self, page: rest.Page) -> None:
        number = self._begin(page, 'volumes', len(page.rows))
        self._insert(
            'volumes',
            [item for row in page.rows for item in _volume(row, number)],
        )
        self._insert('owners', [*{(row[_PROJECT],) for row in page.rows}])

    def _store_mismatched(
        self, status: str, attach_status: str, page: rest.Page
    ) -> None:
        # These volumes are already counted.
        number = self._begin(page, 'volumes', 0)
        self._insert(
            'mismatched',
            [(row['id'], status, attach_status, number) for row in page.rows],
        )

    def _store_attachments(self, page: rest.Page) -> None:
        number = self._begin(page, 'attachments', len(page.rows))
        self._insert(
            'attachments',
            [
                (
                    row['volume_id'],
                    rows.canonical(row['instance']),
                    row['id'],
                    row['status'],
                    row.get('host_name'),
                    row.get('device'),
                    row.get('attached_at'),
                    number,
                )
                for row in page.rows
            ],
        )

    def _store_leftovers(
        self,
        page: rest.Page,
        wanted: Callable[[str, str], bool] | None = None,
    ) -> None:
        number = self._begin(page, 'mappings', len(page.rows))
        self._insert(
            'leftovers',
            [
                (row['volume'], row['server'], row['cell'], number)
                for row in page.rows
                if wanted is None or wanted(row['volume'], row['server'])
            ],
        )

    def _read_owners(self, wanted: Callable[[str], bool]) -> None:
        """Find the volumes whose project Keystone does not have.

        Its list of projects leaves few to query one by one.
        """
        for page in self._lists.owners():
            self._begin(page, 'projects', 0)
            self._insert('owners', [(row['id'],) for row in page.rows])
        owners = self._tables.execute('SELECT project FROM owners')
        if not any(wanted(project) for (project,) in owners):
            return
        try:
            for page in self._cloud.projects():
                self._begin(page, 'projects', len(page.rows))
                self._insert('projects', [(row['id'],) for row in page.rows])
        except rest.CloudError as exc:
            self.unchecked.append(
                f'whether the projects of the volumes exist: {exc}'
            )
            return
        suspects = self._tables.execute(
            """
            SELECT project FROM owners WHERE project != ''
            EXCEPT SELECT id FROM projects
            """
        )
        self._check_projects(
            [project for (project,) in suspects if wanted(project)]
        )

    def _check_projects(self, suspects: Sequence[str]) -> None:
        """Query projects one by one, and list the volumes of those gone."""
        left, failures = len(suspects), 0
        why = 'Keystone does not list them (see its option list_limit)'
        for project_id in suspects[:_MAX_PROJECTS]:
            project, _evidence = self._cloud.project(project_id)
            if project.exists is None:
                failures, why = failures + 1, project.why
                if failures == rest.PATIENCE:
                    break
                continue
            left, failures = left - 1, 0
            if project.exists:
                continue
            for page in self._lists.volumes(project_id=project_id):
                number = self._begin(page, 'volumes', 0)
                self._insert(
                    'ownerless',
                    [
                        (row['id'], *_details(row), number)
                        for row in page.rows
                        if row[_PROJECT] == project_id
                    ],
                )
        if left:
            self.unchecked.append(
                f'whether {left} projects of volumes exist: {why}'
            )

    def _read_sample(self) -> None:
        """Read the first page of attachments, to compare both sides by it."""
        page = next(
            self._lists.attachments(
                attach_status='attached', limit=str(rest.PAGE_SIZE)
            )
        )
        self._begin(page, 'attachments', 0)
        self._sample = {
            (row['volume_id'], found): False
            for row in page.rows
            if (found := rows.canonical(row['instance'])) is not None
        }

    def _store_servers(
        self,
        page: rest.Page,
        wanted: Callable[[str, str], bool] | None = None,
    ) -> None:
        """Store the servers, and which volumes they have.

        :param wanted: whether to store that a server has a volume; None for
            all
        """
        number = self._begin(page, 'servers', len(page.rows))
        attached, special = [], []
        for row in page.rows:
            server, status = row['id'], row['status']
            volumes = row.get('os-extended-volumes:volumes_attached')
            if volumes is None or status == 'UNKNOWN':
                # Its cell does not respond: a query shows that again.
                continue
            if row['tenant_id'] != self._own_project:
                if server in self._first:
                    pass
                elif len(self._first) < _WITNESSES:
                    self._first.append(server)
                else:
                    self._last_others.append(server)
            if not volumes:
                continue
            for item in volumes:
                if (item['id'], server) in self._sample:
                    self._sample[item['id'], server] = True
            task_state = row['OS-EXT-STS:task_state']
            if model.is_busy(task_state, status) or (status in model.SHELVED):
                special.append(
                    (server, task_state, status, row.get('updated'))
                )
            host = row.get('OS-EXT-SRV-ATTR:host')
            attached += [
                (
                    item['id'],
                    server,
                    host,
                    # Nova's lists have none.
                    item.get('attachment_id'),
                    row.get('name'),
                    number,
                )
                for item in volumes
                if wanted is None or wanted(item['id'], server)
            ]
        self._insert('server_volumes', attached)
        self._insert('servers', special)


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Collect garbage less often while pages are read.

    The objects of a page have no reference cycles, and the search for them
    takes a tenth of the time of an audit.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _volume(row: dict[str, Any], page: int) -> list[tuple[Any, ...]]:
    attachments, status = row['attachments'], row['status']
    if (
        not attachments
        and status not in DEPENDENT
        and row['migration_status'] in cinder.NOT_MIGRATING
    ):
        return []
    volume = (row['id'], *_details(row), page)
    details = ('attachment_id', 'host_name', 'device', 'attached_at')
    return [(*volume, *map(item.get, details)) for item in attachments or [{}]]


def _details(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row[_PROJECT],
        row['status'],
        row['migration_status'],
        row['multiattach'],
        row['updated_at'],
        row.get('name'),
    )
