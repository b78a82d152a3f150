# SPDX-License-Identifier: Apache-2.0

"""Calls to the REST APIs of Cinder and Nova, and lists read page by page."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import http.client
import json
import time
from typing import Any
from typing import Protocol
from typing import TypeVar
import urllib.parse

from keystoneauth1 import exceptions as ksa_exceptions
from oslo_log import log as logging
import urllib3

from attachguard import threads
from attachguard.audit import model
from attachguard.audit.collect import rows

LOG = logging.getLogger(__name__)

_Result = TypeVar('_Result')

#: Rows of a page: the most that both services return by default.
PAGE_SIZE = 1000

# The last resources, of which each can be the marker of the next page if those
# after it are deleted in the meantime; and how often that may happen.
_MARKERS = 20
_MAX_LOST = 100

# Nova lists a server that is being built, and shortly afterwards the server
# itself: the page after it can end with it again. So often in a row, after
# so many seconds, is no coincidence.
_MAX_REPEATED = 5
_PAUSE = 0.5

# The statuses with which a proxy or a rate limit asks for a retry.
_RETRIABLE = (429, 502, 503, 504)
_RETRIES = 3

# Without a response to so many calls in a row, no more is read: a service that
# hangs would take the whole timeout for each of thousands of suspects.
_MAX_LATE = 3

#: After so many queries in a row without a response, no more are made.
PATIENCE = 10

# Bytes of a response body. A page is a few megabytes.
_MAX_BODY = 256 * 1024 * 1024


class CloudError(Exception):
    """The cloud cannot be audited, or not with these credentials.

    The text says what was tried, what failed, and what to do.
    """


class Adapter(Protocol):
    """A service of a cloud: a proxy of openstacksdk, or a fake in tests."""

    def get_endpoint(self) -> str | None:
        """The service's URL; None where the catalog has none."""

    @property
    def request(self) -> Callable[..., Any]:
        """Send a request, as keystoneauth's adapter does."""


