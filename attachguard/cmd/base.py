# SPDX-License-Identifier: Apache-2.0

"""What the commands that connect to a cloud have in common.

The same classes are commands of ``attachguard`` and of ``openstack``, which
has options to log in of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import signal
import sys
import textwrap
from typing import Any
from typing import IO
from typing import NoReturn
from typing import TYPE_CHECKING

from cliff import command
from cliff import lister
from keystoneauth1 import exceptions as ksa_exceptions

from attachguard.audit import confirmation
from attachguard.audit import files
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import rest
from attachguard.audit.repair import journal
from attachguard.cmd import progress

if TYPE_CHECKING:
    from openstack import connection as sdk_connection

#: The column with a script.
TO_DO = 'What to do'

#: As "nova-manage placement audit".
CLEAN, ERROR, FOUND, REPAIRED, BAD_INPUT = 0, 1, 3, 4, 127

_EXIT_CODES = """\
exit codes::

  0    nothing is wrong
  1    the command failed, or something is unknown or could not be repaired
  3    something is wrong; nothing was changed, or not everything is repaired
  4    something was wrong, and everything is repaired
  127  the command line, or a file that it names, is invalid
  130  the command was interrupted, by Ctrl-C or SIGTERM
"""

# What a spreadsheet takes for the start of a formula:
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ('=', '+', '-', '@', '\t', '\r')

# Columns of a terminal.
_WIDTH = 80

# Seconds for each call as a whole. keystoneauth's own, for each read, is 10
# minutes.
_TIMEOUT = 120


class BadInput(Exception):
    """The command line is invalid. The text says what to write instead."""


class CloudCommand(command.Command):
    """A command that logs in to a cloud."""

    #: For osc-lib: log in before the command runs.
    auth_required = True
    #: The exit code if no error is raised; take_action sets it.
    exit_code = ERROR

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command, and those to log in.

        Not the latter where the application has them, as ``openstack``.
        """
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        self.add_options(parser)
        parser.epilog = '\n\n'.join(filter(None, (parser.epilog, _EXIT_CODES)))
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.error = functools.partial(_fail, parser)  # type: ignore[method-assign]
        if not hasattr(self.app, 'client_manager'):
            # Without openstacksdk, the help must work nevertheless.
            with contextlib.suppress(ImportError):
                self._add_login_options(parser)
        return parser

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command.

        :param parser: the parser
        """

    def _add_login_options(self, parser: argparse.ArgumentParser) -> None:
        from openstack import config

        try:
            self._config = config.OpenStackConfig()
            self._config.register_argparse_arguments(
                parser, sys.argv[1:], service_keys=[]
            )
        except Exception as exc:
            # openstacksdk already reads clouds.yaml here, and raises many
            # kinds of exceptions if it is invalid.
            parser.error(str(exc))
        parser.set_defaults(timeout=_TIMEOUT)

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Run the command.

        :returns: the exit code
        """
        self._progress = progress.Progress(self.app.stderr or sys.stderr)
        try:
            with contextlib.ExitStack() as self._opened:
                self._opened.callback(self._progress.clear)
                self._opened.enter_context(_interrupted_by_sigterm())
                code: int = super().run(parsed_args)
                return code or self.exit_code
        except BadInput as exc:
            self._print(f'error: {exc}')
            return BAD_INPUT
        except (
            rest.CloudError,
            files.NotWrittenError,
            journal.JournalError,
            confirmation.StateError,
        ) as exc:
            self._print(f'error: {exc}')
            return ERROR
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            if self.app.options.debug:
                raise
            self._print(
                f'error: unexpected response of a service: {exc!r}; --debug '
                'shows the traceback'
            )
            return ERROR

    def _print(self, text: str) -> None:
        """Print to standard error, beside the output."""
        self._progress.clear()
        print(text, file=self.app.stderr or sys.stderr)

    def _log_in(self, parsed_args: argparse.Namespace) -> api.Cloud:
        """Log in to the cloud.

        :raises BadInput: no cloud is named
        :raises attachguard.audit.collect.rest.CloudError: login fails
        """
        cloud = self._cloud(parsed_args)
        cloud.log_in()
        return cloud

    def _cloud(self, parsed_args: argparse.Namespace) -> api.Cloud:
        """Return the cloud, before login.

        :raises BadInput: no cloud is named
        """
        cloud = api.Cloud(self._connection(parsed_args), timeout(parsed_args))
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
        try:
            from openstack import connection
            from openstack import exceptions as sdk_exceptions
        except ImportError as exc:
            raise extra_is_missing(exc) from exc
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
                f'cannot log in: {exc}; name a cloud of clouds.yaml with '
                '--os-cloud, or set OS_AUTH_URL, OS_USERNAME and so on'
            ) from exc


