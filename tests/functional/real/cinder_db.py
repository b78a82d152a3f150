# SPDX-License-Identifier: Apache-2.0

"""Change Cinder's database with Cinder's own code.

It runs in a separate process for each database, because Cinder's
configuration is global.
"""

from __future__ import annotations

import json
import sys

from tests.functional.real import process


def sync(url: str) -> None:
    """Make the schema with Cinder's migrations.

    :param url: SQLAlchemy's URL of an empty database
    """
    process.complete(__name__, {'url': url, 'sync': True})


def detach(url: str, work: list[tuple[str, list[str]]]) -> None:
    """Delete attachments, as Cinder does after its driver.

    :param url: SQLAlchemy's URL of the database
    :param work: volumes, each with the ids of attachments; without ids, as
        Cinder does if it does not find the attachment
    """
    process.complete(__name__, {'url': url, 'detach': work})


def destroy(url: str, volume_ids: list[str]) -> None:
    """Delete the records of volumes.

    :param url: SQLAlchemy's URL of the database
    :param volume_ids: ids of the volumes
    """
    process.complete(__name__, {'url': url, 'destroy': volume_ids})


def _main() -> None:
    settings = json.loads(sys.argv[1])

    from cinder import context
    from cinder import objects

    # The import registers all options of Cinder.
    from cinder.common import config  # noqa: F401
    from cinder.db import api
    from cinder.db import migration
    from oslo_config import cfg

    cfg.CONF([], project='cinder', default_config_files=[])
    cfg.CONF.set_override('connection', settings['url'], 'database')
    if settings.get('sync'):
        migration.db_sync()
    objects.register_all()
    admin = context.get_admin_context()
    for volume_id, attachment_ids in settings.get('detach', ()):
        volume = objects.Volume.get_by_id(admin, volume_id)
        for attachment_id in attachment_ids or [None]:
            volume.finish_detach(attachment_id)
    for volume_id in settings.get('destroy', ()):
        api.volume_destroy(admin, volume_id)


if __name__ == '__main__':
    _main()
