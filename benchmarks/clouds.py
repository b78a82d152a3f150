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
"""Serve a cloud of any size, its pages written while they are asked for.

What it answers is what the stubs of :mod:`attachguard.testing` answer, which
are held against the real Cinder and Nova: a stub that has one volume and one
server is asked the same, and other values are filled into its answer.  What
there is not, and whatever is no question about volumes and servers, the stubs
answer themselves.

``python -m benchmarks.clouds`` serves one until its standard input is closed.
Its one line of output says how to log in, and where to ask what was asked for
so far (``/_counts``) and what is wrong in the cloud (``/_planted``).
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import functools
import itertools
import json
import logging
import re
import sys
import threading
import typing
import urllib.parse
import uuid

from oslo_middleware import request_id
import webob
import webob.dec
import webob.exc

from attachguard.testing import serve
from attachguard.testing import service
from attachguard.testing import stub_cinder as cinder_stub
from attachguard.testing import stub_cloud
from attachguard.testing import stub_nova as nova_stub
from benchmarks import content

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

#: ``osapi_max_limit`` of Cinder, ``[api] max_limit`` of Nova.
MAX_LIMIT = 1000

# How auth_token calls itself, in whichever service.
_SERVICES = ('keystonemiddleware', 'python-keystoneclient')

Values = dict[str, str]

# The stubs' one volume and one server are made of gaps, which are named for
# what belongs there. Those named json are no strings, or not always. What
# cannot be a gap is something that nothing else is.
_ID = '%(id)s'
_HOST = '%(host)s'
_CREATED = datetime.datetime(1999, 12, 31, 23, 59, 59)


class Template:
    """What a stub says of a thing, with gaps where others differ from it.

    :param item: the thing, out of the stub's answer
    :param many: name of a member that is a list, of which it has one
    """

    def __init__(self, item: dict[str, typing.Any], many: str = '') -> None:
        self._part = _text(item[many][0]) if many else ''
        self._text = _text({**item, many: '%(json:many)s'} if many else item)

    def fill(self, values: Values, parts: Iterable[Values] = ()) -> str:
        """Write what the stub would say of another thing.

        :param values: what belongs into the gaps
        :param parts: what belongs into those of each member of the list
        """
        many = ', '.join([self._part % part for part in parts])
        return self._text % {**values, 'json:many': f'[{many}]'}


def _text(item: dict[str, typing.Any]) -> str:
    text = json.dumps(item)
    text = text.replace(_CREATED.isoformat(), '%(created)s')
    text = text.replace(_host_id(_HOST), '%(host_id)s')
    return re.sub(r'"(%\(json:\w+\)s)"', r'\1', text)


@functools.cache
def _host_id(host: str) -> str:
    # As the stub does it.
    return uuid.uuid5(uuid.NAMESPACE_DNS, host).hex


def _string(value: str | None) -> str:
    return 'null' if value is None else f'"{value}"'


class Counts:
    """How often what was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, collections.Counter[str]] = {
            kind: collections.Counter()
            for kind in ('pages', 'single', 'other')
        }

    def add(self, kind: str, name: str) -> None:
        """Count a request."""
        with self._lock:
            self._counts[kind][name] += 1

    def to_json(self) -> dict[str, dict[str, int]]:
        """By kind, and by what was asked for."""
        with self._lock:
            return {kind: dict(by) for kind, by in self._counts.items()}


@dataclasses.dataclass(frozen=True)
class _Form:
    """The form of an answer: its headers, and the thing in it."""

    headers: list[tuple[str, str]]
    template: Template

    def answer(self, body: str) -> webob.Response:
        new = f'req-{uuid.uuid4()}'
        return webob.Response(
            body=body.encode(),
            headerlist=[
                (
                    name,
                    new if name.lower().endswith('-request-id') else value,
                )
                for name, value in self.headers
            ],
        )


class _Thing(typing.Protocol):
    @property
    def id(self) -> str: ...


