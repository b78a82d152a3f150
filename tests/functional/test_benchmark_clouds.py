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
"""The clouds of the benchmarks answer as the stubs do.

The stubs in turn are held against the real Cinder and Nova, so what is
measured is read from answers such as theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
import datetime
import json
import typing
import urllib.parse

import pytest
import requests

from attachguard.audit import checks
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.testing import stub_cinder as cinder_stub
from attachguard.testing import StubCloud
from benchmarks import clouds
from benchmarks import content

CLOUD = content.Cloud(240, 50, 2 * content.WAYS)

_VOLUMES = list(CLOUD.list_volumes())
_SERVERS = list(CLOUD.list_servers())
_PLANTED = list(CLOUD.planted())
_UNKNOWN = content.STRANGERS.id(-2)


class Service:
    """Cinder or Nova of a cloud, asked by its administrator."""

    def __init__(self, url: str, token: str, project_id: str) -> None:
        self._url = url
        self._token = token
        self._project_id = project_id

    def get(self, path: str, version: str) -> requests.Response:
        """Ask for something at a microversion."""
        return requests.get(
            f'{self._url}{path}',
            headers={
                'X-Auth-Token': self._token,
                'OpenStack-API-Version': version,
            },
            timeout=60,
        )

    def outcome(self, path: str, version: str) -> dict[str, typing.Any]:
        """What is answered, but for what is another cloud's anyway."""
        answer = self.get(path, version)
        root = self._url.removesuffix(urllib.parse.urlsplit(self._url).path)
        text = answer.text.replace(root, 'http://service')
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ('content-length', 'date')
        }
        for name in headers:
            if name.lower().endswith('-request-id'):
                headers[name] = 'req-'
        return {
            'status': answer.status_code,
            'headers': headers,
            'text': text.replace(self._project_id, 'project'),
        }


class Pair(typing.NamedTuple):
    """The same service of both clouds."""

    made: Service
    stub: Service


def _log_in(environment: dict[str, str]) -> tuple[dict[str, str], str, str]:
    """Where the services are, a token, and the project it is for."""
    user = {
        'name': environment['OS_USERNAME'],
        'password': environment['OS_PASSWORD'],
        'domain': {'id': 'default'},
    }
    project = {
        'name': environment['OS_PROJECT_NAME'],
        'domain': {'id': 'default'},
    }
    answer = requests.post(
        f'{environment["OS_AUTH_URL"]}/auth/tokens',
        json={
            'auth': {
                'identity': {
                    'methods': ['password'],
                    'password': {'user': user},
                },
                'scope': {'project': project},
            }
        },
        timeout=60,
    )
    token = answer.json()['token']
    urls = {
        entry['type']: entry['endpoints'][0]['url']
        for entry in token['catalog']
    }
    return urls, answer.headers['X-Subject-Token'], token['project']['id']


def _load(cloud: StubCloud) -> None:
    """Put into a cloud of stubs all that is in the other one."""
    cinder = cloud.cinder
    # The stub lists the newest first.
    for volume in reversed(_VOLUMES):
        values = volume._asdict()
        del values['attachments']
        cinder.add_volume(**values, updated_at=volume.created_at)
    for made in CLOUD.list_attachments():
        attachment = cinder_stub.Attachment(
            made.volume_id,
            made.server_id,
            made.status,
            host=made.host,
            mountpoint=made.device,
            attach_time=made.attached_at,
            id=made.id,
        )
        cinder.attachments[attachment.id] = attachment
    for server in _SERVERS:
        stub = cloud.nova.add_server(
            server.project_id,
            server.name,
            server_id=server.id,
            user_id=server.user_id,
        )
        stub.host = server.host
        stub.created = datetime.datetime.fromisoformat(server.created_at)
        for mapping in server.volumes:
            cloud.nova.add_attachment(
                server.id,
                mapping.volume_id,
                attachment_id=mapping.attachment_id,
                device=mapping.device,
            ).uuid = mapping.id


@pytest.fixture(scope='module')
def pairs() -> Iterator[dict[str, Pair]]:
    """Cinder and Nova of both clouds."""
    with clouds.served(CLOUD) as served, StubCloud() as cloud:
        _load(cloud)
        urls, token, project_id = _log_in(served.environment)
        stub_token = cloud.session('admin').get_token()
        assert stub_token is not None
        yield {
            name: Pair(
                Service(urls[name], token, project_id),
                Service(url, stub_token, cloud.project_id('admin')),
            )
            for name, url in (
                ('volumev3', cloud.cinder_url),
                ('compute', cloud.nova_url),
            )
        }


