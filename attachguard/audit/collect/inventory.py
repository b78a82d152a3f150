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


"""A whole cloud, read once: which volumes have to be looked at.

Cinder's claims are read first, and then what Nova has, which refutes nearly
all of them.  What remains are suspects, and each costs one more question,
about it alone: a list proves that something is there, never that it is not
(Nova leaves servers out whose cell is down, and what is deleted while a list
is read shifts its pages).

What was read lies in a temporary file, not in memory: SQLite joins both
sides, however large the cloud, in some 64 MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import sqlite3
import types
from typing import Any
from typing import Self

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit import recheck
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from attachguard.audit.report import content

# Servers, each of another project, of which one has to have by Cinder's word
# what it has by Nova's.
_WITNESSES = 20

# So many attachments that Nova does not have are no sign of anything.
_FEW = 20

# So many questions in a row that nobody answered: then no more are asked.
_PATIENCE = 10

# Statuses that say something about attachments. A volume of any other one
# that shows none need not be remembered.
_SPEAKING = frozenset(('attaching', 'detaching', 'in-use', 'reserved'))

# A volume has a row for each attachment that it shows, and one if none.
_SCHEMA = """
CREATE TABLE pages (id INTEGER PRIMARY KEY, evidence TEXT);
CREATE TABLE volumes (id, project, status, migration, multiattach, updated,
                      page, attachment, host, device, attached_at);
CREATE TABLE listed (volume, server, id, status, page);
CREATE TABLE held (volume, server, page);
CREATE TABLE moving (server, task_state, status);
CREATE TABLE mismatched (volume, status, attach_status, page);
CREATE TABLE suspects (volume, server, why,
                       PRIMARY KEY (volume, server)) WITHOUT ROWID;
"""

_INDEXES = """
CREATE INDEX volumes_ids ON volumes (id);
CREATE INDEX listed_pairs ON listed (volume, server);
CREATE INDEX held_pairs ON held (volume, server);
"""

# Which volumes are suspect, and why; a server, or '' where it is the volume
# as a whole. The first reason counts.
_SUSPECTS = (
    # Cinder names a server that Nova did not list with the volume.
    """
    SELECT volume, server, 'absent' FROM listed
    WHERE server IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM held
        WHERE held.volume = listed.volume AND held.server = listed.server)
    """,
    # Nova lists a server that Cinder does not name.
    """
    SELECT volume, server, 'nova-only' FROM held
    WHERE NOT EXISTS (
        SELECT 1 FROM listed
        WHERE listed.volume = held.volume AND listed.server = held.server)
    """,
    # Cinder has several attachments for what Nova has once.
    """
    SELECT volume, server, 'several' FROM listed
    WHERE server IS NOT NULL GROUP BY volume, server HAVING count(*) > 1
    """,
    # An attachment of a volume that was not listed, or was listed as if it
    # had none.
    """
    SELECT volume, '', 'volume' FROM listed
    WHERE NOT EXISTS (SELECT 1 FROM volumes WHERE volumes.id = listed.volume)
    """,
    # A status that wants to be explained. Of a shelved server the volumes are
    # reserved, and rightly.
    """
    SELECT id, '', 'volume' FROM volumes
    WHERE status NOT IN ('in-use', 'reserved')
       OR NOT EXISTS (SELECT 1 FROM listed WHERE listed.volume = volumes.id)
    """,
    "SELECT volume, '', 'volume' FROM mismatched",
)

# What is left to be looked at is small.
_REST = """
CREATE TABLE known AS
SELECT * FROM volumes
WHERE id IN (SELECT volume FROM suspects)
   OR id IN (SELECT volume FROM listed WHERE server IS NULL);
