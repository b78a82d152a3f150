# SPDX-License-Identifier: Apache-2.0
"""Who calls, through the clients that people use."""

from __future__ import annotations

import functools
from typing import Any
import uuid

from cinderclient import client as cinder_client
from keystoneauth1 import session as ks_session
from keystoneauth1.identity import v3
from novaclient import client as nova_client
from openstack import connection as openstack_connection
import requests

from tests.cloud import config
from tests.cloud import identity

#: The newest that Cinder 29 and Nova 34 both have, fixed: what a test shows
#: must not change with a client's.
CINDER_API = '3.70'
NOVA_API = '2.95'


class Caller:
    """A user in a project, and the clients that they use.

    :param places: where everything is
    :param user: name of the user
    :param project: name of the project
    :param request_id: goes with each request as its global request id, into
        each service that has a part in it
    """

    def __init__(
        self,
        places: config.Places,
        user: str,
        project: str,
        request_id: str | None = None,
    ) -> None:
        self.name = user
        self._places = places
        self._project = project
        self.request_id = request_id or f'req-{uuid.uuid4()}'

    def again(self, request_id: str) -> Caller:
        """The same caller, with another global request id."""
        return Caller(self._places, self.name, self._project, request_id)

    @functools.cached_property
    def sdk(self) -> openstack_connection.Connection:
        """openstacksdk."""
        return identity.connect(self._places, self.name, self._project)

    @functools.cached_property
    def session(self) -> ks_session.Session:
        """What the clients share; openstacksdk takes long to make its own."""
        return ks_session.Session(
            auth=v3.Password(
                auth_url=self._places.keystone_url,
                username=self.name,
                password=config.PASSWORD,
                project_name=self._project,
                user_domain_name='Default',
                project_domain_name='Default',
            )
        )

    @property
    def token(self) -> str:
        token = self.session.get_token()
        assert token is not None
        return token

    @property
    def project_id(self) -> str:
        project_id = self.session.get_project_id()
        assert project_id is not None
        return project_id

    @functools.cached_property
    def cinder(self) -> Any:
        """python-cinderclient."""
        return cinder_client.Client(
            CINDER_API,
            session=self.session,
            service_type='block-storage',
            region_name=config.REGION,
            global_request_id=self.request_id,
        )

    @functools.cached_property
    def nova(self) -> Any:
        """python-novaclient."""
        return nova_client.Client(
            NOVA_API,
            session=self.session,
            region_name=config.REGION,
            global_request_id=self.request_id,
        )

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        query: str = '',
        token: str | None = None,
        headers: dict[str, str] | None = None,
        version: str = CINDER_API,
    ) -> requests.Response:
        """Make a request to Cinder as it is, as no client would.

        :param method: HTTP method
        :param path: below ``/v3/{project}``
        :param body: JSON body
        :param data: body that need not be JSON
        :param query: query string
        :param token: instead of the caller's own
        :param headers: more headers
        :param version: microversion to ask for
        """
        return requests.request(
            method,
            f'{self._places.url("cinder")}/v3/{self.project_id}{path}'
            f'{"?" * bool(query)}{query}',
            json=body,
            data=data,
            headers={
                'X-Auth-Token': token or self.token,
                'X-OpenStack-Request-ID': self.request_id,
                'OpenStack-API-Version': f'volume {version}',
                'Content-Type': 'application/json',
                'Accept': 'application/json',
                **(headers or {}),
            },
            timeout=120,
            allow_redirects=False,
        )


def caller(places: config.Places, name: str) -> Caller:
    """Somebody of :data:`identity.PEOPLE`, or one of the services' users.

    :param places: where everything is
    :param name: the user's name
    :raises KeyError: nobody is called so
    """
    if name in identity.SERVICES:
        return Caller(places, name, 'service')
    projects = {person.name: person.project for person in identity.PEOPLE}
    return Caller(places, name, projects[name])
