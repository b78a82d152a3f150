# SPDX-License-Identifier: Apache-2.0

"""One log line and one counter for each decision."""

from __future__ import annotations

import json
import logging
import socket
import sys
from typing import Any

from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.guard import decision_log
from attachguard.guard.decision import Verdict
from attachguard.guard.rollout import Mode


def make(**options: Any) -> decision_log.DecisionLog:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    opts.configure(conf, {name: str(v) for name, v in options.items()})
    return decision_log.DecisionLog(conf)


def decisions(caplog: pytest.LogCaptureFixture) -> list[tuple[int, Any]]:
    prefix = 'attachguard decision '
    return [
        (record.levelno, json.loads(record.getMessage().removeprefix(prefix)))
        for record in caplog.records
        if record.getMessage().startswith(prefix)
    ]


@pytest.mark.parametrize(
    ('verdict', 'service', 'level'),
    [
        (Verdict.ALLOWED, True, logging.DEBUG),
        (Verdict.ALLOWED, False, logging.INFO),
        (Verdict.MISSING, False, logging.INFO),
        (Verdict.MALFORMED, False, logging.INFO),
        (Verdict.REFUSED, False, logging.WARNING),
        (Verdict.REFUSED, True, logging.WARNING),
        (Verdict.UNKNOWN, False, logging.WARNING),
    ],
)
def test_the_level_follows_from_verdict_and_caller(
    caplog: pytest.LogCaptureFixture,
    verdict: Verdict,
    service: bool,
    level: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    make().record(decision_log.Event(verdict, 'policy', service=service))
    [(found, line)] = decisions(caplog)
    assert found == level
    assert line['verdict'] == verdict.value


def test_a_line_has_what_is_known_and_stays_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    event = decision_log.Event(
        Verdict.REFUSED,
        'server-lacks-volume',
        operation='os-attach',
        request_id='req-1',
        server_id='\n"evil" \x1b[0m' + 'x' * 10_000,
        nova_answer=False,
        nova_queries=1,
        nova_ms=12.345,
    )
    make().record(event)
    [(_level, line)] = decisions(caplog)
    assert line == {
        'verdict': 'refused',
        'reason': 'server-lacks-volume',
        'enforced': True,
        'mode': 'enforce',
        'service': False,
        'operation': 'os-attach',
        'request_id': 'req-1',
        'server_id': ('\n"evil" \x1b[0m' + 'x' * 10_000)[:256] + '...',
        'nova_answer': False,
        'nova_queries': 1,
        'nova_ms': 12.3,
        'ms': 0.0,
        'runbook': 'doc/source/admin/runbook.rst#server-lacks-volume',
    }
    assert '\n' not in caplog.messages[0]
    assert '\x1b' not in caplog.messages[0]


def test_decisions_are_counted_in_statsd() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(('127.0.0.1', 0))
        daemon.settimeout(5)
        port = daemon.getsockname()[1]
        counting = make(
            statsd_host='127.0.0.1', statsd_port=port, statsd_prefix='cloud.x'
        )
        counting.record(
            decision_log.Event(
                Verdict.REFUSED,
                'policy',
                operation='os-attach',
                nova_queries=1,
                nova_ms=3,
            )
        )
        counting.record(decision_log.Event(Verdict.MALFORMED, 'malformed'))
        counting.record(
            decision_log.Event(
                Verdict.UNKNOWN,
                'nova-down',
                enforced=False,
                mode=Mode.WARN,
                operation='os-detach',
            )
        )
        counting.breaker_changed(True)
        counting.breaker_changed(False)
        sent = [daemon.recv(1024).decode() for _ in range(9)]
    assert sent == [
        'cloud.x.os-attach.refused:1|c',
        'cloud.x.enforce.refused:1|c',
        'cloud.x.nova:3.000000|ms',
        'cloud.x.unreadable.malformed:1|c',
        'cloud.x.os-detach.unknown:1|c',
        'cloud.x.warn.unknown:1|c',
        'cloud.x.unknown.nova-down:1|c',
        'cloud.x.nova.breaker-opened:1|c',
        'cloud.x.nova.breaker-closed:1|c',
    ]


def test_without_statsd_nothing_is_counted() -> None:
    make().breaker_changed(True)


def test_missing_statsd_package_is_an_error_at_startup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'statsd', None)
    with pytest.raises(opts.ConfigError, match='attachguard.statsd'):
        make(statsd_host='127.0.0.1')
    make()


def test_unknown_statsd_host_is_an_error_at_startup() -> None:
    with pytest.raises(opts.ConfigError, match='statsd_host'):
        make(statsd_host='nowhere.invalid')
