# SPDX-License-Identifier: Apache-2.0
"""Reading of logged decisions, one line at a time.

A line is one of a log file, with any prefix, or a JSON object with the message
in one of its values: of journald (``journalctl -o json``), of oslo.log's JSON
formatter, or of a container runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import json
from typing import Any
from typing import BinaryIO

from attachguard.guard import decision_log

# A longer line is no decision: each of its texts is cut.
_MAX_LINE = 128 * 1024

_MARKER = decision_log.MARKER.encode()
# How journald writes a message that is not plain text: one in colours.
_BYTES = b'"MESSAGE":['
_DECODER = json.JSONDecoder()


def read(file: BinaryIO, word: str = '') -> Iterator[dict[str, Any]]:
    """Read the decisions of a log.

    :param file: the log
    :param word: leave out most decisions without this word in their line,
        which is faster than to parse them all
    :returns: each decision as it was logged
    """
    wanted = word.encode()
    while line := file.readline(_MAX_LINE):
        if _MARKER in line and wanted in line or _BYTES in line:
            decision = parse(line)
            if decision is not None:
                yield decision


def parse(line: bytes) -> dict[str, Any] | None:
    """Parse a line.

    :param line: of a log
    :returns: the decision, or None if the line has none
    """
    text = line.decode(errors='replace')
    if text.startswith('{'):
        text = _message(text)
    _prefix, marker, rest = text.partition(decision_log.MARKER)
    if not marker:
        return None
    try:
        decision, _end = _DECODER.raw_decode(rest)
    except (ValueError, RecursionError):
        # Cut off, or somebody else's.
        return None
    if not isinstance(decision, dict) or 'verdict' not in decision:
        return None
    return decision


def text(decision: Mapping[str, Any], name: str) -> str:
    """A text of a decision.

    :param decision: as it was logged
    :param name: of the text
    :returns: the text for a terminal, empty if the decision has none
    """
    value = decision.get(name)
    if not isinstance(value, str):
        return ''
    if value.isprintable():
        return value
    return ''.join(char if char.isprintable() else '?' for char in value)


def _message(text: str) -> str:
    """The message in a JSON object."""
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for value in entry.values():
        if isinstance(value, list) and all(
            isinstance(item, int) and 0 <= item < 256 for item in value
        ):
            value = bytes(value).decode(errors='replace')
        if isinstance(value, str) and decision_log.MARKER in value:
            return value
    return ''
