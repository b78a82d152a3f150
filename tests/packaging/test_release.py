# SPDX-License-Identifier: Apache-2.0
"""The files of a release, and its behaviour when pip installed it."""

from __future__ import annotations

import configparser
import email
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile

from packaging import requirements
import pytest

from tests.conftest import PROXIES
from tests.packaging.conftest import Built
from tests.packaging.conftest import CONSTRAINTS
from tests.packaging.conftest import Environment

_ROOT = pathlib.Path(__file__).parents[2]
_PROJECT = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
_SAMPLES = {path.name for path in (_ROOT / 'etc').glob('*.sample')}


def _in_dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the text of a file of a wheel's metadata."""
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


def test_the_wheel_has_only_the_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        top_levels = {path.split('/')[0] for path in wheel.namelist()}

    assert {name for name in top_levels if '-' not in name} == {'attachguard'}


def test_the_wheel_has_every_module(built: Built) -> None:
    sources = {
        path.relative_to(_ROOT).as_posix()
        for path in (_ROOT / 'attachguard').rglob('*.py')
    }
    data = {
        path.relative_to(_ROOT).as_posix()
        for folder in ('audit/report', 'decisions')
        for path in (_ROOT / 'attachguard' / folder / 'templates').iterdir()
    }
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())

    assert data
    assert sources | data | {'attachguard/py.typed'} <= names


def test_the_wheel_has_the_entry_points(built: Built) -> None:
    written = configparser.ConfigParser()
    with zipfile.ZipFile(built.wheel) as wheel:
        written.read_string(_in_dist_info(wheel, 'entry_points.txt'))

    assert {group: dict(written[group]) for group in written.sections()} == {
        'console_scripts': _PROJECT['scripts'],
        **_PROJECT['entry-points'],
    }


