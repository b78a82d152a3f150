# SPDX-License-Identifier: Apache-2.0

"""A Cinder volume driver without storage.

Cinder's own fake drivers are in its unit tests. To import those needs Cinder's
test requirements and monkey-patches the process.
"""

from __future__ import annotations

from typing import Any

from cinder import interface
from cinder.volume import driver


@interface.volumedriver
class NoStorageDriver(driver.VolumeDriver):  # type: ignore[misc]
    """Succeeds at every operation and stores nothing.

    It reports an infinite pool that supports multiattach volumes. A volume's
    connection is an iSCSI target that does not exist, named after its id.
    """

    VERSION = '1.0'
    CI_WIKI_NAME = 'none'

    def do_setup(self, context: Any) -> None:
        pass

    def check_for_setup_error(self) -> None:
        pass

    def _update_volume_stats(self) -> None:
        self._stats = {
            'volume_backend_name': self.configuration.volume_backend_name,
            'vendor_name': 'attachguard',
            'driver_version': self.VERSION,
            'storage_protocol': 'iSCSI',
            'total_capacity_gb': 'infinite',
            'free_capacity_gb': 'infinite',
            'reserved_percentage': 0,
            'multiattach': True,
        }

    def create_volume(self, volume: Any) -> None:
        pass

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> None:
        pass

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        pass

    def extend_volume(self, volume: Any, new_size: int) -> None:
        pass

    def delete_volume(self, volume: Any) -> None:
        pass

    def create_snapshot(self, snapshot: Any) -> None:
        pass

    def delete_snapshot(self, snapshot: Any) -> None:
        pass

    def ensure_export(self, context: Any, volume: Any) -> None:
        pass

    def create_export(
        self, context: Any, volume: Any, connector: dict[str, Any]
    ) -> None:
        pass

    def remove_export(self, context: Any, volume: Any) -> None:
        pass

    def initialize_connection(
        self, volume: Any, connector: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            'driver_volume_type': 'iscsi',
            'data': {
                'target_portal': '127.0.0.1:3260',
                'target_iqn': f'iqn.2010-10.org.openstack:{volume.id}',
                'target_lun': 1,
                'access_mode': 'rw',
            },
        }

    def terminate_connection(
        self, volume: Any, connector: dict[str, Any], **kwargs: Any
    ) -> None:
        pass
