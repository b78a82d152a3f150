# SPDX-License-Identifier: Apache-2.0
"""Runs sequences on one cloud, and reduces one that ends in disagreement."""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
import configparser
import contextlib
import dataclasses
import itertools
import threading
import time
import traceback

from tests.cloud import cloud as clouds
from tests.cloud import mode as modes
from tests.cloud import rules
from tests.explorer import agreement
from tests.explorer import gate
from tests.explorer import sequences
from tests.explorer import world as worlds

_AT_ONCE = 4
# How often one that failed is run again, to see whether it was its calls, and
# how long calls are left out, in seconds.
_AGAIN = 3
_REDUCING = 300.0
# How long the records may take to agree after all, in seconds.
_DOUBT = 4.0
# Cinder's own race: see tests.cloud.runs.
_RACE = 'Nova: os-migrate_volume_completion 404'

# The calls of members that are left to Cinder: the guard has no rule for them.
_OF_CINDER = ('delete', 'os-retype')

CALLS = 'the calls of members'
UNKNOWN = 'something that did not happen again'
ALONE = 'Cinder and Nova alone'


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of one run of a sequence.

    :param sequence: the sequence
    :param found: what disagrees
    :param log: the calls, in the order of their ends
    :param passed: whether a call of a member has reached Cinder
    :param blame: why it disagrees
    """

    sequence: sequences.Sequence
    found: list[str]
    log: list[str]
    passed: bool
    blame: str = ''

    def __str__(self) -> str:
        found = '\n'.join(f'  -> {line}' for line in self.found)
        log = '\n'.join(f'  ({line})' for line in self.log)
        return f'DISAGREEMENT by {self.blame}: {self.sequence}\n{found}\n{log}'


@dataclasses.dataclass
class Report:
    """The results of all sequences.

    :param sequences: how many were run, those that were run again, too
    :param calls: how many calls had which result
    :param moments: how often a call of Nova was held
    :param broken: why a sequence could not be run
    :param disagreements: what was found
    """

    sequences: int = 0
    calls: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    moments: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)
    disagreements: list[Run] = dataclasses.field(default_factory=list)

    @property
    def by_calls(self) -> list[Run]:
        """Those that happened again, and by calls that the guard has seen."""
        return [run for run in self.disagreements if run.blame == CALLS]

    @property
    def unexplained(self) -> list[Run]:
        """Those that did not happen again.

        What Nova does between a decision and the call can be one.
        """
        return [run for run in self.disagreements if run.blame == UNKNOWN]

    def __str__(self) -> str:
        passed = sum(n for name, n in self.calls.items() if 'passed' in name)
        return (
            f'{self.sequences} sequences, {self.calls.total()} calls ({passed}'
            f' passed), {self.moments} moments of Nova; disagreements: '
            f'{len(self.by_calls)} by calls, {len(self.unexplained)} not '
            f'repeated, {len(self.disagreements)} in all; '
            f'{len(self.broken)} sequences could not be run'
        )


def start(
    cloud: clouds.Cloud, guarded: bool, opened: Iterable[str] = ()
) -> None:
    """Start a cloud in which Nova's calls can be held, or change its mode.

    :param cloud: the cloud
    :param guarded: whether the guard is in it
    :param opened: the guard's rules that let everybody through
    """
    if not cloud.is_prepared:
        cloud.up(modes.UNGUARDED)
    file = rules.Rules(cloud)
    file.write({f'attachguard:{rule}': '@' for rule in opened})
    cloud.up(file.mode if guarded else modes.UNGUARDED)
    etc = cloud.places.etc('cinder')
    paste = (etc / 'api-paste.ini').read_text()
    section = '[filter:explorer]'
    if section in paste:
        return
    paste = paste.replace(
        'keystone = request_id', 'keystone = request_id explorer'
    )
    (etc / 'api-paste.ini').write_text(
        f'{paste}\n{section}\npaste.filter_factory = {gate.__name__}:factory\n'
        f'path = {cloud.directory / gate.SOCKET}\n'
    )
    config = configparser.ConfigParser(interpolation=None)
    config.read(etc / 'cinder.conf')
    for backend in clouds.BACKENDS:
        config[backend]['volume_driver'] = 'tests.explorer.volume.Driver'
    with (etc / 'cinder.conf').open('w') as output:
        config.write(output)
    for service in ('cinder-api', 'cinder-volume'):
        cloud.restart(service)


class Explorer:
    """Runs sequences on a cloud.

    :param cloud: as :func:`start` left it
    :param choice: what the sequences are chosen from
    :param progress: prints what is found
    """

    def __init__(
        self,
        cloud: clouds.Cloud,
        choice: sequences.Choice,
        progress: Callable[[str], None] = print,
    ) -> None:
        self._cloud = cloud
        self._choice = choice
        self._progress = progress
        self._lock = threading.Lock()
        self._everybody = worlds.Everybody(cloud)
        self.report = Report()

    def run(
        self,
        seed: int,
        minutes: float,
        count: int | None = None,
        first: bool = False,
    ) -> Report:
        """Run one sequence after the other, several at once.

        :param seed: of the first; the next one has the next number
        :param minutes: how long sequences are begun
        :param count: how many sequences at most
        :param first: stop at the first disagreement, and do not reduce it
        """
        end = time.monotonic() + 60 * minutes
        seeds = (
            itertools.count(seed)
            if count is None
            else iter(range(seed, seed + count))
        )

        def work() -> None:
            servers: dict[str, str] = {}
            while time.monotonic() < end:
                if first and self.report.by_calls:
                    break
                with self._lock:
                    now = next(seeds, None)
                if now is None:
                    break
                sequence = self._choice.sequence(now)
                run, servers = self._explore(sequence, servers, not first)
                if run.found:
                    self.report.disagreements.append(run)
                    self._progress(str(run))
            with contextlib.suppress(Exception):
                for server in servers.values():
                    self._world({}).admin.nova.servers.delete(server)

        self._listener = gate.Listener(self._cloud.directory / gate.SOCKET)
        workers = [threading.Thread(target=work) for _ in range(_AT_ONCE)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self._listener.close()
        return self.report

    def _explore(
        self,
        sequence: sequences.Sequence,
        servers: dict[str, str],
        thoroughly: bool,
    ) -> tuple[Run, dict[str, str]]:
        """Run a sequence; if it fails, find out why."""
        run, servers = self._play(sequence, servers)
        if not run.found or not run.passed or _RACE in run.log:
            # What was refused has not reached Cinder.
            return dataclasses.replace(run, blame=ALONE), servers
        if not thoroughly:
            return dataclasses.replace(run, blame=CALLS), servers
        again, servers = self._again(sequence, servers)
        if again is None:
            return dataclasses.replace(run, blame=UNKNOWN), servers
        if self._again(sequence.only(_OF_CINDER), {})[0]:
            return dataclasses.replace(run, blame=ALONE), servers
        end = time.monotonic() + _REDUCING
        for number in reversed(range(len(sequence.calls))):
            if time.monotonic() > end:
                break
            less = again.sequence.without(number)
            failed, servers = self._again(less, servers)
            again = failed or again
        return dataclasses.replace(again, blame=CALLS), servers

    def _again(
        self, sequence: sequences.Sequence, servers: dict[str, str]
    ) -> tuple[Run | None, dict[str, str]]:
        """Run a sequence some times, until it fails."""
        for _time in range(_AGAIN):
            run, servers = self._play(sequence, servers)
            if run.found and _RACE not in run.log:
                return run, servers
        return None, servers

    def _world(self, servers: dict[str, str]) -> worlds.World:
        return worlds.World(
            self._cloud, self._listener, self._everybody, servers
        )

    def _play(
        self, sequence: sequences.Sequence, servers: dict[str, str]
    ) -> tuple[Run, dict[str, str]]:
        world = self._world(servers)
        found: list[str] = []
        try:
            world.play(sequence)
            found = agreement.disagreements(world)
            # Nova keeps the mappings of a server that it did not build.
            if world.delete_failed() or found:
                time.sleep(_DOUBT)
                world.rest()
                found = agreement.disagreements(world)
        except Exception:
            self.report.broken.append(
                f'seed {sequence.seed}: {traceback.format_exc()}'
            )
            self._progress(self.report.broken[-1])
        with self._lock:
            self.report.sequences += 1
            self.report.moments += len(world.log) - len(world.made)
            for call, status in world.made:
                answer = 'passed' if worlds.passes(status) else status
                self.report.calls[f'{call.what}: {answer}'] += 1
        self._progress(
            f'seed {sequence.seed}: {sequence.scene}, {len(world.made)} calls,'
            f' {found or "agreed"}'
        )
        try:
            servers = world.leave()
        except Exception:
            servers = {}
        return Run(sequence, found, world.log, bool(world.passed)), servers
