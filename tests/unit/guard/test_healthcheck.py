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

"""What /healthcheck says of the guard."""

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
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, '_WATCHED', weakref.WeakSet())


@pytest.fixture
def nova() -> circuit_breaker.Breaker:
    nova = circuit_breaker.Breaker('Nova', 1, 5, 10)
    healthcheck.watch(nova)
    return nova


def check(**conf: str) -> tuple[int, Any]:
    """Ask as a balancer does, of the application in the paste file."""
    application = oslo_middleware.Healthcheck.app_factory(
        {},
        oslo_config_project='nobody',
        backends='attachguard',
        **conf,
    )
    answer = webob.Request.blank(
        '/healthcheck', accept='application/json'
    ).send(application)
    return answer.status_int, json.loads(answer.text)['reasons']


def test_a_process_without_the_guard_is_not_healthy() -> None:
    assert check() == (503, ['attachguard: not in this process'])


def test_a_guard_that_is_gone_does_not_count() -> None:
    healthcheck.watch(circuit_breaker.Breaker('Nova', 1, 5, 10))
    gc.collect()
    assert check()[0] == 503


def test_all_is_well(nova: circuit_breaker.Breaker) -> None:
    assert check() == (200, ['attachguard: OK'])


def test_without_nova_the_process_stays_in_service(
    nova: circuit_breaker.Breaker,
) -> None:
    nova.failed(0, 'ConnectFailure: http://internal:8774')
    assert check() == (200, ['attachguard: no Nova for 0 s'])
    # The address is for those only to whom details are shown.
    (reason,) = check(detailed='true')[1]
    assert reason['details'] == 'ConnectFailure: http://internal:8774'


def test_a_check_that_no_balancer_asks_can_fail_then(
    nova: circuit_breaker.Breaker,
) -> None:
    nova.failed(0, 'ConnectFailure')
    assert check(attachguard_fail_without_nova='true')[0] == 503
    nova.answered()
    assert check(attachguard_fail_without_nova='true')[0] == 200


def test_an_option_that_makes_no_sense_is_an_error(
    nova: circuit_breaker.Breaker,
) -> None:
    with pytest.raises(ValueError, match='perhaps'):
        check(attachguard_fail_without_nova='perhaps')


def test_it_can_be_loaded_without_a_request() -> None:
    backend = healthcheck.Healthcheck(cfg.ConfigOpts(), {})
    assert not backend.healthcheck(8776).available
