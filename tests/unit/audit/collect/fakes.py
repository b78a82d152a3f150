# SPDX-License-Identifier: Apache-2.0

"""A cloud whose responses a test gives."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import io
import json
from typing import Any
from urllib import parse

import requests
import urllib3

from attachguard.audit.collect import api
from tests.unit.audit import models

Respond = Callable[[str, str], Any]

NOT_FOUND = {'itemNotFound': {'code': 404, 'message': 'no'}}


class Adapter:
    """A service that records its requests.

    :param respond: gives the response to a method and a path
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.requests: list[tuple[str, str, dict[str, Any]]] = []

    def get_endpoint(self) -> str:
        return 'http://here'

    def request(self, path: str, method: str, **options: Any) -> Any:
        self.requests.append((method, path, options))
        return self._respond(method, path)


class Session:
    """A session of a project that has no servers."""

    def get_project_id(self) -> str:
        return 'own'

    def get_token(self) -> str:
        return 'token'


class Config:
    """The configuration of a cloud without a name."""

    def get_region_name(self) -> str:
        return 'RegionOne'

    def get_interface(self) -> str:
        return 'public'


@dataclasses.dataclass
class Connection:
    """All services by one adapter."""

    compute: Adapter
    session: Any = dataclasses.field(default_factory=Session)
    config: Any = dataclasses.field(default_factory=Config)

    @property
    def block_storage(self) -> Adapter:
        return self.compute

    @property
    def identity(self) -> Adapter:
        return self.compute


def reply(status: int, body: Any, **headers: str) -> requests.Response:
    """A response.

    :param body: bytes, or sent as JSON
    """
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response.raw = urllib3.HTTPResponse(
        io.BytesIO(content), headers=headers, preload_content=False
    )
    return response


def make(respond: Respond) -> tuple[api.Cloud, Adapter]:
    """A cloud with all services by one adapter."""
    adapter = Adapter(respond)
    return api.Cloud(Connection(adapter)), adapter


def always(status: int, body: Any, **headers: str) -> api.Cloud:
    """A cloud with one response to everything."""
    return make(lambda method, path: reply(status, body, **headers))[0]


def query(path: str) -> dict[str, str]:
    """The query of a path."""
    return dict(parse.parse_qsl(parse.urlsplit(path).query))


def of_world(
    world: models.World, before: models.Before = lambda *_call: None
) -> api.Cloud:
    """The cloud of a simulated Cinder and Nova."""
    return api.Cloud(models.Connection(world, before, lambda *_call: None))
