# SPDX-License-Identifier: Apache-2.0
"""A cloud with the real Cinder, for all the tests that can share it."""

from collections.abc import Iterator

import pytest

from tests.chaos import chaos_cloud

# Its asserts are those of the tests that are inherited from it.
pytest.register_assert_rewrite('tests.chaos.outage_checks')


# Begins of the names of faults that make no difference with eventlet: it
# matters how the guard waits and reads, not what Nova responds. The last one
# blocks the whole process: see doc/source/reference/trouble.rst.
_NOT_WITH_EVENTLET = (
    'hangs-in-the-status',
    'hangs-in-the-headers',
    'resets-in-the-headers',
    'responds-',
    'always-responds-',
    'redirects-30',
    'tls-expired',
    'sends-100-Continue',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_needless(item)]


def _is_needless(item: pytest.Item) -> bool:
    called = getattr(item, 'callspec', None)
    params = called.params if called is not None else {}
    fault = str(params.get('outage', params.get('fault')))
    with_eventlet = params.get('cloud') == 'eventlet'
    return with_eventlet and fault.startswith(_NOT_WITH_EVENTLET)


@pytest.fixture(scope='session', params=['threads', 'eventlet'])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[chaos_cloud.Cloud]:
    directory = tmp_path_factory.mktemp('cinder')
    policy_file = directory / 'rules' / 'policy.yaml'
    policy_file.parent.mkdir()
    policy_file.write_text('{}\n')
    with chaos_cloud.start(
        directory, request.param, real=True, policy_file=policy_file
    ) as cloud:
        yield cloud
