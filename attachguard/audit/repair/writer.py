# SPDX-License-Identifier: Apache-2.0

"""Calls that change something, each recorded in a journal.

The only module through which a repair or an undo writes to Cinder's API.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import enum
from typing import Any
from typing import Protocol

from attachguard.audit.collect import rest
from attachguard.audit.repair import journal
from attachguard.audit.repair import plan


class BlockStorage(Protocol):
    """The Block Storage API, as far as calls are made here."""

    def cinder(
        self, method: str, path: str, body: Any = None, version: str = ...
    ) -> rest.Response:
        """Call it, as :meth:`attachguard.audit.collect.api.Cloud.cinder`."""


class CallStatus(enum.Enum):
    """The result of a call."""

    DONE = 'done'
    #: Cinder, or the guard, protects the volume (403, 409)
    REFUSED = 'refused'
    #: the guard cannot verify it now (503)
    UNVERIFIED = 'not verified'
    #: no response, or a 5xx: it may have been done
    NO_RESPONSE = 'no response'
    #: any other error; or the call was not made
    FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class CallResult:
    """The result of a call.

    :param status: the result
    :param detail: the reason, for people
    :param body: the body of the response
    """

    status: CallStatus
    detail: str = ''
    body: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether Cinder did what was requested."""
        return self.status is CallStatus.DONE

    def __str__(self) -> str:
        return ': '.join(filter(None, (self.status.value, self.detail)))


class Writer:
    """Makes calls, each between two records in a journal.

    :param cloud: where to make them
    :param journal: where each is recorded before it is made
    """

    def __init__(self, cloud: BlockStorage, journal: journal.Journal) -> None:
        self.journal = journal
        self._cloud = cloud

    def call(self, call: plan.Call, record: Mapping[str, Any]) -> CallResult:
        """Make a call.

        :param call: the call
        :param record: what the journal stores with it
        :raises attachguard.audit.repair.journal.JournalError: it cannot be
            recorded; where that happens before the call, it is not made
        """
        with self.journal.record({**record, 'call': call.to_json()}) as done:
            response = self.call_unrecorded(call)
            # An old name, which the journals have.
            done['answer'] = response.evidence.to_json()
        return CallResult(_status(response), response.why, response.body)

    def call_unrecorded(self, call: plan.Call) -> rest.Response:
        """Make a call that must be made even if it cannot be recorded.

        :param call: the call
        """
        return self._cloud.cinder(
            call.method, call.path, call.body, call.version
        )


def _status(response: rest.Response) -> CallStatus:
    status = response.status
    if status is None:
        return CallStatus.NO_RESPONSE
    if status >= 500:
        # Only the guard's faults have a reason.
        by_guard = any(
            isinstance(fault, dict) and 'reason' in fault
            for fault in response.body.values()
        )
        return CallStatus.UNVERIFIED if by_guard else CallStatus.NO_RESPONSE
    if status < 300:
        return CallStatus.DONE
    return CallStatus.REFUSED if status in (403, 409) else CallStatus.FAILED
