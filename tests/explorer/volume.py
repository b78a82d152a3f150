# SPDX-License-Identifier: Apache-2.0

"""A Cinder driver that writes exports down, and takes its time."""

from __future__ import annotations

import time
from typing import Any

from cinder import exception
from cinder import interface

from tests.cloud import volume as volumes
from tests.explorer import gate

# In seconds.
_COPYING = 3.0


@interface.volumedriver
class Driver(volumes.Driver):
    """Has one export a volume, as LVM."""

    def create_export(
        self, context: Any, volume: Any, connector: dict[str, Any]
    ) -> None:
        """Write it down."""
        _write('create', volume, context)

    def remove_export(self, context: Any, volume: Any) -> None:
        """Write it down."""
        _write('remove', volume, context)

    def initialize_connection(
        self, volume: Any, connector: dict[str, Any]
    ) -> dict[str, Any]:
        """Reject a connector without an initiator.

        :raises cinder.exception.InvalidConnectorException: it has none
        """
        if 'initiator' not in connector:
            raise exception.InvalidConnectorException(missing='initiator')
        return super().initialize_connection(volume, connector)

    def copy_image_to_volume(self, *args: Any, **kwargs: Any) -> None:
        """Take as long as Nova needs to attach a volume."""
        time.sleep(_COPYING)

    def terminate_connection(
        self, volume: Any, connector: dict[str, Any], **kwargs: Any
    ) -> Any:
        """Say whether the export must stay, as LVM does."""
        return len(volume.volume_attachment) > 1


def _write(what: str, volume: Any, context: Any) -> None:
    # The cloud's directory is the working directory.
    with open(gate.EXPORTS, 'a') as file:
        file.write(f'{what} {volume.id} {context.global_request_id}\n')
