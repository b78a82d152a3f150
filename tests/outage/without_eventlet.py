# SPDX-License-Identifier: Apache-2.0
"""Makes eventlet and greenlet unusable in this process.

Cinder 29 cannot be imported where they are not installed: ``cinder``, its
modules and ``oslo_service.wsgi`` import them, also for a server on threads.
So only these can import them, and whatever they then call is an error.  For
all others the packages are not installed.
"""

import builtins
from collections.abc import Mapping
from typing import Any
from typing import NoReturn

_NAMES = ('eventlet', 'greenlet')
_IMPORTERS = ('cinder', 'oslo_service')


class _Unusable:
    """A package, or anything in it, that is not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        # A class may have it as its base.
        return _Unusable if name[0].isupper() else _Unusable()

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError('eventlet is not installed')


_import = builtins.__import__


def _import_without(
    name: str,
    globals_: Mapping[str, Any] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    if name.partition('.')[0] not in _NAMES:
        return _import(name, globals_, *args, **kwargs)
    importer = str((globals_ or {}).get('__name__'))
    if importer.partition('.')[0] not in _IMPORTERS:
        raise ModuleNotFoundError(f'No module named {name!r}')
    return _Unusable()


builtins.__import__ = _import_without  # type: ignore[assignment]
