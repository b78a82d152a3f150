# SPDX-License-Identifier: Apache-2.0

"""Two clouds that are equal except for the guard.

Each consists of the real Cinder and stubs of Keystone and Nova. Nova sends
its service token, which Cinder requires since CVE-2023-2088.
"""

from __future__ import annotations

from concurrent import futures
import contextlib
import pathlib
import types

from attachguard import testing
from attachguard.testing import embedded


class Clouds:
    """A context manager that runs the two clouds.

    :param directory: directory for the configuration, database and log of
        the two Cinders, in ``without-guard`` and ``with-guard``
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.without_guard = testing.StubCloud(cinder=None)
        self.with_guard = testing.StubCloud(cinder=None)
        self._directory = directory
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Clouds:
        with contextlib.ExitStack() as stack:
            cinders = {}
            for cloud, guard, name in (
                (self.without_guard, False, 'without-guard'),
                (self.with_guard, True, 'with-guard'),
            ):
                stack.enter_context(cloud)
                cinder = embedded.EmbeddedCinder(
                    self._directory / name,
                    f'{cloud.keystone_url}/v3',
                    guard=guard,
                )
                stack.callback(cinder.stop)
                cinders[cinder] = cloud
            with futures.ThreadPoolExecutor() as pool:
                list(pool.map(embedded.EmbeddedCinder.start, cinders))
            for cinder, cloud in cinders.items():
                cloud.register_cinder(cinder.url)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._stack.close()
