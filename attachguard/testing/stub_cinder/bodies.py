# SPDX-License-Identifier: Apache-2.0

"""Request bodies and pages, as Cinder reads and makes them."""

from __future__ import annotations

from collections.abc import Mapping
import json
import typing

import webob

from attachguard.testing import service
from attachguard.testing.stub_cinder import errors
from attachguard.testing.stub_cinder import records

_MAX_LIMIT = 1000


def read(request: service.Request) -> typing.Any:
    """Parse the body of a request.

    :returns: the parsed body; ``None`` without a body or a content type
    :raises Refused: 400, the body is no JSON
    """
    if not request.body or not request.headers.get('Content-Type'):
        return None
    try:
        return json.loads(request.body)
    except ValueError:
        raise errors.malformed_body() from None


def action_name(body: typing.Any) -> str | None:
    """Return the name of the action in a body.

    :param body: the parsed body
    :returns: the only key of the body; ``None`` without a body
    :raises Refused: 400 or 404, the body does not name one action
    """
    if body is None:
        return None
    if not isinstance(body, dict):
        if isinstance(body, (list, str)) and len(body) != 1:
            raise errors.malformed_body()
        raise errors.not_found()
    if len(body) != 1:
        raise errors.malformed_body()
    return str(next(iter(body)))


def validate(body: typing.Any, schema: Mapping[str, typing.Any]) -> typing.Any:
    """Validate a body against a schema.

    :returns: the body
    :raises Refused: 400, the body does not match; 500, there is no body
    """
    if body is None:
        raise errors.unexpected('KeyError')
    return service.validate(body, schema)


def is_true(value: object) -> bool:
    """Return whether a value means true, as oslo.utils reads it."""
    return str(value).lower() in ('1', 't', 'true', 'on', 'y', 'yes')


def empty(status: int) -> webob.Response:
    """Make a response without a body."""
    response = service.respond(status)
    response.headers['Content-Type'] = 'application/json'
    return response


_Item = typing.TypeVar('_Item', records.Volume, records.Attachment)


def page(
    request: service.Request, items: list[_Item], collection: str
) -> tuple[list[_Item], dict[str, typing.Any]]:
    """Select the requested page of a list.

    :param request: the request, with limit, offset and marker
    :param items: all items of the list
    :param collection: name of the list in the response
    :returns: the items of the page, and the link to the next page
    :raises Refused: 400 or 404, a parameter is invalid
    """
    query = request.GET
    try:
        limit = min(int(query.get('limit', _MAX_LIMIT)), _MAX_LIMIT)
        offset = int(query.get('offset', 0))
    except ValueError as error:
        raise service.Refused(400, str(error)) from None
    if limit < 0 or offset < 0:
        raise service.Refused(400, 'limit param must be an integer')
    if 'marker' in query:
        ids = [item.id for item in items]
        if query['marker'] not in ids:
            raise service.Refused(
                404, f'Volume {query["marker"]} could not be found.'
            )
        items = items[ids.index(query['marker']) + 1 :]
    selected = items[offset:][:limit]
    if 'limit' not in query or len(selected) < limit or not selected:
        return selected, {}
    return selected, service.next_page(request, collection, selected[-1].id)
