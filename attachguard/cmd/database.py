# SPDX-License-Identifier: Apache-2.0

"""What the commands that may use databases have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import os
import pathlib
from typing import TYPE_CHECKING

from oslo_config import cfg

from attachguard.audit.collect import rest
from attachguard.cmd import base

if TYPE_CHECKING:
    from attachguard.audit.collect import reader
    from attachguard.audit.repair import sql

# Other users of the machine cannot see the environment.
_VARIABLE = 'ATTACHGUARD_DATABASE'
_INVENTORY = {
    'cinder': 'ATTACHGUARD_CINDER_DATABASE',
    'nova': 'ATTACHGUARD_NOVA_DATABASE',
}


class DatabaseCommand(base.CloudCommand):
    """A command that can change Cinder's database."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add where the database is."""
        super().add_options(parser)
        group = parser.add_argument_group("Cinder's database")
        group.add_argument(
            '--database',
            metavar='URL',
            default=os.environ.get(_VARIABLE),
            help='URL of the database, as in [database] connection of '
            'cinder.conf. Other users of this machine can see it on the '
            f'command line: prefer the variable {_VARIABLE}, or '
            '--cinder-conf.',
        )
        group.add_argument(
            '--cinder-conf',
            metavar='FILE',
            type=pathlib.Path,
            help='Read [database] connection from this cinder.conf.',
        )

    @contextlib.contextmanager
    def _database(
        self, parsed_args: argparse.Namespace
    ) -> Iterator[sql.Database | None]:
        """Open the database; None if none is named.

        :raises attachguard.audit.collect.rest.CloudError: it cannot be used
        """
        url = parsed_args.database
        if parsed_args.cinder_conf is not None:
            url = _connection_of(parsed_args.cinder_conf, 'database')
        if url is None:
            yield None
            return
        try:
            from attachguard.audit import engine
            from attachguard.audit.repair import sql
        except ImportError as exc:
            raise _extra_is_missing(exc) from exc
        try:
            with sql.Database(url) as database:
                yield database
        except engine.DatabaseError as exc:
            raise rest.CloudError(str(exc)) from exc


def from_variable(parsed_args: argparse.Namespace) -> bool:
    """Whether the environment names the database, or nothing does."""
    return bool(parsed_args.database == os.environ.get(_VARIABLE))


def add_inventory_options(parser: argparse.ArgumentParser) -> None:
    """Add where the databases of both services are.

    :param parser: the parser
    """
    group = parser.add_argument_group(
        'databases',
        'Read the lists from the databases of Cinder and Nova, or from '
        'replicas, and not from the APIs. Suspects are still confirmed by the '
        'APIs. Other users of this machine can see a URL on the command line: '
        'prefer the variables, or the files.',
    )
    for service, what in (
        ('cinder', '[database] connection of cinder.conf'),
        ('nova', '[api_database] connection of nova.conf'),
    ):
        group.add_argument(
            f'--{service}-database',
            metavar='URL',
            default=os.environ.get(_INVENTORY[service]),
            help=f'URL of the database, as in {what} (default: the variable '
            f'{_INVENTORY[service]}).',
        )
        group.add_argument(
            f'--{service}-conf',
            metavar='FILE',
            type=pathlib.Path,
            help=f'Read {what} from this file, unless '
            f'--{service}-database is given.',
        )
    group.add_argument(
        '--nova-cell-database',
        metavar='CELL=URL',
        action='append',
        default=[],
        type=_cell,
        help='URL of the database of a cell, by its name or UUID, if it is '
        "not the one of Nova's cell mappings. Can be repeated.",
    )


def inventory(parsed_args: argparse.Namespace) -> reader.Lists | None:
    """Return the databases to read an inventory from; None for the APIs.

    :raises BadInput: one of them is not named, or a file cannot be read
    """
    cinder, nova_api = parsed_args.cinder_database, parsed_args.nova_database
    nova = None
    if parsed_args.cinder_conf is not None and cinder is None:
        cinder = _connection_of(parsed_args.cinder_conf, 'database')
    if parsed_args.nova_conf is not None:
        if nova_api is None:
            nova_api = _connection_of(parsed_args.nova_conf, 'api_database')
        nova = _read(parsed_args.nova_conf, 'database')
    cells = dict(parsed_args.nova_cell_database)
    if cinder is None and nova_api is None and not cells:
        return None
    if cinder is None or nova_api is None:
        missing = 'cinder' if cinder is None else 'nova'
        raise base.BadInput(
            'an inventory from the databases needs those of both services: '
            f'add --{missing}-database or --{missing}-conf'
        )
    try:
        from attachguard.audit.collect import databases
    except ImportError as exc:
        raise _extra_is_missing(exc) from exc
    return databases.Databases(
        databases.Urls(cinder, nova_api, nova, cells),
        base.timeout(parsed_args),
    )


def _cell(text: str) -> tuple[str, str]:
    name, equals, url = text.partition('=')
    if not (name and equals and url):
        # The text may contain a password.
        raise argparse.ArgumentTypeError('write CELL=URL')
    return name, url


def _extra_is_missing(exc: ImportError) -> base.BadInput:
    return base.BadInput(
        f"{exc}: install it with: pip install 'attachguard[sql]', and "
        'install the driver that the URL names'
    )


def _connection_of(path: pathlib.Path, group: str) -> str:
    url = _read(path, group)
    if not url:
        raise base.BadInput(f'{path} has no [{group}] connection')
    return url


def _read(path: pathlib.Path, group: str) -> str | None:
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('connection', secret=True), group=group)
    try:
        conf([], default_config_files=[str(path)], default_config_dirs=[])
        url: str | None = conf[group].connection
    except cfg.Error as exc:
        raise base.BadInput(f'{path}: {exc}') from exc
    return url
