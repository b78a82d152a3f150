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

The whole decision is oslo.policy.  Each row of the default table is a
documented rule, an operator's file overrides any of them, and "ask Nova" is a
check that a rule can name (``nova:attached``), evaluated only when the cheaper
half of the rule has not decided.

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
import dataclasses
import functools
import os
import re
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from oslo_policy import _checks
from oslo_policy import policy
import yaml

from attachguard import caller as callers
from attachguard import cinder as cinders
from attachguard import nova as novas
from attachguard import opts
from attachguard import request as requests

LOG = logging.getLogger(__name__)

PREFIX = 'attachguard:'
SERVICE = 'rule:attachguard:service'

_OPEN = '@'
# A second record of the same attachment would stay when Nova removes the
# first, and keep the volume in-use.
_IF_ATTACHED_AND_NEW = f'{SERVICE} or (False:%(recorded)s and nova:attached)'
# A live attachment that is updated goes back to attaching, and Nova cannot
# detach it any more.
_IF_ATTACHED_AND_RESERVED = (
    f"{SERVICE} or nova:no_server or "
    "('reserved':%(attachment_status)s and nova:attached)"
)
_IF_ATTACHED_OR_NO_SERVER = f'{SERVICE} or nova:no_server or nova:attached'
_IF_NOT_ATTACHED = f'{SERVICE} or not nova:attached'
# A second attachment, left behind by a migration that failed, can be removed
# while Nova has the volume by the first.
_IF_NOT_THE_SAME = f'{SERVICE} or not nova:same_attachment'

# A volume can have many attachments (multiattach), and each of their servers
# is a question to Nova: beyond this, one call is too dear.
_MAX_QUESTIONS = 16

# Of a rule's text, what oslo.policy replaces by a value of the target.
_VALUE = re.compile(r'%\((\w+)\)s')

# How often to look for a policy file that was not there at start-up, in
# seconds.
_LOOK_AGAIN = 5.0


@dataclasses.dataclass(frozen=True)
class _Row:
    default: str
    why: str


_ROWS: dict[str, _Row] = {
    'os-attach': _Row(
        _IF_ATTACHED_AND_NEW,
        'Naming a server: only if Nova says that the server has the volume, '
        'and Cinder has no record of it yet.',
    ),
    'os-attach:no-server': _Row(
        SERVICE,
        'Naming only a host. Open it for a project whose own hosts attach '
        'volumes (Terraform, brick clients): '
        '"rule:attachguard:service or project_id:<id>".',
    ),
    'os-detach': _Row(
        _IF_NOT_THE_SAME,
        'Only if Nova does not have it by this attachment: what recovers a '
        'volume from a forged or stale attachment, and does not pull one from '
        'a live server.',
    ),
    'os-reserve': _Row(
        _OPEN, 'It marks no volume as attached; os-unreserve takes it back.'
    ),
    'os-unreserve': _Row(_OPEN, 'The way out of os-reserve.'),
    'os-begin_detaching': _Row(
        _IF_NOT_ATTACHED,
        "Only if Nova does not have it: else a live server's volume sticks "
        'in detaching.',
    ),
    'os-roll_detaching': _Row(_OPEN, 'The way out of os-begin_detaching.'),
    'os-initialize_connection': _Row(
        _OPEN,
        'It shows a connection, and attaches nothing. Close it where '
        'only hypervisors may reach the storage.',
    ),
    'os-terminate_connection': _Row(
        _IF_NOT_ATTACHED, 'Only if Nova does not have it.'
    ),
    'os-force_detach': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'os-reset_status': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'os-migrate_volume_completion': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'attachment-create': _Row(
        _IF_ATTACHED_AND_NEW,
        'Naming a server: only if Nova says that the server has the volume, '
        'and Cinder has no record of it yet.',
    ),
    'attachment-create:no-server': _Row(
        _OPEN,
        "Naming no server: Glance's Cinder store does so, without a service "
        'token.',
    ),
    'attachment-update': _Row(
        _IF_ATTACHED_AND_RESERVED,
        "Only if Nova says that the attachment's server has the volume, and "
        'the attachment is still reserved; or if there is no server.',
    ),
    'attachment-complete': _Row(
        _IF_ATTACHED_OR_NO_SERVER,
        "Only if Nova says that the attachment's server has the volume, or "
        'there is no server.',
    ),
    'attachment-delete': _Row(
        _IF_NOT_THE_SAME,
        'Only if Nova does not have the volume by this attachment.',
    ),
}

