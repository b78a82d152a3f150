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
"""What a release contains, and that it works from where pip puts it."""

from __future__ import annotations

import configparser
import email
import pathlib
import tarfile
import textwrap
import tomllib
import zipfile

from packaging import requirements
import pytest

from tests.packaging.conftest import Built
from tests.packaging.conftest import Environment

_ROOT = pathlib.Path(__file__).parents[2]
_PROJECT = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
_SAMPLES = {path.name for path in (_ROOT / 'etc').glob('*.sample')}


def _in_dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the text of one of the files that describe a wheel."""
    (path,) = (
        path
        for path in wheel.namelist()
        if path.endswith(f'.dist-info/{name}')
    )
    return wheel.read(path).decode()


def _requirements(text: str) -> set[requirements.Requirement]:
    return {
        requirements.Requirement(line.partition('#')[0])
        for line in text.splitlines()
        if line.partition('#')[0].strip()
    }


def test_wheel_holds_the_package_alone(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        top_levels = {path.split('/')[0] for path in wheel.namelist()}

    assert {name for name in top_levels if '-' not in name} == {'attachguard'}


def test_wheel_holds_every_module(built: Built) -> None:
    sources = {
        path.relative_to(_ROOT).as_posix()
        for path in (_ROOT / 'attachguard').rglob('*.py')
    }
    data = {
        path.relative_to(_ROOT).as_posix()
        for path in (_ROOT / 'attachguard/audit/report/templates').iterdir()
    }
    with zipfile.ZipFile(built.wheel) as wheel:
        held = set(wheel.namelist())

    assert data
    assert sources | data | {'attachguard/py.typed'} <= held


def test_wheel_has_the_entry_points(built: Built) -> None:
    written = configparser.ConfigParser()
    with zipfile.ZipFile(built.wheel) as wheel:
        written.read_string(_in_dist_info(wheel, 'entry_points.txt'))

    assert {group: dict(written[group]) for group in written.sections()} == {
        'console_scripts': _PROJECT['scripts'],
        **_PROJECT['entry-points'],
    }


def test_wheel_asks_for_what_requirements_txt_lists(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = email.message_from_string(_in_dist_info(wheel, 'METADATA'))
    asked = {
        requirements.Requirement(line)
        for line in metadata.get_all('Requires-Dist', [])
        if 'extra ==' not in line
    }

    assert asked == _requirements((_ROOT / 'requirements.txt').read_text())


def test_wheel_has_the_licence(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        licence = _in_dist_info(wheel, 'licenses/LICENSE')

    assert licence == (_ROOT / 'LICENSE').read_text()


def test_sdist_holds_what_a_distributor_builds_from(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        held = {path.partition('/')[2] for path in sdist.getnames()}

    assert {
        'LICENSE',
        'README.rst',
        'pyproject.toml',
        'requirements.txt',
        'setup.cfg',
        'setup.py',
        *(f'etc/{name}' for name in _SAMPLES),
    } <= held


def test_samples_are_installed(installed: Environment) -> None:
    directory = installed.prefix / 'etc' / 'attachguard'

    assert {path.name for path in directory.iterdir()} == _SAMPLES


def test_cinder_is_not_there(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """What the other tests of this module rest on."""
    done = installed.run(['python', '-c', 'import cinder'], tmp_path)

    assert "No module named 'cinder'" in done.stdout


def test_every_module_of_the_guard_imports(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """All but the test services and the demo, which have extras."""
    script = """
        import importlib
        import pkgutil

        import attachguard

        for module in pkgutil.iter_modules(attachguard.__path__):
            if module.name not in ('demo', 'testing'):
                print(importlib.import_module(f'attachguard.{module.name}'))
        """
    done = installed.run(['python', '-c', textwrap.dedent(script)], tmp_path)

    assert done.returncode == 0, done.stdout
    assert str(installed.prefix) in done.stdout
    assert 'attachguard.filter' in done.stdout


_PASTE = """
[pipeline:main]
pipeline = guard inner

[filter:guard]
{factory}

[app:inner]
paste.app_factory = inner:factory
"""

_INNER = """
def factory(global_conf, **local_conf):
    def app(environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [b'inner app']
    return app
"""

_ASK = """
import pathlib
import sys

from paste import deploy
from webob import Request

app = deploy.loadapp(f'config:{pathlib.Path("paste.ini").resolve()}')
path = '/v3/volumes/11111111-1111-4111-8111-111111111111'
print(Request.blank(path).get_response(app).text)
attach = Request.blank(
    f'{path}/action', method='POST', json={'os-attach': {'host_name': 'h'}}
)
print(attach.get_response(app).status)
"""


@pytest.mark.parametrize(
    'factory',
    [
        'use = egg:attachguard',
        'use = egg:attachguard#attachguard',
        'paste.filter_factory = attachguard.filter:filter_factory',
    ],
)
def test_paste_loads_the_filter(
    factory: str, installed: Environment, tmp_path: pathlib.Path
) -> None:
    """A request that is none of the guard's passes; an attachment does not.

    Nothing authenticated the request, so the guard cannot know who calls.
    """
    (tmp_path / 'paste.ini').write_text(_PASTE.format(factory=factory))
    (tmp_path / 'inner.py').write_text(_INNER)
    (tmp_path / 'ask.py').write_text(_ASK)

    done = installed.run(['python', 'ask.py'], tmp_path)

    lines = done.stdout.splitlines()
    assert 'inner app' in lines, done.stdout
    assert lines[-1] == '403 Forbidden', done.stdout


def test_command_explains_itself(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    done = installed.run(['attachguard', '--help'], tmp_path)

    assert done.returncode == 0, done.stdout
    assert 'usage: attachguard' in done.stdout
    assert 'demo' in done.stdout


def test_demo_says_what_to_install(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    done = installed.run(['attachguard', 'demo'], tmp_path)

    assert done.returncode == 1, done.stdout
    assert "pip install 'attachguard[demo]'" in done.stdout
    assert 'Traceback' not in done.stdout


def test_operators_can_print_the_options(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    done = installed.run(
        ['oslo-config-generator', '--namespace', 'attachguard'], tmp_path
    )

    assert done.returncode == 0, done.stdout
    assert '[attachguard]' in done.stdout


def test_operators_can_print_the_rules(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    done = installed.run(
        ['oslopolicy-sample-generator', '--namespace', 'attachguard'],
        tmp_path,
    )

    assert done.returncode == 0, done.stdout
    assert '"attachguard:os-attach"' in done.stdout


def test_nova_check_is_known_to_any_policy(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """oslo.policy finds ``nova:`` by its entry point, and nothing else."""
    script = """
        from oslo_policy import policy

        rule = policy.RuleDefault('any', 'nova:attached')
        print(type(rule.check).__name__)
        """
    done = installed.run(['python', '-c', textwrap.dedent(script)], tmp_path)

    assert done.stdout.splitlines() == ['NovaCheck']
