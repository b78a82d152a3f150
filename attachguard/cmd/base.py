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


"""What the commands that talk to a running cloud have in common.

They are commands of ``attachguard`` and, as the same classes, of
``openstack``, which brings its own options for logging in.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import functools
import gc
import hashlib
import os
import pathlib
import re
import sys
from typing import Any
from typing import IO
from typing import NoReturn
from typing import TYPE_CHECKING

from cliff import command
from oslo_config import cfg

from attachguard.audit import checks
from attachguard.audit import confirmation
from attachguard.audit import files
from attachguard.audit import foreign
from attachguard.audit import runner
from attachguard.audit.collect import api
from attachguard.audit.collect import inventory
from attachguard.audit.collect import rest
from attachguard.audit.repair import journal
from attachguard.guard import request as guard_request

if TYPE_CHECKING:
    from openstack import connection as sdk_connection

    from attachguard.audit.repair import sql

#: As placement-manage's audit: https://docs.openstack.org/nova/latest/cli/
CLEAN, ERROR, FOUND, REPAIRED, BAD_INPUT = 0, 1, 3, 4, 127

EXIT_CODES = """\
exit codes:
  0    nothing is wrong
  1    the audit failed, or something could not be found out or repaired
  3    something is wrong; nothing was changed, or not all of it is repaired
  4    something was wrong, and all of it is repaired
  127  the command line, or a file that it names, makes no sense
"""

# Seconds, for each connect and each read.
_TIMEOUT = 120

# In the environment, which others on the machine do not see.
_DATABASE = 'ATTACHGUARD_DATABASE'

_DURATION = re.compile(r'(\d+)\s*([smhd]?)')
_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400, '': 1}


class BadInput(Exception):
    """What was asked for makes no sense. The text says what would."""


class CloudCommand(command.Command):
    """A command that logs in to a cloud."""

    #: Of osc-lib: to log in before the command is run.
    auth_required = True

    _missing: ImportError | None = None

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the command's own options, and how to log in.

        Not where the application has done so, as ``openstack`` does.
        """
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        self.add_options(parser)
        parser.epilog = '\n\n'.join(
            text for text in (parser.epilog, EXIT_CODES) if text
        )
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.error = functools.partial(_fail, parser)  # type: ignore[method-assign]
        if not hasattr(self.app, 'client_manager'):
            try:
                from openstack import config

                self._config = config.OpenStackConfig()
                self._config.register_argparse_arguments(
                    parser, sys.argv[1:], service_keys=[]
                )
            except ImportError as exc:
                # Its help can be had all the same.
                self._missing = exc
            except Exception as exc:
                # openstacksdk reads clouds.yaml already here, and has many
                # ways to find something wrong in it.
                parser.error(str(exc))
            # keystoneauth's own is ten minutes.
            parser.set_defaults(timeout=_TIMEOUT)
        return parser

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what this command can be told.

        :param parser: to add it to
        """

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: the exit code
        """
        try:
            with contextlib.ExitStack() as self._opened:
                code: int = super().run(parsed_args)
        except BadInput as exc:
            self._say(f'error: {exc}')
            return BAD_INPUT
        except (
            rest.CloudError,
            files.NotWrittenError,
            journal.JournalError,
            confirmation.StateError,
        ) as exc:
            self._say(f'error: {exc}')
            return ERROR
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            if self.app.options.debug:
                raise
            self._say(
                f'error: an answer made no sense: {exc!r}; --debug shows where'
            )
            return ERROR
        return code

    def _say(self, text: str) -> None:
        """Tell a person, beside the output."""
        print(text, file=self.app.stderr or sys.stderr)

    def _cloud(self, parsed_args: argparse.Namespace) -> api.Cloud:
        """The cloud, not logged in to yet.

        :raises BadInput: where there is none
        """
        cloud = api.Cloud(
            self._connection(parsed_args),
            float(getattr(parsed_args, 'timeout', _TIMEOUT)),
        )
        self._opened.callback(cloud.close)
        return cloud

    def _connection(
        self, parsed_args: argparse.Namespace
    ) -> sdk_connection.Connection:
        if hasattr(self.app, 'client_manager'):
            given: sdk_connection.Connection = (
                self.app.client_manager.sdk_connection
            )
            return given
        if self._missing is not None:
            raise BadInput(more_is_needed(self._missing))
        from keystoneauth1 import exceptions as ksa_exceptions
        from openstack import connection
        from openstack import exceptions as sdk_exceptions

        try:
            return connection.Connection(
                config=self._config.get_one(argparse=parsed_args),
                app_name='attachguard',
            )
        except (
            sdk_exceptions.SDKException,
            ksa_exceptions.ClientException,
            TypeError,
            ValueError,
        ) as exc:
            raise BadInput(
                f'no cloud to log in to: {exc}; name one of clouds.yaml with '
                '--os-cloud, or set OS_AUTH_URL, OS_USERNAME and so on'
            ) from exc


