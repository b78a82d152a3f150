# SPDX-License-Identifier: Apache-2.0
"""States from public reports, on a whole cloud: what is right for each.

Each is made with SQL on a volume of its own, two months ago.  One audit finds
them all; one repair of each volume mends it, or says what a person has to do,
which is then done; and in the end the volume is of use: Nova attaches it,
detaches it, and its owner deletes it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import time
from typing import Any
import urllib.parse
import uuid

import pytest

from attachguard.audit import classes
from tests.cloud import cloud as clouds
from tests.cloud import compute_driver
from tests.cloud import damage
from tests.cloud import mode as modes
from tests.cloud import operators
from tests.cloud import scene as scenes

pytestmark = pytest.mark.nightly

#: Servers: the one that has what Nova has, one that has nothing, and one that
#: has the root disk of its own.
HOLDER, IDLE, ROOTED = 'holder', 'idle', 'rooted'
LONG_AGO = '2026-01-02 03:04:05'
#: A compute host that Nova does not have any more.
GONE_HOST = 'decommissioned-1'

Make = Callable[['State', str], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A state, and what is right.

    :param make: makes it
    :param kinds: the classes that the audit finds; none where it is healthy
    :param repair: the results of the repair; ``by hand`` where the script is
        run then
    :param on: the server that Nova attaches the volume to before
    :param of_use: whether it can be used in the end
    """

    make: Make
    kinds: tuple[str, ...]
    repair: str = 'repaired'
    on: str | None = None
    of_use: bool = True


class State:
    """The cloud's databases, and the volumes in them."""

    def __init__(self, scene: scenes.Scene) -> None:
        self.scene = scene

    def cinder(self, statement: str, *values: Any) -> None:
        """Change Cinder's database."""
        self.scene.cloud.mariadb.write('cinder', statement, values)

    def nova(self, statement: str, *values: Any) -> None:
        """Change the database of Nova's cell."""
        self.scene.cloud.mariadb.write('nova_cell1', statement, values)

    def volume(self, name: str, **columns: Any) -> None:
        """Set columns of a volume."""
        columns = {'updated_at': LONG_AGO, **columns}
        names = ', '.join(f'{column} = %s' for column in columns)
        self.cinder(
            f'UPDATE volumes SET {names} WHERE id = %s',
            *columns.values(),
            self.scene.volumes[name],
        )

    def row(
        self,
        name: str,
        server: str | None,
        status: str,
        *,
        connected: bool = False,
        host: str = compute_driver.HOSTS[0],
    ) -> None:
        """Add an attachment to Cinder's database."""
        connector = f'{{"host": "{host}", "initiator": "iqn.test:x"}}'
        self.cinder(
            'INSERT INTO volume_attachment (id, volume_id, instance_uuid, '
            'attach_status, attached_host, attach_time, connector, '
            'connection_info, created_at, updated_at, deleted) '
            'VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)',
            str(uuid.uuid4()),
            self.scene.volumes[name],
            None
            if server is None
            else self.scene.servers.get(server, str(uuid.uuid4())),
            status,
            host if connected else None,
            LONG_AGO,
            connector if connected else None,
            '{"driver_volume_type": "fake", "data": {}}'
            if connected
            else None,
            LONG_AGO,
            LONG_AGO,
        )

    def of(self, name: str, **columns: Any) -> None:
        """Set columns of the volume's attachments."""
        names = ', '.join(f'{column} = %s' for column in columns)
        self.cinder(
            f'UPDATE volume_attachment SET {names} '
            'WHERE NOT deleted AND volume_id = %s',
            *columns.values(),
            self.scene.volumes[name],
        )

    def forget(self, name: str) -> None:
        """Let Cinder lose the attachment."""
        self.of(name, deleted=1, deleted_at=LONG_AGO)

    def mapping(self, name: str, **columns: Any) -> None:
        """Set columns of the volume's mappings in Nova."""
        names = ', '.join(f'{column} = %s' for column in columns)
        self.nova(
            f'UPDATE block_device_mapping SET {names} '
            'WHERE NOT deleted AND volume_id = %s',
            *columns.values(),
            self.scene.volumes[name],
        )


