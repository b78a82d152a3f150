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

"""The rules: who may do what, in the form that operators know.

The whole decision is oslo.policy.  Each row of the default table
(:mod:`attachguard.guard.default_rules`) is a documented rule, an operator's
file overrides any of them, and "ask Nova" is a check that a rule can name
(``nova:attached``), evaluated only when the cheaper half of the rule has not
decided.

A rule that cannot be parsed, names an unknown check or reads a value that
does not exist is an error at start-up: oslo.policy makes "never" of it, and
``not`` makes "always" of that.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import MutableMapping
import os
import re
import threading
import time
from typing import Any
from typing import NamedTuple

from oslo_config import cfg
from oslo_log import log as logging

# Private, but there is no public name for what a text that cannot be parsed
# becomes, nor for a check of an unknown kind; the same in every release since
# 2013. Without them, such a rule would be an open door behind a "not".
from oslo_policy import _checks
from oslo_policy import policy
import yaml

from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import facts as targets
from attachguard.guard import identity as callers

LOG = logging.getLogger(__name__)

# Of a rule's text, what oslo.policy replaces by a value of the target.
_VALUE = re.compile(r'%\((\w+)\)s')

_SERVICE = default_rules.PREFIX + 'service'

# How often to look for a policy file that was not there at start-up, in
# seconds.
_LOOK_AGAIN = 5.0


class NovaCheck(policy.Check):
    """``nova:attached``, ``nova:same_attachment`` and ``nova:no_server``.

    ``attached``: a server that the request speaks of has the volume, so Nova
    says; ``same_attachment``: and by the very attachment that it speaks of,
    or Nova does not say by which, or is doing something with the server;
    ``no_server``: it speaks of no server, which needs no question.
    """

    QUESTIONS: Mapping[str, Callable[[targets.Target], bool]] = {
        'attached': targets.Target.attached,
        'same_attachment': targets.Target.same_attachment,
        'no_server': targets.Target.no_server,
    }

    def __call__(
        self,
        target: Mapping[str, Any],
        creds: MutableMapping[str, Any],
        enforcer: policy.Enforcer,
        current_rule: str | None = None,
    ) -> bool:
        """Whether the answer is yes.

        :raises attachguard.nova.client.Unknown: when Nova does not say
        :raises TypeError: in the rules of another service
        """
        if not isinstance(target, targets.Target):
            # There is nothing to ask about, and no answer that is safe: what
            # were False here is True behind a "not".
            raise TypeError(f'{self} belongs into the rules of attachguard')
        return self.QUESTIONS[self.match](target)


class Verdict(NamedTuple):
    """What a rule says.

    :param allowed: whether the request may pass
    :param service: whether it may because its caller is a service
    """

    allowed: bool
    service: bool


class _Facts:
    """What the rules look at, for one request, and what they said of it."""

    def __init__(
        self,
        target: Mapping[str, Any],
        credentials: dict[str, Any],
        enforcer: policy.Enforcer,
    ) -> None:
        self.target = target
        self.credentials = credentials
        self.enforcer = enforcer
        self.said: dict[str, bool] = {}


_Rule = Callable[[_Facts], bool]


class Policy:
    """The rules in force: the defaults, and over them the operator's file.

    :param conf: the service's configuration
    :raises attachguard.opts.ConfigError: when the file is missing or wrong
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._name: str = conf[opts.GROUP].policy_file
        self._lock = threading.Lock()
        self._use(_enforcer(conf, {}))
        self._seen: tuple[int, ...] | None = None
        self._look_again = 0.0
        self._path = _find(conf, self._name)
        where = conf.get_location('policy_file', opts.GROUP)
        by_default = where and where.location is cfg.Locations.opt_default
        if not by_default and not self._path:
            raise opts.ConfigError(
                f'[{opts.GROUP}] policy_file: there is no file {self._name!r}'
            )
        self._reload(first=True)

    def judge(self, target: targets.Target, caller: callers.Caller) -> Verdict:
        """What the rule for a request says.

        :raises attachguard.guard.cinder.Refused: where Cinder shows nothing
        :raises attachguard.guard.cinder.Unknown: where Cinder does not say
        :raises attachguard.nova.client.Unknown: where Nova does not say
        :raises attachguard.guard.facts.Malformed: where the request cannot be
            one
        """
        self._reload()
        rules_, enforcer = self._rules, self._enforcer
        credentials = dict(caller.credentials)
        facts = _Facts(target, credentials, enforcer)
        if not rules_[target.request.rule](facts):
            return Verdict(False, False)
        service = facts.said.get(_SERVICE)
        if service is None:
            # Not for the decision: nobody is asked for it.
            service = rules_[_SERVICE](_Facts({}, credentials, enforcer))
        return Verdict(True, service)

    def reads(self, name: str, text: str) -> bool:
        """Whether a rule in force is what a text says.

        :param name: of the rule, ``attachguard:os-detach``
        :param text: in the language of oslo.policy
        """
        said = policy.RuleDefault(name, text).check
        return str(self._enforcer.rules[name]) == str(said)

    def _use(self, enforcer: policy.Enforcer) -> None:
        self._enforcer = enforcer
        self._rules = _compile(enforcer.rules)

    def _reload(self, first: bool = False) -> None:
        # One thread reads a new file, and the others go on meanwhile.
        if not self._lock.acquire(blocking=first):
            return
        try:
            if self._path is None:
                # Looking through the configuration directories is dear.
                now = time.monotonic()
                if now < self._look_again:
                    return
                self._look_again = now + _LOOK_AGAIN
                self._path = _find(self._conf, self._name)
            if self._path is None:
                return
            seen = _signature(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            try:
                overrides = _read(self._path, may_be_empty=first)
                self._use(_enforcer(self._conf, overrides))
            except Exception as exc:
                # Not only what is expected: oslo.policy recurses, and what a
                # file holds must not stop a request.
                if first:
                    raise opts.ConfigError(
                        f'[{opts.GROUP}] policy_file {self._path}: {exc}'
                    ) from exc
                LOG.error(
                    'The rules in %s are not used, those before stay in '
                    'force: %s',
                    self._path,
                    exc,
                )
            else:
                LOG.info('Rules read from %s', self._path)
        finally:
            self._lock.release()


def _find(conf: cfg.ConfigOpts, name: str) -> str | None:
    try:
        return conf.find_file(name)
    except cfg.NotInitializedError:
        # A service without a configuration file has no directory for it.
        return name if os.path.isabs(name) and os.path.exists(name) else None


def _signature(path: str) -> tuple[int, ...] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: str, may_be_empty: bool) -> dict[str, str]:
    with open(path, encoding='utf-8') as file:
        try:
            overrides = yaml.safe_load(file)
        except (yaml.YAMLError, ValueError) as exc:
            raise opts.ConfigError(f'it is not YAML: {exc}') from None
    if overrides is None:
        if may_be_empty:
            return {}
        # As an editor leaves it for a moment, or a full disk for good.
        raise opts.ConfigError('it is empty; write {} for the defaults')
    if not isinstance(overrides, dict):
        raise opts.ConfigError('it is not a mapping of names to rules')
    return overrides


