# SPDX-License-Identifier: Apache-2.0
"""The rules for clouds whose Nova sends no service tokens."""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib
from typing import Any
from typing import Optional

from oslo_config import cfg
import pytest

from attachguard.guard import default_rules
from attachguard.guard import middleware
from tests.unit import fakes

ACTION = f'/v3/volumes/{fakes.VOLUME}/action'
ATTACHMENT = f'/v3/attachments/{fakes.ATTACHMENT}'
CONNECT = {'attachment': {'connector': {'host': 'h'}}}

Has = dict[tuple[str, str], Optional[str]]
BY_SERVER = [(fakes.ATTACHMENT, fakes.SERVER)]
LIVE: Has = {(fakes.SERVER, fakes.VOLUME): fakes.ATTACHMENT}
WITHOUT_ID: Has = {(fakes.SERVER, fakes.VOLUME): None}
BUSY = {'busy': {fakes.SERVER}}
GONE = {'servers': {fakes.OTHER_SERVER}}
MIGRATING = {fakes.MIGRATION: 'target:x'}


def creating(**arguments: Any) -> tuple[str, str, Any]:
    body = {'volume_uuid': fakes.VOLUME, 'instance_uuid': fakes.SERVER}
    return 'POST', '/v3/attachments', {'attachment': {**body, **arguments}}


def acting(name: str, **arguments: Any) -> tuple[str, str, Any]:
    return 'POST', ACTION, {name: arguments or None}


Call = tuple[str, str, Any]
COMPLETE: Call = ('POST', f'{ATTACHMENT}/action', {'os-complete': {}})
UPDATE: Call = ('PUT', ATTACHMENT, CONNECT)
DELETE: Call = ('DELETE', ATTACHMENT, None)


@pytest.mark.parametrize(
    ('call', 'has', 'status', 'changes', 'volume', 'code'),
    [
        # Nova creates a server: it is saved afterwards.
        (creating(), None, None, GONE, {}, 202),
        (creating(connector={'host': 'h'}), None, None, GONE, {}, 403),
        (creating(), None, None, {}, {}, 403),
        # It attaches: the id is saved afterwards.
        (creating(), WITHOUT_ID, None, {}, {}, 202),
        (UPDATE, LIVE, 'reserved', {}, {}, 202),
        (COMPLETE, LIVE, 'attaching', {}, {}, 202),
        (UPDATE, LIVE, 'attached', {}, {}, 403),
        (COMPLETE, None, 'attaching', {}, {}, 403),
        (COMPLETE, None, 'attaching', GONE, {}, 403),
        # It builds or moves a server.
        (creating(connector={'host': 'h'}), LIVE, None, BUSY, {}, 202),
        (UPDATE, None, 'reserved', BUSY, {}, 202),
        (DELETE, LIVE, 'attached', BUSY, {}, 202),
        (acting('os-reimage'), LIVE, 'attached', BUSY, {}, 202),
        (acting('os-reimage'), LIVE, 'attached', {}, {}, 403),
        # It gives up, or detaches.
        (DELETE, LIVE, 'reserved', {}, {}, 202),
        (DELETE, LIVE, 'attached', {}, {}, 409),
        (acting('os-begin_detaching'), LIVE, 'attached', {}, {}, 202),
        (DELETE, LIVE, 'attached', {}, {'status': 'detaching'}, 202),
        (acting('os-detach'), LIVE, 'attached', {}, {}, 409),
        # It swaps a volume, as an admin only.
        (creating(), None, None, {}, MIGRATING, 403),
        (COMPLETE, None, 'attaching', {}, MIGRATING, 403),
        (DELETE, None, 'attaching', {}, MIGRATING, 409),
    ],
)
def test_what_it_opens(
    tmp_path: pathlib.Path,
    call: tuple[str, str, Any],
    has: Any,
    status: str | None,
    changes: dict[str, Any],
    volume: dict[str, Any],
    code: int,
) -> None:
    cinder = fakes.FakeCinder(BY_SERVER if status else (), status or '')
    cinder.volume.update(volume)
    nova = fakes.FakeNova(has)
    for name, value in changes.items():
        setattr(nova, name, value)
    preset = default_rules.NO_SERVICE_TOKEN
    assert send(call, cinder, nova, tmp_path, preset) == code


@pytest.mark.parametrize('rules', [{}, default_rules.NO_SERVICE_TOKEN])
def test_the_attachment_of_another_volume_is_no_conflict(
    tmp_path: pathlib.Path, rules: Mapping[str, str]
) -> None:
    """Cinder's own response is 400, and Tempest expects that or 403."""
    call = acting('os-detach', attachment_id=fakes.UNKNOWN_ID)
    cinder, nova = fakes.FakeCinder(BY_SERVER), fakes.FakeNova(LIVE)
    assert send(call, cinder, nova, tmp_path, rules) == 403


def send(
    call: Call,
    cinder: fakes.FakeCinder,
    nova: fakes.FakeNova,
    directory: pathlib.Path,
    rules: Mapping[str, str],
) -> int:
    policy, file = directory / 'policy.json', directory / 'cinder.conf'
    policy.write_text(json.dumps(rules))
    file.write_text(f'[attachguard]\npolicy_file = {policy}\n')
    conf = cfg.ConfigOpts()
    conf([], project='cinder', default_config_files=[str(file)])
    guard = middleware.AttachGuard(cinder, conf)
    guard.nova = nova
    started: list[str] = []

    def start_response(line: str, headers: Any, _: Any = None) -> Any:
        started.append(line)

    list(guard(fakes.environ(*call), start_response))
    (line,) = started
    return int(line[:3])