# Where Nova sends no service token, its own calls look like a user's: detach,
# and attachment-create and -update for a server that is only being built, of
# which Nova itself says 404 until the update is done (nova.virt.block_device).
# Without attachment-complete, none of these makes a volume in-use.
NO_SERVICE_TOKEN = {
    PREFIX + name: _OPEN
    for name in (
        'attachment-create',
        'attachment-delete',
        'attachment-update',
        'os-begin_detaching',
        'os-detach',
        'os-terminate_connection',
    )
}


def list_rules() -> list[policy.RuleDefault]:
    """The default rules, for ``oslopolicy-sample-generator``.

    :returns: one documented rule a row
    """
    rules: list[policy.RuleDefault] = [
        policy.RuleDefault(
            PREFIX + 'service',
            'service_roles:service or role:service',
            description='Who is a service, and let through by the other '
            'rules: the request carries a confirmed service token with the '
            "role, or its own user has it (Nova's periodic tasks, "
            'nova-manage, Ironic). To pin it to one user: '
            '"(service_roles:service and service_user_id:<id>) or '
            '(role:service and user_id:<id>)".',
        )
    ]
    for name, row in _ROWS.items():
        operation = requests.OPERATIONS[name.partition(':')[0]]
        rules.append(
            policy.DocumentedRuleDefault(
                PREFIX + name,
                row.default,
                f'{operation.what} {row.why}',
                [{'method': operation.method, 'path': operation.path}],
            )
        )
    return rules


@dataclasses.dataclass(frozen=True)
class Claimed:
    """A server that a request says has a volume.

    All ids are canonical UUIDs.
    """

    server_id: str
    volume_id: str
    attachment_id: str | None = None


