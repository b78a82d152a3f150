# SPDX-License-Identifier: Apache-2.0

"""nova-compute on a hypervisor that has no guests.

Nova's fake drivers each have one half of what a cloud needs that is stopped
and started again: a node that stays the same, or live migration.
"""

from __future__ import annotations

# ruff: noqa: E402
import io
import sys
import time
from typing import Any

from nova import exception

# Nova wants to patch before anything else of it is imported.
from nova.cmd import compute
from nova.image import glance
from nova.virt import fake

from tests.cloud import compute_driver


class Driver(fake.FakeDriverWithoutFakeNodes):  # type: ignore[misc]
    """Builds, moves and remembers servers, and does nothing with them."""

    capabilities = {
        **fake.FakeDriverWithoutFakeNodes.capabilities,
        'supports_bfv_rescue': True,
    }

    def spawn(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Remember a server.

        :raises nova.exception.BuildAbortException: its name asks for it
        """
        if compute_driver.UNBUILDABLE in instance.display_name:
            raise exception.BuildAbortException(
                instance_uuid=instance.uuid, reason='its name'
            )
        super().spawn(context, instance, *args, **kwargs)

    def live_migration(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Take as long as the memory of a real guest does."""
        if compute_driver.SLOW_TO_MOVE in instance.display_name:
            time.sleep(compute_driver.MOVING_TIME)
        super().live_migration(context, instance, *args, **kwargs)

    def swap_volume(
        self,
        context: Any,
        old_connection_info: Any,
        new_connection_info: Any,
        instance: Any,
        *args: Any,
    ) -> None:
        """Take as long as the data of a real volume do."""
        if compute_driver.SLOW_TO_MOVE in instance.display_name:
            time.sleep(compute_driver.MOVING_TIME)
        super().swap_volume(
            context, old_connection_info, new_connection_info, instance, *args
        )

    def snapshot(
        self,
        context: Any,
        instance: Any,
        image_id: str,
        update_task_state: Any,
    ) -> None:
        """Upload an image of nothing, or it would be queued for ever."""
        super().snapshot(context, instance, image_id, update_task_state)
        glance.API().update(
            context,
            image_id,
            {'disk_format': 'raw', 'container_format': 'bare'},
            io.BytesIO(b'attachguard'),
        )

    def post_live_migration(
        self,
        context: Any,
        instance: Any,
        block_device_info: Any,
        migrate_data: Any = None,
    ) -> None:
        """Forget, on the source, a server that has moved."""
        self.destroy(
            context,
            instance,
            network_info=None,
            block_device_info=block_device_info,
        )


if __name__ == '__main__':
    sys.modules['nova.virt.attachguard'] = sys.modules[__name__]
    compute.main()
