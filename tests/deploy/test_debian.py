# SPDX-License-Identifier: Apache-2.0
"""Debian: the package is built, and used in a clean root.

Both are done in roots of Debian 13 that mmdebstrap makes. It needs the rights
of root, and a mirror of Debian.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import os
import pathlib
import shutil
import subprocess

import pytest

from tests.conftest import PROXIES
from tests.deploy import conftest

pytestmark = pytest.mark.nightly

SUITE = 'trixie'
# In a name space of its own, so that nothing stays mounted.
ENTER = 'mount --rbind /dev "$0/dev" && exec chroot "$0" sh -euc "$1"'


@dataclasses.dataclass(frozen=True)
class Root:
    """A Debian in a directory.

    :param directory: the directory
    """

    directory: pathlib.Path

    def run(self, script: str) -> str:
        """Run a script of the shell in it, which must succeed.

        :returns: what it printed
        """
        done = subprocess.run(
            [
                'unshare',
                '--mount',
                '--pid',
                '--fork',
                f'--mount-proc={self.directory}/proc',
                *('sh', '-c', ENTER, self.directory, script),
            ],
            env={
                **PROXIES,
                'DEBIAN_FRONTEND': 'noninteractive',
                'LC_ALL': 'C.UTF-8',
                'PATH': '/usr/sbin:/usr/bin:/sbin:/bin',
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install packages, and what they need."""
        self.run(
            'apt-get -qq install --yes --no-install-recommends '
            + ' '.join(packages)
        )


@pytest.fixture(scope='module')
def new_root(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[pathlib.Path]:
    """A root that has apt and little else, to be copied."""
    if not shutil.which('mmdebstrap') or os.geteuid() != 0:
        pytest.skip('no mmdebstrap, or not root: see bindep.txt')
    directory = tmp_path_factory.mktemp('roots')
    root = directory / 'new'
    subprocess.run(
        ['mmdebstrap', '--quiet', '--variant=apt', SUITE, root],
        env=os.environ | PROXIES,
        check=True,
    )
    Root(root).run('apt-get -qq update')
    yield root
    shutil.rmtree(directory)


def copy(root: pathlib.Path, name: str) -> Root:
    copied = root.with_name(name)
    subprocess.run(['cp', '--archive', root, copied], check=True)
    return Root(copied)


@pytest.fixture(scope='module')
def built(new_root: pathlib.Path) -> tuple[Root, pathlib.Path]:
    """The root in which the package was built, and the package."""
    root = copy(new_root, 'build')
    source = root.directory / 'build/attachguard'
    source.mkdir(parents=True)
    subprocess.run(
        'git ls-files -z | tar --create --null --files-from=- '
        f'| tar --extract --directory {source}',
        shell=True,
        cwd=conftest.ROOT,
        check=True,
    )
    root.run(
        'cd /build/attachguard; '
        'apt-get -qq build-dep --yes --no-install-recommends .; '
        'dpkg-buildpackage -us -uc -b'
    )
    [package] = root.directory.glob('build/*.deb')
    return root, package


def test_lintian_finds_no_error(built: tuple[Root, pathlib.Path]) -> None:
    root, _package = built
    root.install('lintian')
    root.run('lintian --fail-on error /build/*.changes')


def test_the_package_works_with_the_packages_of_debian(
    new_root: pathlib.Path, built: tuple[Root, pathlib.Path]
) -> None:
    """As autopkgtest does: the real Cinder, with stubs beside it."""
    root = copy(new_root, 'clean')
    _, package = built
    shutil.copy(package, root.directory / 'package.deb')
    root.install('/package.deb')
    assert root.run('attachguard --version').startswith('attachguard ')
    control = (conftest.ROOT / 'debian/tests/control').read_text()
    _, _, depends = control.partition('Depends:\n')
    packages, _, _ = depends.partition('Restrictions:')
    root.install(*packages.replace(',', ' ').split())
    shutil.copy(conftest.ROOT / 'debian/tests/guard', root.directory / 'guard')
    output = root.run('/guard')
    assert 'the filter is right before apiv3' in output
    assert '2 of 2 forged attachments were refused with 403' in output
