# SPDX-License-Identifier: Apache-2.0

"""A pytest plugin with fixtures for other people's tests.

pytest loads it wherever attachguard is installed, also without the extras. So
it imports nothing before a fixture is used, and is not in the package
:mod:`attachguard.testing`, which imports waitress. The extra ``testing`` has
what the fixtures need, and ``demo`` has Cinder.
"""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import typing

import pytest

if typing.TYPE_CHECKING:
    from attachguard.testing import embedded
    from attachguard.testing import stub_cloud as stub_cloud_


@pytest.fixture
def stub_cloud() -> Iterator[stub_cloud_.StubCloud]:
    """A cloud of stubs: Keystone, Nova and Cinder on loopback."""
    from attachguard.testing import stub_cloud as stub_cloud_

    with stub_cloud_.StubCloud() as cloud:
        yield cloud


@pytest.fixture
def embedded_cinder(
    tmp_path: pathlib.Path,
) -> Iterator[tuple[stub_cloud_.StubCloud, embedded.EmbeddedCinder]]:
    """A cloud of stubs with the real Cinder, behind the guard."""
    from attachguard.testing import embedded
    from attachguard.testing import stub_cloud as stub_cloud_

    with stub_cloud_.StubCloud(cinder=None) as cloud:
        directory = tmp_path / 'cinder'
        with embedded.EmbeddedCinder(directory, cloud.keystone_url) as cinder:
            cloud.register_cinder(cinder.url)
            yield cloud, cinder
