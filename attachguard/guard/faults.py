# SPDX-License-Identifier: Apache-2.0
"""Responses to requests that are not forwarded, in Cinder's form.

A WebOb exception raised from a filter would give WebOb's own form, and a
traceback in the log through Cinder's faultwrap, so the JSON is built here as
``cinder.api.openstack.wsgi.Fault`` builds it:
``{"forbidden": {"code": 403, "message": "..."}}``.  One more key, ``reason``,
is a stable code for programs.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import http
from typing import Any
from typing import TYPE_CHECKING

from oslo_serialization import jsonutils

from attachguard.guard import decision as decision_
from attachguard.guard.decision import Reason
from attachguard.guard.decision import Verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

_NAMES = {
    http.HTTPStatus.BAD_REQUEST: 'badRequest',
    http.HTTPStatus.FORBIDDEN: 'forbidden',
    http.HTTPStatus.CONFLICT: 'conflictingRequest',
    http.HTTPStatus.NOT_FOUND: 'itemNotFound',
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: 'overLimit',
    http.HTTPStatus.SERVICE_UNAVAILABLE: 'serviceUnavailable',
}

_STATUS = {
    Verdict.REFUSED: http.HTTPStatus.FORBIDDEN,
    Verdict.UNKNOWN: http.HTTPStatus.SERVICE_UNAVAILABLE,
    Verdict.MALFORMED: http.HTTPStatus.BAD_REQUEST,
    Verdict.MISSING: http.HTTPStatus.NOT_FOUND,
}

_ADVICE = (
    'Attach and detach volumes with the Compute API: "openstack server add '
    'volume <server> <volume>" and "openstack server remove volume <server> '
    '<volume>", or POST /servers/{server_id}/os-volume_attachments and DELETE '
    '/servers/{server_id}/os-volume_attachments/{volume_id}.'
)

_REFUSALS = {
    Reason.SERVER_LACKS_VOLUME: 'The server does not have this volume.',
    Reason.SERVER_HAS_VOLUME: 'A server has this volume.',
    Reason.SERVER_BUSY: 'The Compute service works on a server of this '
    'volume. Try again later.',
    Reason.SERVER_GONE: 'There is no such server.',
    Reason.OTHER_ATTACHMENT: 'The server has this volume by another '
    'attachment.',
    Reason.OTHER_VOLUME: 'The attachment is not one of this volume.',
    Reason.HAS_ATTACHMENT: 'The volume, or a volume of the group, has an '
    'attachment.',
    Reason.NO_ATTACHMENT: 'The volume is in use without any attachment. Ask '
    'an administrator of this cloud.',
    Reason.VOLUME_BUSY: 'The volume is being migrated, or the Block Storage '
    'service works on it. Try again later.',
    Reason.TOO_MANY_SERVERS: 'The volume is attached to more servers than can '
    'be checked.',
    Reason.NAMES_SERVER: 'Only the Compute service makes and changes '
    'attachments of a server.',
    Reason.NO_SERVER: 'A volume cannot be attached to a host directly.',
    Reason.POLICY: 'The policy of this cloud does not allow it.',
}

# A conflict with the state of the volume, as Cinder itself responds since
# CVE-2023-2088, and as clients expect that clear an attachment.
_CONFLICTS = frozenset(
    (Reason.SERVER_HAS_VOLUME, Reason.SERVER_BUSY, Reason.VOLUME_BUSY)
)

_NOT_AUTHENTICATED = (
    'The caller is not authenticated. The operator of this cloud must put '
    'attachguard after authtoken in the pipeline.'
)


class Fault:
    """An error in Cinder's form: a WSGI application, made for one request.

    :param status: the HTTP status
    :param reason: a stable code, for programs
    :param message: what is wrong, and what to do instead
    :param headers: further headers
    """

    def __init__(
        self,
        status: http.HTTPStatus,
        reason: Reason,
        message: str,
        headers: Mapping[str, str],
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        body = jsonutils.dump_as_bytes(
            {
                _NAMES[self.status]: {
                    'code': self.status.value,
                    'message': self.message,
                    'reason': self.reason.value,
                }
            }
        )
        start_response(
            f'{self.status.value} {self.status.phrase}',
            [
                ('Content-Type', 'application/json'),
                *self.headers.items(),
                ('Content-Length', str(len(body))),
            ],
        )
        # With _method in the query, a HEAD can be an attachment operation.
        return [] if environ.get('REQUEST_METHOD') == 'HEAD' else [body]


def response_to(
    decision: decision_.Decision,
    clears: bool,
    api_headers: Mapping[str, str],
    retry_after: int,
) -> WSGIApplication:
    """The response to a request that is not forwarded.

    :param decision: about the request; any but :attr:`Verdict.ALLOWED`
    :param clears: whether the request would clear an attachment
    :param api_headers: headers of Cinder's response about the request, to the
        caller
    :param retry_after: seconds to wait before a retry, where that may help
    """
    if decision.response is not None:
        return decision.response
    status = _STATUS[decision.verdict]
    if decision.reason is Reason.BODY_TOO_LARGE:
        status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if clears and decision.reason in _CONFLICTS:
        status = http.HTTPStatus.CONFLICT
    headers = dict(api_headers)
    if status is http.HTTPStatus.SERVICE_UNAVAILABLE:
        headers['Retry-After'] = str(retry_after)
    return Fault(status, decision.reason, _message(decision), headers)


def with_warning(
    application: WSGIApplication, decision: decision_.Decision
) -> WSGIApplication:
    """Forward a request that is not allowed, and warn its caller.

    The response has a header ``Warning`` in the form of :rfc:`7234`, section
    5.5, as those of Kubernetes have it, where the request would be refused if
    the rule were enforced.

    :param application: what responds to the request
    :param decision: about the request; any but :attr:`Verdict.ALLOWED`
    """
    if decision.verdict not in (Verdict.REFUSED, Verdict.UNKNOWN):
        return application
    text = _message(decision).replace('\\', '\\\\').replace('"', '\\"')
    header = ('Warning', f'299 attachguard "{text}"')

    def warned(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], *exc_info: Any
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, header], *exc_info)

        return application(environ, start)

    return warned


def _message(decision: decision_.Decision) -> str:
    reason = decision.reason
    if reason is Reason.NOT_AUTHENTICATED:
        return f'{_NOT_AUTHENTICATED} (attachguard: {reason.value})'
    if decision.verdict is Verdict.REFUSED:
        return f'{_REFUSALS[reason]} {_ADVICE} (attachguard: {reason.value})'
    if decision.verdict is Verdict.UNKNOWN:
        return (
            'Cannot verify the attachment with the Compute service. Try again '
            'later.'
        )
    if decision.verdict is Verdict.MISSING:
        return 'The volume, attachment or group does not exist.'
    return decision.detail or 'Malformed request body'
