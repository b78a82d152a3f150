# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboard: its schema, and each query on a real Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml

from tests.deploy import conftest
from tests.deploy import monitoring
from tests.outage import background
from tests.outage import faults
from tests.outage import guarded_cloud

pytestmark = pytest.mark.nightly

DASHBOARD = conftest.ROOT / 'deploy' / 'grafana' / 'attachguard.json'
RULES = conftest.ROOT / 'deploy' / 'prometheus' / 'attachguard.rules.yml'
DATA_SOURCE = {'type': 'prometheus', 'uid': '${datasource}'}
_METRIC = re.compile(r'\battachguard_\w+')
# What is 0 on a cloud whose services work.
_MAY_BE_ZERO = {
    'attachguard_audit_pending',
    'attachguard_audit_unknown',
    'attachguard_audit_doubts',
}


def _dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def _panels() -> list[Any]:
    panels = [
        panel for panel in _dashboard()['panels'] if panel['type'] != 'row'
    ]
    assert len(panels) > 10
    return panels


def _check_schema(path: pathlib.Path) -> str:
    """Check a dashboard by Grafana's types.

    :returns: what is wrong
    """
    return subprocess.run(
        [
            conftest.TOOLS / 'bin' / 'python',
            pathlib.Path(__file__).with_name('grafana_schema.py'),
            path,
        ],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout.strip()


def test_the_dashboard_is_of_the_schema(
    tmp_path: pathlib.Path, tools: pathlib.Path
) -> None:
    assert _check_schema(DASHBOARD) == ''


@pytest.mark.parametrize(
    ('text', 'mistake', 'says'),
    [
        ('"legendFormat"', '"legend"', 'legend is not in the schema'),
        ('"absolute"', '"absolut"', "'absolut', which is no ThresholdsMode"),
        ('"h": 4', '"h": "4"', "'4', which is no int"),
        ('"instant": true', '"instant": "yes"', "'yes', which is no bool"),
    ],
)
def test_a_mistake_is_not_of_the_schema(
    tmp_path: pathlib.Path,
    tools: pathlib.Path,
    text: str,
    mistake: str,
    says: str,
) -> None:
    right = DASHBOARD.read_text()
    assert text in right
    wrong = tmp_path / 'dashboard.json'
    wrong.write_text(right.replace(text, mistake, 1))
    assert says in _check_schema(wrong)


def test_the_dashboard_can_be_imported_into_any_grafana() -> None:
    dashboard = _dashboard()
    # Numeric ids are those of one installation.
    assert 'id' not in dashboard
    assert dashboard['uid'] == 'attachguard'
    source, *variables = dashboard['templating']['list']
    assert (source['type'], source['name']) == ('datasource', 'datasource')
    for item in (*variables, *_panels()):
        assert item['datasource'] == DATA_SOURCE
    for panel in _panels():
        assert panel['title']
        assert panel['fieldConfig']['defaults']['unit']
        assert panel['targets']
        for target in panel['targets']:
            assert target['datasource'] == DATA_SOURCE
    panels = dashboard['panels']
    for unique in (
        [panel['id'] for panel in panels],
        [panel['title'] for panel in panels],
        [(panel['gridPos']['x'], panel['gridPos']['y']) for panel in panels],
    ):
        assert len(set(unique)) == len(unique)


@pytest.fixture(scope='module')
def prometheus(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[monitoring.Prometheus]:
    """One that has scraped a run of the guard, with an outage, and an audit.

    Nova is out of order for some seconds, and one attachment is forged.
    """
    for program in monitoring.PROGRAMS:
        if not shutil.which(program):
            pytest.skip(f'{program} is not installed: see bindep.txt')
    directory = tmp_path_factory.mktemp('monitoring')
    values, cinder = directory / 'values', directory / 'cinder'
    values.mkdir()
    cinder.mkdir()
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environ:
            # Of cinder-api, which is started here.
            environ.setenv('PROMETHEUS_MULTIPROC_DIR', str(values))
            cloud = stack.enter_context(
                guarded_cloud.start(
                    cinder,
                    'uwsgi-5x1',
                    prometheus=True,
                    settle=0,
                    nova_breaker_failures=1,
                    nova_breaker_seconds=0.25,
                )
            )
        server = stack.enter_context(
            monitoring.started(directory, values, RULES)
        )
        _use(cloud)
        _audit(cloud, directory)
        # Some scrapes later.
        time.sleep(5)
        yield server


def _use(cloud: guarded_cloud.GuardedCloud) -> None:
    """Send requests that pass, are refused, or cannot be verified."""
    member = guarded_cloud.Caller(cloud)
    as_nova = guarded_cloud.Caller(cloud, service=True)

    def create() -> str:
        made = member.send('POST', '/volumes', {'volume': {'size': 1}})
        volume_id: str = made.body['volume']['id']
        return volume_id

    reserved, attacked, forged = create(), create(), create()
    time.sleep(1)
    # Nova responds so, and it is not true.
    assert as_nova.attach(forged).ok

    def call() -> None:
        member.act(reserved, 'os-reserve')
        member.act(reserved, 'os-unreserve')
        member.attach(attacked)

    with background.repeating(call, 1.0, threads=2):
        time.sleep(10)
        cloud.nova.fail(faults.ALL['refuses'])
        time.sleep(10)
        cloud.nova.recover()
        time.sleep(10)


def _audit(cloud: guarded_cloud.GuardedCloud, directory: pathlib.Path) -> None:
    settings = {
        **cloud.stubs.auth_settings('admin'),
        'region_name': 'RegionOne',
    }
    done = subprocess.run(
        [
            f'{sys.prefix}/bin/attachguard',
            *('audit', '--once', '--settle=2s'),
            f'--prometheus={directory}/attachguard.prom',
        ],
        env={
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith('OS_')
            },
            **{f'OS_{name.upper()}': v for name, v in settings.items()},
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3, done.stderr


def _expand(query: str) -> str:
    """A query as Grafana sends it, with all hosts, clouds and regions."""
    for name, value in (
        ('$__rate_interval', '10s'),
        ('$__range', '60s'),
        ('$instance', '.*'),
        ('$cloud', '.*'),
        ('$region', '.*'),
    ):
        query = query.replace(name, value)
    assert '$' not in query
    return query


@pytest.mark.parametrize(
    'panel', _panels(), ids=[panel['title'] for panel in _panels()]
)
def test_each_query_of_a_panel_returns_data(
    prometheus: monitoring.Prometheus, panel: Any
) -> None:
    for target in panel['targets']:
        names = set(_METRIC.findall(target['expr']))
        assert names
        # A query with "or" or "-" can return something without one of them.
        assert names <= prometheus.names()
        values = prometheus.values(_expand(target['expr']))
        assert values
        assert max(values) > 0 or names <= _MAY_BE_ZERO


def test_each_variable_has_a_value(prometheus: monitoring.Prometheus) -> None:
    _source, *variables = _dashboard()['templating']['list']
    assert variables
    for variable in variables:
        query = _expand(variable['query']['query'])
        [(selector, label)] = re.findall(r'label_values\((.+), (\w+)\)', query)
        found = prometheus.get('series', **{'match[]': selector})
        assert any(series.get(label) for series in found)


def test_each_metric_of_the_alerts_exists(
    prometheus: monitoring.Prometheus,
) -> None:
    names = {
        name
        for group in yaml.safe_load(RULES.read_text())['groups']
        for rule in group['rules']
        for name in _METRIC.findall(rule['expr'])
    }
    assert names
    assert names <= prometheus.names()
