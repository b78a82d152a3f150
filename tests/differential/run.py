# SPDX-License-Identifier: Apache-2.0

"""Runs any number of generated requests, in several processes."""

from __future__ import annotations

import multiprocessing
import signal
import warnings

from tests.differential import harness
from tests.differential import router

_BATCH = 500
# Seconds for one batch; a killed process never ends it.
_TIMEOUT = 600.0

_harness: harness.Harness | None = None


def _start(seed: int) -> None:
    global _harness
    # Ctrl-C is for the process that made this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter('ignore')
    _harness = harness.Harness(
        harness.attachguards(), seed, router.RecordingRouter()
    )


def _run(indexes: range) -> harness.Tally:
    assert _harness is not None
    _harness.tally = harness.Tally()
    for index in indexes:
        _harness.run(index)
    return _harness.tally


def run_all(
    first: int, requests: int, seed: int, processes: int
) -> harness.Tally:
    """Run many requests.

    :param first: the index of the first request
    :param requests: how many
    :param seed: of the requests, the callers and Nova's responses
    :param processes: among how many processes to divide them
    """
    batches = [
        range(at, min(at + _BATCH, first + requests))
        for at in range(first, first + requests, _BATCH)
    ]
    tally = harness.Tally()
    context = multiprocessing.get_context('spawn')
    # The processes of such a pool end with the process that made them.
    with context.Pool(processes, _start, (seed,)) as pool:
        found = pool.imap_unordered(_run, batches)
        for _batch in batches:
            tally.add(found.next(timeout=_TIMEOUT))
    return tally
