# SPDX-License-Identifier: Apache-2.0

"""The guard in Cinder's pipeline, over HTTP, with the real clients.

PasteDeploy loads the shipped paste file in a separate process, with the real
auth_token and keystonecontext, before the real Cinder and before the stub.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import http.client
import json
import pathlib
import re
import time
from typing import Any
from typing import NamedTuple
import uuid

from cinderclient import exceptions as cinder_exceptions
import pytest
import requests

from attachguard import filter as attachguard_filter
from attachguard import opts
from attachguard.testing import embedded
from attachguard.testing import stub_cloud

# Shorter than the delays of these tests, longer than all other requests.
NOVA_TIMEOUT = 3

# Seconds that the circuit breaker stays open.
BREAKER_SECONDS = 1

HOST_ATTACH = b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'


def server_attach() -> dict[str, Any]:
    """Make the body of os-attach for a random server."""
    server_id = str(uuid.uuid4())
    return {'os-attach': {'instance_uuid': server_id, 'mountpoint': 'vdb'}}


def reservation(volume: Any) -> dict[str, Any]:
    """Make the body of attachment-create for a random server."""
    ids = {'volume_uuid': volume.id, 'instance_uuid': str(uuid.uuid4())}
    return {'attachment': ids}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _paste_ini(directory: pathlib.Path, stub: bool) -> pathlib.Path:
    """Write the shipped paste file, with the guard's healthcheck.

    :param stub: with the stub of Cinder, and with the filter loaded by its
        entry point instead of its factory
    """
    backends = 'backends = disable_by_file'
    edits = {backends: f'{backends}, attachguard'}
    if stub:
        edits |= {
            'paste.app_factory = cinder.api.v3.router:APIRouter.factory': (
                'use = egg:attachguard#stub-cinder'
            ),
            'paste.filter_factory = attachguard.filter:filter_factory': (
                'use = egg:attachguard'
            ),
        }
    text = embedded.sample_paste_ini().read_text()
    for old, new in edits.items():
        assert text.count(f'{old}\n') == 1
        text = text.replace(old, new)
    path = directory / 'api-paste-test.ini'
    path.write_text(text)
    return path


class Response(NamedTuple):
    """A response; ``body`` is parsed if it is JSON."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


def refusal(response: Response) -> tuple[int, str]:
    """Return status and reason of a response of the guard."""
    (fault,) = response.body.values()
    assert fault['code'] == response.status
    return response.status, fault['reason']


