# SPDX-License-Identifier: Apache-2.0

"""The response of /healthcheck about the guard."""

from __future__ import annotations

import gc
import json
from typing import Any
import weakref

from oslo_config import cfg
import oslo_middleware
import pytest
import webob

from attachguard import wsgi_server
from attachguard.guard import healthcheck
from attachguard.nova import circuit_breaker
from attachguard.nova import client as nova_client

VISIBILITY = nova_client.Visibility


class Nova(nova_client.Nova):
    """A client that sends no query, with what it has found out."""

    def __init__(self, visibility: nova_client.Visibility) -> None:
        self.breaker = circuit_breaker.CircuitBreaker(
            'Nova', 1, 5, 10, start=lambda probe: None
        )
        self._visibility = visibility
        self.max_concurrency = 16


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, 'WATCHED', weakref.WeakKeyDictionary())


@pytest.fixture
def nova() -> Nova:
    nova = Nova(VISIBILITY.EVERY_PROJECT)
    healthcheck.watch(nova, enforce=True)
    return nova


def check(**conf: str) -> tuple[int, Any]:
    """Send the request of a load balancer."""
    application = oslo_middleware.Healthcheck.app_factory(
        {},
        oslo_config_project='nobody',
        backends='attachguard',
        **conf,
    )
    response = webob.Request.blank(
        '/healthcheck', accept='application/json'
    ).send(application)
    return response.status_int, json.loads(response.text)['reasons']


def test_a_process_without_the_guard_is_not_healthy() -> None:
    assert check() == (503, ['attachguard: not loaded'])


def test_a_deleted_guard_is_not_watched() -> None:
    healthcheck.watch(Nova(VISIBILITY.UNCHECKED), enforce=True)
    gc.collect()
    assert check()[0] == 503


def test_a_process_with_a_guard_is_healthy(nova: Nova) -> None:
    assert check() == (200, ['attachguard: OK'])


def test_the_process_is_healthy_without_nova(nova: Nova) -> None:
    nova.breaker.failed(
        0, 'ConnectFailure: http://internal:8774', lambda: None
    )
    assert check() == (200, ['attachguard: Nova does not respond since 0 s'])
    # The address is only in the details.
    (reason,) = check(detailed='true')[1]
    (guard,) = json.loads(reason['details'])
    assert not guard['nova_responds']
    assert guard['nova_failure'] == 'ConnectFailure: http://internal:8774'


@pytest.mark.parametrize('enforce', [True, False])
@pytest.mark.parametrize(
    ('visibility', 'problem'),
    [
        (VISIBILITY.EVERY_PROJECT, ''),
        (VISIBILITY.UNCHECKED, ''),
        (VISIBILITY.CALLER, 'Nova is queried as the caller'),
        (VISIBILITY.SOME_PROJECTS, 'Nova does not show every server'),
    ],
)
def test_it_reports_the_mode_and_what_the_guard_sees(
    visibility: nova_client.Visibility, problem: str, enforce: bool
) -> None:
    nova = Nova(visibility)
    healthcheck.watch(nova, enforce)
    # A load balancer must not remove the process for either.
    code, [reason] = check(detailed='true')
    assert code == 200
    assert json.loads(reason['details']) == [
        {
            'enforce': enforce,
            'nova_visibility': visibility.value,
            'nova_responds': True,
            'nova_failure': '',
            'nova_max_concurrency': 16,
            'server': None,
        }
    ]
    shadow = '' if enforce else 'shadow mode, nothing is refused'
    problems = '; '.join(filter(None, (problem, shadow))) or 'OK'
    assert reason['reason'] == f'attachguard: {problems}'
    assert check() == (200, [reason['reason']])


def test_it_reports_a_server_that_runs_no_threads(
    nova: Nova, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = wsgi_server.Server('uWSGI', 1, runs_threads=False)
    monkeypatch.setattr(wsgi_server, 'detect', lambda: server)
    code, [reason] = check(detailed='true')
    assert code == 200
    assert 'runs no background threads' in reason['reason']
    (guard,) = json.loads(reason['details'])
    assert guard['server'] == {
        'name': 'uWSGI',
        'threads': 1,
        'runs_threads': False,
    }


def test_a_check_can_be_configured_to_fail_without_nova(nova: Nova) -> None:
    nova.breaker.failed(0, 'ConnectFailure', lambda: None)
    assert check(attachguard_fail_without_nova='true')[0] == 503
    nova.breaker.succeeded()
    assert check(attachguard_fail_without_nova='true')[0] == 200


def test_an_invalid_option_is_an_error(nova: Nova) -> None:
    with pytest.raises(ValueError, match='perhaps'):
        check(attachguard_fail_without_nova='perhaps')


def test_it_can_be_loaded_without_a_request() -> None:
    backend = healthcheck.Healthcheck(cfg.ConfigOpts(), {})
    assert not backend.healthcheck(8776).available
