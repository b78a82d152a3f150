# SPDX-License-Identifier: Apache-2.0
"""With ``on_nova_error = allow``: what is forwarded during an outage."""

from collections.abc import Iterator

import pytest

from tests.chaos import chaos_cloud
from tests.outage import faults


@pytest.fixture(scope='module')
def cloud(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[chaos_cloud.Cloud]:
    directory = tmp_path_factory.mktemp('cinder')
    with chaos_cloud.start(
        directory, 'threads', on_nova_error='allow'
    ) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def _recovered(cloud: chaos_cloud.Cloud) -> Iterator[None]:
    yield
    # A forged request is refused again.
    while cloud.member.attach(cloud.create_volume()).status != 403:
        pass


@pytest.mark.parametrize(
    'fault',
    [
        'refuses',
        'hangs-before-responding',
        'drips-headers',
        'drips-a-body',
        'resets-in-the-body',
        'responds-502-in-html',
        'responds-503-retry-after-a-day',
    ],
)
def test_a_request_is_forwarded_in_time(
    cloud: chaos_cloud.Cloud, fault: str
) -> None:
    volume_id = cloud.create_volume()
    with cloud.nova.failing(faults.ALL[fault]):
        response = cloud.member.attach(volume_id)
    assert response.status == 202, response
    assert response.seconds < chaos_cloud.LATEST
    assert cloud.show(volume_id)['status'] == 'in-use'
    decision = cloud.log.rsplit('attachguard decision', 1)[1]
    assert '"verdict": "unknown"' in decision
    assert '"enforced": false' in decision


@pytest.mark.parametrize(
    'fault',
    [
        'always-responds-401',
        'always-responds-403',
        'responds-429-retry-after-a-day',
        'responds-500',
        'responds-404-in-html',
        'responds-200-with-garbage',
        'redirects-307-to-another-host',
        'sends-100-MB-as-one-string',
    ],
)
def test_a_request_to_which_nova_responds_otherwise_is_refused(
    cloud: chaos_cloud.Cloud, fault: str
) -> None:
    volume_id = cloud.create_volume()
    with cloud.nova.failing(faults.ALL[fault]):
        for _ in range(7):
            assert cloud.member.attach(volume_id).status == 503
    assert cloud.show(volume_id)['status'] == 'available'


def test_a_request_above_the_concurrency_limit_is_refused(
    cloud: chaos_cloud.Cloud,
) -> None:
    # Callers can cause that themselves, and could forge attachments with it.
    volumes = [
        cloud.create_volume() for _ in range(2 * chaos_cloud.CONCURRENCY)
    ]
    with cloud.nova.failing(faults.ALL['hangs-before-responding']):
        responses = chaos_cloud.at_once(
            len(volumes), lambda: cloud.member.attach(volumes.pop())
        )
    immediate = [
        each.status
        for each in responses
        if each.seconds < 0.5 * chaos_cloud.NOVA_TIMEOUT
    ]
    assert immediate
    assert {*immediate} == {503}
