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
"""Read the pages that an audit reads, and do nothing with them.

What that costs is what an audit cannot go below.  It is a program of its own,
``python -m benchmarks.bare``, which finds the cloud in the environment, as
the command line clients do, and says how much it read.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import os
import time
from typing import Any

import requests

#: How long a page is.
LIMIT = 1000

#: What an audit reads: the service, what is listed, which of it, and the
#: microversion.
READ = (
    ('volumev3', 'volumes', '/volumes/detail', '', 'volume 3.27'),
    (
        'volumev3',
        'volumes',
        '/volumes/detail',
        '&status=available&attach_status=attached',
        'volume 3.27',
    ),
    (
        'volumev3',
        'volumes',
        '/volumes/detail',
        '&status=in-use&attach_status=detached',
        'volume 3.27',
    ),
    ('volumev3', 'attachments', '/attachments', '', 'volume 3.27'),
    ('compute', 'servers', '/servers/detail', '', 'compute 2.69'),
)


def log_in(session: requests.Session) -> dict[str, str]:
    """Get a token for a session.

    :returns: the public addresses in the catalog, by type of service
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
    answer = session.post(
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
    answer.raise_for_status()
    session.headers['X-Auth-Token'] = answer.headers['X-Subject-Token']
    return {
        entry['type']: endpoint['url']
        for entry in answer.json()['token']['catalog']
        for endpoint in entry['endpoints']
        if endpoint['interface'] == 'public'
    }


def pages(
    session: requests.Session, url: str, name: str, version: str
) -> Iterator[list[dict[str, Any]]]:
    """Read a list to its end.

    :param url: of the first page
    :param name: of what is listed
    :param version: the microversion
    """
    following = url
    while following:
        answer = session.get(
            following, headers={'OpenStack-API-Version': version}
        )
        answer.raise_for_status()
        body = answer.json()
        page: list[dict[str, Any]] = body[name]
        yield page
        if name != 'volumes':
            # Cinder has no links for attachments, and Nova's do not always
            # lead to the end.
            following = f'{url}&marker={page[-1]["id"]}' if page else ''
        else:
            links = body.get(f'{name}_links')
            following = links[0]['href'] if links else ''


def main() -> None:
    """Read it all; print how much of each it was, and the CPU time it took."""
    session = requests.Session()
    urls = log_in(session)
    read: dict[str, dict[str, float]] = {}
    for service, name, path, filters, version in READ:
        url = f'{urls[service]}{path}?all_tenants=1&limit={LIMIT}{filters}'
        begin = time.process_time()
        count = sum(map(len, pages(session, url, name, version)))
        cpu = time.process_time() - begin
        known = read.setdefault(name, {'count': 0, 'cpu': 0.0})
        known['count'] += count
        known['cpu'] += cpu
    print(json.dumps(read))


if __name__ == '__main__':
    main()
