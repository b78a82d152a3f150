# SPDX-License-Identifier: Apache-2.0
"""The requests to Cinder's API, the responses, and the guard's decisions.

It comes from where an operator would look: the access log of the WSGI server
and the service's own log. The global request id,
which each service forwards to the next, shows which requests belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
import re
from typing import Any

from tests.cloud import cloud as clouds

_CHANGES = re.compile(r'/(attachments|volumes/[^/]+/action)')
_DECISION = re.compile(r'attachguard decision (\{.*\})')
_ACTION = re.compile(
    r'\[(?:req-[0-9a-f-]{36} )?(req-[0-9a-f-]{36}) .*'
    r'Action: \'action\', .*?"(os-[a-z_]+)"'
)
# By method, and whether it is an action.
_ATTACHMENTS = {
    ('POST', False): 'attachment-create',
    ('PUT', False): 'attachment-update',
    ('DELETE', False): 'attachment-delete',
    ('POST', True): 'attachment-complete',
}


@dataclasses.dataclass(frozen=True)
class Call:
    """One request that may change an attachment.

    :param operation: its name, as the guard calls it
    :param status: what the caller got
    :param decision: what the guard logged; ``None`` without the guard
    """

    operation: str
    status: int
    decision: dict[str, Any] | None


class Traffic:
    """Reads the logs, from their beginning.

    :param cloud: whose Cinder
    """

    def __init__(self, cloud: clouds.Cloud) -> None:
        self._access = cloud.access_log('cinder')
        self._log = cloud.processes.log('cinder-api')

    def decisions(self) -> Iterator[dict[str, Any]]:
        """Every decision so far, in the order of the log."""
        for line in self._log.open(errors='replace'):
            found = _DECISION.search(line)
            if found:
                yield json.loads(found[1])

    def calls(self) -> dict[str, list[Call]]:
        """Every call so far that may change an attachment.

        :returns: global request id to the calls, in the order of their ends
        """
        decisions, actions = {}, {}
        for line in self._log.open(errors='replace'):
            if found := _DECISION.search(line):
                decision = json.loads(found[1])
                decisions[decision['request_id']] = decision
            elif found := _ACTION.search(line):
                actions[found[1]] = found[2]
        calls: dict[str, list[Call]] = {}
        for line in self._access.open(errors='replace'):
            fields = line.rstrip('\n').split('\t')
            if len(fields) != 6:
                # Half of a path with a line break in it, which is no flow's.
                continue
            _when, method, path, status, global_id, own_id = fields
            if method == 'GET' or not _CHANGES.search(path):
                continue
            decision = decisions.get(own_id)
            # A body that the guard could not read has no operation.
            operation = (decision or {}).get('operation')
            if operation is None and '/attachments' in path:
                operation = _ATTACHMENTS.get(
                    (method, path.endswith('/action'))
                )
            calls.setdefault(global_id, []).append(
                Call(
                    operation or actions.get(own_id, 'an action'),
                    int(status),
                    decision,
                )
            )
        return calls
