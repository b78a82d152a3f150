# SPDX-License-Identifier: Apache-2.0

"""Checks of a running process, by its detailed health check.

One response is of one process: which one of several, the server decides.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
from typing import Any
from urllib import parse

import requests

from attachguard.guard.preflight import Finding
from attachguard.guard.preflight import Result
from attachguard.nova import session as nova_session
from attachguard.nova.client import Visibility

_CHECK = 'running process'
# Seconds to wait for a connection, and then for the response.
_TIMEOUT = 5.0
_PREFIX = 'attachguard: '
_BACKEND = (
    'add attachguard to the backends of the health check application in '
    'api-paste.ini'
)
_NO_HEALTH_CHECK = 'this is no health check of oslo.middleware'


class _NotUsable(Exception):
    """The response, or that there is none, does not describe a guard."""


def run(url: str) -> Iterator[Finding]:
    """Query a health check, and check what it reports.

    :param url: of the health check of cinder-api
    """
    try:
        guards = _guards(_get(url))
    except _NotUsable as exc:
        yield Finding(_CHECK, Result.WRONG, f'{_without_user(url)}: {exc}')
        return
    for guard in guards:
        try:
            yield from _check(guard)
        except (KeyError, TypeError, ValueError):
            yield Finding(
                _CHECK,
                Result.WRONG,
                'another version of attachguard runs there: use its own '
                'command',
            )


def _without_user(url: str) -> str:
    """The URL without user and password, for the terminal."""
    try:
        parts = parse.urlsplit(url)
    except ValueError:
        return '--url'
    return parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()


def _get(url: str) -> Any:
    """Get the parsed body of a response."""
    session = requests.Session()
    for scheme in ('http://', 'https://'):
        session.mount(scheme, nova_session.BoundedAdapter())
    try:
        response = session.get(
            url,
            headers={'Accept': 'application/json'},
            timeout=_TIMEOUT,
            allow_redirects=False,
        )
    except (requests.RequestException, OSError) as exc:
        # Its text can have the URL with the password.
        raise _NotUsable(f'no response: {type(exc).__name__}') from None
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        raise _NotUsable(
            f'HTTP {response.status_code} without JSON; {_NO_HEALTH_CHECK}'
        ) from None


def _guards(body: Any) -> list[Any]:
    """What a response reports of each guard in the process."""
    try:
        detailed = body['detailed']
        if not detailed:
            raise _NotUsable(
                'set detailed = true in the section of the health check '
                'application in api-paste.ini'
            )
        reasons = [
            (str(item['reason']), item['details']) for item in body['reasons']
        ]
    except (KeyError, TypeError):
        raise _NotUsable(_NO_HEALTH_CHECK) from None
    for reason, details in reasons:
        if reason.startswith(_PREFIX):
            try:
                guards = json.loads(details)
            except ValueError:
                raise _NotUsable(f'{reason}. {details}') from None
            if not isinstance(guards, list):
                raise _NotUsable(f'unknown details: {details}')
            return guards
    raise _NotUsable(f'the process does not report on attachguard: {_BACKEND}')


def _check(guard: dict[str, Any]) -> Iterator[Finding]:
    yield _mode(guard['enforce'])
    yield _visibility(Visibility(guard['nova_visibility']))
    yield _nova(guard['nova_responds'], guard['nova_failure'])
    yield _server(guard['server'], guard['nova_max_concurrency'])


def _mode(enforce: bool) -> Finding:
    if enforce:
        return Finding(_CHECK, Result.OK, 'the guard enforces its rules')
    return Finding(
        _CHECK,
        Result.UNKNOWN,
        'the guard only logs (shadow mode): nothing is refused',
    )


def _visibility(visibility: Visibility) -> Finding:
    text = f'Nova shows {visibility.value} servers'
    if visibility is Visibility.UNCHECKED:
        text = 'not checked yet: the first guarded request does it'
    elif visibility is Visibility.CALLER:
        text = 'Nova is queried as the caller'
    results = {
        Visibility.EVERY_PROJECT: Result.OK,
        Visibility.SOME_PROJECTS: Result.WRONG,
    }
    return Finding('visibility', results.get(visibility, Result.UNKNOWN), text)


def _nova(responds: bool, failure: str) -> Finding:
    if responds:
        return Finding('Nova', Result.OK, 'Nova responds, as far as is known')
    return Finding('Nova', Result.WRONG, f'Nova does not respond: {failure}')


def _server(server: dict[str, Any] | None, places: int) -> Finding:
    if server is None:
        return Finding(
            'server',
            Result.UNKNOWN,
            'its number of threads is not known; in a process with several, '
            f'nova_max_concurrency ({places}) is to be at most half of them',
        )
    name, threads = server['name'], server['threads']
    if not server['runs_threads']:
        return Finding(
            'server',
            Result.WRONG,
            f'{name} runs no threads between requests: after an outage of '
            'Nova, requests get 503 for longer; set enable-threads = true',
        )
    if 1 < threads < 2 * places:
        return Finding(
            'server',
            Result.WRONG,
            f'{name} has {threads} threads, and {places} of them can wait for '
            'Nova: set nova_max_concurrency to at most half of them',
        )
    return Finding(
        'server', Result.OK, f'{name}, threads in a process: {threads}'
    )
