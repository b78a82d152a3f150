# SPDX-License-Identifier: Apache-2.0

"""What a process can find out about the WSGI server that runs it."""

from __future__ import annotations

import dataclasses
import importlib

# Places for queries where the number of threads is not known, or is one. Then
# only queries whose callers do not wait any more need further places.
_PLACES = 16


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that is known.

    :param name: of the server
    :param threads: number of threads of this process that serve requests
    :param runs_threads: whether other threads run between two requests
    """

    name: str
    threads: int
    runs_threads: bool = True


def detect() -> Server | None:
    """Detect the server of this process.

    :returns: None if it is neither uWSGI nor Apache's mod_wsgi: others do not
        tell how many threads they have
    """
    try:
        # There are such modules only within these servers.
        uwsgi = importlib.import_module('uwsgi')
        return Server('uWSGI', uwsgi.cores, bool(uwsgi.has_threads))
    except (ImportError, AttributeError):
        pass
    try:
        mod_wsgi = importlib.import_module('mod_wsgi')
        return Server('mod_wsgi', mod_wsgi.threads_per_process)
    except (ImportError, AttributeError):
        return None


def places(server: Server | None) -> int:
    """How many queries may be in progress at a time.

    :param server: the server of this process, if it is known
    :returns: half of its threads, so that the others serve requests which need
        no query; 16 if it has one thread, or the number is not known
    """
    if server is None or server.threads == 1:
        return _PLACES
    return server.threads // 2
