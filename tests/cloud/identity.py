# SPDX-License-Identifier: Apache-2.0
"""Users, projects, roles and the catalog, made through Keystone's own API."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
from typing import Any

import openstack
from openstack import connection as openstack_connection

from tests.cloud import config

#: Users of the services; the first roles of each are as DevStack gives them.
SERVICES = ('placement', 'glance', 'nova', 'cinder', 'ironic', 'zun')


@dataclasses.dataclass(frozen=True)
class Person:
    """A user who is no service.

    :param name: of the user
    :param project: of the project that the user works in
    :param roles: the roles there, apart from those that they imply
    """

    name: str
    project: str
    roles: tuple[str, ...]


PEOPLE = (
    Person('member', 'demo', ('member',)),
    Person('colleague', 'demo', ('member',)),
    Person('reader', 'demo', ('reader',)),
    # Somebody in a project of tenants, whom an operator once gave the role.
    Person('intruder', 'demo', ('member', 'service')),
    Person('other', 'other', ('member',)),
    Person('admin', 'admin', ('admin',)),
)

_ENDPOINTS = {
    'block-storage': ('cinder', 'cinder', '/v3'),
    'compute': ('nova', 'nova', '/v2.1'),
    'image': ('glance', 'glance', ''),
    'network': ('neutron', 'neutron', ''),
    'placement': ('placement', 'placement', ''),
}


def connect(
    places: config.Places, user: str, project: str
) -> openstack_connection.Connection:
    """Log in with openstacksdk.

    :param places: where everything is
    :param user: name of the user
    :param project: name of the project
    """
    return openstack.connect(
        load_envvars=False,
        load_yaml_config=False,
        auth_url=places.keystone_url,
        username=user,
        password=config.PASSWORD,
        project_name=project,
        user_domain_name='Default',
        project_domain_name='Default',
        region_name=config.REGION,
        # Nobody proxies to loopback.
        app_name='attachguard-tests',
    )


def populate(places: config.Places) -> None:
    """Make everybody, and say where the services are.

    :param places: where everything is; Keystone is bootstrapped and runs
    """
    # Typed as the older of two versions, too.
    identity: Any = connect(places, 'admin', 'admin').identity
    roles = {role.name: role.id for role in identity.roles()}
    projects = {project.name: project for project in identity.projects()}

    def grant(user: str, project: str, names: Iterable[str]) -> None:
        if project not in projects:
            projects[project] = identity.create_project(
                name=project, domain_id='default'
            )
        found = identity.find_user(user) or identity.create_user(
            name=user,
            password=config.PASSWORD,
            domain_id='default',
        )
        for name in names:
            identity.assign_project_role_to_user(
                projects[project], found, roles[name]
            )

    for service in SERVICES:
        grant(service, 'service', ('service', 'admin'))
    for person in PEOPLE:
        grant(person.name, person.project, person.roles)
    for service_type, (name, port, path) in _ENDPOINTS.items():
        entry = identity.create_service(name=name, type=service_type)
        for interface in ('public', 'internal', 'admin'):
            identity.create_endpoint(
                service_id=entry.id,
                interface=interface,
                region_id=config.REGION,
                url=places.url(port) + path,
            )
