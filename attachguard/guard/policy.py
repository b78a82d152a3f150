# SPDX-License-Identifier: Apache-2.0
"""The policy: which rules are in force, and what they allow.

oslo.policy evaluates the rules.  Each row of the default table
(:mod:`attachguard.guard.default_rules`) is a documented rule, an operator's
file overrides any of them, and a fact is a check that a rule can name
(``nova:no_server_has_volume``), looked up when the rule is evaluated.  A
service is always allowed: one rule names the services, and the others are for
ordinary callers.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import MutableMapping
import inspect
import os
import threading
import time
from typing import Any
from typing import NamedTuple

from oslo_config import cfg
from oslo_log import log as logging
from oslo_policy import policy
import yaml

from attachguard import opts
from attachguard.guard import checks
from attachguard.guard import default_rules
from attachguard.guard import facts as facts_
from attachguard.guard import identity
from attachguard.guard import policy_validation
from attachguard.guard import request as request_parser

LOG = logging.getLogger(__name__)

# Seconds until a policy file that was not found, or could not be read, is
# tried again.
_RETRY_AFTER = 5.0


def _server_id(facts: facts_.Facts) -> str | None:
    if facts.request.server_id is not None:
        return request_parser.canonical_uuid(facts.request.server_id)
    named = {item.server_id for item in facts.attachments}
    return named.pop() if len(named) == 1 else None


class Target(Mapping[str, Any]):
    """The facts about a request, as the target of a rule.

    Iteration yields only what needs no look-up: oslo.policy logs its target
    at the debug level, and that must not query Nova.

    :param facts: about the request
    """

    _READERS: Mapping[str, Callable[[facts_.Facts], Any]] = {
        'operation': lambda facts: facts.request.operation.name,
        'volume_id': lambda facts: facts.volume.id,
        'volume_status': lambda facts: facts.volume.status,
        'attachment_id': lambda facts: facts.request.attachment_id,
        'attachment_status': lambda facts: (
            facts.attachment.status if facts.request.attachment_id else None
        ),
        'server_id': _server_id,
        'host': lambda facts: facts.request.host,
        'project_id': lambda facts: facts.volume.project_id,
    }
    #: What a rule may read.
    KEYS = tuple(_READERS)

    def __init__(self, facts: facts_.Facts) -> None:
        self.facts = facts

    def __getitem__(self, key: str) -> Any:
        return self._READERS[key](self.facts)

    def __iter__(self) -> Iterator[str]:
        return iter(('operation',))

    def __len__(self) -> int:
        return 1


class _FactCheck(policy.Check):
    """A check on the facts about a request."""

    def __call__(
        self,
        target: Mapping[str, Any],
        creds: MutableMapping[str, Any],
        enforcer: policy.Enforcer,
        current_rule: str | None = None,
    ) -> bool:
        """Evaluate the check.

        :raises Exception: what a look-up raises, see
            :class:`attachguard.guard.facts.Facts`
        :raises TypeError: in the rules of another service, or if the target of
            a tool does not have the result
        """
        name = f'{self.kind}:{self.match}'
        if isinstance(target, Target):
            return target.facts.check(name, checks.CHECKS[name])
        # oslopolicy-checker has the results of checks in its target file.
        result = target.get(name)
        if not isinstance(result, bool):
            # There is no safe result: False becomes True behind a "not".
            raise TypeError(
                f'{self} belongs in the rules of attachguard; a target for '
                f'oslopolicy-checker needs "{name}": true or false'
            )
        return result

    # oslo.policy looks the signature up for each evaluation.
    __call__.__signature__ = inspect.signature(__call__)  # type: ignore[attr-defined]


class NovaCheck(_FactCheck):
    """Checks that can query Nova: ``nova:no_server_has_volume``, and more.

    They are listed in :data:`attachguard.guard.checks.CHECKS`.
    """


class CinderCheck(_FactCheck):
    """Checks on what Cinder has: ``cinder:no_attachment``, and more.

    They are listed in :data:`attachguard.guard.checks.CHECKS`.
    """


class Result(NamedTuple):
    """The result of a rule.

    :param allowed: whether the request may pass
    :param service: whether its caller is a service, which always may
    """

    allowed: bool
    service: bool


class Policy:
    """The rules in force: the defaults, and the operator's file on top.

    :param conf: the service's configuration
    :raises attachguard.opts.ConfigError: if the file is missing or invalid
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._name: str = conf[opts.GROUP].policy_file
        self._lock = threading.Lock()
        self._enforcer = _enforcer(conf, _parse({}))
        self._signature: tuple[int, ...] | None = None
        self._retry_at = 0.0
        self._path = find_file(conf)
        where = conf.get_location('policy_file', opts.GROUP)
        by_default = where and where.location is cfg.Locations.opt_default
        if self._path is None and not by_default:
            raise opts.ConfigError(
                f'[{opts.GROUP}] policy_file: there is no file {self._name!r}'
            )
        if self._path is not None:
            self._signature = _signature(self._path)
            try:
                self._load(self._path, may_be_empty=True)
            except Exception as exc:
                raise opts.ConfigError(
                    f'[{opts.GROUP}] policy_file {self._path}: {exc}'
                ) from exc

    def check(self, caller: identity.Caller, facts: facts_.Facts) -> Result:
        """Evaluate the rule for a request.

        :param caller: who sent the request
        :param facts: about the request; what the rule reads is looked up
        :raises Exception: what a look-up raises, see
            :class:`attachguard.guard.facts.Facts`
        """
        self._reload()
        enforcer = self._enforcer
        target = Target(facts)
        credentials = dict(caller.credentials)
        if enforcer.enforce(default_rules.SERVICE, target, credentials):
            return Result(allowed=True, service=True)
        allowed = enforcer.enforce(facts.request.rule, target, credentials)
        return Result(bool(allowed), service=False)

    def equals(self, name: str, text: str) -> bool:
        """Whether a rule in force is equal to a text.

        :param name: of the rule, ``attachguard:os-detach``
        :param text: in the language of oslo.policy
        """
        check = policy.RuleDefault(name, text).check
        return str(self._enforcer.rules[name]) == str(check)

    def _reload(self) -> None:
        # One thread reads a new file, and the others go on meanwhile.
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            if now < self._retry_at:
                return
            if self._path is None:
                # A search of the configuration directories is expensive.
                self._retry_at = now + _RETRY_AFTER
                self._path = find_file(self._conf)
                if self._path is None:
                    return
            signature = _signature(self._path)
            if signature == self._signature:
                return
            self._signature = signature
            try:
                self._load(self._path)
            except Exception as exc:
                # Not only what is expected: oslo.policy recurses, and the
                # contents of a file must not stop a request.
                if isinstance(exc, OSError) and signature is not None:
                    # It may be readable later without any change of its own.
                    self._signature = None
                    self._retry_at = now + _RETRY_AFTER
                LOG.error(
                    'Policy file not loaded, the previous rules stay in '
                    'force: file=%s error=%s',
                    self._path,
                    exc,
                )
            else:
                LOG.info('Policy file loaded: file=%s', self._path)
        finally:
            self._lock.release()

    def _load(self, path: str, may_be_empty: bool = False) -> None:
        self._enforcer = _enforcer(self._conf, load_rules(path, may_be_empty))


