# SPDX-License-Identifier: Apache-2.0

"""Commands to try in the clouds of ``attachguard demo --serve``.

They contain the addresses, ids and tokens of the running clouds, so that a
user can paste them without changes.
"""

from __future__ import annotations

import os
import sys
import textwrap
import uuid

from attachguard import testing
from attachguard.testing.demo import cleanup
from attachguard.testing.demo import clouds
from attachguard.testing.demo import story

_TEXT = """\

Both clouds are running. Each has a volume "spare" and a server "MyVm".
Paste a block into another terminal. Press Ctrl-C here to stop both clouds.
"""

_BLOCK = """
# ---- {title}
{exports}
# Forge an attachment to a server that does not exist. Expected: {forging}
curl -i -H "X-Auth-Token: $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"os-attach": {{"instance_uuid": "{no_such_server}",
                       "mountpoint": "/dev/vdc"}}}}' \\
    "$CINDER/volumes/$SPARE/action"
cinder list
# Attach the volume by Nova. Expected: {attaching}
curl -i -H "X-Auth-Token: $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"volumeAttachment": {{"volumeId": "'$SPARE'"}}}}' \\
    "$NOVA/servers/$MYVM/os-volume_attachments"
cinder list
curl -s -H "X-Auth-Token: $TOKEN" "$NOVA/servers/$MYVM/os-volume_attachments"
# As an administrator: find inconsistent volumes, and free them. {auditing}
export {admin}
attachguard audit --once --settle 1s
attachguard repair --once --settle 1s --yes
"""


# What differs from the login of the user.
_ADMIN = 'OS_USERNAME=admin OS_PASSWORD=admin OS_PROJECT_NAME=admin'


def render(running: clouds.Clouds) -> str:
    """Create a volume in each cloud and write the commands for it.

    :param running: the clouds, after the demonstration
    :returns: text to print
    """
    return (
        _TEXT
        + _BLOCK.format(
            title='with the guard',
            exports=_exports(running.with_guard),
            forging='403',
            no_such_server=uuid.uuid4(),
            attaching='200',
            auditing='There are none.',
            admin=_ADMIN,
        )
        + _BLOCK.format(
            title='without the guard',
            exports=_exports(running.without_guard),
            forging='202, the volume is in-use',
            no_such_server=uuid.uuid4(),
            attaching='400, because the volume is in-use',
            auditing='Expected: spare.',
            admin=_ADMIN,
        )
    )


def _exports(cloud: testing.StubCloud) -> str:
    user = story.Story(cloud)
    (vm,) = user.nova.servers.list()
    spare = user.cinder.volumes.create(1, name='spare')
    session = cloud.session('member')
    settings = {
        # The clients are installed beside this Python.
        'PATH': f'{os.path.dirname(sys.executable)}:$PATH',
        **cleanup.credentials(cloud, 'member'),
        'OS_VOLUME_API_VERSION': '3.44',
        'CINDER': session.get_endpoint(service_type='block-storage'),
        'NOVA': session.get_endpoint(service_type='compute'),
        'MYVM': vm.id,
        'SPARE': spare.id,
        'TOKEN': session.get_token(),
    }
    text = ' '.join(f'{name}={value}' for name, value in settings.items())
    return '\n'.join(
        f'export {line}'
        for line in textwrap.wrap(
            text, 70, break_long_words=False, break_on_hyphens=False
        )
    )
