# SPDX-License-Identifier: Apache-2.0
"""The limits of the guard are those that the page on limits describes."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any
import uuid

from oslo_config import cfg
import pytest
import webob
import yaml

from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import middleware
from attachguard.nova import client as nova_client
from tests.unit import fakes

_PAGE = pathlib.Path(__file__).parents[3] / 'doc/source/admin/limits.rst'
_SECTION = re.compile(r'^(\w.*)\n=+\n\n', re.M)
_BLOCK = re.compile(r'^\.\. code-block:: yaml\n\n((?:(?:   .*)?\n)+)', re.M)

PASSES = (202, None)
HAS = {(fakes.SERVER, fakes.VOLUME): fakes.ATTACHMENT}


def _sections() -> dict[str, str]:
    # The first is the title.
    parts = _SECTION.split(_PAGE.read_text())[3:]
    return dict(zip(parts[::2], parts[1::2]))


def _rules(section: str) -> dict[str, str]:
    [block] = _BLOCK.findall(_sections()[section])
    rules: dict[str, str] = yaml.safe_load(block)
    return rules


class Cloud:
    """The guard before a fake Cinder, with a fake Nova.

    :param cinder: the fake Cinder
    :param nova: the fake Nova
    """

    def __init__(
        self, cinder: fakes.FakeCinder, nova: fakes.FakeNova | None = None
    ) -> None:
        self.conf = cfg.ConfigOpts()
        self.conf([], default_config_files=[])
        self.cinder = cinder
        self.nova = nova or fakes.FakeNova()

    def use(self, directory: pathlib.Path, rules: Any) -> None:
        """Use other rules."""
        path = directory / 'rules.yaml'
        path.write_text(json.dumps(rules))
        opts.configure(self.conf, {'policy_file': str(path)})

    def send(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, str | None]:
        """Send a request of a member.

        :returns: the status, and the reason of a refusal
        """
        guard = middleware.AttachGuard(self.cinder, self.conf)
        guard.nova = self.nova
        environ = fakes.environ(method, f'/v3{path}', body, **more)
        response = webob.Request(environ).send(guard)
        [fault] = json.loads(response.body).values() or [{}]
        return response.status_int, fault.get('reason')

    def act(self, action: str, **more: Any) -> tuple[int, str | None]:
        """Send an action of the volume."""
        path = f'/volumes/{fakes.VOLUME}/action'
        return self.send('POST', path, {action: {}}, **more)

    def delete(self, attachment: str = fakes.ATTACHMENT) -> Any:
        """Delete an attachment."""
        return self.send('DELETE', f'/attachments/{attachment}')


def attached(**more: Any) -> fakes.FakeCinder:
    return fakes.FakeCinder([(fakes.ATTACHMENT, fakes.SERVER)], **more)


def test_each_limit_has_a_test() -> None:
    assert list(_sections()) == [
        'Attachments without a server',
        'Queries as the caller',
        'A volume without any attachment',
        'More than 16 servers',
        'Administrators',
        'A Nova without service tokens',
        # These are not seen by a filter at all.
        'Other ways to the records',
    ]


def test_attachments_without_a_server(tmp_path: pathlib.Path) -> None:
    create = {'attachment': {'volume_uuid': fakes.VOLUME}}
    cloud = Cloud(fakes.FakeCinder())
    assert cloud.send('POST', '/attachments', create) == PASSES
    path = f'/attachments/{fakes.ATTACHMENT}/action'
    cloud.cinder = fakes.FakeCinder([(fakes.ATTACHMENT, None)])
    assert cloud.send('POST', path, {'os-complete': {}}) == PASSES
    assert cloud.delete() == PASSES
    cloud.cinder = fakes.FakeCinder()
    cloud.use(tmp_path, _rules('Attachments without a server'))
    assert cloud.send('POST', '/attachments', create) == (403, 'no-server')


@pytest.mark.parametrize(
    'visibility',
    [nova_client.Visibility.CALLER, nova_client.Visibility.SOME_PROJECTS],
)
def test_queries_as_the_caller(visibility: nova_client.Visibility) -> None:
    cloud = Cloud(attached())
    cloud.nova.servers.clear()
    assert cloud.delete() == PASSES
    cloud.nova.visibility = visibility
    assert cloud.delete() == (503, 'server-unseen')
    cloud.cinder = attached(connected=False)
    assert cloud.delete() == PASSES


def test_a_volume_without_any_attachment() -> None:
    cloud = Cloud(fakes.FakeCinder())
    cloud.cinder.volume['status'] = 'in-use'
    assert cloud.act('os-detach') == (403, 'no-attachment')
    assert cloud.act('os-detach', roles=['admin']) == PASSES


def test_more_than_16_servers() -> None:
    pairs = [(str(uuid.uuid4()), str(uuid.uuid4())) for _ in range(17)]
    cloud = Cloud(fakes.FakeCinder(pairs))
    for action in ('os-detach', 'os-reserve'):
        assert cloud.act(action) == (403, 'too-many-servers')
    assert cloud.delete(pairs[0][0]) == PASSES
    cloud.cinder = fakes.FakeCinder(pairs[1:])
    assert cloud.act('os-detach') == PASSES


def test_administrators(tmp_path: pathlib.Path) -> None:
    cloud = Cloud(attached(), fakes.FakeNova(dict(HAS)))
    actions = (
        'os-force_detach',
        'os-reset_status',
        'os-migrate_volume_completion',
    )
    for action in actions:
        assert cloud.act(action, roles=['admin']) == PASSES
    cloud.use(tmp_path, _rules('Administrators'))
    for action in actions:
        assert cloud.act(action, roles=['admin']) == (403, 'policy')


class TestANovaWithoutServiceTokens:
    """What ``service-tokens.rst`` says of the preset."""

    @pytest.fixture
    def cloud(self, tmp_path: pathlib.Path) -> Cloud:
        cloud = Cloud(attached(), fakes.FakeNova(dict(HAS)))
        cloud.use(tmp_path, default_rules.NO_SERVICE_TOKEN)
        return cloud

    def connect(self, cloud: Cloud) -> tuple[int, str | None]:
        body = {'attachment': {'connector': {'host': 'a-host'}}}
        return cloud.send('PUT', f'/attachments/{fakes.ATTACHMENT}', body)

    def test_an_idle_server_keeps_what_is_attached(self, cloud: Cloud) -> None:
        assert cloud.delete()[0] == 409
        assert cloud.act('os-detach')[0] == 409
        assert self.connect(cloud)[0] == 403
        assert cloud.act('os-reimage')[0] == 403
        body = {'transfer': {'volume_id': fakes.VOLUME}}
        path = '/volume-transfers'
        assert cloud.send('POST', path, body) == (403, 'has-attachment')
        attach = {'os-attach': {'instance_uuid': fakes.SERVER}}
        path = f'/volumes/{fakes.VOLUME}/action'
        assert cloud.send('POST', path, attach)[0] == 403

    def test_nobody_connects_what_nova_does_not_have(
        self, cloud: Cloud
    ) -> None:
        cloud.nova.has.clear()
        assert self.connect(cloud)[0] == 403
        path = f'/attachments/{fakes.ATTACHMENT}/action'
        assert cloud.send('POST', path, {'os-complete': {}})[0] == 403

    def test_a_member_acts_on_a_busy_server(self, cloud: Cloud) -> None:
        cloud.nova.busy.add(fakes.SERVER)
        assert self.connect(cloud) == PASSES
        assert cloud.delete() == PASSES

    def test_a_member_deletes_what_is_not_attached(self, cloud: Cloud) -> None:
        cloud.cinder = attached(status='reserved')
        assert cloud.delete() == PASSES

    def test_a_member_acts_on_what_is_detaching(self, cloud: Cloud) -> None:
        assert cloud.act('os-begin_detaching') == PASSES
        cloud.cinder.volume['status'] = 'detaching'
        assert cloud.act('os-roll_detaching') == PASSES
        assert cloud.delete() == PASSES

    def test_a_member_reserves_for_a_server_that_does_not_exist(
        self, cloud: Cloud
    ) -> None:
        create = {
            'attachment': {
                'volume_uuid': fakes.VOLUME,
                'instance_uuid': fakes.SERVER,
            }
        }
        cloud.cinder = fakes.FakeCinder()
        cloud.nova.has.clear()
        assert cloud.send('POST', '/attachments', create)[0] == 403
        cloud.nova.servers.clear()
        assert cloud.send('POST', '/attachments', create) == PASSES
