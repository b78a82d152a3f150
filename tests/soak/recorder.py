# SPDX-License-Identifier: Apache-2.0
"""Two filters that record the requests that pass them.

One is in front of everything else in the pipeline, and adds a header to each
response that names its request; the other is between the guard and Cinder.  A
line is one write to a file that is opened for appending, so that threads and
processes can share it.  It is written before the request goes on, so that it
is there even if the server is killed.
"""

import configparser
import json
import os
import pathlib
from typing import Any

from oslo_middleware import base
import webob.request
import webob.response

from tests.soak import accounting

#: The request header with a client's id for a request. It is the global
#: request id, so that the guard's own requests to Cinder have it, too.
ID = 'X-OpenStack-Request-ID'
_DECISION = ' attachguard decision '


class Recorder(base.ConfigurableMiddleware):
    """Records what passes, and changes nothing of it.

    :param application: the rest of the pipeline
    :param conf: with ``path``, of the file, and ``where``: front or back
    """

    def __init__(self, application: Any, conf: dict[str, str]) -> None:
        super().__init__(application, conf)
        self._where = accounting.Where(conf['where'])
        self._file = os.open(
            conf['path'], os.O_WRONLY | os.O_APPEND | os.O_CREAT
        )
        # So that the guard sees Cinder's routes.
        self.resources = getattr(application, 'resources', None)
        self.map = getattr(application, 'map', None)

    def process_request(self, req: webob.request.Request) -> None:
        self._write(req, self._where)

    def process_response(
        self,
        response: webob.response.Response,
        request: webob.request.Request | None = None,
    ) -> webob.response.Response:
        assert request is not None
        if self._where is accounting.Where.FRONT:
            request_id = str(request.headers.get(ID))
            response.headers[accounting.RESPONSE_TO] = request_id
        else:
            self._write(
                request, accounting.Where.RESPONDED, response.status_int
            )
        return response

    def _write(
        self,
        request: webob.request.Request,
        where: accounting.Where,
        status: int | None = None,
    ) -> None:
        digest = ''
        if where is accounting.Where.BACK:
            # To read the body puts it back, for Cinder; at the front it is
            # left for the guard to read as the server provides it.
            request.environ['soak.digest'] = accounting.digest(
                request.method,
                request.script_name + request.path_info,
                request.query_string,
                request.body,
                request.environ.get('CONTENT_TYPE'),
                request.headers.get('OpenStack-API-Version'),
            )
        if where is not accounting.Where.FRONT:
            digest = request.environ['soak.digest']
        seen = accounting.Seen(
            where, request.headers.get(ID), request.method, digest, status
        )
        os.write(self._file, json.dumps(seen).encode() + b'\n')


def add_recorders(
    paste_ini: configparser.RawConfigParser,
    records: pathlib.Path,
    *,
    guard: bool = True,
) -> None:
    """Put the recorders into the pipelines of a paste configuration.

    :param records: the file for the recorders to write to
    :param guard: False to remove the guard
    """
    pipelines = paste_ini['composite:openstack_volume_api_v3']
    around = 'attachguard back' if guard else 'back'
    for name in ('keystone', 'keystone_nolimit'):
        pipelines[name] = 'front ' + pipelines[name].replace(
            'attachguard', around
        )
    for where in ('front', 'back'):
        paste_ini[f'filter:{where}'] = {
            'paste.filter_factory': f'{__name__}:Recorder.factory',
            'path': str(records),
            'where': where,
        }


def read(records: pathlib.Path) -> list[accounting.Seen]:
    """Read the records."""
    with records.open('rb') as file:
        return [accounting.Seen(*json.loads(line)) for line in file]


def read_decisions(log: pathlib.Path) -> list[accounting.Seen]:
    """Read the decisions of the guard from Cinder's log."""
    decisions = []
    for line in log.read_text(errors='replace').splitlines():
        _before, mark, text = line.partition(_DECISION)
        if mark:
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
