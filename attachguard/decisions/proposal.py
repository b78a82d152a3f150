# SPDX-License-Identifier: Apache-2.0
"""Policy lines that would let refused requests pass, each with a warning.

A line names the users that were refused and requires the checks that were true
for all of their requests, so that it lets through as little else as possible.
Whether these requests should pass is for the operator to decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re

from attachguard.decisions import refusals
from attachguard.guard import default_rules
from attachguard.guard.decision import Reason

# Of Keystone, also of LDAP: no other can be in a rule.
_ID = re.compile(r'[A-Za-z0-9_.@-]+')

_FORGES = (
    'the users can make Cinder show a volume as attached to a server that '
    'does not have it'
)
_TEARS = (
    'the users can clear or change an attachment while a server uses the '
    'volume, whose data can then be lost'
)
_RACES = (
    'the users can change an attachment while Nova or Cinder works on it; '
    'clients should try again instead'
)
_WARNINGS = {
    Reason.SERVER_LACKS_VOLUME: _FORGES,
    Reason.SERVER_GONE: _FORGES,
    Reason.NAMES_SERVER: _FORGES,
    Reason.OTHER_VOLUME: _TEARS,
    Reason.OTHER_ATTACHMENT: _TEARS,
    Reason.SERVER_HAS_VOLUME: _TEARS,
    Reason.SERVER_BUSY: _RACES,
    Reason.VOLUME_BUSY: _RACES,
    Reason.NO_SERVER: 'the users can connect hosts that Nova does not know, '
    'also to a volume that a server has; add "and '
    'nova:no_server_has_volume and cinder:idle" if their requests still pass',
    Reason.HAS_ATTACHMENT: 'a server can keep, or delete, a volume that was '
    'given to another project',
    Reason.NO_ATTACHMENT: 'nobody knows what uses the volume; "attachguard '
    'explain" shows it',
    Reason.POLICY: 'the rule is closed for the reason in its description',
}
#: Refusals that no rule can lift.
BEYOND_RULES = frozenset(
    (Reason.NOT_AUTHENTICATED.value, Reason.TOO_MANY_SERVERS.value)
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A policy line.

    :param rule: its name
    :param text: what it says
    :param count: for how many logged requests it is
    :param warnings: what it opens
    """

    rule: str
    text: str
    count: int
    warnings: tuple[str, ...]


def propose(
    groups: Iterable[refusals.Group], current: Mapping[str, str]
) -> list[Line]:
    """Propose the lines that let refused requests pass.

    :param groups: of the refused requests
    :param current: the text of each rule now, by its name
    :returns: one line for each rule, sorted by its name
    """
    by_rule: dict[str, list[refusals.Group]] = {}
    for group in groups:
        if group.rule in current and group.reason not in BEYOND_RULES:
            by_rule.setdefault(group.rule, []).append(group)
    return [
        _line(rule, found, current[rule])
        for rule, found in sorted(by_rule.items())
    ]


def _line(rule: str, groups: list[refusals.Group], current: str) -> Line:
    by_user: dict[str, list[frozenset[str]]] = {}
    for group in groups:
        if (user := _user(group)) is not None:
            by_user.setdefault(user, []).append(group.checks)
    parts = [
        ' and '.join((user, *sorted(checks)))
        for user, found in by_user.items()
        for checks in _weakest(found)
    ]
    # In front of the new part: the reason of other refusals stays the same.
    texts = [*([] if current.strip() == '!' else [current]), *parts]
    warnings = dict.fromkeys(_warning(group.reason) for group in groups)
    return Line(
        rule,
        ' or '.join(texts) or '!',
        sum(group.count for group in groups),
        tuple(warnings),
    )


def _user(group: refusals.Group) -> str | None:
    if not (_ID.fullmatch(group.user_id) and _ID.fullmatch(group.project_id)):
        # A token without a project, or a line of somebody else's.
        return None
    return f'project_id:{group.project_id} and user_id:{group.user_id}'


def _weakest(found: list[frozenset[str]]) -> list[frozenset[str]]:
    """Leave out each set of checks of which another needs only a part."""
    return [
        checks
        for checks in dict.fromkeys(found)
        if not any(other < checks for other in found)
    ]


def _warning(reason: str) -> str:
    try:
        return _WARNINGS[Reason(reason)]
    except (KeyError, ValueError):
        return f'the refusal was {reason}'


def write(lines: Iterable[Line]) -> str:
    """Write lines as a policy file.

    :returns: YAML, with the warnings as comments
    """
    texts = []
    for line in lines:
        name = line.rule.removeprefix(default_rules.PREFIX)
        comments = [f'# {name}: {line.count} requests.']
        comments += [f'# WARNING: {warning}.' for warning in line.warnings]
        texts.append('\n'.join([*comments, f'"{line.rule}": "{line.text}"\n']))
    return '\n'.join(texts) or '{}\n'
