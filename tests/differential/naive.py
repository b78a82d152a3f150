# SPDX-License-Identifier: Apache-2.0

"""A guard as one would write it from the API reference alone.

It believes the documented URL, method and body.  The differential test must
find the ways around it, or it would find none around a better one.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
import re
from typing import Any
from typing import TYPE_CHECKING

import webob

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

_ACTIONS = (
    'os-attach',
    'os-detach',
    'os-reserve',
    'os-unreserve',
    'os-begin_detaching',
    'os-roll_detaching',
    'os-initialize_connection',
    'os-terminate_connection',
    'os-force_detach',
    'os-reset_status',
    'os-migrate_volume_completion',
    'os-reimage',
    'os-complete',
)
_ID = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
_ACTION = re.compile(rf'^(/\w+)?/(volumes|attachments)/{_ID}/action$')
_MEMBER = re.compile(rf'^(/\w+)?/attachments/{_ID}$')
_COLLECTION = re.compile(
    r'^(/\w+)?/(attachments|volume-transfers|os-volume-transfer)$'
)
_GROUP = re.compile(rf'^(/\w+)?/groups/{_ID}/action$')


class NaiveGuard:
    """Refuses every guarded operation that it recognises.

    :param application: what it guards
    """

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Let pass, or answer 403."""
        request = webob.Request(environ)
        if self._is_guarded(request):
            return webob.Response(
                status=403, json_body={'forbidden': {'code': 403}}
            )(environ, start_response)
        return self.application(environ, start_response)

    def _is_guarded(self, request: webob.Request) -> bool:
        path = request.environ.get('PATH_INFO', '')
        if request.method == 'POST' and _ACTION.fullmatch(path):
            return self._action(request) in _ACTIONS
        if request.method == 'POST' and _GROUP.fullmatch(path):
            return bool(self._action(request) == 'delete')
        if request.method == 'POST' and _COLLECTION.fullmatch(path):
            return True
        return request.method in ('PUT', 'DELETE') and bool(
            _MEMBER.fullmatch(path)
        )

    @staticmethod
    def _action(request: webob.Request) -> Any:
        if request.content_type != 'application/json':
            return None
        try:
            document = json.loads(request.body)
        except ValueError:
            return None
        return next(iter(document), None) if document else None