@pytest.mark.parametrize('version', ['volume 3.0', 'volume 3.27'])
@pytest.mark.parametrize('limit', [7, 100, 1000])
@pytest.mark.parametrize('status', [None, 'available', 'in-use'])
def test_pages_of_volumes(
    pairs: dict[str, Pair], limit: int, status: str | None, version: str
) -> None:
    path = f'/volumes/detail?all_tenants=1&limit={limit}'
    if status is not None:
        path += f'&status={status}'
    seen = _compare_pages(pairs['volumev3'], path, 'volumes', version)
    assert seen == [
        volume.id for volume in _VOLUMES if status in (None, volume.status)
    ]


@pytest.mark.parametrize('version', ['volume 3.27'])
@pytest.mark.parametrize('limit', [7, 1000])
def test_pages_of_attachments(
    pairs: dict[str, Pair], limit: int, version: str
) -> None:
    pair = pairs['volumev3']
    path = f'/attachments?all_tenants=1&limit={limit}'
    seen: list[str] = []
    while True:
        marker = f'&marker={seen[-1]}' if seen else ''
        made, stub = (side.outcome(path + marker, version) for side in pair)
        assert made == stub
        page = [item['id'] for item in json.loads(made['text'])['attachments']]
        if not page:
            break
        seen += page
    assert seen == [item.id for item in CLOUD.list_attachments()]


@pytest.mark.parametrize(
    'version', ['compute 2.1', 'compute 2.69', 'compute 2.96', 'compute 2.104']
)
@pytest.mark.parametrize('limit', [7, 50, 1000])
def test_pages_of_servers(
    pairs: dict[str, Pair], limit: int, version: str
) -> None:
    path = f'/servers/detail?all_tenants=1&limit={limit}'
    seen = _compare_pages(pairs['compute'], path, 'servers', version)
    assert seen == [server.id for server in _SERVERS]


def _compare_pages(
    pair: Pair, path: str, name: str, version: str
) -> list[str]:
    """Follow the links of both sides to the end, comparing each page.

    :returns: the ids of all that is listed
    """
    seen: list[str] = []
    while path:
        made, stub = (side.outcome(path, version) for side in pair)
        assert made == stub
        body = json.loads(made['text'])
        seen += [item['id'] for item in body[name]]
        path = ''
        for link in body.get(f'{name}_links', ()):
            # Without the version, which the address has.
            path = '/' + link['href'].split('/', 4)[4]
    return seen


@pytest.mark.parametrize('version', ['volume 3.27', 'volume 3.71'])
def test_single_volumes(pairs: dict[str, Pair], version: str) -> None:
    planted = [item.volume_id for item in _PLANTED]
    for volume_id in (*planted, _VOLUMES[-1].id, _UNKNOWN, 'nonsense'):
        for path in (
            f'/volumes/{volume_id}',
            f'/attachments?volume_id={volume_id}&all_tenants=1',
        ):
            made, stub = (
                side.outcome(path, version) for side in pairs['volumev3']
            )
            assert made == stub


def test_the_attachments_of_a_volume_come_to_an_end(
    pairs: dict[str, Pair],
) -> None:
    volume = next(item for item in _VOLUMES if len(item.attachments) > 1)
    first, second = (item.id for item in volume.attachments)
    path = f'/attachments?volume_id={volume.id}&all_tenants=1&limit=1'
    for marker, ids in (('', [first]), (first, [second]), (second, [])):
        following = f'&marker={marker}' if marker else ''
        made, stub = (
            side.outcome(path + following, 'volume 3.27')
            for side in pairs['volumev3']
        )
        assert made == stub
        found = json.loads(made['text'])['attachments']
        assert [item['id'] for item in found] == ids


@pytest.mark.parametrize('version', ['compute 2.1', 'compute 2.89'])
def test_single_servers(pairs: dict[str, Pair], version: str) -> None:
    named = [item.server_id for item in _PLANTED if item.server_id]
    volume_id = _SERVERS[0].volumes[0].volume_id
    for server_id in (*named, _SERVERS[0].id, _UNKNOWN):
        for path in (
            f'/servers/{server_id}',
            f'/servers/{server_id}/os-volume_attachments/{volume_id}',
        ):
            made, stub = (
                side.outcome(path, version) for side in pairs['compute']
            )
            assert made == stub


