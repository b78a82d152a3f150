# SPDX-License-Identifier: Apache-2.0
"""The facts about a request.

What the guard decides from them is in ``test_middleware``.
"""

from __future__ import annotations

from concurrent import futures
import threading
from typing import Any

import pytest

from attachguard.guard import checks
from attachguard.guard import cinder
from attachguard.guard import decision
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import policy
from attachguard.guard import request
from attachguard.guard.decision import Reason
from attachguard.nova import client as nova_client
from tests.unit import fakes

DELETE = f'/v3/attachments/{fakes.ATTACHMENT}'
ACTION = f'/v3/volumes/{fakes.VOLUME}/action'
ATTACHED = [(fakes.ATTACHMENT, fakes.SERVER)]
OS_ATTACH = {'os-attach': {'instance_uuid': fakes.SERVER}}


class Lookups:
    """The facts about a request, and the look-ups that were made."""

    def __init__(
        self,
        method: str,
        path: str,
        body: Any = None,
        has: str | None = fakes.ATTACHMENT,
        **of_cinder: Any,
    ) -> None:
        self.cinder = fakes.FakeCinder(**of_cinder)
        self.nova = fakes.FakeNova({(fakes.SERVER, fakes.VOLUME): has})
        environ = fakes.environ(method, path, body)
        match = request.match_path(environ)
        assert match is not None
        raw = request.read_body(environ, 10_000)
        found = request.parse(environ, match, raw)
        assert found is not None
        self.facts = facts.Facts(
            found,
            identity.identify(environ, 'keystone'),
            cinder.Cinder(self.cinder, environ, found.root),
            self.nova,
            settle=30,
        )
        self.target = policy.Target(self.facts)

    def check(self, name: str) -> bool:
        """The result of a check."""
        return self.facts.check(name, checks.CHECKS[name])

    def reason(self, check: str) -> Reason:
        """Why a request is refused by a check."""
        assert not self.check(check)
        return decision.reason_for(self.facts, allowed=False)


def test_nothing_is_looked_up_before_a_rule_reads_it() -> None:
    lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
    assert dict(lookups.target) == {'operation': 'attachment-delete'}
    assert len(lookups.target) == 1
    assert lookups.facts.known == facts.NOTHING
    assert not [*lookups.cinder.calls, *lookups.nova.queried]


def test_each_fact_is_looked_up_once() -> None:
    lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
    for _ in range(3):
        assert lookups.target['volume_id'] == fakes.VOLUME
        assert lookups.target['attachment_status'] == 'attached'
        assert lookups.target['project_id'] == fakes.PROJECT
        assert not lookups.check('nova:attachment_unused')
    assert [path for _method, path, _body in lookups.cinder.calls] == [
        '/v3/attachments/detail',
        '/v3/volumes/detail',
    ]
    assert lookups.nova.queried == [
        fakes.SERVER,
        f'{fakes.SERVER} {fakes.VOLUME}',
    ]


def test_a_rule_reads_only_the_documented_keys() -> None:
    lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
    for key in policy.Target.KEYS:
        lookups.target[key]
    with pytest.raises(KeyError):
        lookups.target['volume']


def test_server_id_is_none_if_there_are_several() -> None:
    body: dict[str, Any] = {'os-detach': {}}
    one = Lookups('POST', ACTION, body, attachments=ATTACHED)
    assert one.target['server_id'] == fakes.SERVER
    two = [*ATTACHED, (fakes.UNKNOWN_ID, fakes.OTHER_SERVER)]
    many = Lookups('POST', ACTION, body, attachments=two)
    assert many.target['server_id'] is None
    assert Lookups('POST', ACTION, body).target['server_id'] is None


DETACH_OTHER = {'os-detach': {'attachment_id': fakes.UNKNOWN_ID}}


