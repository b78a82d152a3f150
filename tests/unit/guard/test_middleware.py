# SPDX-License-Identifier: Apache-2.0

"""What the guard does with a request."""

from __future__ import annotations

from collections.abc import Callable
import io
import json
import logging
import pathlib
import sys
from typing import Any

from keystonemiddleware.auth_token import _user_plugin
from oslo_config import cfg
from oslo_serialization import jsonutils
import pytest
import webob
import webob.exc

from attachguard import filter as attachguard_filter
from attachguard.guard import middleware as guard
from attachguard.nova import client as nova_client
from tests.unit import fakes

ACTION = f'/v3/{fakes.PROJECT}/volumes/{fakes.VOLUME}/action'
ATTACHMENTS = f'/v3/{fakes.PROJECT}/attachments'
ATTACHMENT = f'{ATTACHMENTS}/{fakes.ATTACHMENT}'


def attach(server: str = fakes.SERVER, **more: Any) -> dict[str, Any]:
    return {
        'os-attach': {
            'instance_uuid': server,
            'mountpoint': '/dev/vdb',
            **more,
        }
    }


def create(server: str | None = fakes.SERVER) -> dict[str, Any]:
    body = {'volume_uuid': fakes.VOLUME}
    if server is not None:
        body['instance_uuid'] = server
    return {'attachment': body}


class Guarded:
    """A guard between a test and the fakes."""

    def __init__(
        self, cinder: fakes.FakeCinder, nova: fakes.FakeNova, conf: Any
    ) -> None:
        self.cinder = cinder
        self.nova = nova
        self.guard = guard.AttachGuard(cinder, conf)
        self.guard.nova = nova
        self.extra: dict[str, Any] = {}

    def __call__(
        self, method: str, path: str, body: Any = None, **kwargs: Any
    ) -> tuple[int, dict[str, str], Any]:
        self.environ = fakes.environ(
            method, path, body, **self.extra, **kwargs
        )
        started: list[Any] = []

        def start_response(status: str, headers: Any, _: Any = None) -> Any:
            started.append((int(status[:3]), dict(headers)))

        answer = b''.join(self.guard(self.environ, start_response))
        assert len(started) == 1
        return (*started[0], json.loads(answer or b'null'))


Make = Callable[..., Guarded]


@pytest.fixture
def make(tmp_path: pathlib.Path) -> Make:
    """Make a guard.

    ``has`` are the pairs that Nova has, ``attachments`` Cinder's, ``status``
    and ``connected`` theirs, ``volume`` more of the volume, ``rules`` a policy
    file, and the rest options of ``[attachguard]``.
    """

    def make(
        has: Any = (),
        attachments: Any = (),
        rules: Any = None,
        status: str = 'attached',
        connected: bool = True,
        volume: Any = (),
        **options: Any,
    ) -> Guarded:
        conf = cfg.ConfigOpts()
        file = tmp_path / 'cinder.conf'
        if rules is not None:
            policy = tmp_path / 'rules.yaml'
            policy.write_text(json.dumps(rules))
            options['policy_file'] = str(policy)
        lines = [f'{name} = {value}' for name, value in options.items()]
        file.write_text('\n'.join(['[attachguard]', *lines]))
        conf([], project='cinder', default_config_files=[str(file)])
        pairs = dict(has) if isinstance(has, dict) else dict.fromkeys(has)
        cinder = fakes.FakeCinder(attachments, status, connected)
        cinder.volume.update(volume)
        return Guarded(cinder, fakes.FakeNova(pairs), conf)

    return make


HAS_IT = [(fakes.SERVER, fakes.VOLUME)]
BY_SERVER = [(fakes.ATTACHMENT, fakes.SERVER)]
BY_HOST = [(fakes.ATTACHMENT, None)]
LIVE: dict[str, Any] = {
    'has': {(fakes.SERVER, fakes.VOLUME): fakes.ATTACHMENT},
    'attachments': BY_SERVER,
}
ADMIN: dict[str, Any] = {'roles': ['admin']}
DETACH: dict[str, Any] = {'os-detach': {}}
CONNECT = {'attachment': {'connector': {'host': 'h'}}}
MANY = [
    (f'cccccccc-1111-4111-8111-{n:012}', f'{n:08}' + fakes.SERVER[8:])
    for n in range(250)
]


def test_other_requests_are_forwarded_unchanged(make: Make) -> None:
    cloud = make()
    for method, path, body in (
        ('GET', f'/v3/{fakes.PROJECT}/volumes/detail', b''),
        ('GET', ATTACHMENTS, b''),
        ('POST', f'/v3/{fakes.PROJECT}/volumes', b'{}'),
        ('POST', ACTION, b'{"os-extend": {"new_size": 2}}'),
        ('POST', f'/v3/{fakes.PROJECT}/snapshots/x/action', b'{"a": {}}'),
        ('DELETE', f'/v3/{fakes.PROJECT}/volume-transfers/x', b''),
        ('POST', f'/v3/{fakes.PROJECT}/volume-transfers/x/accept', b'{}'),
    ):
        cloud.cinder.calls.clear()
        cloud(method, path, body)
        assert cloud.cinder.calls == [(method, path, body)]
    assert cloud.nova.queried == []


class TestPassThrough:
    """The cost of a request that is no attachment operation."""

    @staticmethod
    def bytecodes(call: Callable[[], Any]) -> int:
        count = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == 'opcode'
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
        return count

    @pytest.fixture
    def no_parsing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def parse(*_: Any, **__: Any) -> Any:
            raise AssertionError('a WebOb request, or parsed JSON')

        monkeypatch.setattr(webob.Request, '__init__', parse)
        monkeypatch.setattr(jsonutils, 'loads', parse)

    @pytest.mark.usefixtures('no_parsing')
    @pytest.mark.parametrize(
        ('method', 'path'),
        [
            ('GET', f'/{fakes.PROJECT}/volumes/detail'),
            ('GET', f'/{fakes.PROJECT}/attachments/{fakes.ATTACHMENT}'),
            ('GET', '/'),
            ('POST', f'/{fakes.PROJECT}/volumes'),
            ('DELETE', f'/{fakes.PROJECT}/volumes/{fakes.VOLUME}'),
            ('PUT', f'/{fakes.PROJECT}/volumes/{fakes.VOLUME}/metadata'),
        ],
    )
    def test_costs_at_most_35_bytecodes(
        self, make: Make, method: str, path: str
    ) -> None:
        def bare(environ: Any, start_response: Any) -> list[bytes]:
            return []

        cloud = make()
        cloud.guard.application = bare
        environ = fakes.environ(method, path)
        start: Any = None
        cost = self.bytecodes(lambda: bare(environ, start))
        guarded = self.bytecodes(lambda: cloud.guard(environ, start))
        # Before Python 3.11 it is one more.
        most = 35 if sys.version_info >= (3, 11) else 36
        assert 0 < guarded - cost <= most

    @pytest.mark.usefixtures('no_parsing')
    @pytest.mark.parametrize('size', [0, 100_000])
    def test_another_action_is_read_and_not_parsed(
        self, make: Make, size: int
    ) -> None:
        cloud = make()
        body = b'{"os-extend": {"new_size": "%s"}}' % (b'1' * size)
        environ = fakes.environ('POST', ACTION, body)
        seen: list[bytes] = []

        def read(environ: Any, start_response: Any) -> Any:
            length = int(environ['CONTENT_LENGTH'])
            seen.append(environ['wsgi.input'].read(length))
            return []

        cloud.guard.application = read
        start: Any = None
        cloud.guard(environ, start)
        assert seen == [body]


