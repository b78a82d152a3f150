# SPDX-License-Identifier: Apache-2.0

"""A cloud of stubs on loopback: Keystone, Nova and Cinder.

It is for tests that use the real clients, and in which the services send
requests to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import types
import typing

import cinderclient.client
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import v3
import novaclient.client
from oslo_middleware import request_id

from attachguard.testing import server
from attachguard.testing import service
from attachguard.testing import stub_cinder
from attachguard.testing import stub_keystone
from attachguard.testing import stub_nova

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

#: The users of a cloud, each with its project and roles. The password of a
#: user is the user's name.
USERS: dict[str, tuple[str, tuple[str, ...]]] = {
    'admin': ('admin', ('admin',)),
    'member': ('demo', ('member',)),
    'reader': ('demo', ('reader',)),
    'other': ('other', ('member',)),
    'nova': ('service', ('service',)),
    'cinder': ('service', ('service',)),
}

REGION = 'RegionOne'


class StubCloud:
    """A context manager that serves Keystone, Nova and Cinder.

    :param cinder: address of the Block Storage API for the catalog, with its
        version. By default, a stub of Cinder is served. With ``None``, the
        catalog has no Block Storage API until :meth:`register_cinder`.
    :param service_token: whether Nova sends its service token to Cinder
    :param middleware: puts a filter in front of the stub of Cinder, behind
        auth_token; called once with the application

    :ivar keystone: the :class:`~attachguard.testing.StubKeystone`
    :ivar nova: the :class:`~attachguard.testing.StubNova`
    :ivar cinder: the :class:`~attachguard.testing.StubCinder`, if it is served
    :ivar keystone_server: serves the stub of Keystone; this and the next two
        are an :class:`attachguard.testing.server.Server`
    :ivar nova_server: serves the stub of Nova
    :ivar cinder_server: serves the stub of Cinder, if it is served
    """

    STUB: typing.Final = 'stub'

    keystone: stub_keystone.StubKeystone
    nova: stub_nova.StubNova
    cinder: stub_cinder.StubCinder
    keystone_server: server.Server
    nova_server: server.Server
    cinder_server: server.Server

    def __init__(
        self,
        cinder: str | None = STUB,
        *,
        service_token: bool = True,
        middleware: (
            Callable[[wsgi_types.WSGIApplication], wsgi_types.WSGIApplication]
            | None
        ) = None,
    ) -> None:
        self._cinder_url = cinder
        self._middleware = middleware
        self._service_token = service_token
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StubCloud:
        with contextlib.ExitStack() as stack:
            self.keystone = stub_keystone.StubKeystone()
            self.keystone_server = stack.enter_context(
                server.serve(self.keystone)
            )
            self.keystone.url = self.keystone_server.url
            for name, (project, roles) in USERS.items():
                self.keystone.add_user(name, name, project, roles)

            self.nova = stub_nova.StubNova(
                self.keystone_url, service_token=self._service_token
            )
            self.nova_server = stack.enter_context(server.serve(self.nova))
            self.keystone.add_endpoint(
                'identity', f'{self.keystone_url}/v3', REGION, name='keystone'
            )
            self.keystone.add_endpoint(
                'compute', f'{self.nova_server.url}/v2.1', REGION, name='nova'
            )
            if self._cinder_url == self.STUB:
                self.cinder = stub_cinder.StubCinder()
                self._guarded_cinder = request_id.RequestId(
                    self.authenticated(self._filtered(self.cinder))
                )
                self.cinder_server = stack.enter_context(
                    server.serve(self._block_storage)
                )
                self.register_cinder(self.cinder_url)
            elif self._cinder_url is not None:
                self.register_cinder(self._cinder_url)
            stack.callback(self.nova.faults.clear)
            stack.callback(self.keystone.faults.clear)
            self._stack = stack.pop_all()
        return self

    def _filtered(
        self, application: wsgi_types.WSGIApplication
    ) -> wsgi_types.WSGIApplication:
        if self._middleware is None:
            return application
        return self._middleware(application)

    def _block_storage(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        """Serve the versions without a token, and the rest with one."""
        public = environ['PATH_INFO'] == '/'
        application = self.cinder if public else self._guarded_cinder
        response: Iterable[bytes] = application(environ, start_response)
        return response

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def keystone_url(self) -> str:
        """The address of Keystone, without the version."""
        return self.keystone_server.url

    @property
    def nova_url(self) -> str:
        """The address of Nova, with its version."""
        return f'{self.nova_server.url}/v2.1'

    @property
    def cinder_url(self) -> str:
        """The address of the stub of Cinder, with its version."""
        return f'{self.cinder_server.url}/v3'

    def register_cinder(self, url: str) -> None:
        """Register a Block Storage API; it replaces an earlier one.

        :param url: its address with the version, without a project
        """
        for service_type in ('volumev3', 'block-storage'):
            self.keystone.add_endpoint(
                service_type, url, REGION, name=f'cinder-{service_type}'
            )

    def authenticated(
        self,
        application: wsgi_types.WSGIApplication,
        user: str = 'cinder',
        **options: object,
    ) -> wsgi_types.WSGIApplication:
        """Put the real auth_token in front of an application.

        :param application: the WSGI application
        :param user: name of the service user of auth_token
        :param options: more options, as in ``[keystone_authtoken]``
        :returns: the WSGI pipeline
        """
        return service.authenticated(
            application, self.keystone_url, user, user, **options
        )

    def auth_settings(self, user: str) -> dict[str, str]:
        """Return a user's credentials as options of a configuration file.

        :param user: name of one of :data:`USERS`
        """
        return {
            'auth_type': 'password',
            'auth_url': f'{self.keystone_url}/v3',
            'username': user,
            'password': user,
            'project_name': USERS[user][0],
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        }

    def session(
        self, user: str, *, timeout: float = 30
    ) -> ksa_session.Session:
        """Make a keystoneauth session of a user.

        :param user: name of one of :data:`USERS`
        :param timeout: seconds for each connect and each read
        """
        auth = v3.Password(
            auth_url=f'{self.keystone_url}/v3',
            username=user,
            password=user,
            project_name=USERS[user][0],
            user_domain_id='default',
            project_domain_id='default',
        )
        return ksa_session.Session(auth=auth, timeout=timeout)

    def project_id(self, user: str) -> str:
        """Return the id of a user's project.

        :param user: name of one of :data:`USERS`
        """
        return self.keystone.add_project(USERS[user][0])

    def cinderclient(
        self, user: str, microversion: str = '3.44'
    ) -> typing.Any:
        """Make a python-cinderclient of a user.

        :param user: name of one of :data:`USERS`
        :param microversion: microversion of the Block Storage API
        """
        return cinderclient.client.Client(
            microversion, session=self.session(user), region_name=REGION
        )

    def novaclient(self, user: str, microversion: str = '2.1') -> typing.Any:
        """Make a python-novaclient of a user.

        :param user: name of one of :data:`USERS`
        :param microversion: microversion of the Compute API
        """
        return novaclient.client.Client(
            microversion, session=self.session(user), region_name=REGION
        )
