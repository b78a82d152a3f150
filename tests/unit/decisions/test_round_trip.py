# SPDX-License-Identifier: Apache-2.0

"""From the guard's own log to rules, and back: the guard with these rules."""

from __future__ import annotations

import io
import json
import logging
import pathlib
from typing import Any

from keystonemiddleware.auth_token import _user_plugin
import pytest
import yaml

from attachguard.decisions import log_reader
from attachguard.decisions import proposal
from attachguard.decisions import refusals
from attachguard.decisions import replay
from attachguard.guard import policy
from tests.unit import fakes
from tests.unit.guard import test_middleware as guard_tests

make = guard_tests.make

LIVE = guard_tests.LIVE
BUSY: dict[str, Any] = {
    'attachments': guard_tests.BY_SERVER,
    'volume': {'status': 'backing-up'},
}
SOMEBODY_ELSE = _user_plugin.UserAuthPlugin(
    fakes.token('member', user='somebody-else'), None
)
REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    (('POST', guard_tests.ACTION, guard_tests.attach()), {}),
    (('POST', guard_tests.ATTACHMENTS, guard_tests.create()), {}),
    (('POST', guard_tests.ATTACHMENTS, guard_tests.create(None)), LIVE),
    *((asked, LIVE) for asked in guard_tests.CLEARING),
    *((asked, LIVE) for asked in guard_tests.CONSUMING),
    (guard_tests.DELETE, LIVE),
    (guard_tests.UPDATE, LIVE),
    (guard_tests.COMPLETE, LIVE),
    (guard_tests.DELETE, BUSY),
    (guard_tests.action('os-reimage', image_id='x'), {}),
    (guard_tests.action('os-attach', host_name='h'), {}),
    *((asked, LIVE) for asked in guard_tests.TRANSFERS),
    (guard_tests.DELETE, {'attachments': guard_tests.BY_SERVER}),
    (guard_tests.action('os-reserve'), {}),
]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, make: guard_tests.Make) -> bytes:
    caplog.set_level(logging.INFO)
    for asked, world in REQUESTS:
        make(**world, enforce='false')(*asked)
    return '\n'.join(caplog.messages).encode()


def test_the_same_rules_decide_the_same(
    log: bytes, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / 'rules.yaml'
    path.write_text('{}')
    replayed = replay.Replay(str(path))
    decisions = list(log_reader.read(io.BytesIO(log)))
    assert len(decisions) == len(REQUESTS)
    assert {decision['verdict'] for decision in decisions} == {
        'allowed',
        'refused',
    }
    for decision in decisions:
        outcome = replayed.decide(decision)
        assert outcome is not None
        assert outcome.result == decision['verdict']


def test_the_proposed_rules_let_them_pass_and_nobody_else(
    log: bytes, make: guard_tests.Make
) -> None:
    groups = refusals.collect(log_reader.read(io.BytesIO(log))).groups
    lines = proposal.propose(groups, policy.rule_texts(None))
    rules = yaml.safe_load(proposal.write(lines))
    for asked, world in REQUESTS:
        assert make(**world, rules=rules)(*asked)[0] == 202
    # To another user of the same project, they are closed as before.
    decided = {json.dumps(asked, default=repr) for asked, _world in REQUESTS}
    assert len(decided) > 10
    for asked, world in REQUESTS:
        before = make(**world)
        after = make(**world, rules=rules)
        for cloud in (before, after):
            cloud.extra['keystone.token_auth'] = SOMEBODY_ELSE
        assert before(*asked)[0] == after(*asked)[0]


def test_a_call_that_was_not_logged_is_still_refused(
    log: bytes, make: guard_tests.Make
) -> None:
    """A check that was true for all requests is required."""
    groups = [
        group
        for group in refusals.collect(log_reader.read(io.BytesIO(log))).groups
        if group.reason == 'volume-busy'
    ]
    rules = {
        line.rule: line.text
        for line in proposal.propose(groups, policy.rule_texts(None))
    }
    assert make(**BUSY, rules=rules)(*guard_tests.DELETE)[0] == 202
    assert make(**LIVE, rules=rules)(*guard_tests.DELETE)[0] == 409
