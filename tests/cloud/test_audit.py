# SPDX-License-Identifier: Apache-2.0
"""``attachguard audit`` and ``repair`` on a whole cloud, as operators do it.

Whatever can go wrong has gone wrong on purpose, as :mod:`tests.cloud.damage`
says. It is found, explained, repaired, and of use again.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import datetime
import faulthandler
import json
import pathlib
import signal
import time
from typing import Any
import uuid

import pytest

from attachguard.audit import classes
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory as inventories
from attachguard.audit.repair import apply as repairs
from attachguard.audit.repair import journal as journals
from tests.cloud import churn as churns
from tests.cloud import cloud as clouds
from tests.cloud import damage
from tests.cloud import mode as modes
from tests.cloud import operators
from tests.cloud import race as races
from tests.cloud import scene as scenes
from tests.cloud import stage as stages

#: What the audit of a whole cloud does not find: Nova does not list by which
#: attachment it has a volume.
pytestmark = pytest.mark.nightly

ASKED_FOR = {'attachment-id-mismatch'}
#: What only its owner can tell from a forgery.
LEFT = {'container-on-a-compute'}
#: Their volumes are deleted.
DELETED = {'deleted-under-an-attachment', 'reset-and-deleted'}
#: The volume that nothing was done to.
UNTOUCHED = 'untouched'

# The guard's option "settle", and some more.
_SETTLE = 35

FOUND = [way for way in damage.WAYS if way.kind not in ASKED_FOR]
#: One way into each class.
EACH_CLASS = list({way.kind: way for way in damage.WAYS}.values())
ALIVE = [way for way in damage.WAYS if way.name not in LEFT | DELETED]


def every(ways: list[damage.Way]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize('way', ways, ids=lambda way: way.name)


@pytest.fixture(scope='module')
def operator(
    whole_cloud: clouds.Cloud, tmp_path_factory: pytest.TempPathFactory
) -> operators.Operator:
    """An administrator of the cloud."""
    return operators.Operator(whole_cloud, tmp_path_factory.mktemp('home'))


@dataclasses.dataclass(frozen=True)
class Requests:
    """The requests to Cinder and Nova so far, one line each."""

    cloud: clouds.Cloud

    def lines(self) -> list[str]:
        return [
            line
            for api in ('cinder', 'nova')
            for line in self.cloud.access_log(api)
            .read_text(errors='replace')
            .splitlines()
        ]

    def changes(self) -> list[str]:
        """Those that are no question."""
        return [
            line
            for line in self.lines()
            if line.split('\t')[1] not in ('GET', 'HEAD')
        ]


# Every class


@pytest.fixture(scope='class')
def damaged(whole_cloud: clouds.Cloud) -> Iterator[scenes.Scene]:
    """Volumes that came to harm without the guard; now it is enforced."""
    whole_cloud.switch(modes.UNGUARDED)
    scene = scenes.Scene(whole_cloud, f'req-{uuid.uuid4()}', modes.UNGUARDED)
    try:
        scene.volume(UNTOUCHED)
        damage.prepare(scene)
        whole_cloud.switch(modes.ENFORCED)
        # Until then the guard takes a new attachment for one of Nova's.
        time.sleep(_SETTLE)
        yield scene
    finally:
        damage.clear(scene)


class Report:
    """What a command lists, by the volumes' names.

    :param scene: whose volumes they are
    :param run: what came of the command
    """

    def __init__(self, scene: scenes.Scene, run: operators.Run) -> None:
        self.run = run
        names = {value: name for name, value in scene.volumes.items()}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for row in run.output or ():
            self.rows.setdefault(names[row['Volume']], []).append(row)

    def row(self, volume: str) -> dict[str, Any]:
        """The only one about a volume."""
        (row,) = self.rows[volume]
        return row


@pytest.fixture(scope='class')
def found(damaged: scenes.Scene, operator: operators.Operator) -> Report:
    return Report(damaged, operator.attachguard('audit', '--once'))


@pytest.fixture(scope='class')
def foreign(damaged: scenes.Scene, operator: operators.Operator) -> Report:
    run = operator.attachguard('audit', '--once', '--foreign')
    return Report(damaged, run)


@pytest.fixture(scope='class')
def planned(
    damaged: scenes.Scene, found: Report, operator: operators.Operator
) -> Report:
    """What would be done."""
    before = damaged.everything()
    report = Report(damaged, operator.attachguard('repair', '--once'))
    assert damaged.everything() == before
    return report


@dataclasses.dataclass(frozen=True)
class Repaired:
    """What a repair has done.

    :param report: its output
    :param acts: what it wrote down
    :param foreign: the records of the foreign volumes, before and after it
    """

    report: Report
    acts: list[journals.Entry]
    foreign: tuple[Any, Any]


@pytest.fixture(scope='class')
def repaired(
    damaged: scenes.Scene,
    planned: Report,
    operator: operators.Operator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Repaired:
    journal = tmp_path_factory.mktemp('journal') / 'journal'
    apart = [
        *(way.name for way in damage.FOREIGN),
        *(way.name for way in damage.WAYS if way.cure == damage.BY_HAND),
    ]
    before = damaged.everything(apart)
    run = operator.attachguard(
        'repair', '--once', '--yes', '--journal', journal
    )
    _header, acts = journals.read(journal)
    after = damaged.everything(apart)
    return Repaired(Report(damaged, run), acts, (before, after))


def _commands(script: str) -> bool:
    """Whether a script has more than comments."""
    return any(not line.startswith('#') for line in script.splitlines())


@pytest.fixture(scope='class')
def after_manual_steps(
    damaged: scenes.Scene, repaired: Repaired, operator: operators.Operator
) -> Report:
    """What is still found after every script was run as it was printed.

    Each is printed again just before it is run, because one can depend on
    another: a server is not rebooted before all of its disks are known.
    """
    waiting = [
        damaged.volumes[way.name]
        for way in damage.WAYS
        if way.cure == damage.BY_HAND and way.name not in LEFT
    ]
    while waiting:
        left = []
        for volume_id in waiting:
            run = operator.attachguard(
                'audit', '--once', f'--volume={volume_id}'
            )
            (script,) = (row['What to do'] for row in run.output)
            if not _commands(script):
                left.append(volume_id)
                continue
            server = run.output[0]['Server']
            name = {value: key for key, value in damaged.servers.items()}.get(
                server, damage.LIVE
            )
            operator.type(script, damaged.places_for(name))
            damaged.settle()
        assert len(left) < len(waiting), left
        waiting = left
    damaged.wait_for_status(damage.REBOOTED, 'ACTIVE')
    # It was stopped before.
    damaged.wait_for_status(damage.STOPPED, 'SHUTOFF')
    damaged.settle()
    return Report(damaged, operator.attachguard('audit', '--once'))


@dataclasses.dataclass(frozen=True)
class Use:
    """What both sides say of a volume that is used again.

    :param free: once it is detached
    :param attached: once Nova has attached it
    :param detached: once Nova has detached it
    :param trace: what Cinder has kept for administrators all the same
    """

    free: Any
    attached: Any
    detached: Any
    trace: dict[str, str] = dataclasses.field(compare=False)


@pytest.fixture(scope='class')
def used(
    damaged: scenes.Scene, after_manual_steps: Report
) -> tuple[dict[str, Use], set[str]]:
    """What becomes of every volume afterwards.

    :returns: the use of each, and those that could be deleted in the end
    """
    names = [UNTOUCHED, *(way.name for way in ALIVE)]
    damage.detach(damaged, names)
    free = damage.seen(damaged, names)
    damage.attach(damaged, dict.fromkeys(names, damage.BESIDE))
    damaged.settle()
    attached = damage.seen(damaged, names)
    damage.detach(damaged, names)
    detached = damage.seen(damaged, names)
    traces = damage.traces(damaged, names)
    for name in names:
        damaged.member.cinder.volumes.delete(damaged.volumes[name])
    deleted = set()
    for name in names:
        damaged.wait_for_status(name, 'gone')
        deleted.add(name)
    return {
        name: Use(free[name], attached[name], detached[name], traces[name])
        for name in names
    }, deleted


class TestEveryClass:
    """Made without the guard; found and repaired behind it, enforced."""

    @every(FOUND)
    def test_it_is_found(
        self, damaged: scenes.Scene, found: Report, way: damage.Way
    ) -> None:
        row = found.row(way.name)
        assert row['Class'] == way.kind
        assert row['Project'] in (damaged.member.project_id, None)
        assert bool(row['Attachment']) is way.names
        if way.server in damaged.servers:
            assert row['Server'] == damaged.servers[way.server]
        else:
            assert bool(row['Server']) is bool(way.server)

    def test_nothing_else_is_found(self, found: Report) -> None:
        assert found.run.code == 3
        assert found.rows.keys() == {way.name for way in FOUND}

    @every(damage.FOREIGN)
    def test_what_is_foreign_is_listed_apart(
        self, foreign: Report, way: damage.Way
    ) -> None:
        assert foreign.row(way.name)['Why'] == way.kind
        assert foreign.rows.keys() == {way.name for way in damage.FOREIGN}

    @every([way for way in damage.WAYS if way.kind in ASKED_FOR])
    def test_it_is_found_if_the_volume_is_asked_about(
        self,
        damaged: scenes.Scene,
        operator: operators.Operator,
        way: damage.Way,
    ) -> None:
        for narrow in (
            f'--volume={damaged.volumes[way.name]}',
            f'--server={damaged.servers[way.server or ""]}',
        ):
            run = operator.attachguard('audit', '--once', narrow)
            assert Report(damaged, run).row(way.name)['Class'] == way.kind

    @every(EACH_CLASS)
    def test_it_is_explained(
        self,
        damaged: scenes.Scene,
        operator: operators.Operator,
        way: damage.Way,
    ) -> None:
        run = operator.attachguard('explain', damaged.volumes[way.name])
        assert run.code == 3
        (verdict,) = run.output['Verdict']
        assert verdict.startswith(f'{way.kind}: ')
        kind = classes.CLASSES[way.kind]
        assert run.output['What repairs it'] == [kind.repair]
        assert run.output['How it comes about'] == [kind.how]
        assert all(run.output['What to do'])

    @every(FOUND)
    def test_a_dry_run_says_what_would_be_done(
        self, planned: Report, way: damage.Way
    ) -> None:
        row = planned.row(way.name)
        if way.cure == damage.BY_HAND:
            assert row['Result'] == 'by hand'
        else:
            assert row['Result'] == 'planned'
            assert f'({way.cure})' in row['Text']

    @every(FOUND)
    def test_it_is_repaired(self, repaired: Repaired, way: damage.Way) -> None:
        row = repaired.report.row(way.name)
        if way.cure == damage.BY_HAND:
            assert row['Result'] == 'by hand'
        else:
            assert row['Result'] == 'repaired', row
            assert row['Text'].startswith(f'{way.cure}; ')
        # There is something left.
        assert repaired.report.run.code == 3, repaired.report.run.errors

    def test_nothing_else_is_touched(
        self, damaged: scenes.Scene, repaired: Repaired
    ) -> None:
        before, after = repaired.foreign
        assert before == after
        assert {
            entry.act['finding']['volume_id'] for entry in repaired.acts
        } == {
            damaged.volumes[way.name]
            for way in FOUND
            if way.cure != damage.BY_HAND
        }

    def test_the_first_step_does_it(self, repaired: Repaired) -> None:
        """Cinder and the guard refuse nothing that is tried.

        But the guard waits for a volume that was just reserved to settle.
        """
        for entry in repaired.acts:
            assert entry.done is not None
            answer = entry.done['answer']
            assert answer['status'] < 300 or (
                'Cannot verify the attachment' in answer['said']
            ), entry

    def test_what_is_said_to_be_done_by_hand_does_it(
        self, after_manual_steps: Report
    ) -> None:
        assert after_manual_steps.rows.keys() == LEFT

    @every(ALIVE)
    def test_the_volume_is_as_if_nothing_had_happened(
        self, used: tuple[dict[str, Use], set[str]], way: damage.Way
    ) -> None:
        uses, deleted = used
        assert uses[way.name] == uses[UNTOUCHED]
        assert way.name in deleted
        # Every os-attach leaves this default.
        assert uses[way.name].trace in ({}, {'readonly': 'False'})


# What is not wrong


@pytest.fixture(scope='class')
def healthy(whole_cloud: clouds.Cloud) -> Iterator[scenes.Scene]:
    """Servers in all the states that they rest in, with volumes."""
    whole_cloud.switch(modes.ENFORCED)
    scene = scenes.Scene(whole_cloud, f'req-{uuid.uuid4()}', modes.ENFORCED)
    try:
        _populate(scene)
        yield scene
    finally:
        scene.clear()


def _populate(scene: scenes.Scene) -> None:
    scene.volume('root', imageRef=scene.image.id)
    scene.server(
        'boots',
        disks=[
            {
                'uuid': scene.volumes['root'],
                'source_type': 'volume',
                'destination_type': 'volume',
                'boot_index': 0,
            }
        ],
    )
    states = ('active', 'stopped', 'shelved', 'resized', 'migrating')
    for name in states:
        scene.server(name)
        volume_type = 'any' if name == 'migrating' else 'one'
        scene.volume(f'of {name}', volume_type=volume_type)
    scene.volume('shared', volume_type='multiattach')
    scene.volume('free')
    damage.attach(scene, {f'of {name}': name for name in states})
    damage.attach(scene, {'shared': 'active'})
    scene.member.nova.volumes.create_server_volume(
        scene.servers['stopped'], scene.volumes['shared']
    )
    scene.settle()
    servers = scene.member.nova.servers
    servers.stop(scene.servers['stopped'])
    servers.shelve(scene.servers['shelved'])
    servers.resize(scene.servers['resized'], scene.flavor('small'))
    scene.wait_for_status('stopped', 'SHUTOFF')
    scene.wait_for_status('shelved', 'SHELVED_OFFLOADED')
    scene.wait_for_status('resized', 'VERIFY_RESIZE')


class TestWhatIsRight:
    """Nothing of it is found, let alone changed."""

    def test_a_healthy_cloud(
        self, healthy: scenes.Scene, operator: operators.Operator
    ) -> None:
        before = healthy.everything()
        changes = Requests(healthy.cloud).changes()
        run = operator.attachguard('audit', '--once')
        assert (run.output, run.code) == ([], 0), run.errors
        run = operator.attachguard('repair', '--once', '--yes')
        assert (run.output, run.code) == ([], 0), run.errors
        for name, verdict in {
            'of shelved': 'consistent',
            'of resized': 'Nova is busy with a server that has it',
        }.items():
            run = operator.attachguard('explain', healthy.volumes[name])
            assert run.code == 0
            assert run.output['Verdict'][0].startswith(verdict)
        assert Requests(healthy.cloud).changes() == changes
        assert healthy.everything() == before

    def test_a_volume_that_moves(
        self, healthy: scenes.Scene, operator: operators.Operator
    ) -> None:
        """In use, from one backend to the other; Nova takes its time."""
        compute = f'nova-{healthy.host("migrating")}'
        computes = list(healthy.cloud.processes.find([compute]))
        for process in computes:
            process.send_signal(signal.SIGSTOP)
        try:
            volume = healthy.volumes['of migrating']
            (backend,) = {'one', 'two'} - {_backend(healthy, volume)}
            healthy.admin.cinder.volumes.migrate_volume(
                volume,
                f'controller@{backend}#{backend}',
                force_host_copy=False,
                lock_volume=False,
            )
            stages.wait_for(
                'Cinder does not call Nova to swap it',
                lambda: len(_of_server(healthy, 'migrating')) > 1,
            )
            run = operator.attachguard('repair', '--once', '--yes')
            assert (run.output, run.code) == ([], 0), run.errors
        finally:
            for process in computes:
                process.send_signal(signal.SIGCONT)
        # What Cinder makes of it then is its own: now and then it loses the
        # new attachment on the way.
        stages.wait_for(
            'the volume does not move',
            lambda: _backend(healthy, volume) == backend,
        )
        healthy.settle()


def _backend(scene: scenes.Scene, volume_id: str) -> str:
    volume = scene.admin.cinder.volumes.get(volume_id)
    host: str = getattr(volume, 'os-vol-host-attr:host')
    return host.partition('#')[0].partition('@')[2]


def _of_server(scene: scenes.Scene, server: str) -> list[Any]:
    found = scene.admin.cinder.attachments.list(
        search_opts={
            'all_tenants': 1,
            'instance_id': scene.servers[server],
        }
    )
    return list(found)


# Undo


@pytest.fixture(
    params=[modes.UNGUARDED, modes.ENFORCED], ids=lambda mode: mode.name
)
def mode(request: pytest.FixtureRequest) -> modes.Mode:
    mode: modes.Mode = request.param
    return mode


@pytest.fixture
def forged(
    whole_cloud: clouds.Cloud, mode: modes.Mode
) -> Iterator[stages.Stage]:
    """A forged attachment, without the guard, and then the mode."""
    whole_cloud.switch(modes.UNGUARDED)
    stage = stages.Stage(whole_cloud, f'req-{uuid.uuid4()}')
    try:
        _forge(stage)
        whole_cloud.switch(mode)
        yield stage
    finally:
        stage.clear()


def _forge(stage: stages.Stage) -> None:
    """Beside a real one: else the two would not look like one cloud."""
    stage.server('MyVm')
    stage.volume('real')
    stage.add_volume('real', 'MyVm')
    stage.settle()
    stage.volume('MyVol')
    stage.member.cinder.volumes.attach(
        stage.volumes['MyVol'], stage.servers['MyVm'], '/dev/vdb'
    )


def test_undo(
    forged: stages.Stage,
    mode: modes.Mode,
    operator: operators.Operator,
    tmp_path: pathlib.Path,
) -> None:
    """What was forged is there again, by another id.

    Behind the guard, only a service restores it, as the dry run says.
    """
    journal = tmp_path / 'journal'
    (before,) = forged.attachments('MyVol')
    volume_id = forged.volumes['MyVol']
    run = operator.attachguard(
        'repair',
        '--once',
        '--yes',
        f'--volume={volume_id}',
        '--journal',
        journal,
    )
    assert (run.code, run.output[0]['Result']) == (4, 'repaired')
    assert forged.attachments('MyVol') == []

    run = operator.attachguard('undo', journal)
    (row,) = run.output
    assert (run.code, row['Result']) == (3, 'planned')
    assert (
        'refuses attachment-create and attachment-complete. It works as a '
        'user with the roles admin and service'
    ) in row['Text']
    assert forged.attachments('MyVol') == []

    run = operator.attachguard(
        'undo', journal, '--yes', '--new-journal', tmp_path / 'undone'
    )
    (row,) = run.output
    assert before.id in row['Text'] or mode is modes.ENFORCED
    if mode is modes.ENFORCED:
        assert (run.code, row['Result']) == (1, 'failed')
        assert 'as a user with the roles admin and service' in row['Text']
        assert forged.attachments('MyVol') == []
        assert forged.status('MyVol') == 'available'
        service = operator.with_openrc('nova', 'service')
        run = service.attachguard('undo', journal)
        assert 'nothing of this is refused' in run.output[0]['Text']
        run = service.attachguard(
            'undo', journal, '--yes', '--new-journal', tmp_path / 'again'
        )
        (row,) = run.output
    assert (run.code, row['Result']) == (4, 'undone')
    (after,) = forged.attachments('MyVol')
    assert after.id != before.id
    assert (after.instance, after.status) == (before.instance, before.status)
    assert forged.status('MyVol') == 'in-use'
    run = operator.attachguard('audit', '--once', f'--volume={volume_id}')
    assert run.output[0]['Class'] == 'server-lacks-volume'


# Who may, and when


@pytest.fixture(scope='class')
def suspect(whole_cloud: clouds.Cloud) -> Iterator[stages.Stage]:
    """A cloud without the guard, with a forged attachment."""
    whole_cloud.switch(modes.UNGUARDED)
    stage = stages.Stage(whole_cloud, f'req-{uuid.uuid4()}')
    try:
        _forge(stage)
        yield stage
    finally:
        stage.clear()


@pytest.fixture
def admin(suspect: stages.Stage) -> api.Cloud:
    """The cloud as the audit sees it."""
    cloud = api.Cloud(suspect.admin.sdk)
    cloud.log_in()
    return cloud


@pytest.fixture
def down(suspect: stages.Stage) -> Iterator[Callable[[], None]]:
    """Stops Nova's API, and starts it again when the test is over."""
    yield lambda: suspect.cloud.processes.stop(['nova-api'])
    suspect.cloud.restart('nova-api')


