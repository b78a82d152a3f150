# SPDX-License-Identifier: Apache-2.0

"""Is this cloud ready for the guard?"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
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
        ('authtoken keystonecontext atachguard apiv3', WRONG, 'atachguard'),
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


class Asked:
    """A Nova client with an answer ready."""

    as_caller = False

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def sees_every_project(self) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return bool(self.answer)


@pytest.mark.parametrize(
    ('answer', 'result', 'says'),
    [
        (True, OK, 'every project'),
        (False, WRONG, 'role service is not enough'),
        (nova_client.Unknown('no server'), UNKNOWN, 'no server'),
        (ksa_exceptions.Unauthorized(), WRONG, 'do not work'),
        (ksa_exceptions.ConnectFailure(), WRONG, 'do not work'),
    ],
)
def test_credentials_must_see_every_project(
    answer: Any, result: preflight.Result, says: str
) -> None:
    asked: Any = Asked(answer)
    found = preflight.credentials(asked)
    assert found.result is result
    assert says in found.text


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
    assert [row['Result'] for row in found] == ['ok'] * 5 + ['unknown']
    text = found[2]['What was found, what to do']
    assert str(cinder_conf) in text
    assert 'refuses' in text


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
