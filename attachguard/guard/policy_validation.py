# SPDX-License-Identifier: Apache-2.0
"""Validation of policy rules.

A rule that cannot be parsed, names an unknown check or reads a value that
does not exist is an error: oslo.policy makes "never" of it, and ``not`` makes
"always" of that.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import re

# Private, but there is no public name for what a text that cannot be parsed
# becomes, nor for a check of an unknown kind; the same in every release since
# 2013. Without them, such a rule would be an open door behind a "not".
from oslo_policy import _checks
from oslo_policy import policy

from attachguard import messages
from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import identity

# What the rules of attachguard before 1.0 named.
_RENAMED = {
    'nova:attached': ' any more: it is nova:server_has_volume of os-attach, '
    'and the opposite of nova:no_server_has_volume',
    'nova:same_attachment': ' any more: it is the opposite of '
    'nova:attachment_unused',
    'nova:no_server': ' any more: it is cinder:names_no_server',
}

_KINDS = ('rule', 'role', 'nova', 'cinder', *identity.CREDENTIALS)

# As the documentation writes what is to be replaced: <id>.
_PLACEHOLDER = re.compile(r'<[^>]*>')

# In a rule's text, what oslo.policy replaces by a value of the target.
_VALUE = re.compile(r'%\((\w+)\)s')


def parse(
    overrides: Mapping[str, object],
    keys: Collection[str],
    fact_checks: Collection[str],
) -> policy.Rules:
    """Parse and validate the default rules with an operator's on top.

    :param overrides: texts of rules by their names
    :param keys: what a rule may read of a target, as ``%(key)s``
    :param fact_checks: the checks of the kinds ``nova`` and ``cinder``
    :returns: the rules
    :raises attachguard.opts.ConfigError: for the first invalid rule
    """
    defaults = {
        rule.name: rule.check_str for rule in default_rules.list_rules()
    }
    for name in overrides:
        if str(name).startswith(default_rules.PREFIX) and name not in defaults:
            raise opts.ConfigError(
                f'there is no rule {name!r}'
                f'{messages.did_you_mean(name, defaults)}; there are: '
                f'{", ".join(sorted(defaults))}'
            )
    checks: dict[str, _checks.BaseCheck] = {}
    for name, text in {**defaults, **overrides}.items():
        if not isinstance(text, str):
            raise opts.ConfigError(
                f'rule {name!r} is {text!r}; write a string, "!" for never '
                'or "@" for always'
            )
        checks[name] = policy.RuleDefault(name, text).check
        _validate_text(name, text, checks[name])
        for leaf in _leaves(checks[name]):
            _validate_leaf(name, leaf, keys, fact_checks)
    for name, check in checks.items():
        _validate_references(name, check, checks, ())
    referred = {
        leaf.match
        for check in checks.values()
        for leaf in _leaves(check)
        if isinstance(leaf, policy.RuleCheck)
    }
    for name in overrides.keys() - defaults.keys() - referred:
        raise opts.ConfigError(
            f'no rule refers to {name!r}; is it misspelt?'
            f'{messages.did_you_mean(str(name), defaults)}'
        )
    return policy.Rules(checks)


def _validate_text(name: str, text: str, check: _checks.BaseCheck) -> None:
    """oslo.policy logs what it cannot parse, and makes ``!`` of it."""
    written = sum(word.strip('()') == '!' for word in text.split())
    parsed = sum(
        isinstance(leaf, _checks.FalseCheck) for leaf in _leaves(check)
    )
    never = isinstance(check, _checks.FalseCheck)
    if written != parsed or never and text.strip(' ()') != '!':
        raise opts.ConfigError(f'rule {name!r} cannot be parsed: {text!r}')


def _validate_leaf(
    name: str,
    leaf: _checks.BaseCheck,
    keys: Collection[str],
    fact_checks: Collection[str],
) -> None:
    if not isinstance(leaf, policy.Check):
        return
    if leaf.kind in ('nova', 'cinder'):
        if str(leaf) not in fact_checks:
            renamed = _RENAMED.get(str(leaf))
            hint = renamed or messages.did_you_mean(str(leaf), fact_checks)
            raise opts.ConfigError(
                f'rule {name!r}: there is no check {str(leaf)!r}{hint}; '
                'there are: '
                f'{", ".join(fact_checks)}'
            )
        return
    if leaf.kind in ('http', 'https'):
        raise opts.ConfigError(
            f'rule {name!r}: {str(leaf)!r} queries another server, which is '
            'not supported here'
        )
    if isinstance(leaf, _checks.GenericCheck) and not _is_value(leaf.kind):
        raise opts.ConfigError(
            f'rule {name!r}: {leaf.kind!r} in {str(leaf)!r} is not a check'
            f'{messages.did_you_mean(leaf.kind, _KINDS)}; there are: '
            f'{", ".join(_KINDS)}'
        )
    if _PLACEHOLDER.fullmatch(leaf.match):
        raise opts.ConfigError(
            f'rule {name!r}: {str(leaf)!r} still has a placeholder; write '
            f'the value instead of {leaf.match}'
        )
    names = _VALUE.findall(leaf.match)
    if '%' in _VALUE.sub('', leaf.match) or set(names) - set(keys):
        raise opts.ConfigError(
            f'rule {name!r}: {str(leaf)!r} reads a value that does not exist; '
            f'write %(key)s; a target has: {", ".join(keys)}'
        )


def _is_value(kind: str) -> bool:
    if kind in identity.CREDENTIALS:
        return True
    try:
        ast.literal_eval(kind)
    except (ValueError, SyntaxError):
        return False
    return True


def _validate_references(
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
            _validate_references(
                leaf.match, checks[leaf.match], checks, (*above, name)
            )


def _leaves(check: _checks.BaseCheck) -> Iterator[_checks.BaseCheck]:
    if isinstance(check, policy.NotCheck):
        yield from _leaves(check.rule)
    elif isinstance(check, (policy.AndCheck, policy.OrCheck)):
        for rule in check.rules:
            yield from _leaves(rule)
    else:
        yield check
