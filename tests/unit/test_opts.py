# SPDX-License-Identifier: Apache-2.0

"""Options, and what is wrong with an option."""

from __future__ import annotations

import pathlib

from keystoneauth1.identity import generic
from oslo_config import cfg
import pytest

from attachguard import opts


def conf(tmp_path: pathlib.Path, text: str = '') -> cfg.ConfigOpts:
    file = tmp_path / 'cinder.conf'
    file.write_text(f'[attachguard]\n{text}\n')
    result = cfg.ConfigOpts()
    result([], project='cinder', default_config_files=[str(file)])
    return result


def test_every_option_has_a_help_text() -> None:
    for group, options in opts.list_opts():
        assert group == 'attachguard'
        assert all(option.help for option in options)


def test_the_paste_file_takes_precedence(tmp_path: pathlib.Path) -> None:
    found = conf(tmp_path, 'enforce = false\nretry_after = 3')
    opts.configure(found, {'enforce': 'true'})
    assert found.attachguard.enforce is True
    assert found.attachguard.retry_after == 3


def test_options_of_the_base_class_are_not_the_filters(
    tmp_path: pathlib.Path,
) -> None:
    opts.configure(conf(tmp_path), {'oslo_config_project': 'cinder'})


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        ('enforce', 'maybe', 'Boolean'),
        ('on_nova_error', 'shrug', 'deny, allow'),
        ('auth_strategy', 'none', 'keystone, noauth'),
        ('nova_timeout', '0', 'min=0.1'),
        ('nova_timeout', 'soon', 'Float'),
        ('settle', '-1', 'min=0'),
        ('nova_max_concurrency', '0', 'min=1'),
        ('statsd_port', '70000', 'max=65535'),
        # keystoneauth's own.
        ('insecure', 'maybe', 'Boolean'),
    ],
)
@pytest.mark.parametrize('paste', [True, False])
def test_a_bad_value_is_an_error_that_names_the_allowed_ones(
    tmp_path: pathlib.Path, name: str, value: str, allowed: str, paste: bool
) -> None:
    text = '' if paste else f'{name} = {value}'
    with pytest.raises(opts.ConfigError) as caught:
        opts.configure(conf(tmp_path, text), {name: value} if paste else {})
    assert f'[attachguard] {name}' in str(caught.value)
    assert allowed in str(caught.value)


def test_an_unknown_option_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        opts.ConfigError, match='no option "enfroce" .did you mean "enforce"'
    ):
        opts.configure(conf(tmp_path), {'enfroce': 'false'})


def test_a_misspelt_name_in_the_configuration_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(opts.ConfigError, match='"enfore".*enforce') as caught:
        opts.configure(conf(tmp_path, 'enfore = false'), {})
    assert 'cinder.conf' in str(caught.value)


def test_names_are_checked_whatever_the_case_of_the_section(
    tmp_path: pathlib.Path,
) -> None:
    # oslo.config reads the options of such a section, too.
    found = conf(tmp_path, '[AttachGuard]\nretry_after = 3\nenfore = false')
    with pytest.raises(opts.ConfigError, match='enfore'):
        opts.configure(found, {})
    assert found.attachguard.retry_after == 3


def test_a_bad_value_is_reported_with_its_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(opts.ConfigError) as caught:
        opts.configure(conf(tmp_path, 'enforce = maybe'), {})
    assert f'from {tmp_path}/cinder.conf is not valid' in str(caught.value)
    assert 'LocationInfo' not in str(caught.value)


def test_a_deprecated_name_is_not_unknown(tmp_path: pathlib.Path) -> None:
    # keystoneauth1 still knows user-name and tenant-name.
    lines = ['user-name=x', 'tenant_name=y', 'auth_type=password']
    opts.configure(conf(tmp_path, '\n'.join(lines)), {})


@pytest.mark.parametrize(
    'text',
    [
        'auth_section = nova\nauth_url = x\n[nova]\nauth_type = none',
        'auth_section = attachguard\nauth_type = password\nauth_url = x',
        'auth_url = x\nusername = y',
        'enforce = true\nenforce = false',
    ],
)
def test_a_valid_but_unused_option_is_no_error(
    tmp_path: pathlib.Path, text: str
) -> None:
    opts.configure(conf(tmp_path, text), {})


def test_a_file_that_cannot_be_read_again_is_no_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = conf(tmp_path, 'enforce = false')
    (tmp_path / 'cinder.conf').unlink()
    opts.configure(found, {})
    assert found.attachguard.enforce is False


