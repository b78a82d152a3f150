# SPDX-License-Identifier: Apache-2.0
"""Parts of messages for operators."""

from __future__ import annotations

from collections.abc import Iterable
import difflib
import re

# How oslo.config writes in which file it has found a value.
_LOCATION = re.compile(r"LocationInfo\(location=.*?, detail='([^']*)'\)")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Suggest the known name that is most like a given one.

    :param name: an unknown name
    :param known: the valid names
    :param cutoff: how much like it must be, from 0 to 1
    :returns: the suggestion, to be put behind the name; empty if there is none
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' (did you mean "{near[0]}"?)' if near else ''


def runbook(page: str, section: str) -> str:
    """Return where the documentation says what to do.

    :param page: of the documentation, without its suffix
    :param section: its title, which is the name of a reason or class
    :returns: the section's address, from the directory of the source
    """
    return f'doc/source/{page}.rst#{section}'


def describe(error: Exception) -> str:
    """Return the text of an error of oslo.config, with plain file names.

    :param error: the error
    """
    return _LOCATION.sub(r'\1', str(error))
