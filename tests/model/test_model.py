# SPDX-License-Identifier: Apache-2.0

"""Whatever users do and when, Cinder and Nova agree when Nova is quiet."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import seed
from hypothesis import settings
from hypothesis import Verbosity
from hypothesis.stateful import run_state_machine_as_test
import pytest

from attachguard.guard import default_rules
from attachguard.guard import operations
from attachguard.guard.decision import Reason
from attachguard.guard.decision import Verdict
from attachguard.guard.request import Request
from tests.model import machine

# Of about five turns each.
_LENGTH = 12


def run(model: type[machine.Machine], steps: int, number: int = 0) -> int:
    """Run a model, for about a number of steps.

    :param number: the seed; 0 for the same run each time
    :returns: how many steps were done
    :raises machine.Violation: with the last steps that led to it
    """
    machine.Machine.steps = 0
    while machine.Machine.steps < steps:
        left = steps - machine.Machine.steps
        run_state_machine_as_test(
            seed(number + machine.Machine.steps)(model),
            settings=settings(
                max_examples=max(1, min(left, 50_000) // (4 * _LENGTH)),
                stateful_step_count=_LENGTH,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                verbosity=Verbosity.quiet,
            ),
        )
    return machine.Machine.steps


@pytest.mark.slow
def test_nothing_is_torn() -> None:
    run(machine.Machine, 3000)


@pytest.mark.nightly
def test_nothing_is_torn_in_many_steps() -> None:
    steps = int(os.environ.get('ATTACHGUARD_MODEL_STEPS', '200000'))
    number = int(os.environ.get('ATTACHGUARD_MODEL_SEED', time.time_ns() >> 9))
    print(f'seed {number}')
    print(f'{run(machine.Machine, steps, number)} steps')


def test_the_new_volume_of_a_swap_is_not_cleared() -> None:
    # It is attached already, and Nova has not saved it.
    model = machine.Machine()
    model.set_up(legacy=False, forged=False)
    nova, cinder = model.nova, model.cinder
    server = next(iter(nova.servers.values()))
    new = next(v for v in cinder.volumes.values() if v.status == 'available')
    flow = nova.start(
        'swap',
        server,
        lambda flow: nova.swap(flow, server, server.mappings[0], new.id),
    )
    assert flow is not None
    while new.status != 'in-use':
        nova.step(flow)
    request = Request(
        operations.ATTACHMENT_DELETE,
        '',
        attachment_id=cinder.of(new.id)[0].id,
    )
    decision = model.guard.decide(machine.ALICE, request)
    assert decision.reason is Reason.ATTACHMENT_YOUNG


def test_what_cinder_refuses_while_two_servers_have_a_volume() -> None:
    # Nova tries it, whatever users do.
    model = machine.Machine()
    model.set_up(legacy=False, forged=False)
    nova, cinder = model.nova, model.cinder
    volume = next(v for v in cinder.volumes.values() if v.multiattach)
    first, second = list(nova.servers.values())[1:]
    for server in (first, second):
        nova.start(
            'attach',
            server,
            functools.partial(nova.attach, server=server, volume_id=volume.id),
        )
        nova.drain()
        server.mappings[-1].root = True
        server.mappings[-1].delete_on_termination = True
    nova.start(
        'rebuild',
        first,
        functools.partial(nova.rebuild, server=first, evacuate=False),
    )
    nova.drain()
    assert first.vm_state == 'error'
    nova.start('delete', first, functools.partial(nova.delete, server=first))
    nova.drain()
    assert volume.id in cinder.volumes
    nova.start('delete', second, functools.partial(nova.delete, server=second))
    nova.drain()
    assert volume.id not in cinder.volumes
    assert nova.unexpected == []


@pytest.mark.parametrize(
    'name', ['os-initialize_connection', 'os-reserve', 'os-detach']
)
def test_a_volume_that_is_migrated_gets_no_consumer(name: str) -> None:
    # At its end it is in-use, and its attachments are not moved yet.
    model = machine.Machine()
    model.set_up(legacy=False, forged=False)
    nova = model.nova
    server = next(iter(nova.servers.values()))
    mapping = server.mappings[0]
    flow = nova.start(
        'migrate_volume',
        server,
        lambda flow: nova.migrate_volume(
            flow, machine.ADMIN, server, mapping, True
        ),
    )
    request = Request(operations.OPERATIONS[name], '', mapping.volume_id)
    while flow in nova.flows:
        decision = model.guard.decide(machine.ALICE, request)
        assert decision.verdict is not Verdict.ALLOWED
        nova.step(flow)


_CLEARS = (
    'attachment-delete',
    'os-begin_detaching',
    'os-detach',
    'os-terminate_connection',
)

KINDS: dict[str, dict[str, Any]] = {
    'unseen is not absent': {
        'sees_all': False,
        'pretends': True,
        'calls': _CLEARS,
        'flows': ('attach', 'attach', 'detach'),
    },
    'migration': {
        'overrides': {
            'attachment-delete': 'nova:attachment_unused',
            'os-detach': 'nova:no_server_has_volume',
        },
        'calls': ('attachment-delete', 'os-detach'),
        'flows': ('attach', 'migrate_volume'),
    },
    'being built': {
        'overrides': {'attachment-delete': 'not nova:by_this_attachment'},
        'calls': ('attachment-delete',),
        'flows': ('build', 'delete'),
    },
    'reimage': {
        'overrides': {'os-reimage': '@'},
        'calls': ('os-reimage', 'transfer-create'),
        'other_calls': (),
        'flows': ('attach',),
    },
    'transfer': {
        'overrides': {'transfer-create': '@'},
        'calls': ('transfer-create',),
        'other_calls': ('accept',),
        'flows': ('attach',),
        'from_image': True,
        'callers': (machine.ALICE, machine.BOB),
        'max_volumes': 4,
    },
    'second consumer': {
        'overrides': {'attachment-create:no-server': '@'},
        'calls': ('attachment-create',),
        'flows': ('attach',),
    },
    'rejected connector': {
        'overrides': {'os-initialize_connection': '@'},
        'calls': ('os-initialize_connection',),
        'flows': ('attach',),
    },
    'race of os-attach': {
        'overrides': {
            'os-attach': 'nova:server_has_volume and cinder:no_attachment'
        },
        'calls': ('os-attach',),
        'callers': (machine.ALICE, machine.BOB),
        'other_calls': (),
        'flows': ('attach', 'detach'),
    },
    'race of attachment-create': {
        'overrides': {'attachment-create': '@'},
        'calls': ('attachment-create',),
        'other_calls': (),
        'flows': ('attach', 'detach'),
    },
    'preset': {
        'overrides': {
            **{
                name.removeprefix(default_rules.PREFIX): rule
                for name, rule in default_rules.NO_SERVICE_TOKEN.items()
            },
            'attachment-create': 'not nova:no_server_has_volume',
        },
        'calls': ('attachment-create', 'attachment-complete'),
        'other_calls': (),
        'flows': ('attach', 'detach'),
    },
}


# What takes long to find: it needs a volume made from an image, a server and a
# transfer that is accepted.
_RARE = frozenset(('transfer',))


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind',
    [
        pytest.param(
            kind, marks=[pytest.mark.nightly] if kind in _RARE else []
        )
        for kind in KINDS
    ],
)
def test_what_a_rule_stops_is_found_without_it(kind: str) -> None:
    attributes = dict(KINDS[kind])
    attributes['overrides'] = {
        default_rules.PREFIX + name: rule
        for name, rule in attributes.get('overrides', {}).items()
    }
    with pytest.raises(machine.Violation) as violation:
        run(
            machine.variant(**attributes),
            500_000 if kind in _RARE else 30_000,
        )
    print(violation.value)