def _p01(state: State, name: str) -> None:
    state.volume(name, status='in-use', attach_status='attached')
    state.row(name, IDLE, 'attached')


def _p02(state: State, name: str) -> None:
    state.volume(name, status='in-use', attach_status='attached')
    state.row(name, 'gone', 'attached', connected=True)


def _p03(state: State, name: str) -> None:
    state.volume(name, status='reserved', attach_status='reserved')
    state.row(name, IDLE, 'reserved')


def _p04(state: State, name: str) -> None:
    state.volume(name, status='reserved')


def _p05(state: State, name: str) -> None:
    state.volume(name, status='attaching')


def _p06(state: State, name: str) -> None:
    state.volume(name)
    state.row(name, IDLE, 'error_detaching', connected=True)


def _lost(state: State, name: str) -> None:
    state.forget(name)
    state.volume(name, status='in-use', attach_status='detached')


def _p09(state: State, name: str) -> None:
    state.forget(name)
    state.mapping(name, attachment_id=None)
    state.volume(name, status='available', attach_status='detached')


def _p10(state: State, name: str) -> None:
    state.volume(name, migration_status='migrating')


def _p11(state: State, name: str) -> None:
    state.volume(name, status='backing-up', attach_status='attached')
    state.row(name, 'gone', 'attached')


def _status(status: str) -> Make:
    return lambda state, name: state.volume(name, status=status)


def _p14(state: State, name: str) -> None:
    state.volume(name, status='attaching', attach_status='attaching')
    state.row(name, 'gone', 'attaching', connected=True)


def _p15(state: State, name: str) -> None:
    state.volume(name, status='reserved', attach_status='reserved')
    state.row(name, None, 'reserved')


def _p16(state: State, name: str) -> None:
    state.nova(
        'INSERT INTO block_device_mapping (uuid, instance_uuid, volume_id, '
        'source_type, destination_type, attachment_id, connection_info, '
        'device_name, boot_index, no_device, delete_on_termination, deleted, '
        'created_at, updated_at) SELECT UUID(), %s, volume_id, source_type, '
        "destination_type, UUID(), connection_info, '/dev/vdz', NULL, 0, 0, "
        '0, NOW(), NOW() FROM block_device_mapping '
        'WHERE NOT deleted AND volume_id = %s',
        state.scene.servers[IDLE],
        state.scene.volumes[name],
    )


def _p17(state: State, name: str) -> None:
    state.volume(name, status='in-use', attach_status='attached')
    state.row(name, 'gone', 'attached', connected=True, host=GONE_HOST)


def _p18(state: State, name: str) -> None:
    state.of(name, attach_status='reserved')
    state.volume(name, status='reserved', attach_status='reserved')


def _p24(state: State, name: str) -> None:
    state.of(name, connector=None)
    state.mapping(name, attachment_id=None)
    state.volume(name)


def _p25(state: State, name: str) -> None:
    state.mapping(name, attachment_id=str(uuid.uuid4()))
    state.volume(name)


def _p25_beside(state: State, name: str) -> None:
    state.of(name, attach_status='attaching')
    state.volume(name, status='attaching', attach_status='attaching')


def _p26(state: State, name: str) -> None:
    state.of(name, instance_uuid=state.scene.servers[IDLE])
    state.volume(name)


def _wrong_host(state: State, name: str) -> None:
    host = state.scene.host(HOLDER)
    (other,) = {*compute_driver.HOSTS} - {host}
    state.of(name, attached_host=other)
    state.volume(name)


