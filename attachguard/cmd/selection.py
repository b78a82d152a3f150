# SPDX-License-Identifier: Apache-2.0

"""What the commands that audit volumes have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import hashlib
import pathlib

from attachguard.audit import classes
from attachguard.audit import confirmation
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory
from attachguard.audit.collect import reader
from attachguard.audit.repair import advice
from attachguard.cmd import base
from attachguard.cmd import options
from attachguard.cmd import state


class InventoryCommand(base.CloudCommand):
    """A command that reads volumes, attachments and servers."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which attachments are foreign."""
        super().add_options(parser)
        group = parser.add_argument_group('foreign attachments')
        group.add_argument(
            '--foreign-pattern',
            metavar='KEY=PATTERN',
            action='append',
            default=[],
            type=options.foreign_pattern,
            help='Ignore attachments that match: Nova did not create them. '
            f'KEY is one of {", ".join(foreign.KEYS)}; PATTERN is a shell '
            'pattern, as in host=k8s*. Can be repeated.',
        )
        group.add_argument(
            '--compute-host',
            metavar='HOST',
            action='append',
            default=[],
            help='A compute host that Nova no longer lists: what was attached '
            'there is not foreign. Can be repeated.',
        )

        parser.add_argument(
            '--stuck-after',
            metavar='DURATION',
            type=options.duration,
            default='2h',
            help='An operation of Cinder or Nova is stuck if nothing has '
            'changed for so long (default: %(default)s).',
        )

    @contextlib.contextmanager
    def _inventory(
        self,
        cloud: api.Cloud,
        parsed_args: argparse.Namespace,
        lists: reader.Lists | None = None,
    ) -> Iterator[inventory.Inventory]:
        """Prepare to read a cloud, and show the progress.

        :param lists: of its resources; None for those of the APIs
        """
        patterns: dict[str, list[str]] = {}
        for key, pattern in parsed_args.foreign_pattern:
            patterns.setdefault(key, []).append(pattern)
        with inventory.Inventory(
            cloud,
            patterns,
            parsed_args.compute_host,
            parsed_args.stuck_after,
            self._progress,
            lists,
        ) as opened:
            yield opened
        self._progress.clear()

    def _warn(self, read: inventory.Inventory) -> None:
        """Print why an inventory looks wrong, and what it leaves open."""
        for doubt in read.doubts:
            self._print(f'warning: {doubt}')
        for item in read.unchecked:
            self._print(f'warning: not checked: {item}')

    @staticmethod
    def _shell(
        cloud: api.Cloud, parsed_args: argparse.Namespace
    ) -> advice.Shell:
        """Return how to write commands for this cloud."""
        words: list[str] = []
        for key, pattern in parsed_args.foreign_pattern:
            words += ['--foreign-pattern', f'{key}={pattern}']
        for host in parsed_args.compute_host:
            words += ['--compute-host', host]
        if parsed_args.stuck_after != model.STUCK_AFTER:
            seconds = int(parsed_args.stuck_after.total_seconds())
            words += ['--stuck-after', f'{seconds}s']
        return advice.Shell(cloud.login, tuple(words))


class SelectingCommand(InventoryCommand):
    """A command that finds inconsistent volumes."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add which volumes to audit, and when a finding is confirmed."""
        super().add_options(parser)
        group = parser.add_argument_group('which volumes to audit')
        for name, what in (
            ('volume', 'this volume'),
            ('server', 'the volumes of this server'),
            ('project', 'the volumes of this project'),
        ):
            group.add_argument(
                f'--{name}',
                metavar='ID',
                dest=f'{name}s',
                action='append',
                default=[],
                type=str if name == 'project' else options.uuid,
                help=f'Audit only {what}. Can be repeated.',
            )
        group.add_argument(
            '--class',
            dest='classes',
            action='append',
            default=[],
            choices=classes.CLASSES,
            metavar='CLASS',
            help='Find only this class of inconsistency, one of: '
            f'{", ".join(classes.CLASSES)}. Can be repeated.',
        )
        group.add_argument(
            '--older-than',
            metavar='DURATION',
            type=options.duration,
            help='Find only what Cinder recorded at least this long ago: 90s, '
            '15m, 12h, 3d.',
        )
        group = parser.add_argument_group('when a finding is confirmed')
        group.add_argument(
            '--once',
            action='store_true',
            help='Check each finding twice in this run, and use no state '
            'file. So it is with --volume and --server.',
        )
        group.add_argument(
            '--settle',
            metavar='DURATION',
            type=options.duration,
            default='1m',
            help='With --once: the time between the two checks, longer than '
            'an attach, a detach and a server create take (default: '
            '%(default)s).',
        )
        group.add_argument(
            '--min-age',
            metavar='DURATION',
            type=options.duration,
            default='10m',
            help='A finding is confirmed if an earlier audit found it, at '
            'least this long ago (default: %(default)s).',
        )
        group.add_argument(
            '--state-file',
            metavar='FILE',
            type=pathlib.Path,
            help='The findings of earlier audits (default: one file for each '
            'cloud in $XDG_STATE_HOME/attachguard).',
        )

    @staticmethod
    def _selection(parsed_args: argparse.Namespace) -> runner.Selection:
        """Return what to audit."""
        return runner.Selection(
            frozenset(parsed_args.volumes),
            frozenset(parsed_args.servers),
            frozenset(parsed_args.projects),
            frozenset(parsed_args.classes),
            parsed_args.older_than,
        )

    def _wait(self, seconds: float, number: int) -> None:
        """Wait before the second check, and show how long still."""
        self._progress.wait(f'suspects: {number}; second check', seconds)

    def _audit(
        self,
        cloud: api.Cloud,
        read: inventory.Inventory,
        parsed_args: argparse.Namespace,
    ) -> runner.Audit:
        """Prepare an audit."""
        state_file = None
        selection = self._selection(parsed_args)
        if not (parsed_args.once or selection.few):
            digest = hashlib.sha256(cloud.identity.encode()).hexdigest()[:16]
            state_file = confirmation.StateFile(
                parsed_args.state_file
                or state.directory() / f'audit-{digest}.json',
                cloud.identity,
            )
        return runner.Audit(
            cloud,
            read,
            selection,
            state_file,
            parsed_args.min_age,
            parsed_args.settle,
            self._shell(cloud, parsed_args),
            self._wait,
            self._progress,
        )
