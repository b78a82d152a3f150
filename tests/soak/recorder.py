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
"""Two filters that write down each request that they see.

One stands before everything else in the pipeline, and says in each answer
which request it belongs to; the other between the guard and Cinder. A line is
one write to a file that is opened for appending, so that threads and processes
share it, and it is written before the request goes on: a server that is killed
has told all that it did.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any
from typing import TYPE_CHECKING

import webob

from tests.soak import accounting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

#: What a client names a request by: the global request id, which the guard's
#: own questions to Cinder carry, too.
ID = 'X-OpenStack-Request-ID'
_KEY = 'HTTP_' + ID.upper().replace('-', '_')
#: What the answer names it by.
ANSWERS = 'X-Soak-Answers'
_DECISION = ' attachguard decision '


class Recorder:
    """Writes down what passes, and changes nothing.

    :param application: the rest of the pipeline
    :param path: the file
    :param where: which of the two this is
    """

    def __init__(
        self,
        application: WSGIApplication,
        path: str | os.PathLike[str],
        where: accounting.Where,
    ) -> None:
        self._application = application
        self._where = where
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        # So that the guard sees Cinder's routes, as without us.
        self.resources = getattr(application, 'resources', None)
        self.map = getattr(application, 'map', None)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if self._where is accounting.Where.FRONT:
            return self._enter(environ, start_response)
        request = webob.Request(environ)
        # Reading it puts it back.
        body = request.body
        path = environ.get('SCRIPT_NAME', '') + environ.get('PATH_INFO', '')
        came = accounting.Seen(
            self._where,
            request.headers.get(ID),
            request.method,
            accounting.digest(
                request.method,
                path,
                environ.get('QUERY_STRING', ''),
                body,
                environ.get('CONTENT_TYPE'),
                request.headers.get('OpenStack-API-Version'),
            ),
            accounting.is_about_nothing(path, body),
        )
        self._write(came)

        def answering(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: Any = None,
            /,
        ) -> Callable[[bytes], object]:
            went = dataclasses.replace(
                came,
                where=accounting.Where.ANSWERED,
                status=int(status.split(' ', 1)[0]),
            )
            self._write(went)
            return start_response(status, headers, exc_info)

        return self._application(environ, answering)

    def _enter(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        id_ = environ.get(_KEY)
        # The body is left for the guard to read, as the server has it.
        self._write(
            accounting.Seen(self._where, id_, environ['REQUEST_METHOD'])
        )

        def answering(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: Any = None,
            /,
        ) -> Callable[[bytes], object]:
            # Not into the list: it can be another's.
            return start_response(
                status, [*headers, (ANSWERS, str(id_))], exc_info
            )

        return self._application(environ, answering)

    def _write(self, seen: accounting.Seen) -> None:
        os.write(self._file, seen.dumps())


def filter_factory(
    global_conf: Mapping[str, str], **local_conf: str
) -> Callable[[WSGIApplication], Recorder]:
    """The paste.deploy factory.

    :param local_conf: ``path`` and ``where``
    """

    def make(application: WSGIApplication) -> Recorder:
        return Recorder(
            application,
            local_conf['path'],
            accounting.Where(local_conf['where']),
        )

    return make


def read(records: pathlib.Path) -> list[accounting.Seen]:
    """What was written down."""
    with records.open('rb') as file:
        return [accounting.Seen.loads(line) for line in file]


def read_decisions(log: pathlib.Path) -> list[accounting.Seen]:
    """What the guard has decided, as it says in Cinder's log."""
    decisions = []
    with log.open(errors='replace') as lines:
        for line in lines:
            _before, mark, text = line.partition(_DECISION)
            if not mark:
                continue
            decision = json.loads(text)
            decisions.append(
                accounting.Seen(
                    accounting.Where.DECIDED,
                    decision.get('global_request_id'),
                    decision.get('operation', ''),
                    verdict=decision['verdict'],
                )
            )
    return decisions
