# SPDX-License-Identifier: Apache-2.0
"""Serve a cloud of any size, without storing it.

The stubs of :mod:`attachguard.testing` hold one server with a volume, one
available volume, and everything that is inconsistent. The lists of volumes,
attachments and servers begin with as many copies of that server and those
volumes as the cloud is large. A copy differs from its original in its ids and
its name, which are computed from its position. The stubs respond to all other
requests. A request for a copy is passed on to them as one for its original.

``python -m benchmarks.cloud PAIRS SUSPECTS`` serves a cloud until its standard
input is closed. It prints one line of JSON: how to log in, and an address with
``/counts`` (requests received) and ``/planted`` (what an audit has to find).
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import datetime
import itertools
import json
import logging
import re
import sys
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING
import urllib.parse
import uuid

from oslo_middleware import request_id
import webob
import webob.dec

from attachguard.testing import serve
from attachguard.testing import stub_cinder
from attachguard.testing import stub_cloud

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

#: ``osapi_max_limit`` of Cinder, and ``[api] max_limit`` of Nova.
MAX_LIMIT = 1000

# The user agents of auth_token, which validates tokens.
_AUTH_TOKEN = ('keystonemiddleware', 'python-keystoneclient')

# More requests than a benchmark sends.
_HISTORY = 100_000

# Long enough ago for nothing to be in progress.
_TIME = '2026-01-01T00:00:00.000000'

# Each kind of thing has a part of its ids of its own.
_SERVER, _ATTACHED, _AVAILABLE, _ATTACHMENT = '4a01', '4a02', '4a03', '4a04'
# An odd number has an inverse, so that an id leads to its position.
_SPREAD = 0x9E3779B97F4A7C15F39CC061
_MODULUS = 2**96
_INVERSE = pow(_SPREAD, -1, _MODULUS)
_ID = re.compile('([0-9a-f]{8})-([0-9a-f]{4})-(4a0[1-4])-8000-([0-9a-f]{12})')


def make_id(kind: str, position: int) -> str:
    """The id of the thing of a kind at a position; it looks random."""
    text = f'{(position + 1) * _SPREAD % _MODULUS:024x}'
    return f'{text[:8]}-{text[8:12]}-{kind}-8000-{text[12:]}'


def find_id(text: str) -> tuple[str, int] | None:
    """Find the first id of :func:`make_id` in a text.

    :returns: the kind and the position; None if there is no such id
    """
    found = _ID.search(text)
    if found is None:
        return None
    first, second, kind, last = found.groups()
    return kind, int(first + second + last, 16) * _INVERSE % _MODULUS - 1


class Planted(NamedTuple):
    """A finding that an audit has to make.

    :param kind: its class; ``foreign`` for an attachment that does not
        belong to Nova
    """

    kind: str
    volume_id: str
    attachment_id: str | None = None
    server_id: str | None = None


_STATUSES = {
    'in-use-without-attachment': 'in-use',
    'stuck-attaching': 'attaching',
    'stuck-reserved': 'reserved',
}

#: The kinds of findings that are planted.
KINDS = (
    *_STATUSES,
    'duplicate',
    'foreign',
    'missing-in-cinder',
    'server-gone',
    'server-lacks-volume',
    'status-mismatch',
    'stuck-attachment',
    'stuck-detaching',
    'volume-deleted',
    'volume-gone',
)


class Planter:
    """Adds servers and volumes to the stubs.

    :param cloud: the stubs
    """

    def __init__(self, cloud: stub_cloud.StubCloud) -> None:
        self._cinder, self._nova = cloud.cinder, cloud.nova
        self._project_id = cloud.project_id('member')

    def add_server(self, **values: Any) -> str:
        """Add a server.

        :returns: its id
        """
        server = self._nova.add_server(self._project_id, **values)
        server.created = datetime.datetime.fromisoformat(_TIME)
        return server.id

    def add_volume(self, **values: Any) -> stub_cinder.Volume:
        """Add a volume to Cinder."""
        return self._cinder.add_volume(self._project_id, **values)

    def attach(self, volume_id: str, server_id: str, **values: Any) -> None:
        """Attach a volume to a server, in Cinder and in Nova.

        :param values: fields of Cinder's attachment
        """
        made = self._attach_in_cinder(
            volume_id, server_id, host='compute1', **values
        )
        self._nova.add_attachment(server_id, volume_id, attachment_id=made.id)

    def _attach_in_cinder(
        self, volume_id: str, server_id: str | None, **values: Any
    ) -> stub_cinder.Attachment:
        return self._cinder.add_attachment(
            volume_id, instance_uuid=server_id, attach_time=_TIME, **values
        )

    def plant(self, kind: str) -> Planted:
        """Add a volume and a server that are inconsistent.

        :param kind: one of :data:`KINDS`
        """
        gone = str(uuid.uuid4())
        server_id = self.add_server()
        volume = self.add_volume(status=_STATUSES.get(kind, 'available'))
        if kind in _STATUSES:
            return Planted(kind, volume.id)
        if kind in ('missing-in-cinder', 'volume-gone'):
            volume_id = gone if kind == 'volume-gone' else volume.id
            self._nova.add_attachment(server_id, volume_id, attachment_id=gone)
            return Planted(kind, volume_id, None, server_id)
        if kind in ('status-mismatch', 'stuck-detaching'):
            self.attach(volume.id, server_id)
            if kind == 'status-mismatch':
                volume.status = 'available'
                return Planted(kind, volume.id)
            volume.status = 'detaching'
            return Planted(kind, volume.id, None, server_id)
        if kind == 'duplicate':
            self.attach(volume.id, server_id)
        forged: dict[str, Any] = {
            'foreign': {'server_id': None, 'host': 'glance'},
            'server-gone': {'server_id': gone},
            'stuck-attachment': {'attach_status': 'reserved'},
            'volume-deleted': {'server_id': gone},
        }
        values = {'server_id': server_id, **forged.get(kind, {})}
        made = self._attach_in_cinder(volume.id, **values)
        if kind == 'volume-deleted':
            del self._cinder.volumes[volume.id]
        return Planted(kind, volume.id, made.id, made.instance_uuid)

    def plant_all(self, count: int) -> list[Planted]:
        """Plant findings of all kinds in turn.

        :param count: the number of findings
        """
        kinds = itertools.islice(itertools.cycle(KINDS), count)
        planted = [self.plant(kind) for kind in kinds]
        for volume in self._cinder.volumes.values():
            volume.created_at = volume.updated_at = _TIME
        return planted


def _values(index: int) -> dict[str, str]:
    """What a copy has in place of the original's ids and name."""
    return {
        'server': make_id(_SERVER, index),
        'attached': make_id(_ATTACHED, index),
        'available': make_id(_AVAILABLE, index),
        'attachment': make_id(_ATTACHMENT, index),
        'name': f'thing-{index}',
    }


