# SPDX-License-Identifier: Apache-2.0

"""The real Keystone, initialized as ``keystone-manage`` does."""

from __future__ import annotations

import pathlib

from keystone.cmd import bootstrap
from keystone.common import fernet_utils
from keystone.common.sql import upgrades
import keystone.server
from keystone.server.flask import application
from keystone.server.flask import core

from tests.functional.real import process

_CONFIG = """
[database]
connection = sqlite:///{directory}/keystone.sqlite
[fernet_tokens]
key_repository = {directory}/keys
[fernet_receipts]
key_repository = {directory}/keys
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
# The tests authenticate often.
password_hash_rounds = 4
"""


def main() -> None:
    """Serve Keystone with the user ``admin``."""
    settings, output = process.read_settings()
    directory = pathlib.Path(settings['directory'])
    config = directory / 'keystone.conf'
    config.write_text(_CONFIG.format(directory=directory))
    keystone.server.configure(config_files=[str(config)])

    upgrades.offline_sync_database_to_version()
    keys = fernet_utils.FernetUtils(
        str(directory / 'keys'), 3, 'fernet_tokens'
    )
    keys.create_key_directory()
    keys.initialize_key_repository()

    bootstrapper = bootstrap.Bootstrapper()
    bootstrapper.admin_username = 'admin'
    bootstrapper.admin_password = 'admin'
    bootstrapper.admin_role_name = 'admin'
    bootstrapper.project_name = 'admin'
    bootstrapper.service_name = 'keystone'
    bootstrapper.region_id = 'RegionOne'
    # No service listens there.
    bootstrapper.public_url = 'http://127.0.0.1:1/v3'
    bootstrapper.internal_url = bootstrapper.public_url
    bootstrapper.admin_url = bootstrapper.public_url
    bootstrapper.immutable_roles = True
    bootstrapper.bootstrap()
    process.serve_until_closed(
        core.setup_app_middleware(application.application_factory('public')),
        output,
    )


if __name__ == '__main__':
    main()
