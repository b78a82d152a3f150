# SPDX-License-Identifier: Apache-2.0
"""Start and remove a whole cloud: ``python -m tests.cloud up | down``."""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import yaml

from tests.cloud import backends
from tests.cloud import cloud as clouds
from tests.cloud import config
from tests.cloud import identity
from tests.cloud import mode as modes
from tests.cloud import processes

_MODES = {
    'enforced': modes.ENFORCED,
    'shadow': modes.SHADOW,
    'unguarded': modes.UNGUARDED,
    'no-service-token': modes.PRESET_NO_TOKEN,
}


def _write_credentials(cloud: clouds.Cloud) -> str:
    """Write clouds.yaml and an openrc for everybody; say how to use them."""
    places = cloud.places
    clouds_yaml = cloud.directory / 'clouds.yaml'
    clouds_yaml.write_text(yaml.safe_dump(clouds.describe(places)))
    for person in identity.PEOPLE:
        values = {
            'OS_AUTH_URL': places.keystone_url,
            'OS_IDENTITY_API_VERSION': '3',
            'OS_USERNAME': person.name,
            'OS_PASSWORD': config.PASSWORD,
            'OS_PROJECT_NAME': person.project,
            'OS_USER_DOMAIN_NAME': 'Default',
            'OS_PROJECT_DOMAIN_NAME': 'Default',
            'OS_REGION_NAME': config.REGION,
        }
        (cloud.directory / f'openrc-{person.name}').write_text(
            ''.join(f'export {name}={v}\n' for name, v in values.items())
        )
    names = ', '.join(person.name for person in identity.PEOPLE)
    openstack = pathlib.Path(sys.prefix, 'bin', 'openstack')
    return f"""
To log in as member (or one of {names}):

    export OS_CLIENT_CONFIG_FILE={clouds_yaml} OS_CLOUD=member
    {openstack} volume list

or:

    . {cloud.directory}/openrc-member

The logs are in {cloud.directory}/log, cinder.conf and api-paste.ini in
{places.etc('cinder')}. "make cloud-down" removes all of it.
"""


def main() -> int:
    """Do what the command line says.

    :returns: exit code: 1 if a service does not start or one is missing
    """
    parser = argparse.ArgumentParser(
        prog='python -m tests.cloud', description=__doc__
    )
    parser.add_argument(
        '--directory',
        type=pathlib.Path,
        default=pathlib.Path('.cloud/dev'),
        help='where the cloud lives (default: %(default)s)',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    up = commands.add_parser(
        'up',
        help='start what does not run; an existing cloud changes its mode',
    )
    up.add_argument(
        '--mode',
        choices=_MODES,
        default='enforced',
        help='what the guard does (default: %(default)s)',
    )
    commands.add_parser('down', help='stop it, and remove every trace')
    commands.add_parser('status', help='say which processes run')
    args = parser.parse_args()
    started = time.monotonic()

    def progress(what: str) -> None:
        print(f'{time.monotonic() - started:5.1f} s  {what}', flush=True)

    cloud = clouds.Cloud(args.directory, progress)
    if args.command == 'down':
        cloud.down()
        return 0
    if args.command == 'status':
        running = list(cloud.processes.find())
        for process in running:
            name = process.environ()[processes.SERVICE_MARK]
            print(f'{process.pid:8} {name}')
        return 0 if running else 1
    try:
        cloud.up(_MODES[args.mode])
    except (backends.Missing, processes.Failed) as exc:
        print(exc, file=sys.stderr)
        print('"down" removes what was started.', file=sys.stderr)
        return 1
    progress('up')
    print(_write_credentials(cloud))
    return 0


if __name__ == '__main__':
    sys.exit(main())