def test_the_wheel_requires_what_requirements_txt_lists(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = email.message_from_string(_in_dist_info(wheel, 'METADATA'))
    required = {
        requirements.Requirement(line)
        for line in metadata.get_all('Requires-Dist', [])
        if 'extra ==' not in line
    }

    assert required == _requirements((_ROOT / 'requirements.txt').read_text())


def test_the_wheel_has_the_licence(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        licence = _in_dist_info(wheel, 'licenses/LICENSE')

    assert licence == (_ROOT / 'LICENSE').read_text()


def test_the_sdist_has_the_files_to_build_from(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {path.partition('/')[2] for path in sdist.getnames()}

    assert {
        'LICENSE',
        'README.rst',
        'pyproject.toml',
        'requirements.txt',
        'setup.cfg',
        'setup.py',
        *(f'etc/{name}' for name in _SAMPLES),
    } <= names


def test_the_samples_are_installed(installed: Environment) -> None:
    directory = installed.prefix / 'etc' / 'attachguard'

    assert {path.name for path in directory.iterdir()} == _SAMPLES


def test_the_package_of_debian_has_the_version_of_the_next_release() -> None:
    setup = configparser.ConfigParser()
    setup.read(_ROOT / 'setup.cfg')
    changelog = (_ROOT / 'debian/changelog').read_text()

    assert changelog.startswith(
        f'python-attachguard ({setup["metadata"]["version"]}-'
    )


def test_the_size_is_what_the_documentation_says(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    (package,) = installed.prefix.glob('lib/*/site-packages/attachguard')
    done = installed.run(
        ['python', '-m', 'compileall', '-q', str(package)], tmp_path
    )
    assert done.returncode == 0, done.stdout
    size = sum(
        path.stat().st_size for path in package.rglob('*') if path.is_file()
    )
    page = (_ROOT / 'doc/source/install/index.rst').read_text()
    match = re.search(r'([\d.]+) MB\s+with its bytecode', page)
    assert match
    assert float(match[1]) == pytest.approx(size / 1e6, abs=0.2)


def test_cinder_is_not_installed(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """The other tests of this module depend on it."""
    done = installed.run(['python', '-c', 'import cinder'], tmp_path)

    assert "No module named 'cinder'" in done.stdout


def test_every_module_of_the_guard_imports(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """What is for tests needs extras."""
    script = """
        import importlib
        import pkgutil

        import attachguard

        for module in pkgutil.iter_modules(attachguard.__path__):
            if module.name not in ('pytest_plugin', 'testing'):
                print(importlib.import_module(f'attachguard.{module.name}'))
        """
    done = installed.run(['python', '-c', textwrap.dedent(script)], tmp_path)

    assert done.returncode == 0, done.stdout
    assert str(installed.prefix) in done.stdout
    assert 'attachguard.filter' in done.stdout


_PASTE = """
[app:inner]
paste.app_factory = inner:factory
[filter:default]
use = egg:attachguard
[filter:named]
use = egg:attachguard#attachguard
[filter:factory]
paste.filter_factory = attachguard.filter:filter_factory
[pipeline:use_default]
pipeline = default inner
[pipeline:use_named]
pipeline = named inner
[pipeline:use_factory]
pipeline = factory inner
"""

_INNER = """
def factory(global_conf, **local_conf):
    def app(environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [b'inner app']
    return app
"""

_REQUESTS = """
import pathlib

from paste import deploy
from webob import Request

ini = pathlib.Path('paste.ini').resolve()
path = '/v3/volumes/11111111-1111-4111-8111-111111111111'
body = {'os-attach': {'host_name': 'h'}}
for name in ('use_default', 'use_named', 'use_factory'):
    app = deploy.loadapp(f'config:{ini}', name)
    print(Request.blank(path).get_response(app).text)
    attach = Request.blank(f'{path}/action', method='POST', json=body)
    print(attach.get_response(app).status)
"""


def test_paste_loads_the_filter(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """The filter forwards a read, and refuses an attachment.

    It refuses the attachment because the request has no authentication.
    """
    (tmp_path / 'paste.ini').write_text(_PASTE)
    (tmp_path / 'inner.py').write_text(_INNER)
    (tmp_path / 'make_requests.py').write_text(_REQUESTS)

    done = installed.run(['python', 'make_requests.py'], tmp_path)

    lines = [
        line
        for line in done.stdout.splitlines()
        if line in ('inner app', '403 Forbidden')
    ]
    assert lines == ['inner app', '403 Forbidden'] * 3, done.stdout


def test_the_command_prints_its_help(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    done = installed.run(['attachguard', '--help'], tmp_path)

    assert done.returncode == 0, done.stdout
    assert 'usage: attachguard' in done.stdout
    assert 'demo' in done.stdout


def test_the_demo_names_the_extra_to_install(
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


def test_every_policy_knows_the_nova_check(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """oslo.policy finds the check by its entry point."""
    script = """
        from oslo_policy import policy

        rule = policy.RuleDefault('any', 'nova:attached')
        print(type(rule.check).__name__)
        """
    done = installed.run(['python', '-c', textwrap.dedent(script)], tmp_path)

    assert done.stdout.splitlines() == ['NovaCheck']


def test_pytest_starts_without_the_extra_testing(
    installed: Environment, tmp_path: pathlib.Path
) -> None:
    """pytest loads the plugin wherever attachguard is installed."""
    elsewhere = tmp_path / 'pytest'
    install = f'{sys.executable} -m pip install --quiet --target {elsewhere}'
    subprocess.run(
        [*install.split(), f'--constraint={CONSTRAINTS}', 'pytest'],
        env=os.environ | PROXIES,
        check=True,
    )
    script = """
        import sys

        sys.path.append(sys.argv[1])
        import pytest

        sys.exit(pytest.main(['--fixtures']))
        """
    done = installed.run(
        ['python', '-c', textwrap.dedent(script), str(elsewhere)], tmp_path
    )

    assert done.returncode == 0, done.stdout
    assert 'embedded_cinder' in done.stdout
