# SPDX-License-Identifier: Apache-2.0
"""The files of a release, and an environment with the wheel.

The environment has the wheel and its requirements only, without Cinder.
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

from tests.conftest import PROXIES

_ROOT = pathlib.Path(__file__).parents[2]
CONSTRAINTS = _ROOT / 'tools' / 'upper-constraints.txt'
_LEFT_BEHIND = shutil.ignore_patterns(
    '.cloud',
    '.git',
    '.hypothesis',
    '.nightly',
    '.*_cache',
    '.tox',
    '.venv*',
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
        """Run a program of the environment.

        :param command: the name of the program and its arguments
        :param cwd: the working directory, which is not the checkout, because
            Python would import that
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
    """Return the environment without variables that add modules."""
    return PROXIES | {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(('PYTHON', 'VIRTUAL_ENV', 'PBR_'))
    }


def _run(command: Sequence[str | pathlib.Path], cwd: pathlib.Path) -> None:
    """Run a program that must succeed.

    :param command: the program and its arguments
    :param cwd: the working directory
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
    """Return the version for pbr if there is no git repository."""
    return {} if (source / '.git').exists() else {'PBR_VERSION': '0.0.0'}


@pytest.fixture(scope='session')
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the source distribution, and from that the wheel.

    They are built in a copy, so that no files are left in the checkout. The
    copy is a git repository if git is installed, because pbr lists the files
    of a release with git.
    """
    source = tmp_path_factory.mktemp('source') / 'attachguard'
    shutil.copytree(_ROOT, source, ignore=_LEFT_BEHIND)
    git = shutil.which('git')
    if git:
        _run([git, 'init', '--quiet'], source)
        for name, value in (
            ('user.name', 'tests'),
            ('user.email', 'tests@localhost'),
            ('commit.gpgsign', 'false'),
        ):
            _run([git, 'config', name, value], source)
        _run([git, 'add', '--all'], source)
        _run([git, 'commit', '--quiet', '--no-verify', '-mBuild'], source)
    _run([sys.executable, '-m', 'build', '--outdir', 'dist'], source)
    (sdist,) = source.glob('dist/*.tar.gz')
    (wheel,) = source.glob('dist/*.whl')
    return Built(sdist, wheel)


@pytest.fixture(scope='session')
def installed(
    built: Built, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Install the wheel in a new environment.

    The pip of this environment installs it, and compiles no modules, because
    the tests import few of them.
    """
    prefix = tmp_path_factory.mktemp('installed')
    _run([sys.executable, '-m', 'venv', '--without-pip', prefix], prefix)
    pip = [sys.executable, '-m', 'pip', f'--python={prefix}']
    options = ['--quiet', '--no-compile', '--disable-pip-version-check']
    command = [*pip, 'install', *options, f'--constraint={CONSTRAINTS}']
    _run([*command, built.wheel], prefix)
    return Environment(prefix)