def test_a_path_may_begin_with_a_tilde(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'cinder.conf').write_text('[attachguard]\nenfore = false\n')
    found = cfg.ConfigOpts()
    found(['--config-file', '~/cinder.conf'], project='cinder')
    with pytest.raises(opts.ConfigError, match='enfore'):
        opts.configure(found, {})
    (tmp_path / 'cinder.conf').rename(tmp_path / 'other.conf')
    found = cfg.ConfigOpts()
    found(['--config-dir', '~'], project='cinder', default_config_files=[])
    with pytest.raises(opts.ConfigError, match='enfore'):
        opts.configure(found, {})


def test_a_reference_to_an_unknown_option_is_an_error(
    tmp_path: pathlib.Path,
) -> None:
    found = conf(tmp_path, 'statsd_host = $nowhere')
    with pytest.raises(opts.ConfigError, match='statsd_host'):
        opts.configure(found, {})


def test_without_credentials_nova_is_queried_as_the_caller(
    tmp_path: pathlib.Path,
) -> None:
    found = conf(tmp_path)
    opts.configure(found, {})
    assert opts.load_auth(found) is None


CREDENTIALS = {
    'auth_type': 'password',
    'auth_url': 'http://127.0.0.1/identity',
    'username': 'guard',
    'password': 'secret',
}


def test_credentials_may_be_in_the_configuration(
    tmp_path: pathlib.Path,
) -> None:
    lines = '\n'.join(f'{name}={value}' for name, value in CREDENTIALS.items())
    found = conf(tmp_path, lines)
    opts.configure(found, {})
    assert isinstance(opts.load_auth(found), generic.Password)


def test_credentials_may_be_in_the_paste_file(tmp_path: pathlib.Path) -> None:
    found = conf(tmp_path)
    opts.configure(found, CREDENTIALS)
    assert isinstance(opts.load_auth(found), generic.Password)


def test_credentials_may_be_in_another_section(tmp_path: pathlib.Path) -> None:
    lines = '\n'.join(f'{name}={value}' for name, value in CREDENTIALS.items())
    found = conf(tmp_path, f'auth_section = nova\n[nova]\n{lines}')
    opts.configure(found, {})
    assert isinstance(opts.load_auth(found), generic.Password)


@pytest.mark.parametrize(
    ('own', 'section', 'cafile'),
    [
        ('', 'nova', 'of-nova'),
        ('cafile = own', 'nova', 'own'),
        ('auth_type = none', 'attachguard', None),
    ],
)
@pytest.mark.parametrize('indirect', [True, False])
def test_cinders_own_credentials_are_used_if_there_are_no_others(
    tmp_path: pathlib.Path,
    own: str,
    section: str,
    cafile: str | None,
    indirect: bool,
) -> None:
    lines = '\n'.join(f'{name}={value}' for name, value in CREDENTIALS.items())
    if indirect:
        lines = f'auth_section = shared\n[shared]\n{lines}'
    found = conf(tmp_path, f'{own}\n[nova]\ncafile=of-nova\n{lines}')
    opts.configure(found, {})
    assert opts.auth_section(found) == section
    is_nova = section == 'nova'
    assert isinstance(opts.load_auth(found), generic.Password) is is_nova
    assert found[opts.session_section(found)].cafile == cafile


def test_a_section_of_cinder_without_credentials_is_not_used(
    tmp_path: pathlib.Path,
) -> None:
    found = conf(tmp_path, '[nova]\nregion_name = one\nauth_url = x')
    opts.configure(found, {})
    assert opts.auth_section(found) is None
    assert opts.load_auth(found) is None
    assert opts.session_section(found) == 'attachguard'


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('auth_type = passwort', 'passwort.*did you mean "password"'),
        ('auth_type = password', 'auth_url'),
        ('auth_section = nova', r'\[nova\]'),
        ('[nova]\nauth_type = password', r'\[nova\] credentials.*auth_url'),
        (
            'auth_type = password\nauth_url = keystone:5000/v3',
            'keystone:5000/v3 is not a URL',
        ),
        (
            'auth_section = nova\n[nova]\nauth_type = v3password\n'
            'auth_url = keystone',
            r'\[nova\] auth_url = keystone is not a URL',
        ),
    ],
)
def test_incomplete_credentials_are_an_error(
    tmp_path: pathlib.Path, text: str, says: str
) -> None:
    found = conf(tmp_path, text)

    def load() -> None:
        opts.configure(found, {})
        opts.load_auth(found)

    with pytest.raises(opts.ConfigError, match=says):
        load()
