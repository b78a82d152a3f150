# SPDX-License-Identifier: Apache-2.0

"""The rules in force, and their validation."""

from __future__ import annotations

import builtins
from collections.abc import Callable
import errno
import os
import pathlib
import time
from typing import Any

from oslo_config import cfg
from oslo_policy import policy as oslo_policy
import pytest

from attachguard import opts
from attachguard.guard import checks
from attachguard.guard import cinder
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import operations
from attachguard.guard import policy
from attachguard.guard import request
from tests.unit import fakes

Make = Callable[..., policy.Policy]


@pytest.fixture
def rules(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'attachguard-policy.yaml'


@pytest.fixture
def make(tmp_path: pathlib.Path, rules: pathlib.Path) -> Make:
    def make(text: str | None = None, **options: Any) -> policy.Policy:
        if text is not None:
            rules.write_text(text)
        file = tmp_path / 'cinder.conf'
        lines = [f'{name} = {value}' for name, value in options.items()]
        file.write_text('\n'.join(['[attachguard]', *lines]))
        conf = cfg.ConfigOpts()
        conf([], default_config_dirs=[], default_config_files=[str(file)])
        opts.configure(conf, {})
        # As a service's conf directory is searched for its policy file.
        conf.find_file = lambda name: (  # type: ignore[method-assign]
            str(tmp_path / name) if (tmp_path / name).exists() else None
        )
        return policy.Policy(conf)

    return make


CALLER = identity.identify(fakes.environ('POST', '/'), 'keystone')


def os_reserve() -> facts.Facts:
    """The facts about a request of a member for a free volume."""
    operation = operations.VOLUME_ACTIONS['os-reserve']
    return facts.Facts(
        request.Request(operation, '/v3', fakes.VOLUME),
        CALLER,
        cinder.Cinder(fakes.FakeCinder(), fakes.environ('GET', '/'), '/v3'),
        fakes.FakeNova(),
        settle=30,
    )


def is_open(rules: policy.Policy) -> bool:
    return rules.check(CALLER, os_reserve()).allowed


def test_without_a_file_the_defaults_are_in_force(make: Make) -> None:
    assert is_open(make())


def test_a_file_overrides_the_defaults(make: Make) -> None:
    assert not is_open(make('"attachguard:os-reserve": "!"'))
    assert is_open(make('"attachguard:os-reserve": "role:member"'))
    assert not is_open(make('"attachguard:os-reserve": "role:admin"'))
    assert not is_open(
        make('"mine": "role:x"\n"attachguard:os-reserve": "rule:mine"')
    )


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('"attachguard:os-reserve": "rolemember"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a or (role:b"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a or nothing"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a role:b"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "not nowa:idle"', 'not a check'),
        ('"attachguard:os-reserve": "nova:idel"', 'there are: .*nova:idle'),
        ('"attachguard:os-reserve": "cinder:!"', "no check 'cinder:!'"),
        # Of the first releases.
        (
            '"attachguard:os-attach": "nova:attached"',
            "no check 'nova:attached' any more: it is nova:server_has_volume",
        ),
        (
            '"attachguard:attachment-delete": "not nova:same_attachment"',
            'it is the opposite of nova:attachment_unused',
        ),
        (
            '"attachguard:attachment-delete": "nova:no_server"',
            'it is cinder:names_no_server',
        ),
        ('"attachguard:os-attach": "False:%(recorded)s"', 'a target has'),
        ('"attachguard:os-reserve": "not rule:nowhere"', 'rule:nowhere'),
        ('"attachguard:os-reserve": "rule:a"\n"a": "rule:a"', 'itself'),
        (
            '"a": "not rule:b"\n"b": "not rule:a"',
            'itself',
        ),
        ('"attachguard:os-reserve": "project_id:%(volume)s"', 'a target has'),
        ('"attachguard:os-reserve": "project_id:100%"', 'does not exist'),
        ('"attachguard:os-reserve":', 'write a string'),
        ('"attachguard:os-reserve": []', 'write a string'),
        ('"attachguard:os-reserve": true', 'write a string'),
        (
            '"attachguard:os-atach": "!"',
            'there is no rule .*did you mean "attachguard:os-attach"',
        ),
        (
            '"attachgaurd:os-attach": "!"',
            'misspelt.*did you mean "attachguard:os-attach"',
        ),
        ('"attachguard:os-reserve": "not nva:idle"', 'did you mean "nova"'),
        ('"attachguard:os-reserve": "nova:idl"', 'did you mean "nova:idle"'),
        # As a page of the documentation has it.
        (
            '"attachguard:os-attach:no-server": "not project_id:<id>"',
            "'project_id:<id>' still has a placeholder",
        ),
        (
            '"attachguard:os-attach": "!"\n\n"attachguard:os-attach": "@"',
            "'attachguard:os-attach' is there twice, in lines 1 and 3",
        ),
        ('{"a": "!", "a": "@"}', "'a' is there twice"),
        ('"attachguard:os-attach": "http://127.0.0.1/"', 'not supported'),
        (
            '"attachguard:os-attach": "role:%(host)9999999999s"',
            'does not exist',
        ),
        (f'"attachguard:os-attach": "{"not " * 5000}@"', 'recursion'),
        ('- a list', 'not a mapping'),
        ('just words', 'not a mapping'),
        ('a: b: c', 'not YAML'),
    ],
)
def test_an_invalid_rule_is_an_error_at_startup(
    make: Make, rules: pathlib.Path, text: str, error: str
) -> None:
    with pytest.raises(opts.ConfigError, match=error) as caught:
        make(text)
    assert str(rules) in str(caught.value)


