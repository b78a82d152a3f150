# SPDX-License-Identifier: Apache-2.0
"""puppet-cinder: Puppet applies the manifest to the file of Cinder.

The modules are those of Debian. The provider writes to ``/etc/cinder``, which
is one of the test's own: it needs the right to mount.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

MODULES = pathlib.Path('/usr/share/puppet/modules')
MANIFEST = conftest.ROOT / 'deploy' / 'puppet' / 'attachguard.pp'


@pytest.fixture
def etc(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of ``/etc``, with a Cinder in it."""
    if not (shutil.which('puppet') and (MODULES / 'cinder').exists()):
        pytest.skip('puppet-module-cinder is not installed: see bindep.txt')
    try:
        subprocess.run(['unshare', '--mount', 'true'], check=True)
    except subprocess.CalledProcessError:
        pytest.skip('no right to mount')
    copy = tmp_path / 'etc'
    subprocess.run(['cp', '-a', '/etc', copy], check=True)
    shutil.rmtree(copy / 'cinder', ignore_errors=True)
    (copy / 'cinder').mkdir()
    shutil.copy(conftest.CINDERS_PASTE_INI, copy / 'cinder')
    (copy / 'cinder/cinder.conf').write_text('[DEFAULT]\ndebug = false\n')
    return copy


def test_the_manifest_puts_the_filter_in(
    etc: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    command = (
        f'mount --bind {etc} /etc && exec puppet apply '
        f'--modulepath {MODULES} --detailed-exitcodes {MANIFEST}'
    )
    codes = [
        subprocess.run(['unshare', '--mount', 'sh', '-c', command]).returncode
        for _time in range(2)
    ]
    # Changed, and then as it should be.
    assert codes == [2, 0]
    conftest.check_paste_ini(etc / 'cinder/api-paste.ini')
    conftest.check_cinder_conf(etc / 'cinder/cinder.conf')