def action(name: str, **arguments: Any) -> tuple[str, str, Any]:
    return 'POST', ACTION, {name: arguments}


DELETE = ('DELETE', ATTACHMENT)
UPDATE = ('PUT', ATTACHMENT, CONNECT)
COMPLETE: Any = ('POST', f'{ATTACHMENT}/action', {'os-complete': {}})
TRANSFER = {'transfer': {'volume_id': fakes.VOLUME}}
TRANSFERS = (
    ('POST', f'/v3/{fakes.PROJECT}/volume-transfers', TRANSFER),
    ('POST', f'/v3/{fakes.PROJECT}/os-volume-transfer', TRANSFER),
)
IN_GROUP = {'group_id': fakes.GROUP}
WITH_VOLUMES = {'delete': {'delete-volumes': True}}
BY_FORCE = {'consistencygroup': {'force': True}}
GROUP_DELETES: Any = (
    ('POST', f'/v3/groups/{fakes.GROUP}/action', WITH_VOLUMES),
    ('DELETE', f'/v3/groups/{fakes.GROUP}', WITH_VOLUMES),
    ('POST', f'/v3/consistencygroups/{fakes.GROUP}/delete', BY_FORCE),
    ('DELETE', f'/v3/consistencygroups/{fakes.GROUP}', BY_FORCE),
)
CLEARING = (
    action('os-detach'),
    action('os-detach', attachment_id=fakes.ATTACHMENT),
    ('POST', ACTION, {'os-detach': None}),
    action('os-terminate_connection', connector={}),
    ('POST', ACTION, {'os-begin_detaching': None}),
)
CONSUMING = (
    action('os-reserve'),
    action('os-unreserve'),
    action('os-initialize_connection', connector={}),
    ('POST', ATTACHMENTS, create(None)),
)


def name_of(value: Any) -> str | None:
    if not isinstance(value, tuple):
        return None
    return str(value[2] if value[2:] else value[0])[:40]


