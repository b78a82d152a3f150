# SPDX-License-Identifier: Apache-2.0

"""``attachguard demo``: try the guard before you install it."""

from __future__ import annotations

import argparse
import contextlib
from importlib import metadata
from importlib import util
import logging
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
from typing import TextIO

from cliff import command

LOG = logging.getLogger(__name__)

_NEEDED = (
    'cinder',
    'cinderclient',
    'eventlet',
    'novaclient',
    'openstack',
    'waitress',
)


class Demo(command.Command):
    """Show forged volume attachments without the guard and with it.

    The command starts two clouds on loopback ports. Each consists of the real
    Cinder and stubs of Keystone and Nova. Only one of them has the guard. In
    each, an ordinary user forges volume attachments with the real clients. A
    table compares the responses, and the records of Cinder and Nova after
    each call. Then an administrator finds and frees the forged volume with
    "attachguard audit" and "attachguard repair". The command does not connect
    to any other cloud.

    examples::

      attachguard demo
      attachguard demo --serve

    exit codes::

      0  the guard refused the forged attachments, and the audit found one
      1  it did not, or the demo could not run
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the command's own options."""
        parser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            '--serve',
            action='store_true',
            help='Keep both clouds running until Ctrl-C, and print commands '
            'to try.',
        )
        parser.add_argument(
            '--keep-logs',
            metavar='DIR',
            type=pathlib.Path,
            help='Keep the configuration, logs and databases of both clouds '
            'in this directory.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Run the demonstration.

        :returns: 0 if the guard works, else 1
        """
        missing = [name for name in _NEEDED if util.find_spec(name) is None]
        if missing:
            LOG.error(
                'The demo needs %s. To install its requirements:\n'
                "    pip install 'attachguard[demo]'",
                ', '.join(missing),
            )
            return 1
        # The warnings are about options and a cache that stubs do not need.
        logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
        with contextlib.ExitStack() as stack:
            directory = parsed_args.keep_logs or pathlib.Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix='attachguard-demo-')
                )
            )
            return self._run(directory, parsed_args.serve)

    def _run(self, directory: pathlib.Path, serve: bool) -> int:
        # take_action has checked that these can be imported.
        from attachguard.testing import embedded
        from attachguard.testing.demo import cleanup
        from attachguard.testing.demo import clouds
        from attachguard.testing.demo import next_steps
        from attachguard.testing.demo import report
        from attachguard.testing.demo import story

        # All services are on loopback; they need no proxy.
        os.environ.update(no_proxy='*', NO_PROXY='*')
        # Both signals end the command by way of the exit stack, even if the
        # shell made it ignore SIGINT.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        started = time.monotonic()
        LOG.info(
            'Starting two clouds: cinder=%s',
            metadata.version('cinder'),
        )
        with contextlib.ExitStack() as stack:
            try:
                running = stack.enter_context(clouds.Clouds(directory))
            except embedded.CinderNotStarted as exc:
                LOG.error('%s', exc)
                return 1
            seconds = time.monotonic() - started
            LOG.info('Started the clouds: seconds=%.1f', seconds)
            LOG.info('Making the calls without the guard')
            unguarded = story.Story(running.without_guard)
            without = unguarded.run()
            LOG.info('Making the calls with the guard')
            guarded = story.Story(running.with_guard).run()
            LOG.info('Freeing the forged volume without the guard')
            freed = cleanup.run(running.without_guard, unguarded, directory)
            seconds = time.monotonic() - started
            LOG.info('Finished: seconds=%.1f\n', seconds)

            out = self.app.stdout
            width = _terminal_width(out)
            out.write(report.render(without, guarded, freed, width))
            if serve:
                out.write(next_steps.render(running))
                out.flush()
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait()
                LOG.info('Stopping the clouds')
        return 0 if report.is_successful(without, guarded, freed) else 1


def _terminal_width(stream: TextIO) -> int | None:
    return shutil.get_terminal_size().columns if stream.isatty() else None
