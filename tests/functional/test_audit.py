# SPDX-License-Identifier: Apache-2.0


"""The audit's commands, as an operator types them, on a cloud of stubs."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import datetime
import fcntl
import gc
import json
import os
import pathlib
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any
import uuid

import pytest

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import reader
from attachguard.audit.collect import rest
from attachguard.testing import service
from attachguard.testing import stub_cinder
from tests.functional.audit import Scene
from tests.functional.audit import scene
from tests.functional.real import cinder_db

__all__ = ['scene']


def _reserved(scene: Scene) -> stub_cinder.Volume:
    volume = scene.volume()
    scene.record(volume, scene.server().id, attach_status='reserved')
    return volume


def _attaching(scene: Scene) -> stub_cinder.Volume:
    volume = scene.volume()
    scene.cloud.cinderclient('member').volumes.reserve(volume.id)
    return volume


def _detaching(scene: Scene) -> stub_cinder.Volume:
    volume = scene.attached(scene.server())
    scene.cloud.cinderclient('member').volumes.begin_detaching(volume.id)
    return volume


def _reset(scene: Scene, *status: str) -> stub_cinder.Volume:
    volume = scene.attached(scene.server())
    scene.cloud.cinderclient('admin').volumes.reset_state(volume.id, *status)
    return volume


def _in_use_and_detached(scene: Scene) -> stub_cinder.Volume:
    volume = scene.attached(scene.server())
    volume.attach_status = 'detached'
    return volume


def _duplicate(scene: Scene) -> stub_cinder.Volume:
    server = scene.server()
    volume = scene.attached(server)
    scene.record(volume, server.id)
    return volume


def _missing_in_cinder(scene: Scene) -> stub_cinder.Volume:
    return _reset(scene, 'available', 'detached')


def _volume_gone(scene: Scene) -> stub_cinder.Volume:
    volume = _missing_in_cinder(scene)
    scene.cloud.cinderclient('admin').volumes.delete(volume.id)
    return volume


def _attachment_id_mismatch(scene: Scene) -> stub_cinder.Volume:
    server = scene.server()
    volume = scene.attached(server)
    server.attachments[volume.id].attachment_id = str(uuid.uuid4())
    return volume


def _volume_deleted(scene: Scene) -> stub_cinder.Volume:
    volume = scene.forged()
    del scene.cloud.cinder.volumes[volume.id]
    return volume


_LONG_AGO = '2026-01-02T03:04:05.000000'


def _multi_owner(scene: Scene) -> stub_cinder.Volume:
    volume = scene.attached(scene.server())
    scene.cloud.nova.add_attachment(
        scene.server().id, volume.id, attachment_id=str(uuid.uuid4())
    )
    return volume


def _stuck(scene: Scene) -> stub_cinder.Volume:
    return scene.volume(status='backing-up', updated_at=_LONG_AGO)


def _wrong_server(scene: Scene) -> stub_cinder.Volume:
    volume = scene.attached(scene.server())
    (attachment,) = scene.attachments(volume.id)
    attachment.instance_uuid = str(uuid.uuid4())
    return volume


def _wrong_host(scene: Scene) -> stub_cinder.Volume:
    scene.server(host='compute2')
    volume = scene.attached(scene.server())
    (attachment,) = scene.attachments(volume.id)
    attachment.host = 'compute2'
    return volume


def _nova_duplicate(scene: Scene) -> stub_cinder.Volume:
    server = scene.server()
    volume = scene.attached(server)
    again = dataclasses.replace(server.attachments[volume.id])
    server.attachments['again'] = again
    return volume


def _leftover(scene: Scene) -> stub_cinder.Volume:
    volume = scene.volume()
    scene.cloud.nova.add_attachment(
        scene.server(deleted=True).id,
        volume.id,
        attachment_id=str(uuid.uuid4()),
    )
    return volume


def _no_project(scene: Scene) -> stub_cinder.Volume:
    keystone = scene.cloud.keystone
    volume = _listed(scene, keystone.add_project('dissolved'))
    del keystone.projects[volume.project_id]
    return volume


def _listed(scene: Scene, project_id: str) -> stub_cinder.Volume:
    """A volume in use, so that an audit by the APIs lists it."""
    server = scene.cloud.nova.add_server(project_id)
    volume = scene.cloud.cinder.add_volume(project_id)
    attachment = scene.record(volume, server.id)
    scene.cloud.nova.add_attachment(
        server.id, volume.id, attachment_id=attachment.id
    )
    return volume


def _volume(**values: Any) -> Callable[[Scene], stub_cinder.Volume]:
    return lambda scene: scene.volume(**values)


_FREE = ('available', 0)
_IN_USE = ('in-use', 1)

# Each class, how it comes about, and the volume after a repair: its status,
# and how many attachments it has. None where no repair is safe.
PRODUCED = [
    ('multi-owner', _multi_owner, None),
    ('stuck-operation', _stuck, None),
    ('server-gone', lambda scene: scene.forged(), _FREE),
    (
        'server-lacks-volume',
        lambda scene: scene.forged(scene.server().id),
        _FREE,
    ),
    ('stuck-attachment', _reserved, _FREE),
    (
        'in-use-without-attachment',
        _volume(status='in-use', attach_status='attached'),
        _FREE,
    ),
    ('stuck-attaching', _attaching, _FREE),
    ('stuck-reserved', _volume(status='reserved'), _FREE),
    ('stuck-detaching', _detaching, _IN_USE),
    (
        'stuck-detaching',
        _volume(status='detaching', attach_status='attached'),
        _FREE,
    ),
    ('status-mismatch', lambda scene: _reset(scene, 'available'), _IN_USE),
    (
        'status-mismatch',
        _volume(status='available', attach_status='attached'),
        _FREE,
    ),
    ('status-mismatch', _in_use_and_detached, _IN_USE),
    (
        'status-mismatch',
        lambda scene: _reset(scene, 'error_extending'),
        _IN_USE,
    ),
    ('wrong-server', _wrong_server, None),
    ('wrong-host', _wrong_host, None),
    ('nova-duplicate', _nova_duplicate, None),
    ('nova-leftover', _leftover, None),
    ('duplicate', _duplicate, _IN_USE),
    ('missing-in-cinder', _missing_in_cinder, None),
    ('volume-gone', _volume_gone, None),
    ('attachment-id-mismatch', _attachment_id_mismatch, None),
    ('volume-deleted', _volume_deleted, None),
    ('no-project', _no_project, None),
]
#: The APIs show it only in lists that no audit reads.
ONLY_IN_DATABASES = 'nova-leftover'


def test_the_table_has_every_class() -> None:
    kinds = dict.fromkeys(kind for kind, _produce, _left in PRODUCED)
    assert list(kinds) == list(classes.CLASSES)


@pytest.mark.parametrize(
    ('kind', 'produce', 'left'),
    [row for row in PRODUCED if row[0] != ONLY_IN_DATABASES],
)
def test_an_inconsistency_is_found_explained_and_repaired(
    scene: Scene, kind: str, produce: Any, left: tuple[str, int] | None
) -> None:
    volume_id = produce(scene).id
    healthy = scene.attached(scene.server())
    scene.cloud.cinder_server.forget()

    # No list shows ids that differ: only a query for the volume does.
    narrow = ['--volume', volume_id] if 'mismatch' in kind else []
    # What two servers have is missing in Cinder for one of them, too.
    beside = ['missing-in-cinder'] * (kind == 'multi-owner')
    assert sorted(scene.found(*narrow)) == sorted(
        (name, volume_id) for name in [kind, *beside]
    )
    explained = scene.run('explain', volume_id, '-f', 'json')
    assert explained.code == 3
    assert explained.rows['Verdict'][0].startswith(f'{kind}: ')
    runbook = f'doc/source/reference/classes.rst#{kind}'
    assert explained.rows['Runbook'][0] == runbook
    assert runbook in {row['Runbook'] for row in scene.audit(*narrow).rows}
    before = scene.records()
    dry = scene.repair(*narrow)
    assert dry.code == 3
    assert scene.written() == []
    assert scene.records() == before

    done = scene.repair('--yes', *narrow)
    volume = scene.cloud.cinder.volumes.get(volume_id)
    if left is None:
        assert {row['Result'] for row in done.rows} == {'by hand'}
        assert all(row['What to do'] for row in done.rows)
        assert done.code == 3
        assert scene.written() == []
        assert scene.records() == before
        return
    assert [row['Result'] for row in done.rows] == ['repaired'], done.out
    assert done.code == 4
    assert volume is not None
    assert (volume.status, len(scene.attachments(volume_id))) == left
    assert volume.attach_status == (
        'attached' if volume.status == 'in-use' else 'detached'
    )
    assert scene.found(*narrow) == []
    assert healthy.status == 'in-use'
    # Cinder has to take nothing for a request of Nova's.
    assert not any(
        'X-Service-Token' in request.headers
        for request in scene.cloud.cinder_server.requests
        if request.headers.get('User-Agent', '').startswith('attachguard')
    )


def test_commands_leave_no_files_open(scene: Scene) -> None:
    counted = []
    for _ in range(4):
        assert scene.audit().code == 0
        gc.collect()
        counted.append(len(os.listdir('/proc/self/fd')))
    # What the first has loaded stays, and the services close connections
    # late. What each command left open would be two.
    assert counted[3] < counted[1] + 2


def test_a_clean_cloud_is_clean(scene: Scene) -> None:
    scene.attached(scene.server())
    scene.volume()
    ran = scene.audit()
    assert (ran.code, ran.rows) == (0, [])
    assert '0 found' in ran.err
    assert scene.repair('--yes').code == 0


def _server_queries(scene: Scene) -> list[str]:
    """Return the requests to Nova for single servers."""
    return [
        request.path
        for request in scene.cloud.nova_server.requests
        if re.search('/servers/[0-9a-f]{8}', request.path)
    ]


def test_an_audit_queries_each_suspect_once(scene: Scene) -> None:
    wrong = [scene.forged() for _ in range(3)]
    for _ in range(5):
        scene.attached(scene.server())
    scene.cloud.nova_server.forget()
    scene.run('audit', '-f', 'json')
    queries = _server_queries(scene)
    # One more checks whether servers of other projects are shown.
    assert len(queries) == len(wrong) + 1


# Projects that are deleted.


def _project_queries(scene: Scene) -> list[str]:
    """Return the requests to Keystone for projects."""
    return [
        request.path
        for request in scene.cloud.keystone_server.requests
        if request.path.startswith('/v3/projects')
    ]


def test_projects_are_listed_and_only_suspects_are_queried(
    scene: Scene,
) -> None:
    keystone = scene.cloud.keystone
    for number in range(2100):
        keystone.add_project(f'project {number}')
    for project_id in list(keystone.projects)[:50]:
        _listed(scene, project_id)
    gone = [_no_project(scene) for _ in range(3)]
    # Of one project.
    gone.append(scene.cloud.cinder.add_volume(gone[0].project_id))
    scene.cloud.keystone_server.forget()
    ran = scene.run('audit', '-f', 'json', '--all')
    assert {row['Volume'] for row in ran.rows} == {v.id for v in gone}
    queries = _project_queries(scene)
    lists = [query for query in queries if '?' in query]
    # For the names of what is found, too.
    assert len(lists) == 2 * len(set(lists)) == 6
    assert sorted(set(queries) - set(lists)) == sorted(
        {f'/v3/projects/{volume.project_id}' for volume in gone}
    )
    assert len(queries) == len(lists) + 3


def test_a_volume_is_found_in_whatever_state_its_project_left_it(
    scene: Scene,
) -> None:
    keystone = scene.cloud.keystone
    project_id = keystone.add_project('dissolved')
    cinder = scene.cloud.cinder
    attached = _listed(scene, project_id)
    free = cinder.add_volume(project_id)
    forged = cinder.add_volume(project_id)
    scene.record(forged, str(uuid.uuid4()))
    failed = cinder.add_volume(project_id, status='error')
    assert scene.found() == [('server-gone', forged.id)]
    del keystone.projects[project_id]
    expected = sorted(
        ('no-project', volume.id)
        for volume in (attached, free, forged, failed)
    )
    found = sorted(scene.found())
    assert found == [*expected, ('server-gone', forged.id)]
    assert scene.found('--class', 'server-gone') == [
        ('server-gone', forged.id)
    ]
    assert scene.found('--project', scene.project) == []
    assert sorted(scene.found('--project', project_id)) == found
    # Each is explained alone, too.
    for volume in (attached, free, failed):
        explained = scene.run('explain', volume.id, '-f', 'json')
        assert explained.code == 3
        assert explained.rows['In Keystone'] == 'no such project'
        assert scene.found('--volume', volume.id) == [
            ('no-project', volume.id)
        ]
    # The rest is repaired nevertheless.
    rows = scene.repair('--yes').rows
    assert {row['Volume']: row['Result'] for row in rows}[forged.id]
    assert forged.status == 'available'
    assert scene.found('--class', 'server-gone') == []


@pytest.mark.parametrize('status', [401, 403, 404, 500, 503])
@pytest.mark.parametrize('path', ['/v3/projects', '/v3/projects/{id}'])
def test_without_keystone_no_project_is_gone(
    scene: Scene, path: str, status: int
) -> None:
    volume = _no_project(scene)
    path = path.format(id=volume.project_id)
    scene.cloud.keystone.faults.add(status, None, path)
    metrics, page = scene.directory / 'a.prom', scene.directory / 'a.html'
    ran = scene.audit('--prometheus', str(metrics), '--html', str(page))
    # Nothing is found, and the cloud is not called clean.
    assert (ran.code, ran.rows) == (1, [])
    assert 'warning: not checked: whether ' in ran.err
    assert f'HTTP {status}' in ran.err
    assert re.search(
        r'^attachguard_audit_unchecked{[^}]*} 1\.0', metrics.read_text(), re.M
    )
    assert 'Not checked: whether ' in page.read_text()
    assert '<h1>No findings</h1>' in page.read_text()
    # What is found otherwise is repaired.
    scene.forged()
    done = scene.repair('--yes')
    assert [row['Result'] for row in done.rows] == ['repaired']
    assert done.code == 1
    one = scene.run('explain', volume.id, '-f', 'json')
    if path != '/v3/projects':
        assert one.code == 1
        assert one.rows['In Keystone'].startswith('unknown: HTTP')
        narrow = scene.audit('--volume', volume.id)
        assert (narrow.code, narrow.rows) == (1, [])
        assert 'Keystone, of its project' in narrow.err


def test_what_keystone_did_not_answer_is_not_forgotten(scene: Scene) -> None:
    volume = _no_project(scene)
    audit = ('audit', '-f', 'json', '--min-age', '0s')
    assert scene.run(*audit).rows == []
    scene.cloud.keystone.faults.add(503, None, '/v3/projects')
    assert scene.run(*audit).rows == []
    scene.cloud.keystone.faults.clear()
    assert [row['Volume'] for row in scene.run(*audit).rows] == [volume.id]


def test_a_keystone_that_lists_few_projects_is_not_asked_for_each(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, '_MAX_PROJECTS', 5)
    # As one without pages, with list_limit.
    monkeypatch.setattr(
        api.Cloud,
        'projects',
        lambda cloud: iter([rest.Page([], model.Evidence('', 200, ''))]),
    )
    for number in range(10):
        project_id = scene.cloud.keystone.add_project(f'project {number}')
        _listed(scene, project_id)
    scene.cloud.keystone_server.forget()
    ran = scene.audit()
    assert (ran.code, ran.rows) == (1, [])
    assert len(_project_queries(scene)) == 5
    assert 'list_limit' in ran.err


# Foreign attachments.


def _of_a_host(scene: Scene) -> str:
    volume = scene.volume()
    scene.cloud.cinderclient('member').volumes.attach(
        volume.id, None, '/dev/vdb', host_name='myhost'
    )
    return volume.id


def _of_glance(scene: Scene) -> str:
    volume = scene.volume()
    member = scene.cloud.cinderclient('member').attachments
    made = member.create(volume.id, {'host': 'glance1'})
    member.complete(made['id'])
    return volume.id


def _of_ironic(scene: Scene) -> str:
    volume = scene.volume()
    scene.cloud.cinderclient('member').volumes.attach(
        volume.id, str(uuid.uuid4()), 'ironic_mountpoint'
    )
    return volume.id


def _of_a_brick_client(scene: Scene) -> str:
    volume = scene.volume()
    member = scene.cloud.cinderclient('member').attachments
    made = member.create(
        volume.id, {'host': 'backup7'}, instance_id=str(uuid.uuid4())
    )
    member.complete(made['id'])
    return volume.id


def _of_zun(scene: Scene) -> str:
    volume = scene.volume()
    scene.record(volume, str(uuid.uuid4()), host='zun1')
    return volume.id


FOREIGN = [
    pytest.param(_of_a_host, 'no-server', id='host'),
    pytest.param(_of_glance, 'no-server', id='Glance'),
    pytest.param(_of_ironic, 'ironic', id='Ironic'),
    pytest.param(_of_a_brick_client, 'other-host', id='brick client'),
    pytest.param(_of_zun, 'other-host', id='Zun'),
]


@pytest.mark.parametrize(('attach', 'why'), FOREIGN)
def test_a_foreign_attachment_is_listed_but_not_changed(
    scene: Scene, attach: Any, why: str
) -> None:
    volume_id = attach(scene)
    scene.cloud.cinder_server.forget()
    before = scene.records()

    assert scene.found() == []
    for narrow in ([], ['--volume', volume_id]):
        foreign = scene.audit('--foreign', *narrow)
        assert [(row['Why'], row['Volume']) for row in foreign.rows] == [
            (why, volume_id)
        ]
    explained = scene.run('explain', volume_id, '-f', 'json')
    assert why in explained.rows['Foreign'][0]
    assert explained.rows['Verdict'] == ['consistent']
    for narrow in ([], ['--volume', volume_id]):
        assert scene.repair('--yes', *narrow).code == 0
    assert scene.written() == []
    assert scene.records() == before


def test_control_characters_of_users_are_not_printed(
    scene: Scene,
) -> None:
    hostile = '/dev/\x1b]0;owned\x07\x1b[2J\n\u202eb'
    volume = scene.volume()
    scene.cloud.cinderclient('member').volumes.attach(
        volume.id, None, hostile, host_name=hostile
    )
    forged = scene.volume()
    scene.cloud.cinderclient('member').volumes.attach(
        forged.id, str(uuid.uuid4()), hostile
    )
    for arguments in (
        ['audit', '--once', '--settle=0s', '--foreign'],
        ['audit', '--once', '--settle=0s', '--long', '-f', 'value'],
        ['explain', volume.id],
        ['explain', forged.id],
    ):
        ran = scene.run(*arguments)
        assert ran.code == 3 or volume.id in arguments
        for character in '\x1b\x07\u202e':
            assert character not in ran.out + ran.err


def test_a_pattern_makes_attachments_foreign(scene: Scene) -> None:
    volume = scene.volume()
    scene.record(volume, str(uuid.uuid4()), mountpoint='/k8s/1')
    assert scene.found() == [('server-gone', volume.id)]
    pattern = ('--foreign-pattern', 'device=/k8s/*')
    assert scene.found(*pattern) == []
    assert scene.audit('--foreign', *pattern).rows[0]['Why'] == (
        'pattern:device=/k8s/*'
    )


def test_a_former_compute_host_can_be_named(
    scene: Scene,
) -> None:
    volume = scene.volume()
    scene.record(volume, str(uuid.uuid4()), host='old1')
    assert scene.found() == []
    assert scene.found('--compute-host', 'old1') == [
        ('server-gone', volume.id)
    ]


def test_a_former_compute_host_is_hinted_at(scene: Scene) -> None:
    volume = scene.volume()
    scene.record(volume, str(uuid.uuid4()), host='old1')
    ran = scene.audit()
    assert '--compute-host old1' in ran.err
    explained = scene.run('explain', volume.id, '-f', 'json')
    assert '--compute-host old1' in explained.rows['Foreign'][0]


def test_what_does_not_move_is_found_with_its_age(scene: Scene) -> None:
    stuck = scene.attached(
        scene.server(), status='uploading', updated_at=_LONG_AGO
    )
    stuck.status, stuck.updated_at = 'uploading', _LONG_AGO
    server = scene.server(task_state='deleting')
    server.created = datetime.datetime(
        2026, 1, 2, tzinfo=datetime.timezone.utc
    )
    of_server = scene.attached(server)
    rows = scene.audit().rows
    assert {(row['Class'], row['Volume']) for row in rows} == {
        ('stuck-operation', stuck.id),
        ('stuck-operation', of_server.id),
    }
    assert '2026-01-02T03:04:05Z' in next(
        row['What is wrong'] for row in rows if row['Volume'] == stuck.id
    )
    assert scene.found('--stuck-after', '9999d') == []
    # What is wrong beside that is found, and not repaired.
    gone = scene.forged()
    gone.status, gone.updated_at = 'backing-up', _LONG_AGO
    found = [kind for kind, volume in scene.found() if volume == gone.id]
    assert found == ['stuck-operation', 'server-gone']
    done = scene.repair('--yes', '--volume', gone.id)
    assert [row['Result'] for row in done.rows] == ['by hand', 'by hand']
    assert scene.written() == []


def test_an_unconnected_attachment_of_a_host_is_not_repaired(
    scene: Scene,
) -> None:
    # As Zun attaches, where it shares its hosts with Nova.
    volume = scene.volume()
    scene.record(volume, str(uuid.uuid4()), host='compute1')
    done = scene.repair('--yes')
    assert [row['Result'] for row in done.rows] == ['by hand']
    assert 'Zun' in done.rows[0]['Text']
    assert scene.written() == []


# What is unknown.


@pytest.mark.parametrize('status', [401, 403, 404, 500, 503])
def test_nothing_is_found_or_repaired_if_nova_fails(
    scene: Scene, status: int
) -> None:
    server_id = str(uuid.uuid4())
    scene.forged(server_id)
    scene.cloud.nova.faults.add(
        status, None, f'/servers/{server_id}', body={'error': 'proxy'}
    )
    ran = scene.audit()
    assert (ran.code, ran.rows) == (1, [])
    assert 'unknown' in ran.err
    assert str(status) in ran.err
    done = scene.repair('--yes')
    assert done.code == 1
    assert scene.written() == []


def test_a_cell_that_is_down_stops_repairs(
    scene: Scene,
) -> None:
    server = scene.server(host='compute9', cell_down=True)
    there = scene.forged(server.id)
    gone = scene.forged()
    stuck = scene.volume(status='reserved')
    # A server that waits there to be deleted is a 404, too.
    assert [volume for _kind, volume in scene.found()] == [stuck.id]
    err = scene.audit().err
    assert f'unknown: volume {there.id}' in err
    assert f'unknown: volume {gone.id}' in err
    before = len(scene.cloud.nova_server.requests)
    done = scene.repair('--yes')
    assert done.code == 1
    assert 'the cell of compute host compute9 does not respond' in done.err
    assert '--trust-inventory' in done.err
    assert scene.written() == []
    # Nova waits a minute for each query that needs the cell: one must do.
    (query,) = scene.cloud.nova_server.requests[before:]
    assert query.path.startswith('/v2.1/os-services')
    # After a check, what is known can be repaired.
    trusted = scene.repair('--yes', '--trust-inventory')
    assert [row['Result'] for row in trusted.rows] == ['repaired']


def test_a_soft_deleted_server_has_its_volumes(scene: Scene) -> None:
    server = scene.server(status='SOFT_DELETED')
    volume = scene.attached(server)
    assert scene.found() == []
    # And so it is if Cinder has lost its record.
    scene.cloud.cinder.attachments.clear()
    volume.status = 'in-use'
    assert ('in-use-without-attachment', volume.id) not in scene.found()


def test_an_audit_gives_up_on_a_nova_that_fails(scene: Scene) -> None:
    for _ in range(15):
        scene.forged()
    scene.cloud.nova.faults.add(500, None, '/servers/[0-9a-f-]{36}')
    scene.cloud.nova_server.forget()
    ran = scene.audit('--unknown')
    assert ran.code == 1
    assert len(ran.rows) == 15
    queries = _server_queries(scene)
    assert len(queries) <= 11


def _connected(scene: Scene) -> stub_cinder.Volume:
    """Add a forged attachment that is connected to a host."""
    volume = scene.volume()
    scene.record(
        volume,
        str(uuid.uuid4()),
        host='compute1',
        connector={'host': 'compute1'},
        connection_info={'driver_volume_type': 'iscsi'},
    )
    return volume


def _replace_action(scene: Scene, name: str, do: Callable[[Any], Any]) -> None:
    """Let a volume action do something else.

    :param do: called with a function that does what the action does
    """
    actions = scene.cloud.cinder.volume_actions
    act = getattr(actions, name)
    scene.monkeypatch.setattr(
        actions, name, lambda *args: do(lambda: act(*args))
    )


def test_a_volume_is_unreserved_if_the_response_is_lost(scene: Scene) -> None:
    volume = _connected(scene)

    def lose(act: Callable[[], Any]) -> None:
        act()
        raise service.Refused(504, 'the gateway has waited too long')

    _replace_action(scene, 'begin_detaching', lose)
    assert scene.repair('--yes').code == 1
    assert volume.status == 'in-use'


def test_nothing_is_done_if_a_volume_is_not_reserved_in_fact(
    scene: Scene,
) -> None:
    volume = _connected(scene)

    def migrate(_act: Callable[[], Any]) -> None:
        # Cinder accepts os-begin_detaching then, and does nothing.
        volume.migration_status = 'migrating'

    _replace_action(scene, 'begin_detaching', migrate)
    done = scene.repair('--yes')
    assert done.rows[0]['Result'] != 'repaired'
    assert not any('DELETE' in call for call in scene.written())


def test_explain_shows_what_is_unknown(scene: Scene) -> None:
    volume = scene.forged()
    scene.cloud.nova.faults.add(500, None, '/servers/detail')
    ran = scene.run('explain', volume.id, '-f', 'json')
    assert ran.code == 3
    assert 'is unknown' in ran.rows['In Nova'][0]
    assert ran.rows['Verdict'][0].startswith('server-gone')


def _age(scene: Scene) -> None:
    """Let no volume have changed in the last minutes."""
    for volume in scene.cloud.cinder.volumes.values():
        volume.updated_at = _LONG_AGO
    scene.cloud.cinder_server.forget()


def test_a_cloud_without_servers_looks_wrong(scene: Scene) -> None:
    scene.forged()
    scene.cloud.nova.servers.clear()
    _age(scene)
    done = scene.repair('--yes')
    assert done.code == 1
    assert 'no server at all' in done.err
    assert scene.written() == []


def test_the_servers_of_another_cloud_look_wrong(scene: Scene) -> None:
    scene.forged()
    for server in scene.cloud.nova.servers.values():
        server.attachments.clear()
    scene.cloud.nova.add_attachment(
        scene.server().id, str(uuid.uuid4()), attachment_id=str(uuid.uuid4())
    )
    _age(scene)
    for narrow in ([], ['--volume', next(iter(scene.cloud.cinder.volumes))]):
        done = scene.repair('--yes', *narrow)
        assert done.code == 1
        assert 'same cloud' in done.err
        assert scene.written() == []


def test_servers_that_are_all_deleted_meanwhile_do_not_look_wrong(
    scene: Scene,
) -> None:
    for server in scene.cloud.nova.servers.values():
        server.attachments.clear()
    scene.forged()
    ran = scene.audit('--once', '--settle=0s')
    assert ran.code == 3
    assert 'warning' not in ran.err


def _of_another_nova(scene: Scene) -> list[str]:
    """Attachments of a second Nova, which uses the same Cinder."""
    return [scene.forged().id for _ in range(25)]


def test_another_nova_is_noticed_by_every_filter(scene: Scene) -> None:
    volumes = _of_another_nova(scene)
    for narrow in (
        ['--volume', volumes[0]],
        ['--class', 'server-gone'],
        ['--project', scene.project],
        [],
    ):
        dry = scene.repair(*narrow)
        assert 'does another Nova use this Cinder' in dry.err
        done = scene.repair('--yes', *narrow)
        assert done.code == 1
        assert 'does another Nova use this Cinder' in done.err
    assert scene.written() == []
    # An audit does not call that clean.
    ran = scene.audit('--class', 'duplicate')
    assert (ran.code, ran.rows) == (1, [])


def test_one_project_with_some_damage_is_no_other_cloud(scene: Scene) -> None:
    for server in list(scene.cloud.nova.servers.values()):
        server.project_id = scene.project
    stale = scene.forged()
    # Its newest server has what Cinder has lost.
    _missing_in_cinder(scene)
    done = scene.repair('--yes', '--volume', stale.id)
    assert [row['Result'] for row in done.rows] == ['repaired'], done.err
    assert 'warning' not in done.err


def test_many_findings_stop_a_repair(scene: Scene) -> None:
    for _ in range(3):
        scene.forged()
    done = scene.repair('--yes', '--fail-above', '2')
    assert done.code == 1
    assert '3 findings are more than --fail-above 2' in done.err
    assert scene.written() == []
    assert scene.repair('--yes', '--fail-above', '3').code == 4


def test_credentials_that_see_no_other_project_look_wrong(
    scene: Scene,
) -> None:
    scene.forged()
    (other,) = scene.cloud.nova.servers
    scene.cloud.nova.faults.add(
        404,
        None,
        f'/servers/{other}$',
        body={'itemNotFound': {'code': 404, 'message': 'not yours'}},
    )
    done = scene.repair('--yes')
    assert done.code == 1
    assert 'of another project' in done.err
    assert scene.written() == []


@pytest.mark.parametrize(
    ('service', 'path', 'status'),
    [
        ('cinder', '/volumes/detail', 500),
        ('cinder', '/attachments', 403),
        ('nova', '/servers/detail', 403),
        ('nova', '/servers/detail', 406),
        ('nova', '/os-services', 500),
    ],
)
def test_a_list_that_fails_ends_the_audit(
    scene: Scene, service: str, path: str, status: int
) -> None:
    scene.forged()
    if service == 'nova':
        scene.cloud.nova.faults.add(status, None, path)
    else:
        scene.cloud.cinder.faults.add(status, None, path)
    for ran in (scene.audit(), scene.repair('--yes')):
        assert ran.code == 1
        assert ran.out == ''
        assert f'HTTP {status}' in ran.err
    assert scene.written() == []


def test_requests_to_busy_services_are_retried(scene: Scene) -> None:
    volume = scene.forged()
    scene.cloud.cinder.faults.add(503, 1, '/volumes/detail')
    scene.cloud.nova.faults.add(502, 1, '/servers/detail')
    assert scene.found() == [('server-gone', volume.id)]


# How repairs fail.


def test_what_nova_attaches_meanwhile_is_not_changed(scene: Scene) -> None:
    server = scene.server()
    volume = scene.forged(server.id)
    assert scene.run('audit', '--min-age', '0s').code == 0
    scene.cloud.nova.add_attachment(
        server.id,
        volume.id,
        attachment_id=scene.attachments(volume.id)[0].id,
    )
    done = scene.run('repair', '--yes', '--min-age', '0s', '-f', 'json')
    assert (done.code, done.rows) == (0, [])
    assert scene.written() == []


@pytest.mark.parametrize('status', [403, 409])
def test_nothing_else_is_tried_if_cinder_refuses(
    scene: Scene, status: int
) -> None:
    # As where Cinder checks with another Nova than the audited one, or the
    # guard refuses. For os-reset_status, Cinder checks nothing.
    volume = scene.forged()
    scene.cloud.cinder.faults.add(
        status, None, '/attachments/', method='DELETE'
    )
    done = scene.repair('--yes')
    assert done.code == 1
    assert [row['Result'] for row in done.rows] == ['unknown']
    assert volume.status == 'in-use'
    assert [
        line['call']['name'] for line in _journal(scene) if 'call' in line
    ] == ['attachment-delete']


@pytest.mark.parametrize('status', [500, 503])
def test_a_step_that_fails_is_followed_by_the_next(
    scene: Scene, status: int
) -> None:
    volume = scene.forged()
    scene.cloud.cinder.faults.add(
        status, None, '/attachments/', method='DELETE'
    )
    done = scene.repair('--yes')
    assert [row['Result'] for row in done.rows] == ['repaired']
    assert 'os-detach' in done.rows[0]['Text']
    assert volume.status == 'available'
    assert [
        line['call']['name'] for line in _journal(scene) if 'call' in line
    ] == ['attachment-delete', 'os-begin_detaching', 'os-detach']


def test_a_repair_that_fails_leaves_no_reservation(
    scene: Scene,
) -> None:
    volume = scene.forged()
    scene.cloud.cinder.faults.add(500, None, '/attachments/', method='DELETE')
    broken = True

    def fail(act: Callable[[], Any]) -> Any:
        if broken:
            raise service.Refused(500, 'the driver is not initialized')
        return act()

    for name in ('detach', 'reset_status'):
        _replace_action(scene, name, fail)
    done = scene.repair('--yes')
    assert done.code == 1
    assert [row['Result'] for row in done.rows] == ['failed']
    assert 'the driver is not initialized' in done.rows[0]['Text']
    assert volume.status == 'in-use'
    broken = False
    assert scene.repair('--yes').code == 4


def test_a_finding_is_unknown_if_nova_fails_meanwhile(scene: Scene) -> None:
    volume = scene.forged()
    before = scene.records()
    # It responds to the audit, and not just before the repair.
    server_id = scene.attachments(volume.id)[0].instance_uuid
    scene.run('audit', '--min-age', '0s')
    scene.cloud.nova.faults.add(None, 1, f'/servers/{server_id}')
    scene.cloud.nova.faults.add(500, None, f'/servers/{server_id}')
    scene.cloud.cinder_server.forget()
    done = scene.run('repair', '--yes', '--min-age', '0s', '-f', 'json')
    assert done.code == 1
    assert [row['Result'] for row in done.rows] == ['unknown']
    assert scene.written() == []
    assert scene.records() == before


def test_a_repair_stops_at_its_limit(scene: Scene) -> None:
    for _ in range(3):
        scene.forged()
    done = scene.repair('--yes', '--limit', '2')
    assert done.code == 3
    assert len(done.rows) == 2
    assert '1 more' in done.err
    assert len(scene.found()) == 1


def test_manual_repairs_do_not_count_for_the_limit(
    scene: Scene,
) -> None:
    for _ in range(3):
        _missing_in_cinder(scene)
    volume = scene.forged()
    done = scene.repair('--yes', '--limit', '1')
    assert volume.status == 'available'
    assert [row['Result'] for row in done.rows].count('repaired') == 1


def test_the_printed_command_repairs_now(scene: Scene) -> None:
    volume = scene.forged()
    scene.record(scene.volume(), str(uuid.uuid4()), host='old1')
    options = ('--compute-host', 'old1', '--foreign-pattern', 'host=k8s *')
    rows = {row['Volume']: row for row in scene.audit(*options).rows}
    assert len(rows) == 2
    name, *words = shlex.split(rows[volume.id]['What to do'])
    assert name == 'attachguard'
    # Without a state file, and without an earlier audit.
    done = scene.run(*words, '--settle=0s', '--grace=0s', '-f', 'json')
    assert [row['Result'] for row in done.rows] == ['repaired']
    assert volume.status == 'available'


def test_findings_fit_a_terminal(scene: Scene) -> None:
    forged, missing = scene.forged(), _missing_in_cinder(scene)
    ran = scene.run('audit', '--once', '--settle=0s')
    assert ran.code == 3
    for line in ran.out.splitlines():
        if line.startswith((' ', '#')) or line[:1].isdigit():
            assert len(line) <= 80
    # Whole, to be copied.
    assert f'\nattachguard repair --volume {forged.id} --yes\n' in ran.out
    (script,) = scene.run('explain', missing.id, '-f', 'json').rows[
        'What to do'
    ]
    assert script in ran.out


@pytest.mark.parametrize('form', ['--foreign', '--unknown', 'explain', 'undo'])
def test_every_list_fits_a_terminal(scene: Scene, form: str) -> None:
    volume = scene.volume(name='a name that is rather long ' * 8)
    server_id = None if form == '--foreign' else str(uuid.uuid4())
    scene.record(volume, server_id, host='compute1', mountpoint='/x' * 60)
    command = ['audit', '--once', '--settle=0s', form]
    if form == '--unknown':
        scene.cloud.nova.faults.add(500, None, f'/servers/{server_id}')
    elif form == 'explain':
        command = [form, volume.id]
    elif form == 'undo':
        scene.repair('--yes', '--compute-host', 'old')
        scene.forged()
        scene.repair('--yes')
        command = [form, str(_journals(scene)[-1])]
    lines = scene.run(*command).out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80


_NAMES = ('Volume name', 'Project name', 'Server name', 'Host')


@pytest.mark.parametrize('mode', [['--once', '--settle=0s'], ['--all']])
def test_names_are_beside_ids(scene: Scene, mode: list[str]) -> None:
    server = scene.server(name='web-1')
    volume = scene.attached(server, name='=db')
    scene.cloud.cinderclient('member').volumes.begin_detaching(volume.id)
    command = ('audit', *mode)
    (row,) = scene.run(*command, '-f', 'json').rows
    assert [row[name] for name in _NAMES] == [
        '=db',
        'demo',
        'web-1',
        server.host,
    ]
    text = scene.run(*command).out
    for named in (
        f'Volume        {volume.id} (=db)',
        f'Project       {scene.project} (demo)',
        f'Server        {server.id} (web-1)',
        f'Host          {server.host}',
    ):
        assert f'   {named}\n' in text
    assert '"\'=db"' in scene.run(*command, '-f', 'csv').out
    explained = scene.run('explain', volume.id).out
    for named in (
        f'Volume {volume.id} (=db)\n',
        f'{scene.project} (demo)\n',
        f'server {server.id} (web-1): has',
    ):
        assert named in explained


def test_names_of_projects_are_left_out_where_keystone_refuses(
    scene: Scene,
) -> None:
    scene.forged()
    scene.cloud.keystone.faults.add(403, None, '/v3/projects')
    ran = scene.audit()
    assert ran.code == 3
    assert [row['Project name'] for row in ran.rows] == [None]


def test_projects_are_listed_once_more_for_the_names_of_all_findings(
    scene: Scene,
) -> None:
    def listed() -> int:
        return sum(
            '/v3/projects?' in request.path
            for request in scene.cloud.keystone_server.requests
        )

    assert scene.audit().code == 0
    assert listed() == 1
    for _ in range(3):
        scene.forged()
    assert scene.audit().code == 3
    assert listed() == 3


def test_a_repair_ends_with_the_command_that_undoes_it(scene: Scene) -> None:
    volume = scene.forged()
    done = scene.repair('--yes', '--journal', 'journal of today.jsonl')
    *_more, summary, line = done.err.splitlines()
    journal = scene.directory / 'journal of today.jsonl'
    assert summary == f'1 repaired; journal: {journal}'
    # In any directory.
    scene.monkeypatch.chdir('/')
    name, *words = shlex.split(line.removeprefix('to undo it: '))
    assert name == 'attachguard'
    assert volume.status == 'available'
    assert scene.run(*words).code == 4
    assert volume.status == 'in-use'


@pytest.mark.parametrize('start', '=+-@')
def test_a_spreadsheet_runs_no_cell(scene: Scene, start: str) -> None:
    volume = scene.volume()
    scene.cloud.cinderclient('member').volumes.attach(
        volume.id, None, '/dev/vdb', host_name=f'{start}cmd|calc'
    )
    once = ('audit', '--once', '--settle=0s', '--foreign')
    assert f'"\'{start}cmd|calc"' in scene.run(*once, '-f', 'csv').out
    assert scene.audit('--foreign').rows[0]['Host'] == f'{start}cmd|calc'


def test_a_list_of_values_has_one_line_for_each(scene: Scene) -> None:
    forged, missing = scene.forged(), _missing_in_cinder(scene)
    ran = scene.run(
        *('audit', '--once', '--settle=0s', '-f', 'value'),
        *('-c', 'Volume', '-c', 'What to do'),
    )
    lines = dict(line.split(' ', 1) for line in ran.out.splitlines())
    assert set(lines) == {forged.id, missing.id}
    assert lines[missing.id].startswith('test -s connector.json && openstack')


def test_all_times_have_their_zone(scene: Scene) -> None:
    scene.forged()
    (row,) = scene.audit().rows
    assert row['Since'].endswith('Z')
    assert row['First seen'].endswith('Z')


def test_times_in_a_log_file_have_their_zone(scene: Scene) -> None:
    log = scene.directory / 'log'
    scene.monkeypatch.setenv('TZ', 'Asia/Kathmandu')
    time.tzset()
    try:
        scene.run('--log-file', str(log), 'audit', '--once', '--settle=0s')
    finally:
        scene.monkeypatch.undo()
        time.tzset()
    line = log.read_text().splitlines()[0]
    written = re.match(r'\[(.*)Z\] ', line)
    assert written is not None, line
    when = datetime.datetime.fromisoformat(written[1] + '+00:00')
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs(now - when) < datetime.timedelta(hours=1)


def test_a_wait_is_announced(scene: Scene) -> None:
    scene.forged()
    ran = scene.run('audit', '--once', '--settle=1s')
    assert 'suspects: 1; second check in 1 s' in ran.err


def test_one_class_alone_can_be_repaired(scene: Scene) -> None:
    kept = scene.volume(status='reserved')
    scene.forged()
    assert scene.repair('--yes', '--class', 'server-gone').code == 4
    assert scene.found() == [('stuck-reserved', kept.id)]


# Selection, and confirmation.


def test_an_audit_can_be_narrowed(scene: Scene) -> None:
    server = scene.server()
    first, second = scene.forged(server.id), scene.forged()
    other = scene.cloud.cinder.add_volume(scene.cloud.project_id('other'))
    scene.record(other, str(uuid.uuid4()))
    assert len(scene.found()) == 3
    for arguments, volume in (
        (['--volume', second.id], second),
        (['--server', server.id], first),
        (['--project', scene.cloud.project_id('other')], other),
        (['--class', 'server-lacks-volume'], first),
    ):
        assert [found[1] for found in scene.found(*arguments)] == [volume.id]
    assert scene.found('--older-than', '1h') == []
    for volume in (first, second, other):
        for attachment in scene.attachments(volume.id):
            attachment.attach_time = '2020-01-01T00:00:00.000000'
    assert len(scene.found('--older-than', '1h')) == 3


def test_a_finding_is_confirmed_if_it_is_found_twice(scene: Scene) -> None:
    volume = scene.forged()
    first = scene.run('audit', '-f', 'json', '--min-age', '0s')
    assert (first.code, first.rows) == (0, [])
    assert '1 unconfirmed' in first.err
    assert scene.run('repair', '--yes', '-f', 'json').rows == []
    second = scene.run('audit', '-f', 'json', '--min-age', '0s')
    assert second.code == 3
    assert [row['Volume'] for row in second.rows] == [volume.id]
    # Not with a larger minimum age.
    assert scene.run('audit', '--min-age', '1h').code == 0


def test_a_finding_that_went_away_is_forgotten(scene: Scene) -> None:
    volume = scene.forged()
    scene.run('audit', '--min-age', '0s')
    attachments = dict(scene.cloud.cinder.attachments)
    scene.cloud.cinder.remove_attachment(list(attachments)[-1])
    scene.run('audit', '--min-age', '0s')
    scene.cloud.cinder.attachments.update(attachments)
    volume.status = 'in-use'
    assert scene.run('audit', '--min-age', '0s').code == 0


def test_a_selective_audit_forgets_nothing_else(scene: Scene) -> None:
    first, second = scene.forged(), scene.forged()
    scene.run('audit', '--min-age', '0s')
    assert scene.run('audit', '--settle', '0s', '--volume', first.id).code
    ran = scene.run('audit', '--min-age', '0s', '-f', 'json')
    assert {row['Volume'] for row in ran.rows} == {first.id, second.id}


# Undo.


def _journal(scene: Scene, name: str = 'repair') -> list[dict[str, Any]]:
    (path,) = _journals(scene, name)
    return [json.loads(line) for line in path.read_text().splitlines()]


def _journals(scene: Scene, name: str = 'repair') -> list[pathlib.Path]:
    state = scene.directory / 'state' / 'attachguard'
    return sorted(state.glob(f'{name}-*.jsonl'))


def test_a_repair_can_be_undone(scene: Scene) -> None:
    volume = scene.forged()
    stuck = scene.volume(status='attaching')
    scene.repair('--yes')
    (journal,) = _journals(scene)
    dry = scene.run('undo', str(journal), '-f', 'json')
    assert dry.code == 3
    assert [row['Result'] for row in dry.rows] == ['planned', 'planned']
    assert volume.status == 'available'

    done = scene.run('undo', str(journal), '--yes', '-f', 'json')
    assert done.code == 4, done.err
    assert 'another id' in done.out
    assert (volume.status, stuck.status) == ('in-use', 'attaching')
    again = scene.run('undo', str(journal), '--yes', '-f', 'json')
    assert {row['Result'] for row in again.rows} <= {
        'nothing to undo',
        'refused',
    }


def test_what_has_changed_since_is_not_undone(scene: Scene) -> None:
    volume = scene.forged()
    scene.repair('--yes')
    server = scene.server()
    scene.cloud.novaclient('member').volumes.create_server_volume(
        server.id, volume.id
    )
    before = scene.records()
    (journal,) = _journals(scene)
    done = scene.run('undo', str(journal), '--yes', '-f', 'json')
    assert done.code == 1
    assert [row['Result'] for row in done.rows] == ['refused']
    assert scene.records() == before


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (None, 'No such file'),
        (b'', 'empty'),
        (b'hello\n', 'not JSON'),
        (b'{"journal": 7}\n', 'not a journal'),
        (
            b'{"journal": 1, "what": "repair", "cloud": "elsewhere"}\n',
            'another cloud',
        ),
        (b'{"journal": 1, "what": "undo"}\n', 'not of a repair'),
        (b'{"journal": 1}\n{"do\n{"act": 1}\n', 'damaged'),
    ],
)
def test_an_invalid_journal_is_refused(
    scene: Scene, content: bytes | None, expected: str
) -> None:
    path = scene.directory / 'journal'
    if content is not None:
        path.write_bytes(content)
    ran = scene.run('undo', str(path), '--yes')
    assert ran.code == 127
    assert expected in ran.err


def test_an_incomplete_journal_can_be_undone(scene: Scene) -> None:
    volume = scene.forged()
    scene.repair('--yes')
    (journal,) = _journals(scene)
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed after the change, and while it wrote the next line.
    journal.write_bytes(lines[0] + lines[1] + lines[2][:20])
    done = scene.run('undo', str(journal), '--yes', '-f', 'json')
    assert done.code == 4
    assert volume.status == 'in-use'


def test_a_journal_that_cannot_be_written_stops_everything(
    scene: Scene,
) -> None:
    scene.forged()
    existing = scene.directory / 'there'
    existing.write_text('precious')
    for path in (existing, pathlib.Path('/proc/nowhere/journal')):
        done = scene.repair('--yes', '--journal', str(path))
        assert done.code == 1
        assert str(path) in done.err
    assert existing.read_text() == 'precious'
    assert scene.written() == []


# Bad input.


@pytest.mark.parametrize(
    'arguments',
    [
        ['audit', '--bogus'],
        ['audit', '--volume', 'my-volume'],
        ['audit', '--class', 'nonsense'],
        ['audit', '--min-age', 'soon'],
        ['audit', '--older-than', '1w'],
        ['audit', '--foreign-pattern', 'colour=blue'],
        ['audit', '--html', '/nowhere/page.html'],
        ['audit', '--prometheus', 'metrics.txt'],
        ['audit', '--prometheus', 'a.prom', '--project', 'x'],
        ['repair', '--limit', '0'],
        ['repair', '--limit', 'all'],
        ['explain'],
        ['explain', '../etc'],
        ['undo'],
    ],
    ids=' '.join,
)
def test_bad_input_is_127_and_explained(
    scene: Scene, arguments: list[str]
) -> None:
    ran = scene.run(*arguments)
    assert ran.code == 127
    assert ran.out == ''
    assert 'error: ' in ran.err
    assert 'Traceback' not in ran.err
    assert scene.cloud.cinder_server.requests == []


def test_a_members_credentials_do_not_suffice(scene: Scene) -> None:
    scene.forged()
    scene.log_in('member')
    for ran in (scene.audit(), scene.repair('--yes')):
        assert ran.code == 1
        assert 'needs the role admin' in ran.err
    assert scene.written() == []


@pytest.mark.parametrize(
    ('settings', 'code', 'expected'),
    [
        ({'password': 'wrong'}, 1, 'does not accept the credentials'),
        ({'auth_url': 'http://127.0.0.1:1/v3'}, 1, 'Keystone cannot be used'),
        ({'region_name': 'Nowhere'}, 1, 'Nowhere'),
        ({'auth_type': 'nonsense'}, 127, 'nonsense'),
        ({'cloud': 'nowhere'}, 127, 'nowhere'),
    ],
    ids=['password', 'address', 'region', 'auth_type', 'cloud'],
)
def test_a_failed_login_is_explained(
    scene: Scene, settings: dict[str, str], code: int, expected: str
) -> None:
    scene.log_in('admin', **settings)
    ran = scene.audit()
    assert ran.code == code
    assert expected in ran.err
    assert 'Traceback' not in ran.err
    assert 'wrong' not in ran.out + ran.err


def test_an_invalid_state_file_is_not_changed(
    scene: Scene,
) -> None:
    path = scene.directory / 'state.json'
    for content in ('', '[]', '{"format": 1}', '{"format": 2}'):
        path.write_text(content)
        ran = scene.run('audit', '--state-file', str(path))
        assert ran.code == 1
        assert str(path) in ran.err
        assert path.read_text() == content


def test_every_command_has_help_with_examples(scene: Scene) -> None:
    for name in ('audit', 'explain', 'repair', 'undo'):
        ran = scene.run(name, '--help')
        assert ran.code == 0
        assert 'examples:' in ran.out
        assert 'exit codes:' in ran.out
        assert '--os-cloud' in ran.out


def test_no_secret_is_written_anywhere(scene: Scene) -> None:
    scene.monkeypatch.setenv('OS_PASSWORD', 'admin')
    volume = scene.forged()
    for attachment in scene.attachments(volume.id):
        attachment.connection_info = {'auth_password': 'chap-secret'}
    ran = scene.repair('--yes')
    assert ran.code == 4
    (journal,) = _journals(scene)
    text = journal.read_text() + ran.out + ran.err
    assert 'chap-secret' not in text
    assert journal.stat().st_mode & 0o077 == 0
    for request in scene.cloud.cinder_server.requests:
        token = request.headers.get('X-Auth-Token')
        assert token is None or token not in text


def test_the_formats_of_openstack(scene: Scene) -> None:
    volume = scene.forged()
    for form in ('json', 'yaml', 'csv', 'table', 'value'):
        ran = scene.run(
            'audit', '--once', '--settle=0s', '-f', form, '-c', 'Volume'
        )
        assert volume.id in ran.out


# In pages, on a terminal, in other tools.


@pytest.mark.parametrize('size', [1, 2, 3])
def test_however_long_the_pages_are(scene: Scene, size: int) -> None:
    wrong = {scene.forged().id for _ in range(4)}
    for _ in range(3):
        scene.attached(scene.server())
    scene.monkeypatch.setattr('attachguard.audit.collect.rest.PAGE_SIZE', size)
    assert {volume for _kind, volume in scene.found()} == wrong


def test_ids_that_differ_are_found_by_volume(scene: Scene) -> None:
    # A list of servers does not show their attachments.
    volume_id = _attachment_id_mismatch(scene).id
    assert scene.found() == []
    assert scene.found('--volume', volume_id) == [
        ('attachment-id-mismatch', volume_id)
    ]


def test_the_reports_are_written(scene: Scene) -> None:
    volume = scene.forged()
    page, metrics = scene.directory / 'a.html', scene.directory / 'a.prom'
    ran = scene.audit('--html', str(page), '--prometheus', str(metrics))
    assert ran.code == 3
    assert volume.id in page.read_text()
    text = metrics.read_text()
    assert 'class="server-gone"' in text
    assert re.search(r'attachguard_audit_success{[^}]*} 1\.0', text)


def test_a_report_says_what_was_looked_at(scene: Scene) -> None:
    scene.forged()
    page = scene.directory / 'a.html'
    healthy = scene.attached(scene.server())
    ran = scene.audit('--volume', healthy.id, '--html', str(page))
    assert ran.code == 0
    assert f'only within volume {healthy.id}' in ran.err
    assert f'Clean within volume {healthy.id}' in page.read_text()


def test_a_page_shows_what_looks_wrong(scene: Scene) -> None:
    _of_another_nova(scene)
    page = scene.directory / 'a.html'
    scene.audit('--class', 'duplicate', '--html', str(page))
    text = page.read_text()
    assert 'does another Nova use this Cinder' in text
    assert 'Clean' not in text


@pytest.mark.parametrize('trouble', ['nova', 'credentials'])
def test_an_audit_that_fails_says_so_in_its_reports(
    scene: Scene, trouble: str
) -> None:
    if trouble == 'nova':
        scene.cloud.nova.faults.add(500, None, '/servers/detail')
    else:
        scene.log_in('admin', password='wrong')
    page, metrics = scene.directory / 'a.html', scene.directory / 'a.prom'
    ran = scene.audit('--html', str(page), '--prometheus', str(metrics))
    assert ran.code == 1
    text = metrics.read_text()
    assert re.search(r'attachguard_audit_success{[^}]*} 0\.0', text)
    assert 'attachguard_audit_findings' not in text
    assert page.exists()


def test_a_volume_that_does_not_exist_is_explained(scene: Scene) -> None:
    ran = scene.run('explain', str(uuid.uuid4()), '-f', 'json')
    assert ran.code == 0
    assert ran.rows['Verdict'] == [
        'there is no such volume, and no server has it'
    ]


def test_a_healthy_volume_is_explained(scene: Scene) -> None:
    volume = scene.attached(scene.server())
    ran = scene.run('explain', volume.id, '-f', 'json')
    assert ran.code == 0
    assert ran.rows['Verdict'] == ['consistent']
    assert any('refused: os-detach' in x for x in ran.rows['The guard would'])


def test_explain_finds_the_server_that_cinder_does_not_name(
    scene: Scene,
) -> None:
    volume_id = _missing_in_cinder(scene).id
    ran = scene.run('explain', volume_id, '-f', 'json')
    assert ran.code == 3
    (script,) = ran.rows['What to do']
    assert 'nova-manage volume_attachment refresh' in script


def _environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONWARNINGS': 'ignore'}


def test_the_same_commands_are_openstacks(scene: Scene) -> None:
    openstack = pathlib.Path(sys.executable).with_name('openstack')
    if not openstack.exists():
        pytest.skip('python-openstackclient is not installed')
    volume = scene.forged()

    def run(command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [openstack, 'attachguard', *command.split()],
            env=_environment(),
            capture_output=True,
            check=False,
        )

    ran = run('audit --once --settle=0s -f json')
    assert ran.returncode == 3, ran.stderr
    assert [row['Volume'] for row in json.loads(ran.stdout)] == [volume.id]
    done = run('repair --once --settle=0s --yes --grace=0s')
    assert done.returncode == 4, done.stderr
    assert volume.status == 'available'


def test_progress_is_shown_only_on_a_terminal(
    scene: Scene,
) -> None:
    scene.forged()
    attachguard = pathlib.Path(sys.executable).with_name('attachguard')
    command = [str(attachguard), 'audit', '--once', '--settle=0s']
    piped = subprocess.run(
        command, env=_environment(), capture_output=True, check=False
    )
    assert piped.returncode == 3, piped.stderr
    # It takes less than the time between two lines.
    assert b'volumes' not in piped.stderr
    assert b'\r' not in piped.stderr

    terminal, side = pty.openpty()
    # Python 3.11 has termios.tcsetwinsize.
    size = struct.pack('HHHH', 24, 80, 0, 0)
    fcntl.ioctl(side, termios.TIOCSWINSZ, size)
    with subprocess.Popen(
        command,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=side,
    ) as process:
        os.close(side)
        seen = b''
        with contextlib.suppress(OSError):
            while chunk := os.read(terminal, 4096):
                seen += chunk
    os.close(terminal)
    assert process.returncode == 3
    # One line, which is gone at the end, and the summary.
    assert re.search(rb'\r(volumes|servers) \d', seen)
    assert seen.count(b'\n') == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_repair_can_be_run_again(
    scene: Scene, number: signal.Signals
) -> None:
    # Reserved while it is deleted.
    volumes = [_connected(scene) for _ in range(3)]
    api = scene.cloud.cinder.attachment_api
    delete = api.delete
    calls: list[str] = []

    def once(request: Any, id: str) -> Any:
        calls.append(id)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return delete(request, id)

    scene.monkeypatch.setattr(api, 'delete', once)
    # A process in the background has inherited that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupted = scene.repair('--yes')
        assert interrupted.code == 130
    finally:
        signal.signal(signal.SIGINT, before)
    (journal,) = _journals(scene)
    *_more, stopped, summary, undo = interrupted.err.splitlines()
    assert stopped == 'interrupted'
    # Also the one that was being repaired, whose result is not known.
    assert summary == f'{len(calls) - 1} repaired; journal: {journal}'
    assert undo == f'to undo it: attachguard undo {journal} --yes'
    states = {volume.status for volume in volumes}
    assert states in ({'available', 'in-use'}, {'in-use'})
    assert scene.repair('--yes').code == 4
    assert {volume.status for volume in volumes} == {'available'}
    # What the first run did can still be undone.
    assert scene.run('undo', str(journal), '--yes').code == 4


def test_a_repair_that_is_interrupted_before_it_begins_says_so(
    scene: Scene,
) -> None:
    scene.forged()

    def interrupt(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    scene.monkeypatch.setattr(
        'attachguard.audit.collect.case_builder.read_case', interrupt
    )
    ran = scene.repair('--yes')
    assert ran.code == 130
    assert ran.err.splitlines()[-1] == 'interrupted: nothing was changed'
    assert scene.written() == []


# What only SQL can repair.


@pytest.fixture
def database(scene: Scene) -> str:
    """Cinder's database, with what the stub has."""
    pytest.importorskip('sqlalchemy')
    url = f'sqlite:///{scene.directory}/cinder.sqlite'
    cinder_db.sync(url)
    return url


