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

"""The guard in Cinder's pipeline, over HTTP, with real clients.

The shipped paste file is loaded by PasteDeploy in a process of its own, with
the real auth_token and keystonecontext, before the real Cinder and before the
stub, under eventlet and under threads.
"""

from __future__ import annotations

from collections.abc import Iterator
import configparser
import contextlib
import http.client
import json
import pathlib
import re
import time
from typing import Any
import urllib.parse
import uuid

from cinderclient import exceptions as cinder_exceptions
import pytest

from attachguard.testing import embedded
from attachguard.testing import stub_cloud

# Shorter than the delays of these tests, longer than anything else takes.
NOVA_TIMEOUT = 3

# How long Nova is left alone.
BREAKER_SECONDS = 1


def _paste_ini(directory: pathlib.Path, stub: bool) -> pathlib.Path:
    """The shipped file, with the guard's healthcheck.

    :param stub: with the stub in the place of Cinder's API; and the filter
        loaded by its entry point, not by its factory's name
    """
    config = configparser.RawConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(embedded.sample_paste_ini())
    config['app:healthcheckapp']['backends'] = 'disable_by_file, attachguard'
    if stub:
        config.remove_section('app:apiv3')
        config['app:apiv3'] = {'use': 'egg:attachguard#stub-cinder'}
        config.remove_section('filter:attachguard')
        config['filter:attachguard'] = {'use': 'egg:attachguard'}
    path = directory / 'api-paste-test.ini'
    with path.open('w') as file:
        config.write(file)
    return path


class Cloud:
    """A cloud whose Cinder is guarded."""

    def __init__(
        self, cloud: stub_cloud.StubCloud, cinder: embedded.EmbeddedCinder
    ) -> None:
        self.stubs = cloud
        self.embedded = cinder
        self.is_real = True
        self.member = cloud.cinderclient('member')
        self.service = cloud.cinderclient('nova')
        self.nova = cloud.novaclient('member')

    def volume(self) -> Any:
        volume = self.member.volumes.create(1)
        deadline = time.monotonic() + 20
        while volume.status != 'available' and time.monotonic() < deadline:
            time.sleep(0.1)
            volume = self.member.volumes.get(volume.id)
        assert volume.status == 'available'
        return volume

    def server(self) -> Any:
        return self.nova.servers.create(
            'server', image=str(uuid.uuid4()), flavor='1'
        )

    def status(self, volume: Any) -> str:
        status: str = self.member.volumes.get(volume.id).status
        return status

    def questions(self) -> list[Any]:
        """What Nova was asked since the last time."""
        asked = [
            request
            for request in self.stubs.nova_server.requests
            if 'os-volume_attachments/' in request.path
        ]
        self.stubs.nova_server.forget()
        return asked

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        user: str = 'member',
        **headers: str,
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """A request as no client would send it.

        :param path: below the endpoint, with the project's id
        """
        url = urllib.parse.urlsplit(self.embedded.url)
        connection = http.client.HTTPConnection(
            url.hostname or '', url.port, timeout=30
        )
        project = self.stubs.project_id(user)
        sent = {
            'X-Auth-Token': self.stubs.session(user).get_token() or '',
            'OpenStack-API-Version': 'volume 3.44',
            'Content-Type': 'application/json',
            **{name.replace('_', '-'): v for name, v in headers.items()},
        }
        with contextlib.closing(connection):
            connection.request(
                method, f'{url.path}/{project}{path}', body, sent
            )
            answer = connection.getresponse()
            raw = answer.read()
        if not raw or 'json' not in (answer.headers['Content-Type'] or ''):
            return answer.status, answer.headers, raw
        return answer.status, answer.headers, json.loads(raw)


