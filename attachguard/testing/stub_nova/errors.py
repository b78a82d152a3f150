# SPDX-License-Identifier: Apache-2.0

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