class TestOrdinaryCaller:
    """The default rules. What passes in which state: test_principle."""

    @pytest.mark.parametrize('asked', CLEARING, ids=name_of)
    def test_clears_what_no_server_has(self, make: Make, asked: Any) -> None:
        for attachments, reads, queries in (
            (BY_SERVER, 2, 1),
            (BY_HOST, 2, 0),
            ([], 2, 0),
        ):
            if 'attachment_id' in str(asked) and not attachments:
                continue
            cloud = make(attachments=attachments)
            assert cloud(*asked)[0] == 202
            assert cloud.cinder.reads <= reads
            assert len(cloud.nova.queried) == queries
            assert len(cloud.cinder.performed) == 1

    @pytest.mark.parametrize('asked', [*CLEARING, DELETE], ids=name_of)
    def test_gets_cinders_own_409_where_a_server_has_the_volume(
        self, make: Make, asked: Any
    ) -> None:
        cloud = make(**LIVE)
        status, headers, body = cloud(*asked)
        assert (status, list(body)) == (409, ['conflictingRequest'])
        assert body['conflictingRequest']['reason'] == 'server-has-volume'
        assert headers['OpenStack-API-Version'] == 'volume 3.44'
        assert cloud.cinder.performed == []
        assert cloud.cinder.reads == 2
        assert len(cloud.nova.queried) <= 2

    def test_gets_the_microversion_from_cinder_if_it_names_none(
        self, make: Make
    ) -> None:
        cloud = make(**LIVE)
        for version in ('volume latest', 'volume 3', 'compute 2.1'):
            cloud.cinder.calls.clear()
            _status, headers, _body = cloud(
                'POST', ACTION, DETACH, HTTP_OPENSTACK_API_VERSION=version
            )
            assert headers['OpenStack-API-Version'] == version
            assert cloud.cinder.calls[-1][1].endswith(fakes.VOLUME)

    @pytest.mark.parametrize('asked', CONSUMING, ids=name_of)
    def test_uses_what_no_server_has(self, make: Make, asked: Any) -> None:
        cloud = make(attachments=BY_HOST)
        assert cloud(*asked)[0] == 202
        assert (cloud.cinder.reads, cloud.nova.queried) == (2, [])
        cloud = make(**LIVE)
        status, _headers, body = cloud(*asked)
        assert (status, list(body)) == (403, ['forbidden'])
        assert body['forbidden']['reason'] == 'server-has-volume'
        assert (cloud.cinder.reads, len(cloud.nova.queried)) == (2, 1)
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize('asked', [UPDATE, COMPLETE], ids=name_of)
    def test_changes_an_attachment_of_nobody(
        self, make: Make, asked: Any
    ) -> None:
        cloud = make(attachments=BY_HOST, status='reserved')
        assert cloud(*asked)[0] == 202
        assert (cloud.cinder.reads, cloud.nova.queried) == (3, [])
        cloud = make(HAS_IT, BY_SERVER, status='reserved')
        status, _headers, body = cloud(*asked)
        assert (status, body['forbidden']['reason']) == (403, 'names-server')
        assert cloud.nova.queried == []
        assert cloud.cinder.performed == []
        second = [*BY_HOST, (fakes.UNKNOWN_ID, fakes.SERVER)]
        assert make(HAS_IT, second)(*asked)[0] == 403

    @pytest.mark.parametrize(
        ('world', 'status', 'reason', 'queries'),
        [
            ({}, 202, 'server-lacks-volume', 1),
            (
                {'attachments': BY_HOST, 'connected': False},
                202,
                'policy',
                0,
            ),
            (
                {'has': {(fakes.SERVER, fakes.VOLUME): fakes.UNKNOWN_ID}},
                409,
                'server-has-volume',
                2,
            ),
            ({'has': HAS_IT}, 409, 'server-has-volume', 2),
            ({'volume': {'status': 'backing-up'}}, 409, 'volume-busy', 1),
            (
                {
                    'attachments': BY_HOST,
                    'connected': False,
                    'volume': {fakes.MIGRATION: 'migrating'},
                },
                409,
                'volume-busy',
                0,
            ),
            (
                {
                    'status': 'reserved',
                    'volume': {'updated_at': '2999-01-01T00:00:00'},
                },
                503,
                'attachment-young',
                1,
            ),
        ],
    )
    def test_deletes_an_attachment_that_nova_does_not_have(
        self,
        make: Make,
        caplog: pytest.LogCaptureFixture,
        world: Any,
        status: int,
        reason: str,
        queries: int,
    ) -> None:
        caplog.set_level(logging.INFO)
        cloud = make(**{'attachments': BY_SERVER, **world})
        found, _headers, _body = cloud(*DELETE)
        line = json.loads(caplog.messages[-1].partition('decision ')[2])
        assert (found, line['reason']) == (status, reason)
        assert line['volume_id'] == fakes.VOLUME
        assert line['attachment_id'] == fakes.ATTACHMENT
        assert cloud.cinder.reads == 2
        assert len(cloud.nova.queried) == queries

    def test_may_not_delete_a_connected_one_of_nobody_beside_a_server(
        self, make: Make
    ) -> None:
        """Its connector can be that of the server's host."""
        both = [*BY_HOST, (fakes.UNKNOWN_ID, fakes.SERVER)]
        cloud = make({(fakes.SERVER, fakes.VOLUME): fakes.UNKNOWN_ID}, both)
        status, _headers, body = cloud(*DELETE)
        reason = body['conflictingRequest']['reason']
        assert (status, reason) == (409, 'server-has-volume')
        for world in (make((), both), make(attachments=BY_HOST)):
            assert world(*DELETE)[0] == 202
            assert world.cinder.reads == 3

    def test_deletes_an_attachment_beside_the_one_of_the_server(
        self, make: Make
    ) -> None:
        has = {(fakes.SERVER, fakes.VOLUME): fakes.UNKNOWN_ID}
        both = [*BY_SERVER, (fakes.UNKNOWN_ID, fakes.SERVER)]
        cloud = make(has, both)
        assert cloud(*DELETE)[0] == 202
        # It runs by the attachment on the one host, and Nova has saved that
        # on the other.
        cloud.nova.busy.add(fakes.SERVER)
        status, _headers, body = cloud(*DELETE)
        assert status == 409
        assert body['conflictingRequest']['reason'] == 'server-has-volume'

    def test_waits_while_nova_works_on_a_server(self, make: Make) -> None:
        cloud = make(attachments=BY_SERVER)
        cloud.nova.busy.add(fakes.SERVER)
        for asked in (DELETE, *CLEARING):
            status, _headers, body = cloud(*asked)
            assert status == 409
            assert body['conflictingRequest']['reason'] == 'server-busy'
        assert cloud(*action('os-roll_detaching'))[0] == 403
        cloud.nova.busy.clear()
        assert cloud(*action('os-roll_detaching'))[0] == 202
        young = {'updated_at': '2999-01-01T00:00:00'}
        cloud = make(attachments=BY_SERVER, volume=young)
        assert cloud(*action('os-roll_detaching'))[0] == 503
        # Also an attached one: at the end of an exchange of volumes, Nova
        # completes the attachment of the new one before it saves it.
        assert cloud(*DELETE)[0] == 503
        # A forged one was never connected.
        forged = make(attachments=BY_SERVER, volume=young, connected=False)
        assert forged(*DELETE)[0] == 202

    @pytest.mark.parametrize('transfer', TRANSFERS, ids=str)
    def test_transfers_a_volume_without_attachment(
        self, make: Make, transfer: Any
    ) -> None:
        cloud = make()
        assert cloud(*transfer)[0] == 202
        assert (cloud.cinder.reads, cloud.nova.queried) == (3, [])
        cloud = make(attachments=BY_HOST, status='reserved')
        status, _headers, body = cloud(*transfer)
        assert (status, body['forbidden']['reason']) == (403, 'has-attachment')

    @pytest.mark.parametrize('transfer', TRANSFERS, ids=str)
    @pytest.mark.parametrize('migration', ['migrating', 'target:x'])
    def test_may_not_transfer_a_volume_that_is_migrated(
        self, make: Make, transfer: Any, migration: str
    ) -> None:
        """At the end, Cinder exchanges the projects of the two volumes."""
        cloud = make(volume={fakes.MIGRATION: migration})
        status, _headers, body = cloud(*transfer)
        assert (status, body['forbidden']['reason']) == (403, 'volume-busy')

    @pytest.mark.parametrize('transfer', TRANSFERS, ids=str)
    def test_may_not_transfer_a_volume_while_a_backup_is_made(
        self, make: Make, transfer: Any
    ) -> None:
        """At the end, Cinder writes the status from before it: in-use."""
        cloud = make()
        cloud.cinder.backups = ['creating']
        status, _headers, body = cloud(*transfer)
        assert (status, body['forbidden']['reason']) == (403, 'volume-busy')
        cloud.cinder.backups = ['available', 'error']
        assert cloud(*transfer)[0] == 202

    @pytest.mark.parametrize('delete', GROUP_DELETES, ids=str)
    def test_deletes_a_group_of_volumes_without_attachment(
        self, make: Make, delete: Any
    ) -> None:
        for status in ('available', 'error', 'error_deleting'):
            cloud = make(volume={**IN_GROUP, 'status': status})
            assert cloud(*delete)[0] == 202
            assert (cloud.cinder.reads, cloud.nova.queried) == (2, [])
        # A group without volumes.
        assert make()(*delete)[0] == 202

    @pytest.mark.parametrize('delete', GROUP_DELETES, ids=str)
    @pytest.mark.parametrize('status', ['reserved', 'attaching', 'attached'])
    def test_may_not_delete_a_group_with_an_attachment(
        self, make: Make, delete: Any, status: str
    ) -> None:
        # While Cinder writes an image to a volume, Nova can attach it. Then it
        # is available, and has the attachment.
        for of_volume in (status, 'available'):
            cloud = make(
                attachments=BY_SERVER,
                status=status,
                volume={**IN_GROUP, 'status': of_volume},
            )
            code, _headers, body = cloud(*delete)
            assert (code, cloud.cinder.performed) == (403, [])
            assert body['forbidden']['reason'] == 'has-attachment'
            assert cloud.nova.queried == []

    @pytest.mark.parametrize(
        'volume',
        [
            *({'status': status} for status in ('attaching', 'in-use')),
            *({'status': status} for status in ('reserved', 'detaching')),
            *({'status': status} for status in ('backing-up', 'deleting')),
            {'status': 'a-new-one'},
            {fakes.MIGRATION: 'migrating'},
        ],
        ids=str,
    )
    def test_may_not_delete_a_group_with_a_busy_volume(
        self, make: Make, volume: Any
    ) -> None:
        cloud = make(volume={**IN_GROUP, **volume})
        code, _headers, body = cloud(*GROUP_DELETES[0])
        assert (code, cloud.cinder.performed) == (403, [])
        assert body['forbidden']['reason'] == 'volume-busy'

    def test_a_group_that_takes_too_long_to_read_is_unknown(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fakes.FakeNova, 'deadline', 0.0)
        cloud = make(volume=IN_GROUP)
        assert cloud(*GROUP_DELETES[0])[0] == 503
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize('delete', GROUP_DELETES, ids=str)
    def test_a_group_of_another_project_is_not_there(
        self, make: Make, delete: Any
    ) -> None:
        cloud = make(attachments=BY_SERVER, volume=IN_GROUP)
        cloud.cinder.hides_volume = True
        cloud.extra['cinder.context'] = fakes.Context()
        code, _headers, body = cloud(*delete)
        assert (code, list(body)) == (404, ['itemNotFound'])
        assert cloud.cinder.performed == []

    def test_a_group_is_named_by_a_uuid(self, make: Make) -> None:
        for name in ('x', 'detail', f'{fakes.GROUP} '):
            path = f'/v3/groups/{name}/action'
            assert make(volume=IN_GROUP)('POST', path, WITH_VOLUMES)[0] == 404
        path = f'/v3/groups/{fakes.GROUP.upper()}/action'
        cloud = make(attachments=BY_SERVER, volume=IN_GROUP)
        # MySQL ignores the case, and this Cinder does not.
        assert cloud('POST', path, WITH_VOLUMES)[0] == 404
        assert cloud.cinder.performed == []

    def test_may_not_forge_an_attachment(self, make: Make) -> None:
        cloud = make(HAS_IT)
        answers = [
            cloud('POST', ACTION, attach(fakes.OTHER_SERVER)),
            cloud('POST', ACTION, attach(fakes.UNKNOWN_ID)),
        ]
        assert cloud.cinder.performed == []
        for status, headers, body in answers:
            assert status == 403
            assert headers['Content-Type'] == 'application/json'
            assert headers['OpenStack-API-Version'] == 'volume 3.44'
            assert headers['Vary'] == 'OpenStack-API-Version'
            fault = body['forbidden']
            assert fault['code'] == 403
            assert 'openstack server add volume' in fault['message']
            assert 'os-volume_attachments' in fault['message']
            assert fault['reason'] == 'server-lacks-volume'
        # No oracle: a server that is not there, or not the caller's, answers
        # as one without the volume.
        assert answers[0] == answers[1]

    def test_only_an_admin_restores_a_record(self, make: Make) -> None:
        cloud = make(HAS_IT)
        assert cloud('POST', ACTION, attach())[0] == 403
        assert cloud('POST', ACTION, attach(), **ADMIN)[0] == 202
        assert cloud.nova.queried[:2] == [
            fakes.SERVER,
            f'{fakes.SERVER} {fakes.VOLUME}',
        ]
        for world in (
            {},
            {'has': HAS_IT, 'attachments': BY_HOST},
            {'has': LIVE['has']},
            {'has': HAS_IT, 'volume': {fakes.MIGRATION: 'migrating'}},
        ):
            cloud = make(**world)
            assert cloud('POST', ACTION, attach(), **ADMIN)[0] == 403

    def test_only_an_admin_clears_what_is_in_use_by_nothing(
        self, make: Make
    ) -> None:
        for asked in (*CLEARING, *CONSUMING):
            if 'attachment_id' in str(asked):
                continue
            cloud = make(volume={'status': 'in-use'})
            status, _headers, body = cloud(*asked)
            assert status == 403
            assert body['forbidden']['reason'] == 'no-attachment'
            clears = asked in CLEARING or 'os-unreserve' in str(asked)
            assert cloud(*asked, **ADMIN)[0] == (202 if clears else 403)

    def test_creates_no_attachment_of_a_server(self, make: Make) -> None:
        cloud = make(HAS_IT)
        for volume in (fakes.VOLUME, fakes.UNKNOWN_ID, 'x'):
            body = create()
            body['attachment']['volume_uuid'] = volume
            status, _headers, answer = cloud('POST', ATTACHMENTS, body)
            assert status == 403
            assert answer['forbidden']['reason'] == 'names-server'
        assert cloud.cinder.calls == []
        assert cloud.nova.queried == []

    @pytest.mark.parametrize(
        ('asked', 'reason'),
        [
            (action('os-attach', host_name='h'), 'no-server'),
            (action('os-reimage', image_id='x'), 'policy'),
            (action('os-detach', attachment_id=fakes.UNKNOWN_ID), None),
        ],
        ids=name_of,
    )
    def test_may_never(
        self, make: Make, asked: Any, reason: str | None
    ) -> None:
        cloud = make(attachments=BY_HOST)
        status, _headers, body = cloud(*asked, **ADMIN)
        assert status == 403
        assert body['forbidden']['reason'] == (reason or 'other-volume')
        assert cloud.cinder.performed == []
        assert cloud.nova.queried == []

    @pytest.mark.parametrize(
        'name',
        ['os-force_detach', 'os-reset_status', 'os-migrate_volume_completion'],
    )
    def test_operations_left_to_cinders_own_policy(
        self, make: Make, name: str
    ) -> None:
        cloud = make(**LIVE)
        assert cloud(*action(name))[0] == 202
        assert cloud.cinder.calls == cloud.cinder.performed
        assert cloud.nova.queried == []


