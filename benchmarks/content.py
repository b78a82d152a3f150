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
"""What is in a cloud of any size, worked out anew for each question.

A cloud of a million volumes is a few numbers: which volume has which id, who
has it, and what is wrong with it follow from its index, and the index follows
from the id.  So a page of volumes can be written without the ones before it,
and a single volume can be asked for by its id.

Volumes come in pairs. A server has the first of a pair, nobody has the
second.  What is wrong in the cloud is wrong in Cinder's records only: Nova's
stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import datetime
import functools
import hashlib
import typing
import uuid

# The largest prime that the bits of a random UUID can count to: modulo a
# prime, every factor has an inverse.
_PRIME = 2**122 - 3

_UUID = '{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}'.format

# A prime beyond the size of any cloud, so that it shuffles each of them.
_STRIDE = 2**31 - 1

# When the newest volume and server were made: long ago enough to be at rest.
_NEWEST = datetime.date(2026, 1, 1)

_PROJECTS = 256
_SERVERS_PER_HOST = 40

# Every so many volumes that a server has are attached to another one, too.
_SHARED = 100

# What becomes of volumes that nobody has.
_SPARE = (
    *('available',) * 40,
    'awaiting-transfer',
    'backing-up',
    'creating',
    'deleting',
    'downloading',
    'error',
    'error_deleting',
    'extending',
    'maintenance',
    'uploading',
)


class Ids:
    """The ids of one kind of things: random UUIDs to look at, and reversible.

    :param kind: another kind has other ids
    """

    def __init__(self, kind: str) -> None:
        digest = hashlib.sha256(kind.encode()).digest()
        self._factor = int.from_bytes(digest) % _PRIME
        self._inverse = pow(self._factor, -1, _PRIME)

    def id(self, index: int) -> str:
        """The id of the thing at an index."""
        bits = (index + 1) * self._factor % _PRIME
        # Between them is where a UUID says that it is a random one.
        return _UUID(
            bits >> 90,
            bits >> 74 & 0xFFFF,
            bits >> 62 & 0xFFF,
            bits >> 48 & 0x3FFF | 0x8000,
            bits & 0xFFFFFFFFFFFF,
        )

    def index(self, id: str) -> int:
        """The index of the thing with an id.

        :returns: beyond any index where it is the id of something else
        :raises ValueError: it is no UUID
        """
        bits = uuid.UUID(id).int
        bits = (
            bits >> 80 << 74
            | (bits >> 64 & 0xFFF) << 62
            | bits & (1 << 62) - 1
        )
        return (bits * self._inverse - 1) % _PRIME


VOLUMES = Ids('volume')
SERVERS = Ids('server')
ATTACHMENTS = Ids('attachment')
#: Nova's records of attachments have ids of their own.
MAPPINGS = Ids('mapping')
SERVICES = Ids('service')
#: Of servers that are gone, and what else Nova does not know.
STRANGERS = Ids('stranger')

_PROJECT_IDS = [
    Ids('project').id(n).replace('-', '') for n in range(_PROJECTS)
]
_USER_IDS = [Ids('user').id(n).replace('-', '') for n in range(_PROJECTS)]


class Attachment(typing.NamedTuple):
    """An attachment as Cinder has it."""

    id: str
    volume_id: str
    server_id: str | None
    status: str
    host: str | None
    device: str
    attached_at: str


class Volume(typing.NamedTuple):
    """A volume as Cinder has it."""

    id: str
    name: str
    project_id: str
    user_id: str
    size: int
    status: str
    attach_status: str
    multiattach: bool
    created_at: str
    attachments: tuple[Attachment, ...]


class Mapping(typing.NamedTuple):
    """A volume of a server, as Nova has it."""

    id: str
    volume_id: str
    attachment_id: str
    device: str


class Server(typing.NamedTuple):
    """A server as Nova has it."""

    id: str
    name: str
    project_id: str
    user_id: str
    host: str
    created_at: str
    volumes: tuple[Mapping, ...]


class Planted(typing.NamedTuple):
    """Something wrong, as an audit is to find it.

    :param kind: the class of the finding; ``foreign`` for an attachment that
        is to be left alone
    """

    kind: str
    volume_id: str
    attachment_id: str | None
    server_id: str | None


@dataclasses.dataclass(frozen=True)
class _Forged:
    """An attachment in Cinder that Nova does not have.

    :param to: ``holder``, the server that has the volume; ``bystander``, one
        that does not; ``stranger``, which is no server; None
    """

    to: str | None
    status: str = 'attached'
    host: str | None = None
    device: str = '/dev/vdb'


@dataclasses.dataclass(frozen=True)
class _Wrong:
    """What can be wrong with a volume, and what is found then.

    :param kind: class of the finding
    :param held: whether it is a volume that a server has
    :param status: of the volume; None where there is none any more
    :param attach_status: of the volume
    :param kept: whether Cinder has the attachment by which the server has it
    :param forged: more attachments that Cinder has
    :param about: what the finding is about: the attachment that is forged,
        the server that has it, or the volume
    """

    kind: str
    held: bool
    status: str | None
    attach_status: str = 'detached'
    kept: bool = True
    forged: tuple[_Forged, ...] = ()
    about: typing.Literal['attachment', 'server', 'volume'] = 'volume'


_GONE = _Forged('stranger')
_WRONG = (
    _Wrong(
        'server-gone',
        False,
        'in-use',
        'attached',
        forged=(_GONE,),
        about='attachment',
    ),
    _Wrong(
        'server-gone',
        False,
        'reserved',
        forged=(_Forged('stranger', 'reserved'),),
        about='attachment',
    ),
    _Wrong(
        'server-lacks-volume',
        False,
        'in-use',
        'attached',
        forged=(_Forged('bystander'),),
        about='attachment',
    ),
    _Wrong(
        'stuck-attachment',
        False,
        'reserved',
        forged=(_Forged('bystander', 'reserved'),),
        about='attachment',
    ),
    _Wrong('in-use-without-attachment', False, 'in-use', 'attached'),
    _Wrong('in-use-without-attachment', False, 'in-use', 'detached'),
    _Wrong('stuck-attaching', False, 'attaching'),
    _Wrong('stuck-reserved', False, 'reserved'),
    _Wrong('stuck-detaching', True, 'detaching', 'attached', about='server'),
    _Wrong('status-mismatch', False, 'available', 'attached'),
    _Wrong('status-mismatch', True, 'available', 'attached'),
    _Wrong('status-mismatch', True, 'in-use', 'detached'),
    _Wrong(
        'duplicate',
        True,
        'in-use',
        'attached',
        forged=(_Forged('holder'),),
        about='attachment',
    ),
    _Wrong('missing-in-cinder', True, 'available', kept=False, about='server'),
    _Wrong('volume-gone', True, None, kept=False, about='server'),
    _Wrong('volume-deleted', False, None, forged=(_GONE,), about='attachment'),
    _Wrong(
        'foreign',
        False,
        'in-use',
        'attached',
        forged=(_Forged(None, host='glance'),),
        about='attachment',
    ),
    _Wrong(
        'foreign',
        False,
        'in-use',
        'attached',
        forged=(_Forged('stranger', device='ironic_mountpoint'),),
        about='attachment',
    ),
    _Wrong(
        'foreign',
        False,
        'in-use',
        'attached',
        forged=(_Forged('stranger', host='container-host'),),
        about='attachment',
    ),
)

#: In how many ways a volume can be wrong.
WAYS = len(_WRONG)


class Cloud:
    """The volumes of a cloud, and the servers that have them.

    :param volumes: how many volumes, about
    :param servers: how many servers
    :param suspects: with how many volumes something is wrong
    :raises ValueError: so many do not fit in
    """

    def __init__(self, volumes: int, servers: int, suspects: int) -> None:
        self.pairs = volumes // 2
        self.servers = servers
        self.suspects = suspects
        # A tenth of the servers has no volume.
        self._homes = servers - servers // 10
        if self.pairs < 1 or self._homes < 2 or suspects > self.pairs:
            raise ValueError('a cloud is larger than that')
        self._every = self.pairs // max(suspects, 1)
        self._back = pow(_STRIDE, -1, servers)
        #: Where servers run.
        self.hosts = [
            f'compute{number}'
            for number in range(-(-servers // _SERVERS_PER_HOST))
        ]

    # What is wrong, and who has what: all by indexes.

    def _wrong(self, pair: int) -> _Wrong | None:
        number, rest = divmod(pair, self._every)
        if rest or number >= self.suspects:
            return None
        return _WRONG[number % WAYS]

    def _wrong_with(self, volume: int) -> _Wrong | None:
        pair, spare = divmod(volume, 2)
        wrong = self._wrong(pair)
        return None if wrong is None or wrong.held == spare else wrong

    def _suspects(self) -> Iterator[tuple[int, _Wrong]]:
        for number in range(self.suspects):
            wrong = _WRONG[number % WAYS]
            yield 2 * number * self._every + (not wrong.held), wrong

    def _holders(self, pair: int) -> list[int]:
        """The servers that have the first volume of a pair."""
        homes = [pair % self._homes]
        if self._shared(pair):
            homes.append((pair + 1) % self._homes)
        return [home * _STRIDE % self.servers for home in homes]

    def _shared(self, pair: int) -> bool:
        return pair % _SHARED == _SHARED - 1 and self._wrong(pair) is None

    def _held(self, server: int) -> Iterator[tuple[int, int]]:
        """What a server has: pairs, and the how-manieth holder it is."""
        home = server * self._back % self.servers
        if home >= self._homes:
            return
        for pair in range(home, self.pairs, self._homes):
            yield pair, 0
        before = (home - 1) % self._homes
        for pair in range(before, self.pairs, self._homes):
            if self._shared(pair):
                yield pair, 1

    def planted(self) -> Iterator[Planted]:
        """Everything that is wrong in the cloud."""
        for index, wrong in self._suspects():
            attachment_id = server_id = None
            if wrong.about == 'attachment':
                attachment = self.attachments(index)[-1]
                attachment_id = attachment.id
                server_id = attachment.server_id
            elif wrong.about == 'server':
                server_id = SERVERS.id(self._holders(index // 2)[0])
            yield Planted(
                wrong.kind, VOLUMES.id(index), attachment_id, server_id
            )

    # Cinder's records.

    def find_volume(self, id: str) -> int | None:
        """The index of a volume, also of one that is gone."""
        return _known(VOLUMES, id, 2 * self.pairs)

    def find_attachment(self, id: str) -> int | None:
        """The index of an attachment, also of one that is gone."""
        return _known(ATTACHMENTS, id, 4 * self.pairs)

    def volume(self, index: int) -> Volume | None:
        """A volume with its attachments; None where it is gone."""
        pair, spare = divmod(index, 2)
        wrong = self._wrong_with(index)
        if wrong is not None:
            if wrong.status is None:
                return None
            status, attach_status = wrong.status, wrong.attach_status
        elif spare:
            status, attach_status = _SPARE[pair % len(_SPARE)], 'detached'
        else:
            status, attach_status = 'in-use', 'attached'
        attachments = self.attachments(index)
        return Volume(
            VOLUMES.id(index),
            f'volume-{index}',
            _PROJECT_IDS[index % _PROJECTS],
            _USER_IDS[index % _PROJECTS],
            1 + index % 100,
            status,
            attach_status,
            len(attachments) > 1,
            _time(index),
            attachments,
        )

    def attachments(self, index: int) -> tuple[Attachment, ...]:
        """The attachments of a volume, also of one that is gone."""
        pair, spare = divmod(index, 2)
        wrong = self._wrong_with(index)
        if spare and wrong is None:
            return ()
        holders = [] if spare else self._holders(pair)
        found: list[tuple[str | None, _Forged]] = []
        if wrong is None or wrong.kept:
            found += [
                (SERVERS.id(server), _Forged('holder', host=self.host(server)))
                for server in holders
            ]
        for forged in () if wrong is None else wrong.forged:
            match forged.to:
                case 'holder':
                    found.append((SERVERS.id(holders[0]), forged))
                case 'bystander':
                    found.append((SERVERS.id(pair % self.servers), forged))
                case 'stranger':
                    found.append((STRANGERS.id(index), forged))
                case _:
                    found.append((None, forged))
        volume_id, attached_at = VOLUMES.id(index), _time(index)
        return tuple(
            [
                Attachment(
                    ATTACHMENTS.id(2 * index + slot),
                    volume_id,
                    server_id,
                    made.status,
                    made.host,
                    made.device,
                    attached_at,
                )
                for slot, (server_id, made) in enumerate(found)
            ]
        )

    def list_volumes(
        self,
        after: int = -1,
        status: str | None = None,
        attach_status: str | None = None,
    ) -> Iterator[Volume]:
        """The volumes, the newest first.

        :param after: index of the one before the first
        :param status: only those that have it
        :param attach_status: only those that have it
        """
        indexes: Iterable[int] = range(after + 1, 2 * self.pairs)
        if (status, attach_status) in (
            ('available', 'attached'),
            ('in-use', 'detached'),
        ):
            # No other volume disagrees with itself.
            indexes = [n for n, __ in self._suspects() if n > after]
        for index in indexes:
            volume = self.volume(index)
            if (
                volume is not None
                and status in (None, volume.status)
                and attach_status in (None, volume.attach_status)
            ):
                yield volume

    def list_attachments(self, after: int = -1) -> Iterator[Attachment]:
        """Cinder's attachments.

        They have an order of their own, so that nothing can count on theirs
        being that of the volumes or the servers.

        :param after: index of the one before the first
        """
        size = 2 * self.pairs
        volume, slot = divmod(after, 2) if after >= 0 else (0, -1)
        first = volume * pow(_STRIDE, -1, size) % size
        yield from self.attachments(volume)[slot + 1 :]
        for position in range(first + 1, size):
            yield from self.attachments(position * _STRIDE % size)

    # Nova's records.

    def host(self, server: int) -> str:
        """Where a server runs."""
        return self.hosts[server % len(self.hosts)]

    def find_server(self, id: str) -> int | None:
        """The index of a server."""
        return _known(SERVERS, id, self.servers)

    def server(self, index: int) -> Server:
        """A server with its volumes."""
        return Server(
            SERVERS.id(index),
            f'server-{index}',
            _PROJECT_IDS[index % _PROJECTS],
            _USER_IDS[index % _PROJECTS],
            self.host(index),
            _time(index),
            tuple(
                Mapping(
                    MAPPINGS.id(4 * pair + slot),
                    VOLUMES.id(2 * pair),
                    ATTACHMENTS.id(4 * pair + slot),
                    '/dev/vdb',
                )
                for pair, slot in self._held(index)
            ),
        )

    def list_servers(self, after: int = -1) -> Iterator[Server]:
        """The servers, the newest first.

        :param after: index of the one before the first
        """
        for index in range(after + 1, self.servers):
            yield self.server(index)


def _known(ids: Ids, id: str, size: int) -> int | None:
    try:
        index = ids.index(id)
    except ValueError:
        return None
    return index if index < size and ids.id(index) == id else None


def _time(index: int) -> str:
    """When something was made: one thing a minute."""
    days, minutes = divmod(index, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    return f'{_day(days)}T{23 - hours:02}:{59 - minutes:02}:00.000000'


@functools.cache
def _day(days: int) -> str:
    return (_NEWEST - datetime.timedelta(days=days)).isoformat()
