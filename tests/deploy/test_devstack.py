# SPDX-License-Identifier: Apache-2.0
"""DevStack: the plugin's functions, in a shell with a few of DevStack's."""

from __future__ import annotations

import pathlib
import shutil
import sys

import pytest

from tests.deploy import conftest

pytestmark = pytest.mark.nightly

PLUGIN = conftest.ROOT / 'devstack'
# What the plugin uses of DevStack's functions.
FUNCTIONS = r"""
function is_service_enabled { [[ $1 == c-api ]]; }
function setup_develop { echo "install $1"; }
function iniset { printf '[%s]\n%s = %s\n' "$2" "$3" "$4" >> "$1"; }
"""


def stage(directory: pathlib.Path, *arguments: str) -> str:
    """Run the plugin as ``stack.sh`` does."""
    script = directory / 'stack.sh'
    script.write_text(
        f'set -eu\nDEST=/opt/stack\n{FUNCTIONS}\n'
        f'CINDER_API_PASTE_INI={directory}/api-paste.ini\n'
        f'CINDER_CONF={directory}/cinder.conf\n'
        f'ATTACHGUARD_ENFORCE=False\nPATH={sys.prefix}/bin:$PATH\n'
        f'source {PLUGIN}/settings\n'
        f'source {PLUGIN}/plugin.sh "$@"\n'
    )
    return conftest.run(['bash', script, *arguments], directory)


def test_the_plugin_follows_the_stages(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'api-paste.ini'
    shutil.copy(conftest.CINDERS_PASTE_INI, path)
    before = path.read_text()
    assert 'install /opt/stack/attachguard' in stage(
        tmp_path, 'stack', 'install'
    )
    stage(tmp_path, 'stack', 'post-config')
    conftest.check_paste_ini(path)
    conftest.check_cinder_conf(tmp_path / 'cinder.conf')
    for phase in (['stack', 'extra'], ['stack', 'test-config'], ['clean']):
        assert stage(tmp_path, *phase) == ''
    conftest.check_paste_ini(path)
    stage(tmp_path, 'unstack')
    assert path.read_text() == before
    stage(tmp_path, 'unstack')


def test_the_style_is_that_of_devstack(
    tools: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plugin = PLUGIN / 'plugin.sh'
    assert conftest.run(['bashate', plugin], tmp_path) == ''
    files = [plugin, PLUGIN / 'settings']
    assert conftest.run(['shellcheck', '-s', 'bash', *files], tmp_path) == ''
