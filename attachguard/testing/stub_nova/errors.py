# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Errors of the stub of Nova."""

from __future__ import annotations

from attachguard.testing import service


def unexpected(exception: str) -> service.Refused:
    """Make the error for an exception that Nova does not handle.

    :param exception: name of the exception's class
    """
    return service.Refused(
        500,
        'Unexpected API Error. Please report this at '
        'http://bugs.launchpad.net/nova/ and attach the Nova API log if '
        f"possible.\n<class '{exception}'>",
    )
