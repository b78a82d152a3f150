# SPDX-License-Identifier: Apache-2.0

"""What an operator does about a forged attachment: audit and repair.

The commands run as their own processes, with the login of an administrator.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import subprocess
import sys

from attachguard.testing import stub_cloud
from attachguard.testing.demo import story

_TIMEOUT = 60.0
_COMMAND = 'import sys; from attachguard import cmd; sys.exit(cmd.main())'


@dataclasses.dataclass(frozen=True)
class Command:
    """A command and its effect.

    :param line: the command as an operator types it
    :param exit_code: its exit code
    :param output: what it prints, with its errors
    """

    line: str
    exit_code: int
    output: str


@dataclasses.dataclass(frozen=True)
class Cleanup:
    """The commands, and the volume after them.

    :param audit: the audit
    :param repair: the repair
    :param volume_id: the volume with the forged attachment
    :param status: its status in Cinder after the repair
    """

    audit: Command
    repair: Command
    volume_id: str
    status: str


def run(
    cloud: stub_cloud.StubCloud, told: story.Story, directory: pathlib.Path
) -> Cleanup:
    """Find and free the forged volume.

    Another volume is attached by Nova before, and stays attached.

    :param cloud: the cloud without the guard
    :param told: the story in this cloud, after its last step
    :param directory: for the journal of the repair
    """
    told.attach_another()
    login = credentials(cloud, 'admin')
    audit = _run(['audit', '--once', '--settle', '1s'], login)
    repair = _run(
        ['repair', '--once', '--settle', '1s', '--grace', '1s', '--yes']
        + ['--journal', str(directory / 'repair.journal')],
        login,
    )
    volume = told.cinder.volumes.get(told.vol.id)
    return Cleanup(audit, repair, told.vol.id, volume.status)


def credentials(cloud: stub_cloud.StubCloud, user: str) -> dict[str, str]:
    """Return the environment variables with which a user logs in.

    :param cloud: the cloud
    :param user: name of one of the cloud's users
    """
    return {
        'OS_AUTH_URL': f'{cloud.keystone_url}/v3',
        'OS_USERNAME': user,
        'OS_PASSWORD': user,
        'OS_PROJECT_NAME': stub_cloud.USERS[user][0],
        'OS_USER_DOMAIN_ID': 'default',
        'OS_PROJECT_DOMAIN_ID': 'default',
        'OS_REGION_NAME': stub_cloud.REGION,
    }


def _run(arguments: list[str], login: Mapping[str, str]) -> Command:
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith('OS_')
    }
    done = subprocess.run(
        [sys.executable, '-c', _COMMAND, *arguments],
        env={**environ, **login},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT,
    )
    line = ' '.join(['attachguard', *arguments])
    return Command(line, done.returncode, done.stdout)
