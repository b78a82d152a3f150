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

"""``attachguard demo``: see what the guard is for before you install it."""

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
    """Show a forged volume attachment without the guard, and with it.

    Starts the real Block Storage API twice, on loopback ports and databases
    of its own, with stubs of Keystone and Nova around it. An ordinary user
    then makes, with the real clients, the calls by which Cinder comes to
    believe that a volume is attached when Nova knows nothing of it. A table
    shows what happens without the guard and with it. Nothing of any cloud
    that you have is read or touched.

    Exits with 1 if it did not turn out as the guard promises.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Add the command's own options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--serve',
            action='store_true',
            help='leave both clouds running afterwards, and say what to type '
            'next, until Ctrl-C',
        )
        parser.add_argument(
            '--keep-logs',
            metavar='DIR',
            type=pathlib.Path,
            help="keep the two Cinders' configuration, log and database in "
            'this directory',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Tell the story.

        :returns: 0 if it came out as promised, else 1
        """
        missing = [name for name in _NEEDED if util.find_spec(name) is None]
        if missing:
            LOG.error(
                'The demo needs %s. Install all that it needs with:\n'
                "    pip install 'attachguard[demo]'",
                ', '.join(missing),
            )
            return 1
        # Of the stubs' options, and of a cache that a demo does not need.
        logging.getLogger('keystonemiddleware').setLevel(logging.ERROR)
        with contextlib.ExitStack() as stack:
            directory = parsed_args.keep_logs or pathlib.Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix='attachguard-demo-')
                )
            )
            return self._tell(directory, parsed_args.serve)

    def _tell(self, directory: pathlib.Path, serve: bool) -> int:
        # Not before it is known that they can be imported.
        from attachguard.demo import clouds
        from attachguard.demo import next_steps
        from attachguard.demo import report
        from attachguard.demo import story
        from attachguard.testing import embedded

        # What the demo talks to is on loopback, where no proxy leads.
        os.environ.update(no_proxy='*', NO_PROXY='*')
        # However it is told to end, it ends by way of the exit stack.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        started = time.monotonic()
        LOG.info(
            'Starting Cinder %s twice, with Keystone and Nova around it ...',
            metadata.version('cinder'),
        )
        with contextlib.ExitStack() as stack:
            try:
                running = stack.enter_context(clouds.Clouds(directory))
            except embedded.CinderNotStarted as exc:
                LOG.error('%s', exc)
                return 1
            LOG.info('... running after %.1f s', time.monotonic() - started)
            LOG.info('Telling the story without the guard ...')
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
