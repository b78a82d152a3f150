# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus, with what it scrapes: the guard and the audit."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import math
import pathlib
import sys
import time
from typing import Any

import requests
import yaml

from tests.deploy import conftest

#: What it needs of Debian: see bindep.txt.
PROGRAMS = ('prometheus', 'promtool', 'prometheus-node-exporter')


class Prometheus:
    """A server that runs.

    :param address: its host and port
    """

    def __init__(self, address: str) -> None:
        self._url = f'http://{address}/api/v1'
        self._started = time.time()

    def get(self, path: str, **parameters: str) -> Any:
        """Read from its API.

        :param path: behind the version of the API
        :returns: the data of the response
        """
        response = requests.get(
            f'{self._url}/{path}', params=parameters, timeout=30
        ).json()
        assert response['status'] == 'success', (parameters, response)
        return response['data']

    def names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self.get('label/__name__/values'))

    def values(self, query: str) -> list[float]:
        """All that a query returns since the start, but what is no number."""
        found = self.get(
            'query_range',
            query=query,
            start=str(self._started),
            end=str(time.time()),
            step='1s',
        )
        return [
            float(value)
            for series in found['result']
            for _time, value in series['values']
            if math.isfinite(float(value))
        ]

    def alerts(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {
            alert['labels']['alertname']
            for alert in self.get('alerts')['alerts']
            if alert['state'] == 'firing'
        }

    def wait_for_alerts(self, *names: str) -> None:
        """Wait until exactly these alerts fire."""
        end = time.monotonic() + 120
        while self.alerts() != set(names):
            assert time.monotonic() < end, (names, self.alerts())
            time.sleep(0.5)

    def fired(self) -> set[str]:
        """The names of the alerts that have fired since the start."""
        found = self.get(
            'query',
            query='max_over_time(ALERTS{alertstate="firing"}[1h])',
        )
        return {series['metric']['alertname'] for series in found['result']}


@contextlib.contextmanager
def started(
    directory: pathlib.Path,
    values: pathlib.Path,
    rules: pathlib.Path,
    interval: str = '1s',
) -> Iterator[Prometheus]:
    """Start Prometheus, ``attachguard metrics`` and node_exporter.

    :param directory: for what they write; node_exporter reads ``*.prom`` there
    :param values: where the processes of cinder-api keep their values
    :param rules: of the alerts
    :param interval: of scrapes, and of the evaluation of the rules
    """
    with contextlib.ExitStack() as stack:
        metrics = stack.enter_context(
            conftest.started(
                [
                    f'{sys.prefix}/bin/attachguard',
                    'metrics',
                    str(values),
                    *('--port', '0'),
                ],
                directory / 'metrics.log',
            )
        )
        node_exporter = stack.enter_context(
            conftest.started(
                [
                    'prometheus-node-exporter',
                    '--collector.disable-defaults',
                    '--collector.textfile',
                    f'--collector.textfile.directory={directory}',
                    '--web.listen-address=127.0.0.1:0',
                ],
                directory / 'node-exporter.log',
            )
        )
        targets = {
            'cinder-api': metrics.wait_for(r'listening on port (\d+)'),
            'node': node_exporter.wait_for(r'address=127\.0\.0\.1:(\d+)'),
        }
        (directory / 'prometheus.yml').write_text(
            yaml.safe_dump(
                {
                    'global': {
                        'scrape_interval': interval,
                        'evaluation_interval': interval,
                    },
                    'rule_files': [str(rules)],
                    'scrape_configs': [
                        {
                            'job_name': name,
                            'static_configs': [
                                {'targets': [f'127.0.0.1:{port}']}
                            ],
                        }
                        for name, [port] in targets.items()
                    ],
                }
            )
        )
        server = stack.enter_context(
            conftest.started(
                [
                    'prometheus',
                    f'--config.file={directory}/prometheus.yml',
                    f'--storage.tsdb.path={directory}/data',
                    '--web.listen-address=127.0.0.1:0',
                ],
                directory / 'prometheus.log',
            )
        )
        [address] = server.wait_for(r'address=(127\.0\.0\.1:[1-9]\d*)')
        yield Prometheus(address)
