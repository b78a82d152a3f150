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

"""Errors, as Cinder answers them.

A WebOb exception raised from a filter would give WebOb's own form, and a
traceback in the log through Cinder's faultwrap, so the JSON is built here as
``cinder.api.openstack.wsgi.Fault`` builds it:
``{"forbidden": {"code": 403, "message": "..."}}``.  One more key, ``reason``,
stays the same whatever becomes of the message.
"""

from __future__ import annotations

from collections.abc import Iterable
import http
from typing import TYPE_CHECKING

from oslo_serialization import jsonutils
import webob

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment

_NAMES = {
    http.HTTPStatus.BAD_REQUEST: 'badRequest',
    http.HTTPStatus.FORBIDDEN: 'forbidden',
    http.HTTPStatus.NOT_FOUND: 'itemNotFound',
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: 'overLimit',
    http.HTTPStatus.SERVICE_UNAVAILABLE: 'serviceUnavailable',
}

# What Cinder says of the request itself: its microversion, its id.
_CINDERS = ('OpenStack-API-Version', 'Vary', 'x-compute-request-id')


def set_headers(response: webob.Response, like: webob.Response) -> None:
    """Let an answer say of the request what another one says of it.

    :param response: the answer to change
    :param like: the answer to the request that the caller sent
    """
    for name in _CINDERS:
        response.headers.pop(name, None)
        if name in like.headers:
            response.headers[name] = like.headers[name]


class Fault:
    """An error in Cinder's form: a WSGI application, made for one request.

    :param status: the HTTP status
    :param reason: a stable code, for programs
    :param message: for people: what is wrong, and what to do instead
    :param like: an answer of Cinder's to take the microversion headers from
    :param retry_after: seconds to wait before the next try
    """

    def __init__(
        self,
        status: http.HTTPStatus,
        reason: str,
        message: str,
        like: webob.Response | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self._headers = [('Content-Type', 'application/json')]
        if retry_after is not None:
            self._headers.append(('Retry-After', str(retry_after)))
        if like is not None:
            self._headers += [
                (name, like.headers[name])
                for name in _CINDERS
                if name in like.headers
            ]

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        body = jsonutils.dump_as_bytes(
            {
                _NAMES[self.status]: {
                    'code': self.status.value,
                    'message': self.message,
                    'reason': self.reason,
                }
            }
        )
        start_response(
            f'{self.status.value} {self.status.phrase}',
            [*self._headers, ('Content-Length', str(len(body)))],
        )
        # By _method in the query, a HEAD can be an attachment operation.
        return [] if environ.get('REQUEST_METHOD') == 'HEAD' else [body]