def find_file(conf: cfg.ConfigOpts) -> str | None:
    """Find the operator's policy file.

    :param conf: with the ``[attachguard]`` options
    :returns: None if there is none
    """
    name: str = conf[opts.GROUP].policy_file
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


class _Loader(yaml.SafeLoader):
    """Rejects a name that is there twice, of which YAML keeps the last."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise opts.ConfigError(
                    f'{name!r} is there twice, in lines {lines[name]} and '
                    f'{line}; remove one of them'
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


def _read(path: str, may_be_empty: bool) -> dict[str, Any]:
    with open(path, encoding='utf-8') as file:
        try:
            overrides = yaml.load(file, _Loader)  # noqa: S506
        except opts.ConfigError:
            raise
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


def load_rules(path: str, may_be_empty: bool = True) -> policy.Rules:
    """Load a policy file on top of the default rules.

    :param path: of the file
    :param may_be_empty: whether an empty file means the defaults
    :returns: the rules
    :raises attachguard.opts.ConfigError: for the first invalid rule
    :raises OSError: if the file cannot be read
    """
    return _parse(_read(path, may_be_empty))


def rule_texts(path: str | None) -> dict[str, str]:
    """The text of each rule in force.

    :param path: of a policy file, or None for the default rules
    :returns: the texts, by the names of the rules
    :raises attachguard.opts.ConfigError: for the first invalid rule
    :raises OSError: if the file cannot be read
    """
    overrides = {} if path is None else _read(path, may_be_empty=True)
    _parse(overrides)
    defaults = {
        rule.name: rule.check_str for rule in default_rules.list_rules()
    }
    return {**defaults, **overrides}


def _parse(overrides: Mapping[str, Any]) -> policy.Rules:
    return policy_validation.parse(overrides, Target.KEYS, checks.CHECKS)


def _enforcer(conf: cfg.ConfigOpts, rules: policy.Rules) -> policy.Enforcer:
    # It reads no file, but without a name oslo.policy 4 searches for Cinder's,
    # also before the configuration is read, and fails.
    enforcer = policy.Enforcer(conf, policy_file='none', use_conf=False)
    enforcer.set_rules(rules)
    return enforcer
