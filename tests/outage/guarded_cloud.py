# SPDX-License-Identifier: Apache-2.0
"""Cinder with the guard, and faulty servers in front of Nova and Keystone."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import configparser
import contextlib
import dataclasses
import http
import json
import pathlib
import time
import typing
from typing import Any
import uuid

import requests

from attachguard.testing import embedded
from attachguard.testing import stub_cloud
from tests.outage import certificates
from tests.outage import cinder_servers
from tests.outage import faulty_server

_REGION = 'Faulty'
# Seconds after which a request is given up.
_TIMEOUT = 60.0


@dataclasses.dataclass
class GuardedCloud:
    """Stubs of Keystone and Nova, and Cinder with the guard.

    Only the guard uses the faulty servers.  All others reach Nova and
    Keystone directly.

    :param nova: in front of Nova
    :param nova_with_tls: the same, with TLS
    :param keystone: in front of Keystone, for the guard's own credentials
    :param other_host: where faults redirect to
    """

    stubs: stub_cloud.StubCloud
    cinder: cinder_servers.Cinder
    nova: faulty_server.FaultyServer
    nova_with_tls: faulty_server.FaultyServer
    keystone: faulty_server.FaultyServer
    other_host: faulty_server.FaultyServer

    def use(self, nova: faulty_server.FaultyServer) -> None:
        """Put an endpoint of Nova into the catalog that the guard uses."""
        self.stubs.keystone.add_endpoint(
            'compute', f'{nova.url}/v2.1', _REGION, name='nova'
        )


@contextlib.contextmanager
def start(
    directory: pathlib.Path,
    server: str,
    *,
    paste_ini: pathlib.Path | None = None,
    credentials: str | None = None,
    cinder_options: dict[str, dict[str, Any]] | None = None,
    services: bool = True,
    **options: Any,
) -> Iterator[GuardedCloud]:
    """Start a cloud, and stop it at the end of the context.

    :param directory: for what Cinder writes, and for certificates
    :param server: name of one of :data:`tests.outage.cinder_servers.SHAPES`
    :param paste_ini: another paste configuration than the shipped sample
    :param credentials: user whose credentials the guard uses; None for the
        caller's own
    :param cinder_options: for other groups than the guard's
    :param services: False for a Cinder without scheduler and volume service
    :param options: of the guard
    """
    options['cafile'], contexts = certificates.create_all(directory)
    options['region_name'] = _REGION
    with contextlib.ExitStack() as stack:
        stubs = stack.enter_context(stub_cloud.StubCloud(cinder=None))
        nova, nova_with_tls, keystone, other_host = [
            stack.enter_context(contextlib.closing(each))
            for each in (
                faulty_server.FaultyServer(stubs.nova_server.port),
                faulty_server.FaultyServer(stubs.nova_server.port, contexts),
                faulty_server.FaultyServer(stubs.keystone_server.port),
                faulty_server.FaultyServer(),
            )
        ]
        for each in nova, nova_with_tls, keystone:
            each.other_url = other_host.url
        if credentials is not None:
            options |= stubs.auth_settings(credentials)
            options['auth_url'] = f'{keystone.url}/v3'
        cinder = cinder_servers.SHAPES[server].server(
            directory,
            f'{stubs.keystone_url}/v3',
            paste_ini=paste_ini,
            server=server,
            services=services,
            cinder_options=cinder_options,
            guard_options=options,
            # Two processes that start one after the other take longest.
            deadline=120,
        )
        stack.enter_context(cinder)
        stubs.register_cinder(cinder.url)
        cloud = GuardedCloud(
            stubs, cinder, nova, nova_with_tls, keystone, other_host
        )
        cloud.use(nova)
        yield cloud


class Response(typing.NamedTuple):
    """The response to a request.

    :param status: 0 where there was no complete response
    :param headers: without regard to upper and lower case
    :param body: parsed where it is JSON, else as text
    :param seconds: from the request to the last byte
    """

    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float

    @property
    def ok(self) -> bool:
        """True if the request was successful."""
        return 200 <= self.status < http.HTTPStatus.BAD_REQUEST

    @property
    def reason(self) -> str | None:
        """The reason code of the guard; None in a response of Cinder."""
        if isinstance(self.body, dict) and not self.ok:
            for fault in self.body.values():
                if isinstance(fault, dict):
                    return fault.get('reason')
        return None


class Caller:
    """Sends requests to Cinder; several threads can share it.

    :param cloud: the cloud
    :param user: name of one of :data:`attachguard.testing.stub_cloud.USERS`
    :param service: True to send a service token as well
    :param keep_alive: True to use a connection again
    """

    def __init__(
        self,
        cloud: GuardedCloud,
        user: str = 'member',
        *,
        service: bool = False,
        keep_alive: bool = False,
    ) -> None:
        self.token = cloud.stubs.session(user).get_token() or ''
        self.path = f'/v3/{cloud.stubs.project_id(user)}'
        self.url = f'http://127.0.0.1:{cloud.cinder.port}'
        self.headers = {
            'X-Auth-Token': self.token,
            'OpenStack-API-Version': 'volume 3.44',
            'Content-Type': 'application/json',
        }
        if service:
            service_token = cloud.stubs.session('nova').get_token() or ''
            self.headers['X-Service-Token'] = service_token
        if not keep_alive:
            self.headers['Connection'] = 'close'
        self.session = requests.Session()
        self.session.trust_env = False

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request.

        :returns: the response; with status 0 and the error as its body where
            there was none
        """
        start = time.monotonic()
        try:
            received = self.session.request(
                method,
                self.url + self.path + path,
                data=b'' if body is None else json.dumps(body),
                headers={**self.headers, **(headers or {})},
                timeout=_TIMEOUT,
            )
        except requests.RequestException as exc:
            seconds = time.monotonic() - start
            return Response(0, {}, f'{type(exc).__name__}: {exc}', seconds)
        seconds = time.monotonic() - start
        try:
            content = received.json()
        except ValueError:
            content = received.text
        return Response(
            received.status_code, received.headers, content, seconds
        )

    def act(self, volume_id: str, name: str, **arguments: Any) -> Response:
        """Call an action of a volume."""
        return self.send(
            'POST', f'/volumes/{volume_id}/action', {name: arguments}
        )

    def attach(self, volume_id: str, server_id: str | None = None) -> Response:
        """Call os-attach.

        :param server_id: by default one that does not exist
        """
        return self.act(
            volume_id,
            'os-attach',
            instance_uuid=server_id or str(uuid.uuid4()),
            mountpoint='/dev/vdb',
        )


def write_paste_ini(
    path: pathlib.Path,
    edit: Callable[[configparser.RawConfigParser], None],
) -> pathlib.Path:
    """Write a changed copy of the shipped paste configuration.

    :param edit: changes it
    :returns: the path
    """
    config = configparser.RawConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(embedded.sample_paste_ini())
    edit(config)
    with path.open('w') as file:
        config.write(file)
    return path
