# SPDX-License-Identifier: Apache-2.0
"""Evaluation of other rules on logged decisions.

A line of the log has the credentials, the values and the results of the checks
that were read.  A rule that reads another one cannot be evaluated on it.
"""

from __future__ import annotations

from collections import abc
import dataclasses
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from attachguard.guard import default_rules
from attachguard.guard import identity
from attachguard.guard import policy as guard_policy

ALLOWED, REFUSED, UNDECIDED = 'allowed', 'refused', 'undecided'

# By the names of a rule's values, where the log has them.
_FIELDS = {'project_id': 'volume_project_id'}
# Where the log does not have one of these, the request did not.
_OF_REQUEST = frozenset(('attachment_id', 'host'))


class NotLogged(Exception):
    """The rule reads something that is not in the log."""


class Logged(abc.Mapping[str, Any]):
    """A logged decision, as the target of a rule.

    :param decision: as it was logged
    """

    def __init__(self, decision: abc.Mapping[str, Any]) -> None:
        self._decision = decision
        checks = decision.get('checks')
        self._checks = checks if isinstance(checks, dict) else {}

    def __getitem__(self, key: str) -> Any:
        """A value, or the result of a check.

        :raises NotLogged: if it is not in the log
        """
        if ':' in key:
            if key in self._checks:
                return self._checks[key]
            raise NotLogged(key)
        name = _FIELDS.get(key, key)
        if name in self._decision:
            return self._decision[name]
        if key in _OF_REQUEST:
            return None
        raise NotLogged(key)

    def __iter__(self) -> abc.Iterator[str]:
        return iter(('operation',))

    def __len__(self) -> int:
        return 1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a rule decides about a logged request.

    :param result: ``allowed``, ``refused`` or ``undecided``
    :param missing: the check or value that is not in the log
    """

    result: str
    missing: str = ''


class Replay:
    """Evaluates a policy file on logged decisions.

    :param path: of the policy file
    :raises attachguard.opts.ConfigError: if it is invalid
    :raises OSError: if it cannot be read
    """

    def __init__(self, path: str) -> None:
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[], default_config_dirs=[])
        self._enforcer = policy.Enforcer(
            conf, policy_file='none', use_conf=False
        )
        self._enforcer.set_rules(guard_policy.load_rules(path))

    def decide(self, decision: abc.Mapping[str, Any]) -> Outcome | None:
        """Decide about a logged request.

        :param decision: as it was logged
        :returns: None if no rule decided about the request
        """
        rule = decision.get('rule')
        if not isinstance(rule, str) or rule not in self._enforcer.rules:
            return None
        target = Logged(decision)
        credentials = _credentials(decision)
        try:
            allowed = self._enforcer.enforce(
                default_rules.SERVICE, target, credentials
            ) or self._enforcer.enforce(rule, target, credentials)
        except NotLogged as exc:
            return Outcome(UNDECIDED, str(exc))
        return Outcome(ALLOWED if allowed else REFUSED)


def _credentials(decision: abc.Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(identity.CREDENTIALS)
    for name in ('user_id', 'project_id', 'service_user_id'):
        found[name] = decision.get(name)
    logged = decision.get('credentials')
    if isinstance(logged, dict):
        found.update(logged)
    for name in ('roles', 'service_roles'):
        found[name] = found[name] or []
    return found
