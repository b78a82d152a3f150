# SPDX-License-Identifier: Apache-2.0

"""Run a real service in a separate process."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import typing

from attachguard.testing import server

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types

_ROOT = pathlib.Path(__file__).parents[3]


class NotStarted(Exception):
    """A service did not start; the message is the end of its log."""


def complete(module: str, settings: dict[str, typing.Any]) -> str:
    """Run a module of this package to its end.

    The configuration of a service is global: this one's is not changed.

    :param module: its name; its argument is the settings, as JSON
    :returns: what it printed
    """
    done = subprocess.run(
        [sys.executable, '-m', module, json.dumps(settings)],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@contextlib.contextmanager
def running(
    module: str,
    directory: pathlib.Path,
    settings: dict[str, typing.Any],
    *,
    timeout: float = 120,
) -> Iterator[str]:
    """Run a module of this package that serves an application.

    :param module: its name; it calls :func:`serve_until_closed`
    :param directory: directory for its files and its log
    :param settings: settings that it reads with :func:`read_settings`
    :param timeout: seconds to wait for its start
    :returns: a context manager that yields the address
    :raises NotStarted: it exits, or the timeout passes
    """
    log = directory / 'log'
    command = [sys.executable, '-m', f'{__package__}.{module}']
    settings = {'directory': str(directory), **settings}
    with (
        log.open('wb') as output,
        subprocess.Popen(
            [*command, json.dumps(settings, default=str)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], timeout)
            address = process.stdout.readline().strip() if ready else ''
            if not address:
                raise NotStarted(log.read_text(errors='replace')[-4000:])
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def read_settings() -> tuple[dict[str, typing.Any], typing.TextIO]:
    """Read, in the process, the settings of :func:`running`.

    :returns: the settings, and the file to write the address to
    """
    settings: dict[str, typing.Any] = json.loads(sys.argv[1])
    # The services also read the command line, and log to standard output.
    del sys.argv[1:]
    output = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    return settings, output


def serve_until_closed(
    application: wsgi_types.WSGIApplication, output: typing.TextIO
) -> None:
    """Serve, in the process, until standard input is closed.

    :param application: the WSGI application
    :param output: from :func:`read_settings`
    """
    with server.serve(application) as served:
        print(served.url, file=output, flush=True)
        sys.stdin.read()