#: The original's ids and name: position -1 is that of no copy.
_ORIGINAL = _values(-1)


class _List(NamedTuple):
    """A list that has copies."""

    #: its name in a response
    member: str
    #: what is copied, in turn: the kind of its id, and the filter by which
    #: the stub lists it alone
    originals: dict[str, str]


_LISTS = {
    '/volumes/detail': _List(
        'volumes',
        {
            _ATTACHED: f'id={_ORIGINAL["attached"]}',
            _AVAILABLE: f'id={_ORIGINAL["available"]}',
        },
    ),
    '/attachments': _List(
        'attachments', {_ATTACHMENT: f'volume_id={_ORIGINAL["attached"]}'}
    ),
    '/servers/detail': _List(
        'servers', {_SERVER: f'uuid={_ORIGINAL["server"]}'}
    ),
}

# The query parameters that do not filter, and those of other whole lists.
_UNFILTERED = {'all_tenants', 'limit', 'marker', 'soft_deleted'}
_WHOLE = _UNFILTERED | {
    'attach_status',
    'migration_status~',
    'status',
    'status~',
}


def _find_list(path: str) -> _List | None:
    for end, found in _LISTS.items():
        if path.endswith(end):
            return found
    return None


def _selected(of: _List, request: webob.Request) -> _List:
    """The part of a list that has the status that a request filters by."""
    if 'status' not in request.GET:
        return of
    originals = of.originals if request.GET['status'] == 'in-use' else {}
    return of._replace(
        originals={
            kind: only for kind, only in originals.items() if kind == _ATTACHED
        }
    )


def is_page(path: str) -> bool:
    """Whether a request is for a page of a whole list.

    :param path: its path with its query
    """
    path, __, query = path.partition('?')
    names = urllib.parse.parse_qs(query).keys()
    return _find_list(path) is not None and names <= _WHOLE