class Cloud:
    """A cloud with a guarded Cinder, and the volume of the current test."""

    volume: Any

    def __init__(
        self,
        cloud: stub_cloud.StubCloud,
        cinder: embedded.EmbeddedCinder,
        is_real: bool = True,
    ) -> None:
        self.stubs = cloud
        self.embedded = cinder
        self.is_real = is_real
        self.member = cloud.cinderclient('member')
        self.nova = cloud.novaclient('member')

    @property
    def log(self) -> str:
        return self.embedded.log.read_text(errors='replace')

    def add_volume(self) -> None:
        """Create the volume of a test and wait until it is available."""
        self.volume = self.member.volumes.create(1)
        wait_until(lambda: self.status == 'available')

    def server(self) -> Any:
        return self.nova.servers.create(
            'server', image=str(uuid.uuid4()), flavor='1'
        )

    def attach(self) -> tuple[Any, str]:
        """Attach the volume by Nova; return server and attachment id."""
        server = self.server()
        self.nova.volumes.create_server_volume(server.id, self.volume.id)
        assert self.status == 'in-use'
        (attachment,) = self.member.attachments.list()
        return server, attachment.id

    def detach(self, server: Any) -> None:
        """Detach the volume, by Nova."""
        self.nova.volumes.delete_server_volume(server.id, self.volume.id)

    def forge(self) -> tuple[str, str]:
        """Attach the volume to no server; return attachment and server id."""
        body = server_attach()
        response = self.act(body, X_Service_Token=self.token('nova'))
        assert response.status == 202
        (attachment,) = self.member.attachments.list()
        return attachment.id, body['os-attach']['instance_uuid']

    def check_attached_elsewhere(self, expected: tuple[int, str]) -> None:
        """Check that a member cannot clear what an administrator attached.

        :param expected: status and reason of the refusal
        """
        server = self.stubs.nova.add_server(self.stubs.project_id('other'))
        nova = self.stubs.novaclient('admin').volumes
        nova.create_server_volume(server.id, self.volume.id)
        (attachment,) = self.member.attachments.list()
        for response in (
            self.act({'os-detach': {}}),
            self.act({'os-begin_detaching': None}),
            self.send('DELETE', f'/attachments/{attachment.id}'),
        ):
            assert refusal(response) == expected
        nova.delete_server_volume(server.id, self.volume.id)

    @property
    def status(self) -> str:
        return str(self.member.volumes.get(self.volume.id).status)

    def token(self, user: str) -> str:
        return self.stubs.session(user).get_token() or ''

    def break_nova(self, **fault: Any) -> None:
        """Add a fault to Nova, for all requests about servers."""
        self.stubs.nova.faults.add(times=None, path='/servers', **fault)

    def nova_queries(self) -> int:
        """Count the queries about a server to Nova since the last call."""
        count = sum(
            request.method == 'GET' and '/servers/' in request.path
            for request in self.stubs.nova_server.requests
        )
        self.stubs.nova_server.forget()
        return count

    def send(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        **headers: str,
    ) -> Response:
        """Make a request as a member, without a client that changes it.

        :param path: path below the endpoint and the project
        """
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(
            '127.0.0.1', self.embedded.port, timeout=30
        )
        sent = {
            'X-Auth-Token': self.token('member'),
            'OpenStack-API-Version': 'volume 3.44',
            'Content-Type': 'application/json',
            **{name.replace('_', '-'): v for name, v in headers.items()},
        }
        path = f'/v3/{self.stubs.project_id("member")}{path}'
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content: Any = response.read()
        if content and 'json' in (response.headers['Content-Type'] or ''):
            content = json.loads(content)
        return Response(response.status, response.headers, content)

    def act(self, body: bytes | dict[str, Any], **headers: str) -> Response:
        """Make a volume action as a member."""
        path = f'/volumes/{self.volume.id}/action'
        return self.send('POST', path, body, **headers)

    def attach_reason(self) -> tuple[int, str]:
        """Attach the volume; return status and reason of the refusal."""
        return refusal(self.act(server_attach()))

    def health(self) -> requests.Response:
        url = self.embedded.url.removesuffix('/v3') + '/healthcheck'
        headers = {'Accept': 'application/json'}
        return requests.get(url, headers=headers, timeout=30)


@contextlib.contextmanager
def _running(
    directory: pathlib.Path,
    *,
    nova_user: str | None = None,
    cinder_options: dict[str, dict[str, Any]] | None = None,
    is_real: bool = True,
    **kwargs: Any,
) -> Iterator[Cloud]:
    with stub_cloud.StubCloud(cinder=None) as cloud:
        options = dict(cinder_options or {})
        if nova_user is not None:
            options['nova'] = cloud.auth_settings(nova_user)
        with embedded.EmbeddedCinder(
            directory, cloud.keystone_url, cinder_options=options, **kwargs
        ) as cinder:
            cloud.register_cinder(cinder.url)
            yield Cloud(cloud, cinder, is_real)


