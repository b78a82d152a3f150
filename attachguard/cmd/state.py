# SPDX-License-Identifier: Apache-2.0

"""The files that commands keep for later runs."""

from __future__ import annotations

import datetime
import os
import pathlib

from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.repair import journal


def directory() -> pathlib.Path:
    """Return where the files are, unless options name them.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    home = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
    return pathlib.Path(home).expanduser() / 'attachguard'


def open_journal(
    path: pathlib.Path | None, what: str, cloud: api.Cloud
) -> journal.Journal:
    """Create a journal.

    :param path: the file; None for a new one in :func:`directory`
    :param what: is recorded: ``repair`` or ``undo``
    :param cloud: the cloud that is changed
    :raises attachguard.audit.repair.journal.JournalError: it cannot be
        created
    """
    if path is None:
        now = datetime.datetime.now(datetime.timezone.utc)
        path = directory() / f'{what}-{now:%Y%m%dT%H%M%S.%f}Z.jsonl'
    return journal.Journal(
        path.absolute(),
        {'what': what, 'cloud': cloud.identity, 'started': model.stamp()},
    )