@pytest.mark.parametrize(
    'rule',
    [
        '',
        '@',
        'not !',
        'not (role:a and not role:b) or !',
        "'x':%(host)s or True:%(host)s",
        "None:%(server_id)s",
        'project_id:%(project_id)s and service_roles:service',
        ' or '.join(checks.CHECKS),
    ],
)
def test_a_valid_rule_is_accepted(make: Make, rule: str) -> None:
    make(f'"attachguard:os-attach": "{rule}"')


def test_a_file_of_another_name_must_exist(make: Make) -> None:
    with pytest.raises(opts.ConfigError, match='other.yaml'):
        make(policy_file='other.yaml')


class TestReload:
    """The file changes while the service runs."""

    def test_new_rules_are_in_force_at_once(
        self, make: Make, rules: pathlib.Path
    ) -> None:
        policy = make('"attachguard:os-reserve": "!"')
        assert not is_open(policy)
        rules.write_text('"attachguard:os-reserve": "@"\n')
        assert is_open(policy)
        rules.write_text('"attachguard:os-reserve": "role:nobody"\n')
        assert not is_open(policy)
        rules.write_text('{}')
        assert is_open(policy)

    def test_a_new_file_is_read_after_a_while(
        self,
        make: Make,
        rules: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(time, 'monotonic', lambda: now)
        policy = make()
        assert is_open(policy)
        rules.write_text('"attachguard:os-reserve": "!"')
        assert is_open(policy)
        now += 5
        assert not is_open(policy)

    @pytest.mark.parametrize(
        'text',
        [
            '',
            '\n',
            '{',
            '[]',
            '"attachguard:os-reserve": "nonsense"',
            f'"attachguard:os-reserve": "{"not " * 5000}@"',
        ],
        ids=range(6),
    )
    def test_a_broken_file_changes_nothing(
        self,
        make: Make,
        rules: pathlib.Path,
        text: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        policy = make('"attachguard:os-reserve": "!"')
        rules.write_text(text)
        for _ in range(3):
            assert not is_open(policy)
        assert caplog.text.count('stay in force') == 1

    def test_a_deleted_file_changes_nothing(
        self,
        make: Make,
        rules: pathlib.Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        policy = make('"attachguard:os-reserve": "!"')
        os.unlink(rules)
        for _ in range(3):
            assert not is_open(policy)
        assert caplog.text.count('stay in force') == 1
        rules.write_text('"attachguard:os-reserve": "@"\n')
        assert is_open(policy)


class TestUnreadableFile:
    """A file that cannot be read now may be readable later, unchanged."""

    @pytest.mark.parametrize(
        'error',
        [errno.EMFILE, errno.EIO, errno.EACCES],
        ids=errno.errorcode.get,
    )
    def test_it_is_read_again_without_a_change(
        self,
        make: Make,
        rules: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: int,
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(time, 'monotonic', lambda: now)
        policy = make('"attachguard:os-reserve": "!"')
        rules.write_text('"attachguard:os-reserve": "@"\n')

        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(error, os.strerror(error))

        with monkeypatch.context() as broken:
            broken.setattr(builtins, 'open', fail)
            for _ in range(3):
                assert not is_open(policy)
        assert caplog.text.count('stay in force') == 1
        now += 5
        assert is_open(policy)


def test_the_check_fails_in_the_rules_of_another_service() -> None:
    enforcer = oslo_policy.Enforcer(
        cfg.ConfigOpts(), policy_file='none', use_conf=False
    )
    rule = oslo_policy.RuleDefault('r', 'not nova:idle')
    enforcer.set_rules(oslo_policy.Rules({'r': rule.check}))
    with pytest.raises(TypeError, match='rules of attachguard'):
        enforcer.enforce('r', {}, {'roles': []})


def test_a_service_is_recognised_under_every_rule(
    make: Make,
) -> None:
    rules = make('"attachguard:os-reserve": "@"')
    service = identity.identify(
        fakes.environ('POST', '/', service_roles=['service']), 'keystone'
    )
    assert rules.check(service, os_reserve()) == (True, True)
    assert rules.check(CALLER, os_reserve()) == (True, False)
