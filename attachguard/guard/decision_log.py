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

"""One log line and one counter for each decision.

The line is JSON behind a fixed word, so that a person can read it and a
program can take it apart.  What comes from a request is cut and escaped, and
a token is never in it.

=======  ==========================================================
level    decision
=======  ==========================================================
DEBUG    a service was let through (many a second, in a cloud)
INFO     another caller was let through, or asked for what is
         missing or malformed
WARNING  refused, or not decided; or let through all the same,
         because the filter does not enforce or Nova did not answer
=======  ==========================================================
"""

from __future__ import annotations

import dataclasses
import enum
import logging as python_logging
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging
from oslo_serialization import jsonutils

from attachguard import opts

LOG = logging.getLogger(__name__)

_MAX_LENGTH = 256


class Verdict(enum.Enum):
    """What is done with a request."""

    ALLOWED = 'allowed'
    REFUSED = 'refused'
    UNKNOWN = 'unknown'
    MALFORMED = 'malformed'
    MISSING = 'missing'


@dataclasses.dataclass
class Event:
    """A decision, and what it rests on.

    :param verdict: what was decided
    :param reason: the stable code of why
    :param enforced: False where the caller was let through all the same
    :param service: whether the caller is a service
    :param operation: of :data:`attachguard.guard.request.OPERATIONS`
    :param detail: for the operator: what went wrong
    :param nova_answer: whether Nova has the volume on a claimed server
    :param nova_ms: what the questions to Nova took, in milliseconds
    """

    verdict: Verdict
    reason: str
    enforced: bool = True
    service: bool = False
    operation: str | None = None
    request_id: str | None = None
    global_request_id: str | None = None
    volume_id: str | None = None
    attachment_id: str | None = None
    server_id: str | None = None
    user_id: str | None = None
    project_id: str | None = None
    service_user_id: str | None = None
    nova_answer: bool | None = None
    nova_questions: int = 0
    nova_ms: float = 0.0
    detail: str | None = None

    @property
    def level(self) -> int:
        """The level on which it is logged."""
        if self.verdict in (Verdict.REFUSED, Verdict.UNKNOWN):
            return python_logging.WARNING
        if self.service:
            return python_logging.DEBUG
        return python_logging.INFO

    def as_dict(self) -> dict[str, Any]:
        """What there is to say of it.

        :returns: only what is known, each text cut to 256 characters
        """
        values = {
            name: _cut(value)
            for name, value in vars(self).items()
            if value is not None
        }
        values['verdict'] = self.verdict.value
        values['nova_ms'] = round(self.nova_ms, 1)
        return values


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_LENGTH:
        return value[:_MAX_LENGTH] + '...'
    return value


class Events:
    """Where decisions are written down.

    :param conf: where the ``[attachguard]`` options are registered
    :raises attachguard.opts.ConfigError: when statsd is asked for and missing
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        group = conf[opts.GROUP]
        self._statsd: Any = None
        if group.statsd_host:
            try:
                import statsd
            except ImportError:
                raise opts.ConfigError(
                    f'[{opts.GROUP}] statsd_host needs the package "statsd": '
                    'pip install attachguard[statsd]'
                ) from None
            try:
                self._statsd = statsd.StatsClient(
                    group.statsd_host,
                    group.statsd_port,
                    prefix=group.statsd_prefix,
                )
            except OSError as exc:
                raise opts.ConfigError(
                    f'[{opts.GROUP}] statsd_host {group.statsd_host!r}: {exc}'
                ) from None

    def record(self, event: Event) -> None:
        """Write a decision down."""
        if LOG.isEnabledFor(event.level):
            LOG.log(
                event.level,
                'attachguard decision %s',
                jsonutils.dumps(event.as_dict()),
            )
        if self._statsd is not None:
            operation = event.operation or 'unreadable'
            self._statsd.incr(f'{operation}.{event.verdict.value}')
            if event.verdict is Verdict.UNKNOWN:
                self._statsd.incr(f'unknown.{event.reason}')
            if event.nova_questions:
                self._statsd.timing('nova', event.nova_ms)

    def nova_left_alone(self, is_left: bool) -> None:
        """Count that Nova is left alone from now on, or is asked again.

        :param is_left: whether it is left alone
        """
        if self._statsd is not None:
            self._statsd.incr(
                'nova.left-alone' if is_left else 'nova.asked-again'
            )
