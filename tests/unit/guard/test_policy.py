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

"""The rules, and what is wrong with a rule."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
import pathlib
import time
from typing import Any

import hypothesis
from hypothesis import strategies
from oslo_config import cfg
from oslo_policy import policy as oslo_policy
import pytest

from attachguard import opts
from attachguard.guard import cinder
from attachguard.guard import facts
from attachguard.guard import identity
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


class OsReserve(facts.Target):
    """A target that needs nothing to be asked."""

    def __init__(self) -> None:
        asked = request.Request(
            request.OPERATIONS['os-reserve'],
            '/volumes/x/action',
            (9, 10),
            '',
            b'',
        )
        super().__init__(
            asked,
            CALLER,
            cinder.Cinder(fakes.FakeCinder(), {}, ''),
            fakes.FakeNova(),  # type: ignore[arg-type]
        )


CALLER = identity.identify(fakes.environ('POST', '/'), 'keystone')


def is_open(rules: policy.Policy) -> bool:
    return rules.judge(OsReserve(), CALLER).allowed


def test_without_a_file_the_defaults_hold(make: Make) -> None:
    assert is_open(make())


def test_a_file_overrides_the_defaults(make: Make) -> None:
    assert not is_open(make('"attachguard:os-reserve": "!"'))
    assert is_open(make('"attachguard:os-reserve": "role:member"'))
    assert not is_open(make('"attachguard:os-reserve": "role:admin"'))
    assert not is_open(
        make('"mine": "role:x"\n"attachguard:os-reserve": "rule:mine"')
    )


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('"attachguard:os-reserve": "rolemember"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a or (role:b"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a or nothing"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "role:a role:b"', 'cannot be parsed'),
        ('"attachguard:os-reserve": "not nowa:attached"', 'no check'),
        ('"attachguard:os-reserve": "nova:atached"', 'nova:attached'),
        ('"attachguard:os-reserve": "not rule:nowhere"', 'rule:nowhere'),
        ('"attachguard:os-reserve": "rule:a"\n"a": "rule:a"', 'itself'),
        (
            '"a": "not rule:b"\n"b": "not rule:a"',
            'itself',
        ),
        ('"attachguard:os-reserve": "project_id:%(volume)s"', 'a target has'),
        ('"attachguard:os-reserve": "project_id:100%"', 'not there'),
        ('"attachguard:os-reserve":', 'write a string'),
        ('"attachguard:os-reserve": []', 'write a string'),
        ('"attachguard:os-reserve": true', 'write a string'),
        ('"attachguard:os-atach": "!"', 'there is no rule'),
        ('"attachgaurd:os-attach": "!"', 'misspelt'),
        ('"attachguard:os-attach": "http://127.0.0.1/"', 'no place here'),
        ('"attachguard:os-attach": "role:%(host)9999999999s"', 'not there'),
        (f'"attachguard:os-attach": "{"not " * 5000}@"', 'recursion'),
        ('- a list', 'not a mapping'),
        ('just words', 'not a mapping'),
        ('a: b: c', 'not YAML'),
    ],
)
def test_a_rule_that_cannot_be_right_is_an_error_at_startup(
    make: Make, rules: pathlib.Path, text: str, says: str
) -> None:
    with pytest.raises(opts.ConfigError, match=says) as caught:
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
        'nova:no_server or nova:attached or not nova:same_attachment',
    ],
)
def test_a_rule_in_the_language_of_oslo_policy_is_taken(
    make: Make, rule: str
) -> None:
    make(f'"attachguard:os-attach": "{rule}"')


def test_a_named_file_must_be_there(make: Make) -> None:
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

    def test_a_file_that_appears_is_read_in_a_while(
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

    def test_a_file_that_is_gone_changes_nothing(
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


def test_in_the_rules_of_another_service_there_is_no_answer() -> None:
    enforcer = oslo_policy.Enforcer(
        cfg.ConfigOpts(), policy_file='none', use_conf=False
    )
    rule = oslo_policy.RuleDefault('r', 'not nova:attached')
    enforcer.set_rules(oslo_policy.Rules({'r': rule.check}))
    with pytest.raises(TypeError, match='rules of attachguard'):
        enforcer.enforce('r', {}, {'roles': []})


_LEAVES = (
    '@',
    '!',
    'role:member',
    'role:MEMBER',
    'role:admin',
    'service_roles:service',
    'service_roles:Service',
    'project_id:%(project_id)s',
    'project_id:%(host)s',
    'user_id:None',
    'service_user_id:None',
    'roles:member',
    "'reserved':%(attachment_status)s",
    'True:%(recorded)s',
    'None:%(server_id)s',
    'rule:one',
    'rule:two',
)
_texts = strategies.recursive(
    strategies.sampled_from(_LEAVES),
    lambda inner: strategies.one_of(
        inner.map('not ({})'.format),
        strategies.tuples(inner, inner).map(' and '.join),
        strategies.lists(inner, min_size=2, max_size=3).map(
            lambda parts: f'({" or ".join(parts)})'
        ),
    ),
    max_leaves=8,
)


class Fixed(OsReserve):
    """A target of which everything is known."""

    def __init__(self, project_id: str) -> None:
        super().__init__()
        self._values = {
            **dict.fromkeys(facts.Target.KEYS),
            'operation': 'os-reserve',
            'project_id': project_id,
            'attachment_status': 'reserved',
            'recorded': True,
        }

    def __getitem__(self, key: str) -> Any:
        return self._values[key]


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    deadline=None,
)
@hypothesis.given(
    text=_texts,
    one=strategies.sampled_from(_LEAVES[:-2]),
    two=strategies.sampled_from(_LEAVES[:-2]),
    roles=strategies.lists(
        strategies.sampled_from(('member', 'admin', 'Service', 'service'))
    ),
    service_roles=strategies.lists(
        strategies.sampled_from(('service', 'admin'))
    ),
    own=strategies.booleans(),
)
def test_a_rule_says_what_oslo_policy_says(
    make: Make,
    text: str,
    one: str,
    two: str,
    roles: list[str],
    service_roles: list[str],
    own: bool,
) -> None:
    written = {'one': one, 'two': two, 'attachguard:os-reserve': text}
    # What no rule refers to is taken for a mistake.
    used = {
        'attachguard:os-unreserve': 'rule:one',
        'attachguard:os-roll_detaching': 'rule:two',
    }
    asker = identity.Caller(
        {
            **dict.fromkeys(identity.CREDENTIALS),
            'project_id': 'p',
            'roles': roles,
            'service_roles': service_roles,
        }
    )
    asked = Fixed('p' if own else 'q')
    ours = make(json.dumps({**written, **used}))
    theirs = oslo_policy.Enforcer(
        cfg.ConfigOpts(), policy_file='none', use_conf=False
    )
    theirs.set_rules(oslo_policy.Rules.from_dict(written))
    assert ours.judge(asked, asker).allowed == theirs.enforce(
        'attachguard:os-reserve', asked, dict(asker.credentials)
    )


def test_whether_a_service_asks_is_known_also_where_no_rule_wants_to(
    make: Make,
) -> None:
    rules = make('"attachguard:os-reserve": "@"')
    service = identity.identify(
        fakes.environ('POST', '/', service_roles=['service']), 'keystone'
    )
    assert rules.judge(OsReserve(), service) == (True, True)
    assert rules.judge(OsReserve(), CALLER) == (True, False)