class Copies:
    """The WSGI application that adds the copies to a stub's lists.

    :param stub: the stub
    :param pairs: how often each original is copied
    """

    def __init__(self, stub: WSGIApplication, pairs: int) -> None:
        self._stub = stub
        self._pairs = pairs
        self._forms: dict[object, tuple[list[tuple[str, str]], str]] = {}

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Respond with a page, or let the stub respond."""
        request = webob.Request(environ)
        found = _find_list(request.path_info)
        response = None
        if found is not None and 'attach_status' not in request.GET:
            response = self._page(request, _selected(found, request))
        response = response or self._single(request)
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _page(
        self, request: webob.Request, of: _List
    ) -> webob.Response | None:
        """A page of copies; None where the stub has to respond."""
        kinds = list(of.originals)
        many = len(kinds)
        if not set(request.GET) <= _UNFILTERED | {'status'}:
            return None
        first = 0
        if 'marker' in request.GET:
            found = find_id(request.GET['marker'])
            if found is None or found[1] < 0:
                # It is in the stub's own list.
                return None
            kind, position = found
            first = position * many + kinds.index(kind) + 1
        limit = min(int(request.GET.get('limit', MAX_LIMIT)), MAX_LIMIT)
        last = min(first + limit, self._pairs * many)
        if first == last:
            # The stub's own list follows.
            request.GET.pop('marker', None)
            return None
        forms = [
            self._form(request, of, only) for only in of.originals.values()
        ]
        body = ', '.join(
            [
                forms[index % many][1] % _values(index // many)
                for index in range(first, last)
            ]
        )
        body = f'"{of.member}": [{body}]'
        if of.member == 'volumes':
            position, index = divmod(last - 1, many)
            query = urllib.parse.urlencode(
                {**request.GET, 'marker': make_id(kinds[index], position)}
            )
            href = f'{request.path_url}?{query}'
            links = json.dumps([{'rel': 'next', 'href': href}])
            body += f', "volumes_links": {links}'
        return webob.Response(
            body=f'{{{body}}}'.encode(),
            headerlist=[
                (name, value)
                for name, value in forms[0][0]
                if name != 'Content-Length'
            ],
        )

    def _single(self, request: webob.Request) -> webob.Response:
        """The stub's response, for a copy as for its original."""
        copied: dict[str, str] = {}
        found = find_id(request.path_qs)
        if found is not None and 0 <= found[1] < self._pairs:
            copied = _values(found[1])
        for name, id in copied.items():
            request.path_info = request.path_info.replace(id, _ORIGINAL[name])
            request.query_string = request.query_string.replace(
                id, _ORIGINAL[name]
            )
        response = request.get_response(self._stub)
        for name, id in copied.items():
            response.text = response.text.replace(_ORIGINAL[name], id)
        if 'with_count' in request.GET:
            # Each pair is two volumes.
            body = response.json
            response.json = {**body, 'count': body['count'] + 2 * self._pairs}
        return response

    def _form(
        self, request: webob.Request, of: _List, only: str
    ) -> tuple[list[tuple[str, str]], str]:
        """The headers of the stub's response, and a template of an item.

        :param only: the filter for the original
        :raises ValueError: the stub does not list it
        """
        # Links contain the host of the request.
        version = request.headers.get('OpenStack-API-Version')
        key = of.member, only, request.host, version
        if key not in self._forms:
            sample = request.copy_get()
            sample.query_string = f'all_tenants=1&{only}'
            response = sample.get_response(self._stub)
            if response.status_code != 200:
                raise ValueError(f'{sample.url}: {response.status}')
            text = json.dumps(response.json[of.member][0]).replace('%', '%%')
            for name, value in _ORIGINAL.items():
                text = text.replace(value, f'%({name})s')
            self._forms[key] = response.headerlist, text
        return self._forms[key]


def _add_original(planter: Planter) -> None:
    planter.add_server(server_id=_ORIGINAL['server'], name=_ORIGINAL['name'])
    for kind in ('attached', 'available'):
        planter.add_volume(id=_ORIGINAL[kind], name=_ORIGINAL['name'])
    planter.attach(
        _ORIGINAL['attached'],
        _ORIGINAL['server'],
        id=_ORIGINAL['attachment'],
    )


@contextlib.contextmanager
def served(pairs: int, suspects: int) -> Iterator[dict[str, Any]]:
    """Serve a cloud on loopback until the block is left.

    :param pairs: servers, each with a volume; there are as many volumes
        without a server
    :param suspects: the number of volumes with a finding
    :returns: the address of the counts, and the environment to log in
    """
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(stub_cloud.StubCloud())
        planter = Planter(cloud)
        _add_original(planter)
        planted = planter.plant_all(suspects)
        cinder = request_id.RequestId(
            cloud.authenticated(cloud.cinder, delay_auth_decision=True)
        )
        servers = [
            stack.enter_context(serve(Copies(stub, pairs), history=_HISTORY))
            for stub in (cinder, cloud.nova)
        ]
        cinder_url, nova_url = (server.url for server in servers)
        cloud.register_cinder(f'{cinder_url}/v3')
        cloud.keystone.add_endpoint('compute', f'{nova_url}/v2.1')

        def counts() -> dict[str, int]:
            paths = [it.path for server in servers for it in server.requests]
            pages = sum(map(is_page, paths))
            logins = sum(
                not it.headers['User-Agent'].startswith(_AUTH_TOKEN)
                for it in cloud.keystone_server.requests
            )
            return {'pages': pages, 'beyond': len(paths) - pages + logins}

        @webob.dec.wsgify
        def control(request: webob.Request) -> webob.Response:
            if request.path_info == '/planted':
                return webob.Response(json=[it._asdict() for it in planted])
            return webob.Response(json=counts())

        yield {
            'url': stack.enter_context(serve(control)).url,
            'environment': {
                f'OS_{name.upper()}': value
                for name, value in cloud.auth_settings('admin').items()
            }
            | {'OS_REGION_NAME': stub_cloud.REGION},
        }


def main() -> None:
    """Serve a cloud until standard input is closed."""
    pairs, suspects = map(int, sys.argv[1:])
    # It warns that there is no memcached.
    logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
    with served(pairs, suspects) as cloud:
        print(json.dumps(cloud), flush=True)
        sys.stdin.read()


if __name__ == '__main__':
    main()
