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
"""A wheel as users get it, installed where Cinder is not.

``built`` is what a release would upload; ``installed`` is an environment
that has nothing but the wheel and what the wheel asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_LEFT_BEHIND = shutil.ignore_patterns(
    '.git',
    '.hypothesis',
    '.*_cache',
    '.tox',
    '.venv',
    '__pycache__',
    '*.egg-info',
    'build',
    'dist',
)


class Built(NamedTuple):
    """The files that a release consists of."""

    sdist: pathlib.Path
    wheel: pathlib.Path


class Environment(NamedTuple):
    """A virtual environment."""

    prefix: pathlib.Path

    def run(
        self, command: Sequence[str], cwd: pathlib.Path
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's own programs, and wait for it.

        :param command: the program's name and its arguments.
        :param cwd: where to run it; never the checkout, which would be
            imported in place of what is installed.
        """
        program, *arguments = command
        return subprocess.run(
            [self.prefix / 'bin' / program, *arguments],
            cwd=cwd,
            env=_clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )


def _clean_environment() -> dict[str, str]:
    """Return our own environment without what would leak modules into it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('PYTHON', 'VIRTUAL_ENV', 'PBR_'))
    }


def _run(command: Sequence[str | pathlib.Path], cwd: pathlib.Path) -> None:
    """Run a program that must succeed, and show what it said if it did not.

    :param command: the program and its arguments.
    :param cwd: where to run it.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=_clean_environment() | _version_without_git(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def _version_without_git(source: pathlib.Path) -> dict[str, str]:
    """Return what pbr needs to know where it cannot ask git."""
    return {} if (source / '.git').exists() else {'PBR_VERSION': '0.0.0'}


@pytest.fixture(scope='session')
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the source distribution, and from that the wheel.

    In a copy, so that a build leaves nothing in the checkout, and under git
    where there is one, since pbr lets git say what a release contains.
    """
    source = tmp_path_factory.mktemp('source') / 'attachguard'
    shutil.copytree(_ROOT, source, ignore=_LEFT_BEHIND)
    git = shutil.which('git')
    if git:
        _run([git, 'init', '--quiet'], source)
        _run([git, 'add', '--all'], source)
        _run(
            [
                git,
                '-c',
                'user.name=tests',
                '-c',
                'user.email=tests@localhost',
                '-c',
                'commit.gpgsign=false',
                'commit',
                '--quiet',
                '--no-verify',
                '--message=Build',
            ],
            source,
        )
    _run([sys.executable, '-m', 'build', '--outdir', 'dist'], source)
    (sdist,) = source.glob('dist/*.tar.gz')
    (wheel,) = source.glob('dist/*.whl')
    return Built(sdist, wheel)


@pytest.fixture(scope='session')
def installed(
    built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Install the wheel in an environment of its own."""
    prefix = tmp_path_factory.mktemp('installed')
    _run([sys.executable, '-m', 'venv', prefix], prefix)
    _run(
        [
            prefix / 'bin' / 'python',
            '-m',
            'pip',
            'install',
            '--quiet',
            '--constraint',
            _ROOT / 'tools' / 'upper-constraints.txt',
            built.wheel,
        ],
        prefix,
    )
    return Environment(prefix)
