# SPDX-License-Identifier: Apache-2.0

"""The preflight's check of the credentials for Nova, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.guard import preflight
from attachguard.nova import client as nova_client
from attachguard.testing import stub_cloud


@pytest.fixture(scope='module')
def cloud() -> Iterator[stub_cloud.StubCloud]:
    with stub_cloud.StubCloud() as cloud:
        yield cloud


def make_nova(
    cloud: stub_cloud.StubCloud, user: str, **settings: str
) -> nova_client.Nova:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {**cloud.auth_settings(user), **settings})
    return nova_client.Nova(conf)


def test_credentials_need_access_to_all_projects(
    cloud: stub_cloud.StubCloud,
) -> None:
    found = preflight.credentials(make_nova(cloud, 'admin'))
    assert found.result is preflight.Result.OK
    # The user nova has no role but service.
    for user in ('nova', 'member'):
        found = preflight.credentials(make_nova(cloud, user))
        assert found.result is preflight.Result.WRONG
        assert "other projects' servers" in found.text


def test_invalid_credentials(cloud: stub_cloud.StubCloud) -> None:
    nova = make_nova(cloud, 'admin', password='wrong')
    found = preflight.credentials(nova)
    assert found.result is preflight.Result.WRONG
    assert 'Unauthorized' in found.text
    assert 'wrong' not in found.text
