# SPDX-License-Identifier: Apache-2.0

"""A Cinder driver that has no storage, for every flow of a whole cloud."""

from __future__ import annotations

import io
from typing import Any

from cinder import interface

from attachguard.testing import _cinder_driver


@interface.volumedriver
class Driver(_cinder_driver.NoStorageDriver):
    """Makes volumes from images without reading them, too."""

    def clone_image(
        self,
        context: Any,
        volume: Any,
        image_location: Any,
        image_meta: Any,
        image_service: Any,
    ) -> tuple[dict[str, Any], bool]:
        """Say that the image is in the volume already."""
        return {}, True

    def copy_image_to_volume(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a server is rebuilt from another image."""

    def copy_volume_to_image(
        self, context: Any, volume: Any, image_service: Any, image_meta: Any
    ) -> None:
        """Upload an image of nothing, for there is nothing in the volume."""
        image_service.update(
            context, image_meta['id'], {}, io.BytesIO(b'attachguard')
        )

    def retype(
        self,
        context: Any,
        volume: Any,
        new_type: Any,
        diff: Any,
        host: dict[str, Any],
    ) -> bool:
        """Say that a volume has its new type; the backend is the same."""
        return True
