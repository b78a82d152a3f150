# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""The real Cinder's own pipeline, in this process.

It is what a request's way through the guard is a share of: auth_token, the
context, Cinder's router and controllers and its database, on SQLite.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import pathlib
import sys
import sysconfig
import tempfile
from typing import TYPE_CHECKING
import warnings

from cinder import context
from cinder import objects
from cinder import rpc
from cinder.common import config
from cinder.db import migration
from cinder.volume import volume_types
from oslo_config import cfg
from oslo_log import log as logging
from oslo_service import wsgi

from attachguard.testing import embedded
from benchmarks import neighbours

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_CONF = """\
[DEFAULT]
api_paste_config = {directory}/api-paste.ini
auth_strategy = keystone
log_file = {directory}/cinder.log
resource_query_filters_file = {filters}
state_path = {directory}
transport_url = fake://
[database]
connection = sqlite:///{directory}/cinder.sqlite
[keystone_authtoken]
auth_type = password
auth_url = {keystone_url}/v3
password = cinder
project_domain_id = default
project_name = service
service_token_roles_required = true
service_type = block-storage
user_domain_id = default
username = cinder
www_authenticate_uri = {keystone_url}/v3
[oslo_concurrency]
lock_path = {directory}
"""


@contextlib.contextmanager
def loaded(
    nearby: neighbours.Neighbours, project_id: str, volumes: int
) -> Iterator[WSGIApplication]:
    """Load Cinder's API, without the guard, for as long as the block lasts.

    :param nearby: where the Keystone is
    :param project_id: the project to which volumes belong
    :param volumes: how many it has
    """
    objects.register_all()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        with (directory / 'api-paste.ini').open('w') as file:
            embedded.without_guard(embedded.sample_paste_ini()).write(file)
        conf = directory / 'cinder.conf'
        conf.write_text(
            _CONF.format(
                directory=directory,
                filters=pathlib.Path(
                    sysconfig.get_path('data'),
                    'etc/cinder/resource_filters.json',
                ),
                keystone_url=nearby.keystone_url,
            )
        )
        cfg.CONF(['--config-file', str(conf)], project='cinder')
        config.set_middleware_defaults()
        logging.setup(cfg.CONF, 'cinder')
        # What fails here is to be seen, not to be logged.
        sys.excepthook = sys.__excepthook__
        rpc.init(cfg.CONF)
        with warnings.catch_warnings():
            # Of Cinder's migrations, on SQLite.
            warnings.simplefilter('ignore')
            migration.db_sync()
        _create_volumes(project_id, volumes)
        yield wsgi.Loader(cfg.CONF).load_app('osapi_volume')


def _create_volumes(project_id: str, count: int) -> None:
    admin = context.RequestContext(
        user_id='somebody', project_id=project_id, is_admin=True
    )
    kinds = volume_types.get_all_types(admin)
    for index in range(count):
        objects.Volume(
            admin,
            attach_status='detached',
            availability_zone='nova',
            display_name=f'volume {index}',
            host='host@backend#pool',
            project_id=project_id,
            size=1,
            status='available',
            use_quota=True,
            user_id='somebody',
            volume_type_id=kinds['__DEFAULT__']['id'],
        ).create()
