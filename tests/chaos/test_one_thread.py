# SPDX-License-Identifier: Apache-2.0
"""Nova fails below a process that serves one request at a time.

A request that waits for Nova stops the whole process. In uWSGI without
``enable-threads``, no thread runs between two requests, the probe neither.
"""

from collections.abc import Iterator
import time

import pytest

from tests.chaos import chaos_cloud
from tests.outage import cinder_servers
from tests.outage import faults
from tests.outage.guarded_cloud import Response

_SERVERS = ['uwsgi-1x1', 'uwsgi-1x1-no-threads']
_SECONDS = 5.0
# So long that few probes are overdue within this time.
_BREAKER_SECONDS = 0.25


@pytest.fixture(scope='module', params=_SERVERS)
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[chaos_cloud.Cloud]:
    missing = cinder_servers.SHAPES[request.param].missing
    if missing:
        pytest.skip(f'missing: {missing}')
    directory = tmp_path_factory.mktemp('cinder')
    with chaos_cloud.start(
        directory, request.param, nova_breaker_seconds=_BREAKER_SECONDS
    ) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def _recovered(cloud: chaos_cloud.Cloud) -> None:
    cloud.wait_until_recovered()
    # An outage that begins so soon after the last one is a flapping Nova.
    time.sleep(10 * _BREAKER_SECONDS)


def _waited(responses: list[Response]) -> list[Response]:
    return [
        response
        for response in responses
        if response.seconds > 0.9 * chaos_cloud.NOVA_TIMEOUT
    ]


def _call(cloud: chaos_cloud.Cloud) -> list[Response]:
    responses = []
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        responses.append(cloud.attach())
        time.sleep(0.1)
    return responses


def test_a_server_without_threads_is_logged(cloud: chaos_cloud.Cloud) -> None:
    without = cinder_servers.SHAPES['uwsgi-1x1-no-threads']
    logged = 'The server runs no threads between requests' in cloud.log
    assert logged is (cloud.cinder.shape is without)


def test_one_request_of_an_outage_waits(cloud: chaos_cloud.Cloud) -> None:
    with cloud.nova.failing(faults.ALL['hangs-before-responding']):
        responses = _call(cloud)
    assert {each.status for each in responses} == {503}
    assert len(responses) > 10
    assert len(_waited(responses)) == 1
    cloud.assert_recovers()


def test_few_requests_wait_while_nova_drips_headers(
    cloud: chaos_cloud.Cloud,
) -> None:
    # No timeout ends the probe.
    with cloud.nova.failing(faults.ALL['drips-headers']):
        responses = _call(cloud)
    assert {each.status for each in responses} == {503}
    assert len(responses) > 10
    assert len(_waited(responses)) <= 2
    cloud.assert_recovers()


def test_nobody_waits_when_nova_is_back(cloud: chaos_cloud.Cloud) -> None:
    with cloud.nova.failing(faults.ALL['hangs-before-responding']):
        cloud.attach()
        time.sleep(1)
    responses = [cloud.attach()]
    while responses[-1].status == 503 and len(responses) < 100:
        time.sleep(0.1)
        responses.append(cloud.attach())
    assert responses[-1].status == 403
    assert not _waited(responses)