class DatabaseCommand(CloudCommand):
    """A command that can work in Cinder's database."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add where it is."""
        super().add_options(parser)
        database = parser.add_argument_group("Cinder's database")
        database.add_argument(
            '--database',
            metavar='URL',
            default=os.environ.get(_DATABASE),
            help="as Cinder's [database] connection; others on this machine "
            f'can see a command line, so rather set {_DATABASE}, or use '
            '--cinder-conf',
        )
        database.add_argument(
            '--cinder-conf',
            metavar='FILE',
            type=pathlib.Path,
            help='the cinder.conf to read [database] connection from',
        )

    @contextlib.contextmanager
    def _database(
        self, parsed_args: argparse.Namespace
    ) -> Iterator[sql.Database | None]:
        """Open the database; None where none is named.

        :raises attachguard.audit.repair.sql.DatabaseError: where that fails
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
            raise BadInput(
                f"{exc}: install it with: pip install 'attachguard[sql]', and "
                'the driver that the URL names'
            ) from exc
        try:
            with sql.Database(url) as database:
                yield database
        except sql.DatabaseError as exc:
            raise rest.CloudError(str(exc)) from exc


class JudgingCommand(CloudCommand):
    """A command that tells Nova's attachments from others."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what is foreign."""
        super().add_options(parser)
        apart = parser.add_argument_group('what to leave alone')
        apart.add_argument(
            '--foreign-pattern',
            metavar='KEY=PATTERN',
            action='append',
            default=[],
            type=_pattern,
            help='attachments that are none of Nova\'s: a shell pattern for '
            f'one of {", ".join(foreign.KEYS)}, such as host=k8s*; may be '
            'repeated',
        )
        apart.add_argument(
            '--compute-host',
            metavar='HOST',
            action='append',
            default=[],
            help='a compute host that Nova does not list any more, so that '
            'what was attached there is not taken for foreign; may be '
            'repeated',
        )

    @contextlib.contextmanager
    def _inventory(
        self, cloud: api.Cloud, parsed_args: argparse.Namespace
    ) -> Iterator[inventory.Inventory]:
        """Prepare to read a cloud, with progress where somebody looks."""
        patterns: dict[str, list[str]] = {}
        for key, pattern in parsed_args.foreign_pattern:
            patterns.setdefault(key, []).append(pattern)
        with (
            _little_garbage(),
            progress(self.app.stderr or sys.stderr) as tell,
            inventory.Inventory(
                cloud, patterns, parsed_args.compute_host, tell
            ) as read,
        ):
            yield read


class SelectingCommand(JudgingCommand):
    """A command that looks for inconsistent volumes."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what to look for."""
        super().add_options(parser)
        narrow = parser.add_argument_group('what to look for')
        for name, what in (
            ('volume', 'this volume'),
            ('server', 'the volumes of this server'),
            ('project', 'volumes of this project'),
        ):
            narrow.add_argument(
                f'--{name}',
                metavar='ID',
                dest=f'{name}s',
                action='append',
                default=[],
                help=f'only {what}; may be repeated',
            )
        narrow.add_argument(
            '--class',
            dest='classes',
            action='append',
            default=[],
            choices=checks.CLASSES,
            metavar='CLASS',
            help='only this class, one of: '
            f'{", ".join(checks.CLASSES)}; may be repeated',
        )
        narrow.add_argument(
            '--older-than',
            metavar='DURATION',
            type=duration,
            help='only what Cinder recorded at least that long ago: 90s, 15m, '
            '12h, 3d',
        )
        twice = parser.add_argument_group('when a finding counts')
        twice.add_argument(
            '--once',
            action='store_true',
            help='look at each finding twice now, and neither read nor write '
            'a state file',
        )
        twice.add_argument(
            '--settle',
            metavar='DURATION',
            type=duration,
            default=duration('1m'),
            help='with --once, how long to wait between the two looks: longer '
            'than an attach, a detach and a server create take (default: 1m)',
        )
        twice.add_argument(
            '--min-age',
            metavar='DURATION',
            type=duration,
            default=duration('10m'),
            help='a finding counts when an earlier audit has seen it, at '
            'least that long ago (default: 10m)',
        )
        twice.add_argument(
            '--state-file',
            metavar='FILE',
            type=pathlib.Path,
            help='what earlier audits have seen (default: one for each cloud '
            'in $XDG_STATE_HOME/attachguard)',
        )

    def _selection(self, parsed_args: argparse.Namespace) -> runner.Selection:
        """Read what to look for.

        :raises BadInput: where an id is none
        """
        return runner.Selection(
            frozenset(map(uuid_of('volume'), parsed_args.volumes)),
            frozenset(map(uuid_of('server'), parsed_args.servers)),
            frozenset(parsed_args.projects),
            frozenset(parsed_args.classes),
            parsed_args.older_than,
        )

    def _audit(
        self,
        cloud: api.Cloud,
        inventory: inventory.Inventory,
        selection: runner.Selection,
        parsed_args: argparse.Namespace,
    ) -> runner.Audit:
        """Prepare an audit."""
        return runner.Audit(
            cloud,
            inventory,
            selection,
            self._state(cloud, parsed_args),
            parsed_args.min_age,
            parsed_args.settle,
        )

    def _state(
        self, cloud: api.Cloud, parsed_args: argparse.Namespace
    ) -> confirmation.StateFile | None:
        if parsed_args.once:
            return None
        path = parsed_args.state_file
        if path is None:
            digest = hashlib.sha256(cloud.identity.encode()).hexdigest()[:16]
            path = state_directory() / f'audit-{digest}.json'
        return confirmation.StateFile(path, cloud.identity)