BY_HAND = 'by hand'
CASES = {
    'p01': Case(_p01, ('server-lacks-volume',)),
    'p02': Case(_p02, ('server-gone',)),
    'p03': Case(_p03, ('stuck-attachment',)),
    'p04': Case(_p04, ('stuck-reserved',)),
    'p05': Case(_p05, ('stuck-attaching',)),
    'p06': Case(_p06, ('stuck-attachment',)),
    'p07': Case(_lost, ('missing-in-cinder',), BY_HAND, HOLDER),
    'p08': Case(_lost, ('missing-in-cinder',), BY_HAND, ROOTED, False),
    'p09': Case(_p09, ('missing-in-cinder',), BY_HAND, HOLDER),
    'p10': Case(_p10, ('stuck-operation',), BY_HAND, HOLDER, False),
    'p11': Case(
        _p11, ('stuck-operation', 'server-gone'), BY_HAND, None, False
    ),
    'p12': Case(_status('error_extending'), ('status-mismatch',), on=HOLDER),
    'p13': Case(_status('error'), ('status-mismatch',), on=HOLDER),
    'p14': Case(_p14, ('server-gone',)),
    'p15': Case(_p15, ('stuck-attachment',), BY_HAND),
    'p16': Case(
        _p16, ('multi-owner', 'missing-in-cinder'), BY_HAND, HOLDER, False
    ),
    # Foreign, until the operator names the host.
    'p17': Case(_p17, ()),
    'p18': Case(_p18, ('stuck-attaching',), BY_HAND, HOLDER),
    'p24': Case(_p24, (), on=HOLDER, of_use=False),
    # Only a query for the volume shows it.
    'p25': Case(_p25, (), BY_HAND, HOLDER),
    'p25 beside': Case(_p25_beside, ('stuck-attaching',), BY_HAND, HOLDER),
    'p26': Case(_p26, ('wrong-server',), BY_HAND, HOLDER),
    'half a live migration': Case(
        _wrong_host, ('wrong-host',), BY_HAND, HOLDER
    ),
}
#: What is found only in the unit tests, as it needs more than SQL here; and
#: what is in test_left_behind.py.
ELSEWHERE = {'nova-duplicate', 'nova-leftover', 'no-project'}


@pytest.fixture(scope='module')
def scene(whole_cloud: clouds.Cloud) -> Iterator[scenes.Scene]:
    """All states, on a cloud without the guard."""
    whole_cloud.switch(modes.UNGUARDED)
    made = scenes.Scene(whole_cloud, f'req-{uuid.uuid4()}', modes.UNGUARDED)
    try:
        _make(made)
        yield made
    finally:
        damage.clear(made)


def _make(scene: scenes.Scene) -> None:
    scene.volume('p08', imageRef=scene.image.id)
    root = {
        'uuid': scene.volumes['p08'],
        'source_type': 'volume',
        'destination_type': 'volume',
        'boot_index': 0,
    }
    scene.server(ROOTED, disks=[root])
    for server in (HOLDER, IDLE):
        scene.server(server)
    for name in CASES:
        if name != 'p08':
            scene.volume(name)
    damage.attach(
        scene,
        {name: HOLDER for name, case in CASES.items() if case.on == HOLDER},
    )
    scene.settle()
    state = State(scene)
    for name, case in CASES.items():
        case.make(state, name)


@pytest.fixture(scope='module')
def operator(
    whole_cloud: clouds.Cloud, tmp_path_factory: pytest.TempPathFactory
) -> operators.Operator:
    return operators.Operator(whole_cloud, tmp_path_factory.mktemp('home'))


