# SPDX-License-Identifier: Apache-2.0
"""One run of Tempest, in one mode of the cloud."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import csv
import pathlib
import re
import subprocess
import sys
import time

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import processes
from tests.cloud import traffic as traffics
from tests.tempest import compare
from tests.tempest import config

# As it comes from discovery, and as it is in results: with a test's tags.
_NAME = re.compile(r'(?:tempest|cinder_tempest_plugin)\.[\w.]+')
# What Tempest prints when a test is over.
_DONE = re.compile(r'\{\d+\} (.+?) (?:\[[\d.]+s\] )?\.\.\. (\w+)')
# What a test logs of each answer: the answering service's request id last.
_REQUEST = re.compile(r'(req-[0-9a-f-]{36}) *\] Request \((\S+?)\): ')
_RESULTS = {
    'success': compare.Result.PASSED,
    'skip': compare.Result.SKIPPED,
}
# How many tests there is a line of progress for.
_STEP = 25
_PAUSE = 0.5


def name(test: str) -> str:
    """A test's name, without its tags."""
    return test.partition('[')[0]


def _tool(program: str) -> str:
    return str(pathlib.Path(sys.prefix, 'bin', program))


class Runner:
    """Runs tests against a cloud.

    :param cloud: the cloud, which runs
    :param concurrency: how many tests are run at the same time
    :param progress: prints the progress
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        concurrency: int,
        progress: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._concurrency = concurrency
        self._progress = progress

    def tests(self) -> list[str]:
        """The names of all the tests that are installed.

        :raises attachguard.tests.cloud.processes.Failed: Tempest cannot list
            them
        """
        conf = config.write(self._cloud, self._log('list'))
        if not (self._cloud.directory / '.stestr').exists():
            # It lists no test before it has somewhere to keep results.
            self._cloud.processes.run(
                'tempest-init',
                [_tool('stestr'), 'init'],
            )
        listed = subprocess.run(
            self._command(conf, '--list-tests'),
            cwd=self._cloud.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        if listed.returncode != 0:
            raise processes.Failed(
                f'Tempest does not list its tests: {listed.stderr}'
            )
        return sorted(
            line for line in listed.stdout.splitlines() if _NAME.match(line)
        )

    def run(self, mode: modes.Mode, tests: Sequence[str]) -> compare.Run:
        """Go over to a mode, and run tests in it.

        :param mode: with the guard or without it
        :param tests: the names, with their tags
        :raises attachguard.tests.cloud.processes.Failed: Tempest breaks off
        """
        self._cloud.switch(mode)
        service = f'tempest-{mode.name.replace(" ", "-")}'
        log = self._log(f'{mode.name.replace(" ", "-")}-requests')
        log.unlink(missing_ok=True)
        conf = config.write(self._cloud, log)
        chosen = conf.with_name(f'{service}.txt')
        chosen.write_text('\n'.join(tests) + '\n')
        traffic = traffics.Traffic(self._cloud)
        decided = sum(1 for _decision in traffic.decisions())
        started = time.monotonic()
        output = self._cloud.processes.log(service)
        output.unlink(missing_ok=True)
        child = self._cloud.processes.start(
            service,
            self._command(
                conf,
                f'--load-list={chosen}',
                f'--concurrency={self._concurrency}',
            ),
        )
        try:
            self._follow(child, output, len(tests))
        finally:
            self._cloud.processes.stop([service])
        seconds = time.monotonic() - started
        results = self._results()
        if not results:
            raise processes.Failed(f'Tempest ran no test; see {output}')
        callers = dict(_callers(log))
        calls = tuple(
            compare.Call(
                callers.get(decision['request_id']),
                decision.get('operation', 'unreadable'),
                decision['verdict'],
                decision['reason'],
            )
            for decision in list(traffic.decisions())[decided:]
        )
        return compare.Run(seconds, results, calls)

    def _log(self, name: str) -> pathlib.Path:
        return self._cloud.processes.log(f'tempest-{name}')

    def _command(self, conf: pathlib.Path, *words: str) -> list[str]:
        return [
            _tool('tempest'),
            'run',
            f'--config-file={conf}',
            *words,
        ]

    def _follow(
        self, child: subprocess.Popen[bytes], output: pathlib.Path, total: int
    ) -> None:
        """Say how far it is, and which tests fail, until it is over."""
        done = 0
        with output.open(errors='replace') as lines:
            while True:
                over = child.poll() is not None
                for line in lines:
                    found = _DONE.match(line)
                    if not found:
                        continue
                    done += 1
                    if found[2] == 'FAILED':
                        self._progress(f'failed: {found[1]}')
                    if done % _STEP == 0:
                        self._progress(f'{done} of about {total}')
                if over:
                    return
                time.sleep(_PAUSE)

    def _results(self) -> dict[str, compare.Result]:
        """How each test of the last run ended."""
        stream = subprocess.run(
            [_tool('stestr'), 'last', '--subunit'],
            cwd=self._cloud.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # It tells by it, too, whether a test failed.
            check=False,
        ).stdout
        table = subprocess.run(
            [_tool('subunit2csv'), '--no-passthrough'],
            input=stream,
            stdout=subprocess.PIPE,
            check=False,
        ).stdout.decode()
        return {
            name(row['test']): _RESULTS.get(
                row['status'], compare.Result.FAILED
            )
            for row in csv.DictReader(table.splitlines())
        }


def _callers(log: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Request ids, and the class and method that made the request."""
    if not log.exists():
        return
    with log.open(errors='replace') as lines:
        for line in lines:
            if found := _REQUEST.search(line):
                yield found[1], found[2]
