# SPDX-License-Identifier: Apache-2.0

"""The preflight on a cloud of stubs, right and with each mistake."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import json
import os
import pathlib
import sys
from typing import Any

from oslo_config import cfg
import pytest

from attachguard import cmd
from attachguard import opts
from attachguard.cmd import status
from attachguard.guard import preflight
from attachguard.nova import client as nova_client
from attachguard.testing import embedded
from attachguard.testing import stub_cloud


@pytest.fixture(scope='module')
def cloud() -> Iterator[stub_cloud.StubCloud]:
    with stub_cloud.StubCloud() as cloud:
        yield cloud


def make_nova(
    cloud: stub_cloud.StubCloud, user: str, **settings: str
) -> nova_client.Nova:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {**cloud.auth_settings(user), **settings})
    return nova_client.Nova(conf)


def test_credentials_need_access_to_all_projects(
    cloud: stub_cloud.StubCloud,
) -> None:
    found = preflight.credentials(make_nova(cloud, 'admin'))
    assert found.result is preflight.Result.OK
    # The user nova has no role but service.
    for user in ('nova', 'member'):
        found = preflight.credentials(make_nova(cloud, user))
        assert found.result is preflight.Result.WRONG
        assert "other projects' servers" in found.text


def test_invalid_credentials(cloud: stub_cloud.StubCloud) -> None:
    nova = make_nova(cloud, 'admin', password='wrong')
    found = preflight.credentials(nova)
    assert found.result is preflight.Result.WRONG
    assert 'Unauthorized' in found.text
    assert 'wrong' not in found.text


class Cinder:
    """The configuration of a Cinder, to make mistakes in.

    :param directory: of its files
    :param cloud: its Keystone and Nova
    """

    def __init__(
        self, directory: pathlib.Path, cloud: stub_cloud.StubCloud
    ) -> None:
        self.directory = directory
        self.cloud = cloud
        self.conf = directory / 'cinder.conf'
        self.rules = directory / 'attachguard-policy.yaml'
        self.paste_ini = directory / 'api-paste.ini'
        self.paste_ini.write_text(embedded.sample_paste_ini().read_text())
        self.conf.write_text(f'[DEFAULT]\napi_paste_config={self.paste_ini}\n')
        self.section('keystone_authtoken', **cloud.auth_settings('cinder'))
        self.section('nova', **cloud.auth_settings('admin'))
        self.section('attachguard', enforce='false')
        nova_conf = directory / 'nova.conf'
        nova_conf.write_text(
            '[service_user]\nsend_service_user_token=true\nauth_type=x\n'
        )
        self.options = ['--config-file', self.conf, '--nova-conf', nova_conf]

    def section(self, name: str, **options: str) -> None:
        """Write a section; oslo.config takes the last value of an option."""
        lines = [f'{option}={value}' for option, value in options.items()]
        with self.conf.open('a') as file:
            file.write('\n'.join([f'[{name}]', *lines, '']))

    def without_credentials(self) -> None:
        """Let the guard query Nova as the caller."""
        text = self.conf.read_text()
        self.conf.write_text(text.replace('[nova]', '[elsewhere]'))


@pytest.fixture
def cinder(tmp_path: pathlib.Path, cloud: stub_cloud.StubCloud) -> Cinder:
    return Cinder(tmp_path, cloud)


def wrong(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> dict[str, str]:
    """Run the command.

    :returns: of each check that failed its text
    """
    code = cmd.main(['preflight', '-f', 'json', *map(str, cinder.options)])
    printed = capsys.readouterr()
    found = {
        row['Check']: row['What was found, what to do']
        for row in json.loads(printed.out)
        if row['Result'] == 'wrong'
    }
    assert code == bool(found)
    for raw in ('LocationInfo', 'Traceback'):
        assert raw not in printed.out
    return found


def test_nothing_is_wrong(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wrong(cinder, capsys) == {}
    cinder.without_credentials()
    assert wrong(cinder, capsys) == {}


def _mistype_section(cinder: Cinder) -> None:
    text = cinder.conf.read_text()
    cinder.conf.write_text(text.replace('[attachguard]', '[attachgaurd]'))


def _mistype_value(cinder: Cinder) -> None:
    cinder.section('attachguard', enforce='flase')


def _mistype_option(cinder: Cinder) -> None:
    cinder.section('attachguard', enfroce='false')


def _mistype_rule(cinder: Cinder) -> None:
    cinder.section('attachguard', rule_modes='os-atach=warn')


def _mistype_mode(cinder: Cinder) -> None:
    cinder.section('attachguard', rule_modes='os-attach=log')


def _no_statsd(cinder: Cinder) -> None:
    cinder.section('attachguard', statsd_host='127.0.0.1')


def _no_directory(cinder: Cinder) -> None:
    cinder.section('attachguard', prometheus='true')


def _nobody_listens(cinder: Cinder) -> None:
    cinder.section('attachguard', endpoint_override='http://127.0.0.1:1/v2.1')


def _nobody_listens_as_caller(cinder: Cinder) -> None:
    cinder.without_credentials()
    _nobody_listens(cinder)


def _no_version(cinder: Cinder) -> None:
    url = cinder.cloud.nova_server.url
    cinder.section('attachguard', endpoint_override=url)


def _no_version_as_caller(cinder: Cinder) -> None:
    cinder.without_credentials()
    _no_version(cinder)


def _wrong_region(cinder: Cinder) -> None:
    cinder.section('attachguard', region_name='RegionTwo')


def _wrong_region_as_caller(cinder: Cinder) -> None:
    cinder.without_credentials()
    _wrong_region(cinder)


def _no_catalog(cinder: Cinder) -> None:
    cinder.without_credentials()
    cinder.section('keystone_authtoken', include_service_catalog='false')


def _placeholder(cinder: Cinder) -> None:
    cinder.rules.write_text('"attachguard:os-attach": "project_id:<id>"\n')


def _rules_of_cinder(cinder: Cinder) -> None:
    path = cinder.directory / 'policy.yaml'
    path.write_text('"attachguard:os-attach": "!"\n')
    cinder.section('oslo_policy', policy_file=str(path))


def _checks_for_cinder(cinder: Cinder) -> None:
    path = cinder.directory / 'policy.d'
    path.mkdir()
    (path / 'a.yaml').write_text('"volume:get": "nova:idle"\n')
    cinder.section('oslo_policy', policy_dirs=str(path))


def _duplicate(cinder: Cinder) -> None:
    cinder.rules.write_text('"attachguard:os-attach": "!"\n' * 2)


def _no_password(cinder: Cinder) -> None:
    cinder.section('nova', password='no')


def _mistype_plugin(cinder: Cinder) -> None:
    cinder.section('nova', auth_type='passwort')


@pytest.mark.parametrize(
    ('mistake', 'check', 'says'),
    [
        (_mistype_section, 'configuration', 'did you mean [attachguard]?'),
        (_mistype_value, 'configuration', "cinder.conf is not valid: Unexp"),
        (_mistype_option, 'configuration', 'did you mean "enforce"?'),
        (_mistype_rule, 'configuration', 'did you mean "os-attach"?'),
        (_mistype_mode, 'configuration', 'enforce, warn, off'),
        (_no_statsd, 'counters', 'pip install attachguard[statsd]'),
        (_no_directory, 'counters', 'a directory that is empty'),
        (_nobody_listens, 'queries to Nova', 'runs at this address'),
        (_nobody_listens_as_caller, 'queries as the caller', 'this address'),
        (_no_version, 'queries to Nova', 'with its version'),
        (_no_version_as_caller, 'queries as the caller', 'with its version'),
        (_wrong_region, 'region', 'did you mean "RegionOne"?'),
        (_wrong_region_as_caller, 'region', 'did you mean "RegionOne"?'),
        (_no_catalog, 'queries as the caller', 'include_service_catalog'),
        (_placeholder, 'policy', "'project_id:<id>' still has a placeholder"),
        (_rules_of_cinder, "Cinder's policy", 'move them to'),
        (_checks_for_cinder, "Cinder's policy", 'a.yaml has rules'),
        (_duplicate, 'policy', 'is there twice, in lines 1 and 2'),
        (_no_password, 'queries to Nova', 'set the user, password'),
        (_mistype_plugin, 'queries to Nova', '[nova] credentials cannot be'),
    ],
)
def test_a_mistake_is_a_row_that_says_what_to_do(
    cinder: Cinder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[Cinder], None],
    check: str,
    says: str,
) -> None:
    monkeypatch.setitem(sys.modules, 'statsd', None)
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', '/nowhere')
    cinder.section('attachguard', policy_file=str(cinder.rules))
    cinder.rules.write_text('{}')
    mistake(cinder)
    assert says in wrong(cinder, capsys)[check]


def test_what_only_cinder_api_has_is_unknown(
    cinder: Cinder,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cinder.section('attachguard', prometheus='true')
    monkeypatch.delenv('PROMETHEUS_MULTIPROC_DIR', raising=False)
    _code, found = upgrade_check(cinder, capsys)
    results = {row['check']: row['result'] for row in found['checks']}
    assert results['counters'] == 1
    values = tmp_path / 'values'
    values.mkdir()
    monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', str(values))
    _code, found = upgrade_check(cinder, capsys)
    results = {row['check']: row['result'] for row in found['checks']}
    assert results['counters'] == 0
    # Nothing was written.
    assert list(values.iterdir()) == []


def as_user(
    cinder: Cinder, capsys: pytest.CaptureFixture[str], *cloud: str
) -> tuple[str, str]:
    """Run the command with a user.

    :returns: the result and the text of the row about it
    """
    cmd.main(
        [
            *('preflight', '-f', 'json', *map(str, cinder.options)),
            *('--as-user', *cloud),
        ]
    )
    [row] = [
        row
        for row in json.loads(capsys.readouterr().out)
        if row['Check'] == 'queries as a user'
    ]
    return row['Result'], row['What was found, what to do']


@pytest.fixture
def users(
    tmp_path: pathlib.Path,
    cloud: stub_cloud.StubCloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clouds.yaml with each user, and an environment without any."""
    for name in list(os.environ):
        if name.startswith('OS_'):
            monkeypatch.delenv(name)
    clouds: dict[str, dict[str, Any]] = {}
    for user in ('admin', 'member'):
        auth = cloud.auth_settings(user)
        del auth['auth_type']
        clouds[user] = {'auth': auth, 'region_name': 'RegionOne'}
    auth = {**clouds['member']['auth'], 'password': 'mistaken'}
    clouds['mistaken'] = {**clouds['member'], 'auth': auth}
    path = tmp_path / 'clouds.yaml'
    path.write_text(json.dumps({'clouds': clouds}))
    monkeypatch.setenv('OS_CLIENT_CONFIG_FILE', str(path))


