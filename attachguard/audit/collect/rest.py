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


"""What a service responds, and the error of a cloud that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from attachguard.audit import model


class CloudError(Exception):
    """The cloud cannot be audited, or not as whoever asks.

    The text says what was tried, what came of it, and what to do.
    """


@dataclasses.dataclass(frozen=True)
class Response:
    """What a service said.

    :param body: of the answer; empty where it was no JSON object
    :param evidence: the call, for the record
    :param why: for people, where it is not what was hoped for
    """

    body: Mapping[str, Any]
    evidence: model.Evidence
    why: str = ''

    @property
    def status(self) -> int | None:
        """The HTTP status; None where no answer came."""
        return self.evidence.status

    @property
    def not_found(self) -> bool:
        """Whether the service itself says that there is no such thing.

        A proxy's 404, or the one of a wrong endpoint, says nothing.
        """
        return self.status == 404 and 'itemNotFound' in self.body


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a list.

    :param rows: what is listed
    :param evidence: the call
    """

    rows: list[dict[str, Any]]
    evidence: model.Evidence
