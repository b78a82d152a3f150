# SPDX-License-Identifier: Apache-2.0
"""Groups of refusals: who is refused what, how often, since when.

The memory is bounded, whatever is in the log: a client can choose its name,
and a user can call for any volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

from attachguard.decisions import log_reader

#: The most groups, and the most clients of one user in one of them.
LIMIT = 20_000
CLIENT_LIMIT = 20

OTHER_CLIENTS = '(other clients)'


@dataclasses.dataclass
class Group:
    """Refusals of the same kind, to one user of one project.

    :param rule: the policy rule, empty if the request was not parsed
    :param reason: the reason code
    :param client: the user agent
    :param checks: the checks that were true for all of these requests
    :param count: the number of requests
    :param enforced: how many of them were refused, and not only logged
    :param first: the time of the first one
    :param last: the time of the last one
    """

    rule: str
    reason: str
    project_id: str
    user_id: str
    client: str
    checks: frozenset[str]
    count: int = 0
    enforced: int = 0
    first: str = ''
    last: str = ''


@dataclasses.dataclass
class Refusals:
    """The refusals of a log.

    :param groups: the most frequent first
    :param left_out: the number of refusals in no group, because there are too
        many groups
    """

    groups: list[Group]
    left_out: int = 0


def collect(
    decisions: Iterable[Mapping[str, Any]], limit: int = LIMIT
) -> Refusals:
    """Group the refusals among decisions.

    :param decisions: as they were logged
    :param limit: the most groups
    """
    groups: dict[tuple[str, ...], Group] = {}
    clients: dict[tuple[str, ...], int] = {}
    left_out = 0
    for decision in decisions:
        if decision['verdict'] != 'refused':
            continue
        who = (
            log_reader.text(decision, 'rule'),
            log_reader.text(decision, 'reason'),
            log_reader.text(decision, 'project_id'),
            log_reader.text(decision, 'user_id'),
        )
        client = log_reader.text(decision, 'user_agent')
        group = groups.get((*who, client))
        if group is None:
            if clients.get(who, 0) >= CLIENT_LIMIT:
                client = OTHER_CLIENTS
                group = groups.get((*who, client))
        if group is None:
            if len(groups) >= limit:
                left_out += 1
                continue
            group = Group(*who, client, _true_checks(decision))
            groups[(*who, client)] = group
            clients[who] = clients.get(who, 0) + 1
        _add(group, decision)
    return Refusals(
        sorted(groups.values(), key=lambda group: -group.count), left_out
    )


def _add(group: Group, decision: Mapping[str, Any]) -> None:
    group.count += 1
    group.enforced += decision.get('enforced') is True
    if group.checks:
        group.checks &= _true_checks(decision)
    time = log_reader.text(decision, 'time')
    if time:
        group.first = min(group.first or time, time)
        group.last = max(group.last, time)


def _true_checks(decision: Mapping[str, Any]) -> frozenset[str]:
    checks = decision.get('checks')
    if not isinstance(checks, dict):
        return frozenset()
    return frozenset(name for name, result in checks.items() if result is True)