@pytest.mark.parametrize(
    ('check', 'asked', 'reason'),
    [
        (
            'nova:attachment_unused',
            ('DELETE', DELETE),
            Reason.SERVER_HAS_VOLUME,
        ),
        (
            'cinder:names_no_server',
            ('PUT', DELETE, {'attachment': {}}),
            Reason.NAMES_SERVER,
        ),
        (
            'cinder:same_volume',
            ('POST', ACTION, DETACH_OTHER),
            Reason.OTHER_VOLUME,
        ),
        (
            'cinder:no_attachment',
            ('POST', ACTION, OS_ATTACH),
            Reason.HAS_ATTACHMENT,
        ),
        (
            'nova:server_has_volume',
            ('POST', ACTION, OS_ATTACH),
            Reason.SERVER_HAS_VOLUME,
        ),
        ('cinder:idle', ('POST', ACTION, OS_ATTACH), Reason.VOLUME_BUSY),
    ],
)
def test_the_reason_is_that_of_the_last_check(
    check: str, asked: Any, reason: Reason
) -> None:
    lookups = Lookups(*asked, attachments=ATTACHED)
    lookups.cinder.volume[fakes.MIGRATION] = 'migrating'
    before = decision.reason_for(lookups.facts, False)
    assert before in (Reason.POLICY, Reason.NAMES_SERVER)
    assert lookups.reason(check) is reason
    assert lookups.facts.known.checks == ((check, False),)


def test_the_presence_that_uses_the_volume_is_the_reason() -> None:
    two = [(fakes.UNKNOWN_ID, fakes.OTHER_SERVER), *ATTACHED]
    body: dict[str, Any] = {'os-detach': {}}
    lookups = Lookups('POST', ACTION, body, attachments=two)
    reason = lookups.reason('nova:no_server_has_volume')
    assert reason is Reason.SERVER_HAS_VOLUME
    lookups = Lookups('POST', ACTION, body, attachments=two[:1])
    lookups.nova.busy.add(fakes.OTHER_SERVER)
    assert lookups.reason('nova:no_server_has_volume') is Reason.SERVER_BUSY


@pytest.mark.parametrize(
    ('server', 'queried'),
    [(fakes.SERVER.upper(), fakes.SERVER), ('a node', None), ('../x?y', None)],
)
def test_what_cannot_be_a_server_is_not_sent_to_nova(
    server: str, queried: str | None
) -> None:
    named = [(fakes.ATTACHMENT, server)]
    lookups = Lookups('DELETE', DELETE, attachments=named)
    assert lookups.check('nova:attachment_unused') is (not queried)
    assert lookups.nova.queried[:1] == ([queried] if queried else [])


@pytest.mark.parametrize(
    ('task', 'has', 'at_work'),
    [
        (False, fakes.ATTACHMENT, False),
        (True, fakes.ATTACHMENT, True),
        (False, None, True),
    ],
)
def test_nova_is_at_work_with_a_server(
    task: bool, has: str | None, at_work: bool
) -> None:
    lookups = Lookups('DELETE', DELETE, has=has, attachments=ATTACHED)
    lookups.nova.busy = {fakes.SERVER} if task else set()
    assert lookups.check('nova:at_work') is at_work


@pytest.mark.parametrize(
    ('has', 'by_this'),
    [(fakes.ATTACHMENT, True), (None, True), (fakes.UNKNOWN_ID, False)],
)
def test_a_server_has_the_volume_by_this_attachment(
    has: str | None, by_this: bool
) -> None:
    lookups = Lookups('DELETE', DELETE, has=has, attachments=ATTACHED)
    assert lookups.check('nova:by_this_attachment') is by_this


def test_requests_look_their_facts_up_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def is_used(number: int) -> bool:
        lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
        look_up = lookups.nova.server

        def wait(server_id: str) -> nova_client.Server | None:
            meeting.wait()
            return look_up(server_id)

        lookups.nova.server = wait  # type: ignore[method-assign]
        return not lookups.check('nova:attachment_unused')

    with futures.ThreadPoolExecutor(2) as executor:
        assert list(executor.map(is_used, range(2))) == [True] * 2