class Target(Mapping[str, Any]):
    """What a request is about, found out as far as a rule looks.

    Iterating shows only what is known without asking: oslo.policy logs its
    target on the debug level, and that must not ask Nova.

    :param request: what is asked
    :param caller: who asks
    :param cinder: what Cinder knows
    :param nova: what Nova knows
    """

    KEYS = (
        'operation',
        'volume_id',
        'attachment_id',
        'attachment_status',
        'server_id',
        'host',
        'project_id',
        'recorded',
    )

    def __init__(
        self,
        request: requests.Request,
        caller: callers.Caller,
        cinder: cinders.Cinder,
        nova: novas.Nova,
    ) -> None:
        self.request = request
        self._caller = caller
        self._cinder = cinder
        self._nova = nova
        self.nova_seconds = 0.0
        self.nova_questions = 0
        #: whether any claimed server has its volume; None: nobody asked
        self.nova_answer: bool | None = None
        self._give_up: float | None = None
        self._too_many = False

    def __iter__(self) -> Iterator[str]:
        return iter(('operation',))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Any:
        if key == 'operation':
            assert self.request.operation is not None
            return self.request.operation.name
        if key == 'volume_id':
            return self._volume_id
        if key == 'attachment_id':
            return self.request.attachment_id
        if key == 'server_id':
            servers = {claimed.server_id for claimed in self.claims}
            return servers.pop() if len(servers) == 1 else None
        if key == 'host':
            return self.request.host
        if key == 'project_id':
            return self._volume.project_id
        if key == 'attachment_status':
            return self._attachment and self._attachment.status
        if key == 'recorded':
            return self._recorded
        raise KeyError(key)

    @functools.cached_property
    def _attachment(self) -> cinders.Attachment | None:
        attachment_id = self.request.attachment_id
        if attachment_id is None:
            return None
        return self._cinder.attachment(attachment_id)

    @functools.cached_property
    def _volume_id(self) -> str:
        assert self.request.operation is not None
        if self.request.operation.claim is requests.Claim.ATTACHMENT:
            assert self._attachment is not None
            return self._attachment.volume_id
        return self._volume.id

    @functools.cached_property
    def _volume(self) -> cinders.Volume:
        assert self.request.operation is not None
        if self.request.operation.claim is requests.Claim.ATTACHMENT:
            return self._cinder.volume(self._volume_id)
        volume_id = self.request.volume_id
        if (
            volume_id is None
            or self.request.operation.claim is requests.Claim.BODY
            and self.request.span is None
            and requests.canonical_uuid(volume_id) is None
        ):
            # From a body, it must not become another path.
            raise Malformed('volume_uuid is not a UUID')
        return self._cinder.volume(volume_id)

    @functools.cached_property
    def _recorded(self) -> bool:
        """Whether Cinder has an attachment of a claimed server already."""
        claimed = {item.server_id for item in self.claims}
        if not claimed:
            return False
        return any(
            attachment.server_id is not None
            and requests.canonical_uuid(attachment.server_id) in claimed
            for attachment in self._cinder.attachments_of(self._volume.id)
        )

    @functools.cached_property
    def claims(self) -> list[Claimed]:
        """The servers that the request speaks of.

        :returns: none where it names none, or what can be no server
        :raises attachguard.cinder.Refused: where Cinder shows nothing
        :raises attachguard.cinder.Unknown: where Cinder does not say
        :raises Malformed: where the request cannot be one
        """
        assert self.request.operation is not None
        claim = self.request.operation.claim
        if claim is requests.Claim.BODY:
            volume_id = self._volume.id
            return self._claims(
                [cinders.Attachment('', volume_id, self.request.server_id)]
            )
        if claim is requests.Claim.ATTACHMENT:
            assert self._attachment is not None
            if self._attachment.server_id is not None:
                # Cinder shows attachments of other projects, too; Nova is
                # not asked about what is not the caller's.
                self._volume  # noqa: B018
            return self._claims([self._attachment])
        attachments = self._cinder.attachments_of(self._volume.id)
        attachment_id = self.request.attachment_id
        wanted = attachment_id and requests.canonical_uuid(attachment_id)
        if wanted:
            named = [item for item in attachments if item.id == wanted]
            if not named:
                # Of another volume, or gone: Cinder takes it all the same,
                # and then resets this one's status.
                named = attachments + self._elsewhere(wanted)
            attachments = named
        return self._claims(attachments)

    def _elsewhere(self, attachment_id: str) -> list[cinders.Attachment]:
        try:
            attachment = self._cinder.attachment(attachment_id)
            self._cinder.volume(attachment.volume_id)
        except cinders.Refused:
            return []
        return [attachment]

    @staticmethod
    def _claims(attachments: list[cinders.Attachment]) -> list[Claimed]:
        claims = {}
        for item in attachments:
            server = item.server_id and requests.canonical_uuid(item.server_id)
            if server:
                claims[Claimed(server, item.volume_id, item.id or None)] = 1
        return list(claims)

    def why(self, allowed: bool) -> str:
        """The stable code of why a request was allowed or refused."""
        if self.nova_answer is not None:
            return (
                'server-has-volume'
                if self.nova_answer
                else 'server-lacks-volume'
            )
        if not allowed and self._too_many:
            return 'too-many-servers'
        known = vars(self)
        if not allowed and (
            known.get('_recorded') or self._is_past_reserved(known)
        ):
            return 'already-attached'
        if not allowed and self.request.rule.endswith(':no-server'):
            return 'no-server'
        if not allowed and self.request.server_id and 'claims' in vars(self):
            # What was named is no UUID, and so no server to ask about.
            return 'server-lacks-volume'
        return 'policy'

    def _is_past_reserved(self, known: Mapping[str, Any]) -> bool:
        assert self.request.operation is not None
        attachment = known.get('_attachment')
        return (
            self.request.operation.name == 'attachment-update'
            and attachment is not None
            and attachment.status != 'reserved'
        )

    def no_server(self) -> bool:
        """Whether the request speaks of no server at all."""
        return not self.claims and self.request.server_id is None

    def attached(self) -> bool:
        """Whether Nova has the volume on any server that is spoken of.

        :raises attachguard.nova.Unknown: when Nova does not say
        """
        pairs = {(item.server_id, item.volume_id) for item in self.claims}
        return self._any(self._has, sorted(pairs))

    def same_attachment(self) -> bool:
        """Whether Nova has the volume by the very attachment of a claim.

        :returns: True also where Nova has it and does not say by which
        :raises attachguard.nova.Unknown: when Nova does not say
        """
        return self._any(self._has_by, self.claims)

    def _has(self, pair: tuple[str, str]) -> bool:
        return self._nova.attached(self._caller.auth, *pair, self._left())

    def _has_by(self, item: Claimed) -> bool:
        pair = (item.server_id, item.volume_id)
        by = self._nova.attachment_id(self._caller.auth, *pair, self._left())
        if by is not None:
            return by == item.attachment_id
        # Not yet, or attached before the Queens release; or not at all.
        self.nova_questions += 1
        return self._has(pair)

    def _left(self) -> float:
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + self._nova.timeout
        return self._give_up - now

    def _any(self, ask: Callable[[Any], bool], items: list[Any]) -> bool:
        if len(items) > _MAX_QUESTIONS:
            # As if one of them had it: what is not asked about is not pulled.
            self._too_many = True
            return True
        for item in items:
            start = time.monotonic()
            try:
                self.nova_answer = ask(item)
            except novas.Unknown:
                self.nova_answer = None
                raise
            finally:
                self.nova_questions += 1
                self.nova_seconds += time.monotonic() - start
            if self.nova_answer:
                return True
        return False