def _enforcer(
    conf: cfg.ConfigOpts, overrides: Mapping[str, str]
) -> policy.Enforcer:
    checks: dict[str, _checks.BaseCheck] = {}
    defaults = {
        rule.name: rule.check_str for rule in default_rules.list_rules()
    }
    for name in overrides:
        if str(name).startswith(default_rules.PREFIX) and name not in defaults:
            raise opts.ConfigError(
                f'there is no rule {name!r}; there are: '
                f'{", ".join(sorted(defaults))}'
            )
    for name, text in {**defaults, **overrides}.items():
        if not isinstance(text, str):
            raise opts.ConfigError(
                f'rule {name!r} is {text!r}; write a string, "!" for never '
                'or "@" for always'
            )
        checks[name] = policy.RuleDefault(name, text).check
        _check_text(name, text, checks[name])
    for name, check in checks.items():
        _check_references(name, check, checks, ())
    used = {
        leaf.match
        for check in checks.values()
        for leaf in _leaves(check)
        if isinstance(leaf, policy.RuleCheck)
    }
    for name in overrides.keys() - defaults.keys() - used:
        raise opts.ConfigError(f'no rule refers to {name!r}; is it misspelt?')
    # It reads none, but without a name oslo.policy 4 looks for Cinder's, also
    # where the configuration has not been read yet, and fails.
    enforcer = policy.Enforcer(conf, policy_file='none', use_conf=False)
    enforcer.set_rules(policy.Rules(checks))
    return enforcer