@pytest.fixture(
    scope='module',
    params=[
        ('real', 'eventlet'),
        ('real', 'threads'),
        pytest.param(('stub', 'threads'), marks=pytest.mark.newest),
    ],
    ids=' '.join,
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    kind, server = request.param
    directory = tmp_path_factory.mktemp('cinder')
    with _running(
        directory,
        paste_ini=_paste_ini(directory, kind == 'stub'),
        server=server,
        guard_options={
            'nova_timeout': NOVA_TIMEOUT,
            'nova_breaker_seconds': BREAKER_SECONDS,
            'settle': 0,
        },
        is_real=kind == 'real',
    ) as cloud:
        yield cloud
        assert 'Traceback' not in cloud.log
        assert cloud.health().status_code == 200
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with pytest.raises(requests.ConnectionError):
        cloud.health()


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """A cloud with a new volume, which is available after the test again."""
    running.add_volume()
    running.nova_queries()
    yield running
    assert running.status == 'available'
    assert running.member.attachments.list() == []


def assert_refused(call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(cinder_exceptions.Forbidden) as caught:
        call(*args, **kwargs)
    assert caught.value.code == 403
    assert 'openstack server add volume' in caught.value.message


def assert_conflict(call: Any, *args: Any) -> None:
    with pytest.raises(cinder_exceptions.ClientException) as caught:
        call(*args)
    assert caught.value.code == 409
    assert 'openstack server remove volume' in caught.value.message


def assert_not_found(
    client: Any, volume: str, server: str, attachment: str
) -> None:
    for call, *args in (
        (client.volumes.attach, volume, server, '/dev/vdb'),
        (client.volumes.detach, volume),
        (client.attachments.create, volume, None),
        (client.transfers.create, volume),
        (client.attachments.update, attachment, {'host': 'h'}),
        (client.attachments.complete, attachment),
        (client.attachments.delete, attachment),
    ):
        with pytest.raises(cinder_exceptions.NotFound):
            call(*args)
    # Whatever the volume is.
    assert_refused(client.attachments.create, volume, None, server)


class TestForgedAttachments:
    """A user cannot attach a volume that Nova did not attach."""

    def test_os_attach_is_refused(self, cloud: Cloud) -> None:
        server = cloud.server()
        attach = cloud.member.volumes.attach
        assert_refused(attach, cloud.volume, server.id, '/dev/vdb')
        assert_refused(attach, cloud.volume, str(uuid.uuid4()), '/dev/vdb')
        assert cloud.nova_queries() == 2
        assert_refused(
            attach, cloud.volume, None, '/dev/vdb', host_name='a-host'
        )
        assert cloud.nova_queries() == 0
        assert cloud.member.volumes.get(cloud.volume.id).attachments == []

    def test_attachment_create_is_refused(self, cloud: Cloud) -> None:
        create = cloud.member.attachments.create
        assert_refused(create, cloud.volume.id, None, str(uuid.uuid4()))
        assert_refused(
            create, cloud.volume.id, {'host': 'h'}, cloud.server().id
        )
        assert cloud.nova_queries() == 0

    def test_completing_a_reservation_is_refused(self, cloud: Cloud) -> None:
        # Like Nova, with the tokens of the member and of the service.
        response = cloud.send(
            'POST',
            '/attachments',
            reservation(cloud.volume),
            X_Service_Token=cloud.token('nova'),
        )
        assert response.status == 200
        attachment = response.body['attachment']['id']
        cloud.nova_queries()
        attachments = cloud.member.attachments
        assert_refused(attachments.complete, attachment)
        assert_refused(attachments.update, attachment, {'host': 'h'})
        assert cloud.status == 'reserved'
        assert cloud.nova_queries() == 0
        attachments.delete(attachment)

    def test_the_response_has_cinders_format(self, cloud: Cloud) -> None:
        body = server_attach()
        responses = [
            cloud.act(body, Accept=accept)
            for accept in ('application/json', 'text/html', '*/*;q=0.1')
        ]
        for status, headers, response in responses:
            assert status == 403
            assert response == responses[0].body
            assert response['forbidden']['code'] == 403
            assert response['forbidden']['reason'] == 'server-lacks-volume'
            assert headers['Content-Type'] == 'application/json'
            assert headers['OpenStack-API-Version'] == 'volume 3.44'
            assert headers['Vary'] == 'OpenStack-API-Version'
            assert headers['x-openstack-request-id'].startswith('req-')
            assert headers['x-compute-request-id'].startswith('req-')


class TestAttachmentsOfNova:
    """Nova attaches and detaches; a user cannot change its attachments."""

    def test_a_call_of_nova_needs_no_query(self, cloud: Cloud) -> None:
        server, _attachment = cloud.attach()
        cloud.detach(server)
        assert cloud.nova_queries() == 0

    def test_a_user_cannot_detach_it(self, cloud: Cloud) -> None:
        server, attachment = cloud.attach()
        cloud.nova_queries()
        member = cloud.member
        for call, *args in (
            (member.volumes.detach, cloud.volume),
            (member.volumes.detach, cloud.volume, attachment),
            (member.volumes.begin_detaching, cloud.volume),
            (member.volumes.terminate_connection, cloud.volume, {'host': 'h'}),
            (member.attachments.delete, attachment),
        ):
            assert_conflict(call, *args)
        # One for each, and one for the id of the attachment.
        assert cloud.nova_queries() == 6
        assert cloud.status == 'in-use'
        cloud.detach(server)

    @pytest.mark.parametrize(
        ('call', 'reason'),
        [
            ({'os-reserve': None}, 'server-has-volume'),
            ({'os-unreserve': None}, 'server-has-volume'),
            (
                {'os-initialize_connection': {'connector': {'host': 'h'}}},
                'server-has-volume',
            ),
            ({'os-reimage': {'image_id': str(uuid.uuid4())}}, 'policy'),
        ],
        ids=lambda call: next(iter(call)),
    )
    def test_a_user_cannot_disturb_it(
        self, cloud: Cloud, call: dict[str, Any], reason: str
    ) -> None:
        server, _attachment = cloud.attach()
        assert refusal(cloud.act(call)) == (403, reason)
        cloud.detach(server)

    def test_a_user_cannot_give_it_away(self, cloud: Cloud) -> None:
        server, _attachment = cloud.attach()
        cloud.nova_queries()
        for path in ('/volume-transfers', '/os-volume-transfer'):
            body = {'transfer': {'volume_id': cloud.volume.id}}
            response = cloud.send('POST', path, body)
            assert refusal(response) == (403, 'has-attachment')
        assert cloud.nova_queries() == 0
        cloud.detach(server)
        transfer = cloud.member.transfers.create(cloud.volume.id)
        cloud.member.transfers.delete(transfer)

    def test_a_volume_of_a_server_that_nova_builds(self, cloud: Cloud) -> None:
        _attachment, server_id = cloud.forge()
        server = cloud.stubs.nova.add_server(
            cloud.stubs.project_id('member'),
            server_id=server_id,
            status='BUILD',
        )
        for _ in range(2):
            response = cloud.act({'os-detach': {}})
            assert refusal(response) == (409, 'server-busy')
            # Or a task is performed on it.
            server.status, server.task_state = 'ACTIVE', 'rebuilding'
        server.task_state = None
        cloud.member.volumes.detach(cloud.volume)

    def test_a_volume_that_cinder_migrates(self, cloud: Cloud) -> None:
        """A member does not see the migration, and the guard does."""
        attachment, _server_id = cloud.forge()
        admin = cloud.stubs.cinderclient('admin')
        admin.volumes.reset_state(
            cloud.volume, None, migration_status='migrating'
        )
        path = f'/attachments/{attachment}'
        for response in (
            cloud.act({'os-detach': {}}),
            cloud.act({'os-detach': {'attachment_id': attachment}}),
            cloud.send('DELETE', path),
        ):
            assert refusal(response) == (409, 'volume-busy')
        admin.volumes.reset_state(cloud.volume, None, migration_status='none')
        cloud.member.volumes.detach(cloud.volume)

    def test_a_server_that_nova_does_not_show(self, cloud: Cloud) -> None:
        """An admin attached the volume to a server of another project."""
        cloud.check_attached_elsewhere((503, 'server-unseen'))

    def test_a_user_cannot_repeat_or_update_it(self, cloud: Cloud) -> None:
        server, attachment = cloud.attach()
        member = cloud.member
        create = member.attachments.create
        assert_refused(create, cloud.volume.id, None, server.id)
        assert_refused(create, cloud.volume.id, {'host': 'h'}, server.id)
        assert_refused(
            member.volumes.attach, cloud.volume, server.id, '/dev/vdc'
        )
        assert_refused(member.attachments.update, attachment, {'host': 'o'})
        assert cloud.status == 'in-use'
        cloud.detach(server)
        assert member.attachments.list() == []

    def test_a_user_can_delete_a_forged_one(self, cloud: Cloud) -> None:
        """It is older than the guard, or Nova was restored from a backup."""
        for detach in (
            lambda attachment: cloud.member.volumes.detach(cloud.volume),
            cloud.member.attachments.delete,
        ):
            attachment, _server_id = cloud.forge()
            assert cloud.status == 'in-use'
            detach(attachment)
            assert cloud.status == 'available'


WITH_VOLUMES = {'delete': {'delete-volumes': True}}
BY_FORCE = {'consistencygroup': {'force': True}}


class TestGroups:
    """The deletion of a group with its volumes, in each of its forms."""

    @pytest.fixture
    def group(self, running: Cloud) -> str:
        """A group with a volume, which is that of the test."""
        if not running.is_real:
            pytest.skip('The stub has no groups')
        types = running.stubs.cinderclient('admin').group_types
        group_type = types.create(str(uuid.uuid4()))
        volume_type = running.member.volume_types.default()
        groups = running.member.groups
        group = groups.create(group_type.id, volume_type.id)
        wait_until(lambda: groups.get(group.id).status == 'available')
        running.volume = running.member.volumes.create(
            1, group_id=group.id, volume_type=volume_type.id
        )
        wait_until(lambda: running.status == 'available')
        return str(group.id)

    @pytest.mark.parametrize(
        ('method', 'path', 'body'),
        [
            ('POST', '/groups/{}/action', WITH_VOLUMES),
            # Cinder's dispatcher finds the action by the method.
            ('DELETE', '/groups/{}', WITH_VOLUMES),
            ('POST', '/consistencygroups/{}/delete', BY_FORCE),
            ('DELETE', '/consistencygroups/{}', BY_FORCE),
        ],
    )
    def test_is_refused_while_nova_attaches_a_volume(
        self,
        running: Cloud,
        group: str,
        method: str,
        path: str,
        body: dict[str, Any],
    ) -> None:
        def delete() -> Response:
            return running.send(method, path.format(group), body)

        nova: Any = {'X_Service_Token': running.token('nova')}
        # As for a shelved server.
        created = running.send(
            'POST', '/attachments', reservation(running.volume), **nova
        )
        assert running.status == 'reserved'
        assert refusal(delete()) == (403, 'has-attachment')
        attachment = f'/attachments/{created.body["attachment"]["id"]}'
        connect = {'attachment': {'connector': {'host': 'h', 'ip': '::1'}}}
        running.send('PUT', attachment, connect, **nova)
        assert running.status == 'attaching'
        assert refusal(delete()) == (403, 'has-attachment')
        running.send('DELETE', attachment, **nova)
        assert running.status == 'available'
        assert delete().status == 202
        volumes = running.member.volumes
        wait_until(lambda: running.volume not in volumes.list())

    def test_of_others_is_not_found(self, running: Cloud, group: str) -> None:
        groups = running.stubs.cinderclient('other').groups
        with pytest.raises(cinder_exceptions.NotFound):
            groups.delete(group, delete_volumes=True)
        running.member.volumes.reserve(running.volume)
        with pytest.raises(cinder_exceptions.NotFound):
            groups.delete(group, delete_volumes=True)
        running.member.volumes.unreserve(running.volume)
        assert running.status == 'available'


class TestCallersWithoutServiceRole:
    def test_attaching_without_a_server_is_allowed(self, cloud: Cloud) -> None:
        """Glance's Cinder store attaches volumes this way."""
        cloud.member.volumes.reserve(cloud.volume)
        cloud.member.volumes.unreserve(cloud.volume)
        attachments = cloud.member.attachments
        attachment = attachments.create(cloud.volume.id, None)['id']
        attachments.update(attachment, {'host': 'glance-host', 'mode': 'rw'})
        attachments.complete(attachment)
        assert cloud.status == 'in-use'
        attachments.delete(attachment)
        assert cloud.nova_queries() == 0

    def test_a_user_cannot_forge_a_service(self, cloud: Cloud) -> None:
        own_token = {'X_Service_Token': cloud.token('member')}
        # With service_token_roles_required, auth_token itself refuses it.
        assert cloud.act(HOST_ATTACH, **own_token).status in (401, 403)
        headers = {
            'X_Service_Roles': 'service',
            'X_Service_Identity_Status': 'Confirmed',
            'X_Roles': 'service',
        }
        assert cloud.act(HOST_ATTACH, **headers).status == 403

    def test_another_project_gets_404(self, cloud: Cloud) -> None:
        server, attachment = cloud.attach()
        other = cloud.stubs.cinderclient('other')
        # Cinder shows attachments of other projects to the owner of a
        # volume.
        other.volumes.create(1)
        assert_not_found(other, cloud.volume.id, server.id, attachment)
        assert cloud.nova_queries() == 0
        cloud.detach(server)

    # Up to 28, Cinder's own policy allows a reader to attach.
    @pytest.mark.parametrize('user', ['admin', 'reader'])
    def test_os_attach_is_refused(self, cloud: Cloud, user: str) -> None:
        attach = cloud.stubs.cinderclient(user).volumes.attach
        with pytest.raises(cinder_exceptions.Forbidden) as caught:
            attach(cloud.volume.id, str(uuid.uuid4()), '/dev/vdb')
        if user == 'admin':
            assert 'openstack server add volume' in caught.value.message


class TestBadRequests:
    """A bad request gets a clear response, and Cinder never performs it."""

    @pytest.mark.parametrize(
        'body',
        [
            b'',
            b'{',
            b'\xff\xfe',
            b'{"os-attach": ' + b'[' * 20_000,
            b'{"os-attach": {}, "os-detach": {}}',
        ],
        ids=range(5),
    )
    def test_an_unreadable_body_is_400(
        self, cloud: Cloud, body: bytes
    ) -> None:
        response = cloud.act(body)
        assert response.status == 400
        assert response.body['badRequest']['code'] == 400

    @pytest.mark.parametrize(
        ('body', 'reason'),
        [
            (b'{"os-attach": {}}', 'no-server'),
            (b'{"os-attach": 1}', 'no-server'),
            (b'{"os-attach": []}', 'no-server'),
            (
                b'{"os-attach": {"instance_uuid": "x", "mountpoint": "m"}}',
                'server-lacks-volume',
            ),
            (
                b'{"os-attach": {"instance_uuid": null, "mountpoint": 1}}',
                'no-server',
            ),
            (b'{"os-attach": {"host_name": "h"}}', 'no-server'),
        ],
        ids=range(6),
    )
    def test_a_refused_call_is_403_whatever_else_is_wrong(
        self, cloud: Cloud, body: bytes, reason: str
    ) -> None:
        response = cloud.act(body)
        assert response.status == 403
        assert response.body['forbidden']['reason'] == reason

    def test_a_connector_nested_too_deeply(self, cloud: Cloud) -> None:
        connector = b'{"a":' * 60 + b'1' + b'}' * 60
        body = json.dumps(reservation(cloud.volume)).encode()
        body = body[:-2] + b', "connector": ' + connector + b'}}'
        assert cloud.send('POST', '/attachments', body).status == 400

    def test_a_body_of_a_megabyte(self, cloud: Cloud) -> None:
        body = b'{"os-attach": "' + b'x' * 1_000_000 + b'"}'
        assert cloud.act(body).status == 413

    @pytest.mark.parametrize(
        'content_type', ['text/plain', 'application/x-www-form-urlencoded']
    )
    def test_a_refused_call_of_another_content_type_is_403(
        self, cloud: Cloud, content_type: str
    ) -> None:
        response = cloud.act(HOST_ATTACH, Content_Type=content_type)
        assert response.status == 403

    def test_an_unsupported_microversion_is_406(self, cloud: Cloud) -> None:
        response = cloud.act(HOST_ATTACH, OpenStack_API_Version='volume 3.999')
        assert response.status == 406

    # The server of eventlet refuses a path of more than 8,192 bytes itself.
    @pytest.mark.parametrize(
        'id_',
        'x %2e%2e a%0ab %ff%fe a%2fb a%5c %00 detail summary'.split()
        + ['x' * 7_000],
        ids=lambda id_: id_[:8],
    )
    def test_a_malformed_id(self, cloud: Cloud, id_: str) -> None:
        for method, path, body in (
            ('POST', f'/volumes/{id_}/action', HOST_ATTACH),
            ('DELETE', f'/attachments/{id_}', None),
            ('POST', f'/attachments/{id_}/action', b'{"os-complete": {}}'),
        ):
            assert 400 <= cloud.send(method, path, body).status < 500

    def test_a_missing_volume_or_attachment(self, cloud: Cloud) -> None:
        missing = str(uuid.uuid4())
        path = f'/volumes/{missing}/action'
        assert cloud.send('POST', path, HOST_ATTACH).status == 404
        assert_not_found(cloud.member, missing, str(uuid.uuid4()), missing)
        assert cloud.nova_queries() == 0


class TestBypass:
    """No form of a request bypasses the guard."""

    @pytest.mark.parametrize(
        ('method', 'path'),
        [
            ('POST', '/volumes/{}/action.json'),
            ('POST', '/volumes/{}/action%0a'),
            ('PUT', '/volumes/{}/action?_method=POST'),
            ('POST', '/volumes/{}/%61ction'),
            ('POST', '/%76olumes/{}/action'),
        ],
    )
    def test_another_path_for_the_same_action(
        self, cloud: Cloud, method: str, path: str
    ) -> None:
        body = HOST_ATTACH.replace(b'os-attach', b'os\\u002dattach')
        response = cloud.send(method, path.format(cloud.volume.id), body)
        if cloud.is_real:
            assert response.status == 403
            assert response.body['forbidden']['reason'] == 'no-server'
        else:
            # The stub does not support all forms that Routes supports.
            assert response.status in (403, 404)

    def test_a_body_in_chunks(self, cloud: Cloud) -> None:
        response = cloud.act(
            b'%x\r\n%s\r\n0\r\n\r\n' % (len(HOST_ATTACH), HOST_ATTACH),
            Transfer_Encoding='chunked',
        )
        # If the server does not set wsgi.input_terminated (eventlet), WebOb
        # reads no body, in the guard and in Cinder.
        assert response.status in (400, 403)


class TestEmbeddedCinder:
    @pytest.fixture(autouse=True)
    def real_cinder(self, cloud: Cloud) -> None:
        if not cloud.is_real:
            pytest.skip('this is no test of the stub')

    def test_a_multiattach_volume(self, cloud: Cloud) -> None:
        created = cloud.member.volumes.create(1, volume_type='multiattach')
        assert cloud.member.volumes.get(created.id).multiattach

    def test_concurrent_requests(self, cloud: Cloud) -> None:
        """SQLite fails if two transactions wait for each other."""
        volumes = cloud.member.volumes
        with futures.ThreadPoolExecutor(8) as pool:
            ids = {v.id for v in pool.map(volumes.create, [1] * 16)}
        available = {'status': 'available'}
        wait_until(
            lambda: ids <= {v.id for v in volumes.list(False, available)}
        )

    def test_the_kind_of_the_server(self, cloud: Cloud) -> None:
        uses_eventlet = 'INFO eventlet.wsgi.server' in cloud.log
        assert uses_eventlet is (cloud.embedded.server == 'eventlet')


class TestNovaFailures:
    """Nova is down, slow, or responds with an error."""

    @pytest.fixture(autouse=True)
    def nova_works_again(self, cloud: Cloud) -> Iterator[None]:
        """Afterwards, end the faults and wait until the breaker is closed."""
        assert cloud.attach_reason() == (403, 'server-lacks-volume')
        cloud.nova_queries()
        yield
        cloud.stubs.nova.faults.clear()
        wait_until(lambda: cloud.attach_reason()[0] == 403)

    @pytest.mark.parametrize(
        'fault',
        [
            {'status': 500},
            {'status': 503, 'headers': {'Retry-After': '99999'}},
            {'status': 429},
            {'status': 401},
            {'status': 403},
            {'status': 404, 'body': '<html>no such page</html>'},
            {'status': 302, 'headers': {'Location': 'http://127.0.0.1:1/'}},
            {'status': 200, 'body': '{'},
            {'status': 200, 'body': '{}'},
            {'status': 200, 'delay': NOVA_TIMEOUT + 5},
        ],
        ids=str,
    )
    def test_the_response_is_503_in_time(
        self, cloud: Cloud, fault: Any
    ) -> None:
        cloud.break_nova(**fault)
        start = time.monotonic()
        response = cloud.act(server_attach())
        assert time.monotonic() - start < NOVA_TIMEOUT + 2
        assert response.status == 503
        assert response.headers['Retry-After'] == '5'
        assert response.headers['OpenStack-API-Version'] == 'volume 3.44'
        error = response.body['serviceUnavailable']
        assert error['reason'] == 'nova-unknown'

    def test_the_breaker_opens_and_closes(self, cloud: Cloud) -> None:
        cloud.break_nova(status=503)
        reasons = [cloud.attach_reason() for _ in range(6)]
        assert reasons == [(503, 'nova-unknown')] * 5 + [(503, 'nova-down')]
        assert cloud.nova_queries() == 5
        health = cloud.health()
        assert health.status_code == 200
        assert 'attachguard: Nova does not respond since' in health.text
        cloud.stubs.nova.faults.clear()
        wait_until(
            lambda: cloud.attach_reason() == (403, 'server-lacks-volume')
        )
        assert 'does not respond' not in cloud.health().text


def test_a_query_is_one_request_on_an_open_connection(cloud: Cloud) -> None:
    server = cloud.server()
    attach = cloud.member.volumes.attach
    # The first call opens the session of the caller and the connection.
    assert_refused(attach, cloud.volume, server.id, '/dev/vdb')
    cloud.stubs.nova_server.forget()
    cloud.stubs.keystone_server.forget()
    connections = cloud.stubs.nova_server.connections
    for _ in range(5):
        assert_refused(attach, cloud.volume, server.id, '/dev/vdb')
    path = f'/v2.1/servers/{server.id}'
    assert [
        (request.method, request.path, request.status)
        for request in cloud.stubs.nova_server.requests
    ] == [('GET', path, 200)] * 5
    assert cloud.stubs.keystone_server.requests == []
    assert cloud.stubs.nova_server.connections == connections


def test_the_filter_knows_every_route_of_this_cinder(running: Cloud) -> None:
    if running.is_real:
        assert 'Unknown to attachguard' not in running.log
        assert re.search(
            r'attachguard covers all routes of this release: routes=\d+',
            running.log,
        )
    else:
        assert "Cinder's router is not right behind attachguard" in running.log


@pytest.fixture(scope='module')
def running_with_other_options(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    auth_token = {'service_token_roles_required': False}
    with _running(
        tmp_path_factory.mktemp('cinder'),
        server='threads',
        nova_user='admin',
        guard_options={'nova_timeout': NOVA_TIMEOUT},
        cinder_options={'keystone_authtoken': auth_token},
    ) as cloud:
        yield cloud


class TestOtherOptions:
    """With the credentials of Cinder, and optional roles of service tokens.

    The latter is the default of the samples of Cinder 22 to 28.
    """

    @pytest.fixture
    def running(self, running_with_other_options: Cloud) -> Cloud:
        return running_with_other_options

    def test_the_credentials_need_one_token(self, cloud: Cloud) -> None:
        server, _attachment = cloud.attach()
        cloud.nova_queries()
        cloud.stubs.keystone_server.forget()
        for _ in range(3):
            assert_conflict(cloud.member.volumes.detach, cloud.volume)
        assert cloud.nova_queries() == 3
        tokens = [
            request
            for request in cloud.stubs.keystone_server.requests
            if request.method == 'POST'
        ]
        assert len(tokens) <= 1
        cloud.detach(server)

    def test_they_show_every_server(self, cloud: Cloud) -> None:
        cloud.check_attached_elsewhere((409, 'server-has-volume'))
        # It was connected, and its server is gone.
        server, attachment = cloud.attach()
        del cloud.stubs.nova.servers[server.id]
        cloud.member.attachments.delete(attachment)
        assert 'Nova shows the servers of every project' in cloud.log

    def test_a_young_reservation_may_be_of_a_server_to_come(
        self, cloud: Cloud
    ) -> None:
        token = cloud.token('nova')
        body = reservation(cloud.volume)
        created = cloud.send(
            'POST', '/attachments', body, X_Service_Token=token
        )
        path = f'/attachments/{created.body["attachment"]["id"]}'
        response = cloud.send('DELETE', path)
        assert refusal(response) == (503, 'attachment-young')
        assert response.headers['Retry-After']
        deleted = cloud.send('DELETE', path, X_Service_Token=token)
        assert deleted.status == 200

    def test_a_service_token_needs_the_role(self, cloud: Cloud) -> None:
        for path, reason, body in (
            (f'/volumes/{cloud.volume.id}/action', 'no-server', HOST_ATTACH),
            ('/attachments', 'names-server', reservation(cloud.volume)),
        ):
            response = cloud.send(
                'POST', path, body, X_Service_Token=cloud.token('member')
            )
            assert response.status == 403
            assert response.body['forbidden']['reason'] == reason


def test_with_enforce_false_a_refusal_is_only_logged(
    tmp_path: pathlib.Path,
) -> None:
    with _running(tmp_path, guard_options={'enforce': 'false'}) as cloud:
        cloud.add_volume()
        server_id = str(uuid.uuid4())
        cloud.member.volumes.attach(cloud.volume, server_id, '/dev/vdb')
        assert cloud.status == 'in-use'
        assert '"verdict": "refused"' in cloud.log
        assert '"enforced": false' in cloud.log


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'enforce': 'maybe'}, r'\[attachguard\] enforce.*Boolean'),
        ({'policy_file': 'gone.yaml'}, 'gone.yaml'),
        ({'auth_type': 'passwort'}, 'passwort'),
        ({'statsd_host': 'nowhere.invalid'}, 'statsd_host'),
    ],
)
def test_a_bad_option_is_an_error_when_the_filter_is_loaded(
    tmp_path: pathlib.Path, options: dict[str, str], message: str
) -> None:
    conf = tmp_path / 'cinder.conf'
    conf.touch()
    factory = attachguard_filter.filter_factory(
        {},
        oslo_config_project='cinder',
        oslo_config_file=str(conf),
        **options,
    )
    with pytest.raises(opts.ConfigError, match=message):
        factory(lambda environ, start_response: [])


def test_cinder_does_not_start_with_a_bad_option(
    tmp_path: pathlib.Path,
) -> None:
    cinder = embedded.EmbeddedCinder(
        tmp_path,
        'http://127.0.0.1:1/v3',
        guard_options={'on_nova_error': 'no-such-option'},
    )
    with pytest.raises(embedded.CinderNotStarted, match='no-such-option'):
        cinder.start()
