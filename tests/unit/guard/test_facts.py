# SPDX-License-Identifier: Apache-2.0
"""The facts about a request.

What the guard decides from them is in ``test_middleware``.
"""

from __future__ import annotations

from concurrent import futures
import threading
from typing import Any

import pytest

from attachguard.guard import cinder
from attachguard.guard import decision
from attachguard.guard import facts
from attachguard.guard import policy
from attachguard.guard import request
from attachguard.guard.decision import Reason
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
        self.reader = cinder.Cinder(self.cinder, environ, found.root)
        self.facts = facts.Facts(found, self.reader, self.nova)
        self.target = policy.Target(self.facts)


def test_nothing_is_looked_up_before_a_rule_reads_it() -> None:
    lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
    assert dict(lookups.target) == {'operation': 'attachment-delete'}
    assert len(lookups.target) == 1
    assert lookups.facts.known == facts.NOTHING
    assert not [*lookups.cinder.calls, *lookups.nova.queried]


def test_each_fact_is_looked_up_once() -> None:
    lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
    for _ in range(3):
        assert lookups.target['server_id'] == fakes.SERVER
        assert lookups.target['volume_id'] == fakes.VOLUME
        assert lookups.target['attachment_status'] == 'attached'
        assert lookups.target['project_id'] == fakes.PROJECT
    assert [path for _method, path, _body in lookups.cinder.calls] == [
        DELETE,
        f'/v3/volumes/{fakes.VOLUME}',
    ]
    for _ in range(3):
        presence = lookups.facts.volume_presence
        assert presence is facts.Presence.HAS
    assert lookups.nova.queried == [(fakes.SERVER, fakes.VOLUME)]


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


@pytest.mark.parametrize(
    ('server', 'attachments', 'recorded'),
    [
        (fakes.SERVER, ATTACHED, True),
        (fakes.SERVER.upper(), ATTACHED, True),
        (fakes.OTHER_SERVER, ATTACHED, False),
        (fakes.SERVER, [], False),
        (fakes.SERVER, [(fakes.ATTACHMENT, None)], False),
        ('no uuid', ATTACHED, False),
    ],
)
def test_an_attachment_is_recorded_if_cinder_has_one_of_the_server(
    server: str, attachments: Any, recorded: bool
) -> None:
    body = {'os-attach': {'instance_uuid': server, 'mountpoint': 'm'}}
    lookups = Lookups('POST', ACTION, body, attachments=attachments)
    assert lookups.target['recorded'] is recorded


@pytest.mark.parametrize(
    ('has', 'busy', 'presence', 'reason'),
    [
        (
            fakes.ATTACHMENT,
            False,
            facts.Presence.HAS,
            Reason.SERVER_HAS_VOLUME,
        ),
        (
            fakes.UNKNOWN_ID,
            False,
            facts.Presence.HAS_BY_OTHER,
            Reason.OTHER_ATTACHMENT,
        ),
        (
            fakes.UNKNOWN_ID,
            True,
            facts.Presence.HAS,
            Reason.SERVER_HAS_VOLUME,
        ),
        # Attached before the Queens release.
        (None, False, facts.Presence.HAS, Reason.SERVER_HAS_VOLUME),
    ],
)
def test_presence_by_an_attachment(
    has: str | None, busy: bool, presence: facts.Presence, reason: Reason
) -> None:
    lookups = Lookups('DELETE', DELETE, has=has, attachments=ATTACHED)
    if busy:
        lookups.nova.busy.add(fakes.SERVER)
    assert lookups.facts.attachment_presence is presence
    assert decision.reason_for(lookups.facts, allowed=False) is reason


def test_the_reason_is_derived_from_what_is_known() -> None:
    lookups = Lookups('POST', ACTION, OS_ATTACH, attachments=ATTACHED)
    assert decision.reason_for(lookups.facts, False) is Reason.POLICY
    assert lookups.facts.is_recorded
    assert decision.reason_for(lookups.facts, False) is Reason.ALREADY_ATTACHED
    lookups = Lookups('POST', ACTION, {'os-attach': {'host_name': 'h'}})
    assert decision.reason_for(lookups.facts, False) is Reason.NO_SERVER
    assert decision.reason_for(lookups.facts, True) is Reason.POLICY
    lookups = Lookups('PUT', DELETE, {'attachment': {}}, attachments=ATTACHED)
    assert lookups.facts.attachment_status == 'attached'
    assert decision.reason_for(lookups.facts, False) is Reason.ALREADY_ATTACHED


def test_requests_look_their_facts_up_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)

    class Waiting(fakes.FakeNova):
        def has_volume(self, server_id: str, volume_id: str) -> bool:
            meeting.wait()
            return True

    def presence(number: int) -> facts.Presence:
        lookups = Lookups('DELETE', DELETE, attachments=ATTACHED)
        one = facts.Facts(lookups.facts.request, lookups.reader, Waiting())
        return one.volume_presence

    with futures.ThreadPoolExecutor(2) as executor:
        assert (
            list(executor.map(presence, range(2))) == [facts.Presence.HAS] * 2
        )