class ListCommand(CloudCommand, lister.Lister):
    """A command that lists what it found or did."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        """Print the list, in a form that is safe and of use in each format.

        :returns: the exit code
        """
        form = parsed_args.formatter
        if form == 'table' and not parsed_args.columns:
            for number, (title, *values) in enumerate(data, 1):
                item = dict(zip(column_names[1:], values))
                name = item.pop(f'{column_names[0]} name', None)
                title = f'{number}. {named(title, name)}'
                print_item(self.app.stdout, title, item)
            return 0
        if form in ('csv', 'value'):
            data = [[_one_line(cell) for cell in row] for row in data]
        if form == 'csv':
            data = [[_no_formula(cell) for cell in row] for row in data]
        code: int = super().produce_output(parsed_args, column_names, data)
        return code


def _no_formula(cell: object) -> object:
    """Return a cell that a spreadsheet does not run.

    Users choose the names of volumes, servers, hosts and devices.
    """
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return f"'{cell}"
    return cell


def _one_line(cell: object) -> object:
    """Return a cell in one line, a script without its comments."""
    if not isinstance(cell, str) or len(cell.splitlines()) < 2:
        return cell
    return ' '.join(
        line for line in cell.splitlines() if not line.startswith('#')
    )


def describe(evidence: model.Evidence) -> str:
    """Return a line for a call that was made.

    :param evidence: the call
    """
    words = (
        f'{evidence.at} {evidence.call}:',
        evidence.response,
        evidence.request_id or '-',
        evidence.result,
    )
    return ' '.join(filter(None, words))


def print_item(
    stream: IO[str], title: str, values: Mapping[str, object]
) -> None:
    """Print something for people, one value below the other.

    All fits a terminal but the script, which is whole, to be copied.

    :param title: of the item
    :param values: by label; empty ones are left out. A ``… name`` is printed
        beside what it names, and :data:`TO_DO` last
    """
    for line in textwrap.wrap(
        title, _WIDTH, subsequent_indent='   ', break_on_hyphens=False
    ):
        print(line, file=stream)
    shown = {
        label: named(value, values.get(f'{label} name'))
        for label, value in values.items()
        if value and label != TO_DO and not label.endswith(' name')
    }
    width = max(map(len, ('What is wrong', *shown)))
    for label, value in shown.items():
        lines = [
            part
            for line in value.splitlines()
            for part in textwrap.wrap(
                line, _WIDTH - width - 4, break_on_hyphens=False
            )
        ]
        for start, line in zip((label, *[''] * len(lines)), lines):
            print(f'   {start:<{width}} {line}', file=stream)
    to_do = values.get(TO_DO)
    print(f'   {TO_DO}:\n{to_do}\n' if to_do else '', file=stream)


def named(value: object, name: object) -> str:
    """Return an id with its name, if it is known."""
    return f'{value} ({name})' if name else str(value)


def timeout(parsed_args: argparse.Namespace) -> float:
    """Return the seconds for each call of an API, or read of a database."""
    return float(getattr(parsed_args, 'timeout', _TIMEOUT))


def extra_is_missing(exc: ImportError) -> BadInput:
    """Return the error where a package of the extra ``audit`` is missing.

    :param exc: raised by the import
    """
    return BadInput(
        f'{exc}: the audit needs more packages than the guard; install them '
        "with: pip install 'attachguard[audit]'"
    )


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does.

    A repair that is stopped has to unreserve the volume.  SIGINT and SIGHUP
    stay as they are: ignored in the background, and under nohup.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.print_usage(sys.stderr)
    parser.exit(BAD_INPUT, f'{parser.prog}: error: {message}\n')
