# SPDX-License-Identifier: Apache-2.0

"""Errors of the stub of Cinder that several resources share."""

from __future__ import annotations

from attachguard.testing import service


def not_found() -> service.Refused:
    """Make the error for a path or body that no method handles."""
    return service.Refused(404, 'The resource could not be found.')


def malformed_body() -> service.Refused:
    """Make the error for a body that Cinder cannot read."""
    return service.Refused(400, 'Malformed request body')


def invalid_volume(reason: str) -> service.Refused:
    """Make the error for a volume in the wrong state."""
    return service.Refused(400, f'Invalid volume: {reason}')


def no_such_action(name: str | None) -> service.Refused:
    """Make the error for an action that does not exist."""
    return service.Refused(
        400,
        f'There is no such action: {name}. Verify the request body and '
        'Content-Type header and try again.',
    )


def unexpected(exception: str) -> service.Refused:
    """Make the error for an exception that Cinder does not handle.

    :param exception: name of the exception's class
    """
    return service.Refused(
        500,
        'The server has either erred or is incapable of performing the '
        f'requested operation. ({exception})',
    )