def _outlived(scene: Scene, url: str) -> str:
    """An attachment of a deleted volume, in the stub and in the database."""
    import sqlalchemy as sa

    volume_id = _volume_deleted(scene).id
    (attachment,) = scene.attachments(volume_id)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                'INSERT INTO volumes (id, deleted, status, attach_status, '
                'project_id, use_quota, volume_type_id) '
                "VALUES (:id, 1, 'deleted', 'attached', 'p', 1, "
                '(SELECT id FROM volume_types LIMIT 1))'
            ),
            {'id': volume_id},
        )
        connection.execute(
            sa.text(
                'INSERT INTO volume_attachment (id, volume_id, instance_uuid, '
                "deleted, attach_status) VALUES (:id, :v, :s, 0, 'attached')"
            ),
            {
                'id': attachment.id,
                'v': volume_id,
                's': attachment.instance_uuid,
            },
        )
    engine.dispose()
    return attachment.id


def _deleted(url: str, attachment_id: str) -> bool:
    import sqlalchemy as sa

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        (found,) = connection.execute(
            sa.text('SELECT deleted FROM volume_attachment WHERE id = :id'),
            {'id': attachment_id},
        ).one()
    engine.dispose()
    return bool(found)


def test_sql_is_printed_with_its_inverse(scene: Scene, database: str) -> None:
    attachment_id = _outlived(scene, database)
    ran = scene.run(
        'repair', '--once', '--settle=0s', '--sql', '--database', database
    )
    assert ran.code == 3, ran.err
    assert attachment_id in ran.out
    lines = ran.out.splitlines()
    undo = lines.index('-- To undo it:')
    assert 'COMMIT;' in lines[:undo]
    assert all(line.startswith('--') for line in lines[undo:] if line)
    assert not _deleted(database, attachment_id)