def state_directory() -> pathlib.Path:
    """Where what lasts from one run to the next is kept.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    home = os.environ.get('XDG_STATE_HOME') or '~/.local/state'
    return pathlib.Path(home).expanduser() / 'attachguard'


def duration(text: str) -> datetime.timedelta:
    """Read a duration.

    :param text: a number and s, m, h or d
    :raises argparse.ArgumentTypeError: where it is none
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no duration: write 90s, 15m, 12h or 3d'
        )
    try:
        return datetime.timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise argparse.ArgumentTypeError(f'{text!r} is too long') from None


def uuid_of(what: str) -> Callable[[str], str]:
    """Read ids, which become part of addresses.

    :param what: whose ids
    """

    def read(text: str) -> str:
        found = guard_request.canonical_uuid(text)
        if found is None:
            raise BadInput(
                f'{text!r} is no id of a {what}: give its UUID, not its name'
            )
        return found

    return read


@contextlib.contextmanager
def progress(stream: IO[str]) -> Iterator[Callable[[str, int], None]]:
    """Show what is being read, on a terminal; nothing elsewhere.

    :param stream: where to
    :returns: what to call with what is read, and how much more of it
    """
    if not stream.isatty():
        yield lambda what, count: None
        return
    import tqdm

    bars: dict[str, Any] = {}

    def tell(what: str, count: int) -> None:
        if what not in bars:
            bars[what] = tqdm.tqdm(
                desc=f'{what:>11}', unit='', file=stream, leave=False
            )
        bars[what].update(count)

    try:
        yield tell
    finally:
        for bar in bars.values():
            bar.close()


@contextlib.contextmanager
def _little_garbage() -> Iterator[None]:
    """Collect garbage less often, while lists are read.

    What is loaded by then stays, and in a page nothing refers to what it is
    in: there is little to look for. Afterwards what was left is collected as
    ever, in a process that runs one command after the other.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _connection_of(path: pathlib.Path) -> str:
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('connection', secret=True), group='database')
    try:
        conf([], default_config_files=[str(path)], default_config_dirs=[])
        url: str | None = conf.database.connection
    except cfg.Error as exc:
        raise BadInput(f'{path}: {exc}') from exc
    if not url:
        raise BadInput(f'{path} has no [database] connection')
    return url


def more_is_needed(exc: ImportError) -> str:
    """What to say where a package is missing.

    :param exc: what Python says
    """
    return (
        f'{exc}: the audit needs more than the guard does; install it with: '
        "pip install 'attachguard[audit]'"
    )


def _pattern(text: str) -> tuple[str, str]:
    key, equals, pattern = text.partition('=')
    if not equals or not pattern or key not in foreign.KEYS:
        raise argparse.ArgumentTypeError(
            f'{text!r}: write KEY=PATTERN, with one of '
            f'{", ".join(foreign.KEYS)}'
        )
    return key, pattern


def _fail(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.print_usage(sys.stderr)
    parser.exit(BAD_INPUT, f'{parser.prog}: error: {message}\n')