class TestOneForgedAttachment:
    """It stays if the operator has no rights, or if Nova is down."""

    def test_volumes_are_listed_by_their_attach_status(
        self, suspect: stages.Stage, admin: api.Cloud
    ) -> None:
        volume_id = suspect.volumes['MyVol']
        for attach_status in ('attached', 'detached'):
            expected = [volume_id] if attach_status == 'attached' else []
            answer = admin.cinder(
                'GET',
                f'/volumes?all_tenants=1&id={volume_id}'
                f'&attach_status={attach_status}',
            )
            assert answer.status == 200
            assert [row['id'] for row in answer.body['volumes']] == expected
            rows = [
                row['id']
                for page in admin.volumes(
                    status='in-use', attach_status=attach_status
                )
                for row in page.rows
            ]
            assert (volume_id in rows) is bool(expected)

    def test_attachments_are_listed_by_volume_and_by_server(
        self, suspect: stages.Stage, admin: api.Cloud
    ) -> None:
        for filters, names in (
            ({'volume_id': suspect.volumes['MyVol']}, ['MyVol']),
            ({'volume_id': suspect.volumes['real']}, ['real']),
            ({'instance_id': suspect.servers['MyVm']}, ['MyVol', 'real']),
            ({'instance_id': str(uuid.uuid4())}, []),
        ):
            rows = [
                row
                for page in admin.attachments(**filters)
                for row in page.rows
            ]
            assert {row['id'] for row in rows} == {
                found.id
                for name in names
                for found in suspect.attachments(name)
            }
            for row in rows:
                assert row['instance'] == suspect.servers['MyVm']
                assert row['status'] == 'attached'

    def test_servers_are_listed_with_their_volumes_and_hosts(
        self, suspect: stages.Stage, admin: api.Cloud
    ) -> None:
        (row,) = [
            row
            for page in admin.servers()
            for row in page.rows
            if row['id'] == suspect.servers['MyVm']
        ]
        (held,) = row['os-extended-volumes:volumes_attached']
        assert held['id'] == suspect.volumes['real']
        assert row['tenant_id'] == suspect.member.project_id
        assert row['OS-EXT-STS:task_state'] is None
        hosts, doubts = admin.compute_hosts()
        assert row['OS-EXT-SRV-ATTR:host'] in hosts
        assert doubts == []

    def test_an_administrator_has_openrc(
        self, suspect: stages.Stage, operator: operators.Operator
    ) -> None:
        other = operator.with_openrc('admin', 'admin')
        run = other.attachguard('audit', '--once')
        (row,) = run.output
        assert (run.code, row['Volume']) == (3, suspect.volumes['MyVol'])

    @pytest.mark.parametrize(
        ('name', 'words'),
        [
            ('member', ['audit', '--once']),
            ('member', ['repair', '--once', '--yes']),
            ('member', ['explain']),
            ('reader', ['audit', '--once']),
            # A member of a project of tenants with the role service.
            ('intruder', ['repair', '--once', '--yes']),
        ],
        ids=lambda value: value if isinstance(value, str) else value[0],
    )
    def test_others_are_told_that_they_are_none(
        self,
        suspect: stages.Stage,
        tmp_path: pathlib.Path,
        name: str,
        words: list[str],
    ) -> None:
        before = suspect.everything()
        changes = Requests(suspect.cloud).changes()
        if words == ['explain']:
            words = [*words, suspect.volumes['MyVol']]
        person = operators.Operator(suspect.cloud, tmp_path, name)
        run = person.attachguard(*words)
        assert (run.code, run.output) == (1, None)
        assert 'needs the role admin' in run.errors
        assert 'Traceback' not in run.errors
        assert Requests(suspect.cloud).changes() == changes
        assert suspect.everything() == before

    def test_nova_is_down(
        self,
        suspect: stages.Stage,
        operator: operators.Operator,
        down: Callable[[], None],
    ) -> None:
        before = suspect.everything()
        down()
        for words in (['audit', '--once'], ['repair', '--once', '--yes']):
            run = operator.attachguard(*words)
            assert (run.code, run.output) == (1, None)
            assert 'cannot be listed' in run.errors
            assert 'Traceback' not in run.errors
        assert suspect.everything() == before

    def test_nova_goes_down_between_the_audit_and_the_repair(
        self,
        suspect: stages.Stage,
        admin: api.Cloud,
        down: Callable[[], None],
        tmp_path: pathlib.Path,
    ) -> None:
        journal = journals.Journal(tmp_path / 'journal', {'what': 'repair'})
        before = suspect.everything()
        with inventories.Inventory(admin) as inventory:
            audit = runner.Audit(
                admin,
                inventory,
                runner.Selection(),
                None,
                datetime.timedelta(),
            )
            (entry,) = audit.run().entries
            down()
            outcome = repairs.Repair(
                admin, inventory.rules, journal, inventory.cases.holders
            ).repair(entry.finding)
        journal.close()
        assert outcome.result is repairs.Result.UNKNOWN
        _header, acts = journals.read(journal.path)
        assert acts == []
        assert suspect.everything() == before


