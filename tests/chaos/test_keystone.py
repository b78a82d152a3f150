# SPDX-License-Identifier: Apache-2.0
"""Keystone fails when the guard, with its own credentials, needs a token.

For Cinder's own checks of its callers' tokens, Keystone works: without it, no
request reaches the guard.
"""

from collections.abc import Iterator
import datetime

import pytest

from tests.chaos import chaos_cloud
from tests.chaos import outage_checks
from tests.outage import faults

# Those that the guard would handle in the same way as another one are left
# out.
_FAULTS = [
    'refuses',
    'hangs-before-responding',
    'hangs-in-the-body',
    'drips-headers',
    'drips-a-body',
    'drips-chunks',
    'resets-before-responding',
    'truncates-the-body',
    'responds-500',
    'responds-503-retry-after-a-day',
    'responds-429-retry-after-a-day',
    'always-responds-401',
    'responds-404-in-html',
    'responds-200-with-garbage',
    'responds-200-for-another-server',
    'sends-100-MB-as-one-string',
    'sends-8-MB-of-many-lists',
    'sends-headers-without-end',
    'sends-100-Continue-without-end',
    'redirects-302',
    'redirects-307-to-another-host',
]
# keystoneauth renews a token that has less than thirty seconds left.
_SHORT = datetime.timedelta(seconds=25)


@pytest.fixture(scope='module')
def cloud(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[chaos_cloud.Cloud]:
    directory = tmp_path_factory.mktemp('cinder')
    with chaos_cloud.start(directory, 'threads', credentials='admin') as cloud:
        yield cloud
    # A token begins with it.
    assert 'gAAAAA' not in cloud.log


@pytest.fixture(autouse=True)
def _recovered(cloud: chaos_cloud.Cloud) -> None:
    cloud.wait_until_recovered()


def _renew_token(cloud: chaos_cloud.Cloud) -> None:
    """Let Nova reject the guard's token once, so that it gets a new one."""
    cloud.stubs.nova.faults.add(401, path='/servers/')
    response = cloud.attach()
    assert response.status == 403, response


class TestKeystoneFails(outage_checks.Expected):
    """Keystone, or what responds instead of it, has a fault."""

    @pytest.fixture(scope='class', params=_FAULTS)
    @staticmethod
    def outage(
        request: pytest.FixtureRequest, cloud: chaos_cloud.Cloud
    ) -> outage_checks.Outage:
        keystone = cloud.stubs.keystone
        lifetime = keystone.token_lifetime
        keystone.token_lifetime = _SHORT
        try:
            # From now on the guard has a token that it has to renew.
            _renew_token(cloud)
            return outage_checks.try_fault(
                cloud, cloud.keystone, request.param
            )
        finally:
            keystone.token_lifetime = lifetime


def test_a_token_that_nova_rejects_is_renewed_once(
    cloud: chaos_cloud.Cloud,
) -> None:
    before = cloud.keystone.requests
    _renew_token(cloud)
    assert cloud.keystone.requests == before + 1
    assert cloud.attach().status == 403
    assert cloud.keystone.requests == before + 1


def test_one_query_renews_at_most_one_token(
    cloud: chaos_cloud.Cloud,
) -> None:
    before = cloud.keystone.requests
    with cloud.nova.failing(faults.ALL['always-responds-401']):
        responses = [cloud.attach() for _ in range(20)]
    assert {each.status for each in responses} == {503}
    assert cloud.keystone.requests - before <= len(responses)
    cloud.assert_recovers()


def test_keystone_is_not_needed_while_the_token_is_valid(
    cloud: chaos_cloud.Cloud,
) -> None:
    with cloud.keystone.failing(faults.ALL['hangs-before-responding']):
        responses = chaos_cloud.at_once(4, cloud.attach)
    assert {each.status for each in responses} == {403}