def _compile(checks: Mapping[str, _checks.BaseCheck]) -> dict[str, _Rule]:
    """Make functions of rules.

    They say what oslo.policy says, which for each check in a rule, each time,
    reflects upon the signature of its function and parses its name as Python:
    this takes longer than all the rest of a decision that asks nobody.

    :param checks: rules, each of which refers to these only
    """
    compiled: dict[str, _Rule] = {}

    def of(check: _checks.BaseCheck, name: str) -> _Rule:
        if isinstance(check, policy.AndCheck):
            parts = [of(part, name) for part in check.rules]
            return lambda facts: all(part(facts) for part in parts)
        if isinstance(check, policy.OrCheck):
            parts = [of(part, name) for part in check.rules]
            return lambda facts: any(part(facts) for part in parts)
        if isinstance(check, policy.NotCheck):
            part = of(check.rule, name)
            return lambda facts: not part(facts)
        if isinstance(check, policy.RuleCheck):
            return referring_to(check.match)
        if isinstance(check, _checks.GenericCheck):
            return equality(check)
        return lambda facts: bool(
            check(facts.target, facts.credentials, facts.enforcer, name)
        )

    def referring_to(name: str) -> _Rule:
        def rule(facts: _Facts) -> bool:
            if name not in facts.said:
                facts.said[name] = compiled[name](facts)
            return facts.said[name]

        return rule

    def equality(check: _checks.GenericCheck) -> _Rule:
        is_credential = check.kind in callers.CREDENTIALS
        literal = None if is_credential else ast.literal_eval(check.kind)

        def rule(facts: _Facts) -> bool:
            try:
                wanted = check.match % facts.target
                found = (
                    facts.credentials[check.kind] if is_credential else literal
                )
            except KeyError:
                return False
            if isinstance(found, list):
                return any(wanted == str(one) for one in found)
            return bool(wanted == str(found))

        return rule

    for name, check in checks.items():
        compiled[name] = of(check, name)
    return {name: referring_to(name) for name in compiled}


def _check_text(name: str, text: str, check: _checks.BaseCheck) -> None:
    """oslo.policy logs what it cannot parse, and makes ``!`` of it."""
    written = sum(word.strip('()') == '!' for word in text.split())
    parsed = sum(
        isinstance(leaf, _checks.FalseCheck) for leaf in _leaves(check)
    )
    never = isinstance(check, _checks.FalseCheck)
    if written != parsed or never and text.strip(' ()') != '!':
        raise opts.ConfigError(f'rule {name!r} cannot be parsed: {text!r}')
    for leaf in _leaves(check):
        if not isinstance(leaf, policy.Check):
            continue
        if isinstance(leaf, NovaCheck):
            if leaf.match not in NovaCheck.QUESTIONS:
                raise opts.ConfigError(
                    f'rule {name!r}: there is no check {str(leaf)!r}; there '
                    f'are: nova:{", nova:".join(NovaCheck.QUESTIONS)}'
                )
            continue
        if leaf.kind in ('http', 'https'):
            raise opts.ConfigError(
                f'rule {name!r}: {str(leaf)!r} asks another server, which '
                'has no place here'
            )
        if isinstance(leaf, _checks.GenericCheck) and not _is_value(leaf.kind):
            raise opts.ConfigError(
                f'rule {name!r}: {leaf.kind!r} in {str(leaf)!r} is no check; '
                'there are: rule, role, nova, '
                f'{", ".join(callers.CREDENTIALS)}'
            )
        names = _VALUE.findall(leaf.match)
        if '%' in _VALUE.sub('', leaf.match) or set(names) - {
            *targets.Target.KEYS
        }:
            raise opts.ConfigError(
                f'rule {name!r}: {str(leaf)!r} names what is not there; '
                'write %(key)s; a target has: '
                f'{", ".join(targets.Target.KEYS)}'
            )


def _is_value(kind: str) -> bool:
    if kind in callers.CREDENTIALS:
        return True
    try:
        ast.literal_eval(kind)
    except (ValueError, SyntaxError):
        return False
    return True


def _check_references(
    name: str,
    check: _checks.BaseCheck,
    checks: Mapping[str, _checks.BaseCheck],
    above: tuple[str, ...],
) -> None:
    """Enforcer.check_rules does not look behind ``not``."""
    if name in above:
        raise opts.ConfigError(f'rule {name!r} refers to itself')
    for leaf in _leaves(check):
        if isinstance(leaf, policy.RuleCheck):
            if leaf.match not in checks:
                raise opts.ConfigError(
                    f'rule {name!r}: there is no {str(leaf)!r}'
                )
            _check_references(
                leaf.match, checks[leaf.match], checks, (*above, name)
            )


def _leaves(check: _checks.BaseCheck) -> Iterator[_checks.BaseCheck]:
    if isinstance(check, policy.NotCheck):
        yield from _leaves(check.rule)
    elif isinstance(check, policy.AndCheck | policy.OrCheck):
        for rule in check.rules:
            yield from _leaves(rule)
    else:
        yield check
