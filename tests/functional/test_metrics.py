# SPDX-License-Identifier: Apache-2.0

"""The guard's metrics for Prometheus: many processes, and one scrape."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import sysconfig

from oslo_config import cfg
from prometheus_client import parser
import pytest
import requests

from attachguard import opts
from attachguard.guard import decision_log

# What a process of cinder-api does, twice: one filter in each pipeline.
_PROCESS = """
import os
from oslo_config import cfg
from attachguard import opts
from attachguard.guard import decision_log
from attachguard.guard.decision import Verdict

conf = cfg.ConfigOpts()
conf([], default_config_files=[])
opts.configure(conf, {'prometheus': 'true'})
logs = [decision_log.DecisionLog(conf) for _ in range(2)]
os.fork()
for log in logs:
    log.record(decision_log.Event(
        Verdict.REFUSED, 'policy', operation='os-attach', ms=30.0,
        nova_queries=1, nova_ms=20.0))
logs[0].breaker_changed(True)
"""


def environment(directory: pathlib.Path) -> dict[str, str]:
    return {**os.environ, 'PROMETHEUS_MULTIPROC_DIR': str(directory)}


@contextlib.contextmanager
def served(directory: pathlib.Path) -> Iterator[str]:
    """Serve the metrics.

    :returns: their address
    """
    command = pathlib.Path(sysconfig.get_path('scripts'), 'attachguard')
    with subprocess.Popen(
        [command, 'metrics', directory, '--port', '0'],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            [port] = re.findall(r'listening on port (\d+)', line)
            yield f'http://127.0.0.1:{port}/metrics'
        finally:
            process.terminate()


def test_the_processes_are_summed(tmp_path: pathlib.Path) -> None:
    for _time in range(2):
        subprocess.run(
            [sys.executable, '-c', _PROCESS],
            env=environment(tmp_path),
            check=True,
        )
    with served(tmp_path) as url:
        text = requests.get(url, timeout=10).text
    values = {
        (
            sample.name,
            *(f'{k}={v}' for k, v in sorted(sample.labels.items())),
        ): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    # Two processes, each with a child, each with two filters.
    assert (
        values[
            'attachguard_decisions_total',
            'mode=enforce',
            'operation=os-attach',
            'reason=policy',
            'verdict=refused',
        ]
        == 8
    )
    assert values['attachguard_decision_seconds_bucket', 'le=0.025'] == 0
    assert values['attachguard_decision_seconds_bucket', 'le=0.05'] == 8
    assert values['attachguard_nova_seconds_bucket', 'le=0.025'] == 8
    assert values['attachguard_nova_seconds_sum',] == pytest.approx(0.16)
    assert values['attachguard_nova_breaker_total', 'state=open'] == 4
    # It has never closed, which is known, too.
    assert values['attachguard_nova_breaker_total', 'state=closed'] == 0


def test_a_port_that_is_taken_is_an_error(tmp_path: pathlib.Path) -> None:
    with served(tmp_path) as url:
        [port] = re.findall(r':(\d+)/', url)
        command = pathlib.Path(sysconfig.get_path('scripts'), 'attachguard')
        done = subprocess.run(
            [command, 'metrics', tmp_path, '--port', port],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 1
    assert done.stderr.startswith('error: ')


@pytest.mark.parametrize('directory', [None, '/nowhere'])
def test_without_its_directory_the_service_does_not_start(
    monkeypatch: pytest.MonkeyPatch, directory: str | None
) -> None:
    monkeypatch.delenv('PROMETHEUS_MULTIPROC_DIR', raising=False)
    if directory is not None:
        monkeypatch.setenv('PROMETHEUS_MULTIPROC_DIR', directory)
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {'prometheus': 'true'})
    with pytest.raises(opts.ConfigError, match='PROMETHEUS_MULTIPROC_DIR'):
        decision_log.DecisionLog(conf)
