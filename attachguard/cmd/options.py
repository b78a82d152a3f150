# SPDX-License-Identifier: Apache-2.0

"""Types of options' values, for argparse."""

from __future__ import annotations

import argparse
import datetime
import re

from attachguard.audit import foreign
from attachguard.guard import request

_DURATION = re.compile(r'(\d{1,9})\s*([smhd]?)')
_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400, '': 1}


def duration(text: str) -> datetime.timedelta:
    """Read a duration.

    :param text: a number, and s, m, h or d
    :raises argparse.ArgumentTypeError: it is not a duration
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a duration: write for example 90s, 15m, 12h, 3d'
        )
    return datetime.timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def uuid(text: str) -> str:
    """Read a UUID, which becomes part of URLs.

    :param text: in any form that Cinder accepts
    :raises argparse.ArgumentTypeError: it is not a UUID
    """
    found = request.canonical_uuid(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a UUID: write the id, not the name'
        )
    return found


def positive(text: str) -> int:
    """Read a positive integer.

    :param text: digits
    :raises argparse.ArgumentTypeError: it is not a positive integer
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return int(text)


def foreign_pattern(text: str) -> tuple[str, str]:
    """Read a pattern of foreign attachments.

    :param text: KEY=PATTERN
    :raises argparse.ArgumentTypeError: it is not
    """
    key, _equals, pattern = text.partition('=')
    if not pattern or key not in foreign.KEYS:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not KEY=PATTERN, where KEY is one of '
            f'{", ".join(foreign.KEYS)}'
        )
    return key, pattern