class TestServerOfAnotherProject:
    """Nova responds with 404 about a server that it does not show."""

    @pytest.fixture
    def blind(self, make: Make) -> Callable[..., Guarded]:
        def blind(**world: Any) -> Guarded:
            cloud = make(**world)
            cloud.nova.visibility = nova_client.Visibility.SOME_PROJECTS
            cloud.nova.servers.clear()
            return cloud

        return blind

    @pytest.mark.parametrize('asked', [DELETE, *CLEARING], ids=name_of)
    def test_is_not_gone(
        self, blind: Callable[..., Guarded], asked: Any
    ) -> None:
        cloud = blind(attachments=BY_SERVER, on_nova_error='allow')
        status, headers, body = cloud(*asked)
        assert (status, headers['Retry-After']) == (503, '5')
        assert body['serviceUnavailable']['reason'] == 'server-unseen'
        assert cloud.cinder.performed == []

    def test_is_gone_if_it_was_never_connected(
        self, blind: Callable[..., Guarded]
    ) -> None:
        cloud = blind(attachments=BY_SERVER, connected=False)
        for asked in (DELETE, *CLEARING):
            assert cloud(*asked)[0] == 202

    def test_is_gone_for_credentials_that_see_every_project(
        self, make: Make
    ) -> None:
        cloud = make(attachments=BY_SERVER)
        cloud.nova.servers.clear()
        for asked in (DELETE, *CLEARING):
            assert cloud(*asked)[0] == 202


