# SPDX-License-Identifier: Apache-2.0
"""Operators, who run ``attachguard`` on the cloud from their shell."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import yaml

from tests.cloud import cloud as clouds
from tests.cloud import config

_ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of a command.

    :param code: the exit code
    :param output: of ``-f json``; None if there is none
    :param errors: what it wrote to standard error
    """

    code: int
    output: Any
    errors: str


class Operator:
    """A user with a shell and clouds.yaml.

    :param cloud: the cloud, which runs
    :param home: a directory for their files
    :param name: of the user, one of :data:`tests.cloud.identity.PEOPLE`
    """

    def __init__(
        self, cloud: clouds.Cloud, home: pathlib.Path, name: str = 'admin'
    ) -> None:
        self._cloud = cloud
        self._home = home
        clouds_yaml = home / 'clouds.yaml'
        clouds_yaml.write_text(yaml.safe_dump(clouds.describe(cloud.places)))
        self._login: Mapping[str, str] = {
            'OS_CLIENT_CONFIG_FILE': str(clouds_yaml),
            'OS_CLOUD': name,
        }

    def with_openrc(self, name: str, project: str) -> Operator:
        """The same, with a shell's variables in place of clouds.yaml.

        :param name: of the user
        :param project: of the project
        """
        other = Operator(self._cloud, self._home)
        other._login = {
            'OS_AUTH_URL': self._cloud.places.keystone_url,
            'OS_USERNAME': name,
            'OS_PASSWORD': config.PASSWORD,
            'OS_PROJECT_NAME': project,
            'OS_USER_DOMAIN_NAME': 'Default',
            'OS_PROJECT_DOMAIN_NAME': 'Default',
            'OS_REGION_NAME': config.REGION,
        }
        return other

    def attachguard(self, *words: str | os.PathLike[str]) -> Run:
        """Run one of the commands, for a program to read.

        :param words: of the command line
        """
        if words[1:2] == ('--once',):
            # The tests wait for things to settle, and no longer.
            words = (*words[:2], '--settle=0s', *words[2:])
        done = self._run('attachguard', *words, '-f', 'json')
        output = json.loads(done.stdout) if done.stdout.strip() else None
        return Run(done.returncode, output, done.stderr)

    def type(self, script: str, where: pathlib.Path) -> str:
        """Run a script that attachguard prints.

        :param script: for a shell, with what is installed here in its PATH
        :param where: the directory to run it in; programs there come first
        :returns: what it prints
        :raises AssertionError: it fails
        """
        # What is there on a controller.
        conf = self._cloud.places.etc('cinder') / 'cinder.conf'
        script = script.replace('/etc/cinder/cinder.conf', str(conf))
        done = self._run('sh', '-euc', script, where=where)
        assert done.returncode in (0, 4), (script, done.stdout, done.stderr)
        return done.stdout

    def _run(
        self,
        program: str,
        *words: str | os.PathLike[str],
        where: pathlib.Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith('OS_')
        }
        bin_directory = pathlib.Path(sys.prefix, 'bin')
        found = bin_directory / program
        places = [] if where is None else [str(where)]
        return subprocess.run(
            [found if found.exists() else program, *words],
            env={
                **inherited,
                'PATH': os.pathsep.join(
                    [*places, str(bin_directory), os.environ['PATH']]
                ),
                # What is tested is this tree, whatever is installed.
                'PYTHONPATH': str(_ROOT),
                'XDG_STATE_HOME': str(self._home),
                **self._login,
            },
            cwd=where,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
