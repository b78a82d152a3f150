# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Fixtures: the real services, started once, beside a cloud of stubs."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import json
import pathlib
import typing
import uuid

import pytest

from attachguard.testing import serve
from attachguard.testing import server as testing_server
from attachguard.testing import StubCloud
from tests.functional.real import process

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

#: Where no service listens.
NOWHERE = 'http://127.0.0.1:1/v3'


@dataclasses.dataclass(frozen=True)
class Pair:
    """A stub and the real service, the same things in both.

    :param stub: address of the stub, without a version
    :param real: address of the real service, without a version
    :param cloud: the cloud that the stub belongs to
    :param ids: ids that mean the same to both
    """

    stub: str
    real: str
    cloud: StubCloud
    ids: dict[str, str] = dataclasses.field(default_factory=dict)


def _empty_neutron(
    environ: wsgi_types.WSGIEnvironment,
    start_response: wsgi_types.StartResponse,
) -> Iterable[bytes]:
    """Answer every listing with an empty list: Nova lists a server's ports."""
    name = environ['PATH_INFO'].rpartition('/')[2].removesuffix('.json')
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps({name.replace('-', '_'): []}).encode()]


@pytest.fixture(scope='session')
def neutron() -> Iterator[testing_server.Server]:
    """A Neutron without a single port."""
    with serve(_empty_neutron) as served:
        yield served


@pytest.fixture(scope='session')
def keystone_pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    """The stub of Keystone beside the real one."""
    with (
        StubCloud() as cloud,
        process.running(
            'keystone_app',
            tmp_path_factory.mktemp('keystone'),
            {'public_url': NOWHERE},
        ) as real,
    ):
        yield Pair(cloud.keystone_url, real, cloud)


@pytest.fixture(scope='session')
def nova_pair(
    tmp_path_factory: pytest.TempPathFactory,
    neutron: testing_server.Server,
) -> Iterator[Pair]:
    """The stub of Nova beside the real one, with the same two servers.

    The server ``server`` of the project ``demo`` has the volume ``volume``,
    and from times before Queens the volume ``old_volume``; the project
    ``other`` has the server ``other_server``.
    """
    ids = {
        name: str(uuid.uuid4())
        for name in (
            'server',
            'other_server',
            'volume',
            'old_volume',
            'attachment',
            'nothing',
        )
    }
    with StubCloud() as cloud:
        cloud.keystone.add_endpoint('network', neutron.url, name='neutron')
        owners = {'server': 'member', 'other_server': 'other'}
        servers: list[dict[str, typing.Any]] = []
        for name, owner in owners.items():
            user = cloud.keystone.find_user(name=owner)
            assert user is not None
            cloud.nova.add_server(
                cloud.project_id(owner), server_id=ids[name], user_id=user.id
            )
            servers.append(
                {
                    'id': ids[name],
                    'project_id': cloud.project_id(owner),
                    'user_id': user.id,
                    'attachments': [],
                }
            )
        attachments: list[dict[str, typing.Any]] = [
            {
                'volume_id': ids['volume'],
                'attachment_id': ids['attachment'],
                'device_name': '/dev/vdb',
            },
            {
                'volume_id': ids['old_volume'],
                'attachment_id': None,
                'device_name': '/dev/vdc',
            },
        ]
        for attachment in attachments:
            cloud.nova.add_attachment(
                ids['server'],
                attachment['volume_id'],
                attachment_id=attachment['attachment_id'],
                device=attachment['device_name'],
            )
        servers[0]['attachments'] = attachments
        with process.running(
            'nova_app',
            tmp_path_factory.mktemp('nova'),
            {'keystone_url': cloud.keystone_url, 'servers': servers},
        ) as real:
            yield Pair(cloud.nova_server.url, real, cloud, ids)


@pytest.fixture(scope='session')
def cinder_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The stub of Cinder beside the real one, each in a cloud of stubs.

    The two clouds have the same users; ``Pair.cloud`` is the stub's.
    """
    # Where Cinder is not installed, its tests are to fail, and only those.
    from attachguard.testing.embedded import EmbeddedCinder

    with StubCloud() as cloud:
        with EmbeddedCinder(
            pathlib.Path(tmp_path_factory.mktemp('cinder')),
            cloud.keystone_url,
            guard=False,
        ) as cinder:
            yield Pair(
                cloud.cinder_server.url,
                cinder.url.removesuffix('/v3'),
                cloud,
            )