def test_what_volumes_disagree_with_themselves_in(
    pairs: dict[str, Pair],
) -> None:
    found = {}
    for status, attach_status in (
        ('available', 'attached'),
        ('in-use', 'detached'),
    ):
        answer = pairs['volumev3'].made.get(
            '/volumes/detail?all_tenants=1'
            f'&status={status}&attach_status={attach_status}',
            'volume 3.27',
        )
        found[status] = {item['id'] for item in answer.json()['volumes']}
        assert found[status] == {
            volume.id
            for volume in _VOLUMES
            if (volume.status, volume.attach_status) == (status, attach_status)
        }
    assert all(found.values())


@pytest.mark.parametrize('attach_status', ['attached', 'detached'])
def test_the_attach_status_of_a_volume(
    pairs: dict[str, Pair], attach_status: str
) -> None:
    for volume in _VOLUMES:
        answer = pairs['volumev3'].made.get(
            f'/volumes?all_tenants=1&id={volume.id}'
            f'&attach_status={attach_status}',
            'volume 3.27',
        )
        found = [item['id'] for item in answer.json()['volumes']]
        same = volume.attach_status == attach_status
        assert found == ([volume.id] if same else [])


def test_where_nova_runs_servers(pairs: dict[str, Pair]) -> None:
    answer = pairs['compute'].made.get(
        '/os-services?binary=nova-compute', 'compute 2.69'
    )
    hosts = {item['host'] for item in answer.json()['services']}
    assert hosts == {server.host for server in _SERVERS}


def test_each_kind_of_planted_findings_is_one() -> None:
    kinds = {item.kind for item in _PLANTED}
    # That takes a question about each volume in use, so no audit of a whole
    # cloud finds it.
    assert kinds == {*checks.CLASSES, 'foreign'} - {'attachment-id-mismatch'}


def test_what_is_planted_is_found_and_nothing_else() -> None:
    rules = foreign.Rules(compute_hosts=CLOUD.hosts)
    found: set[content.Planted] = set()
    for index in range(2 * CLOUD.pairs):
        case = rules.set_apart(_case(index))
        found |= {
            content.Planted(
                item.kind,
                item.volume_id,
                item.attachment_id,
                item.server_id,
            )
            for item in checks.find(case)
        }
        found |= {
            content.Planted('foreign', case.volume_id, item.id, item.server_id)
            for item in case.foreign
        }
    assert found == set(_PLANTED)


def _case(index: int) -> model.Case:
    """All that there is to be known of a volume."""
    volume_id = content.VOLUMES.id(index)
    volume = CLOUD.volume(index)
    attachments = CLOUD.attachments(index)
    mappings = {
        server.id: {item.volume_id: item for item in server.volumes}
        for server in _SERVERS
    }
    servers = {}
    for id in {
        *(item.server_id for item in attachments if item.server_id),
        *(id for id, held in mappings.items() if volume_id in held),
    }:
        held = mappings.get(id, {}).get(volume_id)
        word = model.Presence.LACKS if id in mappings else model.Presence.GONE
        servers[id] = model.Server(
            id,
            word if held is None else model.Presence.HAS,
            None if held is None else held.attachment_id,
        )
    return model.Case(
        volume_id,
        None
        if volume is None
        else model.Volume(
            volume.id, volume.project_id, volume.status, volume.attach_status
        ),
        tuple(
            model.Attachment(
                item.id, item.server_id, item.status, item.host, item.device
            )
            for item in attachments
        ),
        servers=servers,
    )


def test_a_cloud_has_to_have_something_in_it() -> None:
    with pytest.raises(ValueError, match='larger'):
        content.Cloud(10, 10, 6)


@pytest.mark.parametrize('index', [0, 1, 999_999, 2**31])
def test_ids_lead_back_to_what_they_are_of(index: int) -> None:
    id = content.VOLUMES.id(index)
    assert id[14] == '4'
    assert id[19] in '89ab'
    assert content.VOLUMES.index(id) == index
    assert content.SERVERS.index(id) > 2**100
