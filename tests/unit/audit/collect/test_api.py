# SPDX-License-Identifier: Apache-2.0

"""Single volumes and servers of a cloud, and what a response proves."""

from __future__ import annotations

from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
import pytest

from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import reader
from attachguard.guard import cinder
from tests.unit.audit import cases
from tests.unit.audit.collect import fakes

SHOWN = {
    'id': cases.SERVER,
    'status': 'ACTIVE',
    'OS-EXT-STS:task_state': None,
    'OS-EXT-SRV-ATTR:host': 'compute1',
    'os-extended-volumes:volumes_attached': [{'id': cases.VOLUME}],
}


@pytest.mark.parametrize(
    ('status', 'body', 'presence'),
    [
        (200, {'server': SHOWN}, cases.HAS),
        (
            200,
            {'server': {**SHOWN, 'os-extended-volumes:volumes_attached': []}},
            cases.LACKS,
        ),
        (404, fakes.NOT_FOUND, cases.GONE),
        (404, {'message': 'no route'}, cases.UNKNOWN),
        (404, b'<html>', cases.UNKNOWN),
        (401, {}, cases.UNKNOWN),
        (403, {}, cases.UNKNOWN),
        (500, {}, cases.UNKNOWN),
        (302, {}, cases.UNKNOWN),
        (200, {}, cases.UNKNOWN),
        (200, {'server': []}, cases.UNKNOWN),
        (200, {'server': {**SHOWN, 'status': 'UNKNOWN'}}, cases.UNKNOWN),
        (200, {'server': {'id': cases.SERVER}}, cases.UNKNOWN),
        (200, {'server': {**SHOWN, 'id': cases.OTHER}}, cases.UNKNOWN),
        # No JSON object.
        (200, b'<html>', cases.UNKNOWN),
        (200, b'', cases.UNKNOWN),
        (200, b'[1, 2]', cases.UNKNOWN),
        (200, b'"x"', cases.UNKNOWN),
        (200, b'nul', cases.UNKNOWN),
    ],
)
def test_only_novas_own_404_proves_that_a_server_is_gone(
    status: int, body: Any, presence: model.Presence
) -> None:
    cloud = fakes.always(status, body)
    server, evidence = cloud.server(cases.SERVER, cases.VOLUME)
    assert server.presence is presence
    assert evidence.status == status
    assert evidence.result


