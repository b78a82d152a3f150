# SPDX-License-Identifier: Apache-2.0
"""The choice of a sequence, from a seed alone."""

from __future__ import annotations

from collections.abc import Collection
import dataclasses
import random

from tests.explorer import acts
from tests.explorer import calls

# Calls that matter when Nova makes a call; where it makes none, those of the
# empty name.
_MATTER: dict[str, tuple[str, ...]] = {
    '': ('delete', 'transfer-create', 'attachment-delete', 'os-attach'),
    'attachment-create': (
        'attachment-create:no-server',
        'attachment-delete',
        'os-attach',
        'os-reimage',
        'os-unreserve',
        'transfer-create',
    ),
    'attachment-update': (
        'attachment-complete',
        'attachment-delete',
        'os-initialize_connection',
        'os-reimage',
        'os-unreserve',
    ),
    'attachment-complete': (
        'attachment-create:no-server',
        'attachment-delete',
        'os-begin_detaching',
        'os-detach of an attachment',
        'os-initialize_connection',
        'os-terminate_connection',
        'os-retype',
    ),
    'os-begin_detaching': ('os-detach', 'os-roll_detaching', 'os-attach'),
    'attachment-delete': (
        'attachment-create',
        'attachment-delete',
        'delete',
        'os-attach',
        'os-reimage',
        'transfer-create',
    ),
    'os-migrate_volume_completion': (
        'attachment-delete',
        'delete',
        'os-detach',
        'os-detach of an attachment',
    ),
}
_PREFERENCE = 6
# How many kinds of calls a sequence is made of: several of few kinds find more
# than one of each.
_KINDS = 5


@dataclasses.dataclass(frozen=True)
class Burst:
    """Calls that are made at the same time.

    :param act: during which act, counted from 0
    :param moment: 0 before the act, 2n-1 before the n-th call of Nova, 2n
        after it; at the end of the act if Nova makes no such call
    :param held: whether Nova waits for them
    :param later: whether the records are no longer young then
    :param calls: the calls
    """

    act: int
    moment: int
    held: bool
    later: bool
    calls: tuple[calls.Call, ...] = ()

    def during(self, name: str) -> str:
        """The call of Nova before or after which it is.

        :param name: of the act
        """
        made = acts.ACTS[name].calls
        number = (self.moment - 1) // 2
        return made[number] if 0 <= number < len(made) else ''


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What is done.

    :param seed: of the choice
    :param scene: name of what Nova does
    :param bursts: what members do meanwhile
    """

    seed: int
    scene: str
    bursts: tuple[Burst, ...] = ()

    @property
    def calls(self) -> list[calls.Call]:
        """All calls."""
        return [call for burst in self.bursts for call in burst.calls]

    def only(self, names: Collection[str]) -> Sequence:
        """The same, with some of its calls.

        :param names: of :data:`tests.explorer.calls.CALLS`
        """
        bursts = [
            dataclasses.replace(
                burst,
                calls=tuple(
                    call for call in burst.calls if call.what in names
                ),
            )
            for burst in self.bursts
        ]
        return dataclasses.replace(
            self, bursts=tuple(burst for burst in bursts if burst.calls)
        )

    def without(self, number: int) -> Sequence:
        """The same, without one of its calls.

        :param number: of the call, counted from 0
        """
        bursts = []
        for burst in self.bursts:
            kept = list(burst.calls)
            if 0 <= number < len(kept):
                del kept[number]
            number -= len(burst.calls)
            bursts.append(dataclasses.replace(burst, calls=tuple(kept)))
        return dataclasses.replace(
            self, bursts=tuple(burst for burst in bursts if burst.calls)
        )

    def __str__(self) -> str:
        lines = [f'seed {self.seed}, {self.scene}']
        for burst in self.bursts:
            name = acts.SCENES[self.scene].acts[burst.act]
            side = 'before' if burst.moment % 2 else 'after'
            when = (
                f'{side} call {(burst.moment + 1) // 2} {burst.during(name)}'
                if burst.moment
                else 'before it'
            )
            held = '' if burst.held else ', while it goes on'
            later = ', the records are old' if burst.later else ''
            lines.append(f'  {name}, {when}{held}{later}:')
            lines += [f'    {call}' for call in burst.calls]
        return '\n'.join(lines)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What sequences are chosen from.

    :param scenes: names of scenes
    :param calls: names of calls
    """

    scenes: Collection[str] = tuple(acts.SCENES)
    calls: Collection[str] = tuple(calls.CALLS)

    def sequence(self, seed: int) -> Sequence:
        """Choose a sequence of three to ten calls.

        :param seed: decides it
        """
        mind = random.Random(seed)
        name = mind.choice(sorted(self.scenes))
        scene = acts.SCENES[name]
        kinds = self._kinds(mind, scene)
        remaining = mind.randint(3, 10)
        bursts = []
        while remaining:
            burst = _burst(mind, scene)
            matter = _MATTER.get(burst.during(scene.acts[burst.act]), ())
            weights = [_PREFERENCE if kind in matter else 1 for kind in kinds]
            size = min(mind.choice((1, 1, 2, 3)), remaining)
            remaining -= size
            made = [
                _call(mind, scene, kind)
                for kind in mind.choices(kinds, weights, k=size)
            ]
            bursts.append(dataclasses.replace(burst, calls=tuple(made)))
        bursts.sort(key=lambda burst: (burst.act, burst.moment))
        return Sequence(seed, name, tuple(bursts))

    def _kinds(self, mind: random.Random, scene: acts.Scene) -> list[str]:
        """The kinds of calls of a sequence: mostly those that matter in it."""
        matter = [
            call
            for act in scene.acts
            for made in ('', *acts.ACTS[act].calls)
            for call in _MATTER.get(made, ())
            if call in self.calls
        ]
        found = {mind.choice(sorted(self.calls))}
        while len(found) < min(_KINDS, len({*matter})):
            found.add(mind.choice(matter))
        return sorted(found)


def _burst(mind: random.Random, scene: acts.Scene) -> Burst:
    # The first act is what prepares the others.
    numbers = range(len(scene.acts))
    (act,) = mind.choices(numbers, [3 if number else 1 for number in numbers])
    name = scene.acts[act]
    # The last one is at the end of the act.
    last = 2 * len(acts.ACTS[name].calls) + 1
    moment = mind.choice([*range(last), last, last, last])
    burst = Burst(act, moment, held=mind.random() < 0.7, later=False)
    # Nova saves its side at once after it has created an attachment.
    settles = not moment % 2 and burst.during(name) == 'attachment-create'
    later = mind.random() < 0.6 and not settles
    return dataclasses.replace(burst, later=later)


def _call(mind: random.Random, scene: acts.Scene, kind: str) -> calls.Call:
    stranger = 'member' if scene.owner == 'other' else 'other'
    return calls.Call(
        scene.owner if mind.random() < 0.85 else stranger,
        kind,
        mind.choice((0, 0, 1)),
        mind.choice(sorted(calls.CONNECTORS)),
        'retype' in scene.acts and mind.random() < 0.4,
    )
