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

"""``attachguard demo``: show what the guard does, before it is installed."""

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

_NEEDED = ('cinder', 'cinderclient', 'eventlet', 'novaclient', 'waitress')


class Demo(command.Command):
    """Show a forged volume attachment, without the guard and with it.

    Starts the real Block Storage API twice, on loopback ports and databases
    of its own, with stubs of Keystone and Nova. With the real clients, an
    ordinary user then makes the calls after which Cinder records a volume as
    attached though Nova did not attach it. A table shows the result without
    the guard and with it. The demo uses no cloud of yours.

    examples::

      attachguard demo
      attachguard demo --serve

    exit codes::

      0  the guard refused what it has to refuse
      1  it did not, or the demo could not run
      2  the command line is wrong
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the options of the command."""
        parser = super().get_parser(prog_name)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.add_argument(
            '--serve',
            action='store_true',
            help='Keep both clouds running until Ctrl-C, and show commands to '
            'try.',
        )
        parser.add_argument(
            '--keep-logs',
            metavar='DIR',
            type=pathlib.Path,
            help='Keep the configuration, log and database of both Cinders in '
            'this directory.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Run the demo.

        :returns: 0 if the guard did what it has to do, else 1
        """
        missing = [name for name in _NEEDED if util.find_spec(name) is None]
        if missing:
            LOG.error(
                'The demo needs %s. Install all packages that it needs with:\n'
                "    pip install 'attachguard[demo]'",
                ', '.join(missing),
            )
            return 1
        # It warns of options, and of a cache, that a demo does not need.
        logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
        with contextlib.ExitStack() as stack:
            directory = parsed_args.keep_logs or pathlib.Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix='attachguard-demo-')
                )
            )
            return self._run(directory, parsed_args.serve)

    def _run(self, directory: pathlib.Path, serve: bool) -> int:
        # These need the packages that were checked above.
        from attachguard.demo import clouds
        from attachguard.demo import next_steps
        from attachguard.demo import report
        from attachguard.demo import story
        from attachguard.testing import embedded

        # All services are on loopback, which no proxy can reach.
        os.environ.update(no_proxy='*', NO_PROXY='*')
        # Also where SIGINT is ignored: the exit stack has to end processes.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        started = time.monotonic()
        LOG.info(
            'Starting Cinder %s twice, with stubs of Keystone and Nova ...',
            metadata.version('cinder'),
        )
        with contextlib.ExitStack() as stack:
            try:
                running = stack.enter_context(clouds.Clouds(directory))
            except embedded.CinderNotStarted as exc:
                LOG.error('%s', exc)
                return 1
            LOG.info('... running after %.1f s', time.monotonic() - started)
            LOG.info('Making the calls without the guard ...')
            without = story.Story(running.without_guard).tell()
            LOG.info('... and with it')
            guarded = story.Story(running.with_guard).tell()
            LOG.info('Done after %.1f s\n', time.monotonic() - started)

            out = self.app.stdout
            out.write(report.render(without, guarded, _terminal_width(out)))
            if serve:
                out.write(next_steps.render(running))
                out.flush()
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait()
                LOG.info('Stopping')
        return 0 if report.is_as_promised(without, guarded) else 1


def _terminal_width(stream: TextIO) -> int | None:
    return shutil.get_terminal_size().columns if stream.isatty() else None
