# SPDX-License-Identifier: Apache-2.0
"""One cloud for all the tests here; each chooses its mode."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import uuid

import pytest

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import people
from tests.cloud import rules
from tests.cloud import stage as stages
from tests.cloud import traffic as traffics

_ROOT = pathlib.Path(__file__).parents[2]
_DIRECTORY = _ROOT / '.cloud' / 'test'


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of these tests."""
    group = parser.getgroup('cloud')
    group.addoption(
        '--cloud-directory',
        default=_DIRECTORY,
        type=pathlib.Path,
        help='where the cloud lives during the tests',
    )
    group.addoption(
        '--keep-cloud',
        action='store_true',
        help='do not stop the cloud, and use one that runs',
    )
    group.addoption(
        '--write-table',
        action='store_true',
        help='write the table of flows in the documentation',
    )
    group.addoption(
        '--race-seconds',
        default=30,
        type=int,
        help='how long members work beside the audit (default: %(default)s)',
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and ignore openstacksdk's warnings of itself."""
    config.addinivalue_line('markers', 'mode(mode): the mode of the cloud')
    for what in (
        'ignore::PendingDeprecationWarning:openstack',
        'ignore::openstack.warnings.RemovedInSDK50Warning',
    ):
        config.addinivalue_line('filterwarnings', what)


@pytest.fixture(scope='session')
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints on the terminal what is being done."""
    capture = request.config.pluginmanager.getplugin('capturemanager')

    def say(what: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f'cloud: {what}', flush=True)

    return say


@pytest.fixture(scope='session')
def whole_cloud(
    request: pytest.FixtureRequest, progress: Callable[[str], None]
) -> Iterator[clouds.Cloud]:
    """The cloud, running in some mode."""
    cloud = clouds.Cloud(
        request.config.getoption('--cloud-directory', _DIRECTORY), progress
    )
    keep = request.config.getoption('--keep-cloud', False)
    if not keep:
        cloud.down()
    try:
        cloud.up(modes.UNGUARDED)
        yield cloud
    finally:
        if not keep:
            cloud.keep(_ROOT / '.cloud' / 'kept')
            cloud.down()


@pytest.fixture
def stage(cloud: clouds.Cloud) -> Iterator[stages.Stage]:
    """Where a test makes its servers and volumes; cleared when it is over."""
    made = stages.Stage(cloud, f'req-{uuid.uuid4()}')
    yield made
    made.clear()


@pytest.fixture
def member(stage: stages.Stage) -> people.Caller:
    """A plain member of the project ``demo``."""
    return stage.member


@pytest.fixture
def traffic(cloud: clouds.Cloud) -> traffics.Traffic:
    """The requests to Cinder's API."""
    return traffics.Traffic(cloud)


@pytest.fixture
def policy_file(whole_cloud: clouds.Cloud) -> rules.Rules:
    """The operator's policy file, without any rule at first."""
    file = rules.Rules(whole_cloud)
    file.write({})
    return file


@pytest.fixture
def cloud(
    request: pytest.FixtureRequest,
    whole_cloud: clouds.Cloud,
    policy_file: rules.Rules,
) -> clouds.Cloud:
    """The cloud in the mode of ``@pytest.mark.mode(MODE)``.

    Without that mark, the guard is enforced by the rules of the policy file.
    """
    marker = request.node.get_closest_marker('mode')
    whole_cloud.switch(marker.args[0] if marker else policy_file.mode)
    return whole_cloud
