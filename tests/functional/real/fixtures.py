# SPDX-License-Identifier: Apache-2.0

"""Fixtures that start each real service once, and a cloud of stubs for it."""

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
from attachguard.testing import StubCloud
from tests.functional.real import process

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types


@dataclasses.dataclass(frozen=True)
class Pair:
    """A stub and the real service, with the same resources.

    :param stub: address of the stub, without a version
    :param real: address of the real service, without a version
    :param cloud: the cloud with the stub
    :param ids: ids that are the same in both
    """

    stub: str
    real: str
    cloud: StubCloud
    ids: dict[str, str] = dataclasses.field(default_factory=dict)


def _empty_neutron(
    environ: wsgi_types.WSGIEnvironment,
    start_response: wsgi_types.StartResponse,
) -> Iterable[bytes]:
    """Respond to every list request of Nova with an empty list."""
    name = environ['PATH_INFO'].rpartition('/')[2].removesuffix('.json')
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps({name.replace('-', '_'): []}).encode()]


@pytest.fixture(scope='session')
def keystone_pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    """The stub of Keystone and the real one."""
    directory = tmp_path_factory.mktemp('keystone')
    with (
        StubCloud() as cloud,
        process.running('keystone_app', directory, {}) as real,
    ):
        yield Pair(cloud.keystone_url, real, cloud)


@pytest.fixture(scope='session')
def nova_pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    """The stub of Nova and the real one, with the same servers.

    The server ``server`` of the project ``demo`` has the volume ``volume``,
    and the volume ``old_volume``, attached before Queens. It also has the
    server ``new_server``, which Nova is building, and had ``dead_server``, on
    which Nova still has the volume ``left_volume``. The project ``other`` has
    the server ``other_server``.
    """
    names = (
        'server new_server dead_server other_server volume old_volume '
        'left_volume attachment nothing'
    )
    ids = {name: str(uuid.uuid4()) for name in names.split()}
    with StubCloud() as cloud, serve(_empty_neutron) as neutron:
        cloud.keystone.add_endpoint('network', neutron.url, name='neutron')
        for name, owner, status in (
            ('server', 'member', 'ACTIVE'),
            ('new_server', 'member', 'BUILD'),
            ('dead_server', 'member', 'DELETED'),
            ('other_server', 'other', 'ACTIVE'),
        ):
            user = cloud.keystone.find_user(name=owner)
            assert user is not None
            cloud.nova.add_server(
                cloud.project_id(owner),
                server_id=ids[name],
                user_id=user.id,
                status=status,
            )
        cloud.nova.servers[ids['new_server']].task_state = 'spawning'
        cloud.nova.servers[ids['dead_server']].deleted = True
        for server, volume, attachment_id in (
            ('server', 'volume', ids['attachment']),
            ('server', 'old_volume', None),
            ('dead_server', 'left_volume', ids['attachment']),
        ):
            cloud.nova.add_attachment(
                ids[server], ids[volume], attachment_id=attachment_id
            )
        servers = [dataclasses.asdict(s) for s in cloud.nova.servers.values()]
        with process.running(
            'nova_app',
            tmp_path_factory.mktemp('nova'),
            {'keystone_url': cloud.keystone_url, 'servers': servers},
        ) as real:
            yield Pair(cloud.nova_server.url, real, cloud, ids)


@pytest.fixture(scope='session')
def cinder_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The stub of Cinder and the real one, without the guard."""
    # Without Cinder, only the tests that use it fail.
    from attachguard.testing.embedded import EmbeddedCinder

    directory = pathlib.Path(tmp_path_factory.mktemp('cinder'))
    with (
        StubCloud() as cloud,
        EmbeddedCinder(directory, cloud.keystone_url, guard=False) as cinder,
    ):
        real = cinder.url.removesuffix('/v3')
        yield Pair(cloud.cinder_server.url, real, cloud)