@pytest.mark.usefixtures('users')
def test_a_user_sees_the_servers_of_its_project(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> None:
    nova, project = cinder.cloud.nova, cinder.cloud.project_id('member')
    before = len([s for s in nova.servers.values() if s.project_id == project])
    nova.add_server(project)
    nova.add_server(cinder.cloud.project_id('other'))
    says = f'member of demo sees the servers of this project ({before + 1})'
    # Whatever the guard itself uses.
    for _ in range(2):
        result, text = as_user(cinder, capsys, 'member')
        assert result == 'ok'
        assert says in text
        cinder.without_credentials()


@pytest.mark.usefixtures('users')
def test_a_user_of_the_environment(
    cinder: Cinder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('OS_CLIENT_CONFIG_FILE')
    monkeypatch.chdir('/')
    for name, value in cinder.cloud.auth_settings('member').items():
        monkeypatch.setenv(f'OS_{name.upper()}', value)
    result, text = as_user(cinder, capsys)
    assert (result, text.split()[0]) == ('ok', 'member')


@pytest.mark.usefixtures('users')
def test_an_administrator_is_no_ordinary_user(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> None:
    result, text = as_user(cinder, capsys, 'admin')
    assert result == 'unknown'
    assert 'admin of admin sees every project' in text


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('nobody', 'Cloud nobody was not found'),
        ('mistaken', '--as-user mistaken: no token: Unauthorized'),
    ],
)
@pytest.mark.usefixtures('users')
def test_a_user_who_cannot_log_in(
    cinder: Cinder, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    result, text = as_user(cinder, capsys, name)
    assert result == 'unknown'
    assert says in text


@pytest.mark.usefixtures('users')
def test_an_address_where_a_user_gets_no_response(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> None:
    _nobody_listens(cinder)
    result, text = as_user(cinder, capsys, 'member')
    assert result == 'wrong'
    assert 'runs at this address' in text


def upgrade_check(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    options = [*map(str, cinder.options), 'upgrade', 'check', '--json']
    code = status.main(options)
    return code, json.loads(capsys.readouterr().out)


def test_the_upgrade_check_is_the_preflight(
    cinder: Cinder, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = upgrade_check(cinder, capsys)
    assert code == 0
    assert {check['result'] for check in found['checks']} == {0}
    assert 'queries to Nova' in {check['check'] for check in found['checks']}
    cinder.without_credentials()
    code, found = upgrade_check(cinder, capsys)
    # A warning: something could not be verified.
    assert code == 1
    _duplicate(cinder)
    cinder.section('attachguard', policy_file=str(cinder.rules))
    code, found = upgrade_check(cinder, capsys)
    assert code == 2
    [failed] = [check for check in found['checks'] if check['result'] == 2]
    assert failed['check'] == 'policy'
    assert 'is there twice' in failed['details']
