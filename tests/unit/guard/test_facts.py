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
"""What a request is about, found out as far as a rule looks.

What follows from it for a request is in ``test_filter``.
"""

from __future__ import annotations

from typing import Any

import pytest

from attachguard.guard import cinder
from attachguard.guard import facts
from attachguard.guard import identity
from attachguard.guard import request
from tests.unit import fakes

DELETE = f'/v3/attachments/{fakes.ATTACHMENT}'
ACTION = f'/v3/volumes/{fakes.VOLUME}/action'


class Asked:
    """A target, and who was asked for it."""

    def __init__(
        self, method: str, path: str, body: Any = None, **cinder_knows: Any
    ) -> None:
        self.cinder = fakes.FakeCinder(**cinder_knows)
        self.nova = fakes.FakeNova({(fakes.SERVER, fakes.VOLUME): None})
        environ = fakes.environ(method, path, body)
        candidate = request.is_candidate(environ)
        assert candidate is not None
        raw = request.read_body(environ, 10_000)
        found = request.parse(environ, candidate, raw)
        assert found is not None
        nova: Any = self.nova
        self.target = facts.Target(
            found,
            identity.identify(environ, 'keystone'),
            cinder.Cinder(self.cinder, environ, found.root),
            nova,
        )


ATTACHED = [(fakes.ATTACHMENT, fakes.SERVER)]


def test_nobody_is_asked_before_a_rule_looks() -> None:
    asked = Asked('DELETE', DELETE, attachments=ATTACHED)
    assert dict(asked.target) == {'operation': 'attachment-delete'}
    assert len(asked.target) == 1
    assert asked.cinder.calls == []
    assert asked.nova.asked == []


def test_everybody_is_asked_once() -> None:
    asked = Asked('DELETE', DELETE, attachments=ATTACHED)
    for _ in range(3):
        assert asked.target['server_id'] == fakes.SERVER
        assert asked.target['volume_id'] == fakes.VOLUME
        assert asked.target['attachment_status'] == 'attached'
        assert asked.target['project_id'] == fakes.PROJECT
    assert [path for _method, path, _body in asked.cinder.calls] == [
        DELETE,
        f'/v3/volumes/{fakes.VOLUME}',
    ]
    assert asked.nova.asked == []


def test_what_is_no_key_is_no_value() -> None:
    asked = Asked('DELETE', DELETE, attachments=ATTACHED)
    for key in facts.Target.KEYS:
        asked.target[key]
    with pytest.raises(KeyError):
        asked.target['volume']


def test_one_server_is_the_server_and_several_are_none() -> None:
    body: dict[str, Any] = {'os-detach': {}}
    one = Asked('POST', ACTION, body, attachments=ATTACHED)
    assert one.target['server_id'] == fakes.SERVER
    two = [*ATTACHED, (fakes.UNKNOWN_ID, fakes.OTHER_SERVER)]
    many = Asked('POST', ACTION, body, attachments=two)
    assert many.target['server_id'] is None
    assert Asked('POST', ACTION, body).target['server_id'] is None


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
def test_an_attachment_is_recorded_where_cinder_has_one_of_the_server(
    server: str, attachments: Any, recorded: bool
) -> None:
    body = {'os-attach': {'instance_uuid': server, 'mountpoint': 'm'}}
    asked = Asked('POST', ACTION, body, attachments=attachments)
    assert asked.target['recorded'] is recorded