# At the same time


@pytest.fixture
def seconds(pytestconfig: pytest.Config) -> int:
    """For how long members are at work."""
    seconds: int = pytestconfig.getoption('--race-seconds', 30)
    if seconds > 60:
        # Of pytest, which ends a test that hangs.
        faulthandler.cancel_dump_traceback_later()
    return seconds


@pytest.fixture
def race(
    whole_cloud: clouds.Cloud, tmp_path: pathlib.Path
) -> Iterator[races.Race]:
    whole_cloud.switch(modes.UNGUARDED)
    race = races.Race(whole_cloud, tmp_path / 'journal', seed=1)
    try:
        race.prepare()
        yield race
    finally:
        race.close()


def test_repairs_race_against_nova(
    race: races.Race, seconds: int, progress: Callable[[str], None]
) -> None:
    """No attachment that Nova has is ever taken from it."""
    rounds = max(2, seconds // 120)
    for _round in range(rounds):
        race.run(seconds / rounds)
        race.come_to_rest()
        assert race.errors == []
        attached = race.attached()
        for attachment, volume, held, _until in race.held():
            if held:
                assert attached.get(attachment) == ('attached', 'in-use'), (
                    volume,
                    attached,
                )
    until = {
        attachment: (held, at)
        for attachment, _volume, held, at in race.held()
        if attachment is not None
    }
    acts = list(race.acts())
    for name, at, attachment, status in acts:
        if status >= 300:
            race.counts[f'refused by Cinder: {name} {status}'] += 1
            continue
        race.counts[f'act: {name}'] += 1
        held, dropped = until.get(attachment, (False, None))
        assert not held, (name, attachment)
        assert dropped is None or dropped <= at, (name, attachment)
    progress(f'race of {seconds} s: {json.dumps(race.counts, sort_keys=True)}')
    for text in race.failed:
        progress(f'not repaired: {text}')
    # Or it was no race.
    assert race.counts['attach'] > 0
    assert race.counts['detach'] > 0
    assert race.counts['delete the server'] > 0
    assert race.counts['migrate'] > 0
    assert race.counts['repair: repaired'] > 0


@pytest.mark.parametrize('by', ['APIs', 'databases'])
def test_servers_that_come_and_go_are_no_finding_and_no_doubt(
    whole_cloud: clouds.Cloud,
    operator: operators.Operator,
    seconds: int,
    progress: Callable[[str], None],
    by: str,
) -> None:
    whole_cloud.switch(modes.ENFORCED)
    places = whole_cloud.places
    databases = [
        f'--cinder-conf={places.etc("cinder")}/cinder.conf',
        f'--nova-conf={places.etc("nova")}/nova.conf',
    ]
    until = time.monotonic() + seconds
    churn = churns.Churn(whole_cloud, seed=1)
    audits = 0
    with churn.running():
        while not audits or time.monotonic() < until:
            run = operator.attachguard(
                'audit',
                '--once',
                '--settle=20s',
                *(databases if by == 'databases' else ()),
            )
            assert (run.code, run.output) == (0, []), run.errors
            assert 'warning' not in run.errors
            audits += 1
    assert churn.errors == []
    progress(f'{audits} audits by the {by} beside {dict(churn.counts)}')
    assert churn.counts['delete'] > 0