class Malformed(Exception):
    """A request that Cinder cannot perform."""


class NovaCheck(policy.Check):
    """``nova:attached``, ``nova:same_attachment`` and ``nova:no_server``.

    ``attached``: a server that the request speaks of has the volume, so Nova
    says; ``same_attachment``: and by the very attachment that it speaks of,
    or Nova does not say by which; ``no_server``: it speaks of no server, which
    needs no question.
    """

    QUESTIONS: Mapping[str, Callable[[Target], bool]] = {
        'attached': Target.attached,
        'same_attachment': Target.same_attachment,
        'no_server': Target.no_server,
    }

    def __call__(
        self,
        target: Mapping[str, Any],
        creds: MutableMapping[str, Any],
        enforcer: policy.Enforcer,
        current_rule: str | None = None,
    ) -> bool:
        """Whether the answer is yes.

        :raises attachguard.nova.Unknown: when Nova does not say
        """
        if not isinstance(target, Target):
            # In another service's rules, there is nothing to ask about.
            return False
        return self.QUESTIONS[self.match](target)


class Policy:
    """The rules in force: the defaults, and over them the operator's file.

    :param conf: the service's configuration
    :raises attachguard.opts.ConfigError: when the file is missing or wrong
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._name: str = conf[opts.GROUP].policy_file
        self._lock = threading.Lock()
        self._enforcer = _enforcer(conf, {})
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

    def allows(self, target: Target, caller: callers.Caller) -> bool:
        """Whether the rule for a request says yes.

        :raises attachguard.cinder.Refused: where Cinder shows nothing
        :raises attachguard.cinder.Unknown: where Cinder does not say
        :raises attachguard.nova.Unknown: where Nova does not say
        :raises Malformed: where the request cannot be one
        """
        self._reload()
        return bool(
            self._enforcer.enforce(
                target.request.rule, target, dict(caller.credentials)
            )
        )

    def text(self, name: str) -> str:
        """A rule in force.

        :param name: of the rule, ``attachguard:os-detach``
        :returns: its text, as oslo.policy writes it
        """
        return str(self._enforcer.rules[name])

    def is_service(self, caller: callers.Caller) -> bool:
        """Whether the caller is a service, for the log."""
        return bool(
            self._enforcer.enforce(
                PREFIX + 'service', {}, dict(caller.credentials)
            )
        )

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
                rules = _read(self._path, may_be_empty=first)
                self._enforcer = _enforcer(self._conf, rules)
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
            rules = yaml.safe_load(file)
        except (yaml.YAMLError, ValueError) as exc:
            raise opts.ConfigError(f'it is not YAML: {exc}') from None
    if rules is None:
        if may_be_empty:
            return {}
        # As an editor leaves it for a moment, or a full disk for good.
        raise opts.ConfigError('it is empty; write {} for the defaults')
    if not isinstance(rules, dict):
        raise opts.ConfigError('it is not a mapping of names to rules')
    return rules


def _enforcer(
    conf: cfg.ConfigOpts, overrides: Mapping[str, str]
) -> policy.Enforcer:
    checks: dict[str, _checks.BaseCheck] = {}
    defaults = {rule.name: rule.check_str for rule in list_rules()}
    for name in overrides:
        if str(name).startswith(PREFIX) and name not in defaults:
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
    enforcer = policy.Enforcer(conf, use_conf=False)
    enforcer.set_rules(policy.Rules(checks))
    return enforcer


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
        if '%' in _VALUE.sub('', leaf.match) or set(names) - {*Target.KEYS}:
            raise opts.ConfigError(
                f'rule {name!r}: {str(leaf)!r} names what is not there; '
                f'write %(key)s; a target has: {", ".join(Target.KEYS)}'
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
