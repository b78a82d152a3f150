# SPDX-License-Identifier: Apache-2.0
"""Check a dashboard by Grafana's own types, and print what is wrong.

Run it with the interpreter of the deployment tools, which has
grafana-foundation-sdk: ``python grafana_schema.py DASHBOARD``.  What the types
do not have is lost when a dashboard is read with them; the values are compared
with the types here.
"""

from __future__ import annotations

from collections.abc import Iterator
import enum
import json
import pathlib
import sys
import typing
from typing import Any

from grafana_foundation_sdk.cog import encoder  # type: ignore
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.models import dashboard  # type: ignore

_Problems = Iterator[str]


def lost(given: Any, kept: Any, where: str) -> _Problems:
    """Compare what was given with what is left of it."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from lost(value, kept[key], f'{where}.{key}')
            else:
                yield f'{where}.{key} is not in the schema'
    elif isinstance(given, list) and isinstance(kept, list):
        for number, (one, other) in enumerate(zip(given, kept)):
            yield from lost(one, other, f'{where}[{number}]')
    elif given != kept:
        yield f'{where} is {given!r}, and {kept!r} once it is read'


def mistyped(value: Any, hint: Any, where: str) -> _Problems:
    """Compare a value with its type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is object:
        # What a panel or a query of this type has.
        if hasattr(value, 'to_json'):
            yield from _mistyped_object(value, type(value), where)
    elif origin is typing.Union:
        tries = [list(mistyped(value, part, where)) for part in parts]
        if all(tries):
            # The type that it is most like: what is wrong is deepest there.
            yield from max(tries, key=lambda found: len(found[0].split()[0]))
    elif origin is typing.Literal:
        if value not in parts:
            yield f'{where} is {value!r}, not one of {parts}'
    elif origin is list:
        if not isinstance(value, list):
            yield f'{where} is {value!r}, and no list'
            return
        for number, one in enumerate(value):
            yield from mistyped(one, parts[0], f'{where}[{number}]')
    elif origin is dict:
        if not isinstance(value, dict):
            yield f'{where} is {value!r}, and no object'
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in [item.value for item in hint]:
            yield f'{where} is {value!r}, which is no {hint.__name__}'
    else:
        yield from _mistyped_object(value, hint, where)


def _mistyped_object(value: Any, hint: Any, where: str) -> _Problems:
    numbers = (int, float) if hint is float else hint
    if not isinstance(value, numbers) or (
        isinstance(value, bool) and hint is not bool
    ):
        yield f'{where} is {value!r}, which is no {hint.__name__}'
    elif hasattr(value, 'to_json'):
        for name, part in typing.get_type_hints(type(value)).items():
            yield from mistyped(getattr(value, name), part, f'{where}.{name}')


def main() -> int:
    """Check the dashboard that the command line names.

    :returns: the exit code: 1 if something is wrong
    """
    plugins.register_default_plugins()
    given = json.loads(pathlib.Path(sys.argv[1]).read_text())
    read = dashboard.Dashboard.from_json(given)
    kept = json.loads(json.dumps(read, cls=encoder.JSONEncoder))
    problems = [
        *lost(given, kept, 'dashboard'),
        *mistyped(read, dashboard.Dashboard, 'dashboard'),
    ]
    print('\n'.join(problems))
    return int(bool(problems))


if __name__ == '__main__':
    sys.exit(main())
