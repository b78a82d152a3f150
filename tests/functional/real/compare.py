# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Hold what two services answer to the same request against each other."""

from __future__ import annotations

import json
import typing

import requests

#: Keys whose values must be the same too.
_VALUES = {
    'attach_mode',
    'code',
    'methods',
    'min_version',
    'project',
    'status',
    'title',
    'version',
}

#: Keys of what a driver made up, which is there or not.
_OPAQUE = {'connection_info'}

#: Headers that must have the same value.
_SAME = (
    'Content-Type',
    'OpenStack-API-Version',
    'Vary',
    'X-OpenStack-Nova-API-Version',
)

#: Headers that must both be there or not.
_PRESENT = (
    'Location',
    'WWW-Authenticate',
    'X-Compute-Request-Id',
    'X-OpenStack-Request-ID',
    'X-Subject-Token',
)


def shape(value: typing.Any) -> typing.Any:
    """Reduce a JSON value to its keys and types.

    A list is reduced to the different shapes of what is in it.
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


def outcome(answer: requests.Response) -> dict[str, typing.Any]:
    """Reduce an answer to what must be the same."""
    result: dict[str, typing.Any] = {'status': answer.status_code}
    for name in _SAME:
        value = answer.headers.get(name)
        if value is not None:
            # How text is encoded and spaced is no part of an API.
            parts = value.replace(';', ',').split(',')
            words = sorted(part.strip().lower() for part in parts)
            result[name] = [w for w in words if not w.startswith('charset=')]
    result['headers'] = [name for name in _PRESENT if name in answer.headers]
    try:
        result['body'] = shape(answer.json())
    except ValueError:
        result['body'] = bool(answer.content)
    return result


def _flat(value: typing.Any, path: str = '') -> dict[str, typing.Any]:
    if isinstance(value, dict) and value:
        return {
            name: leaf
            for key, member in value.items()
            for name, leaf in _flat(member, f'{path}.{key}').items()
        }
    if isinstance(value, list) and len(value) == 1:
        return _flat(value[0], f'{path}[]')
    return {path: value}


Outcomes = list[tuple[str, dict[str, typing.Any]]]


def differences(stub: Outcomes, real: Outcomes) -> list[str]:
    """Say where two lists of outcomes differ; nothing where they do not."""
    found = []
    for (label, left), (other, right) in zip(stub, real, strict=True):
        assert label == other
        ours, theirs = _flat(left), _flat(right)
        found += [
            f'{label}: {name}: stub {ours.get(name)!r}, '
            f'real {theirs.get(name)!r}'
            for name in sorted({*ours, *theirs})
            if ours.get(name, ...) != theirs.get(name, ...)
        ]
    return found


class Client:
    """Makes requests as they are, with a token, and keeps the outcomes.

    :param url: address of the service
    :param token: the token to send, if any
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.token = token
        self.outcomes: Outcomes = []
        self._session = requests.Session()

    def request(
        self,
        method: str,
        path: str,
        body: typing.Any = None,
        *,
        label: str | None = None,
        headers: dict[str, str | None] | None = None,
        data: bytes | None = None,
    ) -> requests.Response:
        """Make a request and keep its outcome.

        :param method: HTTP method
        :param path: path and query
        :param body: JSON body
        :param label: what to call the outcome; by default method and path
        :param headers: more headers; ``None`` takes one away
        :param data: body that need not be JSON
        """
        sent: dict[str, str | None] = {
            'Accept': 'application/json',
            'X-Auth-Token': self.token,
            **(headers or {}),
        }
        answer = self._session.request(
            method,
            self.url + path,
            json=body,
            data=data,
            headers=typing.cast(
                dict[str, str],
                {name: value for name, value in sent.items() if value},
            ),
            timeout=60,
            allow_redirects=False,
        )
        self.outcomes.append((label or f'{method} {path}', outcome(answer)))
        return answer