def test_a_server_is_unknown_without_a_response() -> None:
    def fail(method: str, path: str) -> Any:
        raise ksa_exceptions.ConnectTimeout('timed out')

    cloud, _adapter = fakes.make(fail)
    server, evidence = cloud.server(cases.SERVER, cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN
    assert 'no complete response from Nova within 120 s' in server.why
    assert evidence.status is None


@pytest.mark.parametrize(
    ('status', 'body', 'presence', 'attachment_id'),
    [
        (
            200,
            {'volumeAttachment': {'attachment_id': cases.FIRST}},
            cases.HAS,
            cases.FIRST,
        ),
        # Attached before the Queens release.
        (404, fakes.NOT_FOUND, cases.HAS, None),
        (404, b'', cases.UNKNOWN, None),
        (500, {}, cases.UNKNOWN, None),
    ],
)
def test_the_attachment_of_a_server_is_known_or_the_server_is_unknown(
    status: int,
    body: Any,
    presence: model.Presence,
    attachment_id: str | None,
) -> None:
    server, _evidence = fakes.always(status, body).nova_attachment(
        cases.server(cases.HAS), cases.VOLUME
    )
    assert (server.presence, server.attachment_id) == (presence, attachment_id)


# Deleted servers, and projects


def left(*volumes: str, **changes: Any) -> dict[str, Any]:
    """A list of deleted servers."""
    shown = [{'id': volume} for volume in volumes]
    row = {'id': cases.SERVER, 'os-extended-volumes:volumes_attached': shown}
    return {'servers': [{**row, **changes}]}


@pytest.mark.parametrize(
    ('status', 'body', 'presence', 'number'),
    [
        (200, left(cases.VOLUME, cases.OTHER), cases.GONE, 1),
        (200, left(cases.VOLUME, cases.VOLUME), cases.GONE, 2),
        (200, left(cases.OTHER), cases.GONE, 0),
        (200, left(), cases.GONE, 0),
        # A Nova that ignores the filter.
        (200, left(cases.VOLUME, id=cases.OTHER), cases.GONE, 0),
        # It is archived.
        (200, {'servers': []}, cases.GONE, 0),
        (200, {}, cases.UNKNOWN, 0),
        (403, {}, cases.UNKNOWN, 0),
        (503, {}, cases.UNKNOWN, 0),
    ],
)
def test_a_list_of_deleted_servers_shows_what_is_left(
    status: int, body: Any, presence: model.Presence, number: int
) -> None:
    cloud, adapter = fakes.make(lambda method, path: fakes.reply(status, body))
    server, evidence = cloud.leftovers_of(
        cases.server(cases.GONE), cases.VOLUME, 'cell1'
    )
    assert (server.presence, server.leftovers) == (presence, number)
    assert evidence.result
    ((_method, path, _options),) = adapter.requests
    assert fakes.query(path) == {
        'all_tenants': '1',
        'deleted': 'true',
        'uuid': cases.SERVER,
    }


def missing(project_id: str) -> dict[str, Any]:
    """Keystone's body for a project that it does not have."""
    message = f'Could not find project: {project_id}.'
    return {'error': {'code': 404, 'message': message, 'title': 'Not Found'}}


@pytest.mark.parametrize(
    ('status', 'body', 'exists'),
    [
        (200, {'project': {'id': cases.PROJECT}}, True),
        (404, missing(cases.PROJECT), False),
        # Of a proxy, or another endpoint.
        (404, missing('other'), None),
        (404, {'error': {'code': 404, 'message': 'no such URL'}}, None),
        (404, {'message': 'no route'}, None),
        (404, b'<html>', None),
        (403, {'error': {'code': 403, 'message': cases.PROJECT}}, None),
        (401, {}, None),
        (500, {}, None),
        (503, b'', None),
        (200, {}, None),
        (200, b'<html>', None),
    ],
)
def test_only_keystones_own_404_proves_that_a_project_is_gone(
    status: int, body: Any, exists: bool | None
) -> None:
    cloud, adapter = fakes.make(lambda method, path: fakes.reply(status, body))
    for _ in range(2):
        project, evidence = cloud.project(cases.PROJECT)
        assert project.exists is exists
        assert bool(project.why) is (exists is None)
        assert evidence.result
    # What is known is not queried again until it is to be.
    cloud.project(cases.PROJECT)
    assert len(adapter.requests) == (3 if exists is None else 1)
    cloud.forget_projects()
    cloud.project(cases.PROJECT)
    assert len(adapter.requests) == (4 if exists is None else 2)


def test_a_project_is_unknown_without_a_response() -> None:
    def fail(method: str, path: str) -> Any:
        raise ksa_exceptions.EndpointNotFound('no identity endpoint')

    project, evidence = fakes.make(fail)[0].project(cases.PROJECT)
    assert project.exists is None
    assert 'no identity endpoint' in project.why
    assert evidence.status is None


def test_the_id_of_a_project_is_quoted() -> None:
    cloud, adapter = fakes.make(lambda method, path: fakes.reply(404, b''))
    cloud.project('../users?x#y')
    ((_method, path, _options),) = adapter.requests
    assert path == '/projects/..%2Fusers%3Fx%23y'


def test_an_id_that_is_no_uuid_never_becomes_part_of_a_path() -> None:
    cloud, adapter = fakes.make(
        lambda method, path: fakes.reply(404, fakes.NOT_FOUND)
    )
    server, _evidence = cloud.server('../flavors?x=', cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN
    assert adapter.requests == []
    # Cinder accepts these as UUIDs.
    cloud.server(cases.SERVER.upper(), cases.VOLUME)
    cloud.server(cases.SERVER.replace('-', ''), cases.VOLUME)
    assert {path for _method, path, _options in adapter.requests} == {
        f'/servers/{cases.SERVER}'
    }


def test_while_a_cell_is_down_no_server_is_gone() -> None:
    def respond(method: str, path: str) -> Any:
        services = [
            {'binary': 'nova-compute', 'host': 'a', 'status': 'enabled'},
            {'binary': 'nova-compute', 'host': 'b', 'status': 'UNKNOWN'},
        ]
        if 'os-services' in path:
            return fakes.reply(200, {'services': services})
        return fakes.reply(404, fakes.NOT_FOUND)

    cloud, _adapter = fakes.make(respond)
    hosts, down = cloud.compute_hosts()
    assert hosts == {'a', 'b'}
    assert len(down) == 1
    server, _evidence = cloud.server(cases.SERVER, cases.VOLUME)
    assert server.presence is model.Presence.UNKNOWN


def _is_listed(volume: dict[str, str]) -> bool:
    return any(
        all(
            value in volume[name[:-1]]
            if name.endswith('~')
            else volume[name] == value
            for name, value in wanted.items()
        )
        for wanted in api._LISTED
    )


def test_every_status_that_depends_on_attachments_is_listed() -> None:
    for status in reader.DEPENDENT:
        assert _is_listed({'status': status, 'migration_status': ''}), status
    for migration in ('starting', 'migrating', 'completing', 'target:x'):
        assert _is_listed({'status': 'x', 'migration_status': migration})
    for status in (
        model.STATUSES_OF_ATTACHMENTS
        - reader.DEPENDENT
        - {
            'error_attaching',
            'error_detaching',
        }
    ):
        for migration_ in cinder.NOT_MIGRATING:
            assert not _is_listed(
                {'status': status, 'migration_status': migration_ or ''}
            )