DROP TABLE volumes;
CREATE TABLE claimed AS
SELECT * FROM listed
WHERE volume IN (SELECT volume FROM suspects) OR server IS NULL;
DROP TABLE listed;
CREATE INDEX known_ids ON known (id);
CREATE INDEX claimed_volumes ON claimed (volume);
CREATE INDEX held_volumes ON held (volume);
CREATE INDEX moving_servers ON moving (server);
CREATE INDEX mismatched_volumes ON mismatched (volume);
"""


@dataclasses.dataclass(frozen=True)
class Totals:
    """How much was read."""

    volumes: int
    attachments: int
    servers: int


def _no_progress(what: str, count: int) -> None:
    """Where nobody looks."""


class Inventory:
    """What one reading of a cloud found; a context manager.

    :param cloud: to read
    :param patterns: an operator's own, for what is foreign
    :param compute_hosts: beside those that Nova names
    :param progress: called with what is being read, and how much more of it
    """

    def __init__(
        self,
        cloud: api.Cloud,
        patterns: dict[str, list[str]] | None = None,
        compute_hosts: Iterable[str] = (),
        progress: Callable[[str, int], None] = _no_progress,
    ) -> None:
        self._cloud = cloud
        self._progress = progress
        self._doubts: list[str] = []
        self._pages = 0
        self._counts = {'volumes': 0, 'attachments': 0, 'servers': 0}
        self._elsewhere: str | None = None
        self._witnesses: dict[str, tuple[str, str]] = {}
        self._silent = 0
        self._last = model.Evidence('no call', None, '')
        self._agreeing = 0
        self._claims = 0
        hosts, self._down = cloud.compute_hosts()
        #: what is foreign in this cloud
        self.rules = foreign.Rules(patterns or {}, hosts.union(compute_hosts))
        # A private temporary file of SQLite's own, gone when it is closed.
        self._db = sqlite3.connect('', isolation_level=None)
        self._db.executescript(
            'PRAGMA cache_size = -65536; PRAGMA journal_mode = OFF;'
            'PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;' + _SCHEMA
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._db.close()

    @property
    def counts(self) -> Totals:
        """How much was read."""
        return Totals(**self._counts)

    @property
    def doubts(self) -> list[str]:
        """Why the inventory looks wrong; empty where it does not."""
        doubts = self._doubts + self._down[:1]
        if self._claims and not self._counts['servers']:
            doubts.append(
                'Nova lists no server at all, and Cinder has '
                f'{self._claims} attachments to servers'
            )
        elif self._claims and not self._agreeing:
            doubts.append(
                'Cinder and Nova agree on no attachment that was looked at: '
                'are they of the same cloud and region?'
            )
        elif self._claims - self._agreeing > max(_FEW, self._agreeing):
            doubts.append(
                f'Nova does not have {self._claims - self._agreeing} of '
                f'{self._claims} attachments that Cinder has: is there '
                'another Nova that uses this Cinder?'
            )
        return doubts

    def check_cells(self) -> None:
        """See whether a cell of Nova has gone down meanwhile.

        :raises attachguard.audit.collect.rest.CloudError: where Nova does not
            tell
        """
        _hosts, down = self._cloud.compute_hosts()
        self._down = self._down or down

    def read(self) -> None:
        """Read both sides, Cinder's claims first.

        :raises attachguard.audit.collect.rest.CloudError: where a list is not
            to be had, or not of all projects
        """
        with self._sensible():
            self._read_volumes()
            self._read_attachments()
            self._read_servers()
        self.check_cells()
        self._compare()
        self._see_every_project()

    def read_selected(
        self, volumes: Collection[str], servers: Collection[str]
    ) -> list[str]:
        """Read what is needed to judge some volumes: all of Nova's servers.

        :param volumes: ids of volumes
        :param servers: ids of servers, for all their volumes
        :returns: the ids of the volumes
        :raises attachguard.audit.collect.rest.CloudError: as :meth:`read`
        """
        wanted = dict.fromkeys(volumes)
        with self._sensible():
            for server_id in servers:
                for page in self._cloud.attachments(instance_id=server_id):
                    wanted.update(
                        dict.fromkeys(
                            str(row['volume_id']) for row in page.rows
                        )
                    )
            self._read_servers(wanted, servers)
        self.check_cells()
        self._db.executescript(_REST)
        wanted.update(
            (row[0], None)
            for row in self._db.execute('SELECT volume FROM held')
        )
        self._check_witness()
        self._see_every_project()
        return list(wanted)

    def holders(self, volume_id: str) -> list[str]:
        """The servers that Nova listed with a volume."""
        return [
            row[0]
            for row in self._db.execute(
                'SELECT server FROM held WHERE volume = ?', (volume_id,)
            )
        ]

    # Reading.

    @contextlib.contextmanager
    def _sensible(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise rest.CloudError(
                f'{self._last.call} showed something that makes no sense: '
                f'{exc!r} ({self._last.request_id})'
            ) from exc

    def _page(self, page: rest.Page, what: str) -> int:
        self._pages += 1
        self._last = page.evidence
        self._counts[what] += len(page.rows)
        self._progress(what, len(page.rows))
        self._db.execute(
            'INSERT INTO pages VALUES (?, ?)',
            (self._pages, json.dumps(dataclasses.asdict(page.evidence))),
        )
        return self._pages

    def _read_volumes(self) -> None:
        for page in self._cloud.volumes():
            number = self._page(page, 'volumes')
            volumes: list[tuple[Any, ...]] = []
            try:
                if page.rows:
                    # Only administrators are shown where a volume lies.
                    page.rows[0]['os-vol-host-attr:host']
                for row in page.rows:
                    attachments = row['attachments']
                    status = row['status']
                    if not attachments and status not in _SPEAKING:
                        continue
                    volume = (
                        row['id'],
                        row['os-vol-tenant-attr:tenant_id'],
                        status,
                        row['migration_status'],
                        row['multiattach'],
                        row['updated_at'],
                        number,
                    )
                    for item in attachments:
                        volumes.append(
                            (
                                *volume,
                                item['attachment_id'],
                                item['host_name'],
                                item['device'],
                                item['attached_at'],
                            )
                        )
                    if not attachments:
                        volumes.append((*volume, None, None, None, None))
            except KeyError as exc:
                raise rest.CloudError(
                    f'Cinder does not show {exc} of a volume: the audit needs '
                    'the role admin there, which sees every project'
                ) from None
            self._insert('volumes', volumes, 11)
        for status, attach_status in (
            ('available', 'attached'),
            ('in-use', 'detached'),
        ):
            for page in self._cloud.volumes(
                status=status, attach_status=attach_status
            ):
                number = self._page(
                    dataclasses.replace(page, rows=[]), 'volumes'
                )
                self._insert(
                    'mismatched',
                    [
                        (row['id'], status, attach_status, number)
                        for row in page.rows
                    ],
                    4,
                )

    def _read_attachments(self) -> None:
        for page in self._cloud.attachments():
            number = self._page(page, 'attachments')
            self._insert(
                'listed',
                [
                    (
                        row['volume_id'],
                        api.canonical(row['instance']),
                        row['id'],
                        row['status'],
                        number,
                    )
                    for row in page.rows
                ],
                5,
            )

    def _read_servers(
        self,
        volumes: Collection[str] | None = None,
        servers: Collection[str] = (),
    ) -> None:
        mine = self._cloud.project_id()
        for page in self._cloud.servers():
            number = self._page(page, 'servers')
            held, moving = [], []
            for row in page.rows:
                server = row['id']
                attached = row.get('os-extended-volumes:volumes_attached')
                if attached is None or row['status'] == 'UNKNOWN':
                    self._doubt_cell(server)
                    continue
                if self._elsewhere is None and row['tenant_id'] != mine:
                    self._elsewhere = server
                if not attached:
                    continue
                if len(self._witnesses) < _WITNESSES:
                    self._witnesses.setdefault(
                        row['tenant_id'], (server, attached[0]['id'])
                    )
                task_state, status = (
                    row['OS-EXT-STS:task_state'],
                    row['status'],
                )
                if model.is_busy(task_state, status):
                    moving.append((server, task_state, status))
                for item in attached:
                    if (
                        volumes is None
                        or item['id'] in volumes
                        or server in servers
                    ):
                        held.append((item['id'], server, number))
            self._insert('held', held, 3)
            self._insert('moving', moving, 3)

    def _insert(
        self, table: str, rows: list[tuple[Any, ...]], width: int
    ) -> None:
        places = ','.join('?' * width)
        self._db.execute('BEGIN')
        self._db.executemany(
            f'INSERT INTO {table} VALUES ({places})',  # noqa: S608
            rows,
        )
        self._db.execute('COMMIT')

    def _doubt_cell(self, server: str) -> None:
        doubt = 'a cell of Nova does not answer'
        if not any(doubt in known for known in self._doubts):
            self._doubts.append(f'{doubt} (that of server {server})')

    # Comparing.

    def _compare(self) -> None:
        (self._claims,) = self._db.execute(
            'SELECT count(*) FROM listed WHERE server IS NOT NULL'
        ).fetchone()
        self._db.executescript(_INDEXES)
        for query in _SUSPECTS:
            self._db.execute(f'INSERT OR IGNORE INTO suspects {query}')  # noqa: S608
        self._db.executescript(_REST)
        (absent,) = self._db.execute(
            """
            SELECT count(*) FROM claimed JOIN suspects
            ON suspects.volume = claimed.volume
            AND suspects.server = claimed.server
            WHERE suspects.why = 'absent'
            """
        ).fetchone()
        self._agreeing = self._claims - absent

    def _see_every_project(self) -> None:
        """Whether Nova shows what it lists.

        Where it does not, each server of another project looks as if it were
        gone.
        """
        if self._elsewhere is None:
            return
        answer = self._cloud.nova(f'/servers/{self._elsewhere}')
        if answer.not_found or answer.status == 403:
            self._doubts.append(
                f'Nova lists server {self._elsewhere} of another project, '
                f'and does not show it ({answer.why}): the credentials need '
                'the role admin'
            )

    def _check_witness(self) -> None:
        """Whether both sides speak of the same cloud, if not all is read."""
        for server_id, volume_id in self._witnesses.values():
            self._claims = 1
            for page in self._cloud.attachments(instance_id=server_id):
                if any(row['volume_id'] == volume_id for row in page.rows):
                    self._agreeing = 1
                    return

    # Asking.

    def nobodys(
        self, wanted: Callable[[str | None], bool]
    ) -> Iterator[content.Foreign]:
        """The attachments that name no server, which nobody has to be asked.

        :param wanted: whether those of a project are, None where it is not
            known
        """
        for (
            volume_id,
            project_id,
            found,
            status,
            host,
            device,
            at,
        ) in self._db.execute(
            """
                SELECT claimed.volume, (
                    SELECT project FROM known WHERE known.id = claimed.volume
                ), claimed.id, claimed.status, host, device, attached_at
                FROM claimed
                LEFT JOIN known ON known.id = claimed.volume
                               AND known.attachment = claimed.id
                WHERE server IS NULL
                """
        ):
            if wanted(project_id):
                yield content.Foreign(
                    volume_id,
                    model.Attachment(
                        found,
                        None,
                        status,
                        api.printable(host),
                        api.printable(device),
                        at,
                    ),
                    'no-server',
                )

    def cases(
        self, wanted: Callable[[str, str | None], bool]
    ) -> Iterator[model.Case]:
        """Ask about each suspect, one question each.

        :param wanted: whether to ask about a volume, by its id and project,
            which is None where it was not listed
        :returns: what is known of each suspect volume, with what is foreign
            set apart
        """
        for volume_id, project_id in self._db.execute(
            """
            SELECT DISTINCT volume, project FROM suspects
            LEFT JOIN known ON known.id = suspects.volume ORDER BY volume
            """
        ):
            if wanted(volume_id, project_id):
                if self._silent < _PATIENCE:
                    case = self._case(volume_id)
                else:
                    case = model.Case(
                        volume_id,
                        None,
                        unknown='not asked about, for nobody answers any more',
                    )
                yield self.rules.set_apart(case)

    def _case(self, volume_id: str) -> model.Case:
        evidence: list[model.Evidence] = []
        volume = self._listed_volume(volume_id, evidence)
        attachments = self._listed_attachments(volume_id, evidence)
        servers = self._listed_servers(volume_id, evidence)
        if len(attachments) + len(servers) > recheck.MOST:
            return model.Case(
                volume_id,
                volume,
                evidence=tuple(evidence[: recheck.MOST]),
                unknown=f'it has more than {recheck.MOST} attachments',
            )
        ask_cinder = volume is None
        for server_id, why in self._db.execute(
            'SELECT server, why FROM suspects WHERE volume = ?', (volume_id,)
        ).fetchall():
            self._progress('suspects', 1)
            if why == 'absent':
                servers[server_id], said = self._cloud.server(
                    server_id, volume_id
                )
                evidence.append(said)
            elif why == 'several':
                servers[server_id], said = self._cloud.nova_attachment(
                    servers[server_id], volume_id
                )
                evidence.append(said)
            else:
                ask_cinder = True
        unknown = ''
        if ask_cinder:
            answer, row = self._cloud.volume(volume_id)
            evidence.append(answer.evidence)
            if row is not None:
                volume, attachments = _read_again(attachments, row)
            elif answer.not_found:
                volume = None
            else:
                unknown = answer.why
        if volume is not None and volume.status == 'attaching':
            evidence += self._ask_by_which(volume_id, attachments, servers)
        if unknown or any(
            server.presence is model.Presence.UNKNOWN
            for server in servers.values()
        ):
            self._silent += 1
        else:
            self._silent = 0
        if volume is not None:
            volume = self._with_attach_status(volume, evidence)
        return model.Case(
            volume_id,
            volume,
            tuple(attachments),
            servers=servers,
            evidence=tuple(evidence),
            unknown=unknown,
        )

    def _ask_by_which(
        self,
        volume_id: str,
        attachments: list[model.Attachment],
        servers: dict[str, model.Server],
    ) -> Iterator[model.Evidence]:
        """Ask by which attachment Nova has a volume that is attaching.

        It waits for that one, or for another, which somebody has forged.
        """
        waiting = {a.server_id for a in attachments if a.status == 'attaching'}
        for server in list(servers.values()):
            if (
                server.id in waiting
                and server.presence is model.Presence.HAS
                and server.attachment_id is None
            ):
                servers[server.id], said = self._cloud.nova_attachment(
                    server, volume_id
                )
                yield said

    def _listed_volume(
        self, volume_id: str, evidence: list[model.Evidence]
    ) -> model.Volume | None:
        row = self._db.execute(
            'SELECT project, status, migration, multiattach, updated, page '
            'FROM known WHERE id = ?',
            (volume_id,),
        ).fetchone()
        if row is None:
            return None
        project, status, migration, multiattach, updated, page = row
        evidence.append(self._evidence(page, f'volume {status}'))
        return model.Volume(
            volume_id,
            project,
            status,
            None,
            migration,
            bool(multiattach),
            updated,
        )

    def _with_attach_status(
        self, volume: model.Volume, evidence: list[model.Evidence]
    ) -> model.Volume:
        row = self._db.execute(
            'SELECT attach_status, page FROM mismatched '
            'WHERE volume = ? AND status = ?',
            (volume.id, volume.status),
        ).fetchone()
        if row is None:
            return volume
        evidence.append(self._evidence(row[1], f'attach_status is {row[0]}'))
        return dataclasses.replace(volume, attach_status=row[0])

    def _listed_attachments(
        self, volume_id: str, evidence: list[model.Evidence]
    ) -> list[model.Attachment]:
        shown = {
            row[0]: row[1:]
            for row in self._db.execute(
                'SELECT attachment, host, device, attached_at FROM known '
                'WHERE id = ?',
                (volume_id,),
            )
        }
        attachments: dict[str, model.Attachment] = {}
        for server, found, status, page in self._db.execute(
            'SELECT server, id, status, page FROM claimed WHERE volume = ?',
            (volume_id,),
        ).fetchall():
            host, device, at = shown.get(found, (None, None, None))
            attachments[found] = model.Attachment(
                found,
                server,
                status,
                api.printable(host),
                api.printable(device),
                at,
            )
            evidence.append(
                self._evidence(
                    page, f'attachment {found} {status} to {server}'
                )
            )
        return list(attachments.values())

    def _listed_servers(
        self, volume_id: str, evidence: list[model.Evidence]
    ) -> dict[str, model.Server]:
        servers = {}
        for server, page in self._db.execute(
            'SELECT server, page FROM held WHERE volume = ?', (volume_id,)
        ).fetchall():
            state = self._db.execute(
                'SELECT task_state, status FROM moving WHERE server = ?',
                (server,),
            ).fetchone() or (None, None)
            servers[server] = model.Server(
                server,
                model.Presence.HAS,
                task_state=state[0],
                status=state[1],
            )
            evidence.append(
                self._evidence(page, f'Nova: server {server} has it')
            )
        return servers

    def _evidence(self, page: int, said: str) -> model.Evidence:
        (text,) = self._db.execute(
            'SELECT evidence FROM pages WHERE id = ?', (page,)
        ).fetchone()
        return model.Evidence(**{**json.loads(text), 'result': said})


def _read_again(
    attachments: list[model.Attachment], row: dict[str, Any]
) -> tuple[model.Volume, list[model.Attachment]]:
    """Take a volume as it is now, in the place of what was listed.

    It shows the attachments that are attached; of the others, those that were
    listed count.
    """
    now = [
        api.attachment_from(
            {
                'id': item['attachment_id'],
                'instance': item['server_id'],
                'status': 'attached',
            },
            item,
        )
        for item in row['attachments']
    ]
    ids = {item.id for item in now}
    waiting = [
        item
        for item in attachments
        if item.status != 'attached' and item.id not in ids
    ]
    return api.volume_from(row), now + waiting
