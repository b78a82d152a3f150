# SPDX-License-Identifier: Apache-2.0
"""Read the lists of a cloud, and discard them.

It is the peer of the audit, which leaves out available volumes, and compares
the rest. ``python -m benchmarks.plain_reading`` reads the ``OS_*`` variables
as the command line clients do, and prints how many things of each kind it has
read.
"""

from __future__ import annotations

import json
import os

import requests

#: The length of a page.
LIMIT = 1000

#: The service, the list, its path and the microversion.
READ = (
    ('volumev3', 'volumes', '/volumes/detail', 'volume 3.27'),
    ('volumev3', 'attachments', '/attachments', 'volume 3.27'),
    ('compute', 'servers', '/servers/detail', 'compute 2.69'),
)


def log_in(session: requests.Session) -> dict[str, str]:
    """Get a token, and add it to a session.

    :returns: the public endpoints of the catalog, by type of service
    """
    domain = {'id': os.environ['OS_USER_DOMAIN_ID']}
    user = {
        'name': os.environ['OS_USERNAME'],
        'password': os.environ['OS_PASSWORD'],
        'domain': domain,
    }
    project = {
        'name': os.environ['OS_PROJECT_NAME'],
        'domain': {'id': os.environ['OS_PROJECT_DOMAIN_ID']},
    }
    response = session.post(
        f'{os.environ["OS_AUTH_URL"]}/auth/tokens',
        json={
            'auth': {
                'identity': {
                    'methods': ['password'],
                    'password': {'user': user},
                },
                'scope': {'project': project},
            }
        },
    )
    response.raise_for_status()
    session.headers['X-Auth-Token'] = response.headers['X-Subject-Token']
    return {
        entry['type']: endpoint['url']
        for entry in response.json()['token']['catalog']
        for endpoint in entry['endpoints']
        if endpoint['interface'] == 'public'
    }


def read(session: requests.Session, url: str, name: str, version: str) -> int:
    """Read a list to its end.

    :param url: the URL of the first page
    :param name: the name of the list in a response
    :param version: the microversion
    :returns: the number of its items
    """
    count = 0
    following = url
    while following:
        response = session.get(
            following, headers={'OpenStack-API-Version': version}
        )
        response.raise_for_status()
        body = response.json()
        page = body[name]
        count += len(page)
        if name == 'volumes':
            links = body.get('volumes_links')
            following = links[0]['href'] if links else ''
        else:
            # Cinder sends no links for attachments, and Nova's links do not
            # always lead to the end.
            following = f'{url}&marker={page[-1]["id"]}' if page else ''
    return count


def main() -> None:
    """Read every list, and print the number of items."""
    session = requests.Session()
    urls = log_in(session)
    counts: dict[str, int] = {}
    for service, name, path, version in READ:
        url = f'{urls[service]}{path}?all_tenants=1&limit={LIMIT}'
        count = read(session, url, name, version)
        counts[name] = counts.get(name, 0) + count
    print(json.dumps(counts))


if __name__ == '__main__':
    main()