@dataclasses.dataclass(frozen=True)
class Response:
    """A service's response.

    :param body: empty where it is no JSON object
    :param evidence: the call, for the record
    :param why: what is wrong with the response; empty for a success
    """

    body: Mapping[str, Any]
    evidence: model.Evidence
    why: str = ''

    @property
    def status(self) -> int | None:
        """The HTTP status; None without a response."""
        return self.evidence.status

    @property
    def not_found(self) -> bool:
        """True if the service itself reports that the resource is missing.

        A 404 of a proxy, or of a wrong endpoint, proves nothing.
        """
        return self.status == 404 and 'itemNotFound' in self.body


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a list.

    :param rows: the resources
    :param evidence: the call
    :param more: how many more resources there are that need no row
    :param total: how many resources the whole list has, where that was queried
    """

    rows: list[dict[str, Any]]
    evidence: model.Evidence
    more: int = 0
    total: int | None = None


class Service:
    """A service, called with retries.

    :param name: for people
    :param adapter: of it
    :param version: the microversion, where a call names no other; None for a
        service without microversions
    :param timeout: seconds for a call, with its retries
    :param log_in: gets a token, if there is none that is valid
    """

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        version: str | None,
        timeout: float,
        log_in: Callable[[], object],
    ) -> None:
        self._name = name
        self._adapter = adapter
        self._version = version
        self._timeout = timeout
        self._log_in = log_in
        self._late: list[str] = []

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        version: str | None = None,
        *,
        retry_connect: bool = False,
    ) -> Response:
        """Call the service. Reads are retried while it is busy, writes never.

        :param path: below the endpoint, with the query
        :param body: sent as JSON
        :param retry_connect: also retry where no connection can be made
        :returns: also where the call fails: then without a status
        """
        options: dict[str, Any] = {}
        if method == 'GET':
            options['status_code_retries'] = _RETRIES
            options['retriable_status_codes'] = _RETRIABLE
        if retry_connect:
            options['connect_retries'] = _RETRIES
        if body is not None:
            options['json'] = body
        request = f'{method} {path}'
        waiting_for = 'Keystone'

        def send() -> tuple[Any, bytes]:
            nonlocal waiting_for
            self._log_in()
            waiting_for = self._name
            response = self._adapter.request(
                path,
                method,
                microversion=version or self._version,
                raise_exc=False,
                redirect=False,
                # keystoneauth would log whole pages, and connection_info.
                log=False,
                # To limit how much is read.
                stream=True,
                timeout=self._timeout,
                **options,
            )
            return response, _read(response)

        if method == 'GET' and len(self._late) >= _MAX_LATE:
            return no_response(request, self._late[-1])
        try:
            response, content = within(self._timeout, send)
        except (threads.Late, ksa_exceptions.ConnectTimeout):
            self._late.append(late(waiting_for, self._timeout))
            return no_response(request, self._late[-1])
        except (
            http.client.HTTPException,
            ksa_exceptions.ClientException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as exc:
            return no_response(request, describe(exc))
        self._late.clear()
        status = response.status_code
        request_id = response.headers.get('x-openstack-request-id')
        LOG.debug(
            'API call: request=%s status=%s request_id=%s',
            request,
            status,
            request_id,
        )
        found, why = _parse(status, content)
        evidence = model.Evidence(
            request, status, model.stamp(), request_id, why
        )
        return Response(found, evidence, why)

    def pages(
        self,
        path: str,
        key: str,
        filters: Mapping[str, str],
        has_more: Callable[[Mapping[str, Any]], bool] = lambda _body: True,
        version: str | None = None,
    ) -> Iterator[Page]:
        """Read a list, page by page.

        Of the many calls none may fail: each is also retried where no
        connection can be made.

        :param key: of the list in the response
        :param has_more: whether the body of a page has a link to the next
            one; by default, a list ends with an empty page
        :param version: the microversion, if not the usual one
        :raises CloudError: where a page cannot be read
        """
        markers: list[str] = []
        lost = repeated = 0
        while True:
            query = {'limit': str(PAGE_SIZE), **filters}
            if markers:
                query['marker'] = markers[-1]
            response = self.call(
                'GET',
                f'{path}?{urllib.parse.urlencode(query)}',
                version=version,
                retry_connect=True,
            )
            if response.status in (400, 404) and markers and lost < _MAX_LOST:
                # The marker is deleted: continue after the one before it, or
                # from the start. Some resources are listed twice then.
                markers.pop()
                lost += 1
                continue
            found = response.body.get(key)
            if response.status != 200 or not isinstance(found, list):
                raise cannot_list(key, response)
            yield Page(
                found, response.evidence, total=response.body.get('count')
            )
            if not found or not has_more(response.body):
                return
            try:
                ids = [str(row['id']) for row in found[-_MARKERS:]]
            except (KeyError, TypeError):
                raise cannot_list(key, response) from None
            if markers[-1:] == ids[-1:]:
                repeated += 1
                if repeated > _MAX_REPEATED:
                    raise CloudError(
                        f'{key} cannot be listed: the pages have no end '
                        f'({response.evidence.call})'
                    )
                time.sleep(_PAUSE)
                continue
            repeated = 0
            markers = [*markers, *ids][-_MARKERS:]


def no_response(request: str, why: str) -> Response:
    """What a call becomes that gets no response.

    :param request: method and path
    :param why: what went wrong
    """
    evidence = model.Evidence(request, None, model.stamp(), None, why)
    return Response({}, evidence, why)


def cannot_list(what: str, response: Response) -> CloudError:
    """The error for a list that cannot be read.

    :param what: is listed
    """
    text = f'{what} cannot be listed: {response.evidence.call}: '
    text += response.why or f'HTTP {response.status} without a list'
    if response.evidence.request_id:
        text += f' ({response.evidence.request_id})'
    administrator = (
        'an audit needs the role admin, which sees every project, in '
        'Cinder, Nova and Keystone'
    )
    advice = {
        # Cinder lets only administrators filter by parts of a status.
        400: administrator,
        401: 'log in again: the token may have expired',
        403: administrator,
        406: 'the service is too old: an audit needs Cinder 3.45 and Nova '
        '2.89',
    }.get(response.status or 0)
    return CloudError(f'{text}; {advice}' if advice else text)


def within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Make a call that may take so long as a whole.

    :raises attachguard.threads.Late: if it takes longer; the call goes on, in
        a thread that ends with the process
    """
    return threads.wait(threads.submit(call), seconds)


def late(name: str, seconds: float) -> str:
    """The text for a service that does not respond in time.

    :param name: of the service
    """
    return (
        f'no complete response from {name} within {seconds:g} s; check that '
        'it responds, or give it more time with --timeout'
    )


def describe(exc: Exception) -> str:
    """An exception in one line."""
    return f'{type(exc).__name__}: {exc}'[:500]


def _read(response: Any) -> bytes:
    """Read a body, up to the limit.

    urllib3 copies a body that it reads to a limit, which takes longer than
    all the rest for a page of a list.
    """
    length = response.headers.get('Content-Length', '')
    encoded = response.headers.get('Content-Encoding')
    if encoded or not length.isdigit() or int(length) > _MAX_BODY:
        decoded: bytes = response.raw.read(_MAX_BODY, decode_content=True)
        return decoded
    content: bytes = response.raw.read()
    if len(content) < int(length):
        raise http.client.IncompleteRead(content)
    return content


def _parse(status: int, content: bytes) -> tuple[dict[str, Any], str]:
    """Parse a body, and describe what is wrong with the response."""
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return {}, f'HTTP {status} and no JSON'
    if status < 300:
        return body, ''
    for fault in body.values():
        if isinstance(fault, dict) and 'message' in fault:
            text = rows.printable(str(fault['message'])[:300])
            return body, f'HTTP {status}: {text}'
    return body, f'HTTP {status}: no message'
