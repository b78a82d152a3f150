# SPDX-License-Identifier: Apache-2.0

"""Compare the responses of a stub and of the real service."""

from __future__ import annotations

from collections.abc import Callable
import json
import re
import typing

import requests

from tests.functional.real import fixtures

#: The keys of which the values must be equal, too.
_VALUES = {
    'OS-EXT-STS:task_state',
    'OS-EXT-STS:vm_state',
    'attach_mode',
    'code',
    'methods',
    'migration_status',
    'min_version',
    'project',
    'status',
    'title',
    'version',
}

#: The keys with data of a driver, which must both be empty or not.
_OPAQUE = {'connection_info'}

#: The headers that must have the same value.
_SAME = (
    'Content-Type',
    'OpenStack-API-Version',
    'Vary',
    'X-OpenStack-Nova-API-Version',
)

#: The headers that both responses or neither must have.
_PRESENT = (
    'Location',
    'WWW-Authenticate',
    'X-Compute-Request-Id',
    'X-OpenStack-Request-ID',
    'X-Subject-Token',
)


#: The ids, which differ between the stub and the real service.
_ID = re.compile(r'[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}')


def shape(value: typing.Any) -> typing.Any:
    """Reduce a JSON value to its keys and types.

    A list is reduced to the different shapes of its items.
    """
    if isinstance(value, dict):
        return {
            key: _member_shape(key, member)
            for key, member in sorted(value.items())
        }
    if isinstance(value, list):
        shapes = {json.dumps(shape(member)) for member in value}
        return [json.loads(text) for text in sorted(shapes)]
    return type(value).__name__


def _member_shape(key: str, member: typing.Any) -> typing.Any:
    if key in _OPAQUE:
        return bool(member)
    if key in _VALUES and not isinstance(member, dict | list):
        return member
    return shape(member)


def outcome(response: requests.Response) -> dict[str, typing.Any]:
    """Reduce a response to what must be equal."""
    headers = response.headers
    result: dict[str, typing.Any] = {'status': response.status_code}
    for name in _SAME:
        if name in headers:
            # The API does not define the encoding and the spaces.
            parts = headers[name].replace(';', ',').lower().split(',')
            values = sorted(part.strip() for part in parts)
            result[name] = [v for v in values if not v.startswith('charset=')]
    result['headers'] = [name for name in _PRESENT if name in headers]
    try:
        result['body'] = shape(response.json())
    except ValueError:
        result['body'] = bool(response.content)
    return result


Outcomes = list[tuple[str, dict[str, typing.Any]]]


class Client:
    """Makes requests and keeps their outcomes.

    :param url: address of the service
    :param pair: the stub and the real service, for the users' tokens
    :param user: the user whose token is sent; by default none
    """

    def __init__(
        self, url: str, pair: fixtures.Pair, user: str | None = None
    ) -> None:
        self.url = url
        self._pair = pair
        self.token: str | None = None
        self.outcomes: Outcomes = []
        self._session = requests.Session()
        if user is not None:
            self.become(user)

    def become(self, user: str) -> None:
        """Send the token of another user from now on."""
        self.token = self._pair.cloud.session(user).get_token()

    def request(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        *,
        headers: dict[str, str | None] | None = None,
        data: bytes | None = None,
    ) -> requests.Response:
        """Make a request and keep its outcome.

        :param method: HTTP method
        :param path: path and query
        :param body: JSON body
        :param headers: more headers; those with ``None`` are not sent
        :param data: a body that is not JSON
        """
        sent: dict[str, str | None] = {
            'Accept': 'application/json',
            'X-Auth-Token': self.token,
            **(headers or {}),
        }
        response = self._session.request(
            method,
            self.url + path,
            json=body,
            data=data,
            headers={name: value for name, value in sent.items() if value},
            timeout=60,
            allow_redirects=False,
        )
        names = list(body) if isinstance(body, dict) else body
        label = _ID.sub('ID', f'{method} {path} {names}')
        self.outcomes.append((label, outcome(response)))
        return response


_Client = typing.TypeVar('_Client', bound=Client)


def run(
    pair: fixtures.Pair,
    script: Callable[[_Client], object],
    make: Callable[[str], _Client],
) -> tuple[Outcomes, Outcomes]:
    """Run a script with the stub and with the real service.

    :param pair: the stub and the real service
    :param script: makes requests with a client
    :param make: makes a client for an address
    :returns: the outcomes of both, which must be equal
    """
    clients = make(pair.stub), make(pair.real)
    for client in clients:
        script(client)
    return clients[0].outcomes, clients[1].outcomes
