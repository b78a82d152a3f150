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

"""Run any number of requests, or one of them again.

python -m tests.differential --requests 1000000 --seed 7 --processes 2
python -m tests.differential --seed 7 --only 4711
"""

from __future__ import annotations

import argparse
import multiprocessing
import pprint
import random
import signal
import sys
import time
import warnings

from tests.differential import forms
from tests.differential import generator
from tests.differential import harness
from tests.differential import router

# A process is asked for so many at a time, so that there is progress to show.
_BATCH = 500
_PROGRESS_EVERY = 10.0
_PATIENCE = 300.0

_harness: harness.Harness | None = None


def _make(seed: int) -> harness.Harness:
    warnings.simplefilter('ignore')
    return harness.Harness(
        harness.attachguards(), seed, router.RecordingRouter()
    )


def _start(seed: int) -> None:
    global _harness
    # Ctrl-C is for the process that made this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _harness = _make(seed)


def _run(indexes: range) -> harness.Tally:
    assert _harness is not None
    _harness.tally = harness.Tally()
    for index in indexes:
        _harness.run(index)
    return _harness.tally


def run_all(
    first: int, requests: int, seed: int, processes: int
) -> harness.Tally:
    """Run many requests, showing progress on standard error.

    :param first: the index to begin with
    :param processes: among how many processes to divide them
    """
    tally = harness.Tally()
    began = shown = time.monotonic()
    batches = [
        range(at, min(at + _BATCH, first + requests))
        for at in range(first, first + requests, _BATCH)
    ]
    context = multiprocessing.get_context('spawn')
    # A pool of this kind ends with the process that made it, however it ends.
    with context.Pool(processes, _start, (seed,)) as pool:
        found = pool.imap_unordered(_run, batches)
        for _batch in batches:
            # Left alone, it waits for ever for a process that was killed.
            tally.add(found.next(timeout=_PATIENCE))
            now = time.monotonic()
            if now - shown >= _PROGRESS_EVERY:
                shown = now
                _show_progress(tally, requests, now - began)
    _show_progress(tally, requests, time.monotonic() - began)
    return tally


def _show_progress(
    tally: harness.Tally, requests: int, seconds: float
) -> None:
    rate = tally.requests / seconds
    left = (requests - tally.requests) / rate if rate else 0
    counts = ', '.join(
        f'{wrong.name.lower()} {tally.wrong[wrong]}' for wrong in harness.Wrong
    )
    print(
        f'{tally.requests}/{requests} requests, {rate:.0f}/s, '
        f'{left:.0f} s to go; {counts}',
        file=sys.stderr,
        flush=True,
    )


def _show(tally: harness.Tally, seed: int) -> None:
    print(f'seed {seed}: {tally.requests} requests')
    print(
        f'{tally.reaching} of them reach a guarded operation on the bare '
        f'router; the filter stopped such ones {tally.stopped} times'
    )
    for operation, count in tally.operations.most_common():
        print(f'  {count:8} {operation}')
    for wrong in harness.Wrong:
        print(f'{tally.wrong[wrong]:8} {wrong.value}')
    for finding in tally.findings[:20]:
        print(
            f'\n{finding.wrong.name}, rules {finding.regime.value!r}: '
            f'{finding.detail}\n'
            f'  again: --seed {seed} --only {finding.index}'
        )


def _show_one(seed: int, index: int) -> harness.Tally:
    tester = _make(seed)
    if index < len(forms.FORMS):
        form = forms.FORMS[index]
        print(f'The form {form.name!r}: {form.trap}')
    request = generator.request(seed, index)
    pprint.pprint(request)
    rng = random.Random(f'{seed}:{index}:caller')
    admin = rng.random() < 0.25
    if index < len(forms.FORMS):
        admin = forms.FORMS[index].admin
    bare = tester.check(request, rng, admin, index)
    caller = 'an administrator' if admin else 'a member'
    print(f'From {caller}, without the filter:')
    pprint.pprint(bare)
    return tester.tally


def main(arguments: list[str] | None = None) -> int:
    """The command.

    :returns: 0 where nothing is wrong, else 1
    """
    parser = argparse.ArgumentParser(
        prog='python -m tests.differential',
        description='Does the filter read requests exactly as Cinder does?',
    )
    parser.add_argument('--requests', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=None)
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument(
        '--first', type=int, default=0, help='the index to begin with'
    )
    parser.add_argument(
        '--only', type=int, help='one request, under all rules, and show it'
    )
    options = parser.parse_args(arguments)
    seed = options.seed
    if seed is None:
        seed = random.SystemRandom().randrange(2**31)
    if options.only is not None:
        tally = _show_one(seed, options.only)
    else:
        tally = run_all(
            options.first, options.requests, seed, options.processes
        )
    _show(tally, seed)
    return 1 if tally.wrong.total() else 0
