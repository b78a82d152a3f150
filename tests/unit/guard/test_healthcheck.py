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

from attachguard.guard import healthcheck
from attachguard.nova import circuit_breaker


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, 'WATCHED', weakref.WeakSet())


@pytest.fixture
def nova() -> circuit_breaker.CircuitBreaker:
    nova = circuit_breaker.CircuitBreaker('Nova', 1, 5, 10)
    healthcheck.watch(nova)
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
    healthcheck.watch(circuit_breaker.CircuitBreaker('Nova', 1, 5, 10))
    gc.collect()
    assert check()[0] == 503


def test_a_process_with_a_guard_is_healthy(
    nova: circuit_breaker.CircuitBreaker,
) -> None:
    assert check() == (200, ['attachguard: OK'])


def test_the_process_is_healthy_without_nova(
    nova: circuit_breaker.CircuitBreaker,
) -> None:
    nova.failed(0, 'ConnectFailure: http://internal:8774')
    assert check() == (200, ['attachguard: Nova does not respond since 0 s'])
    # The address is only in the details.
    (reason,) = check(detailed='true')[1]
    assert reason['details'] == 'ConnectFailure: http://internal:8774'


def test_a_check_can_be_configured_to_fail_without_nova(
    nova: circuit_breaker.CircuitBreaker,
) -> None:
    nova.failed(0, 'ConnectFailure')
    assert check(attachguard_fail_without_nova='true')[0] == 503
    nova.succeeded()
    assert check(attachguard_fail_without_nova='true')[0] == 200


def test_an_invalid_option_is_an_error(
    nova: circuit_breaker.CircuitBreaker,
) -> None:
    with pytest.raises(ValueError, match='perhaps'):
        check(attachguard_fail_without_nova='perhaps')


def test_it_can_be_loaded_without_a_request() -> None:
    backend = healthcheck.Healthcheck(cfg.ConfigOpts(), {})
    assert not backend.healthcheck(8776).available