@contextlib.contextmanager
def _running(directory: pathlib.Path, **kwargs: Any) -> Iterator[Cloud]:
    with stub_cloud.StubCloud(cinder=None) as cloud:
        options = dict(kwargs.pop('guard_options', {}))
        credentials = options.pop('credentials_of', None)
        if credentials:
            options.update(cloud.auth_settings(credentials))
        with embedded.EmbeddedCinder(
            directory, cloud.keystone_url, guard_options=options, **kwargs
        ) as cinder:
            cloud.register_cinder(cinder.url)
            yield Cloud(cloud, cinder)


@pytest.fixture(
    scope='module',
    params=[
        ('real', 'eventlet'),
        ('real', 'threads'),
        pytest.param(('stub', 'eventlet'), marks=pytest.mark.newest),
        pytest.param(('stub', 'threads'), marks=pytest.mark.newest),
    ],
    ids=' '.join,
)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    which, server = request.param
    directory = tmp_path_factory.mktemp('cinder')
    is_stub = which == 'stub'
    with _running(
        directory,
        paste_ini=_paste_ini(directory, is_stub),
        server=server,
        guard_options={
            'nova_timeout': NOVA_TIMEOUT,
            'nova_breaker_seconds': BREAKER_SECONDS,
        },
    ) as cloud:
        cloud.is_real = not is_stub
        yield cloud
    assert 'Traceback' not in cinder_log(cloud)


def cinder_log(cloud: Cloud) -> str:
    return cloud.embedded.log.read_text(errors='replace')


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    running.questions()
    yield running
    running.stubs.nova.faults.clear()


