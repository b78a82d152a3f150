# SPDX-License-Identifier: Apache-2.0
"""The paste.deploy entry point of the guard.

``paste.filter_factory = attachguard.filter:filter_factory``, or
``use = egg:attachguard``.  The filter itself is
:mod:`attachguard.guard.middleware`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attachguard.guard import middleware
from attachguard.guard import paste_file

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def filter_factory(
    global_conf: Mapping[str, str] | None, **local_conf: str
) -> Callable[[WSGIApplication], middleware.AttachGuard]:
    """The paste.deploy factory, as the pipeline's other filters name it.

    :param global_conf: the paste file's ``[DEFAULT]`` section, used only to
        find the file
    :param local_conf: the options of the filter's section
    :returns: what puts the filter in front of an application
    :raises attachguard.opts.ConfigError: for an invalid option, rule or
        credential
    """
    left_out = paste_file.left_out(global_conf, local_conf)
    return middleware.AttachGuard.factory(None, **local_conf, **left_out)
