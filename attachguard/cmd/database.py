# SPDX-License-Identifier: Apache-2.0

"""What the commands that may use Cinder's database have in common."""

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
    from attachguard.audit.repair import sql

# Other users of the machine cannot see the environment.
_VARIABLE = 'ATTACHGUARD_DATABASE'


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
            url = _connection_of(parsed_args.cinder_conf)
        if url is None:
            yield None
            return
        try:
            from attachguard.audit.repair import sql
        except ImportError as exc:
            raise base.BadInput(
                f"{exc}: install it with: pip install 'attachguard[sql]', and "
                'install the driver that the URL names'
            ) from exc
        try:
            with sql.Database(url) as database:
                yield database
        except sql.DatabaseError as exc:
            raise rest.CloudError(str(exc)) from exc


def _connection_of(path: pathlib.Path) -> str:
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('connection', secret=True), group='database')
    try:
        conf([], default_config_files=[str(path)], default_config_dirs=[])
        url: str | None = conf.database.connection
    except cfg.Error as exc:
        raise base.BadInput(f'{path}: {exc}') from exc
    if not url:
        raise base.BadInput(f'{path} has no [database] connection')
    return url
