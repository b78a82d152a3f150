# SPDX-License-Identifier: Apache-2.0

"""Is this cloud ready for the guard?"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from keystoneauth1 import access
from keystoneauth1 import fixture
from keystoneauth1 import identity
from oslo_config import cfg
import pytest

from attachguard import cmd
from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import policy
from attachguard.guard import preflight
from attachguard.nova import client as nova_client
from attachguard.testing import embedded

OK = preflight.Result.OK
UNKNOWN = preflight.Result.UNKNOWN
WRONG = preflight.Result.WRONG

FILTER = '[filter:attachguard]\nuse = egg:attachguard\n'
OTHERS = ''.join(
    f'[filter:{name}]\npaste.filter_factory = other:factory\n'
    for name in ('authtoken', 'keystonecontext', 'audit')
)
APP = '[app:apiv3]\npaste.app_factory = other:factory\n'


def paste(tmp_path: pathlib.Path, *pipelines: str) -> pathlib.Path:
    path = tmp_path / 'api-paste.ini'
    lines = [f'p{n} = {words}' for n, words in enumerate(pipelines)]
    text = [OTHERS, APP, FILTER, '[composite:api]', *lines]
    path.write_text('\n'.join(text))
    return path


def test_the_shipped_sample_is_right() -> None:
    found = list(preflight.pipelines(embedded.sample_paste_ini()))
    assert [finding.result for finding in found] == [OK, OK]
    assert {finding.check for finding in found} == {
        'pipeline keystone',
        'pipeline keystone_nolimit',
    }


@pytest.mark.parametrize(
    ('words', 'result', 'says'),
    [
        ('authtoken keystonecontext attachguard apiv3', OK, 'before apiv3'),
        ('authtoken keystonecontext apiv3', WRONG, 'not in it'),
        ('attachguard authtoken keystonecontext apiv3', WRONG, 'identify'),
        ('authtoken attachguard keystonecontext apiv3', WRONG, 'identify'),
        (
            'authtoken keystonecontext attachguard audit apiv3',
            WRONG,
            'another filter',
        ),
        (
            'authtoken keystonecontext attachguard attachguard apiv3',
            WRONG,
            'twice',
        ),
        (
            'authtoken keystonecontext atachguard apiv3',
            WRONG,
            'no section for atachguard (did you mean "attachguard"?)',
        ),
    ],
)
def test_the_filter_has_one_place(
    tmp_path: pathlib.Path, words: str, result: preflight.Result, says: str
) -> None:
    [found] = preflight.pipelines(paste(tmp_path, words))
    assert found.result is result
    assert says in found.text


def test_each_pipeline_is_checked(tmp_path: pathlib.Path) -> None:
    good = 'authtoken keystonecontext attachguard apiv3'
    path = paste(tmp_path, good, good.replace('attachguard ', ''), 'noauth x')
    results = [finding.result for finding in preflight.pipelines(path)]
    assert results == [OK, WRONG]


def test_a_file_without_pipeline_is_wrong(tmp_path: pathlib.Path) -> None:
    [found] = preflight.pipelines(paste(tmp_path, 'noauth apiv3'))
    assert found.result is WRONG
    [found] = preflight.pipelines(None)
    assert found.result is WRONG


class Nova(nova_client.Nova):
    """A client that finds out what it is told.

    :param sees: whether the queries see every project, or an exception; None
        if they are made as the caller
    :param regions: the regions of the catalog
    :param chosen: the region of the configuration
    """

    def __init__(
        self, sees: Any = None, regions: Any = (), chosen: str | None = None
    ) -> None:
        self._visibility = (
            nova_client.Visibility.CALLER
            if sees is None
            else nova_client.Visibility.UNCHECKED
        )
        self._sees = sees
        self._regions = regions
        self.auth = None
        self.region = chosen
        self.endpoint_override = None

    def check_query(self, auth: Any) -> None:
        pass

    def check_visibility(self, queries: Any = None) -> None:
        if isinstance(self._sees, Exception):
            raise self._sees
        self._visibility = (
            nova_client.Visibility.EVERY_PROJECT
            if self._sees
            else nova_client.Visibility.SOME_PROJECTS
        )

    def catalog_regions(self, auth: Any = None) -> list[str]:
        if isinstance(self._regions, Exception):
            raise self._regions
        return list(self._regions)


UNANSWERED = nova_client.Unknown('Unauthorized: no')


@pytest.mark.parametrize(
    ('sees', 'result', 'says'),
    [
        (True, OK, "every project's servers"),
        (False, WRONG, 'role service is not enough'),
        (UNANSWERED, WRONG, 'Unauthorized'),
        (None, UNKNOWN, 'as the caller'),
    ],
)
def test_the_queries_must_see_every_project(
    sees: Any, result: preflight.Result, says: str
) -> None:
    found = preflight.credentials(Nova(sees))
    assert found.result is result
    assert says in found.text


@pytest.mark.parametrize(
    ('regions', 'chosen', 'result', 'says'),
    [
        (['east'], None, OK, 'one region'),
        (['east', 'west'], 'east', OK, 'chosen'),
        (
            ['east', 'west'],
            None,
            WRONG,
            'east, west: set [nova] region_name',
        ),
        (['east', 'west'], 'eat', WRONG, 'did you mean "east"'),
        ([], None, WRONG, 'in no region'),
        (UNANSWERED, None, UNKNOWN, 'Unauthorized'),
    ],
)
def test_the_region_must_be_known(
    regions: Any, chosen: str | None, result: preflight.Result, says: str
) -> None:
    found = preflight.region(Nova(True, regions, chosen))
    assert found.result is result
    assert says in found.text


class Catalog(identity.BaseIdentityPlugin):
    """A plugin whose token has Nova in some regions."""

    auth_type = None

    def __init__(self, *regions: str) -> None:
        super().__init__()
        self._regions = regions

    def get_auth_ref(self, session: Any, **kwargs: Any) -> Any:
        token = fixture.V3Token()
        for service_type in ('compute', 'volumev3'):
            service = token.add_service(service_type)
            for region in self._regions:
                service.add_standard_endpoints(
                    public='http://x', internal='http://y', region=region
                )
        return access.create(body=token, auth_token='secret')


@pytest.mark.parametrize(
    ('regions', 'options', 'result'),
    [
        (['east'], '', OK),
        (['east', 'west'], '', WRONG),
        (['east', 'west'], '[nova]\nregion_name = east\n', OK),
        (['east', 'west'], '[attachguard]\nregion_name = west\n', OK),
        (['east', 'west'], '[attachguard]\nregion_name = north\n', WRONG),
        (
            ['east', 'west'],
            '[attachguard]\nendpoint_override = http://x\n',
            OK,
        ),
    ],
)
def test_a_region_of_several_must_be_chosen(
    cinder_conf: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    regions: list[str],
    options: str,
    result: preflight.Result,
) -> None:
    monkeypatch.setattr(opts, 'load_auth', lambda conf: Catalog(*regions))
    with cinder_conf.open('a') as file:
        file.write(options)
    _code, found = run(capsys, '--config-file', cinder_conf)
    [row] = [row for row in found if row['Check'] == 'region']
    assert row['Result'] == result.value


def rules(tmp_path: pathlib.Path, overrides: Any) -> policy.Policy:
    path = tmp_path / 'rules.yaml'
    path.write_text(json.dumps(overrides))
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {'policy_file': str(path)})
    return policy.Policy(conf)


@pytest.mark.parametrize(
    ('sends', 'overrides', 'result'),
    [
        (['true'], {}, OK),
        (['True', '1', 'yes'], {}, OK),
        (['false'], {}, WRONG),
        (['true', ''], {}, WRONG),
        (['false'], default_rules.NO_SERVICE_TOKEN, OK),
        (['true'], default_rules.NO_SERVICE_TOKEN, UNKNOWN),
        ([], {}, UNKNOWN),
    ],
)
def test_the_rules_must_fit_the_service_tokens(
    tmp_path: pathlib.Path,
    sends: list[str],
    overrides: Any,
    result: preflight.Result,
) -> None:
    files = []
    for number, value in enumerate(sends):
        path = tmp_path / f'nova-{number}.conf'
        option = f'send_service_user_token = {value}' if value else ''
        path.write_text(
            f'[DEFAULT]\ndebug=1\n[service_user]\nauth_type=x\n{option}\n'
        )
        files.append(path)
    found = preflight.service_tokens(rules(tmp_path, overrides), files)
    assert found.result is result


@pytest.mark.parametrize(
    'text',
    ['', '[service_user]\nsend_service_user_token = true\n', None],
    ids=['nothing', 'without a user', 'no file'],
)
def test_a_nova_without_service_tokens_is_reported(
    tmp_path: pathlib.Path, text: str | None
) -> None:
    path = tmp_path / 'nova.conf'
    if text is not None:
        path.write_text(text)
    found = preflight.service_tokens(rules(tmp_path, {}), [path])
    assert found.result is WRONG
    assert 'nova.conf' in found.text


@pytest.fixture
def cinder_conf(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'cinder.conf'
    path.write_text(
        f'[DEFAULT]\napi_paste_config = {embedded.sample_paste_ini()}\n'
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    code = cmd.main(['preflight', '-f', 'json', *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_prints_the_findings(
    cinder_conf: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(capsys, '--config-file', cinder_conf)
    assert code == 0
    # Neither credentials nor a nova.conf are there to check.
    assert {row['Check']: row['Result'] for row in found} == {
        'pipeline keystone': 'ok',
        'pipeline keystone_nolimit': 'ok',
        'configuration': 'ok',
        'counters': 'ok',
        "Cinder's policy": 'ok',
        'authentication': 'ok',
        'policy': 'ok',
        'service tokens': 'unknown',
        'queries to Nova': 'unknown',
        'queries as the caller': 'unknown',
        'region': 'unknown',
    }
    text = found[2]['What was found, what to do']
    assert str(cinder_conf) in text
    assert 'refuses' in text
    assert "the caller's token" in text


def test_cinders_own_credentials_are_used(
    cinder_conf: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cinder_conf.open('a') as file:
        file.write('[nova]\nauth_type = password\n')
        file.write('auth_url = http://127.0.0.1:1\nusername = nova\n')
    code, found = run(capsys, '--config-file', cinder_conf)
    # Nobody listens there.
    assert code == 1
    assert [row['Check'] for row in found if row['Result'] == 'wrong'] == [
        'queries to Nova'
    ]
    text = found[2]['What was found, what to do']
    assert 'the credentials of [nova]' in text


def test_the_command_fails_if_something_is_wrong(
    cinder_conf: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with cinder_conf.open('a') as file:
        file.write('[attachguard]\nenforce = maybe\n')
    code, found = run(capsys, '--config-file', cinder_conf)
    assert code == 1
    assert 'enforce' in found[-1]['What was found, what to do']
    code, found = run(capsys, '--config-file', tmp_path / 'nowhere')
    assert code == 1
    missing = ['--config-file', cinder_conf, '--paste-ini', tmp_path / 'x']
    code, found = run(capsys, *missing)
    assert code == 1
    assert found[0]['Result'] == 'wrong'


@pytest.mark.parametrize('group', ['DEFAULT', 'attachguard'])
def test_a_cloud_without_authentication_is_reported(
    cinder_conf: pathlib.Path, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    with cinder_conf.open('a') as file:
        file.write(f'[{group}]\nauth_strategy = noauth\n')
    code, found = run(capsys, '--config-file', cinder_conf)
    assert code == 1
    assert [row['Check'] for row in found if row['Result'] == 'wrong'] == [
        'authentication'
    ]