def test_sql_is_executed_and_undone(scene: Scene, database: str) -> None:
    from attachguard.audit.repair import sql

    attachment_id = _outlived(scene, database)
    scene.monkeypatch.setenv('ATTACHGUARD_DATABASE', database)
    execute = sql.Database.execute

    def as_cinder_sees_it(self: Any, change: Any) -> None:
        execute(self, change)
        scene.cloud.cinder.attachments.pop(attachment_id, None)

    scene.monkeypatch.setattr(sql.Database, 'execute', as_cinder_sees_it)
    dry = scene.repair('--execute-sql')
    assert (dry.code, dry.rows[0]['Result']) == (3, 'planned')
    assert not _deleted(database, attachment_id)
    done = scene.repair('--execute-sql', '--yes')
    assert (done.code, done.rows[0]['Result']) == (4, 'repaired')
    assert _deleted(database, attachment_id)

    (journal,) = _journals(scene)
    assert done.err.splitlines()[-1] == (
        f'to undo it: attachguard undo {journal} --yes'
    )
    scene.monkeypatch.delenv('ATTACHGUARD_DATABASE')
    without = scene.run('undo', str(journal), '--yes', '-f', 'json')
    assert without.code == 1
    assert '--database' in without.rows[0]['Text']
    conf = scene.directory / 'cinder.conf'
    conf.write_text(f'[database]\nconnection = {database}\n')
    back = scene.run(
        'undo', str(journal), '--yes', '-f', 'json', '--cinder-conf', str(conf)
    )
    assert (back.code, back.rows[0]['Result']) == (4, 'undone')
    assert not _deleted(database, attachment_id)


@pytest.mark.parametrize(
    ('arguments', 'code', 'expected'),
    [
        (['--sql'], 127, '--cinder-conf'),
        (['--sql', '--cinder-conf', '/nowhere'], 127, '/nowhere'),
        (['--sql', '--database', 'nonsense'], 1, 'mysql+pymysql:'),
        (['--sql', '--database', 'sqlite:////nowhere.db'], 1, 'no such file'),
        (
            # Where there is nothing, or not even the driver.
            ['--sql', '--database', 'mysql+pymysql://c:hush@127.0.0.1:1/c'],
            1,
            'mysql+pymysql:',
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_an_error(
    scene: Scene, arguments: list[str], code: int, expected: str
) -> None:
    _volume_deleted(scene)
    ran = scene.repair(*arguments)
    assert ran.code == code
    assert expected in ran.err
    assert 'hush' not in ran.err