class TestVolumeOfAnotherProject:
    """Nobody makes the guard query Nova about a volume that is not shown."""

    @pytest.fixture
    def hidden(self, make: Make) -> Callable[..., Guarded]:
        def hidden(**world: Any) -> Guarded:
            cloud = make(**{**LIVE, **world})
            cloud.cinder.volume['os-vol-tenant-attr:tenant_id'] = 'another'
            cloud.cinder.hides_volume = True
            cloud.extra = {'cinder.context': fakes.Context()}
            return cloud

        return hidden

    @pytest.mark.parametrize(
        'asked',
        [
            ('POST', ACTION, attach()),
            action('os-roll_detaching'),
            action('os-reimage'),
            *CLEARING,
            *CONSUMING,
            *TRANSFERS,
            # Cinder 29.0.0 shows attachments of other projects.
            DELETE,
            UPDATE,
            COMPLETE,
        ],
        ids=name_of,
    )
    def test_is_not_there(
        self, hidden: Callable[..., Guarded], asked: Any
    ) -> None:
        for world in (
            {},
            {'attachments': MANY},
            {
                'status': 'reserved',
                'volume': {'updated_at': '2999-01-01T00:00:00'},
            },
        ):
            cloud = hidden(**world)
            named = asked[1].endswith(fakes.ATTACHMENT) or asked is COMPLETE
            if named and 'attachments' in world:
                continue
            status, _headers, body = cloud(*asked)
            assert (status, list(body)) == (404, ['itemNotFound'])
            assert cloud.nova.queried == []
            assert cloud.cinder.performed == []

    def test_is_not_there_without_a_project(
        self, hidden: Callable[..., Guarded]
    ) -> None:
        """A token of no project: the project's list would have all."""
        nobody = _user_plugin.UserAuthPlugin(fakes.token(project=None), None)
        for asked in (DELETE, UPDATE, COMPLETE):
            cloud = hidden()
            cloud.extra['keystone.token_auth'] = nobody
            status, _headers, body = cloud(*asked)
            assert (status, list(body)) == (404, ['itemNotFound'])
            assert cloud.nova.queried == []

    def test_is_not_unknown(self, hidden: Callable[..., Guarded]) -> None:
        cloud = hidden()
        cloud.cinder.fails = lambda method, path: (
            500 if path.endswith('detail') else None
        )
        for asked in (*CLEARING, *CONSUMING):
            assert cloud(*asked)[0] == 404

    def test_is_there_for_an_admin(
        self, hidden: Callable[..., Guarded]
    ) -> None:
        cloud = hidden()
        cloud.cinder.hides_volume = False
        for asked in (DELETE, *CLEARING):
            assert cloud(*asked, **ADMIN)[0] == 409


class TestManyAttachments:
    """A volume with more attachments than a page."""

    def test_too_many_servers_are_refused_without_a_query(
        self, make: Make
    ) -> None:
        for rules in (None, {'attachguard:os-detach': 'not nova:idle'}):
            cloud = make(attachments=MANY, rules=rules)
            status, _headers, body = cloud('POST', ACTION, DETACH)
            assert status == 403
            assert body['forbidden']['reason'] == 'too-many-servers'
            assert cloud.nova.queried == []
            # One page, and the volume as the caller sees it.
            assert cloud.cinder.reads == 2

    def test_of_few_servers_are_read_to_the_end(self, make: Make) -> None:
        many = [(id_, fakes.OTHER_SERVER) for id_, _server in MANY]
        cloud = make(HAS_IT, [*many, *BY_SERVER])
        assert cloud('POST', ACTION, DETACH)[0] == 409
        assert cloud.nova.queried == [fakes.OTHER_SERVER, fakes.SERVER]
        # An attachment is judged by itself.
        path = ATTACHMENT.replace(fakes.ATTACHMENT, many[0][0])
        cloud.cinder.calls.clear()
        assert cloud('DELETE', path)[0] == 202
        assert cloud.cinder.reads == 2

    def test_are_unknown_after_the_deadline(self, make: Make) -> None:
        many = [(id_, None) for id_, _server in MANY]
        cloud = make(attachments=many)
        cloud.nova.deadline = 0.0
        status, _headers, body = cloud('POST', ACTION, DETACH)
        assert status == 503
        assert body['serviceUnavailable']['reason'] == 'cinder-unknown'


class TestService:
    """A service is allowed without any query."""

    @pytest.mark.parametrize(
        ('method', 'path', 'body'),
        [
            ('POST', ACTION, attach()),
            ('POST', ATTACHMENTS, create()),
            ('DELETE', ATTACHMENT, None),
            ('POST', ACTION, {'os-detach': {}}),
            action('os-reimage'),
            *TRANSFERS,
        ],
    )
    @pytest.mark.parametrize(
        'who', [{'service_roles': ['service']}, {'roles': ['service']}]
    )
    def test_is_allowed(
        self, make: Make, method: str, path: str, body: Any, who: Any
    ) -> None:
        cloud = make(attachments=BY_SERVER)
        assert cloud(method, path, body, **who)[0] == 202
        assert len(cloud.cinder.calls) == 1
        assert cloud.nova.queried == []

    def test_is_not_a_user_who_sends_a_token_twice(self, make: Make) -> None:
        cloud = make()
        assert (
            cloud('POST', ACTION, attach(), service_roles=['member'])[0] == 403
        )

    def test_is_not_a_caller_who_only_sends_headers(self, make: Make) -> None:
        cloud = make()
        forged = {
            'HTTP_X_SERVICE_ROLES': 'service',
            'HTTP_X_SERVICE_IDENTITY_STATUS': 'Confirmed',
            'HTTP_X_SERVICE_TOKEN': 'x',
            'HTTP_X_ROLES': 'service',
        }
        assert cloud('POST', ACTION, attach(), **forged)[0] == 403

    @pytest.mark.parametrize('status', ['Invalid', None])
    def test_is_not_an_unconfirmed_service_token(
        self, make: Make, status: str | None
    ) -> None:
        cloud = make()
        answer = cloud(
            'POST',
            ACTION,
            attach(),
            service_roles=['service'],
            HTTP_X_SERVICE_IDENTITY_STATUS=status,
        )
        assert answer[0] == 403

    def test_can_be_restricted_to_one_user(self, make: Make) -> None:
        pinned = 'service_roles:service and service_user_id:0000'
        cloud = make(rules={'attachguard:service': pinned})
        who = {'service_roles': ['service']}
        assert cloud('POST', ACTION, attach(), **who)[0] == 403
        pinned = f'service_roles:service and service_user_id:{fakes.USER}'
        cloud = make(rules={'attachguard:service': pinned})
        assert cloud('POST', ACTION, attach(), **who)[0] == 202


