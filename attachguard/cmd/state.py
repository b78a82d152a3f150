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
        now = datetime.datetime.now(datetime.UTC)
        path = directory() / f'{what}-{now:%Y%m%dT%H%M%S.%f}Z.jsonl'
    return journal.Journal(
        path, {'what': what, 'cloud': cloud.identity, 'started': model.stamp()}
    )