_AThing = typing.TypeVar('_AThing', bound=_Thing)


class Api:
    """One service of the cloud, as a WSGI application.

    :param cloud: what is in it
    :param stub: what has the same in it, once
    :param counts: where requests are counted
    """

    #: A handler answers None where the stub is to.
    routes: typing.ClassVar[tuple[service.Route, ...]] = ()

    def __init__(
        self,
        cloud: content.Cloud,
        stub: wsgi_types.WSGIApplication,
        counts: Counts,
    ) -> None:
        self.cloud = cloud
        self.counts = counts
        self._stub = stub
        self._forms: dict[tuple[str | None, ...], _Form] = {}

    def __call__(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        request = webob.Request(environ)
        answer: Iterable[bytes] = (
            self._answer(request) or request.get_response(self._stub)
        )(environ, start_response)
        return answer

    def _answer(self, request: webob.Request) -> webob.Response | None:
        for route in self.routes:
            found = route.pattern.fullmatch(request.path_info)
            if found and request.method == route.method:
                handler: Callable[..., webob.Response | None] = getattr(
                    self, route.handler
                )
                return handler(request, **found.groupdict())
        self.counts.add('other', f'{request.method} {request.path}')
        return None

    def sample(self, request: webob.Request, path: str) -> webob.Response:
        """What the stub answers to the same request for something else."""
        sample = request.copy_get()
        sample.path_info = path
        sample.query_string = 'all_tenants=1'
        return sample.get_response(self._stub)

    def form(
        self, request: webob.Request, path: str, member: str, many: str = ''
    ) -> _Form | None:
        """The form of the answer to a request.

        :param path: where the stub answers the same about what it has
        :param member: of the answer: the thing, or the list of which it is
            the last
        :param many: as in :class:`Template`
        :returns: None where the stub refuses
        """
        # Links speak of the host that was asked.
        version = request.headers.get('OpenStack-API-Version')
        key = (path, request.host, version)
        if key not in self._forms:
            answer = self.sample(request, path)
            if answer.status_code != 200:
                return None
            item = answer.json[member]
            if isinstance(item, list):
                item = item[-1]
            self._forms[key] = _Form(answer.headerlist, Template(item, many))
        return self._forms[key]

    def page(
        self,
        request: webob.Request,
        form: _Form,
        member: str,
        things: Iterator[_AThing],
        fill: Callable[[Template, _AThing], str],
        *,
        links: bool = True,
    ) -> webob.Response:
        """Answer as much of a list as a page is long."""
        limit = min(int(request.GET.get('limit', MAX_LIMIT)), MAX_LIMIT)
        page = list(itertools.islice(things, limit))
        body = ', '.join([fill(form.template, thing) for thing in page])
        body = f'"{member}": [{body}]'
        if links and page and len(page) == limit:
            query = request.GET.copy()
            query['marker'] = page[-1].id
            href = f'{request.path_url}?{urllib.parse.urlencode(query)}'
            following = json.dumps([{'rel': 'next', 'href': href}])
            body += f', "{member}_links": {following}'
        return form.answer(f'{{{body}}}')


def _after(
    request: webob.Request, find: Callable[[str], int | None]
) -> int | None:
    """Where a page begins.

    :returns: index of what comes before it, -1 for nothing; None where there
        is nothing like that
    """
    marker = request.GET.get('marker')
    return -1 if marker is None else find(marker)


_CINDER = r'/v3(?:/[0-9a-f-]+)?'


class Cinder(Api):
    """The cloud's Cinder."""

    routes = (
        service.Route('GET', f'{_CINDER}/volumes', 'filter_volume'),
        service.Route('GET', f'{_CINDER}/volumes/detail', 'list_volumes'),
        service.Route('GET', f'{_CINDER}/volumes/{{id}}', 'show_volume'),
        service.Route('GET', f'{_CINDER}/attachments', 'list_attachments'),
    )

    @staticmethod
    def fill(stub: cinder_stub.StubCinder) -> None:
        """Put into a stub what it is to be asked about."""
        volume = stub.add_volume(
            '%(project_id)s',
            id=_ID,
            user_id='%(user_id)s',
            name='%(name)s',
            size='%(json:size)s',
            multiattach='%(json:multiattach)s',
            created_at='%(time)s',
        )
        stub.add_attachment(
            _ID,
            id='%(attachment_id)s',
            instance_uuid='%(json:server)s',
            host='%(json:host)s',
            mountpoint='%(device)s',
            attach_time='%(time)s',
        )
        # What the attachment has made of them.
        volume.status = '%(status)s'
        volume.updated_at = '%(time)s'
        # A volume is shown with those that are attached: this is for lists.
        stub.attachments[_ID] = cinder_stub.Attachment(
            '%(volume_id)s', '%(json:server)s', '%(status)s', id=_ID
        )

    def list_volumes(self, request: webob.Request) -> webob.Response | None:
        """Answer a page of the volumes."""
        status = request.GET.get('status')
        attach_status = request.GET.get('attach_status')
        filtered = f', {status} and {attach_status}' if attach_status else ''
        self.counts.add('pages', f'volumes{filtered}')
        form = self.form(request, '/v3/volumes/detail', 'volumes', _ATTACHED)
        after = _after(request, self.cloud.find_volume)
        if form is None or after is None:
            return None
        volumes = self.cloud.list_volumes(after, status, attach_status)
        return self.page(request, form, 'volumes', volumes, _volume)

    def filter_volume(self, request: webob.Request) -> webob.Response | None:
        """Answer whether a volume has some attach_status."""
        self.counts.add('single', 'attach_status of a volume')
        form = self.form(request, '/v3/volumes', 'volumes')
        index = self.cloud.find_volume(request.GET['id'])
        if form is None:
            return None
        volume = None if index is None else self.cloud.volume(index)
        if volume is None or volume.attach_status != request.GET.get(
            'attach_status', volume.attach_status
        ):
            return form.answer('{"volumes": []}')
        view = form.template.fill({'id': volume.id, 'name': volume.name})
        return form.answer(f'{{"volumes": [{view}]}}')

    def show_volume(
        self, request: webob.Request, id: str
    ) -> webob.Response | None:
        """Answer one volume."""
        self.counts.add('single', 'volume')
        form = self.form(request, f'/v3/volumes/{_ID}', 'volume', _ATTACHED)
        index = self.cloud.find_volume(id)
        volume = None if index is None else self.cloud.volume(index)
        if form is None or volume is None:
            return None
        return form.answer(f'{{"volume": {_volume(form.template, volume)}}}')

    def list_attachments(
        self, request: webob.Request
    ) -> webob.Response | None:
        """Answer a page of the attachments, or those of a volume."""
        volume_id = request.GET.get('volume_id')
        if volume_id is None:
            self.counts.add('pages', 'attachments')
        else:
            self.counts.add('single', 'attachments of a volume')
        form = self.form(request, '/v3/attachments', 'attachments')
        after = _after(request, self.cloud.find_attachment)
        if form is None or after is None:
            return None
        if volume_id is None:
            attachments = self.cloud.list_attachments(after)
        else:
            index = self.cloud.find_volume(volume_id)
            known = () if index is None else self.cloud.attachments(index)
            attachments = (
                attachment
                for attachment in known
                if content.ATTACHMENTS.index(attachment.id) > after
            )
        return self.page(
            request, form, 'attachments', attachments, _attachment, links=False
        )


_ATTACHED = 'attachments'


def _volume(template: Template, volume: content.Volume) -> str:
    return template.fill(
        {
            'id': volume.id,
            'project_id': volume.project_id,
            'user_id': volume.user_id,
            'name': volume.name,
            'status': volume.status,
            'time': volume.created_at,
            'json:size': str(volume.size),
            'json:multiattach': str(volume.multiattach).lower(),
        },
        [
            {
                'id': volume.id,
                'attachment_id': attachment.id,
                'json:server': _string(attachment.server_id),
                'json:host': _string(attachment.host),
                'device': attachment.device,
                'time': attachment.attached_at,
            }
            for attachment in volume.attachments
            if attachment.status == 'attached'
        ],
    )


def _attachment(template: Template, attachment: content.Attachment) -> str:
    return template.fill(
        {
            'id': attachment.id,
            'volume_id': attachment.volume_id,
            'json:server': _string(attachment.server_id),
            'status': attachment.status,
        }
    )


class Nova(Api):
    """The cloud's Nova."""

    routes = (
        service.Route('GET', '/v2\\.1/servers/detail', 'list_servers'),
        service.Route('GET', '/v2\\.1/servers/{id}', 'show_server'),
        service.Route(
            'GET',
            '/v2\\.1/servers/{id}/os-volume_attachments/{volume_id}',
            'show_attachment',
        ),
        service.Route('GET', '/v2\\.1/os-services', 'list_services'),
    )

    @staticmethod
    def fill(stub: nova_stub.StubNova) -> None:
        """Put into a stub what it is to be asked about."""
        server = stub.add_server(
            '%(project_id)s',
            '%(name)s',
            server_id=_ID,
            user_id='%(user_id)s',
        )
        server.host = _HOST
        server.created = _CREATED
        attachment = stub.add_attachment(
            _ID,
            '%(volume_id)s',
            attachment_id='%(attachment_id)s',
            device='%(device)s',
        )
        attachment.uuid = '%(mapping_id)s'

    def list_servers(self, request: webob.Request) -> webob.Response | None:
        """Answer a page of the servers."""
        self.counts.add('pages', 'servers')
        form = self._servers(request)
        after = _after(request, self.cloud.find_server)
        if form is None or after is None:
            return None
        servers = self.cloud.list_servers(after)
        return self.page(request, form, 'servers', servers, _server)

    def _servers(self, request: webob.Request) -> _Form | None:
        return self.form(request, '/v2.1/servers/detail', 'servers', _HELD)

    def show_server(
        self, request: webob.Request, id: str
    ) -> webob.Response | None:
        """Answer one server."""
        self.counts.add('single', 'server')
        form = self.form(request, f'/v2.1/servers/{_ID}', 'server', _HELD)
        index = self.cloud.find_server(id)
        if form is None or index is None:
            return None
        server = self.cloud.server(index)
        return form.answer(f'{{"server": {_server(form.template, server)}}}')

    def show_attachment(
        self, request: webob.Request, id: str, volume_id: str
    ) -> webob.Response | None:
        """Answer whether, and how, a server has a volume."""
        self.counts.add('single', 'volume of a server')
        path = f'/v2.1/servers/{_ID}/os-volume_attachments'
        form = self.form(request, f'{path}/%(volume_id)s', 'volumeAttachment')
        index = self.cloud.find_server(id)
        if form is None or index is None:
            return None
        for mapping in self.cloud.server(index).volumes:
            if mapping.volume_id == volume_id:
                values = {**_mapping(mapping), 'id': id}
                view = form.template.fill(values)
                return form.answer(f'{{"volumeAttachment": {view}}}')
        refusal = self.sample(request, f'{path}/{volume_id}')
        refusal.body = refusal.body.replace(_ID.encode(), id.encode())
        return refusal

    def list_services(self, request: webob.Request) -> webob.Response | None:
        """Answer where Nova runs servers."""
        self.counts.add('other', f'{request.method} {request.path}')
        form = self._servers(request)
        if form is None:
            return None
        # nova.api.openstack.compute.services, since 2.69.
        return form.answer(
            json.dumps(
                {
                    'services': [
                        {
                            'binary': 'nova-compute',
                            'host': host,
                            'id': content.SERVICES.id(index),
                            'zone': 'nova',
                            'status': 'enabled',
                            'state': 'up',
                            'updated_at': '2026-01-01T00:00:00.000000',
                            'disabled_reason': None,
                            'forced_down': False,
                        }
                        for index, host in enumerate(self.cloud.hosts)
                    ]
                }
            )
        )


_HELD = 'os-extended-volumes:volumes_attached'


def _server(template: Template, server: content.Server) -> str:
    return template.fill(
        {
            'id': server.id,
            'name': server.name,
            'project_id': server.project_id,
            'user_id': server.user_id,
            'host': server.host,
            'host_id': _host_id(server.host),
            'created': server.created_at[:19],
        },
        map(_mapping, server.volumes),
    )


def _mapping(mapping: content.Mapping) -> Values:
    return {
        'volume_id': mapping.volume_id,
        'attachment_id': mapping.attachment_id,
        'device': mapping.device,
        'mapping_id': mapping.id,
    }


@dataclasses.dataclass(frozen=True)
class Served:
    """A cloud that is served.

    :param url: where to ask for ``/_counts`` and ``/_planted``
    :param environment: how an administrator logs in
    """

    url: str
    environment: dict[str, str]


@contextlib.contextmanager
def served(cloud: content.Cloud, port: int = 0) -> Iterator[Served]:
    """Serve a cloud on loopback until the block is left.

    :param cloud: what is in it
    :param port: where to ask for counts; 0 for any
    """
    counts = Counts()
    with contextlib.ExitStack() as stack:
        stub = stack.enter_context(stub_cloud.StubCloud())
        Cinder.fill(stub.cinder)
        Nova.fill(stub.nova)
        # Versions are for everybody; what else is asked, is by administrators.
        authenticated = stub.authenticated(
            stub.cinder, delay_auth_decision=True
        )
        cinder = stack.enter_context(
            serve(Cinder(cloud, request_id.RequestId(authenticated), counts))
        )
        nova = stack.enter_context(serve(Nova(cloud, stub.nova, counts)))
        stub.register_cinder(f'{cinder.url}/v3')
        stub.keystone.add_endpoint('compute', f'{nova.url}/v2.1')

        def identity() -> dict[str, int]:
            # But for what the services ask: whose token it is.
            return collections.Counter(
                f'{asked.method} {asked.path}'
                for asked in stub.keystone_server.requests
                if not asked.headers['User-Agent'].startswith(_SERVICES)
            )

        @webob.dec.wsgify
        def control(request: webob.Request) -> webob.Response:
            match request.path_info:
                case '/_counts':
                    found = counts.to_json()
                    found['other'].update(identity())
                    return webob.Response(json=found)
                case '/_planted':
                    planted = [item._asdict() for item in cloud.planted()]
                    return webob.Response(json=planted)
            return webob.exc.HTTPNotFound()

        yield Served(
            stack.enter_context(serve(control, port=port)).url,
            {
                f'OS_{name.upper()}': value
                for name, value in stub.auth_settings('admin').items()
            }
            | {'OS_REGION_NAME': stub_cloud.REGION},
        )


def main(arguments: list[str] | None = None) -> None:
    """Serve a cloud until standard input is closed."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.clouds', description=__doc__
    )
    parser.add_argument('--volumes', type=int, default=1_000_000)
    parser.add_argument('--servers', type=int, default=500_000)
    parser.add_argument(
        '--suspects', type=int, default=200, help='volumes that are wrong'
    )
    parser.add_argument(
        '--port', type=int, default=0, help='where to ask for counts'
    )
    asked = parser.parse_args(arguments)
    # It would have a memcached to keep tokens in.
    logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
    cloud = content.Cloud(asked.volumes, asked.servers, asked.suspects)
    with served(cloud, asked.port) as running:
        print(json.dumps(dataclasses.asdict(running)), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == '__main__':
    main()