def _health(cloud: Cloud) -> tuple[int, str]:
    url = urllib.parse.urlsplit(cloud.embedded.url)
    connection = http.client.HTTPConnection(
        url.hostname or '', url.port, timeout=30
    )
    with contextlib.closing(connection):
        connection.request(
            'GET', '/healthcheck', headers={'Accept': 'application/json'}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def forged(call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(cinder_exceptions.Forbidden) as caught:
        call(*args, **kwargs)
    assert caught.value.code == 403
    assert 'openstack server add volume' in caught.value.message


class TestForging:
    """What the guard is for."""

    def test_os_attach_is_refused(self, cloud: Cloud) -> None:
        volume, server = cloud.volume(), cloud.server()
        attach = cloud.member.volumes.attach
        forged(attach, volume, server.id, '/dev/vdb')
        forged(attach, volume, str(uuid.uuid4()), '/dev/vdb')
        assert len(cloud.questions()) == 2
        forged(attach, volume, None, '/dev/vdb', host_name='a-host')
        assert cloud.questions() == []
        assert cloud.status(volume) == 'available'
        assert cloud.member.volumes.get(volume.id).attachments == []

    def test_attachment_create_is_refused(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        create = cloud.member.attachments.create
        forged(create, volume.id, None, str(uuid.uuid4()))
        forged(create, volume.id, {'host': 'h'}, cloud.server().id)
        assert cloud.status(volume) == 'available'
        assert cloud.member.attachments.list() == []

    def test_completing_what_a_service_reserved_is_refused(
        self, cloud: Cloud
    ) -> None:
        volume = cloud.volume()
        made = cloud.service
        server = str(uuid.uuid4())
        # As Nova, with the member's token and its own.
        status, _headers, body = cloud.send(
            'POST',
            '/attachments',
            json.dumps(
                {
                    'attachment': {
                        'volume_uuid': volume.id,
                        'instance_uuid': server,
                    }
                }
            ).encode(),
            X_Service_Token=made.client.session.get_token(),
        )
        assert status == 200
        attachment = body['attachment']['id']
        cloud.questions()
        forged(cloud.member.attachments.complete, attachment)
        forged(cloud.member.attachments.update, attachment, {'host': 'h'})
        assert cloud.status(volume) == 'reserved'
        assert len(cloud.questions()) == 2
        cloud.member.attachments.delete(attachment)
        assert cloud.status(volume) == 'available'

    def test_the_answer_is_in_cinders_form(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        body = {
            'os-attach': {
                'instance_uuid': str(uuid.uuid4()),
                'mountpoint': '/dev/vdb',
            }
        }
        answers = [
            cloud.send(
                'POST',
                f'/volumes/{volume.id}/action',
                json.dumps(body).encode(),
                Accept=accept,
            )
            for accept in ('application/json', 'text/html', '*/*;q=0.1')
        ]
        assert all(answer[2] == answers[0][2] for answer in answers)
        for status, headers, answer in answers:
            assert status == 403
            assert answer['forbidden']['code'] == 403
            assert answer['forbidden']['reason'] == 'server-lacks-volume'
            assert headers['Content-Type'] == 'application/json'
            assert headers['OpenStack-API-Version'] == 'volume 3.44'
            assert headers['Vary'] == 'OpenStack-API-Version'
            assert headers['x-openstack-request-id'].startswith('req-')
            assert headers['x-compute-request-id'].startswith('req-')


class TestNovasOwn:
    """What Nova does goes on as before."""

    def test_attach_and_detach(self, cloud: Cloud) -> None:
        volume, server = cloud.volume(), cloud.server()
        cloud.nova.volumes.create_server_volume(server.id, volume.id)
        assert cloud.status(volume) == 'in-use'
        cloud.nova.volumes.delete_server_volume(server.id, volume.id)
        assert cloud.status(volume) == 'available'
        # No question was asked about what Nova itself does.
        assert [
            request
            for request in cloud.questions()
            if request.method == 'GET'
            and 'attachguard' in request.headers.get('User-Agent', '')
        ] == []

    def test_a_live_volume_is_not_pulled(self, cloud: Cloud) -> None:
        volume, server = cloud.volume(), cloud.server()
        cloud.nova.volumes.create_server_volume(server.id, volume.id)
        attachment = cloud.member.attachments.list()[0].id
        member = cloud.member
        cloud.questions()
        for call, *args in (
            (member.volumes.detach, volume),
            (member.volumes.detach, volume, attachment),
            (member.volumes.begin_detaching, volume),
            (member.volumes.terminate_connection, volume, {'host': 'h'}),
            (member.attachments.delete, attachment),
        ):
            forged(call, *args)
        assert len(cloud.questions()) == 5
        assert cloud.status(volume) == 'in-use'
        cloud.nova.volumes.delete_server_volume(server.id, volume.id)
        assert cloud.status(volume) == 'available'

    def test_a_live_attachment_is_neither_doubled_nor_updated(
        self, cloud: Cloud
    ) -> None:
        volume, server = cloud.volume(), cloud.server()
        cloud.nova.volumes.create_server_volume(server.id, volume.id)
        member = cloud.member
        attachment = member.attachments.list()[0].id
        forged(member.attachments.create, volume.id, None, server.id)
        forged(member.attachments.create, volume.id, {'host': 'h'}, server.id)
        forged(member.volumes.attach, volume, server.id, '/dev/vdc')
        forged(member.attachments.update, attachment, {'host': 'evil'})
        assert cloud.status(volume) == 'in-use'
        cloud.nova.volumes.delete_server_volume(server.id, volume.id)
        assert cloud.status(volume) == 'available'
        assert member.attachments.list() == []

    def test_a_forged_attachment_is_cleared(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        # What is left of the time before the guard, or of a Nova restored
        # from a backup.
        status, _headers, _body = cloud.send(
            'POST',
            f'/volumes/{volume.id}/action',
            json.dumps(
                {
                    'os-attach': {
                        'instance_uuid': str(uuid.uuid4()),
                        'mountpoint': '/dev/vdb',
                    }
                }
            ).encode(),
            X_Service_Token=cloud.service.client.session.get_token(),
        )
        assert status == 202
        assert cloud.status(volume) == 'in-use'
        cloud.member.volumes.detach(volume)
        assert cloud.status(volume) == 'available'


class TestOthers:
    """Callers who are no service."""

    def test_glance_names_no_server(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        attachments = cloud.member.attachments
        attachment = attachments.create(volume.id, None)
        id_ = getattr(attachment, 'id', None) or attachment['id']
        attachments.update(id_, {'host': 'glance-host', 'mode': 'rw'})
        attachments.complete(id_)
        assert cloud.status(volume) == 'in-use'
        attachments.delete(id_)
        assert cloud.status(volume) == 'available'
        assert cloud.questions() == []

    def test_a_token_sent_twice_is_no_service(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        status, _headers, _body = cloud.send(
            'POST',
            f'/volumes/{volume.id}/action',
            b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}',
            X_Service_Token=cloud.stubs.session('member').get_token() or '',
        )
        # auth_token itself refuses it where service_token_roles_required.
        assert status in (401, 403)
        assert cloud.status(volume) == 'available'

    def test_headers_make_no_service(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        status, _headers, _body = cloud.send(
            'POST',
            f'/volumes/{volume.id}/action',
            b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}',
            X_Service_Roles='service',
            X_Service_Identity_Status='Confirmed',
            X_Roles='service',
        )
        assert status == 403
        assert cloud.status(volume) == 'available'

    def test_a_stranger_sees_no_more_than_before(self, cloud: Cloud) -> None:
        volume, server = cloud.volume(), cloud.server()
        cloud.nova.volumes.create_server_volume(server.id, volume.id)
        cloud.questions()
        attachment = cloud.member.attachments.list()[0].id
        stranger = cloud.stubs.cinderclient('other')
        # Who owns a volume is shown other projects' attachments, too.
        stranger.volumes.create(1)
        for call, *args in (
            (stranger.volumes.attach, volume.id, server.id, '/dev/vdb'),
            (stranger.volumes.detach, volume.id),
            (stranger.attachments.create, volume.id, None, server.id),
            (stranger.attachments.update, attachment, {'host': 'h'}),
            (stranger.attachments.complete, attachment),
            (stranger.attachments.delete, attachment),
        ):
            with pytest.raises(cinder_exceptions.NotFound):
                call(*args)
        assert cloud.questions() == []
        cloud.nova.volumes.delete_server_volume(server.id, volume.id)

    def test_an_admin_forges_nothing_either(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        admin = cloud.stubs.cinderclient('admin')
        forged(admin.volumes.attach, volume, str(uuid.uuid4()), '/dev/vdb')

    def test_nor_does_a_reader(self, cloud: Cloud) -> None:
        # Whom Cinder's own policy lets attach up to 28.
        volume = cloud.volume()
        reader = cloud.stubs.cinderclient('reader')
        with pytest.raises(cinder_exceptions.Forbidden):
            reader.volumes.attach(volume.id, str(uuid.uuid4()), '/dev/vdb')
        assert cloud.status(volume) == 'available'


class TestBadRequests:
    """What Cinder says to a bad request stays what Cinder says."""

    @pytest.mark.parametrize(
        ('body', 'status'),
        [
            (b'', 400),
            (b'{', 400),
            (b'\xff\xfe', 400),
            (b'{"os-attach": ' + b'[' * 20_000, 400),
            (b'{"os-attach": {}}', 400),
            (b'{"os-attach": 1}', 400),
            (b'{"os-attach": []}', 400),
            (b'{"os-attach": {"instance_uuid": "x", "mountpoint": "m"}}', 400),
            (b'{"os-attach": {"instance_uuid": null, "mountpoint": 1}}', 400),
            (b'{"os-attach": {"host_name": "h", "mountpoint": ""}}', 400),
            (b'{"os-attach": {"host_name": "h"}}', 400),
            (b'{"os-attach": {}, "os-detach": {}}', 400),
        ],
        ids=range(12),
    )
    def test_a_malformed_body(
        self, cloud: Cloud, body: bytes, status: int
    ) -> None:
        volume = cloud.volume()
        found, _headers, answer = cloud.send(
            'POST', f'/volumes/{volume.id}/action', body
        )
        assert found == status
        assert answer['badRequest']['code'] == 400
        assert cloud.status(volume) == 'available'

    def test_a_connector_nested_too_deeply(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        body = (
            b'{"attachment": {"volume_uuid": "%s", "instance_uuid": "%s", '
            % (
                volume.id.encode(),
                str(uuid.uuid4()).encode(),
            )
        )
        body += b'"connector": ' + b'{"a":' * 60 + b'1' + b'}' * 62
        status, _headers, _body = cloud.send('POST', '/attachments', body)
        assert status == 400
        assert cloud.status(volume) == 'available'
        assert cloud.member.attachments.list() == []

    def test_a_body_of_a_megabyte(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        status, _headers, _body = cloud.send(
            'POST',
            f'/volumes/{volume.id}/action',
            b'{"os-attach": "' + b'x' * 1_000_000 + b'"}',
        )
        assert status == 413

    @pytest.mark.parametrize(
        'headers',
        [
            {'OpenStack_API_Version': 'volume 3.999'},
            {'Content_Type': 'text/plain'},
            {'Content_Type': 'application/x-www-form-urlencoded'},
        ],
        ids=str,
    )
    def test_headers_that_cinder_does_not_take(
        self, cloud: Cloud, headers: dict[str, str]
    ) -> None:
        volume = cloud.volume()
        body = b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'
        status, _headers, _body = cloud.send(
            'POST', f'/volumes/{volume.id}/action', body, **headers
        )
        assert status in (406, 415)
        assert cloud.status(volume) == 'available'

    @pytest.mark.parametrize(
        'id_',
        [
            'x',
            '%2e%2e',
            'a%0ab',
            # A longer one is refused by eventlet's server already.
            'x' * 7_000,
            '%ff%fe',
            'a%2fb',
            'a%5c',
            '%00',
            'detail',
            'summary',
        ],
        ids=lambda id_: id_[:8],
    )
    def test_strange_ids(self, cloud: Cloud, id_: str) -> None:
        body = b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'
        for method, path, sent in (
            ('POST', f'/volumes/{id_}/action', body),
            ('DELETE', f'/attachments/{id_}', None),
            ('POST', f'/attachments/{id_}/action', b'{"os-complete": {}}'),
        ):
            status, _headers, _body = cloud.send(method, path, sent)
            assert 400 <= status < 500

    def test_missing_things(self, cloud: Cloud) -> None:
        missing = str(uuid.uuid4())
        member = cloud.member
        body = b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'
        assert cloud.send('POST', f'/volumes/{missing}/action', body)[0] == 404
        for call, *args in (
            (member.volumes.attach, missing, str(uuid.uuid4()), '/dev/vdb'),
            (member.volumes.detach, missing),
            (member.attachments.create, missing, None, str(uuid.uuid4())),
            (member.attachments.complete, missing),
            (member.attachments.update, missing, {'host': 'h'}),
            (member.attachments.delete, missing),
        ):
            with pytest.raises(cinder_exceptions.NotFound):
                call(*args)
        assert cloud.questions() == []


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
def test_no_way_around(cloud: Cloud, method: str, path: str) -> None:
    volume = cloud.volume()
    body = b'{"os\\u002dattach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'
    status, _headers, answer = cloud.send(method, path.format(volume.id), body)
    if cloud.is_real:
        assert (status, answer['forbidden']['reason']) == (403, 'no-server')
    else:
        # The stub has not all of Routes' ways.
        assert status in (403, 404)
    assert cloud.status(volume) == 'available'


def test_no_way_around_in_chunks(cloud: Cloud) -> None:
    volume = cloud.volume()
    body = b'{"os-attach": {"host_name": "h", "mountpoint": "/dev/vdb"}}'
    status, _headers, answer = cloud.send(
        'POST',
        f'/volumes/{volume.id}/action',
        b'%x\r\n%s\r\n0\r\n\r\n' % (len(body), body),
        Transfer_Encoding='chunked',
    )
    # Where the server does not say that it ends the body (eventlet), WebOb
    # reads none: for the guard as for Cinder.
    assert status in (400, 403)
    assert cloud.status(volume) == 'available'


class TestNovaInTrouble:
    """Nova down, slow, or talking nonsense."""

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
    def test_is_503_in_time(self, cloud: Cloud, fault: Any) -> None:
        volume, server = cloud.volume(), cloud.server()
        cloud.stubs.nova.faults.add(
            times=None, path='os-volume_attachments', **fault
        )
        body = json.dumps(
            {
                'os-attach': {
                    'instance_uuid': server.id,
                    'mountpoint': '/dev/vdb',
                }
            }
        ).encode()
        start = time.monotonic()
        status, headers, answer = cloud.send(
            'POST', f'/volumes/{volume.id}/action', body
        )
        assert time.monotonic() - start < NOVA_TIMEOUT + 2
        assert status == 503
        assert headers['Retry-After'] == '5'
        assert headers['OpenStack-API-Version'] == 'volume 3.44'
        assert answer['serviceUnavailable']['reason'] == 'nova-unknown'
        assert cloud.status(volume) == 'available'
        # One that waited in vain is enough to leave Nova alone.
        time.sleep(BREAKER_SECONDS)

    def test_is_not_asked_for_a_moment(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        action = f'/volumes/{volume.id}/action'

        def attach() -> tuple[int, str]:
            """Of another server each time."""
            body = {
                'os-attach': {
                    'instance_uuid': str(uuid.uuid4()),
                    'mountpoint': '/dev/vdb',
                }
            }
            status, _headers, answer = cloud.send(
                'POST', action, json.dumps(body).encode()
            )
            (fault,) = answer.values()
            return status, fault['reason']

        # Whatever was before is over.
        assert attach() == (403, 'server-lacks-volume')
        cloud.questions()
        cloud.stubs.nova.faults.add(
            times=None, path='os-volume_attachments', status=503
        )
        reasons = [attach() for _ in range(6)]
        assert reasons == [(503, 'nova-unknown')] * 5 + [(503, 'nova-down')]
        assert len(cloud.questions()) == 5
        status, said = _health(cloud)
        assert status == 200
        assert 'attachguard: no Nova for' in said
        cloud.stubs.nova.faults.clear()
        time.sleep(BREAKER_SECONDS)
        assert attach() == (403, 'server-lacks-volume')
        assert 'attachguard: OK' in _health(cloud)[1]

    def test_disturbs_nobody_else(self, cloud: Cloud) -> None:
        volume = cloud.volume()
        cloud.stubs.nova.faults.add(
            times=None, path='os-volume_attachments', status=500
        )
        cloud.member.volumes.reserve(volume)
        cloud.member.volumes.unreserve(volume)
        attachment = cloud.member.attachments.create(volume.id, None)
        id_ = getattr(attachment, 'id', None) or attachment['id']
        cloud.member.attachments.delete(id_)
        assert cloud.status(volume) == 'available'


def test_a_question_costs_one_request(cloud: Cloud) -> None:
    volume, server = cloud.volume(), cloud.server()
    # The caller's session and the guard's connection are warm by now.
    forged(cloud.member.volumes.attach, volume, server.id, '/dev/vdb')
    cloud.stubs.nova_server.forget()
    cloud.stubs.keystone_server.forget()
    connections = cloud.stubs.nova_server.connections
    for _ in range(5):
        forged(cloud.member.volumes.attach, volume, server.id, '/dev/vdb')
    asked = cloud.stubs.nova_server.requests
    assert [(request.method, request.status) for request in asked] == [
        ('GET', 404)
    ] * 5
    for request in asked:
        assert request.path == (
            f'/v2.1/servers/{server.id}/os-volume_attachments/{volume.id}'
        )
    assert cloud.stubs.keystone_server.requests == []
    assert cloud.stubs.nova_server.connections == connections


def test_the_filter_knows_every_route_of_this_cinder(running: Cloud) -> None:
    log = cinder_log(running)
    if running.is_real:
        assert 'attachguard does not know' not in log
        assert re.search(r'attachguard covers each of the \d+ routes', log)
    else:
        assert "Cinder's router is not right behind attachguard" in log


def test_configured_credentials_cost_one_token(
    tmp_path: pathlib.Path,
) -> None:
    options = {'credentials_of': 'admin', 'nova_timeout': NOVA_TIMEOUT}
    with _running(tmp_path, guard_options=options, server='threads') as cloud:
        volume, server = cloud.volume(), cloud.server()
        cloud.nova.volumes.create_server_volume(server.id, volume.id)
        cloud.stubs.nova_server.forget()
        cloud.stubs.keystone_server.forget()
        for _ in range(3):
            forged(cloud.member.volumes.detach, volume)
        assert [r.method for r in cloud.stubs.nova_server.requests] == (
            ['GET'] * 3
        )
        tokens = [
            request
            for request in cloud.stubs.keystone_server.requests
            if request.method == 'POST'
        ]
        assert len(tokens) == 1
        cloud.nova.volumes.delete_server_volume(server.id, volume.id)


def test_a_confirmed_token_without_the_role_is_no_service(
    tmp_path: pathlib.Path,
) -> None:
    # The default of what Cinder 22 to 28 came out with.
    options = {'service_token_roles_required': False}
    with _running(
        tmp_path, cinder_options={'keystone_authtoken': options}
    ) as cloud:
        volume = cloud.volume()
        token = cloud.stubs.session('member').get_token() or ''
        for path, reason, body in (
            (
                f'/volumes/{volume.id}/action',
                'no-server',
                {'os-attach': {'host_name': 'h', 'mountpoint': '/dev/vdb'}},
            ),
            (
                '/attachments',
                'server-lacks-volume',
                {
                    'attachment': {
                        'volume_uuid': volume.id,
                        'instance_uuid': str(uuid.uuid4()),
                    }
                },
            ),
        ):
            status, _headers, answer = cloud.send(
                'POST',
                path,
                json.dumps(body).encode(),
                X_Service_Token=token,
            )
            assert status == 403
            assert answer['forbidden']['reason'] == reason
        assert cloud.status(volume) == 'available'


def test_shadow_mode_refuses_nobody_and_says_so(
    tmp_path: pathlib.Path,
) -> None:
    with _running(tmp_path, guard_options={'enforce': 'false'}) as cloud:
        volume = cloud.volume()
        cloud.member.volumes.attach(volume, str(uuid.uuid4()), '/dev/vdb')
        assert cloud.status(volume) == 'in-use'
        log = cinder_log(cloud)
        assert '"verdict": "refused"' in log
        assert '"enforced": false' in log


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ({'enforce': 'maybe'}, r'\[attachguard\] enforce.*Boolean'),
        ({'policy_file': 'gone.yaml'}, 'gone.yaml'),
        ({'auth_type': 'passwort'}, 'passwort'),
        ({'statsd_host': 'nowhere.invalid'}, 'statsd_host'),
    ],
)
def test_cinder_does_not_start_with_a_bad_option(
    tmp_path: pathlib.Path, options: dict[str, str], says: str
) -> None:
    with stub_cloud.StubCloud(cinder=None) as cloud:
        cinder = embedded.EmbeddedCinder(
            tmp_path, cloud.keystone_url, guard_options=options
        )
        with pytest.raises(embedded.CinderNotStarted, match=says):
            cinder.start()