def _by_name(
    scene: scenes.Scene, rows: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    names = {value: name for name, value in scene.volumes.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(names[row['Volume']], []).append(row)
    return found


@pytest.fixture(scope='module')
def found(
    scene: scenes.Scene, operator: operators.Operator
) -> dict[str, list[dict[str, Any]]]:
    return _by_name(scene, operator.attachguard('audit', '--once').output)


@pytest.fixture(scope='module')
def repaired(
    scene: scenes.Scene,
    found: dict[str, list[dict[str, Any]]],
    operator: operators.Operator,
) -> dict[str, list[dict[str, Any]]]:
    """The results of one repair of everything."""
    run = operator.attachguard('repair', '--once', '--yes')
    assert run.output is not None, run.errors
    return _by_name(scene, run.output)


@pytest.fixture(scope='module')
def of_gone_host(
    scene: scenes.Scene,
    repaired: dict[str, list[dict[str, Any]]],
    operator: operators.Operator,
) -> tuple[operators.Run, operators.Run]:
    """An audit of p17, and a repair with the host that it hints at."""
    volume = f'--volume={scene.volumes["p17"]}'
    host = f'--compute-host={GONE_HOST}'
    return (
        operator.attachguard('audit', '--once', volume),
        operator.attachguard('repair', '--once', '--yes', volume, host),
    )


@pytest.fixture(scope='module')
def by_hand(
    scene: scenes.Scene,
    repaired: dict[str, list[dict[str, Any]]],
    operator: operators.Operator,
) -> list[str]:
    """The volumes whose scripts were run, as printed just before."""
    done = []
    for name, case in CASES.items():
        if case.repair != BY_HAND:
            continue
        run = operator.attachguard(
            'audit', '--once', f'--volume={scene.volumes[name]}'
        )
        for row in run.output:
            script = row['What to do']
            lines = [x for x in script.splitlines() if not x.startswith('#')]
            assert not any('--hard' in line for line in lines), script
            if lines:
                operator.type(script, scene.places_for(case.on or HOLDER))
                done.append(name)
    scene.settle()
    return done


def every(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ('name', 'case'), cases.items(), ids=list(cases)
    )


def test_each_class_is_there() -> None:
    here = {kind for case in CASES.values() for kind in case.kinds}
    there = {way.kind for way in damage.WAYS}
    assert here | there | ELSEWHERE == set(classes.CLASSES)


@every(CASES)
def test_it_is_found(
    found: dict[str, list[dict[str, Any]]], name: str, case: Case
) -> None:
    kinds = [row['Class'] for row in found.get(name, [])]
    assert sorted(kinds) == sorted(case.kinds)


@every({name: case for name, case in CASES.items() if case.kinds})
def test_it_is_repaired_or_left_to_a_person(
    repaired: dict[str, list[dict[str, Any]]], name: str, case: Case
) -> None:
    for row in repaired[name]:
        assert row['Result'] == case.repair, row
        assert row['What to do'] or case.repair != BY_HAND


def test_the_host_of_a_gone_compute_is_hinted_at(
    of_gone_host: tuple[operators.Run, operators.Run],
) -> None:
    audit, repair = of_gone_host
    assert audit.output == []
    assert f'add --compute-host {GONE_HOST}' in audit.errors
    (row,) = repair.output
    assert (row['Class'], row['Result']) == ('server-gone', 'repaired')


def test_a_hard_reboot_is_named_as_what_loses_the_root_disk(
    found: dict[str, list[dict[str, Any]]],
) -> None:
    (row,) = found['p08']
    script = ' '.join(row['What to do'].replace('#', '').split())
    assert 'the server would be lost' in script


def test_the_servers_keep_their_disks(
    scene: scenes.Scene, by_hand: list[str]
) -> None:
    """The root disk, too, and they run."""
    assert {'p07', 'p08', 'p09', 'p18', 'p25', 'p26'} <= set(by_hand)
    for server in (HOLDER, ROOTED):
        scene.wait_for_status(server, 'ACTIVE')
        held = {mapping.volumeId for mapping in scene.mappings(server)}
        for name, case in CASES.items():
            if case.on == server and name != 'p24':
                assert scene.volumes[name] in held, name


@every({name: case for name, case in CASES.items() if case.of_use})
def test_the_volume_is_of_use(
    scene: scenes.Scene,
    by_hand: list[str],
    of_gone_host: tuple[operators.Run, operators.Run],
    name: str,
    case: Case,
) -> None:
    """Detached, attached, detached and deleted, by its owner."""
    if case.on is not None:
        damage.detach(scene, [name])
    damage.attach(scene, {name: IDLE})
    damage.detach(scene, [name])
    scene.member.cinder.volumes.delete(scene.volumes[name])
    scene.wait_for_status(name, 'gone')


# What is about a whole cloud


@pytest.fixture
def small_scene(whole_cloud: clouds.Cloud) -> Iterator[scenes.Scene]:
    """A cloud without the guard, with a healthy volume and that of p02."""
    whole_cloud.switch(modes.UNGUARDED)
    made = scenes.Scene(whole_cloud, f'req-{uuid.uuid4()}', modes.UNGUARDED)
    try:
        made.server(IDLE)
        for name in ('healthy', 'p02'):
            made.volume(name)
        damage.attach(made, {'healthy': IDLE})
        made.settle()
        _p02(State(made), 'p02')
        yield made
    finally:
        damage.clear(made)


def test_p19_nothing_is_repaired_while_a_cell_is_down(
    small_scene: scenes.Scene, operator: operators.Operator
) -> None:
    """In less than two minutes: Nova waits for one before it gives up."""
    before = small_scene.everything()
    volume = f'--volume={small_scene.volumes["p02"]}'
    with _cell_down(small_scene.cloud):
        for words in ([], [volume]):
            started = time.monotonic()
            run = operator.attachguard('repair', '--once', '--yes', *words)
            assert time.monotonic() - started < 120
            assert run.code == 1, run
            assert 'the cell of compute host' in run.errors
            assert 'Traceback' not in run.errors
        assert small_scene.everything() == before
    run = operator.attachguard('repair', '--once', '--yes', volume)
    assert [row['Result'] for row in run.output or ()] == ['repaired'], run


@contextlib.contextmanager
def _cell_down(cloud: clouds.Cloud) -> Iterator[None]:
    """The database of Nova's cell refuses the connections of Nova's API."""
    ((url,),) = cloud.mariadb.read(
        (
            'nova_api',
            "SELECT database_connection FROM cell_mappings "
            "WHERE name = 'cell1'",
            (),
        )
    )[0]
    place = urllib.parse.urlsplit(url)
    down = place._replace(
        netloc=f'{place.netloc.rpartition("@")[0]}@127.0.0.1:1', query=''
    ).geturl()

    def use(value: str) -> None:
        cloud.mariadb.write(
            'nova_api',
            "UPDATE cell_mappings SET database_connection = %s "
            "WHERE name = 'cell1'",
            (value,),
        )
        cloud.restart('nova-api')

    use(down)
    try:
        yield
    finally:
        use(url)


def test_p22_a_server_that_lost_its_disk_raises_no_false_doubt(
    small_scene: scenes.Scene, operator: operators.Operator
) -> None:
    """Though it is the newest one that has a volume, in the only project."""
    scene = small_scene
    scene.server(HOLDER)
    scene.volume('p07')
    damage.attach(scene, {'p07': HOLDER})
    scene.settle()
    _lost(State(scene), 'p07')
    stale, lost = (
        f'--volume={scene.volumes[name]}' for name in ('p02', 'p07')
    )
    found = operator.attachguard('audit', '--once')
    ours = scene.volumes.values()
    kinds = [row['Class'] for row in found.output if row['Volume'] in ours]
    assert sorted(kinds) == ['missing-in-cinder', 'server-gone']
    assert 'same cloud and region' not in found.errors
    run = operator.attachguard('repair', '--once', '--yes', stale)
    assert [row['Result'] for row in run.output] == ['repaired'], run.errors
    (row,) = operator.attachguard('audit', '--once', lost).output
    operator.type(row['What to do'], scene.places_for(HOLDER))
    scene.settle()
    assert operator.attachguard('audit', '--once', stale, lost).output == []
    damage.detach(scene, ['healthy', 'p07'])