class TestBeforeAuthToken:
    """The filter is in front of auth_token."""

    FORGED = {
        'keystone.token_auth': None,
        'HTTP_X_IDENTITY_STATUS': 'Confirmed',
        'HTTP_X_SERVICE_IDENTITY_STATUS': 'Confirmed',
        'HTTP_X_SERVICE_ROLES': 'service',
        'HTTP_X_ROLES': 'admin,service',
    }

    def test_a_guarded_request_is_refused(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = make(HAS_IT)
        status, _headers, body = cloud('POST', ACTION, attach(), **self.FORGED)
        assert status == 403
        assert body['forbidden']['reason'] == 'not-authenticated'
        assert cloud.cinder.calls == []
        assert cloud.nova.queried == []
        assert 'put attachguard after authtoken' in caplog.text

    def test_an_invalid_token_is_refused(self, make: Make) -> None:
        cloud = make(HAS_IT)
        invalid = {'HTTP_X_IDENTITY_STATUS': 'Invalid'}
        assert cloud('POST', ACTION, attach(), **invalid)[0] == 403
        assert cloud.cinder.calls == []

    def test_other_requests_are_forwarded(self, make: Make) -> None:
        cloud = make()
        cloud('GET', ATTACHMENTS, **self.FORGED)
        cloud('POST', ACTION, {'os-extend': {}}, **self.FORGED)
        assert len(cloud.cinder.calls) == 2

    def test_noauth_trusts_the_headers(self, make: Make) -> None:
        cloud = make(auth_strategy='noauth')
        assert cloud('POST', ACTION, attach(), **self.FORGED)[0] == 202
        plain = {'keystone.token_auth': None}
        assert cloud('POST', ACTION, attach(), **plain)[0] == 403


class TestCinderResponses:
    """What Cinder does not show is its own 404."""

    def test_missing_volume(self, make: Make) -> None:
        cloud = make()
        path = ACTION.replace(fakes.VOLUME, fakes.UNKNOWN_ID)
        status, headers, body = cloud('POST', path, attach())
        assert (status, list(body)) == (404, ['itemNotFound'])
        assert headers['OpenStack-API-Version'] == 'volume 3.44'
        assert cloud.nova.queried == []
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize(
        'body',
        [
            {'os-attach': {'host_name': 'h', 'mountpoint': 'm'}},
            {'os-reserve': None},
        ],
    )
    def test_missing_volume_that_the_rule_does_not_read(
        self, make: Make, body: Any
    ) -> None:
        cloud = make(rules={'attachguard:os-reserve': '!'})
        path = ACTION.replace(fakes.VOLUME, fakes.UNKNOWN_ID)
        assert cloud('POST', path, body)[0] == 404
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize('name', ['detail', 'summary'])
    def test_id_that_is_the_name_of_another_route(
        self, make: Make, name: str
    ) -> None:
        cloud = make()
        path = ACTION.replace(fakes.VOLUME, name)
        assert cloud('POST', path, attach())[0] == 404
        assert cloud('DELETE', f'{ATTACHMENTS}/{name}')[0] == 404
        assert cloud('PUT', f'{ATTACHMENTS}/{name}', {})[0] == 404

    def test_missing_attachment(self, make: Make) -> None:
        cloud = make()
        assert cloud('DELETE', ATTACHMENT)[0] == 404
        assert cloud('POST', f'{ATTACHMENT}/action', {'os-complete': 1})[
            0
        ] == (404)
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize('status', [500, 503, 302])
    def test_failed_read_is_503(self, make: Make, status: int) -> None:
        cloud = make()
        cloud.cinder.fails = lambda method, path: (
            status if method == 'GET' else None
        )
        answer, headers, body = cloud('POST', ACTION, attach())
        assert answer == 503
        assert headers['Retry-After'] == '5'
        assert body['serviceUnavailable']['reason'] == 'cinder-unknown'

    def test_exception_of_cinder_is_503(self, make: Make) -> None:
        cloud = make()

        def fail(*_: Any) -> int:
            raise RuntimeError

        cloud.cinder.fails = fail
        assert cloud('POST', ACTION, attach())[0] == 503

    def test_reads_are_made_as_the_caller(self, make: Make) -> None:
        cloud = make()
        seen: list[Any] = []

        def record(environ: Any, start_response: Any) -> Any:
            seen.append(dict(environ))
            return cloud.cinder(environ, start_response)

        cloud.guard.application = record
        cloud('POST', ACTION, {'os-reimage': {}}, QUERY_STRING='x=1')
        cloud('POST', ACTION, DETACH, QUERY_STRING='x=1')
        read, listed, *_more = seen
        assert read['QUERY_STRING'] == ''
        assert listed['QUERY_STRING'].startswith('volume_id=')
        # So that an unsupported microversion gets Cinder's own response.
        assert read['HTTP_OPENSTACK_API_VERSION'] == 'volume 3.44'
        assert listed['HTTP_OPENSTACK_API_VERSION'] == 'volume 3.27'
        for environ in seen[:-1]:
            assert 'CONTENT_TYPE' not in environ
            assert environ['HTTP_X_AUTH_TOKEN'] == 'secret-token'
            assert environ['keystone.token_auth']

    def test_every_response_is_closed(self, make: Make) -> None:
        cloud = make(attachments=BY_SERVER)
        opened: list[Closing] = []

        def application(environ: Any, start_response: Any) -> Any:
            opened.append(Closing(cloud.cinder(environ, start_response)))
            return opened[-1]

        cloud.guard.application = application
        missing = f'{ATTACHMENTS}/{fakes.UNKNOWN_ID}'
        assert cloud('DELETE', missing)[0] == 404
        assert cloud('POST', ACTION, attach())[0] == 403
        assert cloud('POST', ACTION, DETACH)[0] == 202
        # The last one is the forwarded request's, which the server closes.
        assert [item.closed for item in opened] == [1] * (len(opened) - 1) + [
            0
        ]
        assert len(opened) >= 5


class Closing(list[bytes]):
    """A response that counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_head_with_method_override_is_refused(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cloud = make()
    extra = {'QUERY_STRING': '_method=POST'}
    status, _headers, answer = cloud('HEAD', ACTION, attach(), **extra)
    assert (status, answer) == (403, None)
    assert '"reason": "server-lacks-volume"' in caplog.text
    assert cloud.cinder.performed == []


class TestNovaUnknown:
    """Nova is down, slow or sends an invalid response."""

    def test_is_503(self, make: Make) -> None:
        for body, attachments in ((attach(), []), (DETACH, BY_SERVER)):
            cloud = make(HAS_IT, attachments, retry_after=7)
            cloud.nova.down = True
            status, headers, answer = cloud('POST', ACTION, body)
            assert status == 503
            assert headers['Retry-After'] == '7'
            assert headers['OpenStack-API-Version'] == 'volume 3.44'
            assert answer['serviceUnavailable']['reason'] == 'nova-unknown'
            assert 'down' not in answer['serviceUnavailable']['message']
            assert cloud.cinder.performed == []

    def test_can_be_allowed(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = make(on_nova_error='allow', **LIVE)
        cloud.nova.down = True
        assert cloud('POST', ACTION, DETACH)[0] == 202
        assert '"verdict": "unknown"' in caplog.text
        # What a caller can cause, such as 429, is not an outage of Nova.
        cloud.nova.outage = False
        status, headers, _answer = cloud('POST', ACTION, DETACH)
        assert (status, headers['Retry-After']) == (503, '5')
        # A response of Nova still decides.
        cloud.nova.down = False
        assert cloud('POST', ACTION, DETACH)[0] == 409

    def test_does_not_affect_requests_that_need_no_query(
        self, make: Make
    ) -> None:
        cloud = make(attachments=BY_HOST)
        cloud.nova.down = True
        service = {'service_roles': ['service']}
        assert cloud('POST', ACTION, attach(), **service)[0] == 202
        assert cloud('POST', ACTION, {'os-reserve': None})[0] == 202
        assert cloud('POST', ACTION, DETACH)[0] == 202
        assert cloud.nova.queried == []

    def test_the_first_unknown_ends_the_queries(self, make: Make) -> None:
        cloud = make(attachments=MANY[:10])
        cloud.nova.down = True
        assert cloud('POST', ACTION, {'os-begin_detaching': 0})[0] == 503
        assert len(cloud.nova.queried) == 1


class TestFailure:
    """A defect of the guard itself."""

    @pytest.fixture
    def broken(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., Guarded]:
        def broken(**options: Any) -> Guarded:
            cloud = make(HAS_IT, **options)

            def check(*_: Any) -> bool:
                raise TypeError('surprise')

            monkeypatch.setattr(cloud.guard.policy, 'check', check)
            return cloud

        return broken

    def test_is_503_and_not_500(
        self,
        broken: Callable[..., Guarded],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        cloud = broken(on_nova_error='allow')
        status, _headers, body = cloud('POST', ACTION, attach())
        assert status == 503
        assert body['serviceUnavailable']['reason'] == 'guard-failed'
        assert 'surprise' not in str(body)
        assert 'surprise' in caplog.text
        assert cloud.cinder.performed == []

    def test_is_forwarded_in_shadow_mode(
        self, broken: Callable[..., Guarded]
    ) -> None:
        assert broken(enforce='false')('POST', ACTION, attach())[0] == 202


class TestShadowMode:
    """The filter decides and logs, and forwards everything."""

    def test_forwards_and_logs_what_would_be_refused(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = make(enforce='false')
        assert cloud('POST', ACTION, attach())[0] == 202
        assert '"verdict": "refused"' in caplog.text
        assert '"enforced": false' in caplog.text
        assert cloud('POST', ACTION, b'{"os-attach":')[0] == 202
        assert cloud.cinder.performed[-1] == ('POST', ACTION, b'{"os-attach":')


class TestBadInput:
    """Invalid input gets a clear response."""

    @pytest.mark.parametrize(
        'body',
        [
            b'',
            b'{',
            b'\xff' * 100,
            b'{"os-attach": "\xff"}',
            b'{"os-attach": {}, "os-detach": {}}',
            b'{"os-attach": ' + b'{"a":' * 5000,
            b'{"os-attach": ' + b'[' * 5000 + b']' * 5000 + b'}',
            b'{"os-attach": ' * 2,
        ],
        ids=range(8),
    )
    def test_unreadable_body_is_400(self, make: Make, body: bytes) -> None:
        cloud = make(HAS_IT)
        status, _headers, answer = cloud('POST', ACTION, body)
        assert (status, list(answer)) == (400, ['badRequest'])
        assert cloud.cinder.performed == []

    @pytest.mark.parametrize(
        'value',
        [None, 1, 1.5, True, 'x', [], [[]], [attach()], {}, {'a': {}}],
        ids=str,
    )
    def test_values_of_the_wrong_type_are_not_performed(
        self, make: Make, value: Any
    ) -> None:
        # Naming no server is open, so that Cinder would answer.
        closed = {'attachguard:attachment-create:no-server': '!'}
        cloud = make(HAS_IT, rules=closed)
        for method, path, body in (
            ('POST', ACTION, {'os-attach': value}),
            ('POST', ACTION, {'os-attach': {'instance_uuid': value}}),
            ('POST', ATTACHMENTS, {'attachment': value}),
            ('POST', ATTACHMENTS, {'attachment': {'instance_uuid': value}}),
            ('POST', ATTACHMENTS, {'attachment': {'volume_uuid': value}}),
            ('POST', ATTACHMENTS, value),
        ):
            assert cloud(method, path, body)[0] in (400, 403)
        assert cloud.cinder.performed == []

    def test_body_of_one_megabyte(self, make: Make) -> None:
        cloud = make()
        body = {'os-detach': {'padding': 'x' * 1_000_000}}
        assert cloud('POST', ACTION, body)[0] == 202
        body['os-detach']['padding'] *= 2
        status, _headers, answer = cloud('POST', ACTION, body)
        assert (status, list(answer)) == (413, ['overLimit'])

    def test_content_length_longer_than_the_body(self, make: Make) -> None:
        cloud = make(HAS_IT)
        length = {'CONTENT_LENGTH': '10000'}
        assert cloud('POST', ACTION, attach(), **length)[0] == 400
        assert cloud.cinder.calls == []

    def test_limit_of_the_sizelimit_filter(self, make: Make) -> None:
        class Limited(io.BytesIO):
            def read(self, *_: Any) -> bytes:
                raise webob.exc.HTTPRequestEntityTooLarge()

        cloud = make()
        source = {'wsgi.input': Limited(), 'HTTP_ACCEPT': 'application/json'}
        assert cloud('POST', ACTION, attach(), **source)[0] == 413

    @pytest.mark.parametrize(
        'server',
        [
            '../x?y',
            f'{fakes.SERVER}/../{fakes.OTHER_SERVER}',
            f'{fakes.SERVER}\n',
            f'{fakes.SERVER}%0a',
            'x' * 10_000,
            '',
            'None',
        ],
        ids=range(7),
    )
    def test_invalid_server_id_is_never_sent_to_nova(
        self, make: Make, server: str
    ) -> None:
        cloud = make(HAS_IT)
        assert cloud('POST', ACTION, attach(server))[0] == 403
        assert cloud('POST', ATTACHMENTS, create(server))[0] == 403
        assert cloud.nova.queried == []

    # From the limit to where the parser itself fails.
    @pytest.mark.parametrize('depths', [[49, 50, 60], range(850, 1000)])
    def test_deeply_nested_body_is_not_performed(
        self, make: Make, depths: Any
    ) -> None:
        cloud = make()
        for depth in depths:
            connector = b'{"a":' * depth + b'1' + b'}' * depth
            raw = b'{"attachment": {"volume_uuid": "%s", "connector": %s}}'
            body = raw % (fakes.VOLUME.encode(), connector)
            assert cloud('POST', ATTACHMENTS, body)[0] == 400
        assert fakes.VOLUME not in str(cloud.cinder.calls)

    def test_attachment_id_in_a_body_is_never_part_of_a_path(
        self, make: Make
    ) -> None:
        rule = "'reserved':%(attachment_status)s"
        cloud = make(rules={'attachguard:os-detach': rule})
        body = {'os-detach': {'attachment_id': '../../x?a=b'}}
        assert cloud('POST', ACTION, body)[0] == 403
        assert '..' not in str([call[1] for call in cloud.cinder.calls])

    def test_volume_id_in_a_body_is_never_part_of_a_path(
        self, make: Make
    ) -> None:
        cloud = make(HAS_IT)
        body = create(None)
        body['attachment']['volume_uuid'] = f'x/../{fakes.VOLUME}'
        assert cloud('POST', ATTACHMENTS, body)[0] == 400
        assert cloud.cinder.calls == []

    def test_path_that_is_not_utf8_is_400(self, make: Make) -> None:
        cloud = make()
        path = ACTION.replace(fakes.VOLUME, '\xff')
        assert cloud('POST', path, attach())[0] == 400
        assert cloud('DELETE', f'{ATTACHMENTS}/\xff')[0] == 400
        assert cloud('DELETE', f'{ATTACHMENTS}/\u1234')[0] == 400

    @pytest.mark.parametrize('id_', ['%2e', 'a\nb', 'x' * 10_000, ' '])
    def test_unusual_id_gets_the_404_of_cinder(
        self, make: Make, id_: str
    ) -> None:
        cloud = make()
        path = ACTION.replace(fakes.VOLUME, id_)
        assert cloud('POST', path, attach())[0] == 404
        assert cloud('DELETE', f'{ATTACHMENTS}/{id_}')[0] == 404

    def test_headers_may_be_none(self, make: Make) -> None:
        cloud = make()
        nothing = {
            'HTTP_X_SERVICE_ROLES': None,
            'HTTP_X_SERVICE_USER_ID': None,
            'HTTP_X_ROLES': None,
        }
        assert cloud('POST', ACTION, attach(), **nothing)[0] == 403

    def test_another_form_of_a_server_id_is_the_same_server(
        self, make: Make
    ) -> None:
        cloud = make(HAS_IT)
        for server in (
            fakes.SERVER.upper(),
            f'{{{fakes.SERVER}}}',
            f'urn:uuid:{fakes.SERVER}',
        ):
            assert cloud('POST', ACTION, attach(server), **ADMIN)[0] == 202
        assert {query.split()[0] for query in cloud.nova.queried} == {
            fakes.SERVER
        }


class TestTheRules:
    """Rules that an operator changes."""

    def test_a_rule_can_be_opened_for_one_project(self, make: Make) -> None:
        rule = 'attachguard:os-attach:no-server'
        body = {'os-attach': {'host_name': 'h', 'mountpoint': 'm'}}
        cloud = make(rules={rule: f'project_id:{fakes.PROJECT}'})
        assert cloud('POST', ACTION, body)[0] == 202
        cloud = make(rules={rule: 'project_id:x'})
        assert cloud('POST', ACTION, body)[0] == 403

    def test_a_rule_can_be_closed(self, make: Make) -> None:
        cloud = make(rules={'attachguard:os-reserve': '!'})
        status, _headers, body = cloud('POST', ACTION, {'os-reserve': None})
        assert (status, body['forbidden']['reason']) == (403, 'policy')

    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('volume_id', fakes.VOLUME),
            ('server_id', fakes.SERVER),
            ('host', 'h'),
            ('project_id', fakes.PROJECT),
            ('operation', 'os-attach'),
        ],
    )
    def test_a_rule_reads_the_target(
        self, make: Make, key: str, value: str
    ) -> None:
        cloud = make(
            rules={'attachguard:os-attach': f"'{value}':%({key})s"},
        )
        body = attach(host_name='h')
        assert cloud('POST', ACTION, body)[0] == 202
        cloud = make(rules={'attachguard:os-attach': f"'other':%({key})s"})
        assert cloud('POST', ACTION, body)[0] == 403


def test_a_forwarded_request_is_unchanged(make: Make) -> None:
    cloud = make(HAS_IT)
    seen: list[dict[str, Any]] = []

    def record(environ: Any, start_response: Any) -> Any:
        seen.append(dict(environ))
        return fakes.FakeCinder.__call__(cloud.cinder, environ, start_response)

    cloud.guard.application = record
    extra = {'QUERY_STRING': 'a=b', 'HTTP_X_OTHER': 'y'}
    before = fakes.environ('POST', ACTION, attach(), **extra)
    cloud('POST', ACTION, attach(), **extra, **ADMIN)
    after = seen[-1]
    assert set(after) == set(before)
    for name in set(before) - {'wsgi.input', 'keystone.token_auth'}:
        assert after[name] == before[name]


def test_no_token_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud = make(HAS_IT, BY_SERVER)
    cloud('POST', ACTION, attach())
    cloud('POST', ACTION, {'os-detach': {}})
    cloud.nova.down = True
    cloud('POST', ACTION, attach())
    assert 'attachguard decision' in caplog.text
    assert 'secret' not in caplog.text


def test_options_of_one_section_do_not_apply_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cinder = fakes.FakeCinder()
    shadow = attachguard_filter.filter_factory({}, enforce='false')
    normal = attachguard_filter.filter_factory({})
    enforcing = []
    for factory in (shadow, normal, shadow):
        caplog.clear()
        factory(cinder)
        enforcing.append('enforce=true' in caplog.text)
    assert enforcing == [False, True, False]


def test_paste_file_can_name_project_and_configuration_file(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / 'other.conf'
    file.write_text('[attachguard]\nenforce = false\n')
    attachguard_filter.filter_factory(
        {},
        oslo_config_project='cinder',
        oslo_config_file=str(file),
        retry_after='8',
    )(fakes.FakeCinder())
    assert 'enforce=false' in caplog.text


class TestRollout:
    """What happens to a request that a rule refuses, in each mode."""

    def test_a_warned_caller_gets_a_header(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = make(rule_modes='os-attach=warn')
        status, headers, _body = cloud('POST', ACTION, attach())
        assert status == 202
        assert headers['Warning'].startswith(
            '299 attachguard "The server does not have this volume. '
        )
        assert headers['Warning'].endswith(
            '(attachguard: server-lacks-volume)"'
        )
        # Quotes within the text are escaped.
        assert '\\"openstack server add volume' in headers['Warning']
        assert len(cloud.cinder.performed) == 1
        assert '"enforced": false, "mode": "warn"' in caplog.text
        # The rule of another operation.
        status, headers, _body = cloud('POST', ATTACHMENTS, create())
        assert status == 403
        assert 'Warning' not in headers

    def test_a_caller_is_warned_of_what_cannot_be_verified(
        self, make: Make
    ) -> None:
        cloud = make(**LIVE, rule_modes='*=warn')
        cloud.nova.down = True
        status, headers, _body = cloud(*DELETE)
        assert status == 202
        assert 'Cannot verify' in headers['Warning']

    def test_nobody_is_warned_of_what_is_allowed(self, make: Make) -> None:
        cloud = make(rule_modes='*=warn')
        status, headers, _body = cloud(*DELETE)
        assert (status, headers.get('Warning')) == (202, None)
        # Nor of what Cinder itself refuses.
        _status, headers, _body = cloud('POST', ACTION, b'{"os-attach":')
        assert headers.get('Warning') is None

    def test_shadow_mode_is_not_visible(self, make: Make) -> None:
        cloud = make(enforce='false', rule_modes='os-attach=warn')
        status, headers, _body = cloud('POST', ACTION, attach())
        assert (status, headers.get('Warning')) == (202, None)

    def test_a_rule_that_is_off_costs_nothing(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        cloud = make(**LIVE, rule_modes='attachment-delete=off')
        assert cloud(*DELETE)[0] == 202
        assert cloud.cinder.reads == 0
        assert cloud.nova.queried == []
        assert 'attachguard decision' not in caplog.text

    def test_a_body_that_is_too_large_is_refused_in_every_mode(
        self, make: Make
    ) -> None:
        cloud = make(rule_modes='*=warn', max_body_size=1024)
        body = {'os-attach': {'mountpoint': 'x' * 2000}}
        assert cloud('POST', ACTION, body)[0] == 413
