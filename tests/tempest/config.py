# SPDX-License-Identifier: Apache-2.0
"""The configuration of Tempest for a cloud of :mod:`tests.cloud`."""

from __future__ import annotations

import configparser
import importlib.util
import pathlib
from typing import Any

from nova.conf import scheduler

from tests.cloud import cloud as clouds
from tests.cloud import compute_driver
from tests.cloud import config
from tests.cloud import identity

_IMAGE = 'tempest'


def _find(admin: Any) -> dict[str, Any]:
    """The ids that tests need; makes an image if there is none yet."""
    flavors = {flavor.name: flavor.id for flavor in admin.compute.flavors()}
    image = admin.image.find_image(_IMAGE)
    if image is None:
        image = admin.image.create_image(
            _IMAGE,
            data=b'attachguard',
            disk_format='raw',
            container_format='bare',
            visibility='public',
            min_disk=1,
            # Some tests are for such images only.
            hw_disk_bus='scsi',
            hw_scsi_model='virtio-scsi',
        )
    return {
        'flavor_ref': flavors['tiny'],
        'flavor_ref_alt': flavors['small'],
        'image_ref': image.id,
        'image_ref_alt': admin.image.find_image(clouds.IMAGE).id,
    }


def _options(places: config.Places, compute: dict[str, Any]) -> config.Options:
    # Nova's defaults, which the cloud does not change.
    (filters,) = [
        option.default
        for option in scheduler.filter_scheduler_opts
        if option.name == 'enabled_filters'
    ]
    return {
        'DEFAULT': {
            'debug': True,
            'default_log_levels': (
                'tempest.lib.common.rest_client=INFO,urllib3=WARN'
            ),
        },
        'auth': {
            'admin_username': 'admin',
            'admin_password': config.PASSWORD,
            'admin_project_name': 'admin',
            'admin_domain_name': 'Default',
            'tempest_roles': 'member',
            # Of networks, the cloud's stand-in for Neutron has only lists,
            # and they are empty.
            'create_isolated_networks': False,
        },
        'compute': {
            **compute,
            'min_compute_nodes': len(compute_driver.HOSTS),
            'min_microversion': '2.1',
            'max_microversion': 'latest',
        },
        # What the fake hypervisor does.
        'compute-feature-enabled': {
            # Cinder has no manager of keys here.
            'attach_encrypted_volume': False,
            'block_migration_for_live_migration': True,
            'console_output': False,
            'interface_attach': False,
            'live_migrate_back_and_forth': True,
            'resize': True,
            'scheduler_enabled_filters': ','.join(filters),
            'stable_rescue': True,
            'swap_volume': True,
            'vnc_console': False,
            'volume_backed_live_migration': True,
            'volume_multiattach': True,
        },
        'enforce_scope': dict.fromkeys(
            ('cinder', 'glance', 'keystone', 'nova'), True
        ),
        'identity': {'uri_v3': places.keystone_url, 'region': config.REGION},
        'oslo_concurrency': {
            'lock_path': places.directory / 'state' / 'tempest'
        },
        'service_available': {
            'horizon': False,
            'swift': False,
        },
        # There are no guests to log into.
        'validation': {'connect_method': 'fixed', 'run_validation': False},
        'volume': {
            'backend_names': 'one,two',
            # Glance inspects images of another format.
            'disk_format': 'raw',
            'min_microversion': '3.0',
            'max_microversion': 'latest',
            'storage_protocol': 'iSCSI',
            'vendor_name': 'attachguard',
            'volume_type': 'one',
            'volume_type_multiattach': 'multiattach',
        },
        'volume-feature-enabled': {
            'backup': False,
            'concurrency_tests': True,
            'extend_attached_volume': True,
            'multi_backend': True,
        },
    }


def write(cloud: clouds.Cloud, log: pathlib.Path) -> pathlib.Path:
    """Write tempest.conf, and where stestr finds the tests.

    :param cloud: the cloud, which runs
    :param log: where Tempest logs every request that its tests make
    :returns: tempest.conf
    :raises ModuleNotFoundError: Tempest is not installed
    """
    spec = importlib.util.find_spec('tempest')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            'Tempest is not installed: pip install -r '
            'tests/tempest/requirements.txt -c tools/upper-constraints.txt'
        )
    package = pathlib.Path(spec.origin).parent
    places = cloud.places
    options = _options(
        places, _find(identity.connect(places, 'admin', 'admin'))
    )
    options['DEFAULT'] |= {'log_dir': log.parent, 'log_file': log.name}
    path = places.etc('tempest') / 'tempest.conf'
    path.parent.mkdir(parents=True, exist_ok=True)
    parser = configparser.ConfigParser(
        interpolation=None, default_section='none'
    )
    parser.read_dict(options)
    with path.open('w') as file:
        parser.write(file)
    (cloud.directory / '.stestr.conf').write_text(
        f'[DEFAULT]\ntest_path={package}/test_discover\n'
        f'top_dir={package.parent}\n'
        # What a class sets up is dear: its tests stay together.
        'group_regex=([^\\.]*\\.)*\n'
    )
    return path
